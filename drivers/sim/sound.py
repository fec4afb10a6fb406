"""The microphone: what the arc, the gas and the hall sound like, 48 kHz.

Sound pressure of an arc follows the change of its power, d(U·I)/dt, delayed by the way to the microphone; gas hiss
follows the flow that really leaves the nozzle; the booth adds reverberation, fans and at times a neighbour's arc.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ArcTrace
from drivers.sim.programs import Program, Transfer
from drivers.sim.randomness import generator
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["AUDIO_HZ", "PRE_FLOW_S", "arc_pressure", "gain_control", "render_sound"]

AUDIO_HZ = 48_000.0
PRE_FLOW_S = 0.45
"""Gas flows this long before the arc, and to the end of the tail after it."""
SPEED_OF_SOUND_M_S = 343.0
EFFICIENCY: Mapping[Transfer, float] = {"short_circuit": 1.0, "globular": 2.9, "spray": 5.35, "pulsed": 1.0}
"""Pressure per dP/dt relative to short-circuit: how strongly a mode's power changes couple to the plasma column.

Set so that the RMS of the three modes, over their programs, stand as 80 : 133 : 39, the published ratio; the model's
single column has no droplet-scale gas dynamics of its own. A pulsed arc's sound is almost all its source's doing,
d(U·I)/dt of the pulses, which the model has in full, as it has the ruptures of short circuits: the same 1.
"""
COUNTS_PER_W = 18.0
BLOW_COUNTS = 1900.0
"""Hiss of plasma and gas through a hole whose pool sank by 1 mm; with the root of the sink, as holes open at once."""
FULL_SCALE = 32767.0
AGC_TARGET = 4000.0
AGC_LIMITS = (0.3, 3.0)
AGC_ATTACK_S, AGC_RELEASE_S = 0.05, 1.5
"""A cheap preamplifier: quick to turn down, slow to turn up again."""
BLOCK = 48
"""Samples, 1 ms, in which the gain control works."""
ECHOES = 28
BOOTH_S = 0.03
"""Echoes fall to 1/e in this time."""
BOOTH_ENERGY = 0.19
"""Energy of all echoes against the direct sound's."""

Array = NDArray[np.float64]


def arc_pressure(program: Program, trace: ArcTrace) -> Array:
    """Pressure of the arc alone at `AUDIO_HZ`, counts at one metre's gain, from arc-on to arc-off."""
    from scipy.signal import resample_poly

    power = np.concatenate([[0.0], trace.power_w])
    change = resample_poly(np.diff(power), 12, 25)
    return np.asarray(change * COUNTS_PER_W * EFFICIENCY[program.transfer])


def render_sound(
    program: Program, session: Session, state: Latents, trace: ArcTrace, seed: int, lead_s: float, tail_s: float
) -> NDArray[np.int16]:
    """(n, 1) int16 from `lead_s` before arc-on to `tail_s` after arc-off."""
    lead, tail = round(lead_s * AUDIO_HZ), round(tail_s * AUDIO_HZ)
    arc = arc_pressure(program, trace)
    n_arc = round(state.arc_s * AUDIO_HZ)
    total = lead + n_arc + tail
    dry = np.zeros(total)
    delay = round(session.mic_distance_m / SPEED_OF_SOUND_M_S * AUDIO_HZ)
    arc = arc[:n_arc]
    dry[lead + delay : lead + delay + len(arc)] = arc
    dry += _spatter_ticks(trace, seed, lead + delay, total)
    dry += _hiss(program, state, seed, lead, n_arc, total)
    wet = _reverberate(dry, session) * session.mic_gain * (0.3 / session.mic_distance_m)
    wet += _hall(session, seed, total)
    if session.mic_agc:
        wet *= gain_control(wet)
    # The preamplifier saturates softly before the converter clips.
    loud = FULL_SCALE * np.tanh(wet / FULL_SCALE)
    return np.asarray(np.rint(loud)).astype(np.int16)[:, np.newaxis]


def _spatter_ticks(trace: ArcTrace, seed: int, start: int, total: int) -> Array:
    """Drops that leave the pool click as they hit plate and nozzle."""
    rng = generator(seed, "sound", "spatter")
    out = np.zeros(total)
    times = trace.ruptures_s
    chance = rng.uniform(size=8192)[: len(times)]
    at = start + np.rint((times[chance < 0.25] + 0.004) * AUDIO_HZ).astype(int)
    at = at[at < total]
    out[at] = rng.normal(0, 2500, 8192)[: len(at)]
    return out


def _noise(seed: int, name: str, n: int) -> Array:
    return generator(seed, "sound", name).standard_normal(n, dtype=np.float32).astype(np.float64)


def _hiss(program: Program, state: Latents, seed: int, lead: int, n_arc: int, total: int) -> Array:
    """Turbulent gas: amplitude grows with the square of the flow at the nozzle."""
    from scipy.signal import butter, sosfilt

    flow = np.zeros(total)
    begin = max(lead - round(PRE_FLOW_S * AUDIO_HZ), 0)
    flow[begin:lead] = state.nozzle_l_min[0]
    grid = np.arange(len(state.nozzle_l_min)) / LATENT_HZ
    flow[lead : lead + n_arc] = np.interp(np.arange(n_arc) / AUDIO_HZ, grid, state.nozzle_l_min)
    flow[lead + n_arc :] = state.nozzle_l_min[-1]
    band = sosfilt(butter(2, (2500, 12000), "bandpass", fs=AUDIO_HZ, output="sos"), _noise(seed, "hiss", total))
    # Plasma and gas blow through an open root.
    blow = np.zeros(total)
    blow[lead : lead + n_arc] = np.sqrt(np.interp(np.arange(n_arc) / AUDIO_HZ, grid, state.sink_mm))
    return np.asarray((90.0 * (flow / program.gas_l_min) ** 2 + BLOW_COUNTS * blow) * band)


def gain_control(sound: Array) -> Array:
    """Gain at each sample, shape (n,), set by the sound before it only: a cheap preamplifier's slow automatic one."""
    blocks = len(sound) // BLOCK
    level = np.sqrt(np.mean(np.square(sound[: blocks * BLOCK].reshape(blocks, BLOCK)), axis=1))
    attack, release = (1 - np.exp(-BLOCK / AUDIO_HZ / tau) for tau in (AGC_ATTACK_S, AGC_RELEASE_S))
    # Before the seam it heard the quiet booth for long.
    envelope, gains = 0.0, np.empty(blocks + 2)
    gains[0] = AGC_LIMITS[1]
    for k, heard in enumerate(level.tolist(), 1):
        envelope += (heard - envelope) * (attack if heard > envelope else release)
        gains[k] = min(max(AGC_TARGET / max(envelope, 1.0), AGC_LIMITS[0]), AGC_LIMITS[1])
    gains[-1] = gains[-2]
    # Between the gains known at the ends of the two blocks before.
    late = np.concatenate([gains[:1], gains])
    return np.asarray(np.interp(np.arange(len(sound)) / BLOCK, np.arange(len(late)), late))


def _reverberate(dry: Array, session: Session) -> Array:
    """Direct sound plus the booth's decaying echoes of the session's geometry.

    Summed echo by echo: a convolution by Fourier transform would let rounding errors of a late fault reach back.
    """
    rng = np.random.default_rng(session.lens_seed)
    delays_s = rng.uniform(0.003, 0.12, ECHOES)
    strength = rng.standard_normal(ECHOES) * np.exp(-delays_s / BOOTH_S)
    strength *= np.sqrt(BOOTH_ENERGY / np.square(strength).sum())
    out, echo = dry.copy(), np.empty_like(dry)
    for delay, gain in zip(np.rint(delays_s * AUDIO_HZ).astype(int), strength, strict=True):
        np.multiply(dry[:-delay], gain, out=echo[delay:])
        out[delay:] += echo[delay:]
    return out


def _hall(session: Session, seed: int, total: int) -> Array:
    """Fans, broadband floor and, in some sessions, somebody else's arc."""
    from scipy.signal import lfilter

    rng = generator(seed, "sound", "hall")
    t = np.arange(total) / AUDIO_HZ
    turn = (2 * np.pi * session.hum_hz * t).astype(np.float32)
    hum = sum(
        np.float32(40.0 / k) * np.sin(np.float32(k) * turn + np.float32(phase))
        for k, phase in enumerate(rng.uniform(0, 6, 3), 1)
    )
    floor = lfilter([1.0], [1.0, -0.95], _noise(seed, "floor", total)) * 12.0
    out = np.asarray(hum + floor)
    if session.neighbour_level > 0:
        start, stop = sorted(rng.integers(0, total, 2))
        crackle = _noise(seed, "neighbour", stop - start)
        beat = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 85 * t[: stop - start] + rng.uniform(0, 6)))
        out[start:stop] += crackle * beat * session.neighbour_level * 4000
    return out
