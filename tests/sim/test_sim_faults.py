"""Faults: each moves what it is said to move, the more the more severe, from its onset on and nothing before."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from drivers.sim.bead import form_bead
from drivers.sim.damage import Marks, no_marks, place_marks
from drivers.sim.faults import FAULTS, apply_fault, check_fault, fault_of, fault_span, sensed_session
from drivers.sim.programs import PROGRAMS
from drivers.sim.sessions import Session, session_named
from drivers.sim.variation import LATENT_HZ, Latents, draw_latents

SESSION = session_named("session-04")
PROGRAM = PROGRAMS["spray-lap-5"]
ONSET_S = 2.0

STATE: dict[str, Callable[[Latents], float]] = {
    "gas_loss": lambda s: -float(s.nozzle_l_min.mean()),
    "burn_through": lambda s: float(s.gap_mm.max() + s.sink_mm.max()),
    "wire_slip": lambda s: -float(s.wire_mm_s.mean()),
    "undercut": lambda s: float(s.arc_length_extra_mm.mean()),
    "convexity": lambda s: float(s.lead_mohm.mean()),
    "lack_of_fusion": lambda s: float(s.sidewall_mm.mean()),
    "subsurface_pores": lambda s: float(s.hydrogen.mean()),
    "tip_wear": lambda s: float(s.tip_noise_mohm.mean()),
    "overlap": lambda s: float(s.overlap_mm.mean()),
    "crater_crack": lambda s: s.crater_fill_missing_s,
}
MARKS: dict[str, Callable[[Marks], float]] = {
    "spatter_on_bead": lambda m: len(m.balls),
    "scratch": lambda m: m.scratch_depth_mm,
    "oil": lambda m: float((m.oil[:, 2] ** 2).sum()),
    "wrong_part": lambda m: abs(m.hole_mm[0] - no_marks(PROGRAM.length_mm).hole_mm[0]),
}
SENSED: dict[str, Callable[[Session], float]] = {
    "current_gain": lambda s: abs(s.current_gain / SESSION.current_gain - 1),
    "lens_spatter": lambda s: s.lens_spots,
    "microphone_moved": lambda s: s.mic_distance_m,
}


def latents(type_name: str | None = None, severity: int = 3, onset_s: float = ONSET_S) -> Latents:
    state = draw_latents(PROGRAM, SESSION, 31)
    if type_name is not None:
        apply_fault(state, fault_of(type_name, severity, onset_s, 60.0, PROGRAM), PROGRAM)
    return state


def arrays(state: Latents) -> dict[str, np.ndarray]:
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def test_every_type_is_watched_here() -> None:
    assert {*STATE, *MARKS, *SENSED} == set(FAULTS)


@pytest.mark.parametrize("fault", STATE)
def test_the_process_is_worse_the_more_severe_the_fault(fault: str) -> None:
    moved = [STATE[fault](latents(fault, severity)) for severity in range(1, 6)]
    assert STATE[fault](latents()) < moved[0]
    assert (np.diff(moved) > 0).all()


@pytest.mark.parametrize("fault", MARKS)
def test_the_part_is_worse_the_more_severe_the_fault(fault: str) -> None:
    state = latents()
    bead = form_bead(PROGRAM, SESSION, state, 31)
    moved = [
        MARKS[fault](place_marks(fault_of(fault, severity, 0, 60), bead, state, PROGRAM.length_mm, 31))
        for severity in range(1, 6)
    ]
    assert MARKS[fault](no_marks(PROGRAM.length_mm)) < moved[0]
    assert (np.diff(moved) > 0).all()


@pytest.mark.parametrize("fault", SENSED)
def test_the_sensor_is_worse_the_more_severe_the_fault(fault: str) -> None:
    moved = [SENSED[fault](sensed_session(SESSION, fault_of(fault, severity, 0, 60))) for severity in range(1, 6)]
    assert SENSED[fault](SESSION) < moved[0]
    assert (np.diff(moved) > 0).all()
    assert sensed_session(SESSION, None) == SESSION


@pytest.mark.parametrize("fault", [*MARKS, *SENSED])
def test_the_weld_does_not_know_of_damage_after_it_nor_of_its_sensors(fault: str) -> None:
    good, bad = arrays(latents()), arrays(latents(fault, 5))
    assert all(np.array_equal(good[name], bad[name]) for name in good)


@pytest.mark.parametrize("fault", STATE)
def test_latents_are_those_of_the_twin_until_the_onset_and_as_long(fault: str) -> None:
    good, bad = latents(), latents(fault, 5)
    onset_s, _ = fault_span(fault_of(fault, 5, ONSET_S, 60.0, PROGRAM), good.arc_s)
    before = int(onset_s * LATENT_HZ)
    assert before > 1000
    for name, values in arrays(good).items():
        assert values.shape == arrays(bad)[name].shape
        np.testing.assert_array_equal(values[:before], arrays(bad)[name][:before], name)
    assert any((values[before:] != arrays(bad)[name][before:]).any() for name, values in arrays(good).items())


@pytest.mark.parametrize("fault", ["wire_slip", "gas_loss", "convexity"])
def test_sensors_upstream_of_the_fault_keep_what_they_measure(fault: str) -> None:
    good, bad = latents(), latents(fault, 5)
    for name in ("position_mm", "travel_mm_s", "motor_mm_s", "meter_l_min"):
        np.testing.assert_array_equal(getattr(good, name), getattr(bad, name))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_severity_is_possible_on_every_program(program: str) -> None:
    for name, row in FAULTS.items():
        assert list(row.severities) == sorted(set(row.severities))
        assert row.low < row.severities[0]
        for severity in range(1, 6):
            check_fault(fault_of(name, severity, 0, 9, PROGRAMS[program]), PROGRAMS[program])


def test_a_severity_of_lost_gas_leaves_the_same_shield_on_every_program() -> None:
    for severity in range(1, 6):
        left = {round(1 - fault_of("gas_loss", severity, 0, 9, p).value / p.gas_l_min, 3) for p in PROGRAMS.values()}
        assert len(left) == 1


def test_crater_fill_is_cut_short_by_as_much_as_is_missing() -> None:
    good, bad = latents(), latents("crater_crack", 3)
    missing = round(0.110 * LATENT_HZ)
    assert not bad.wire_mm_s[-missing:].any()
    assert not bad.source_v[-missing:].any()
    assert bad.wire_mm_s[-missing - 1] == good.wire_mm_s[-missing - 1] > 0
    np.testing.assert_array_equal(bad.nozzle_l_min, good.nozzle_l_min)


def test_cold_metal_rolls_over_the_toe_at_a_lower_voltage() -> None:
    good, bad = latents(), latents("overlap", 5)
    late = slice(int(3 * LATENT_HZ), int(4 * LATENT_HZ))
    np.testing.assert_allclose((good.source_v - bad.source_v)[late], bad.overlap_mm[late])


def test_a_transducer_drifts_up_in_some_sessions_and_down_in_others() -> None:
    fault = fault_of("current_gain", 3, 0, 60)
    sessions = [session_named(f"shift-{k}") for k in range(20)]
    ratios = {round(sensed_session(s, fault).current_gain / s.current_gain, 6) for s in sessions}
    assert ratios == {0.93, 1.07}


@pytest.mark.parametrize(
    ("fault", "span"),
    [
        ("gas_loss", (1.0, 5.0)),
        ("crater_crack", (4.75, 5.0)),
        ("current_gain", (0.0, 5.0)),
        ("wrong_part", (0.0, 5.0)),
    ],
)
def test_extent_follows_from_the_type(fault: str, span: tuple[float, float]) -> None:
    assert fault_span(fault_of(fault, 5, 1.0, 60.0), 5.0) == pytest.approx(span)
