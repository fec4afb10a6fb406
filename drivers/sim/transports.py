"""The virtual cell's sensors on their real transports, paced from one time base.

Rendered seams come in; a pty carries the welder's block frames, a second one the motion lines, a third one the
profiler's rows, where there is one, an HTTP server the two cameras, a FIFO under ALSA the microphone. Between seams
they show idle signal.
"""

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.serial_frame import encode_block
from drivers.sim.alsa_fifo import FifoMicrophone
from drivers.sim.mjpeg import MjpegServer
from drivers.sim.pty_port import PtyPort
from drivers.sim.scanner import SCAN_HZ, Scanner
from drivers.sim.seam import RenderedSeam
from drivers.sim.timeline import GRID_NS, FrameTrack, Pacer, SampleTrack, idle_like

__all__ = ["RESULT_FPS", "TRANSPORT_FAULTS", "Transports", "black_jpeg", "quiet_of"]

WELDER_BLOCK = 50
AUDIO_BLOCK = 480
RESULT_FPS = 10.0
BACKLOG_S = 10.0
"""A reader may be late by this much without loss: on a loaded machine it, or the pacer, is, by seconds."""
IDLE_S = 2
QUIET_SHARE = 0.25
"""Of a rendered seam's lead: before gas flows, so it shows what sensors give at rest."""


TRANSPORT_FAULTS = (
    "unplug_welder",
    "garbage_welder",
    "unplug_motion",
    "silence_microphone",
    "stall_arc",
    "stall_result",
)


class Transports:
    """Opens every transport in `workdir`; `example` sets rates, idle levels and image sizes."""

    def __init__(self, workdir: Path, example: RenderedSeam, seed: int = 0, *, profiler: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self._cleanup = contextlib.ExitStack()
        with self._cleanup:  # closes what is open already when a later transport fails
            self.welder = PtyPort(workdir / "welder", round(BACKLOG_S * example.welder_hz / WELDER_BLOCK))
            self._cleanup.callback(self.welder.close)
            self.motion = PtyPort(workdir / "motion", round(BACKLOG_S * example.motion_hz))
            self._cleanup.callback(self.motion.close)
            self.scanner = Scanner(workdir, seed) if profiler else None
            if self.scanner is not None:
                self._cleanup.callback(self.scanner.close)
            self.microphone = FifoMicrophone(workdir)
            self._cleanup.callback(self.microphone.close)
            self.cameras = MjpegServer(("arc", "result"))
            self._cleanup.callback(self.cameras.close)
            self.pacer = Pacer()
            self._cleanup.callback(self.pacer.close)
            self._cleanup = self._cleanup.pop_all()
        self._welder_track = SampleTrack(example.welder_hz, _idle(example.welder, example.welder_hz, example, rng))
        self._audio_track = SampleTrack(example.audio_hz, _idle(example.audio, example.audio_hz, example, rng))
        self._motion_track = SampleTrack(example.motion_hz, _idle(example.motion, example.motion_hz, example, rng))
        self._arc_track = FrameTrack(example.arc_fps, example.frames[0])
        self._shown = self._dark = black_jpeg(next(iter(example.views.values())))
        self._faults: frozenset[str] = frozenset()
        self._garbage = rng.integers(0, 256, 997, dtype=np.uint8).tobytes()
        add = self.pacer.add
        add(example.welder_hz, WELDER_BLOCK, self._send_welder)
        add(example.audio_hz, AUDIO_BLOCK, self._send_audio)
        add(example.motion_hz, 1, self._send_motion)
        add(example.arc_fps, 1, self._send_arc, at_end=False)
        add(RESULT_FPS, 1, self._send_result, at_end=False)
        if self.scanner is not None:
            add(SCAN_HZ, 1, self.scanner.send)

    def start(self) -> None:
        """Begin to send idle signal."""
        self.pacer.start()

    def endpoints(self) -> dict[str, str]:
        """Where a daemon finds the devices: the content of `cell.json`."""
        return {
            "welder_port": str(self.welder.link),
            "motion_port": str(self.motion.link),
            "arc_url": self.cameras.url("arc"),
            "result_url": self.cameras.url("result"),
            "alsa_config": str(self.microphone.config_path),
            "microphone": self.microphone.pcm,
            **({} if self.scanner is None else {"profiler_port": str(self.scanner.port.link)}),
        }

    def schedule(self, seam: RenderedSeam, not_before_ns: int) -> int:
        """Lay a seam over all streams at once, from the first grid time at or after `not_before_ns` on.

        Returns the host time of arc-on, ns. The grid is that of the bulk simulation: an item of every stream lies on
        it. On a grid of frames alone, motion would be laid up to half its period beside the other streams.
        """
        start_frame = math.ceil((not_before_ns - self.pacer.t0_ns) / GRID_NS) * round(GRID_NS * 1e-9 * seam.arc_fps)
        start_s = start_frame / seam.arc_fps
        self._welder_track.add(round(start_s * seam.welder_hz), seam.welder)
        self._audio_track.add(round(start_s * seam.audio_hz), seam.audio)
        self._motion_track.add(round(start_s * seam.motion_hz), seam.motion)
        self._arc_track.add(start_frame, seam.frames)
        return self.pacer.t0_ns + round((start_s + seam.lead_s) * 1e9)

    def show(self, jpeg: bytes | None) -> None:
        """What the result camera sees from its next image on; None: nothing."""
        self._shown = self._dark if jpeg is None else jpeg

    def scan(self, seam: RenderedSeam, not_before_ns: int) -> int:
        """Move the profiler over the bead from `not_before_ns` on; host time at which the bead ends, ns.

        Raises ValueError in a cell without one.
        """
        if self.scanner is None:
            raise ValueError("this cell has no laser profiler; start it with --profiler")
        end_s = self.scanner.move_over(seam, (not_before_ns - self.pacer.t0_ns) / 1e9)
        return self.pacer.t0_ns + round(end_s * 1e9)

    def counts(self) -> dict[str, Any]:
        """What nobody took, what readers were too late for, readers of the cameras, the pacer's worst lateness."""
        return {
            "welder_dropped_frames": self.welder.dropped,
            "motion_dropped_lines": self.motion.dropped,
            "microphone_dropped_samples": self.microphone.dropped,
            "welder_unread_frames": self.welder.unread,
            "motion_unread_lines": self.motion.unread,
            "microphone_unread_samples": self.microphone.unread,
            "camera_dropped_frames": dict(self.cameras.dropped),
            "arc_readers": self.cameras.readers("arc"),
            "result_readers": self.cameras.readers("result"),
            "pacer_alive": self.pacer.is_alive,
            "pacer_worst_late_ms": round(self.pacer.worst_late_ns / 1e6, 3),
        }

    def set_fault(self, fault: str, *, is_on: bool) -> None:
        """Begin or end one of `TRANSPORT_FAULTS`. Raises ValueError naming them."""
        if fault not in TRANSPORT_FAULTS:
            raise ValueError(f"no transport fault {fault!r}; known: {', '.join(TRANSPORT_FAULTS)}")
        self._faults = self._faults | {fault} if is_on else self._faults - {fault}
        self.cameras.stall("arc", is_stalled="stall_arc" in self._faults)
        self.cameras.stall("result", is_stalled="stall_result" in self._faults)

    def close(self) -> None:
        """Stop pacing and remove every transport."""
        self._cleanup.close()

    def _send_welder(self, first: int) -> None:
        frame = encode_block(first // WELDER_BLOCK, self._welder_track.take(first, WELDER_BLOCK))
        # Plugging belongs to the thread that writes, so that nobody writes to a port that is being pulled.
        self.welder.unplug() if "unplug_welder" in self._faults else self.welder.plug()
        self.welder.write(self._garbage[: len(frame)] if "garbage_welder" in self._faults else frame)

    def _send_motion(self, first: int) -> None:
        self.motion.unplug() if "unplug_motion" in self._faults else self.motion.plug()
        values = ",".join(f"{value:.3f}" for value in self._motion_track.take(first, 1)[0])
        self.motion.write(f"{first % 2**32},{values}\r\n".encode())

    def _send_audio(self, first: int) -> None:
        if "silence_microphone" not in self._faults:
            self.microphone.write(self._audio_track.take(first, AUDIO_BLOCK))

    def _send_arc(self, index: int) -> None:
        self.cameras.push("arc", self._arc_track.take(index))

    def _send_result(self, _: int) -> None:
        self.cameras.push("result", self._shown)


def black_jpeg(like: bytes) -> bytes:
    """A black image of the size of the JPEG `like`."""
    import cv2

    image = cv2.imdecode(np.frombuffer(like, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{len(like)} bytes beginning {like[:4].hex()} are no image")
    return bytes(cv2.imencode(".jpg", np.zeros_like(image))[1].tobytes())


def quiet_of(items: NDArray[Any], rate_hz: float, seam: RenderedSeam) -> NDArray[Any]:
    """The first items of a stream `(n, channels)` of `seam`, from which its idle signal is made."""
    return items[: max(2, round(QUIET_SHARE * seam.lead_s * rate_hz))]


def _idle(items: NDArray[Any], rate_hz: float, seam: RenderedSeam, rng: np.random.Generator) -> NDArray[Any]:
    return idle_like(quiet_of(items, rate_hz, seam), round(IDLE_S * rate_hz), rng)
