"""The virtual laser profiler: what it prints of the bare plate and, while the robot moves it, of the bead.

Like many profilers in the field it runs freely: a numbered row every 10 ms, whatever is in front of it, so that its
counter gives exact times. Which rows are a seam's only the PLC's trigger says. The robot begins a little before the
bead and ends beyond it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.profile import NOISE_MM, PROFILE_HALF_WIDTH_MM, PROFILE_MM_PER_ROW, PROFILE_POINTS
from drivers.sim.pty_port import PtyPort
from drivers.sim.randomness import generator
from drivers.sim.seam import RenderedSeam
from drivers.sim.timeline import SampleTrack

__all__ = [
    "PROFILER_OPTIONS",
    "RUN_ON_S",
    "SCAN_HZ",
    "SCAN_MM_S",
    "SCAN_S",
    "SCAN_SETTLE_S",
    "SCAN_VIEW",
    "Scanner",
    "plate_rows",
    "scan_rows",
]

SCAN_HZ = 100.0
SCAN_MM_S = PROFILE_MM_PER_ROW * SCAN_HZ
SCAN_VIEW = "scan"
SCAN_SETTLE_S = 0.1
SCAN_S = 2.2
"""The longest program's 40 mm take 1.6 s; the rest is run-on and a PLC's delay."""
RUN_ON_S = 0.1
"""The robot moves over bare plate for so long before the bead begins."""
IDLE_ROWS = 200
BACKLOG_S = 10.0

SHADOW_SLOPE = 2.0
"""Flanks steeper than this shadow the laser: no return."""
SPECKLE_SHARE = 0.003
"""Of the points, lost to reflections of the bare metal."""

PROFILER_OPTIONS: Mapping[str, Any] = {
    "kind": "profile",
    "rate_hz": SCAN_HZ,
    "width": PROFILE_POINTS,
    "counter_column": True,
}
"""Beside the port, for `profile.csv_serial` on the cell's third pty."""


def plate_rows(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n, `PROFILE_POINTS`) float32 mm of bare plate."""
    return NOISE_MM * rng.standard_normal((n, PROFILE_POINTS), dtype=np.float32)


def scan_rows(seam: RenderedSeam) -> NDArray[np.float32]:
    """(rows, `PROFILE_POINTS`) float32 mm over the bead, NaN where the laser gets no return."""
    step_mm = 2 * PROFILE_HALF_WIDTH_MM / (PROFILE_POINTS - 1)
    shadowed = np.abs(np.gradient(seam.profile, step_mm, axis=1)) > SHADOW_SLOPE
    speckle = generator(seam.plan.seed, "profile", "returns").random(seam.profile.shape) < SPECKLE_SHARE
    return np.where(shadowed | speckle, np.float32(np.nan), seam.profile).astype(np.float32)


class Scanner:
    """The profiler on its pty; a pacer calls `send` for every row."""

    def __init__(self, workdir: Path, seed: int) -> None:
        self.port = PtyPort(workdir / "profiler", round(BACKLOG_S * SCAN_HZ))
        self._track = SampleTrack(SCAN_HZ, plate_rows(IDLE_ROWS, np.random.default_rng([seed, 0x5C])))

    def send(self, index: int) -> None:
        """Print row `index`."""
        heights = ",".join(f"{height:.3f}" for height in self._track.take(index, 1)[0])
        self.port.write(f"{index % 2**32},{heights}\r\n".encode())

    def move_over(self, seam: RenderedSeam, from_s: float) -> float:
        """The bead begins `from_s` after row 0; returns when it ends, s after row 0."""
        rows = scan_rows(seam)
        first = round(from_s * SCAN_HZ)
        self._track.add(first, rows)
        return (first + len(rows)) / SCAN_HZ

    def close(self) -> None:
        """Remove the port."""
        self.port.close()
