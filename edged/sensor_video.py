"""Whether an arc camera can see: dark, frozen, overexposed, unreadable; moved, spatter on its cover glass.

Three pictures a second are decoded small. What of them does not move while the arc burns (their median) shows the
glass, the nozzle and the place of the arc; spatter is a dark spot of a few per cent of the width that stands still
over all of them and was not there in the accepted seams before.
"""

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.sensor_report import ArcSpan, Figure, Problem, SensorReport, problem

__all__ = ["STILL_PX", "VideoMeter", "spot_share"]

EVERY_NS = 333_000_000
EDGE_NS = 300_000_000
STILL_PX = (96, 60)
"""Width and height of the still picture: a spot of spatter is one to three pixels across."""
MAX_STILLS = 60
"""Of a long seam every second picture is dropped when there are more, again and again."""
DARK_MAX = 64
"""A burning arc saturates; a picture whose brightest place is below a quarter of that shows none."""
DARK_SHARE = 0.05
FROZEN_SHARE = 0.5
WHITE, WHITE_SHARE = 250, 0.5
HASH_STRIDE, HASH_TAIL = 16, 64
"""Bytes of a picture that tell whether it is the one before: all would cost more than it is worth."""

LIT = (10.0, 120.0)
"""Counts between which a place is lit well enough and not washed out by the arc itself."""
SMOOTH_PX, WIDE_PX = 1.0, 4.0
"""Standard deviations: of a spot, and of what is larger than one and therefore no spot."""
SPOT_DEPTH = 0.15
"""Natural logarithm of the light that a spot takes away."""

Image = NDArray[np.uint8]


class VideoMeter:
    """One arc camera during one seam."""

    def __init__(self, spec: StreamSpec, arc_on_ns: int) -> None:
        self._arc_on_ns = arc_on_ns
        self._stride = 1
        self._stills: list[tuple[int, Image]] = []
        self._last_slot: int | None = None
        self._unreadable = self._looked = 0
        self._frames: list[tuple[int, bool]] = []
        """Time of each frame from arc-on on, and whether it is the very one before."""
        self._hash: int | None = None

    def add(self, chunk: Chunk) -> None:
        """Take the next frame."""
        t_ns = chunk.t_ns
        if t_ns < self._arc_on_ns:
            return
        digest = zlib.crc32(chunk.data[-HASH_TAIL:].tobytes(), zlib.crc32(chunk.data[::HASH_STRIDE].tobytes()))
        self._frames.append((t_ns, digest == self._hash))
        self._hash = digest
        slot = (t_ns - self._arc_on_ns) // EVERY_NS
        if slot == self._last_slot or slot % self._stride:
            return
        self._last_slot = slot
        self._look(t_ns, chunk)

    def _look(self, t_ns: int, chunk: Chunk) -> None:
        import cv2  # heavy, and only wanted where there is a camera

        self._looked += 1
        image = cv2.imdecode(chunk.data, cv2.IMREAD_REDUCED_GRAYSCALE_4)
        if image is None:
            self._unreadable += 1
            return
        small = cv2.resize(image, STILL_PX, interpolation=cv2.INTER_AREA)
        self._stills.append((t_ns, np.asarray(small, np.uint8)))
        if len(self._stills) > MAX_STILLS:
            self._stills, self._stride = self._stills[::2], 2 * self._stride

    def report(self, arcs: tuple[ArcSpan, ...]) -> SensorReport:
        """What it saw of the arcs."""
        inside = [image for t_ns, image in self._stills if any(a + EDGE_NS <= t_ns <= b - EDGE_NS for a, b in arcs)]
        problems = [*self._frozen(arcs), *self._unread()]
        if len(inside) < 3:
            return SensorReport(tuple(problems))
        stack = np.stack(inside)
        # A washed-out picture has no place and no still to compare.
        washed = problem(
            "overexposed",
            float(np.mean(stack >= WHITE)),
            None,
            WHITE_SHARE,
            "share",
            f"{np.mean(stack >= WHITE):.0%} of the picture is white",
        )
        dark_share = float(np.mean(stack.max(axis=(1, 2)) < DARK_MAX))
        detail = f"{dark_share:.0%} of the pictures of the burning arc are dark"
        dark = problem("dark", dark_share, None, DARK_SHARE, "share", detail)
        problems += [*washed, *dark]
        if washed or dark:
            return SensorReport(tuple(problems))
        still = np.median(stack, axis=0).astype(np.uint8)
        return SensorReport(tuple(problems), _figures(stack), still)

    def _frozen(self, arcs: tuple[ArcSpan, ...]) -> tuple[Problem, ...]:
        repeats = [again for t_ns, again in self._frames if any(on < t_ns < off for on, off in arcs)]
        if len(repeats) < 10:
            return ()
        share = sum(repeats) / len(repeats)
        detail = f"{share:.0%} of the pictures of the arc are the one before once more"
        return problem("frozen", share, None, FROZEN_SHARE, "share", detail)

    def _unread(self) -> tuple[Problem, ...]:
        if not self._looked:
            return ()
        share = self._unreadable / self._looked
        detail = f"{share:.0%} of the pictures that were looked at cannot be decoded"
        return problem("unreadable", share, 0.0, DARK_SHARE, "share", detail)


def _figures(stack: NDArray[np.uint8]) -> dict[str, Figure]:
    """Brightness, and where the arc stands: the middle of its brightest places, per cent of the picture's width."""
    level = 20 * math.log10(max(float(stack.mean()), 1.0))
    figures = {"brightness": Figure("brightness", level, 1.5, "dB", f"mean brightness {stack.mean():.0f} of 255")}
    places = []
    for image in stack:
        rows, columns = np.nonzero(image >= np.quantile(image, 0.99))
        places.append((float(columns.mean()), float(rows.mean())))
    x, y = (100 * float(value) / STILL_PX[0] for value in np.median(places, axis=0))
    for axis, place in (("x", x), ("y", y)):
        figures[f"place_{axis}"] = Figure(
            "moved", place, 1.5, "% of width", f"the arc stands at {x:.1f}, {y:.1f} % of the picture's width"
        )
    return figures


def spot_share(stills: list[tuple[Image, Image]]) -> float:
    """Share of the lit picture that spots cover which all `stills` have and their references have not.

    Each still picture comes with the reference of its program, `STILL_PX` uint8 both. Several seams together tell
    spots from what only one of them shows.
    """
    with np.errstate(invalid="ignore"):
        darker = np.stack([_darker(still, reference) for still, reference in stills])
    known = np.isfinite(darker).all(axis=0)
    if not known.any():
        return 0.0
    return float(np.mean(np.median(darker[:, known], axis=0) < -SPOT_DEPTH))


def _darker(still: Image, reference: Image) -> NDArray[np.float64]:
    """Change of light against the reference at the scale of spots, natural logarithm; NaN where nothing is lit."""
    import cv2

    before, now = reference.astype(np.float32), still.astype(np.float32)
    lit = (before > LIT[0]) & (cv2.dilate(before, np.ones((3, 3))) < LIT[1])
    weight = lit.astype(np.float32)

    def smooth(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        seen = cv2.GaussianBlur(weight, (0, 0), sigma)
        return np.asarray(cv2.GaussianBlur(image * weight, (0, 0), sigma) / np.maximum(seen, 0.1), np.float32)

    change = np.log(now + 2) - np.log(before + 2)
    change = smooth(change - smooth(change, WIDE_PX), SMOOTH_PX)
    return np.where(lit, change, np.nan).astype(np.float64)
