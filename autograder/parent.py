"""A process that ends when the one that started it ends, in whatever way.

Nothing is imported here that takes time: until these functions run, a process would outlive a killed parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread

_PR_SET_PDEATHSIG = 1


def end_with_thread(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, and end quietly when told to.

    parent: the process it belongs to. On systems other than Linux only the second.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked to be told
            os._exit(1)


def end_with_process() -> None:
    """The same where the thread may end before its process, as a server's may: a thread of ours watches."""
    Thread(target=_end_with_process, name="parent", daemon=True).start()


def _end_with_process() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # and what we have started, with us
