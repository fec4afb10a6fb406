"""The physics rows of the cell's report: complete, consistent, and sensitive to what they measure."""

import dataclasses
import math
from functools import cache

import numpy as np
import pytest

from drivers.sim.programs import PROGRAMS
from edged.bench import physics, physics_arc, physics_bead
from edged.bench.physics_row import Row
from edged.bench.sources import SOURCES, source_keys


@cache
def quick_rows() -> list[dict[str, object]]:
    return physics.physics_rows(quick=True)


def test_every_row_is_finite_ordered_and_says_honestly_whether_it_holds() -> None:
    rows = quick_rows()
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        value, low, high = (float(row[key]) for key in ("value", "low", "high"))  # type: ignore[arg-type]
        assert all(math.isfinite(v) for v in (value, low, high)), row
        assert low <= high, row
        assert row["ok"] == (low <= value <= high), row
        assert all(key in SOURCES for key in source_keys(str(row["source"]))), row


def test_every_program_has_its_transfer_its_bead_and_its_heat_input_measured() -> None:
    names = [str(row["name"]) for row in quick_rows()]
    for program in PROGRAMS.values():
        mine = [name for name in names if name.startswith(f"{program.name}: ")]
        for quantity in ("mean current", "heat input", "bead width", "penetration"):
            assert any(quantity in name for name in mine), f"{program.name}: {quantity}"
        assert len(mine) >= 13


def test_a_figure_out_of_its_range_does_not_hold_and_an_unknown_source_is_refused() -> None:
    row = Row("x", 3.0, 1.0, 2.0, "mm", "practice")
    assert row.as_dict()["ok"] is False
    assert dataclasses.replace(row, value=float("nan")).as_dict()["ok"] is False
    with pytest.raises(KeyError, match="hearsay"):
        dataclasses.replace(row, source="practice, hearsay").as_dict()


def test_sources_say_where_and_what() -> None:
    for key, source in SOURCES.items():
        assert source.says, key
        assert "http" in source.reference or key in ("practice", "model"), key


def test_shorts_are_read_from_the_trace() -> None:
    seam = physics_arc.good_seams(PROGRAMS["short-butt-3"], 1)[0]
    rate = physics_arc.bridges(seam).per_s
    trace = dataclasses.replace(seam.trace, shorted=np.zeros_like(seam.trace.shorted))
    assert rate > 10
    assert physics_arc.bridges(dataclasses.replace(seam, trace=trace)).per_s == 0


def test_the_delay_of_the_sound_is_that_of_the_air(monkeypatch: pytest.MonkeyPatch) -> None:
    seam = physics_arc.good_seams(PROGRAMS["short-butt-3"], 1)[0]
    assert abs(physics_arc.sound_delay_error_ms(seam)) < 0.05
    # The measurement itself is sharp enough to tell sound in helium-rich air.
    monkeypatch.setattr(physics_arc, "SPEED_OF_SOUND_M_S", 440.0)
    assert physics_arc.sound_delay_error_ms(seam) > 0.1


def test_the_section_finds_width_height_and_toe_of_the_bead_that_was_formed() -> None:
    seam = physics_arc.good_seams(PROGRAMS["short-butt-3"], 1)[0]
    bead = physics_bead.bead_of(seam)
    section = physics_bead.section(bead, seam.seed)
    inner = slice(len(bead.x_mm) // 4, -len(bead.x_mm) // 4)
    assert section.width_mm == pytest.approx(bead.width_mm[inner].mean(), rel=0.08)
    assert section.height_mm == pytest.approx(bead.height_mm[inner].mean(), rel=0.12)
    # A parabola of that width and height rises at its toe with four times height over width.
    steepest = math.degrees(math.atan(4 * section.height_mm / section.width_mm))
    assert 0.7 * steepest < section.toe_deg < 1.05 * steepest
    assert section.groove_mm < 0.1
