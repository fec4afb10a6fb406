"""The ten programs: what they cover, and settings that cannot be."""

import dataclasses

import pytest

from drivers.sim.programs import PROGRAMS, VIEW_NAMES, Program, Pulse


def test_ten_programs_meet_every_transfer_joint_plate_and_number_of_views() -> None:
    rows = list(PROGRAMS.values())
    assert len(rows) == 10
    assert [row.name for row in rows[:3]] == ["short-butt-3", "globular-fillet-6", "spray-lap-5"]
    assert {row.transfer for row in rows} == {"short_circuit", "globular", "spray", "pulsed"}
    assert {row.joint for row in rows} == {"butt", "lap", "fillet"}
    assert (min(row.plate_mm for row in rows), max(row.plate_mm for row in rows)) == (3, 8)
    assert {len(row.views) for row in rows} >= {1, 3, 5}
    assert {view for row in rows for view in row.views} == set(VIEW_NAMES)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.name)
def test_a_seam_takes_four_to_six_and_a_half_seconds_with_crater_fill(program: Program) -> None:
    # Travel differs by 3 % from seam to seam; the crater fill adds 0.25 s.
    assert 0.93 * program.arc_s + 0.25 >= 4
    assert 1.07 * program.arc_s + 0.25 <= 6.5


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=lambda program: program.name)
def test_set_points_are_plain_numbers_and_name_the_pulse_of_a_pulsed_program(program: Program) -> None:
    points = program.set_points()
    assert all(type(value) is float for value in points.values())
    assert ("pulse_frequency_hz" in points) == (program.transfer == "pulsed")


@pytest.mark.parametrize(
    ("quantity", "value"), [("gas_l_min", -1.0), ("wire_feed_m_min", 60.0), ("plate_mm", 0.0), ("gap_max_mm", 4.0)]
)
def test_impossible_set_points_are_refused_with_quantity_value_and_range(quantity: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{quantity} is {value}; it must lie in .*–"):
        dataclasses.replace(PROGRAMS["short-butt-3"], **{quantity: value})


@pytest.mark.parametrize(
    ("quantity", "value"), [("peak_a", 900.0), ("base_a", -5.0), ("pulse_ms", 0.0), ("frequency_hz", 1000.0)]
)
def test_a_pulse_that_no_source_gives_is_refused_with_quantity_value_and_range(quantity: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{quantity} is {value}; it must lie in .*–"):
        dataclasses.replace(Pulse(420.0, 60.0, 2.0, 120.0), **{quantity: value})


def test_a_pulse_longer_than_its_period_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pulse_ms is 5.5; it must lie in 0.5–3.0"):
        Pulse(420.0, 60.0, 5.5, 200.0)


@pytest.mark.parametrize(
    ("name", "pulse"), [("short-butt-3", Pulse(420.0, 60.0, 2.0, 120.0)), ("pulsed-lap-4", None)]
)
def test_pulse_and_transfer_must_agree(name: str, pulse: Pulse | None) -> None:
    with pytest.raises(ValueError, match="a pulsed program needs one and no other may have one"):
        dataclasses.replace(PROGRAMS[name], pulse=pulse)
