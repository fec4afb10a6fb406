"""`edged bench sensors`: what is injected at its highest level is found, and the table says what was counted."""

import numpy as np
import pytest

from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam
from edged.bench.sensor_injections import INJECTIONS
from edged.bench.sensors import _accused, _reports, _row, markdown

BY_CHANGE = ("held samples", "arc camera moved", "result camera moved")
"""What only shows against accepted seams."""


@pytest.fixture(scope="module")
def seam() -> RenderedSeam:
    (plan,) = plan_seams(1, 11, "good", ("short-lap-3",), sessions=("bench-test",))
    return render_seam(plan, IMAGE_PRESETS["small"])


def test_a_sound_seam_has_no_problem_and_every_injection_leaves_the_weld_alone(seam: RenderedSeam) -> None:
    assert {name: report.problems for name, report in _reports(seam).items() if report.problems} == {}
    for row in INJECTIONS.values():
        broken = row.apply(seam, row.levels[-1])
        assert broken.truth == seam.truth
        np.testing.assert_array_equal(broken.motion, seam.motion)


@pytest.mark.parametrize("name", [name for name in INJECTIONS if name not in BY_CHANGE])
def test_the_highest_level_of_each_injection_is_a_fault(name: str, seam: RenderedSeam) -> None:
    row = INJECTIONS[name]
    report = _reports(row.apply(seam, row.levels[-1]))[row.stream]
    assert (row.code, "fault") in [(problem.code, problem.state) for problem in report.problems]


@pytest.mark.parametrize("name", BY_CHANGE)
def test_what_moves_shows_in_its_figure(name: str, seam: RenderedSeam) -> None:
    row = INJECTIONS[name]
    sound = _reports(seam)[row.stream].figures
    broken = _reports(row.apply(seam, row.levels[-1]))[row.stream].figures
    moved = [abs(broken[key].value - figure.value) for key, figure in sound.items() if figure.code == row.code]
    assert max(moved) > 2.0


def test_rows_count_cells_and_seams() -> None:
    named, other = {"mic": {"level": "warning"}}, {"mic": {"silent": "fault"}, "welder": {"current_noise": "fault"}}
    row = _row("microphone_moved", 8.0, "cm", [[{}, {}, named], [{}, {}, other]])
    assert (row["found"], row["cells"], row["warnings"], row["faults"], row["seams"]) == (1, 2, 1, 0, 6)
    goods = _accused([{}, named, other])
    assert (goods["with_a_finding"], goods["with_a_fault"], goods["by_code"]["mic: level"]) == (2, 1, 1)
    text = markdown(
        {
            "goods": goods,
            "faults": [row],
            "command": "c",
            "seed": 1,
            "cells": 2,
            "learned": 20,
            "cpu_percent_of_a_core": 0.5,
        }
    )
    assert "| microphone_moved | 8 cm | mic: level | 1 of 2 cells | 1 / 0 of 6 |" in text
