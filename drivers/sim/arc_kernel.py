"""The compiled inner loop of `arc.py`: one explicit step of the electrical state each 10 µs.

Apart from `arc.py` because importing it loads numba.
"""

import math

import numba
import numpy as np

__all__ = ["integrate"]


@numba.njit(cache=True)
def _drop_reach(volume):  # type: ignore[no-untyped-def]
    """How far a pendant drop hangs below the solid wire, mm."""
    return 0.85 * (6.0 * volume / math.pi) ** (1.0 / 3.0)


@numba.njit(cache=True)
def integrate(  # type: ignore[no-untyped-def]
    n,
    dt,
    per,
    wire_mm_s,
    ctwd_mm,
    sink_mm,
    source_v,
    loop_ohm,
    source_ohm,
    contact_ohm,
    fall_v,
    pool_noise,
    pool_sigma_mm,
    neck_draws,
    drop_draws,
    inductance_h,
    transition_a,
    constants,
):
    """Explicit Euler over n steps of dt. Returns current, terminal voltage, arc voltage, shorted, event indices.

    Symbols: `tip` distance solid wire → nominal pool, `drop` molten volume on it, `neck` 1 → 0 while a bridge thins,
    `pool` surface displacement (a damped oscillator of about 45 Hz kicked by noise and ruptures).
    """
    alpha, beta, v_per_mm, arc_ohm, ext_ohm, wire_area = constants
    current = np.empty(n)
    voltage = np.empty(n)
    arc_voltage = np.empty(n)
    shorted = np.zeros(n, np.uint8)
    ruptures = np.empty(8192)
    detachments = np.empty(8192)
    n_rupt = 0
    n_drop = 0
    omega = 2 * math.pi * 45.0
    zeta = 0.25
    pool = 0.0
    pool_v = 0.0
    i = 0.0
    i_slow = 0.0
    tip = 0.3
    drop = 0.06
    short = True
    # The first touch is a point contact that blows like a fuse.
    neck = 0.10
    for k in range(n):
        j = k // per
        if j >= wire_mm_s.shape[0]:
            j = wire_mm_s.shape[0] - 1
        reach = ctwd_mm[j] - tip
        if reach < 2.0:
            reach = 2.0
        sigma = pool_sigma_mm[j]
        kick = sigma * math.sqrt(4 * zeta * omega**3 * dt) * pool_noise[k]
        pool_v += (-omega * omega * pool - 2 * zeta * omega * pool_v) * dt + kick
        pool += pool_v * dt
        melt = beta * reach * i * i
        if not short:
            melt += alpha * i
        tip += (melt - wire_mm_s[j]) * dt
        drop += melt * wire_area * dt
        i_slow += (i - i_slow) * dt / 0.012
        gap = tip + sink_mm[j] - _drop_reach(drop) - pool
        if short:
            neck -= dt * (90.0 + 520.0 * (i / 300.0) ** 2)
            thin = max(neck, 0.04)
            v_arc = i * (0.0028 + 0.0011 / thin)
            if neck <= 0.0 and n_rupt < 8192:
                short = False
                ruptures[n_rupt] = k
                n_rupt += 1
                drop = 0.10
                # Rupture pushes the pool down and blows the wire end clear.
                pool_v -= 55.0 * min(i / 300.0, 1.6)
                tip = max(tip, 0.55 - sink_mm[j])
        else:
            v_arc = fall_v[k] + v_per_mm * max(gap, 0.0) + arc_ohm * i
            limit = 0.72 + 6.0 / (1.0 + math.exp((i_slow - transition_a) / 7.0))
            if gap <= 0.0:
                short = True
                neck = neck_draws[n_rupt % 8192]
            elif drop > limit * drop_draws[n_drop % 8192] and n_drop < 8192:
                detachments[n_drop] = k
                n_drop += 1
                # A large drop swings the pool when it falls in.
                pool_v -= 9.0 * drop
                drop = 0.18 * drop
        r_wire = ext_ohm * reach + contact_ohm[k]
        i += dt * (source_v[j] - i * (loop_ohm[j] + r_wire) - v_arc) / inductance_h
        if i < 8.0 and not short:
            # The source's keep-alive current: the arc does not go out between drops.
            i = 8.0
        if i < 0.0:
            i = 0.0
        current[k] = i
        arc_voltage[k] = v_arc
        voltage[k] = v_arc + i * (r_wire + loop_ohm[j] - source_ohm)
        shorted[k] = 1 if short else 0
    return current, voltage, arc_voltage, shorted, ruptures[:n_rupt], detachments[:n_drop]
