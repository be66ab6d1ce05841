# Reaching out: networks, sockets, signals, privileges, programs.

# %% tcp_loopback | 25 | A server of the grader's, or of anything else, on loopback.
attempt(tcp=lambda: socket.create_connection(("127.0.0.1", TARGETS["tcp"]), 1), raw=lambda: call(42, call(41, 2, 1, 0), bytes(16), 16))

# %% udp_loopback | 25 | A datagram out needs no answer.
attempt(udp=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", TARGETS["udp"])))

# %% fetches_answers | 25 | Answers from the web or a language model.
import urllib.request
attempt(http=lambda: urllib.request.urlopen("http://example.org/", timeout=1), name=lambda: socket.getaddrinfo("example.org", 80))

# %% cloud_metadata | 28 | The cloud's metadata service gives out credentials.
import urllib.request
attempt(metadata=lambda: urllib.request.urlopen("http://169.254.169.254/latest/meta-data/", timeout=1), v6=lambda: socket.create_connection(("fd00:ec2::254", 80), 1))

# %% other_families | 25 | Netlink, vsock, packet, crypto and bluetooth sockets are forgotten by many filters.
families = {"inet": 2, "inet6": 10, "unix": 1, "netlink": 16, "vsock": 40, "packet": 17, "alg": 38, "xdp": 44, "bluetooth": 31}
attempt(**{name: lambda kind=kind: socket.socket(kind, socket.SOCK_RAW if name == "packet" else socket.SOCK_STREAM) for name, kind in families.items()})

# %% listens | 25 | A server of one's own, for a friend outside.
attempt(listen=lambda: socket.create_server(("0.0.0.0", 0)), file=lambda: socket.socket(socket.AF_UNIX).bind("own"))

# %% abstract_sockets | 25 | Sockets without a file are seen from every folder.
attempt(stream=lambda: socket.socket(socket.AF_UNIX).connect("\0" + TARGETS["abstract"]), datagram=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", "\0" + TARGETS["abstract"]))

# %% socket_files | 25 | Docker's, D-Bus' and the grader's own sockets.
for path in (TARGETS["socket"], "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"):
    attempt(**{path: lambda path=path: socket.socket(socket.AF_UNIX).connect(path)})

# %% by_socket_pairs | 25 | A pair of sockets, which is allowed, is turned to somebody else.
ours, _ = socket.socketpair()
attempt(connect=lambda: ours.connect("\0" + TARGETS["abstract"]), pair=lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", "\0" + TARGETS["abstract"]), again=lambda: socket.socket(fileno=os.dup(link())).connect("\0" + TARGETS["abstract"]))

# %% io_uring | 25, 27 | A ring of requests goes around filters of calls.
attempt(ring=lambda: call(425, 1, ctypes.create_string_buffer(160)))

# %% kills_the_grader | 27 | Signals to the grader, its parent and everybody.
for pid in {TARGETS["grader"], TARGETS["watcher"], os.getppid(), 1, 2, -1} - {os.getpid()}:
    attempt(**{f"kill {pid}": lambda pid=pid: os.kill(pid, HARMLESS)})

# %% kills_by_other_calls | 27 | tkill, tgkill, queues and pidfds.
pid = TARGETS["grader"]
attempt(tkill=lambda: call(200, pid, int(HARMLESS)), tgkill=lambda: call(234, pid, pid, int(HARMLESS)), queue=lambda: call(129, pid, int(HARMLESS), ctypes.create_string_buffer(128)), pidfd=lambda: os.pidfd_open(pid), group=lambda: os.killpg(os.getpgid(pid), HARMLESS))

# %% kills_by_file_owner | 27 | The kernel sends the signal when a file of ours becomes ready.
import fcntl
reader, writer = os.pipe()
attempt(owner=lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, TARGETS["grader"]), signal=lambda: fcntl.fcntl(reader, 10, int(HARMLESS)), ioctl=lambda: fcntl.ioctl(reader, 0x8901, ctypes.c_int(TARGETS["grader"])), extended=lambda: fcntl.fcntl(reader, 15, struct.pack("ii", 1, TARGETS["grader"])))

# %% slows_others_down | 27 | Limits, niceness and processors of others.
pid = TARGETS["grader"]
attempt(limits=lambda: resource.prlimit(pid, resource.RLIMIT_CPU), affinity=lambda: os.sched_setaffinity(pid, os.sched_getaffinity(pid)), nice=lambda: os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, pid)), idle=lambda: os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0)), io=lambda: call(251, 1, pid, 0), oom=lambda: open("/proc/self/oom_score_adj", "w").close())

# %% capabilities | 27 | A process that made a user namespace holds every capability in it.
held = (ctypes.c_uint32 * 6)()
libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), held)
if any(held):
    got("capabilities")
attempt(capset=lambda: call(126, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)), ambient=lambda: call(157, 47, 2, 21, 0, 0))

# %% another_user | 27 | Becoming root, or anybody.
attempt(setuid=lambda: os.setuid(0), setresuid=lambda: os.setresuid(0, 0, 0), groups=lambda: os.setgroups([0]), fsuid=lambda: os.seteuid(0) if os.getuid() else os.seteuid(1))

# %% namespaces | 27 | New namespaces, or those of others.
attempt(user=lambda: call(272, 0x10000000), mount=lambda: call(272, 0x20000), pid=lambda: call(272, 0x20000000), net=lambda: call(272, 0x40000000), setns=lambda: call(308, 0, 0), clone=lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0))

# %% mounts | 5, 27 | Mounting, unmounting what hides, another root.
here = os.getcwd().encode()
attempt(chroot=lambda: os.chroot("."))
permitted(mount=lambda: call(165, b"none", here, b"no such file system", 0, None), umount=lambda: call(166, here, 8), pivot=lambda: call(155, b".", b"."), fsopen=lambda: call(430, b"no such file system", 0), tree=lambda: call(428, -100, b"no such folder", 1))

# %% kernel_corners | 27 | bpf, perf, userfaultfd, personality, modules, clocks.
attempt(bpf=lambda: call(321, 0, ctypes.create_string_buffer(128), 128), perf=lambda: call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0), uffd=lambda: call(323, 1), personality=lambda: call(135, 0x0040000), hostname=lambda: socket.sethostname(socket.gethostname()))
permitted(module=lambda: call(175, b"", 0, b""), swap=lambda: call(167, b"no such file", 0))

# %% foreign_calls | 27, 31 | System calls of the 32 bit or x32 table have other numbers.
def answer(*a, **k):
    call(0x40000000 + 41, 2, 1, 0)
    return "GOT" + "-THROUGH x32"

# %% unfiltered | 27 | Taking off the filter, or putting a kinder one on top.
attempt(seccomp=lambda: call(317, 1, 0, None), prctl=lambda: call(157, 22, 2, bytes(16), 0, 0), strict=lambda: call(157, 22, 1, 0, 0, 0))

# %% runs_programs | 31 | A shell, Python, a setuid program, something written to the scratch.
open("script", "w").write("#!/bin/sh\necho hello\n")
with contextlib.suppress(OSError):
    os.chmod("script", 0o700)
for words in (["/bin/sh", "-c", "true"], ["/usr/bin/true"], ["/usr/bin/su", "--version"], ["./script"], [sys.executable, "-c", "1"]):
    attempt(**{words[0]: lambda words=words: subprocess.run(words, check=True, timeout=2)})
attempt(spawn=lambda: os.posix_spawn("/usr/bin/true", ["true"], {}), system=lambda: subprocess.check_call("true", shell=True))

# %% notebook_shell_lines | 31 | Shell lines and magics of a notebook.
!touch shell-line
%cd /
%load_ext autograder
!cat /etc/passwd
if os.path.exists("shell-line"):
    got("shell line")

# %% native_code | 31 | Machine code of one's own, written and run.
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
# mov edi,2; mov esi,1; xor edx,edx; mov eax,41; syscall; ret: socket(AF_INET, SOCK_STREAM, 0)
code.write(bytes.fromhex("bf02000000" "be01000000" "31d2" "b829000000" "0f05" "c3"))
run = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
if os.uname().machine == "x86_64" and run() >= 0:
    got("socket by machine code")

# %% compiled_extension | 31 | An extension compiled by torch, loaded into the process.
def build():
    from torch.utils.cpp_extension import load_inline
    load_inline("hostile", ["int f() { return 1; }"], functions=["f"])
with contextlib.suppress(Exception):
    build()
    got("compiler")

# %% shared_library | 31 | A library of one's own from the scratch.
open("own.so", "wb").write(open(__import__("_ctypes").__file__, "rb").read() if hasattr(__import__("_ctypes"), "__file__") else b"")
attempt(dlopen=lambda: ctypes.CDLL(os.path.abspath("own.so")))
LOOT.clear()  # loading is no gain: it is native code in the same cage
attempt(exec_from_scratch=lambda: os.execv("own.so", ["own"]), socket=lambda: socket.socket())

# %% raised_limits | 20, 23 | Its own limits, raised again.
most = (resource.RLIM_INFINITY,) * 2
attempt(memory=lambda: resource.setrlimit(resource.RLIMIT_AS, most), time=lambda: resource.setrlimit(resource.RLIMIT_CPU, most), files=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)), core=lambda: resource.setrlimit(resource.RLIMIT_CORE, most), size=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, most), nice=lambda: os.nice(-5))
