"""Marks on the finished part: spatter balls, scratch, oil, a wrong part. The process never sees them.

Placed once per seam in part coordinates; photograph and height map both show the same marks.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import Bead
from drivers.sim.randomness import generator
from drivers.sim.seam import Fault
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["HOLE_RADIUS_MM", "Ball", "Marks", "no_marks", "place_marks"]

HOLE_RADIUS_MM = 2.2
HOLE_TOLERANCE_MM = 0.1
HOLE_FROM_CENTRE_MM = (7.0, 8.5)
"""The part's locating hole, from the seam's middle: along, across."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ball:
    """A solidified drop sitting on the surface, mm."""

    x_mm: float
    y_mm: float
    radius_mm: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Post-weld marks of one part. `scratch` is a polyline (n, 2) mm; `oil` rows are x, y, radius mm."""

    balls: tuple[Ball, ...]
    scratch: NDArray[np.float64]
    scratch_depth_mm: float
    oil: NDArray[np.float64]
    hole_mm: tuple[float, float]

    def relief(self, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Height that the marks add, mm, shape (len(y), len(x))."""
        out = np.zeros((len(y_mm), len(x_mm)), np.float32)
        for ball in self.balls:
            x0, x1 = np.searchsorted(x_mm, (ball.x_mm - ball.radius_mm, ball.x_mm + ball.radius_mm))
            y0, y1 = np.searchsorted(y_mm, (ball.y_mm - ball.radius_mm, ball.y_mm + ball.radius_mm))
            r2 = (x_mm[x0:x1] - ball.x_mm) ** 2 + (y_mm[y0:y1, np.newaxis] - ball.y_mm) ** 2
            cap = np.sqrt(np.clip(ball.radius_mm**2 - r2, 0, None)) * 1.3
            out[y0:y1, x0:x1] = np.maximum(out[y0:y1, x0:x1], cap)
        for start, stop in zip(self.scratch[:-1], self.scratch[1:], strict=True):
            along = (x_mm > min(start[0], stop[0])) & (x_mm <= max(start[0], stop[0]))
            slope = (stop[1] - start[1]) / (stop[0] - start[0]) if stop[0] != start[0] else 0.0
            centre = start[1] + slope * (x_mm[along] - start[0])
            distance = np.abs(y_mm[:, np.newaxis] - centre)
            out[:, along] -= self.scratch_depth_mm * np.clip(1 - distance / 0.3, 0, None).astype(np.float32)
        hx, hy = self.hole_mm
        hole = (x_mm - hx) ** 2 + (y_mm[:, np.newaxis] - hy) ** 2 < HOLE_RADIUS_MM**2
        out[hole] = -3.0
        return out


def no_marks(length_mm: float) -> Marks:
    """A clean part whose hole sits where the drawing has it."""
    hole = (length_mm / 2 + HOLE_FROM_CENTRE_MM[0], HOLE_FROM_CENTRE_MM[1])
    return Marks((), np.zeros((0, 2)), 0.0, np.zeros((0, 3)), hole)


def place_marks(fault: Fault | None, bead: Bead, state: Latents, length_mm: float, seed: int) -> Marks:
    """The marks that a fault of the *result* family leaves between its onset and end; none for other faults."""
    clean = no_marks(length_mm)
    off = generator(seed, "part", "hole").normal(0, HOLE_TOLERANCE_MM, 2)
    clean = dataclasses.replace(clean, hole_mm=(clean.hole_mm[0] + float(off[0]), clean.hole_mm[1] + float(off[1])))
    if fault is None or fault.type not in _PLACE:
        return clean
    last = len(state.position_mm) - 1
    a = float(state.position_mm[min(int(fault.onset_s * LATENT_HZ), last)])
    b = float(state.position_mm[min(int(fault.end_s * LATENT_HZ), last)])
    return _PLACE[fault.type](clean, fault.value, (a, max(b, a + 2.0)), bead, generator(seed, "damage", fault.type))


def _balls(clean: Marks, count: float, span: tuple[float, float], bead: Bead, rng: np.random.Generator) -> Marks:
    half = 0.5 * float(bead.width_mm.mean())
    balls = tuple(
        Ball(float(rng.uniform(*span)), float(rng.normal(0, 0.55 * half)), float(rng.uniform(0.3, 0.75)))
        for _ in range(round(count))
    )
    return dataclasses.replace(clean, balls=balls)


def _scratch(clean: Marks, depth_mm: float, span: tuple[float, float], bead: Bead, rng: np.random.Generator) -> Marks:
    middle, run = rng.uniform(*span), min(rng.uniform(8.0, 16.0), span[1] - span[0])
    steps = np.linspace(-0.5, 0.5, 14)
    x = middle + steps * run
    y = rng.uniform(-1.5, 1.5) + rng.uniform(-7.0, 7.0) * steps + np.cumsum(rng.normal(0, 0.12, len(steps)))
    line = np.stack([np.clip(x, *span), y], axis=1)
    return dataclasses.replace(clean, scratch=line, scratch_depth_mm=depth_mm)


def _oil(clean: Marks, area_mm2: float, span: tuple[float, float], bead: Bead, rng: np.random.Generator) -> Marks:
    radius = np.sqrt(area_mm2 / np.pi / 1.6)
    centre = (rng.uniform(*span), rng.normal(0, 1.5))
    lobes = [
        (
            centre[0] + rng.normal(0, 0.6 * radius),
            centre[1] + rng.normal(0, 0.4 * radius),
            radius * rng.uniform(0.5, 0.9),
        )
        for _ in range(4)
    ]
    return dataclasses.replace(clean, oil=np.array(lobes))


def _wrong_part(
    clean: Marks, shift_mm: float, span: tuple[float, float], bead: Bead, rng: np.random.Generator
) -> Marks:
    hole = (clean.hole_mm[0] + shift_mm * float(rng.choice([-1.0, 1.0])), clean.hole_mm[1])
    return dataclasses.replace(clean, hole_mm=hole)


_PLACE = {"spatter_on_bead": _balls, "scratch": _scratch, "oil": _oil, "wrong_part": _wrong_part}
