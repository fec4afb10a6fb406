"""What faults do to bead, current, voltage and sound, by severity, against what practice and sources say of them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ARC_HZ, simulate_arc
from drivers.sim.faults import FAULTS, apply_fault, fault_of
from drivers.sim.programs import Program
from drivers.sim.sessions import session_named
from drivers.sim.sound import AUDIO_HZ, render_sound
from drivers.sim.variation import draw_latents
from edged.bench import physics_bead
from edged.bench.physics_row import Row

__all__ = ["fault_rows"]

SEED = 4100
LEAD_S, TAIL_S = 0.8, 0.5

Array = NDArray[np.float64]


def fault_rows(programs: Sequence[Program]) -> Iterator[Row]:
    """Rows of every fault type that leaves something to measure; beads are those of the thinnest plate."""
    program = min(programs, key=lambda p: p.plate_mm)
    clean = physics_bead.faulty_bead(program, next(iter(FAULTS)), 1)[0]
    for fault in _FAULT:
        if fault in FAULTS:
            for severity in range(1, 6):
                yield from _FAULT[fault](program, severity)
    worst = max(
        physics_bead.volume_error(clean, physics_bead.faulty_bead(program, name, 5)[0])
        for name, row in FAULTS.items()
        if row.act is not None
    )
    yield Row("metal that a fault makes or loses, worst type", worst, 0, 0.5, "% of the wire", "model")
    if "gas_loss" in FAULTS:
        for severity in (1, 5):
            yield from _gas_loss_rows(programs, severity)
    for sign in SIGNS:
        yield from _sign_rows(programs, sign)
    if "subsurface_pores" in FAULTS:
        worst_ml = FAULTS["subsurface_pores"].severities[4]
        yield Row("subsurface_pores 5: hydrogen above a dry wire's", worst_ml, 5, 30, "mL/100 g", "lincoln-gmaw")


def _undercut(program: Program, severity: int) -> Iterator[Row]:
    bead, _ = physics_bead.faulty_bead(program, "undercut", severity)
    groove = physics_bead.section(bead, 4100, (0.5, 0.9)).groove_mm
    yield Row(f"undercut {severity}: depth at the toe", groove, 0.05, 1.5, "mm", "en-25817")


def _burn_through(program: Program, severity: int) -> Iterator[Row]:
    bead, _ = physics_bead.faulty_bead(program, "burn_through", severity)
    lost = float(np.max(bead.below_mm2 / (bead.area_mm2 + bead.below_mm2 + bead.filled_mm2)))
    yield Row(f"burn_through {severity}: metal lost below at the worst place", 100 * lost, 0, 95, "%", "practice")
    yield Row(f"burn_through {severity}: sink", float(bead.sink_mm.max()), 0, program.plate_mm, "mm", "practice")


def _wire_slip(program: Program, severity: int) -> Iterator[Row]:
    clean = physics_bead.faulty_bead(program, "gas_loss", 1)[0]
    bead, _ = physics_bead.faulty_bead(program, "wire_slip", severity)
    inner = slice(int(0.55 * len(bead.x_mm)), int(0.9 * len(bead.x_mm)))
    metal = [(b.area_mm2 + b.filled_mm2 + b.below_mm2)[inner].mean() for b in (clean, bead)]
    slip = FAULTS["wire_slip"].severities[severity - 1]
    lost = 100 * (1 - float(metal[1] / metal[0]))
    yield Row(f"wire_slip {severity}: metal missing", lost, slip - 1.5, slip + 1.5, "%", "model")


def _crater_crack(program: Program, severity: int) -> Iterator[Row]:
    bead, _ = physics_bead.faulty_bead(program, "crater_crack", severity)
    # From the crater's centre to the edge of the weld: no arm is longer than the half width.
    half = 0.5 * float(bead.width_mm[-30:].mean())
    yield Row(f"crater_crack {severity}: longest arm", bead.crack_mm, 0, 1.05 * half, "mm", "crater")


def _overlap(program: Program, severity: int) -> Iterator[Row]:
    bead, _ = physics_bead.faulty_bead(program, "overlap", severity)
    rolled = float(np.median(bead.overlap_mm[bead.overlap_mm > 0.25 * bead.overlap_mm.max()]))
    asked = FAULTS["overlap"].severities[severity - 1]
    yield Row(f"overlap {severity}: metal over the toe, median", rolled, 0.8 * asked, 1.2 * asked, "mm", "model")


_FAULT: Mapping[str, Callable[[Program, int], Iterator[Row]]] = {
    "undercut": _undercut,
    "burn_through": _burn_through,
    "wire_slip": _wire_slip,
    "crater_crack": _crater_crack,
    "overlap": _overlap,
}


def _gas_loss_rows(programs: Sequence[Program], severity: int) -> Iterator[Row]:
    lost = [fault_of("gas_loss", severity, 0.0, 1.0, program).value for program in programs]
    left = [max(program.gas_l_min - value, 0.0) for program, value in zip(programs, lost, strict=True)]
    low, high = (0.0, 5.0) if severity == 5 else (5.0, 12.0)
    label = f"gas_loss {severity}: flow left at the nozzle, " + ("most" if severity == 5 else "least")
    yield Row(label, max(left) if severity == 5 else min(left), low, high, "L/min", "bitharas")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """A seam while its fault is in force, at `ARC_HZ`; its sound, and that of the gas after the arc."""

    current_a: Array
    voltage_v: Array
    """At the source's terminals; `arc_v` is over the arc alone, or over the bridge."""
    arc_v: Array
    shorted: Array
    sound: Array
    after_arc: Array


@dataclasses.dataclass(frozen=True, slots=True)
class _Sign:
    """How a fault at severity 5 is known to show: a comparison of the faulty window with its good twin's."""

    fault: str
    transfer: str
    what: str
    compare: Callable[[_Window, _Window], float]
    low: float
    high: float
    unit: str
    source: str


def _window(program: Program, fault: str | None, span_s: tuple[float, float]) -> _Window:
    session, state = session_named("session-02"), draw_latents(program, session_named("session-02"), SEED)
    if fault is not None:
        apply_fault(state, fault_of(fault, 5, *span_s, program), program)
    trace = simulate_arc(program, session, state, SEED)
    sound = render_sound(program, session, state, trace, SEED, LEAD_S, TAIL_S)[:, 0].astype(float)
    end_s = min(span_s[1], state.arc_s - 0.4)
    at = slice(round((span_s[0] + 0.15) * ARC_HZ), round(end_s * ARC_HZ))
    heard = slice(round((LEAD_S + span_s[0] + 0.15) * AUDIO_HZ), round((LEAD_S + end_s) * AUDIO_HZ))
    quiet = sound[round((LEAD_S + state.arc_s + 0.25) * AUDIO_HZ) :]
    current, volts = trace.current_a[at], trace.voltage_v[at]
    arc_v = trace.power_w[at] / np.maximum(current, 1.0)
    return _Window(current, volts, arc_v, trace.shorted[at].astype(float), sound[heard], quiet)


def _sign_rows(programs: Sequence[Program], sign: _Sign) -> Iterator[Row]:
    """The row of one sign; none where the cell lacks the fault or the transfer mode."""
    program = next((p for p in programs if p.transfer == sign.transfer), None)
    if program is None or sign.fault not in FAULTS:
        return
    onset_s, extent_s = round(program.arc_s / 3, 3), FAULTS[sign.fault].extent_s
    span = (onset_s, onset_s + extent_s if extent_s else 2 * program.arc_s)
    good, bad = (_window(program, name, span) for name in (None, sign.fault))
    label = f"{sign.fault} 5, {sign.transfer}: {sign.what}"
    yield Row(label, sign.compare(bad, good), sign.low, sign.high, sign.unit, sign.source)


def _current_percent(bad: _Window, good: _Window) -> float:
    return 100 * (float(bad.current_a.mean() / good.current_a.mean()) - 1)


def _volts(bad: _Window, good: _Window) -> float:
    return float(bad.arc_v.mean() - good.arc_v.mean())


def _shorts(window: _Window) -> int:
    return int((np.diff(window.shorted) > 0).sum())


def _shorts_ratio(bad: _Window, good: _Window) -> float:
    return _shorts(bad) / max(_shorts(good), 1)


def _roughness(window: _Window) -> float:
    """Mean variance of the voltage within 10 ms."""
    per = round(0.010 * ARC_HZ)
    return float(window.voltage_v[: len(window.voltage_v) // per * per].reshape(-1, per).var(axis=1).mean())


def _roughness_ratio(bad: _Window, good: _Window) -> float:
    return _roughness(bad) / _roughness(good)


def _loudness_ratio(bad: _Window, good: _Window) -> float:
    return float(bad.sound.std() / good.sound.std())


def _hiss_ratio(bad: _Window, good: _Window) -> float:
    from scipy.signal import butter, sosfilt

    band = butter(4, (3000, 11000), "bandpass", fs=AUDIO_HZ, output="sos")
    bad_rms, good_rms = (float(sosfilt(band, w.after_arc).std()) for w in (bad, good))
    return bad_rms / good_rms


ROUGH = "variance of the voltage within 10 ms"

SIGNS = (
    _Sign("gas_loss", "spray", ROUGH, _roughness_ratio, 1.5, 1000, "× twin", "practice"),
    _Sign("gas_loss", "spray", "hiss after the arc", _hiss_ratio, 0, 0.7, "× twin", "practice"),
    _Sign("burn_through", "short_circuit", "loudness", _loudness_ratio, 1.03, 10, "× twin", "arc-sound"),
    _Sign("burn_through", "short_circuit", "current", _current_percent, -15, 0, "%", "arc-sound, practice"),
    _Sign("burn_through", "short_circuit", "shorts", _shorts_ratio, 0, 0.85, "× twin", "practice"),
    _Sign("convexity", "short_circuit", "arc voltage", _volts, -6, -0.2, "V", "practice"),
    _Sign("convexity", "short_circuit", "shorts", _shorts_ratio, 1.15, 6, "× twin", "practice"),
    _Sign("overlap", "short_circuit", "arc voltage", _volts, -4, -0.2, "V", "practice"),
    _Sign("overlap", "short_circuit", "shorts", _shorts_ratio, 1.1, 6, "× twin", "practice"),
    _Sign("wire_slip", "short_circuit", "current", _current_percent, -30, -5, "%", "practice"),
    _Sign("undercut", "short_circuit", "arc voltage", _volts, 0.3, 5, "V", "practice"),
    _Sign("undercut", "spray", "arc voltage", _volts, 0.3, 5, "V", "practice"),
    _Sign("tip_wear", "spray", ROUGH, _roughness_ratio, 1.5, 1000, "× twin", "practice"),
    _Sign("lack_of_fusion", "short_circuit", "current", _current_percent, -5, 5, "%", "practice"),
    _Sign("lack_of_fusion", "short_circuit", "arc voltage", _volts, -1, 1, "V", "practice"),
)  # fmt: skip
"""How each type shows (docs/virtual-cell.md); lack of fusion nearly does not."""
