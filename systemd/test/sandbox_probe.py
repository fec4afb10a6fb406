"""Runs as a service with edged.service's own sandbox: what edged needs works, what it does not need is refused.

Prints one line per finding; exit code 1 when one is wrong. Takes the heavy libraries through their paces, because a
system call filter bites when code runs, not when it is imported.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def numpy_and_scipy() -> str:
    import numpy as np
    import scipy.linalg

    scipy.linalg.inv(np.random.default_rng(0).normal(size=(64, 64)))
    return f"numpy {np.__version__}"


def torch_threads() -> str:
    import torch

    torch.set_num_threads(2)
    torch.nn.Conv2d(3, 8, 3)(torch.randn(1, 3, 64, 64)).sum().backward()
    return f"torch {torch.__version__}"


def numba_compiles() -> str:
    import numba

    assert numba.njit(lambda x: x + 1)(1) == 2
    return f"numba {numba.__version__}"


def opencv_encodes() -> str:
    import cv2
    import numpy as np

    assert cv2.imencode(".jpg", np.zeros((64, 64), np.uint8))[0]
    return f"opencv {cv2.__version__}"


def portaudio_lists() -> str:
    import sounddevice

    return f"portaudio, {len(sounddevice.query_devices())} devices"


def child_processes() -> str:
    return subprocess.run(
        [sys.executable, "-c", "print('a child')"], check=True, text=True, capture_output=True
    ).stdout


def shared_memory() -> str:
    os.close(os.memfd_create("edged"))
    return "memfd"


NEEDED: tuple[Callable[[], str], ...] = (
    numpy_and_scipy,
    torch_threads,
    numba_compiles,
    opencv_encodes,
    portaudio_lists,
    child_processes,
    shared_memory,
)

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
PER_LINUX32 = 0x0008
PTRACE_TRACEME = 0


def _call(name: str, *arguments: int) -> None:
    """A libc function that Python has no name for."""
    if getattr(LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _set_group_id_bit() -> None:
    with tempfile.NamedTemporaryFile() as file:
        os.fchmod(file.fileno(), 0o2755)


REFUSED: dict[str, tuple[int, Callable[[], object]]] = {
    "write to /etc (ProtectSystem)": (errno.EROFS, lambda: Path("/etc/edged/x").write_text("x")),
    "write to the program (ProtectSystem)": (errno.EROFS, lambda: Path("/opt/edged/x").write_text("x")),
    "look into /home (ProtectHome)": (errno.EACCES, lambda: os.listdir("/home")),
    "see other users' processes (ProtectProc)": (errno.ENOENT, lambda: os.stat("/proc/1")),
    "packet sockets (RestrictAddressFamilies)": (errno.EAFNOSUPPORT, lambda: socket.socket(socket.AF_PACKET)),
    "user namespaces (RestrictNamespaces)": (errno.EPERM, lambda: _call("unshare", CLONE_NEWUSER)),
    "32-bit personality (LockPersonality)": (errno.EPERM, lambda: _call("personality", PER_LINUX32)),
    "the set-group-id bit (RestrictSUIDSGID)": (errno.EPERM, _set_group_id_bit),
    "be traced (SystemCallFilter)": (errno.EPERM, lambda: _call("ptrace", PTRACE_TRACEME, 0, 0, 0)),
}
"""What is tried, and the error by which that setting of the unit shows; another error came from somewhere else.

Not DevicePolicy=: systemd cannot enforce it inside a container.
"""


def main() -> int:
    """Exit code: 1 when anything was not as it should be."""
    wrong = 0
    for probe in NEEDED:
        try:
            print(f"ok {probe.__name__}: {probe().strip()}", flush=True)
        except (AssertionError, ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            wrong += 1
            print(f"FAILED {probe.__name__}: {type(error).__name__}: {error}", flush=True)
    for name, (number, attempt) in REFUSED.items():
        try:
            attempt()
        except OSError as error:
            refused, said = error.errno == number, os.strerror(error.errno or 0)
        else:
            refused, said = False, "it was possible"
        wrong += not refused
        print(f"{'ok' if refused else 'FAILED'} refused, {name}: {said}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
