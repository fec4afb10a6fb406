"""The virtual cell held against what is known of gas metal arc welding: one row a figure, with range and source.

`physics_rows` simulates good seams of every program (and beads under every severity of the faults that leave a
measurable trace) and measures them; ranges come from `sources.py`, never from the model. Part of `edged bench cell`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from drivers.sim import bead
from drivers.sim.programs import PROGRAMS, Program
from drivers.sim.variation import draw_latents
from edged.bench import physics_arc, physics_bead
from edged.bench.physics_arc import WIRE_MM, GoodSeam
from edged.bench.physics_faults import fault_rows
from edged.bench.physics_row import Row

__all__ = ["physics_rows"]

SEAMS, QUICK_SEAMS = 8, 3
FEED_TOLERANCE = 0.25
"""Miller's rule of thumb is one round figure for a range of currents."""
INCH_PER_MIN_M_MIN = 0.0254
SOUND_RATIOS = {"globular": 133.31 / 79.74, "spray": 38.73 / 79.74}
"""RMS of a transfer mode over that of short-circuit (source poopat)."""


def physics_rows(quick: bool = False) -> list[dict[str, object]]:
    """Rows {name, value, low, high, unit, source, ok}; `source` names keys of `SOURCES`, commas between.

    `quick` simulates three good seams a program instead of eight.
    """
    good = {
        name: physics_arc.good_seams(program, QUICK_SEAMS if quick else SEAMS) for name, program in PROGRAMS.items()
    }
    rows: list[Row] = []
    for name, seams in good.items():
        rows += _set_point_rows(name, seams)
        rows += _TRANSFER[seams[0].program.transfer](name, seams)
        rows += _bead_rows(name, seams)
    rows += _law_rows(good)
    rows += _sound_rows(good)
    rows += _gas_rows(good)
    rows += fault_rows(list(PROGRAMS.values()))
    return [row.as_dict() for row in rows]


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _set_point_rows(name: str, seams: list[GoodSeam]) -> Iterator[Row]:
    program = seams[0].program
    current = _median(float(physics_arc.steady(s.trace.current_a).mean()) for s in seams)
    voltage = _median(float(physics_arc.steady(s.trace.voltage_v).mean()) for s in seams)
    # One seam's wire feed and tip distance vary by 3 % and 1.5 mm; the set-point is met on average.
    yield Row(
        f"{name}: mean current against set-point", 100 * (current / program.current_a - 1), -10, 10, "%", "model"
    )
    yield Row(f"{name}: mean voltage against set-point", 100 * (voltage / program.voltage_v - 1), -6, 6, "%", "model")
    yield Row(f"{name}: travel speed", program.travel_mm_s, 20 / 6, 10.0, "mm/s", "panasonic, otc")
    yield Row(f"{name}: gas flow", program.gas_l_min, 10, 20, "L/min", "panasonic, esab-gas, beyer")
    yield Row(f"{name}: contact tip to work", program.ctwd_mm, 10, 25, "mm", "panasonic, ctwd-calculator")
    heat = _median(physics_bead.heat_input_kj_mm(s) for s in seams)
    yield Row(f"{name}: heat input (k = 0.8)", heat, 0.2, 1.3, "kJ/mm", "ssab-heat, kemppi-heat, mee, practice")


def _short_circuit_rows(name: str, seams: list[GoodSeam]) -> Iterator[Row]:
    shorts = [physics_arc.bridges(s) for s in seams]
    duration = np.concatenate([s.duration_ms for s in shorts])
    volts = np.concatenate([s.voltage_v for s in shorts])
    peaks = np.concatenate([s.peak_a for s in shorts])
    yield Row(
        f"{name}: short circuits", _median(s.per_s for s in shorts), 30, 150, "/s",
        "blumschein, esab-mig, ssab-short-arc, wel21b",
    )  # fmt: skip
    for share in (5, 50, 95):
        label = f"{name}: duration of a short, {share} %"
        yield Row(label, float(np.percentile(duration, share)), 1, 5, "ms", "weldsmith-dip, practice")
    yield Row(f"{name}: voltage in a short", float(np.median(volts)), 2, 6, "V", "weldsmith-dip")
    yield Row(f"{name}: peak current of a short", float(np.median(peaks)), 250, 450, "A", "practice")
    yield Row(f"{name}: set-point current", seams[0].program.current_a, 50, 225, "A", "wel21b")
    yield Row(f"{name}: set-point voltage", seams[0].program.voltage_v, 12, 22, "V", "wel21b")


def _globular_rows(name: str, seams: list[GoodSeam]) -> Iterator[Row]:
    drops = [physics_arc.drop_diameter_mm(s) for s in seams]
    yield Row(f"{name}: free drops", _median(d[0] for d in drops), 5, 40, "/s", "practice")
    yield Row(
        f"{name}: drop diameter", _median(d[1] for d in drops), WIRE_MM, 3 * WIRE_MM, "mm", "esab-mig, weldingtech"
    )
    shorts = _median(physics_arc.bridges(s).per_s for s in seams)
    yield Row(f"{name}: occasional shorts", shorts, 0.2, 30, "/s", "esab-mig, weldingtech, practice")


def _spray_rows(name: str, seams: list[GoodSeam]) -> Iterator[Row]:
    drops = [physics_arc.drop_diameter_mm(s) for s in seams]
    yield Row(f"{name}: drops", _median(d[0] for d in drops), 100, 300, "/s", "practice")
    yield Row(
        f"{name}: drop diameter", _median(d[1] for d in drops), 0.4 * WIRE_MM, WIRE_MM, "mm", "weldinganswers-spray"
    )
    yield Row(f"{name}: shorts", _median(physics_arc.bridges(s).per_s for s in seams), 0, 1, "/s", "esab-mig")
    yield Row(f"{name}: set-point current", seams[0].program.current_a, 220, 350, "A", "esab-mig, methong")


def _pulsed_rows(name: str, seams: list[GoodSeam]) -> Iterator[Row]:
    found = [physics_arc.pulses(s) for s in seams]
    yield Row(f"{name}: pulses", _median(p.hz for p in found), 50, 300, "Hz", "esab-mig, i-car, weldingtech")
    yield Row(f"{name}: drops per pulse", _median(p.drops_each for p in found), 0.8, 1.2, "", "esab-mig, i-car")
    peak = _median(p.peak_a for p in found)
    yield Row(f"{name}: pulse current", peak, 300, 550, "A", "practice")
    yield Row(f"{name}: background current", _median(p.background_a for p in found), 20, 150, "A", "practice")
    diameter = _median(physics_arc.drop_diameter_mm(s)[1] for s in seams)
    yield Row(f"{name}: drop diameter", diameter, 0.6 * WIRE_MM, 1.25 * WIRE_MM, "mm", "practice")


_TRANSFER: Mapping[str, Callable[[str, list[GoodSeam]], Iterator[Row]]] = {
    "short_circuit": _short_circuit_rows,
    "globular": _globular_rows,
    "spray": _spray_rows,
    "pulsed": _pulsed_rows,
}


def _bead_rows(name: str, seams: list[GoodSeam]) -> Iterator[Row]:
    beads = [physics_bead.bead_of(s) for s in seams]
    cuts = [physics_bead.section(b, s.seed) for b, s in zip(beads, seams, strict=True)]
    program = seams[0].program
    width, height = _median(c.width_mm for c in cuts), _median(c.height_mm for c in cuts)
    deep = _median(b.summary()["penetration_mm"] for b in beads)
    share = _median(physics_bead.deposited_share(b) for b in beads)
    yield Row(f"{name}: bead width", width, 3, 15, "mm", "practice")
    yield Row(f"{name}: bead height (level D: 1 mm + 0.25 width)", height, 0.3, 1 + 0.25 * width, "mm", "en-25817")
    yield Row(f"{name}: toe angle", _median(c.toe_deg for c in cuts), 15, 60, "°", "practice")
    yield Row(f"{name}: penetration", deep, 0.5, program.plate_mm, "mm", "practice")
    yield Row(f"{name}: wire that is deposited", share, 93, 98, "%", "lincoln-gmaw")


def _first_of(good: Mapping[str, list[GoodSeam]], transfer: str) -> list[Program]:
    return [seams[0].program for seams in good.values() if seams[0].program.transfer == transfer][:1]


def _law_rows(good: Mapping[str, list[GoodSeam]]) -> Iterator[Row]:
    """Laws of the arc: melting, contact-tip distance, transition."""
    yield Row("melting by the arc, α", bead.ALPHA_I, 0.2, 0.35, "mm/(A·s)", "practice, chang-babkin")
    yield Row("melting by resistance, β", 1e5 * bead.BETA_I, 4, 8, "1e-5 /(A²·s)", "practice, chang-babkin")
    for transfer, current_a in (("short_circuit", 150.0), ("spray", 250.0)):
        for program in _first_of(good, transfer):
            rule = current_a * INCH_PER_MIN_M_MIN
            feed = physics_arc.feed_at_current(program, current_a)
            low, high = rule * (1 - FEED_TOLERANCE), rule * (1 + FEED_TOLERANCE)
            label = f"wire feed at {current_a:.0f} A (tip distance {program.ctwd_mm:.0f} mm)"
            yield Row(label, feed, low, high, "m/min", "miller-feed")
    for transfer in ("short_circuit", "spray"):
        for program in _first_of(good, transfer):
            slope = physics_arc.current_per_mm(program)
            yield Row(f"{program.name}: current per mm of tip distance", slope, -12, -1, "A/mm",
                       "fandm-ctwd, goodheart, practice")  # fmt: skip
    for program in _first_of(good, "spray"):
        yield Row("transition from globular to spray", physics_arc.transition_current_a(program), 220, 350, "A",
                   "esab-mig, methong")  # fmt: skip


def _sound_rows(good: Mapping[str, list[GoodSeam]]) -> Iterator[Row]:
    loud: dict[str, list[float]] = {}
    for seams in good.values():
        loud.setdefault(seams[0].program.transfer, []).extend(physics_arc.pressure_rms(s) for s in seams)
    for transfer, ratio in SOUND_RATIOS.items():
        if transfer in loud and "short_circuit" in loud:
            value = float(np.mean(loud[transfer]) / np.mean(loud["short_circuit"]))
            yield Row(f"sound RMS, {transfer} over short-circuit", value, 0.85 * ratio, 1.15 * ratio, "", "poopat")
    for program in _first_of(good, "short_circuit"):
        seams = good[program.name]
        error = _median(physics_arc.sound_delay_error_ms(s) for s in seams)
        yield Row("delay of the sound, less distance / 343 m/s", error, -0.1, 0.1, "ms", "model")
        yield Row(
            "hiss grows with the flow to the power", physics_arc.hiss_exponent(seams[0]), 1.5, 4, "", "practice"
        )


def _gas_rows(good: Mapping[str, list[GoodSeam]]) -> Iterator[Row]:
    seam = next(iter(good.values()))[0]
    state = draw_latents(seam.program, seam.session, seam.seed)
    flows = np.linspace(0, 20, 2001)
    state.nozzle_l_min = flows
    shield = state.shielding()
    knee = float(np.interp(0.5, shield, flows))
    yield Row("gas flow at which half the shield is lost", knee, 3.5, 5.5, "L/min", "bitharas")
    yield Row("shield at 9 L/min", float(np.interp(9.0, flows, shield)), 0.95, 1, "", "bitharas, beyer")
