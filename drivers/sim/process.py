"""How the virtual cell's processes end: with their parent, and on a signal in good order."""

import ctypes
import os
import signal
import threading

__all__ = ["die_with_parent", "stop_on_signals"]

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the thread that started this process ends. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; call it on the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
