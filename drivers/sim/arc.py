"""Arc and droplet transfer: a 100 kHz electrical model of wire, arc, pool and power source.

Takes the latent state, gives current and voltage as they are and as the welder's 10 kHz sampler sees them.
A wire melts off at αI + βL_eI² against its feed; the molten drop hangs from it; when drop and pool meet, the arc
shorts, current climbs until the neck ruptures; above the transition current drops detach freely.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import WIRE_AREA_MM2, Program, Transfer
from drivers.sim.randomness import generator
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["ARC_HZ", "WELDER_HZ", "WELDER_SCALE", "ArcTrace", "sample_welder", "simulate_arc"]

ARC_HZ = 100_000.0
WELDER_HZ = 10_000.0
WELDER_SCALE = (0.02, 0.005, 0.001)
"""A, V and m/min per count."""
OPEN_CIRCUIT_S = 0.06
"""The source is on and the wire runs in for this long before it touches the plate."""

ALPHA = 0.27
"""Melting by the arc, mm/(A·s)."""
BETA = 5.9e-5
"""Melting by resistance, mm/(A²·s) per mm of extension."""
ARC_FALL_V = 14.6
ARC_V_PER_MM = 1.15
ARC_OHM = 0.019
EXTENSION_OHM_PER_MM = 5.5e-4
BASE_NOISE_V = 0.25
POOL_MM: dict[Transfer, float] = {"short_circuit": 0.16, "globular": 0.60, "spray": 0.12}
"""Standard deviation of the distance pool to drop; globular drops are large, and pushed about by their own arc."""
WANDER_V: dict[Transfer, float] = {"short_circuit": 0.3, "globular": 1.1, "spray": 0.25}
"""Slow wander of the arc root; a globular drop is pushed about by its own arc."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ArcTrace:
    """Truth of the electrical side at `ARC_HZ`, shape (n,) each, from arc-on to arc-off.

    `transfers_s`: times of short-circuit ruptures and free drop detachments; `shorted`: 1 while a bridge stands.
    """

    current_a: Array
    voltage_v: Array
    power_w: Array
    shorted: NDArray[np.uint8]
    ruptures_s: Array
    detachments_s: Array


@functools.cache
def _kernel() -> Callable[..., Any]:
    """The compiled integrator; numba is loaded on first use only."""
    from drivers.sim.arc_kernel import integrate

    return integrate


def simulate_arc(program: Program, session: Session, state: Latents, seed: int) -> ArcTrace:
    """Integrate one seam. Stochastic draws depend on seed alone, so a good twin meets the same ones."""
    n = round(state.arc_s * ARC_HZ)
    per = round(ARC_HZ / LATENT_HZ)
    shield = state.shielding()
    fall_v = _slow(ARC_FALL_V + 1.8 * (1 - shield) + 0.08 * (session.co2_percent - 20.0), per, n)
    resistance = program.source_mohm + state.lead_mohm
    current, voltage, arc_v, shorted, ruptures, detachments = _kernel()(
        n,
        1 / ARC_HZ,
        per,
        state.wire_mm_s,
        state.ctwd_mm - 0.12 * np.abs(state.lateral_mm) - 0.25 * state.sidewall_mm,
        state.sink_mm,
        state.source_v,
        resistance * 1e-3,
        program.source_mohm * 1e-3,
        _contact_ohm(state, seed, n, per),
        fall_v + _arc_noise(program, state, shield, seed, n, per),
        generator(seed, "arc", "pool").standard_normal(n),
        POOL_MM[program.transfer] + 0.10 * (1 - shield) + 0.08 * state.hydrogen + 0.05 * state.gap_mm,
        generator(seed, "arc", "neck").lognormal(0.0, 0.22, 8192),
        generator(seed, "arc", "drop").lognormal(0.0, 0.13, 8192),
        program.inductance_mh * 1e-3,
        228.0 + 2.2 * (session.co2_percent - 20.0),
        np.array([ALPHA, BETA, ARC_V_PER_MM, ARC_OHM, EXTENSION_OHM_PER_MM, WIRE_AREA_MM2]),
    )
    return ArcTrace(current, voltage, current * arc_v, shorted, ruptures / ARC_HZ, detachments / ARC_HZ)


def _slow(values: Array, per: int, n: int) -> Array:
    return np.repeat(values, per)[:n]


def _coloured(seed: int, name: str, n: int, tau_s: float) -> Array:
    """Unit-variance noise of two equal poles at `tau_s`: smooth, as a plasma with heat capacity is."""
    from scipy.signal import lfilter

    rho = float(np.exp(-1 / (ARC_HZ * tau_s)))
    white = generator(seed, "arc", name).standard_normal(n)
    # Variance of white noise through 1/(1 − ρz⁻¹)² is (1 + ρ²)/(1 − ρ²)³.
    gain = np.sqrt((1 - rho * rho) ** 3 / (1 + rho * rho))
    return np.asarray(lfilter([gain], [1.0, -2 * rho, rho * rho], white))


def _arc_noise(program: Program, state: Latents, shield: Array, seed: int, n: int, per: int) -> Array:
    """Restless arc root: more without gas, on side walls and over escaping hydrogen."""
    sigma = BASE_NOISE_V + state.arc_noise_v + 0.9 * (1 - shield)
    noise = _slow(sigma, per, n) * _coloured(seed, "root", n, 3e-4)
    noise += WANDER_V[program.transfer] * _coloured(seed, "wander", n, 12e-3)
    # Gas bursts through the pool: short, one-sided rises of the arc voltage.
    rng = generator(seed, "arc", "bursts")
    count = rng.poisson(40 * n / ARC_HZ)
    start = rng.integers(0, n, count)
    strength = rng.exponential(1.0, count)
    chance = rng.uniform(size=count)
    active = chance < np.minimum(state.hydrogen[np.minimum(start // per, len(state.hydrogen) - 1)], 1.0)
    shape = 2.2 * np.hanning(600)
    for at, size in zip(start[active], strength[active], strict=True):
        stop = min(at + len(shape), n)
        noise[at:stop] += size * shape[: stop - at]
    return noise


def _contact_ohm(state: Latents, seed: int, n: int, per: int) -> Array:
    """Wire to contact tip: a worn tip makes and breaks contact within milliseconds."""
    flicker = _coloured(seed, "tip", n, 2e-3) ** 2
    return (_slow(state.tip_mohm, per, n) + _slow(state.tip_noise_mohm, per, n) * flicker) * 1e-3


def sample_welder(
    program: Program, session: Session, state: Latents, trace: ArcTrace, seed: int, lead_s: float, tail_s: float
) -> NDArray[np.int16]:
    """What the welder's sampler gives from `lead_s` before arc-on: (n, 3) int16; physical = raw * `WELDER_SCALE`."""
    from scipy.signal import resample_poly

    down = round(ARC_HZ / WELDER_HZ)
    lead, tail = round(lead_s * WELDER_HZ), round(tail_s * WELDER_HZ)
    current = resample_poly(trace.current_a, 1, down)
    voltage = resample_poly(trace.voltage_v, 1, down)
    n = len(current)
    out = np.zeros((lead + n + tail, 3))
    out[lead : lead + n, 0] = current
    out[lead : lead + n, 1] = voltage
    run_in = round(OPEN_CIRCUIT_S * WELDER_HZ)
    out[lead - run_in : lead, 1] = 1.3 * program.voltage_v
    # The inductor empties and the source lets go within a few milliseconds of arc-off.
    decay = np.exp(-np.arange(tail) / WELDER_HZ / 1.2e-3)
    out[lead + n :, 0] = current[-1] * decay
    out[lead + n :, 1] = voltage[-1] * np.exp(-np.arange(tail) / WELDER_HZ / 4e-3)
    motor = np.interp(np.arange(n) / WELDER_HZ, np.arange(len(state.motor_mm_s)) / LATENT_HZ, state.motor_mm_s)
    out[lead - run_in : lead, 2] = 0.5 * motor[0] * 0.06
    out[lead : lead + n, 2] = motor * 0.06
    out[lead + n :, 2] = motor[-1] * 0.06 * np.exp(-np.arange(tail) / WELDER_HZ / 0.02)
    out[:, :2] *= session.current_gain, session.voltage_gain
    noise = generator(seed, "welder", "noise").standard_normal(out.shape)
    out += noise * (0.6, 0.05, 0.012)
    return np.clip(np.rint(out / WELDER_SCALE), -32768, 32767).astype(np.int16)
