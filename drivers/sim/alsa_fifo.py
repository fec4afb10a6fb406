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

PIPE_BYTES = 65_536

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
    """Owns the FIFO and its ALSA configuration in `workdir`. `dropped` counts samples that nobody took in time."""

    def __init__(self, workdir: Path, pcm: str = "weldmic") -> None:
        self.pcm = pcm
        self.config_path = workdir / "asound.conf"
        self.dropped = 0
        self._fifo = workdir / "microphone.fifo"
        self._fifo.unlink(missing_ok=True)
        os.mkfifo(self._fifo, 0o600)
        self.config_path.write_text(CONFIG.format(pcm=pcm, fifo=self._fifo.resolve()), encoding="utf-8")
        # Held open for both directions, or PortAudio's enumeration of devices would wait for a writer for ever.
        self._fd = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def write(self, samples: NDArray[np.int16]) -> None:
        """Hand over `(n, channels)` samples; n must be at least PortAudio's ALSA period (480 at latency "low").

        Never blocks. When nobody reads, the oldest samples make way, so that whoever opens the microphone
        next does not hear the distant past.
        """
        data = np.ascontiguousarray(samples).tobytes()
        while True:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:
                written = 0
            if written == len(data):
                return
            data = data[written:]
            self.dropped += len(os.read(self._fd, len(data))) // (2 * samples.shape[1])

    def close(self) -> None:
        """Remove FIFO and configuration."""
        os.close(self._fd)
        self._fifo.unlink(missing_ok=True)
        self.config_path.unlink(missing_ok=True)
