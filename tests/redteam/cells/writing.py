# Writing: results, gradebook, neighbours, caches, startup files. And filling up what there is.

# %% writes_results | 7 | The report, in every form and place where a grader might look for one.
for folder in (TARGETS["reports"], *TARGETS["folders"], "/tmp", "/autograder/results"):
    may_create(folder)
attempt(report=lambda: open(os.path.join(TARGETS["reports"], "hostile.json"), "w").write("{}"))

# %% writes_everywhere | 7, 33 | Any folder of the machine.
for folder in ("/", "/tmp", "/var/tmp", "/usr/lib", "/etc", "/dev", "/dev/shm", "/run", "/home", "/root", "/proc/self", "/sys", TARGETS["data"], TARGETS["home"]):
    may_create(folder)
    attempt(**{f"mkdir {folder}": lambda folder=folder: (os.mkdir(os.path.join(folder, "hostile-folder")), os.rmdir(os.path.join(folder, "hostile-folder")))})

# %% tampers_with_the_gradebook | 33 | The gradebook, by SQL and by bytes.
path = TARGETS["gradebook"]
attempt(append=lambda: open(path, "ab").write(b"x"), sql=lambda: __import__("sqlite3").connect(path).execute("create table hostile (x)"), truncate=lambda: os.truncate(path, 0), remove=lambda: os.remove(path), rename=lambda: os.rename(path, "mine"))

# %% tampers_with_neighbours | 33 | Others' notebooks: changed, removed, made newer.
for path in TARGETS["submissions"]:
    attempt(append=lambda path=path: open(path, "ab").write(b" "), remove=lambda path=path: os.remove(path), date=lambda path=path: os.utime(path), move=lambda path=path: os.rename(path, path + ".old"))

# %% tampers_with_tests | 33 | The hidden tests and the reference, replaced by kinder ones.
for path in (*TARGETS["tests"], *TARGETS["reference"]):
    may_write(path)
path = TARGETS["tests"][0]  # the stage's own copy
attempt(write=lambda: open(path, "a").write("# hostile"), replace=lambda: os.replace(path, "mine"))

# %% modes_and_dates | 33 | Modes, owners, dates and attributes of the host's files, which Landlock does not guard.
for path in (TARGETS["gradebook"], TARGETS["tests"][0], TARGETS["data"]):
    with contextlib.suppress(OSError):  # without bwrap, Landlock leaves names, modes and dates to be seen
        known = os.stat(path)
        permitted(chmod=lambda: os.chmod(path, stat.S_IMODE(known.st_mode)), chown=lambda: os.chown(path, known.st_uid, known.st_gid), utime=lambda: os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns)))
permitted(xattr=lambda: os.setxattr(TARGETS["gradebook"], "user.x", b"x") if os.path.exists(TARGETS["gradebook"]) else call(101, 0, 0, 0, 0))

# %% tampers_with_the_engine | 29, 34 | The grader's own package and torch, for the next worker.
import autograder
for module in (autograder, torch, os, json):
    folder = os.path.dirname(module.__file__)
    may_write(module.__file__)
    may_create(folder)
    may_create(os.path.join(folder, "__pycache__"))

# %% startup_files | 29 | sitecustomize, usercustomize, .pth files and LD_PRELOAD for whoever starts next.
import site, sysconfig
for folder in {sysconfig.get_paths()["purelib"], *site.getsitepackages(), site.getusersitepackages(), os.path.join(TARGETS["home"], ".ipython"), os.path.join(TARGETS["home"], ".jupyter")}:
    may_create(folder)
may_write("/etc/ld.so.cache")
may_create("/etc")
os.environ.update(LD_PRELOAD=os.path.abspath("own.so"), PYTHONSTARTUP=os.path.abspath("start.py"), PYTHONPATH=os.getcwd())

# %% shadow_modules | 29 | Modules named as torch's, json's and the grader's in the current folder, for the next import.
for name in ("torch", "json", "random", "pytest", "hypothesis", "autograder", "conftest"):
    open(f"{name}.py", "w").write("raise SystemExit(0)\n")
sys.path.insert(0, os.getcwd())

# %% pytest_files | 30 | conftest.py, pytest.ini and plugins in the current folder change how tests run.
open("conftest.py", "w").write("def pytest_runtest_makereport(item, call): item.config.hook = None\n")
open("pytest.ini", "w").write("[pytest]\naddopts = --collect-only\n")
open("setup.cfg", "w").write("[tool:pytest]\naddopts = -p no:python\n")
os.environ["PYTEST_ADDOPTS"] = "--collect-only"

# %% poisoned_caches | 34 | Caches that the next worker, or the instructor, would load from.
caches = [os.environ.get("TIKTOKEN_CACHE_DIR", "/nowhere"), TARGETS["data"], *(os.path.join(TARGETS["home"], ".cache", name) for name in ("torch", "huggingface", "matplotlib", "pip")), "/tmp/torchinductor_root"]
for folder in caches:
    may_create(folder)

# %% poisoned_torch | 34, 43 | Global settings of torch, which the next submission might meet.
torch.set_default_dtype(torch.float16)
torch.manual_seed(666)
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
torch.set_default_device("meta")
torch.backends.mkldnn.enabled = False

# %% leaves_files | 23, 34 | A deep tree without permissions, left for the next.
found = [name for name in os.listdir(".")]
if found:
    got(f"the last one's files {found[:3]}")
for _ in range(60):
    os.mkdir("deep")
    os.chdir("deep")
open("treasure", "w").write("for the next submission")
with contextlib.suppress(OSError):
    os.chmod(".", 0)

# %% special_files | 24 | Devices, pipes and sockets with names.
attempt(device=lambda: os.mknod("null", stat.S_IFCHR | 0o600, os.makedev(1, 3)), block=lambda: os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)), fifo=lambda: os.mkfifo("pipe"), tty=lambda: open("/dev/tty", "w"), disk=lambda: open("/dev/sda", "rb"), mem=lambda: open("/dev/mem", "rb"))

# %% fills_with_bytes | 23 | The scratch takes more bytes than its bound. | partial
written = 0
with contextlib.suppress(OSError):
    for number in range(40):
        written += os.write(os.open(f"fill{number}", os.O_CREAT | os.O_WRONLY), bytes(4 * MEGABYTE))
if written > 64 * MEGABYTE:
    got("more bytes than the scratch may hold")

# %% fills_with_files | 23 | The scratch takes more files than its bound. | partial
made = 0
with contextlib.suppress(OSError):
    for number in range(10_500):
        os.close(os.open(f"file{number}", os.O_CREAT | os.O_WRONLY))
        made += 1
if made > 10_000:
    got("more files than the scratch may hold")

# %% large_file | 23 | One file above the limit, sparse.
with open("large", "wb") as file:
    attempt(seek=lambda: file.truncate(65 * MEGABYTE))

# %% memory_that_stays | 20, 34 | Shared memory outlives the process that made it.
attempt(shm=lambda: call(31, call(29, 0x6767, 4096, 0o1600), 0, 0), sem=lambda: call(66, call(64, 0x6767, 1, 0o1600), 0, 0), msg=lambda: call(71, call(68, 0x6767, 0o1600), 0, 0), posix=lambda: (open("/dev/shm/hostile", "w"), os.unlink("/dev/shm/hostile")), queue=lambda: call(240, b"hostile", 0o102, 0o600, None), memfd=lambda: call(319, b"hostile", 0), key=lambda: call(248, b"user", b"hostile", b"x", 1, -5))
