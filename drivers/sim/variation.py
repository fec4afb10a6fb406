"""Latent state of one seam along time: what the process really does, before any sensor looks at it.

Per-seam offsets and AR(1) wander around the program's set-points (virtual-cell.md, "Normal variation"); faults
then act on these arrays. Arc, sound, images and bead are all computed from them.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.sessions import Session

__all__ = ["CRATER_EARLY_S", "CRATER_FILL_S", "LATENT_HZ", "Latents", "ar1", "arc_time_s", "draw_latents"]

LATENT_HZ = 1000.0
CRATER_FILL_S = 0.25
"""At the seam's end the robot stands still for this long while wire and voltage ramp down."""

CRATER_EARLY_S = 0.03
"""The source stops up to this much before its crater fill is over: controllers look at their inputs so often."""

Array = NDArray[np.float64]


@dataclasses.dataclass(slots=True, eq=False)
class Latents:
    """Arrays of shape (n,) at `LATENT_HZ` from arc-on to arc-off; one scalar per seam where it says so."""

    position_mm: Array
    travel_mm_s: Array
    motor_mm_s: Array
    """Wire speed at the feeder's encoder; `wire_mm_s` is what reaches the arc."""
    wire_mm_s: Array
    ctwd_mm: Array
    lateral_mm: Array
    gap_mm: Array
    source_v: Array
    lead_mohm: Array
    meter_l_min: Array
    """Gas through the flow meter; `nozzle_l_min` is what shields the pool."""
    nozzle_l_min: Array
    tip_mohm: Array
    tip_noise_mohm: Array
    arc_noise_v: Array
    arc_length_extra_mm: Array
    """Arc lengthening from torch angle: raises voltage and digs the toe."""
    sidewall_mm: Array
    """Offset of the arc root into the joint's side wall below the cap."""
    hydrogen: Array
    """Gas burst activity of sub-surface pores, 0–1."""
    sink_mm: Array
    """Pool surface below its normal level (burn-through)."""
    overlap_mm: Array
    """Metal rolled over the toe without fusing to the plate."""
    crater_fill_missing_s: float
    """How much of the crater fill the source leaves out at the seam's end."""
    plate_c: float
    width_factor: Array
    reinforcement_factor: Array

    @property
    def arc_s(self) -> float:
        """Arc time of the seam."""
        return len(self.position_mm) / LATENT_HZ

    def shielding(self) -> Array:
        """Quality of the gas shield 0–1: an 80/20 mix stays sound down to about 5 L/min at the nozzle."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.nozzle_l_min - 4.6) / 0.9)))


def ar1(count: int, tau_s: float, sigma: float, rng: np.random.Generator) -> Array:
    """Stationary AR(1) of standard deviation `sigma` and correlation time `tau_s`, shape (count,).

    Drawn at 50 Hz and interpolated: nothing mechanical in a robot cell moves faster.
    """
    step = int(LATENT_HZ / 50)
    coarse = count // step + 2
    rho = float(np.exp(-1 / (50 * tau_s)))
    noise = rng.standard_normal(coarse) * sigma
    noise[1:] *= np.sqrt(1 - rho * rho)
    value = np.empty(coarse)
    value[0] = noise[0]
    for k in range(1, coarse):
        value[k] = rho * value[k - 1] + noise[k]
    return np.interp(np.arange(count) / step, np.arange(coarse), value)


def _around(count: int, sigma: float, seed: int, name: str, tau_s: float = 0.8) -> Array:
    """Per-seam offset plus wander along it; together of standard deviation `sigma`."""
    rng = generator(seed, "variation", name)
    return rng.standard_normal() * sigma * 0.8 + ar1(count, tau_s, sigma * 0.6, rng)


def draw_latents(program: Program, session: Session, seed: int) -> Latents:
    """Latent state of a good seam."""
    travel, position = _travel(program, seed)
    n = len(position)
    wire = program.wire_feed_m_min * 1000 / 60 * (1 + np.clip(_around(n, 0.03, seed, "wire"), -0.12, 0.12))
    source = np.full(n, program.voltage_v + program.source_mohm * 1e-3 * program.current_a)
    source *= 1 + 0.004 * generator(seed, "variation", "source").standard_normal()
    plate_c = float(generator(seed, "variation", "plate").uniform(20, 150))
    meter = program.gas_l_min * (1 + 0.02 * generator(seed, "variation", "gas").standard_normal()) * np.ones(n)
    ramp = _crater_ramp(n)
    wire *= 0.35 + 0.65 * ramp
    source *= 0.8 + 0.2 * ramp
    early = round(generator(seed, "variation", "crater").uniform(0, CRATER_EARLY_S) * LATENT_HZ)
    wire[n - early :] = source[n - early :] = 0.0
    zeros = np.zeros(n)
    return Latents(
        position_mm=position,
        travel_mm_s=travel,
        motor_mm_s=wire.copy(),
        wire_mm_s=wire,
        ctwd_mm=program.ctwd_mm + np.clip(_around(n, 1.5, seed, "ctwd"), -4, 4),
        lateral_mm=_around(n, 0.3, seed, "lateral"),
        gap_mm=_gap(program, n, seed),
        source_v=source,
        lead_mohm=np.full(n, 2.0),
        meter_l_min=meter,
        nozzle_l_min=meter.copy(),
        tip_mohm=np.full(n, session.tip_mohm),
        tip_noise_mohm=np.full(n, session.tip_noise_mohm),
        arc_noise_v=zeros.copy(),
        arc_length_extra_mm=zeros.copy(),
        sidewall_mm=zeros.copy(),
        hydrogen=zeros.copy(),
        sink_mm=zeros.copy(),
        overlap_mm=zeros.copy(),
        crater_fill_missing_s=early / LATENT_HZ,
        plate_c=plate_c,
        width_factor=1 + _around(n, 0.012, seed, "wetting"),
        reinforcement_factor=1 + _around(n, 0.008, seed, "recovery"),
    )


def _gap(program: Program, n: int, seed: int) -> Array:
    """Uniform over 0 … `gap_max_mm` in all, mostly from part to part and a little along the seam."""
    from scipy.special import ndtr

    rng = generator(seed, "variation", "gap")
    z = rng.standard_normal() * 0.98 + ar1(n, 1.0, 0.2, rng)
    return np.asarray(program.gap_max_mm * ndtr(z))


def arc_time_s(program: Program, seed: int) -> float:
    """Arc time of the seam with that seed, crater fill and all: it follows from the travel alone."""
    return len(_travel(program, seed)[0]) / LATENT_HZ


def _travel(program: Program, seed: int) -> tuple[Array, Array]:
    """Speed, mm/s, and position, mm, until the end of the crater fill, where the robot stands still."""
    longest = int(program.arc_s * 1.3 * LATENT_HZ)
    travel = program.travel_mm_s * (1 + np.clip(_around(longest, 0.03, seed, "travel"), -0.12, 0.12))
    position = np.concatenate([[0.0], np.cumsum(travel[:-1]) / LATENT_HZ])
    arrived = int(np.searchsorted(position, program.length_mm))
    dwell = round(CRATER_FILL_S * LATENT_HZ)
    still = np.full(dwell, program.length_mm)
    return np.concatenate([travel[:arrived], np.zeros(dwell)]), np.concatenate([position[:arrived], still])


def _crater_ramp(n: int) -> Array:
    """1 along the seam, falling to 0 over the crater fill."""
    left_s = (n - np.arange(n)) / LATENT_HZ
    return np.clip(left_s / CRATER_FILL_S, 0.0, 1.0)
