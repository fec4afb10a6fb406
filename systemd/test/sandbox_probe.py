"""Runs as a service with edged.service's own sandbox: what edged needs works, what it does not need is refused.

Prints one line per finding; exit code 1 when one is wrong. Takes the heavy libraries through their paces, because a
system call filter bites when code runs, not when it is imported.
"""

import errno
import os
import socket
import subprocess
import sys
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
    return subprocess.run([sys.executable, "-c", "print('a child')"], check=True, text=True, capture_output=True).stdout


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

REFUSED: dict[str, Callable[[], object]] = {
    "write to /etc/edged": lambda: Path("/etc/edged/x").write_text("x"),
    "write to the program": lambda: Path("/opt/edged/x").write_text("x"),
    "open a raw network socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open /dev/kmsg": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
    "set the host's name": lambda: socket.sethostname("x"),
    "become root": lambda: os.setuid(0),
    "a user namespace": lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else _unshare_user(),
    "look into /home": lambda: os.listdir("/home"),
}

REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EAFNOSUPPORT)


def _unshare_user() -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")


def main() -> int:
    """Exit code: 1 when anything was not as it should be."""
    wrong = 0
    for probe in NEEDED:
        try:
            print(f"ok {probe.__name__}: {probe().strip()}", flush=True)
        except Exception as error:  # noqa: BLE001 — whatever the sandbox makes of it is the finding
            wrong += 1
            print(f"FAILED {probe.__name__}: {type(error).__name__}: {error}", flush=True)
    for name, attempt in REFUSED.items():
        try:
            attempt()
        except OSError as error:
            refused, said = error.errno in REFUSALS, error.strerror
        else:
            refused, said = False, "it was possible"
        wrong += not refused
        print(f"{'ok' if refused else 'FAILED'} refused, {name}: {said}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
