"""The virtual cell's microphone: an ALSA PCM over a FIFO, which PortAudio opens like a sound card.

ALSA's `file` plugin reads raw int16 samples from the FIFO; how fast they are written is how fast they are
captured. Whoever opens it must have `ALSA_CONFIG_PATH` set to `config_path` before PortAudio is loaded.
"""

import fcntl
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["FifoMicrophone"]

PIPE_BYTES = 1 << 20
"""What every user may ask for; ten seconds of sound at 48 kHz that a reader may be late."""

CONFIG = """</usr/share/alsa/alsa.conf>
pcm.{pcm} {{
    type file
    slave.pcm {pcm}null
    file "/dev/null"
    infile "{fifo}"
    format raw
    hint {{ show on description "virtual cell microphone" }}
}}
pcm.{pcm}null {{ type null }}
"""


class FifoMicrophone:
    """Owns the FIFO and its ALSA configuration in `workdir`.

    `unread` counts samples written while nobody had the microphone open; `dropped` those that a reader lost, because
    it had fallen a whole pipe behind.
    """

    def __init__(self, workdir: Path, pcm: str = "weldmic") -> None:
        self.pcm = pcm
        self.config_path = workdir / "asound.conf"
        self.dropped = 0
        self.unread = 0
        self._has_leftovers = False
        self._fifo = workdir / "microphone.fifo"
        self._fifo.unlink(missing_ok=True)
        os.mkfifo(self._fifo, 0o600)
        self.config_path.write_text(CONFIG.format(pcm=pcm, fifo=self._fifo.resolve()), encoding="utf-8")
        # A writer is there at all times, or PortAudio's enumeration of devices would wait for one for ever. Of the
        # reading end none is kept, so that writing fails while nobody has the microphone open. Whoever writes
        # without waiting can only open a FIFO that is being read.
        near = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._fd = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.close(near)
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def write(self, samples: NDArray[np.int16]) -> None:
        """Hand over `(n, channels)` samples; n must be at least PortAudio's ALSA period (480 at latency "low").

        Never blocks. What nobody listens to is gone, and so is what a reader that has closed did not take.
        """
        data = np.ascontiguousarray(samples).tobytes()
        try:
            written = os.write(self._fd, data)
            self._has_leftovers = True
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            self._forget()
            self.unread += len(samples)
            return
        self.dropped += (len(data) - written) // (2 * samples.shape[1])

    def close(self) -> None:
        """Remove FIFO and configuration."""
        os.close(self._fd)
        self._fifo.unlink(missing_ok=True)
        self.config_path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Empty the pipe, or who opens the microphone next would begin with the distant past."""
        if not self._has_leftovers:
            return
        self._has_leftovers = False
        near = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while os.read(near, PIPE_BYTES):
                pass
        except BlockingIOError:
            return
        finally:
            os.close(near)
