"""What moves in the arc camera's view: where arc, wire, pool and spatter are while each frame is exposed.

Between the arc's truth (`arc.py`, `variation.py`) and the drawing (`arc_draw.py`). Everything follows from what
happened up to a frame's end, so a seam and its good twin share each frame that ends before the fault's onset.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ARC_FALL_V, ARC_HZ, ARC_OHM, ARC_V_PER_MM, ArcTrace
from drivers.sim.bead import quasi_static_current
from drivers.sim.programs import WIRE_AREA_MM2, Program
from drivers.sim.randomness import generator
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["MAX_STREAKS", "Scene"]

MAX_STREAKS: Final = 24
SPATTER_BASE: Final = {"short_circuit": 0.4, "globular": 2.4, "spray": 0.35, "pulsed": 0.2}
"""Grains that come loose a frame without a short circuit; a third of them is seen while the gas holds."""
ROOT_WANDER_MM: Final = {"short_circuit": 0.12, "globular": 0.4, "spray": 0.08, "pulsed": 0.08}
"""A globular arc pushes its drop about, and its root with it."""
DROP_MAX_MM3: Final = 8.0
DROP_MIN_MM: Final = 0.42
"""The bare end of the wire, rounded."""
THERMAL_S: Final = 0.18
"""The pool's glow follows the power with this lag: it is what is still seen after arc-off."""
GROWTH_S: Final = 0.6
"""After so long at nominal power the pool has its full size."""
TRAIL_STEP_MM: Final = 0.2
TRAIL_EDGE_MM: Final = 2.0

EDGE_MM = 1.4
Array = NDArray[np.float64]


class Scene:
    """State of each frame, arrays of shape (frames,); lengths in mm.

    `glow`: heat of the pool, 1 at nominal power. `drop_mm`: radius of the drop at the wire's end. `shade`: share of
    the arc's light that leaves the joint. `streaks` (frames, `MAX_STREAKS`, 5): uniforms; the first `spatter` fly.
    `trail_sink_mm`: how far the bead sank, per `TRAIL_STEP_MM` along the seam.
    """

    def __init__(
        self, program: Program, state: Latents, trace: ArcTrace, seed: int, starts_s: Array, exposed_s: float
    ) -> None:
        n = len(starts_s)
        ends_s = starts_s + exposed_s
        at = np.clip(((starts_s + exposed_s / 2) * LATENT_HZ).astype(int), 0, len(state.position_mm) - 1)
        rng = generator(seed, "camera", "scene")
        self.streaks = rng.uniform(size=(n, MAX_STREAKS, 5))
        self.flicker = rng.standard_normal((n, 3))
        self.puff = rng.uniform(size=(n, 3))
        self.gap_mm = np.clip(_column_v(trace, starts_s, exposed_s) / ARC_V_PER_MM, 0.5, 6.5)
        self.position_mm = state.position_mm[at]
        # Under a sound cap a side wall takes the arc: from the side little of it is seen.
        self.lateral_mm = state.lateral_mm[at] + 0.4 * state.sidewall_mm[at]
        self.wander_mm = ROOT_WANDER_MM[program.transfer] * self.flicker[:, 0]
        # Burr and bevel of the cut edges darken the joint too: the line ahead is a poor measure of the gap.
        self.gap_joint_mm = state.gap_mm[at] + generator(seed, "camera", "edge").uniform(0, EDGE_MM)
        self.sink_mm = state.sink_mm[at]
        self.shade = 1 / (1 + 0.7 * self.sink_mm)
        self.fume = 0.6 + 2.2 * (1 - state.shielding()[at])
        self.hydrogen = state.hydrogen[at]
        self.glow, self.pool_mm = _pool(program, state, trace, ends_s, at)
        self.glow = self.glow * (1 + 0.12 * np.minimum(self.hydrogen, 1) * self.flicker[:, 1])
        self.drop_mm = _drop_mm(state, trace, ends_s, at)
        self.spatter = self._spatter(program, state, trace, ends_s, at, rng)
        self.trail_sink_mm = _trail(state, program.length_mm)

    def _spatter(
        self,
        program: Program,
        state: Latents,
        trace: ArcTrace,
        ends_s: Array,
        at: NDArray[np.int_],
        rng: np.random.Generator,
    ) -> NDArray[np.int_]:
        """Grains that fly through each frame: thrown by ruptures and large drops, more where the gas is lost.

        Hydrogen that stays below the surface throws none: none would be found on the part.
        """
        period_s = float(ends_s[1] - ends_s[0]) if len(ends_s) > 1 else 0.0
        ruptures = np.searchsorted(trace.ruptures_s, ends_s) - np.searchsorted(trace.ruptures_s, ends_s - period_s)
        bare = 1 - state.shielding()[at]
        power = np.clip(self.glow, 0, 1) * ((ends_s > 0) & (ends_s < state.arc_s + period_s))
        thrown = 0.9 * ruptures + SPATTER_BASE[program.transfer] * power
        rate = 0.35 * thrown + 2.2 * bare * (thrown + power)
        # A uniform for every frame alike, so that a good twin keeps its own grains.
        grains = (rate + rng.uniform(0, 1, len(ends_s))).astype(int) * (power > 0.02)
        return np.asarray(np.minimum(grains, MAX_STREAKS))


def _trail(state: Latents, length_mm: float) -> Array:
    """Sink of the bead behind the arc, per `TRAIL_STEP_MM`; the pool drags its edge along, never ahead."""
    steps = np.arange(0.0, length_mm + TRAIL_STEP_MM, TRAIL_STEP_MM)
    sink = state.sink_mm[np.minimum(np.searchsorted(state.position_mm, steps), len(state.sink_mm) - 1)]
    cells = round(TRAIL_EDGE_MM / TRAIL_STEP_MM)
    return np.convolve(sink, np.full(cells, 1 / cells))[: len(sink)]


def _column_v(trace: ArcTrace, starts_s: Array, exposed_s: float) -> Array:
    """Voltage over the arc's length, (frames,), while it burns within each exposure; 0 where it does not."""
    step = 20
    current, power = trace.current_a[::step], trace.power_w[::step]
    burning = (trace.shorted[::step] == 0) & (current > 20)
    column = np.where(burning, power / np.maximum(current, 1) - ARC_FALL_V - ARC_OHM * current, 0.0)
    sums = np.concatenate([[0.0], np.cumsum(column)])
    counts = np.concatenate([[0], np.cumsum(burning)])
    first, last = (
        np.clip((t * ARC_HZ / step).astype(int), 0, len(current)) for t in (starts_s, starts_s + exposed_s)
    )
    return np.asarray((sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1))


def _pool(
    program: Program, state: Latents, trace: ArcTrace, ends_s: Array, at: NDArray[np.int_]
) -> tuple[Array, Array]:
    """Glow and length of the pool at each frame's end: both follow the power, not the nominal arc time."""
    from scipy.signal import lfilter

    nominal_w = program.current_a * program.voltage_v
    per = round(ARC_HZ / LATENT_HZ)
    ms = len(trace.power_w) // per
    power = trace.power_w[: ms * per].reshape(ms, per).mean(axis=1) / nominal_w
    after = np.concatenate([[0.0], power, np.zeros(max(round(ends_s[-1] * LATENT_HZ) - ms, 0) + 2)])
    lag = 1 / (THERMAL_S * LATENT_HZ)
    heat = lfilter([lag], [1.0, lag - 1.0], after)
    grown = np.sqrt(np.minimum(np.cumsum(after) / (GROWTH_S * LATENT_HZ), 1.0))
    moment = np.clip((ends_s * LATENT_HZ).astype(int), 0, len(after) - 1)
    travel = np.maximum(state.travel_mm_s, 0.6 * program.travel_mm_s)
    fed = np.sqrt(quasi_static_current(state) * state.source_v / travel)
    # The melt has its own inertia: it does not vanish with the source.
    heat_in = lfilter([lag], [1.0, lag - 1.0], fed, zi=[(1 - lag) * fed[0]])[0][at]
    glow = heat[moment]
    # It freezes from its end while it cools.
    return glow, (2.2 + 0.17 * heat_in) * grown[moment] * np.clip(glow / 0.5, 0.05, 1) ** 0.3


def _drop_mm(state: Latents, trace: ArcTrace, ends_s: Array, at: NDArray[np.int_]) -> Array:
    """Radius of the pendant drop: what melted since the last one went, into the pool or through the arc."""
    gone = np.sort(np.concatenate([[0.0], trace.ruptures_s, trace.detachments_s]))
    since_s = (
        np.clip(ends_s, 0, state.arc_s)
        - gone[np.maximum(np.searchsorted(gone, np.minimum(ends_s, state.arc_s)) - 1, 0)]
    )
    volume = np.clip(0.1 + since_s * state.wire_mm_s[at] * WIRE_AREA_MM2, 0.1, DROP_MAX_MM3)
    return np.asarray(np.maximum((0.75 * volume / np.pi) ** (1 / 3), DROP_MIN_MM))
