"""What a score means in a cell: which limit counts, and that nothing is armed that was not signed off."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.arming import ArmRecord
from edged.config import Config
from edged.judge import Judge
from pipelines.thresholds import Threshold, ThresholdTable, calibrate
from pipelines.window import Score, TimelinePoint
from tests.support.cell import config

GOODS = [float(i + 1) for i in range(99)]
OWN = calibrate("m1", "fillet", ("welder",), GOODS)
LEARNED = dataclasses.replace(
    calibrate("m1", "fillet", ("welder",), [2 * g for g in GOODS], sessions=4), learned_utc="2026-01-01T00:00:00"
)


def cell_config(mode: str = "shadow", budget: float | None = None, part_budget: float | None = None) -> Config:
    program = {"mode": mode, **({} if budget is None else {"false_alarm_budget": budget})}
    sections = {} if part_budget is None else {"parts": {"false_alarm_budget": part_budget}}
    return config({"fillet": program}, **sections)


def a_score(raw: float = 50.0, model_id: str = "m1", streams: tuple[str, ...] = ("welder",)) -> Score:
    """As the model's own threshold sees it."""
    timeline = (TimelinePoint(0.1, None, raw / OWN.value),)
    return Score(
        raw,
        raw / OWN.value,
        OWN.p_value(raw),
        OWN.value,
        OWN.threshold_id,
        model_id,
        {},
        timeline=timeline,
        streams=streams,
    )


def armed(*thresholds: Threshold, **changes: object) -> ArmRecord:
    ids = tuple(row.threshold_id for row in thresholds)
    return dataclasses.replace(ArmRecord("fillet", "arm", "ann", 1, 0, "", "m1", "none", None, ids), **changes)  # type: ignore[arg-type]


def judge(
    mode: str = "shadow",
    cell: tuple[Threshold, ...] = (),
    record: ArmRecord | None = None,
    budget: float | None = None,
    part_budget: float | None = None,
) -> Judge:
    records = {} if record is None else {"fillet": record}
    own = {"fillet": ThresholdTable([OWN])}
    return Judge(cell_config(mode, budget, part_budget), ThresholdTable(cell), own, records, {"fillet": "m1"})


def test_the_cells_own_limit_counts_before_the_models() -> None:
    by_model = judge()("fillet", a_score(), "none", None)
    by_cell = judge(cell=(LEARNED,))("fillet", a_score(), "none", None)
    assert by_model.score is not None
    assert by_cell.score is not None
    assert (by_model.score.threshold_id, by_model.score.threshold) == (OWN.threshold_id, 99.0)
    assert (by_cell.score.threshold_id, by_cell.score.threshold) == (LEARNED.threshold_id, 198.0)
    assert by_cell.score.score == 50 / 198
    assert by_cell.score.p_value == pytest.approx((1 + 75) / 100)
    assert by_cell.score.timeline[0].score == pytest.approx(50 / 198)
    assert by_model.score == a_score(), "the model's own limit changes nothing of what the detector said"


MODES = [
    ("collecting", None, (), "collecting"),
    ("collecting", armed(OWN), (), "collecting"),
    ("shadow", None, (), "shadow"),
    ("armed", None, (), "armed"),
    ("armed", None, (LEARNED,), "shadow"),
    ("shadow", armed(OWN), (), "armed"),
    ("shadow", armed(LEARNED), (LEARNED,), "armed"),
    ("armed", armed(LEARNED), (LEARNED,), "armed"),
    ("shadow", armed(OWN), (LEARNED,), "shadow"),
    ("armed", ArmRecord("fillet", "disarm", "ann", 1, 0, "tip"), (), "shadow"),
    ("shadow", armed(OWN, model_id="m0"), (), "shadow"),
    ("shadow", armed(OWN, calibration_id="c0"), (), "shadow"),
    ("shadow", armed(OWN, budget=0.05), (), "shadow"),
    ("armed", armed(OWN, model_id="m0"), (), "shadow"),
]


@pytest.mark.parametrize(("mode", "record", "cell", "wanted"), MODES)
def test_config_and_record_together(
    mode: str, record: ArmRecord | None, cell: tuple[Threshold, ...], wanted: str
) -> None:
    found = judge(mode, cell, record)
    judged = found("fillet", a_score(), "none", None)
    assert judged.standing.mode == wanted
    assert judged.standing == found.standing("fillet", "m1", "none")
    was_put_elsewhere = wanted == "shadow" and (mode == "armed" or record is not None)
    assert bool(judged.standing.why) == was_put_elsewhere, judged.standing.why


def test_another_calibration_takes_the_limit_away_and_sends_the_program_to_shadow() -> None:
    found = judge("armed")("fillet", a_score(), "cal-2", None)
    assert found.score is not None
    assert (found.score.score, found.score.threshold, found.score.threshold_id) == (None, None, None)
    assert found.score.timeline[0].score == pytest.approx(50.0)
    assert found.standing.mode == "shadow"
    assert "calibration cal-2" in found.standing.why
    assert "only for welder with calibration none" in found.lack


def test_a_set_of_streams_without_a_limit_is_no_reason_to_leave_armed() -> None:
    found = judge("armed")("fillet", a_score(streams=("audio", "welder")), "none", None)
    assert found.standing.mode == "armed"
    assert found.score is not None
    assert found.score.score is None
    assert "no threshold for audio+welder" in found.lack


def test_a_limit_that_was_not_armed_is_shadow_for_that_seam() -> None:
    other = calibrate("m1", "fillet", ("audio", "welder"), GOODS)
    found = judge("shadow", (other,), armed(OWN))
    assert found("fillet", a_score(), "none", None).standing.mode == "armed"
    seam = found("fillet", a_score(streams=("audio", "welder")), "none", None)
    assert seam.standing.mode == "shadow"
    assert other.threshold_id in seam.standing.why


def test_a_detector_with_a_limit_of_its_own_keeps_it() -> None:
    score = a_score(model_id="band")
    found = judge("armed", part_budget=0.01)("fillet", score, "none", 2)
    assert (found.score, found.budget, found.standing.mode) == (score, None, "armed")
    assert "rests on no good seams" in found.shortfall


def test_the_programs_budget_sets_the_limit_or_says_what_is_missing() -> None:
    loose = judge("armed", budget=0.1)("fillet", a_score(), "none", None)
    assert loose.score is not None
    assert (loose.score.threshold, loose.budget) == (90.0, 0.1)
    tight = judge("armed", budget=0.005)("fillet", a_score(), "none", None)
    assert tight.score is not None
    assert (tight.score.threshold, tight.budget) == (None, None)
    assert "record 100 more" in tight.lack


@settings(deadline=None)
@given(part_budget=st.floats(0.001, 0.5), seams=st.integers(1, 40))
def test_a_seam_of_a_part_has_its_share_of_the_budget_or_the_part_falls_short(part_budget: float, seams: int) -> None:
    found = judge("armed", part_budget=part_budget)("fillet", a_score(), "none", seams)
    needed = math.ceil(seams / part_budget - 1e-9) - 1
    assert found.score is not None
    if needed <= 99:
        assert not found.shortfall
        assert found.budget == part_budget / seams
        assert sum(good > found.score.threshold for good in GOODS) <= part_budget / seams * 100  # type: ignore[operator]
    else:
        assert f"record {needed - 99} more" in found.shortfall
        assert (found.budget, found.score.threshold) == (0.01, OWN.value)


def test_what_a_replay_repeats_is_not_judged_again() -> None:
    found = dataclasses.replace(judge("armed", (LEARNED,)), fixed={"fillet": "armed"})
    assert found("fillet", a_score(), "none", None).standing.mode == "armed"
    assert found.standing("fillet", None, "none").mode == "armed"
