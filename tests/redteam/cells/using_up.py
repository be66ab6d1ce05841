# Using up: processes, memory, time, output. And staying.

# %% fork_bomb | 19 | Processes without end.
def fork():
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
attempt(**{f"fork {number}": fork for number in range(20)})

# %% fork_by_other_calls | 19 | vfork, clone and clone3 make processes too.
attempt(vfork=lambda: call(58) or os._exit(0), clone=lambda: call(56, int(signal.SIGCHLD), 0, 0, 0, 0) or os._exit(0), clone3=lambda: call(435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, int(signal.SIGCHLD)), 64) or os._exit(0), pty=lambda: os.forkpty()[0] or os._exit(0))

# %% thread_bomb | 19 | Threads without end. | partial
gate, started, most = threading.Event(), 0, TARGETS["threads"]
with contextlib.suppress(*REFUSED):
    for _ in range(most + 100):
        threading.Thread(target=gate.wait, daemon=True).start()
        started += 1
gate.set()
if started > most:
    got(f"{started} threads")

# %% worker_processes | 19 | DataLoader workers and multiprocessing.
import multiprocessing
attempt(pool=lambda: multiprocessing.get_context("fork").Process(target=int).start(), spawn=lambda: multiprocessing.get_context("spawn").Process(target=int).start(), loader=lambda: next(iter(torch.utils.data.DataLoader([1, 2], num_workers=2))) if torch.utils.data.DataLoader([1], num_workers=2).num_workers else int("-"))

# %% memory_bytes | 20 | Memory without end, one block after the other.
kept = []
with contextlib.suppress(MemoryError):
    for _ in range(24):
        kept.append(bytearray(256 * MEGABYTE))
if len(kept) == 24:
    got("6 GB")
kept.clear()

# %% memory_tensors | 20 | The same by tensors, where the allocator is another.
kept = []
with contextlib.suppress(RuntimeError):
    for _ in range(24):
        kept.append(torch.empty(256 * MEGABYTE, dtype=torch.uint8))
if len(kept) == 24:
    got("6 GB")
kept.clear()

# %% memory_mapped | 20 | Shared mappings, which some limits do not count.
import mmap
kept = []
with contextlib.suppress(OSError, MemoryError):
    for _ in range(24):
        kept.append(mmap.mmap(-1, 256 * MEGABYTE))
if len(kept) == 24:
    got("6 GB")
kept.clear()
attempt(locked=lambda: call(151, 3))

# %% memory_in_an_answer | 20, 43 | A crash for want of memory, as the answer.
answer = lambda *a, **k: [bytearray(2**28) for _ in range(64)]

# %% deep_recursion | 20, 43 | The stack, by C code that does not count its depth.
sys.setrecursionlimit(10**9)
def answer(*a, **k):
    value = []
    for _ in range(200_000):
        value = [value]
    return repr(value)

# %% segmentation_fault | 43 | A crash of the interpreter.
answer = lambda *a, **k: ctypes.string_at(0)

# %% aborts | 43 | SIGABRT from C code, in a cell.
libc.abort()

# %% kills_itself | 43 | Real-time and ordinary signals to itself.
def answer(*a, **k):
    for number in (40, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        os.kill(os.getpid(), number)
    os._exit(0)

# %% endless_cell | 21, 43 | A cell that does not come to an end.
while True:
    pass

# %% endless_call | 21 | A call that does not come to an end.
def answer(*a, **k):
    while True:
        pass

# %% endless_sleep | 21 | Waiting costs no processor time.
answer = lambda *a, **k: time.sleep(10**6)

# %% ignores_signals | 21 | Every signal ignored, and a loop.
def answer(*a, **k):
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    while True:
        pass

# %% swallows_the_time_limit | 21 | Whatever is raised when time is up is caught.
def answer(*a, **k):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

# %% disarms_the_timer | 21 | The alarm is switched off, and its functions replaced.
signal.setitimer(signal.ITIMER_REAL, 0)
signal.setitimer = signal.alarm = lambda *a, **k: None
signal.signal = lambda *a, **k: None
def answer(*a, **k):
    while True:
        pass

# %% endless_native | 21 | Native code that gives no signal handler a chance.
answer = lambda *a, **k: libc.pause() and [libc.pause() for _ in iter(int, 1)]

# %% stops_itself | 21 | A stopped process is not a dead one.
answer = lambda *a, **k: os.kill(os.getpid(), signal.SIGSTOP)

# %% busy_threads | 21 | Threads that go on computing between the grader's calls.
def loop():
    while True:
        sum(range(1000))
for _ in range(4):
    threading.Thread(target=loop, daemon=True).start()

# %% output_flood | 22 | Megabytes on standard output and error.
for _ in range(64):
    os.write(1, bytes(MEGABYTE))
    os.write(2, bytes(MEGABYTE))

# %% print_flood | 22 | The same by print, and through logging and warnings.
for _ in range(2000):
    print("x" * 10_000)

# %% giant_error | 22, 43 | An exception with a message of 50 MB.
def answer(*a, **k):
    raise ValueError("x" * 50 * MEGABYTE)

# %% giant_answer | 22, 13 | A list of ten million numbers.
answer = lambda *a, **k: list(range(10**7))

# %% descriptors | 20 | Open files without end.
opened = 0
with contextlib.suppress(OSError):
    for _ in range(400):
        os.dup(0)
        opened += 1
for descriptor in range(4, 512):
    with contextlib.suppress(OSError):
        os.close(descriptor) if descriptor != link() else None
if opened > 128:
    got(f"{opened} descriptors")

# %% closes_everything | 43 | The line to the grader, closed or turned elsewhere.
def answer(*a, **k):
    os.dup2(0, link())

# %% daemon | 32 | A daemon that outlives the grader and rewrites the gradebook later.
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3)
            open(TARGETS["gradebook"], "ab").write(b"late")
        os._exit(0)
attempt(daemon=daemon, forgets_its_parent=lambda: call(157, 1, 0, 0, 0, 0), subreaper=lambda: open(TARGETS["reports"] + "/x", "w"))

# %% cron_and_at | 32 | Somebody else starts it later.
for folder in ("/var/spool/cron/crontabs", "/etc/cron.d", "/var/spool/at", "/etc/systemd/system", TARGETS["home"]):
    may_create(folder)

# %% thread_that_stays | 32 | A thread that is no daemon keeps the process alive after its end.
threading.Thread(target=lambda: time.sleep(10**6), daemon=False).start()
answer = lambda *a, **k: sys.exit(0)

# %% gpu_memory | 36 | The GPU's memory, all of it.
attempt(cuda=lambda: torch.zeros(1, device="cuda"))
