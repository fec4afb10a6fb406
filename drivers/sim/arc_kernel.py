"""The compiled inner loop of `arc.py`: one explicit step of the electrical state each 10 µs.

Apart from `arc.py` because importing it loads numba.

Symbols: `tip` distance solid wire → nominal pool, `drop` molten volume on it, `neck` 1 → 0 while a bridge thins,
`pool` surface displacement, `i` current, `pinch_a` current as the drop's neck feels it.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Seam", "Source", "Trace", "integrate"]

Array = NDArray[np.float64]

ALPHA = 0.27
"""Melting by the arc, mm/(A·s)."""
BETA = 5.9e-5
"""Melting by resistance, mm/(A²·s) per mm of extension."""
WIRE_AREA_MM2 = 1.131
ARC_V_PER_MM = 1.15
ARC_OHM = 0.019
EXTENSION_OHM_PER_MM = 5.5e-4
POOL_RAD_S = 2 * math.pi * 45.0
POOL_DAMPING = 0.25
RIM = 0.7
"""Over a hole the arc burns to its rim: this part of the sink does not lengthen it, but a drop must bridge it all."""
FALL_PER_MM, FALL_MOST = 0.6, 0.72
"""Share of touching drops that fall through the hole instead of bridging to its rim, per mm of sink and at most."""
KEEP_ALIVE_A = 8.0
OUT_A = 0.5
"""No column lives on less."""
OFF_V = 8.0
"""A source set below this gives nothing: no arc can stand on it."""
OPEN_CONTACT_V = 4.0
HOT_S = 2.0e-3
"""An arc that went out strikes again by itself within this time, while its column is still hot."""
IGNITION_V = 9.0
IGNITION_S = 1.5e-4
OPEN_CIRCUIT_V = 62.0
"""What a current-controlled source can put across its choke."""
FOLLOW_S = 6e-5
"""How fast the current loop of a pulsing source closes."""
RATE_PER_V, TRIM_PER_V = 0.10, 0.008
"""Pulse frequency per volt that the arc is too low: at once, and added each period."""
RATE_BAND = (0.6, 1.5)
"""Limits of the pulse frequency about its synergic line."""
MAX_EVENTS = 8192


class Seam(NamedTuple):
    """What source and wire meet: six arrays on the latent grid, four of a value per step, and draws per event."""

    wire_mm_s: Array
    ctwd_mm: Array
    sink_mm: Array
    source_v: Array
    lead_ohm: Array
    pulse_hz: Array
    contact_ohm: Array
    contact_v: Array
    fall_v: Array
    pool_kick: Array
    neck_draws: Array
    drop_draws: Array
    hole_draws: Array


class Source(NamedTuple):
    """The power source. `peak_a` 0: constant voltage; else pulsed, with `source_v` meaning the mean voltage held."""

    inductance_h: float
    ohm: float
    transition_a: float
    pinch_s: float
    peak_a: float
    base_a: float
    pulse_s: float


class Trace(NamedTuple):
    """Current, terminal and arc voltage and shorted, a value per step; event steps."""

    current_a: Array
    voltage_v: Array
    arc_v: Array
    shorted: NDArray[np.uint8]
    ruptures: Array
    detachments: Array
    pulses: Array


@numba.njit(cache=True)
def _drop_reach(volume):  # type: ignore[no-untyped-def]
    """How far a pendant drop hangs below the solid wire, mm."""
    return 0.85 * (6.0 * volume / math.pi) ** (1.0 / 3.0)


@numba.njit(cache=True)
def _drop_limit(pinch_a, transition_a):  # type: ignore[no-untyped-def]
    """Volume at which a free drop detaches, mm³: large below the transition, smaller the harder it is pinched."""
    pinched = 0.72 * min(1.0, 300.0 / max(pinch_a, 1.0))
    return pinched + 6.0 / (1.0 + math.exp((pinch_a - transition_a) / 7.0))


@numba.njit(cache=True)
def _pool_step(pool, pool_v, kick, dt):  # type: ignore[no-untyped-def]
    """A damped oscillator kicked by noise (and, elsewhere, by drops and ruptures)."""
    pool_v += (-POOL_RAD_S * POOL_RAD_S * pool - 2 * POOL_DAMPING * POOL_RAD_S * pool_v) * dt + kick
    return pool + pool_v * dt, pool_v


@numba.njit(cache=True)
def _pulse_reference(clock, volts, hz, target_v, source, dt):  # type: ignore[no-untyped-def]
    """Commanded current of a pulsing source.

    `clock`: time in the period, period, volt-seconds of the period, trim. At each period's end the mean voltage
    sets the next period: a low voltage means a short arc, and more pulses melt it longer.
    """
    clock[0] += dt
    clock[2] += volts * dt
    if clock[0] >= clock[1]:
        error_v = min(max(target_v - clock[2] / clock[0], -4.0), 4.0)
        clock[3] = min(max(clock[3] + TRIM_PER_V * error_v, -0.4), 0.4)
        rate = min(max(1.0 + RATE_PER_V * error_v + clock[3], RATE_BAND[0]), RATE_BAND[1])
        clock[1] = 1.0 / (hz * rate)
        clock[0] = 0.0
        clock[2] = 0.0
    return source.peak_a if clock[0] < source.pulse_s else source.base_a


@numba.njit(cache=True)
def _follow(i, reference_a, volts, source, dt):  # type: ignore[no-untyped-def]
    """Current of a pulsing source one step on: its choke limits both slopes."""
    step = (reference_a - i) * dt / FOLLOW_S
    up = (OPEN_CIRCUIT_V - volts) * dt / source.inductance_h
    down = -max(volts, 5.0) * dt / source.inductance_h
    return i + min(max(step, down), up)


@numba.njit(cache=True)
def _after_the_arc(i, dark_s, on, contact_open, dt):  # type: ignore[no-untyped-def]
    """Current and time without current, when little flows through an arc: keep-alive, extinction, restrike."""
    if dark_s > 0.0:
        if on and not contact_open and dark_s < HOT_S:
            return KEEP_ALIVE_A, 0.0
        return 0.0, dark_s + dt
    if i < KEEP_ALIVE_A and on and not contact_open:
        # The source's keep-alive current: the arc does not go out between drops.
        return KEEP_ALIVE_A, 0.0
    if i < OUT_A:
        return 0.0, dt
    return i, 0.0


@numba.njit(cache=True)
def integrate(seam, source, n, per, dt):  # type: ignore[no-untyped-def]
    """Explicit Euler over `n` steps of `dt` s, `per` steps a value of the latent grid. `Seam`, `Source` → `Trace`."""
    current, voltage, arc_voltage = np.empty(n), np.empty(n), np.empty(n)
    shorted = np.zeros(n, np.uint8)
    ruptures, detachments, pulses = np.empty(MAX_EVENTS), np.empty(MAX_EVENTS), np.empty(MAX_EVENTS)
    n_rupt = n_drop = n_pulse = 0
    pulsed = source.peak_a > 0.0
    clock = np.array([0.0, source.pulse_s, 0.0, 0.0])
    pool = pool_v = i = pinch_a = dark_s = ignition_v = volts = 0.0
    tip, drop = 0.3, 0.06
    # The first touch is a point contact that blows like a fuse.
    short, neck = True, 0.10
    hang, limit = _drop_reach(drop), 7.0
    for k in range(n):
        j = min(k // per, seam.wire_mm_s.shape[0] - 1)
        on = seam.source_v[j] > OFF_V
        pool, pool_v = _pool_step(pool, pool_v, seam.pool_kick[k], dt)
        reach = max(seam.ctwd_mm[j] - tip, 2.0)
        melt = BETA * reach * i * i + (0.0 if short else ALPHA * i)
        tip += (melt - seam.wire_mm_s[j]) * dt
        drop += melt * WIRE_AREA_MM2 * dt
        pinch_a += (i - pinch_a) * dt / source.pinch_s
        if k & 3 == 0:
            # Drops change slowly against the step.
            hang, limit = _drop_reach(drop), _drop_limit(pinch_a, source.transition_a)
        gap = tip + seam.sink_mm[j] - hang - pool
        if short:
            neck -= dt * (90.0 + 520.0 * (i / 300.0) ** 2)
            v_arc = i * (0.0028 + 0.0011 / max(neck, 0.04))
            if neck <= 0.0 and n_rupt < MAX_EVENTS:
                short = False
                ruptures[n_rupt] = k
                n_rupt += 1
                drop = 0.10
                hang = _drop_reach(drop)
                # Rupture pushes the pool down and blows the wire end clear.
                pool_v -= 55.0 * min(i / 300.0, 1.6)
                tip = max(tip, 0.55 - seam.sink_mm[j])
        else:
            ignition_v -= ignition_v * dt / IGNITION_S
            v_arc = seam.fall_v[k] + ARC_V_PER_MM * max(gap - RIM * seam.sink_mm[j], 0.0) + ARC_OHM * i + ignition_v
            falls = seam.hole_draws[(n_rupt + n_drop) % MAX_EVENTS] < min(FALL_PER_MM * seam.sink_mm[j], FALL_MOST)
            if gap <= 0.0 and falls and n_drop < MAX_EVENTS:
                detachments[n_drop] = k
                n_drop += 1
                drop = 0.10
                hang = _drop_reach(drop)
                # The metal falls through, and the arc on the rim burns the wire's end back.
                tip = max(tip, 0.55 - (1.0 - RIM) * seam.sink_mm[j])
            elif gap <= 0.0 and on:
                short, dark_s = True, 0.0
                neck = seam.neck_draws[n_rupt % MAX_EVENTS]
            elif drop > limit * seam.drop_draws[n_drop % MAX_EVENTS] and n_drop < MAX_EVENTS:
                detachments[n_drop] = k
                n_drop += 1
                # A large drop swings the pool when it falls in.
                pool_v -= 9.0 * drop
                drop *= 0.18
        r_wire = EXTENSION_OHM_PER_MM * reach + seam.contact_ohm[k] + seam.lead_ohm[j]
        if pulsed:
            before = clock[0]
            reference_a = _pulse_reference(clock, volts, seam.pulse_hz[j], seam.source_v[j], source, dt)
            if clock[0] < before and n_pulse < MAX_EVENTS:
                pulses[n_pulse] = k
                n_pulse += 1
            reference_a = 0.0 if not on else source.peak_a if short else reference_a
            i = _follow(i, reference_a, volts, source, dt)
        else:
            i += dt * (seam.source_v[j] - i * (source.ohm + r_wire) - v_arc - seam.contact_v[k]) / source.inductance_h
        if short:
            i = max(i, 0.0)
        elif i < KEEP_ALIVE_A:
            was_dark = dark_s > 0.0
            i, dark_s = _after_the_arc(i, dark_s, on, seam.contact_v[k] > OPEN_CONTACT_V, dt)
            if was_dark and dark_s == 0.0:
                ignition_v = IGNITION_V
        if dark_s > 0.0:
            v_arc = 0.0
            volts = seam.source_v[j]
        else:
            volts = v_arc + i * r_wire + seam.contact_v[k]
        current[k] = i
        arc_voltage[k] = v_arc
        voltage[k] = volts
        shorted[k] = 1 if short else 0
    return Trace(current, voltage, arc_voltage, shorted, ruptures[:n_rupt], detachments[:n_drop], pulses[:n_pulse])
