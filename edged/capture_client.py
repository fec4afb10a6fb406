"""The daemon's end of a capture child: starts it, reads its notices, kills it when it hangs.

Data path: capture child → **CaptureClient** → Stream. To Stream it looks like a driver whose `read` returns in time,
whatever the device library does; the chunks it returns are views into the ring's memory.
"""

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from drivers.base import Chunk, DeviceError, StreamEnded, StreamSpec
from edged.backoff import Timing
from edged.capture_wire import CHUNK, ENDED, FAILED, MAX_PACKET, ChildTask, Notice, unpack
from edged.ring import Ring, make_ring, ring_bytes

__all__ = ["CHILD_ENV", "CaptureClient", "child_environment"]

CHILD_ENV: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
"""A capture child copies bytes; the cores belong to scoring."""

POLL_S = 0.2
REAP_S = 2.0
NOTICE_BUFFER_BYTES = 1 << 20


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Environment of a child process: ours, one thread per library, and `[children] env` above all."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, **CHILD_ENV, "PYTHONPATH": path, **extra}


class CaptureClient:
    """A driver in a process of its own, with the ring that both share.

    Args:
        task: driver, stream and options.
        spec: what the stream carries.
        seconds: length of the ring.
        env: `[children] env` of the config.
        timing: its stall limits.
    """

    def __init__(
        self,
        task: ChildTask,
        spec: StreamSpec,
        seconds: float,
        env: Mapping[str, str],
        timing: Timing,
    ) -> None:
        self._task = task
        self._env = child_environment(env)
        self._stall_s = (timing.open_stall_s, timing.read_stall_s)
        self._memory_fd = os.memfd_create(f"edged-{task.name}")
        os.ftruncate(self._memory_fd, ring_bytes(spec, seconds))
        self.ring: Ring = make_ring(spec, seconds, mmap.mmap(self._memory_fd, 0))
        self._process: subprocess.Popen[bytes] | None = None
        self._pair: socket.socket | None = None
        self._is_open = False
        self._heard_s = 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return None if self._process is None else self._process.pid

    def open(self) -> None:
        """Start a child; `read` tells when its device is open. Raises DeviceError when it cannot be started."""
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NOTICE_BUFFER_BYTES)
        ours.settimeout(POLL_S)
        self._pair, self._is_open, self._heard_s = ours, False, time.monotonic()
        fds = (theirs.fileno(), self._memory_fd)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edged.capture", *map(str, fds)],
                env=self._env,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            ours.send(self._task.model_dump_json().encode())
        except OSError as error:
            raise DeviceError(f"stream {self._task.name}: cannot start its capture child: {error}") from error
        finally:
            theirs.close()

    def read(self) -> tuple[Chunk, int] | None:
        """The next chunk (a view into the ring) and its offset; None when there is none within POLL_S.

        Raises DeviceError when the device failed, the child died, or it hangs (it is killed by `close`).
        """
        packet = self._receive()
        if packet is None:
            return None
        kind, body = unpack(packet)
        self._heard_s = time.monotonic()
        self._is_open = self._is_open or kind != FAILED
        if isinstance(body, Notice) and kind == CHUNK:
            return self._chunk(body), body.offset
        if kind == ENDED:
            raise StreamEnded(str(body))
        if kind == FAILED:
            raise DeviceError(str(body))
        return None

    @property
    def is_open(self) -> bool:
        """Whether the child has opened its device."""
        return self._is_open

    def close(self) -> None:
        """Kill the child with all it may have started; safe to call twice."""
        if self._pair is not None:
            self._pair.close()
        process, self._pair, self._process, self._is_open = self._process, None, None, False
        if process is None:
            return
        if process.returncode is None:  # not reaped, so its id is still its own
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(REAP_S)
        except subprocess.TimeoutExpired as error:
            # In uninterruptible sleep inside a kernel driver: it still holds the device.
            raise DeviceError(
                f"stream {self._task.name}: capture child {process.pid} survives SIGKILL; "
                "its device hangs in the kernel, unplug it"
            ) from error

    def release(self) -> None:
        """Give the memory back; the ring's views stay readable."""
        self.close()
        if self._memory_fd >= 0:
            os.close(self._memory_fd)
            self._memory_fd = -1

    def _receive(self) -> bytes | None:
        if self._pair is None or self._process is None:
            raise DeviceError(f"stream {self._task.name}: its capture child is not running")
        try:
            packet = self._pair.recv(MAX_PACKET)
        except TimeoutError:
            self._check_stall()
            return None
        except ConnectionResetError:
            packet = b""
        if not packet:
            raise DeviceError(f"stream {self._task.name}: its capture child {self._exit_text(self._process)}")
        return packet

    def _check_stall(self) -> None:
        silent_s = time.monotonic() - self._heard_s
        limit_s = self._stall_s[self._is_open]
        if silent_s > limit_s:
            doing = "read" if self._is_open else "open"
            raise DeviceError(
                f"stream {self._task.name}: {doing}() of {self._task.driver} has not returned for {silent_s:.1f} s "
                f"(limit {limit_s:g} s); its capture child {self.pid} is killed and started again"
            )

    def _exit_text(self, process: subprocess.Popen[bytes]) -> str:
        try:
            code = process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def _chunk(self, notice: Notice) -> Chunk:
        return Chunk(
            stream=self._task.name,
            seq=notice.seq,
            counter=notice.counter,
            arrival_ns=notice.arrival_ns,
            lost_before=notice.lost_before,
            data=self.ring.view(notice.offset, notice.n_bytes),
        )
