"""Arc and droplet transfer: a 100 kHz electrical model of wire, arc, pool and power source.

Takes the latent state, gives current and voltage as they are and as the welder's 10 kHz sampler sees them.
A wire melts off at αI + βL_eI² against its feed; the molten drop hangs from it; when drop and pool meet, the arc
shorts, current climbs until the neck ruptures; above the transition current drops detach freely.
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import Program, Transfer
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

ARC_FALL_V = 14.6
ARC_V_PER_MM = 1.15
ARC_OHM = 0.019
POOL_RAD_S, POOL_DAMPING = 2 * np.pi * 45.0, 0.25
BASE_NOISE_V = 0.25
POOL_MM: Mapping[Transfer, float] = {"short_circuit": 0.16, "globular": 0.60, "spray": 0.12, "pulsed": 0.12}
"""Standard deviation of the distance pool to drop; globular drops are large, and pushed about by their own arc."""
WANDER_V: Mapping[Transfer, float] = {"short_circuit": 0.3, "globular": 1.1, "spray": 0.25, "pulsed": 0.25}
"""Slow wander of the arc root; a globular drop is pushed about by its own arc."""
PINCH_S: Mapping[Transfer, float] = {"short_circuit": 12e-3, "globular": 12e-3, "spray": 12e-3, "pulsed": 0.9e-3}
"""How long a current must flow to neck the drop: the small drop of a pulse goes within it."""
BREAK_RATE_HZ = 60.0
BREAKS_HZ_PER_MOHM = 6.0
BREAK_FREE_MOHM = 0.5
"""A tip that flickers more than this loses contact now and then; at most `BREAK_RATE_HZ` times a second."""

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
    pulses_s: Array
    """When each pulse of a pulsed program begins; empty for the others."""


@functools.cache
def _kernel() -> ModuleType:
    """The compiled integrator; numba is loaded on first use only."""
    from drivers.sim import arc_kernel

    return arc_kernel


def simulate_arc(program: Program, session: Session, state: Latents, seed: int) -> ArcTrace:
    """Integrate one seam. Stochastic draws depend on seed alone, so a good twin meets the same ones."""
    n = round(state.arc_s * ARC_HZ)
    per = round(ARC_HZ / LATENT_HZ)
    kernel = _kernel()
    shield = state.shielding()
    fall_v = _slow(ARC_FALL_V + 1.8 * (1 - shield) + 0.08 * (session.co2_percent - 20.0), per, n)
    pool_mm = POOL_MM[program.transfer] + 0.10 * (1 - shield) + 0.08 * state.hydrogen + 0.05 * state.gap_mm
    kick = pool_mm * np.sqrt(4 * POOL_DAMPING * POOL_RAD_S**3 / ARC_HZ)
    seam = kernel.Seam(
        wire_mm_s=state.wire_mm_s,
        ctwd_mm=state.ctwd_mm - 0.12 * np.abs(state.lateral_mm) - 0.25 * state.sidewall_mm,
        sink_mm=state.sink_mm,
        source_v=_source_v(program, state),
        lead_ohm=state.lead_mohm * 1e-3,
        pulse_hz=_pulse_hz(program, state),
        contact_ohm=_contact_ohm(state, seed, n, per),
        contact_v=_contact_breaks(state, seed, n, per),
        fall_v=fall_v + _arc_noise(program, state, shield, seed, n, per),
        pool_kick=_slow(kick, per, n) * generator(seed, "arc", "pool").standard_normal(n),
        neck_draws=generator(seed, "arc", "neck").lognormal(0.0, 0.22, 8192),
        drop_draws=generator(seed, "arc", "drop").lognormal(0.0, 0.13, 8192),
        hole_draws=generator(seed, "arc", "hole").uniform(size=8192),
    )
    trace = kernel.integrate(seam, _source(program, session), n, per, 1 / ARC_HZ)
    return ArcTrace(
        current_a=trace.current_a,
        voltage_v=trace.voltage_v,
        power_w=trace.current_a * trace.arc_v,
        shorted=trace.shorted,
        ruptures_s=trace.ruptures / ARC_HZ,
        detachments_s=trace.detachments / ARC_HZ,
        pulses_s=trace.pulses / ARC_HZ,
    )


def _source(program: Program, session: Session) -> tuple[float, ...]:
    pulse = program.pulse
    source: tuple[float, ...] = _kernel().Source(
        inductance_h=program.inductance_mh * 1e-3,
        ohm=program.source_mohm * 1e-3,
        transition_a=228.0 + 2.2 * (session.co2_percent - 20.0),
        pinch_s=PINCH_S[program.transfer],
        peak_a=pulse.peak_a if pulse else 0.0,
        base_a=pulse.base_a if pulse else 0.0,
        pulse_s=pulse.pulse_ms * 1e-3 if pulse else 1.0,
    )
    return source


def _source_v(program: Program, state: Latents) -> Array:
    """Open-circuit voltage of a constant-voltage source; of a pulsing one the mean terminal voltage that it holds."""
    if program.pulse is None:
        return state.source_v
    return np.asarray(state.source_v - np.minimum(program.source_mohm * 1e-3 * program.current_a, state.source_v))


def _pulse_hz(program: Program, state: Latents) -> Array:
    """The synergic line: pulses in proportion to the wire that the feeder's encoder counts."""
    if program.pulse is None:
        return np.zeros_like(state.motor_mm_s)
    nominal = program.wire_feed_m_min * 1000 / 60
    return np.asarray(program.pulse.frequency_hz * np.clip(state.motor_mm_s / nominal, 0.3, 1.3))


def _slow(values: Array, per: int, n: int) -> Array:
    return np.repeat(values, per)[:n]


def _coloured(seed: int, name: str, n: int, tau_s: float) -> Array:
    """Unit-variance noise of two equal poles at `tau_s`: smooth, as a plasma with heat capacity is."""
    from scipy.signal import lfilter

    # Twenty values a time constant are enough; between them a straight line.
    stride = max(int(tau_s * ARC_HZ / 20), 1)
    count = n // stride + 2
    rho = float(np.exp(-stride / (ARC_HZ * tau_s)))
    white = generator(seed, "arc", name).standard_normal(count)
    # Variance of white noise through 1/(1 − ρz⁻¹)² is (1 + ρ²)/(1 − ρ²)³.
    gain = np.sqrt((1 - rho * rho) ** 3 / (1 + rho * rho))
    coarse = lfilter([gain], [1.0, -2 * rho, rho * rho], white)
    if stride == 1:
        return np.asarray(coarse[:n])
    return np.asarray(np.interp(np.arange(n) / stride, np.arange(count), coarse))


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


def _contact_breaks(state: Latents, seed: int, n: int, per: int) -> Array:
    """Voltage over a tip that loses contact for a moment: a tiny arc inside it, at times the end of the other one."""
    rng = generator(seed, "arc", "breaks")
    count = rng.poisson(BREAK_RATE_HZ * n / ARC_HZ)
    start = rng.integers(0, n, count)
    steps = (rng.uniform(0.3e-3, 1.2e-3, count) * ARC_HZ).astype(int)
    volts = 9.0 + rng.exponential(5.0, count)
    chance = rng.uniform(size=count) * BREAK_RATE_HZ
    flicker = state.tip_noise_mohm[np.minimum(start // per, len(state.tip_noise_mohm) - 1)]
    active = chance < BREAKS_HZ_PER_MOHM * (flicker - BREAK_FREE_MOHM)
    out = np.zeros(n)
    for at, size, height in zip(start[active], steps[active], volts[active], strict=True):
        out[at : at + size] = height
    return out


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
