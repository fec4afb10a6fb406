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

__all__ = ["AUDIO_HZ", "PRE_FLOW_S", "arc_pressure", "render_sound"]

AUDIO_HZ = 48_000.0
PRE_FLOW_S = 0.45
"""Gas flows this long before the arc, and to the end of the tail after it."""
SPEED_OF_SOUND_M_S = 343.0
EFFICIENCY: Mapping[Transfer, float] = {"short_circuit": 1.0, "globular": 2.9, "spray": 5.9, "pulsed": 1.0}
"""Pressure per dP/dt relative to short-circuit: how strongly a mode's power changes couple to the plasma column.

Set so that the RMS of the three modes stand as 80 : 133 : 39, the published ratio; the model's single column has no
droplet-scale gas dynamics of its own.
"""
COUNTS_PER_W = 18.0
BLOW_COUNTS_PER_MM = 700.0
FULL_SCALE = 32767.0

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
    blow[lead : lead + n_arc] = np.interp(np.arange(n_arc) / AUDIO_HZ, grid, state.sink_mm)
    return np.asarray((90.0 * (flow / program.gas_l_min) ** 2 + BLOW_COUNTS_PER_MM * blow) * band)


def _reverberate(dry: Array, session: Session) -> Array:
    """Direct sound plus the booth's decaying echoes of the session's geometry."""
    from scipy.signal import oaconvolve

    rng = np.random.default_rng(session.lens_seed)
    n = round(0.12 * AUDIO_HZ)
    echo = rng.standard_normal(n) * np.exp(-np.arange(n) / AUDIO_HZ / 0.03) * 0.018
    echo[: round(0.003 * AUDIO_HZ)] = 0.0
    return np.asarray(dry + oaconvolve(dry, echo)[: len(dry)])


def _hall(session: Session, seed: int, total: int) -> Array:
    """Fans, broadband floor and, in some sessions, somebody else's arc."""
    from scipy.signal import lfilter

    rng = generator(seed, "sound", "hall")
    t = np.arange(total) / AUDIO_HZ
    hum = sum(
        40.0 / k * np.sin(2 * np.pi * k * session.hum_hz * t + phase)
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
