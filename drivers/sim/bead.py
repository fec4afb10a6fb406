"""The bead: cross-section along the seam from the latent state; `surface.py` gives it its shape.

Deposited area = η·πd²/4·WFS/v. Metal freezes over a pool's length behind the arc, so the bead lags the arc by pool
length / v. Volume is conserved to the last mm³; what falls through a gap is kept as `below_mm2`.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import WIRE_AREA_MM2, Program
from drivers.sim.randomness import generator
from drivers.sim.sessions import Session
from drivers.sim.variation import CRATER_EARLY_S, CRATER_FILL_S, LATENT_HZ, Latents

__all__ = [
    "BEAD_STEP_MM",
    "DEPOSITION",
    "Bead",
    "contact_angle_deg",
    "form_bead",
    "pool_length_mm",
    "quasi_static_current",
]

BEAD_STEP_MM = 0.1
DEPOSITION = 0.955
"""Share of the wire that ends up in the bead; the rest is spatter and fume."""
ALPHA_I, BETA_I = 0.27, 5.9e-5
HOLE_FROM_SINK_MM = 0.45
"""A pool that sags deeper than this tears open."""
CRACK_ARMS = (3, 6)

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Bead:
    """Arrays of shape (n,) each `BEAD_STEP_MM` from the seam's start.

    `area_mm2` stands above the plate; `filled_mm2` closed the gap; `below_mm2` left through a hole.
    """

    x_mm: Array
    area_mm2: Array
    filled_mm2: Array
    below_mm2: Array
    width_mm: Array
    """Fused width; metal rolled over the toe (`overlap_mm`) lies beyond it."""
    height_mm: Array
    penetration_mm: Array
    centre_mm: Array
    sink_mm: Array
    hole_mm: Array
    """Half width of a burnt hole; 0 where there is none."""
    undercut_mm: Array
    """Depth of the groove at the toe on `steep_side`; half as deep on the other."""
    overlap_mm: Array
    """Metal lying unfused over the toe on `steep_side`."""
    steep_side: float
    """+1 or −1: the side to which torch angle or gravity push the metal; sign of y."""
    oxide: Array
    """Lack of shielding 0–1: grey skin and pores."""
    pores: Array
    """Open pores, shape (n, 3): x, y, radius mm."""
    crater_share: float
    """Depth of the end crater as a share of the bead's height."""
    cracks: tuple[Array, ...]
    """Arms of a crater crack, each a polyline (n, 2) mm from its middle outwards."""
    ripple_mm: float
    fed_mm3: float

    @property
    def crack_mm(self) -> float:
        """Length of the longest arm of the crater crack."""
        return max((float(np.hypot(*np.diff(arm, axis=0).T).sum()) for arm in self.cracks), default=0.0)

    def summary(self) -> dict[str, float]:
        """Means along the seam without start and crater; of what shows in one place only, the largest value."""
        inner = slice(len(self.x_mm) // 8, -len(self.x_mm) // 8)
        return {
            "width_mm": float((self.width_mm + self.overlap_mm)[inner].mean()),
            "height_mm": float(self.height_mm[inner].mean()),
            "area_mm2": float(self.area_mm2[inner].mean()),
            "penetration_mm": float(self.penetration_mm[inner].mean()),
            "contact_angle_deg": float(contact_angle_deg(self)[inner].mean()),
            "undercut_mm": float(self.undercut_mm.max()),
            "overlap_mm": float(self.overlap_mm.max()),
            "sink_mm": float(self.sink_mm.max()),
            "hole_mm": float(np.count_nonzero(self.hole_mm) * BEAD_STEP_MM),
            "below_mm3": float(self.below_mm2.sum() * BEAD_STEP_MM),
            "crack_mm": self.crack_mm,
            "pores": float(len(self.pores)),
        }


def contact_angle_deg(bead: Bead) -> Array:
    """Angle between plate and bead through the metal at the steeper toe, shape (n,); over 90° where it overlaps."""
    wetted = np.degrees(np.arctan(4 * bead.height_mm / bead.width_mm))
    rolled = bead.overlap_mm / (bead.overlap_mm + 0.25)
    return np.asarray(wetted + (165.0 - wetted) * rolled)


def pool_length_mm(program: Program) -> float:
    """Length of the weld pool behind the arc at the program's set-points (grows with U·I/v).

    From the set-points, not from a seam's own heat: a late fault must not change metal that froze before it.
    """
    return 2.0 + 0.011 * program.voltage_v * program.current_a / program.travel_mm_s


def quasi_static_current(state: Latents) -> Array:
    """Current that melts the wire as fast as it is fed: root of αI + βL_eI² = WFS."""
    extension = np.maximum(state.ctwd_mm - 5.0, 2.0)
    b = BETA_I * extension
    return np.asarray((-ALPHA_I + np.sqrt(ALPHA_I**2 + 4 * b * state.wire_mm_s)) / (2 * b))


def _kernel(cells: int) -> Array:
    """Share of the metal at the arc that freezes 0 … `cells` steps behind it: flat with soft ends, sum 1."""
    at = (np.arange(cells) + 0.5) / cells
    weights = np.sin(0.5 * np.pi * np.clip(np.minimum(at, 1 - at) / 0.3, 0, 1)) ** 2
    return np.asarray(weights / weights.sum())


def _pool(values: Array, cells: int) -> Array:
    """Average over the pool behind the arc: what solidifies at x was fed while the arc stood at x … x + pool."""
    padded = np.concatenate([values, np.full(cells - 1, values[-1])])
    return np.asarray(np.correlate(padded, _kernel(cells), mode="valid"))


def _deposit(values: Array, cells: int) -> Array:
    """Spread what is fed at x over the pool behind it, most of it near the arc: the volume stays to the last mm³.

    What would land before the start makes the start higher: the plate there was cold.
    """
    behind = (1 - (np.arange(cells) + 0.5) / cells) ** 2
    spread = np.convolve(values, (behind / behind.sum())[::-1])
    out = spread[cells - 1 :].copy()
    start = np.clip(1 - np.arange(len(out)) / cells, 0, None)
    return np.asarray(out + spread[: cells - 1].sum() * start / start.sum())


def form_bead(program: Program, session: Session, state: Latents, seed: int) -> Bead:
    """The solidified bead of a seam."""
    x = np.arange(0.0, program.length_mm, BEAD_STEP_MM)
    t = np.interp(x, state.position_mm, np.arange(len(state.position_mm)) / LATENT_HZ)
    index = np.minimum((t * LATENT_HZ).astype(int), len(state.position_mm) - 1)
    current = quasi_static_current(state)[index]
    lead_drop = (state.lead_mohm[index] - 2.0) * 1e-3 * current
    volts = state.source_v[index] - program.source_mohm * 1e-3 * current - lead_drop
    travel = np.maximum(state.travel_mm_s[index], 1.0)
    heat = np.clip(volts, 8, None) * current / travel
    cells = max(3, round(pool_length_mm(program) / BEAD_STEP_MM))

    metal = _metal(program, state, x, cells)
    gap = _pool(state.gap_mm[index], cells)
    sink = _pool(state.sink_mm[index], max(3, cells // 3))
    below = metal * np.clip(sink / 1.9, 0, 0.92)
    filled = np.minimum(gap * program.plate_mm * program.gap_share, 0.9 * (metal - below))
    area = metal - below - filled

    oxide = 1 - _pool(state.shielding()[index], cells)
    width = _width(program, state, heat, volts, index, cells) * (1 - 0.06 * oxide)
    # Metal that no arc wets any more balls up, and is no narrower than that.
    width = np.maximum(width, np.maximum(1.3 * np.sqrt(area), 0.5))
    overlap = _pool(state.overlap_mm[index], max(3, cells // 2)) * _uneven(len(x), 34, 0.30, seed, "overlap")
    height = _cap_height(area, width, overlap) * _pool(state.reinforcement_factor[index], cells)
    digging = _pool(state.arc_length_extra_mm[index], cells)
    toe = generator(seed, "bead", "toe").uniform(0.92, 1.08) * _uneven(len(x), 20, 0.10, seed, "undercut")
    centre = _pool(state.lateral_mm[index], cells)
    # A source that stops a little early leaves a sound crater.
    missing_s = max(state.crater_fill_missing_s - CRATER_EARLY_S, 0.0) / (1 - CRATER_EARLY_S / CRATER_FILL_S)
    return Bead(
        x_mm=x,
        area_mm2=area,
        filled_mm2=filled,
        below_mm2=below,
        width_mm=width,
        height_mm=height,
        penetration_mm=_pool(2.1 * (current / 200) ** 1.3 * (6 / travel) ** 0.3 - 0.15 * gap, cells),
        centre_mm=centre,
        sink_mm=sink,
        hole_mm=_hole(sink, width, seed),
        undercut_mm=0.5 * np.clip(digging, 0, None) ** 0.85 * toe,
        overlap_mm=overlap,
        steep_side=float(generator(seed, "bead", "side").choice([-1.0, 1.0])),
        oxide=oxide,
        pores=_pores(x, oxide, centre, width, seed),
        crater_share=0.35 + 1.6 * min(state.crater_fill_missing_s, 0.25),
        cracks=_cracks(x[-1] - 0.2 * width[-1], centre[-1], float(width[-1]), missing_s, seed),
        ripple_mm=float(np.clip(program.travel_mm_s / 8.5, 0.55, 1.3)),
        fed_mm3=float(state.wire_mm_s.sum() / LATENT_HZ * WIRE_AREA_MM2),
    )


def _metal(program: Program, state: Latents, x: Array, cells: int) -> Array:
    """Cross-section of deposited metal, mm², from the wire's own time integral: exact however travel wanders."""
    fed = np.concatenate([[0.0], np.cumsum(state.wire_mm_s) / LATENT_HZ]) * WIRE_AREA_MM2
    edges = np.append(x, program.length_mm)
    arrived = int(np.searchsorted(state.position_mm, program.length_mm))
    at = np.interp(edges, np.append(state.position_mm[:arrived], program.length_mm), fed[: arrived + 1])
    moving = _deposit(DEPOSITION * np.diff(at) / np.diff(edges), cells)
    # The crater fill, fed while the robot stands still, stays where the arc is and thins out backwards.
    fill = np.clip(1 - (program.length_mm - x) / (0.7 * cells * BEAD_STEP_MM), 0, None)
    return np.asarray(moving + DEPOSITION * (fed[-1] - fed[arrived]) * fill / (fill.sum() * BEAD_STEP_MM))


def _cap_height(area: Array, width: Array, overlap: Array) -> Array:
    """Height of a parabola over the fused width; with overlap the steep side is longer and fuller, at equal area."""
    flank = flank_power(overlap)
    # ∫₀¹ (1 − u²)^p du, within 0.4 % for p from 0.4 to 1.
    full = 1 - 0.488 * flank + 0.155 * flank**2
    return np.asarray(area / (width / 3 + (width / 2 + overlap) * full))


def flank_power(overlap_mm: NDArray[np.floating[Any]]) -> Array:
    """Power p of the flank (1 − u²)^p: 1 a wetted toe, towards 0.4 a wall that leans over the plate."""
    return np.asarray(1 - 0.6 * overlap_mm / (overlap_mm + 0.3))


def _uneven(count: int, cells: int, sigma: float, seed: int, name: str) -> Array:
    """Factor around 1 along the seam, correlated over `cells`, shape (count,)."""
    noise = np.convolve(
        generator(seed, "bead", name).standard_normal(count), np.hanning(cells + 2)[1:-1], mode="same"
    )
    return np.asarray(np.clip(1 + sigma * noise / np.sqrt(0.375 * cells), 0.25, 2.0))


def _hole(sink: Array, width: Array, seed: int) -> Array:
    """Half width of the hole that a sagging pool tears, ragged along its edge."""
    half = width * np.clip(0.36 * (sink - HOLE_FROM_SINK_MM), 0, 0.40) * _uneven(len(sink), 20, 0.12, seed, "hole")
    return np.where(half > 0.12, half, 0.0)


def _pores(x: Array, oxide: Array, centre: Array, width: Array, seed: int) -> Array:
    """Pores that broke the surface, (n, 3): x, y, radius mm. The draws are the seed's; the gas decides which open."""
    rng = generator(seed, "bead", "pores")
    where, side, chance = rng.uniform(size=120), np.clip(rng.normal(0, 0.22, 120), -0.38, 0.38), rng.uniform(size=120)
    radius = rng.uniform(0.14, 0.42, 120)
    cell = (where * (len(x) - 1)).astype(int)
    found = np.stack([x[cell], centre[cell] + side * width[cell], radius], axis=1)
    return np.asarray(found[chance < 0.8 * oxide[cell] - 0.02])


def _cracks(x: float, y: float, width: float, missing_s: float, seed: int) -> tuple[Array, ...]:
    """A star of short hot cracks in a crater that shrank without fill; longer the more of the fill is missing."""
    if missing_s <= 0:
        return ()
    rng = generator(seed, "bead", "crack")
    arms = int(rng.integers(*CRACK_ARMS))
    reach = min((0.7 + 11.0 * missing_s) * rng.uniform(0.85, 1.15), 0.8 * width)
    first = rng.uniform(0, 2 * np.pi)
    out = []
    for k in range(arms):
        steps = np.linspace(0, 1, 7)
        heading = first + 2 * np.pi * (k + rng.uniform(-0.25, 0.25)) / arms + np.cumsum(rng.normal(0, 0.22, 7))
        step = reach * (1.0 if k == 0 else rng.uniform(0.5, 0.95)) * np.diff(steps)
        line = np.cumsum(step[:, np.newaxis] * np.stack([np.cos(heading), np.sin(heading)], axis=1)[1:], axis=0)
        out.append(np.concatenate([[[0.0, 0.0]], line]) + np.array([x, y]))
    return tuple(out)


def _width(program: Program, state: Latents, heat: Array, volts: Array, index: NDArray[np.int_], cells: int) -> Array:
    """Bead width grows with √(UI/v) and with U; warm plates wet better."""
    nominal = program.voltage_v
    raw = 0.31 * np.sqrt(heat) * np.clip(volts / nominal, 0.5, 1.6) ** 0.9
    width = _pool(raw * state.width_factor[index], cells) * (1 + 3e-4 * (state.plate_c - 85.0))
    # The first pool is cold and narrow: it takes a few mm to open.
    x = np.arange(len(width)) * BEAD_STEP_MM
    return np.asarray(width * (1 - 0.18 * np.exp(-x / 2.0)))
