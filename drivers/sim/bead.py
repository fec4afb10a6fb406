"""The bead: cross-section along the seam, its ripples and its height map, from the latent state.

Deposited area = η·πd²/4·WFS/v; the pool's length smears it backwards along the seam, so that volume is conserved to
the last mm³; what falls through a gap is kept as `below_mm3`.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import WIRE_AREA_MM2, Program
from drivers.sim.randomness import generator
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["BEAD_STEP_MM", "DEPOSITION", "Bead", "bead_outline", "form_bead", "height_map"]

BEAD_STEP_MM = 0.1
DEPOSITION = 0.955
"""Share of the wire that ends up in the bead; the rest is spatter and fume."""
ALPHA_I, BETA_I = 0.27, 5.9e-5

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
    height_mm: Array
    penetration_mm: Array
    centre_mm: Array
    sink_mm: Array
    undercut_mm: Array
    oxide: Array
    """Lack of shielding 0–1: grey skin and pores."""
    ripple_mm: float
    fed_mm3: float

    def summary(self) -> dict[str, float]:
        """Means along the seam without start and crater."""
        inner = slice(len(self.x_mm) // 8, -len(self.x_mm) // 8)
        return {
            "width_mm": float(self.width_mm[inner].mean()),
            "height_mm": float(self.height_mm[inner].mean()),
            "area_mm2": float(self.area_mm2[inner].mean()),
            "penetration_mm": float(self.penetration_mm[inner].mean()),
        }


def quasi_static_current(state: Latents) -> Array:
    """Current that melts the wire as fast as it is fed: root of αI + βL_eI² = WFS."""
    extension = np.maximum(state.ctwd_mm - 5.0, 2.0)
    b = BETA_I * extension
    return np.asarray((-ALPHA_I + np.sqrt(ALPHA_I**2 + 4 * b * state.wire_mm_s)) / (2 * b))


def _pool(values: Array, cells: int) -> Array:
    """Average over the pool behind the arc: what solidifies at x was fed while the arc stood at x … x + pool."""
    padded = np.concatenate([values, np.full(cells - 1, values[-1])])
    total = np.concatenate([[0.0], np.cumsum(padded)])
    return np.asarray((total[cells:] - total[:-cells]) / cells)


def _deposit(values: Array, cells: int) -> Array:
    """Spread what is fed at x over the pool behind it; what would land before the start piles up there."""
    spread = np.convolve(values, np.full(cells, 1.0 / cells))
    out = spread[cells - 1 :].copy()
    lump = spread[: cells - 1]
    out[: cells - 1] += lump[::-1]
    return np.asarray(out)


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
    # From the set-points, not from this seam's heat: a late fault must not change metal that froze before it.
    nominal_heat = program.voltage_v * program.current_a / program.travel_mm_s
    cells = max(3, round((2.0 + 0.011 * nominal_heat) / BEAD_STEP_MM))

    metal = _metal(program, state, x, cells)

    gap = _pool(state.gap_mm[index], cells)
    sink = _pool(state.sink_mm[index], max(3, cells // 3))
    below = metal * np.clip(sink / 1.9, 0, 0.92)
    filled = np.minimum(gap * program.plate_mm * program.gap_share, 0.9 * (metal - below))
    area = metal - below - filled

    shield = _pool(state.shielding()[index], cells)
    width = _width(program, state, heat, volts, index, cells) * (1 - 0.06 * (1 - shield))
    height = 1.5 * area / width * _pool(state.reinforcement_factor[index], cells)
    arc_extra = _pool(state.arc_length_extra_mm[index], cells)
    toe = generator(seed, "bead", "toe").uniform(0.8, 1.2)
    return Bead(
        x_mm=x,
        area_mm2=area,
        filled_mm2=filled,
        below_mm2=below,
        width_mm=width,
        height_mm=height,
        penetration_mm=_pool(2.1 * (current / 200) ** 1.3 * (6 / travel) ** 0.3 - 0.15 * gap, cells),
        centre_mm=_pool(state.lateral_mm[index], cells),
        sink_mm=sink,
        undercut_mm=0.42 * arc_extra * toe,
        oxide=1 - shield,
        ripple_mm=float(np.clip(program.travel_mm_s / 8.5, 0.55, 1.3)),
        fed_mm3=float(state.wire_mm_s.sum() / LATENT_HZ * WIRE_AREA_MM2),
    )


def _metal(program: Program, state: Latents, x: Array, cells: int) -> Array:
    """Cross-section of deposited metal, mm², from the wire's own time integral: exact however travel wanders."""
    fed = np.concatenate([[0.0], np.cumsum(state.wire_mm_s) / LATENT_HZ]) * WIRE_AREA_MM2
    edges = np.append(x, program.length_mm)
    at = np.interp(edges, np.append(state.position_mm, program.length_mm), fed)
    at[-1] = fed[-1]
    return _deposit(DEPOSITION * np.diff(at) / np.diff(edges), cells)


def _width(program: Program, state: Latents, heat: Array, volts: Array, index: NDArray[np.int_], cells: int) -> Array:
    """Bead width grows with √(UI/v) and with U; warm plates wet better."""
    nominal = program.voltage_v
    raw = 0.265 * np.sqrt(heat) * np.clip(volts / nominal, 0.5, 1.6) ** 0.9
    width = _pool(raw * state.width_factor[index], cells) * (1 + 3e-4 * (state.plate_c - 85.0))
    # The first pool is cold and narrow: it takes a few mm to open.
    x = np.arange(len(width)) * BEAD_STEP_MM
    return np.asarray(width * (1 - 0.18 * np.exp(-x / 2.0)))


def bead_outline(bead: Bead, x_mm: Array) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Half width and centre line, mm, and end taper 0–1 at each x, shape (len(x),); half an ellipse at either end."""
    half_start, half_end = _half_ends(bead)
    from_start = x_mm / half_start + 0.35
    from_end = (bead.x_mm[-1] - x_mm) / half_end + 0.35
    reach = np.clip(np.minimum(from_start, from_end), 0, 1)
    taper = np.sqrt(1 - (1 - reach) ** 2)
    half = np.maximum(0.5 * np.interp(x_mm, bead.x_mm, bead.width_mm) * taper, 1e-3)
    centre = np.interp(x_mm, bead.x_mm, bead.centre_mm)
    return half.astype(np.float32), centre.astype(np.float32), taper.astype(np.float32)


def _half_ends(bead: Bead) -> tuple[float, float]:
    """Half widths at start and crater, mm."""
    cells = round(4.0 / BEAD_STEP_MM)
    return 0.5 * float(bead.width_mm[:cells].mean()), 0.5 * float(bead.width_mm[-cells:].mean())


def height_map(bead: Bead, x_mm: Array, y_mm: Array, seed: int) -> NDArray[np.float32]:
    """Height above the plate, mm, shape (len(y), len(x)); the seam runs from x = 0 along y = 0."""
    half, centre, taper = bead_outline(bead, x_mm)
    height, sink, undercut = (
        np.interp(x_mm, bead.x_mm, values).astype(np.float32) * taper
        for values in (bead.height_mm, bead.sink_mm, bead.undercut_mm)
    )
    _, half_end = _half_ends(bead)
    y = (y_mm[:, np.newaxis] - centre).astype(np.float32)
    u = y / half
    cap = np.clip(1 - u * u, 0, None)
    rng = generator(seed, "bead", "ripples")
    z = height * cap
    z += _ripples(bead, x_mm, y, u, rng) * (cap > 0)
    z -= 0.45 * sink * np.exp(-((u * 1.6) ** 2)) * 2.0
    z -= undercut * np.exp(-(((np.abs(u) - 1.04) / 0.09) ** 2))
    crater = np.exp(-((x_mm - bead.x_mm[-1] + 0.4 * half_end) ** 2) / (0.5 * half_end) ** 2).astype(np.float32)
    z -= 0.35 * height * crater * np.exp(-((u / 0.55) ** 2))
    return np.asarray(z, np.float32)


def _ripples(
    bead: Bead, x_mm: Array, y: NDArray[np.float32], u: NDArray[np.float32], rng: np.random.Generator
) -> Array:
    """Chevrons left by the solidifying pool's edge: curved, a little irregular."""
    cells = len(bead.x_mm)
    wander = np.interp(x_mm, bead.x_mm, np.cumsum(rng.standard_normal(cells) * 0.07)).astype(np.float32)
    phase = (2 * np.pi / bead.ripple_mm) * (x_mm.astype(np.float32) - 1.5 * u**2) + wander
    along = np.clip(1 + 0.4 * _smooth(rng.standard_normal(cells), 12), 0.3, 2.0)
    depth = 0.04 * np.interp(x_mm, bead.x_mm, along).astype(np.float32)
    # Steep towards the crater, flat behind: each freeze line laps over the one before.
    wave = np.sin(phase) + 0.35 * np.sin(2 * phase + 0.8)
    grain = 0.006 * rng.standard_normal(u.shape, dtype=np.float32)
    return np.asarray((depth * wave + grain) * np.clip(1.05 - u * u, 0, None))


def _smooth(values: Array, cells: int) -> Array:
    return np.asarray(np.convolve(values, np.ones(cells) / np.sqrt(cells), mode="same"))
