# The first cell of every hostile notebook: what to aim at, and a way to tell. Pasted behind a line `TARGETS = {...}`.
#
# Whatever a hostile cell gets hold of it puts into LOOT, and its answer to the grader carries that out: a canary it has
# read, or the mark of something it was not refused. Bounded on purpose: should a wall fail, nothing is harmed. Signals
# are ones that do nothing, floods are small, networks end at loopback; what is not the stage's own is only opened, and
# settings are set to what they are.
import contextlib, ctypes, errno, gc, json, os, re, resource, signal, socket, stat, struct, subprocess, sys, threading, time
import torch

LOOT = []
HARMLESS = signal.SIGWINCH  # ignored by who did not ask for it
MEGABYTE = 2**20
libc = ctypes.CDLL(None, use_errno=True)
REFUSED = (OSError, ValueError, RuntimeError, MemoryError, ImportError, AttributeError, subprocess.SubprocessError)


def got(what):
    """Something was not refused. The mark is made here, so that it does not stand in the notebook's text."""
    LOOT.append("GOT" + "-THROUGH " + what)


def look(data):
    """Keep every canary in some text or bytes."""
    text = data.decode("latin-1") if isinstance(data, bytes | bytearray) else str(data)
    LOOT.extend(sorted(set(re.findall("CANARY" + "-[a-z]+-[0-9a-f]{12}", text)) - set(LOOT)))


def read(path):
    """Read a file; that alone is too much."""
    with contextlib.suppress(*REFUSED):
        with open(path, "rb") as file:
            look(file.read(2 * MEGABYTE))
        got(f"read {path}")


def attempt(**attempts):
    """Try each; what is not refused is told by its name."""
    for name, action in attempts.items():
        with contextlib.suppress(*REFUSED):
            action()
            got(name)


def permitted(**attempts):
    """Try each; told by its name if it fails for another reason than that it is not permitted."""
    for name, action in attempts.items():
        try:
            action()
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EROFS):
                continue
        got(name)


def may_create(folder):
    """Make a file in a folder, and remove it at once: with any other name it could have stayed."""
    path = os.path.join(folder, f"hostile-{os.getpid()}")
    attempt(**{f"create {folder}": lambda: (os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)), os.unlink(path))})


def may_write(path):
    """Open a file for writing, and write nothing."""
    attempt(**{f"write {path}": lambda: os.close(os.open(path, os.O_WRONLY | os.O_APPEND))})


def call(number, *arguments):
    """A raw system call; refused means -1 and raises."""
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def link():
    """The descriptor on which the grader is answered."""
    return next(fd for fd in range(3, 64) if _is_socket(fd))


def _is_socket(descriptor):
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def frame(message, body=b""):
    """A frame of the protocol, well formed or not."""
    header = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack("!II", len(header), len(body)) + header + body


def everything_true():
    """An object that equals all there is, for who compares."""
    yes = lambda *args, **kwargs: True
    names = "eq ne lt le gt ge bool contains".split()
    return type("Yes", (), {f"__{name}__": yes for name in names} | {"__getattr__": lambda self, name: self, "__call__": lambda self, *a, **k: self, "__hash__": lambda self: 1})()


def answer(*args, **kwargs):
    """What the attacked task answers, unless the cell brings its own."""
    raise RuntimeError("; ".join(LOOT)[:900] or "no luck")
