"""Whether a microphone hears what it should: silent, clipped, deaf, a raised noise floor, moved.

Sound is summed up in blocks of 50 ms. Before the arc they tell the floor of hall and amplifier, in the arc its level:
direct sound falls as 1/r, so a microphone that was moved or turned away is that much quieter, seam after seam.
"""

import math

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.sensor_report import ArcSpan, Batch, Figure, Lead, Problem, SensorReport, Stretch, problem

__all__ = ["AudioMeter"]

BLOCK_NS = 50_000_000
EDGE_NS = 100_000_000
SILENT_LSB = 2.0
"""Of 16 bits. Amplifier noise moves more than the last bits; a muted or dead input does not."""
SILENT_SHARE = 0.05
CLIPPED = (1e-3, 1e-2)
FULL_SCALE = 0.999
LEAST_RISE_DB = 3.0
"""Below it less than half of what is heard in the arc is the arc.

No more is asked, because how loud an arc is depends on the weld: sound follows the change of its power, and one whose
wire slips, so that no drop crosses any more, is some 5 dB louder than the gas that flows before it. That is a bad
weld and no bad microphone; one that is unplugged or in another booth hears no rise at all.
"""
ECHO_NS = 250_000_000
"""So long after an arc its echoes are in what a microphone hears."""
LEAST_BLOCKS = 3
AT_ONCE = 9_600


class AudioMeter:
    """One microphone during one seam. The blocks grow with the seam by a few numbers each 50 ms.

    `pre_roll_ns`: how long before the arc it is heard unless an arc before this one ended later.
    """

    def __init__(self, spec: StreamSpec, arc_on_ns: int, pre_roll_ns: int = 0) -> None:
        self._arc_on_ns = arc_on_ns
        self._lead = Lead(spec, arc_on_ns - pre_roll_ns)
        self._full = float(np.iinfo(spec.dtype).max) if spec.dtype.startswith("int") else 1.0
        self._silent = SILENT_LSB * self._full / np.iinfo(np.int16).max
        self._batch = Batch(AT_ONCE)
        self._blocks: dict[int, tuple[int, float, float, int]] = {}
        """Number since arc-on → samples, sum, sum of squares, samples at full scale."""

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk; its first channel counts."""
        for stretch in self._batch.add(chunk):
            self._take(stretch)

    def _take(self, stretch: Stretch) -> None:
        self._lead.see(stretch.times)
        samples = stretch.data[:, 0].astype(np.float64)
        samples = np.where(np.isfinite(samples), samples, 0.0)
        numbers = (stretch.times - self._arc_on_ns) // BLOCK_NS
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        sums, squares = np.add.reduceat(samples, starts), np.add.reduceat(samples * samples, starts)
        loud = np.add.reduceat(np.abs(samples) >= FULL_SCALE * self._full, starts)
        counts = np.diff(np.append(starts, len(samples)))
        for number, *more in zip(
            numbers[starts].tolist(), counts.tolist(), sums.tolist(), squares.tolist(), loud.tolist(), strict=True
        ):
            had = self._blocks.get(number, (0, 0.0, 0.0, 0))
            self._blocks[number] = (had[0] + more[0], had[1] + more[1], had[2] + more[2], had[3] + int(more[3]))

    def report(self, arcs: tuple[ArcSpan, ...]) -> SensorReport:
        """What it heard before and in the arcs."""
        for stretch in self._batch.rest():
            self._take(stretch)
        quiet, loud = self._levels(arcs)
        if len(loud) < LEAST_BLOCKS:
            return SensorReport()
        level = float(np.sqrt(np.mean(loud**2)))
        problems = [*self._silence(loud), *self._clipping(arcs)]
        figures = {}
        heard = loud[loud > self._silent]
        if len(heard) >= LEAST_BLOCKS:
            shown = 20 * math.log10(float(np.sqrt(np.mean(heard**2))) / self._full)
            figures["level"] = Figure("level", shown, 2.0, "dB", f"the arc is heard at {shown:.0f} dB of full scale")
        if len(quiet) >= LEAST_BLOCKS:
            floor = max(float(np.median(quiet)), self._silent / 2)
            shown = 20 * math.log10(floor / self._full)
            figures["noise_floor"] = Figure(
                "noise_floor",
                shown,
                3.0,
                "dB",
                f"before the arc it hears {shown:.0f} dB of full scale",
                rises_only=True,
            )
            rise_db = 20 * math.log10(max(level, 1e-12) / floor)
            if not problems:
                detail = f"the arc is only {rise_db:.1f} dB louder than what was heard before it"
                problems += problem("deaf", -rise_db, None, -LEAST_RISE_DB, "dB", detail)
        return SensorReport(tuple(problems), figures)

    def _levels(self, arcs: tuple[ArcSpan, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """RMS of the blocks before the arc, and of those that lie wholly in one."""
        rms = {
            number: math.sqrt(max(squares / n - (total / n) ** 2, 0.0))
            for number, (n, total, squares, _) in sorted(self._blocks.items())
            if n
        }
        from_ns = self._lead.calm_from_ns(ECHO_NS) - self._arc_on_ns
        quiet = [n for n in rms if from_ns <= n * BLOCK_NS and (n + 1) * BLOCK_NS <= -EDGE_NS]
        return np.array([rms[n] for n in quiet]), np.array(
            [rms[number] for number in rms if self._burns(number, arcs)]
        )

    def _burns(self, number: int, arcs: tuple[ArcSpan, ...]) -> bool:
        start_ns = self._arc_on_ns + number * BLOCK_NS
        return any(on + EDGE_NS <= start_ns and start_ns + BLOCK_NS <= off for on, off in arcs)

    def _silence(self, loud: NDArray[np.float64]) -> tuple[Problem, ...]:
        share = float(np.mean(loud <= self._silent))
        detail = f"nothing but the last bit moved for {share:.0%} of the arc"
        return problem("silent", share, None, SILENT_SHARE, "share", detail)

    def _clipping(self, arcs: tuple[ArcSpan, ...]) -> tuple[Problem, ...]:
        inside = [block for number, block in self._blocks.items() if self._burns(number, arcs)]
        share = sum(block[3] for block in inside) / sum(block[0] for block in inside)
        detail = f"{share:.2%} of the arc's samples are at full scale; turn its gain down"
        return problem("clipped", share, *CLIPPED, "share", detail)
