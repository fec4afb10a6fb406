"""A program's limits: what is violated, kept or unknown, and what a seam's and a part's verdict make of it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.config import ProgramConfig
from edged.config_problems import reference_problems
from edged.decide import Case, decide
from edged.limits import LIMITS, Limits, check_limits, describe
from edged.scoring import ScoreReply
from edged.types import ArcFigures, Label
from edged.wire import TimePair
from edged.wire_encode import encode_verdict
from pipelines.window import Integrity
from tests.support.cell import Cell, S, config, make_score, t, welder_spec
from tests.support.verdicts import a_verdict

ARC = ArcFigures(
    arc_s=5.0,
    restrikes=1,
    mean_current_a=150.0,
    mean_voltage_v=20.0,
    arc_energy_j_mm=500.0,
    heat_input_kj_mm=0.4,
    short_circuit_hz=60.0,
    transfer_mode="short_circuit",
    length_mm=40.0,
    travel_speed_mm_s=8.0,
)
KEPT: dict[str, Any] = {
    "arc_energy_j_mm": (400.0, 500.0),
    "heat_input_kj_mm": (0.4, 0.5),
    "mean_current_a": (140.0, 160.0),
    "mean_voltage_v": (19.0, 21.0),
    "short_circuit_hz": (30.0, 150.0),
    "arc_s": (4.0, 6.0),
    "length_mm": (39.0, 41.0),
    "travel_speed_mm_s": (7.0, 9.0),
    "max_restrikes": 1,
    "transfer_mode": "short_circuit",
}
VIOLATED: dict[str, Any] = {
    "arc_energy_j_mm": (0.0, 499.9),
    "heat_input_kj_mm": (0.41, 0.6),
    "mean_current_a": (150.1, 200.0),
    "mean_voltage_v": (0.0, 19.9),
    "short_circuit_hz": (61.0, 90.0),
    "arc_s": (5.1, 6.0),
    "length_mm": (0.0, 39.0),
    "travel_speed_mm_s": (8.1, 9.0),
    "max_restrikes": 0,
    "transfer_mode": "spray",
}


def test_every_limit_is_tested_here() -> None:
    assert {row.name for row in LIMITS} == set(Limits.model_fields) == set(KEPT)


@pytest.mark.parametrize("name", list(KEPT))
def test_kept_violated_and_unknown(name: str) -> None:
    (kept,) = check_limits(Limits(**{name: KEPT[name]}), ARC)
    (violated,) = check_limits(Limits(**{name: VIOLATED[name]}), ARC)
    assert (kept.state, violated.state) == ("kept", "violated")
    assert name in describe(violated)
    assert kept.value is not None or kept.mode is not None
    if name not in ("arc_s", "max_restrikes"):
        (unknown,) = check_limits(Limits(**{name: KEPT[name]}), ArcFigures())
        assert unknown.state == "unknown"
        assert "not measured" in describe(unknown) or "unknown" in describe(unknown)


def test_without_limits_nothing_is_checked() -> None:
    assert check_limits(None, ARC) == check_limits(Limits(), ARC) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"length_mm": [5, 4]},
        {"length_mm": [0, float("inf")]},
        {"heat_input": [0, 1]},
        {"transfer_mode": "drizzle"},
        {"max_restrikes": -1},
        {"arc_s": [-1, 4]},
    ],
)
def test_wrong_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limits(**wrong)


def test_configs_without_limits_keep_their_id() -> None:
    assert "limits" not in ProgramConfig().model_dump()
    assert ProgramConfig(limits=Limits(max_restrikes=1)).model_dump()["limits"] == {"max_restrikes": 1}
    assert config().config_id == config().model_copy().config_id


def test_limits_that_nothing_can_measure_are_told_by_check() -> None:
    limits = {"travel_speed_mm_s": [1.0, 2.0], "heat_input_kj_mm": [0.1, 0.2]}
    program = {"mode": "collecting", "views": [], "optional": [], "required": ["welder"], "limits": limits}
    told = "\n".join(reference_problems(config({"fillet": program | {"travel_speed_mm_s": None}})))
    assert "programs.fillet.limits.travel_speed_mm_s: nothing measures it" in told
    assert "programs.fillet.travel_speed_mm_s: missing" in told
    assert "limits.heat_input_kj_mm" in told
    told = "\n".join(reference_problems(config({"fillet": program})))
    assert "programs.fillet.travel_speed_mm_s" not in told


PROGRAM = ProgramConfig(mode="armed", model="demo", required=("welder", "audio"))
WELDER = Integrity("welder", "welder", 1.0, 100, 0, 0, 0.0, 0.0, "ok")
MIC = Integrity("mic", "audio", 1.0, 100, 0, 0, 0.0, 0.0, "ok")
BEYOND = check_limits(Limits(length_mm=(50.0, 60.0)), ARC)
UNKNOWN = check_limits(Limits(length_mm=(50.0, 60.0)), ArcFigures())
CASE = Case(
    program=PROGRAM,
    program_name="fillet",
    arcs=((0, 2 * S),),
    integrity={"welder": WELDER, "mic": MIC},
    max_blind_ms=200.0,
    reply=ScoreReply("seam", make_score(0.5)),
    current="welder",
    kinds={"welder": "welder", "mic": "audio"},
)


def test_a_violated_limit_is_nok_with_value_and_limit_beside_the_score() -> None:
    decision = decide(dataclasses.replace(CASE, limits=BEYOND))
    assert (decision.label, decision.reason) == (Label.NOK, "limit")
    assert decision.detail == "length_mm 40 mm, allowed 50 to 60 mm; score 0.5, limit 1"


def test_a_violated_limit_needs_no_score_and_no_microphone() -> None:
    no_mic = dataclasses.replace(CASE, limits=BEYOND, integrity={"welder": WELDER}, reply=None)
    assert decide(no_mic).label is Label.NOK
    assert decide(dataclasses.replace(no_mic, limits=())).label is Label.INDETERMINATE


@pytest.mark.parametrize("state", ["broken", "missing"])
def test_no_limit_is_judged_on_a_current_that_was_not_seen(state: str) -> None:
    integrity = {"welder": dataclasses.replace(WELDER, state=state), "mic": MIC}
    decision = decide(dataclasses.replace(CASE, limits=BEYOND, integrity=integrity))
    assert decision.label is Label.INDETERMINATE
    blind = decide(dataclasses.replace(CASE, limits=BEYOND, blind_ms=300.0))
    assert (blind.label, blind.reason) == (Label.INDETERMINATE, "stream_broken")


def test_an_interrupted_seam_is_no_limits_business() -> None:
    decision = decide(dataclasses.replace(CASE, limits=BEYOND, given=("interrupted", "stopped")))
    assert decision.reason == "interrupted"


def test_an_unmeasured_figure_is_indeterminate_but_hides_no_nok() -> None:
    decision = decide(dataclasses.replace(CASE, limits=UNKNOWN))
    assert (decision.label, decision.reason) == (Label.INDETERMINATE, "limit_unknown")
    bad = dataclasses.replace(CASE, limits=UNKNOWN, reply=ScoreReply("seam", make_score(1.5)))
    assert (decide(bad).label, decide(bad).reason) == (Label.NOK, "score_above_threshold")


def test_shadow_and_collecting_publish_nothing() -> None:
    shadow = PROGRAM.model_copy(update={"mode": "shadow"})
    decision = decide(dataclasses.replace(CASE, limits=BEYOND, program=shadow))
    assert (decision.label, decision.reason, decision.shadow_label) == (Label.INDETERMINATE, "shadow", Label.NOK)
    collecting = PROGRAM.model_copy(update={"mode": "collecting", "model": None})
    decision = decide(dataclasses.replace(CASE, limits=BEYOND, program=collecting, reply=None))
    assert (decision.label, decision.reason, decision.shadow_label) == (Label.INDETERMINATE, "collecting", None)


def test_nok_by_limit_goes_over_the_wire_without_a_score() -> None:
    verdict = a_verdict(label=Label.NOK, reason="limit", score=None, limits=BEYOND, arc=ARC)
    sent = encode_verdict(verdict, "j", 1, TimePair(0, 0))
    assert sent["limits"] == [
        {"name": "length_mm", "state": "violated", "value": 40.0, "low": 50.0, "high": 60.0, "unit": "mm",
         "mode": None, "wanted": None}
    ]  # fmt: skip
    assert sent["arc"]["short_circuit_hz"] == 60.0


SIMPLE = {"views": [], "required": ["welder"], "optional": []}


def welded(
    program: dict[str, Any], arcs: list[tuple[float, float]], refs: list[str | None], seams: list[str]
) -> Cell:
    """A part with `seams`, in which the arcs are announced as `refs`; None is not announced."""
    cell = Cell(config({"fillet": program}, cell={"default_program": "fillet"}), [welder_spec()])
    cell.say(0.1, "part", part_id="P", seams=seams)
    for (begin, _), ref in zip(arcs, refs, strict=True):
        if ref is not None:
            cell.say(begin - 0.3, "expect", program="fillet", part_id="P", seam_ref=ref)
    end_s = arcs[-1][1] + 2
    cell.weld(arcs, to_s=end_s + 2)
    cell.say(end_s, "end_part", part_id="P")
    cell.run(end_s + 2)
    return cell


def test_engine_measures_a_seam_and_judges_it_by_its_limits() -> None:
    limits = {"length_mm": [8.0, 12.0], "heat_input_kj_mm": [0.2, 0.4], "max_restrikes": 0, "arc_s": [1.0, 1.2]}
    cell = welded(SIMPLE | {"limits": limits}, [(1.0, 2.0)], ["A"], ["A"])
    verdict = cell.verdict
    assert (verdict.label, verdict.reason) == (Label.OK, "ok")
    # 180.3 A and 22.03 V (the fake cell's ripple) at 10 mm/s.
    assert verdict.arc.arc_energy_j_mm == pytest.approx(180.3 * 22.03 / 10, rel=1e-3)
    assert verdict.heat_input_kj_mm == verdict.arc.heat_input_kj_mm == pytest.approx(0.3177, rel=1e-3)
    assert {check.name: check.state for check in verdict.limits} == dict.fromkeys(limits, "kept")


def test_a_part_names_welds_that_are_missing_extra_too_short_and_too_long() -> None:
    limits = {"length_mm": [8.0, 12.0]}
    arcs = [(1.0, 2.0), (4.0, 4.6), (7.0, 8.5), (11.0, 12.0), (14.0, 15.0)]
    cell = welded(SIMPLE | {"limits": limits}, arcs, ["A", "B", "C", "X", None], ["A", "B", "C", "D"])
    (part,) = cell.parts
    last = cell.verdicts[-1].seam.seam_id
    assert (part.missing, part.extra, part.too_short, part.too_long) == (("D",), ("X", last), ("B",), ("C",))
    assert (part.label, part.reason, part.detail) == (Label.NOK, "seam_nok", "B, C")


def test_an_extra_weld_alone_makes_a_part_indeterminate() -> None:
    cell = welded(SIMPLE, [(1.0, 2.0), (4.0, 5.0)], ["A", "A"], ["A"])
    parts = [(part.label, part.reason, part.extra) for part in cell.parts]
    assert parts == [(Label.OK, "ok", ())], "complete with its last seam; what comes later belongs to no open part"
    cell = welded(SIMPLE, [(1.0, 2.0), (4.0, 5.0), (7.0, 8.0)], ["A", None, "B"], ["A", "B"])
    (part,) = cell.parts
    assert (part.label, part.reason) == (Label.INDETERMINATE, "seam_extra")


def test_a_seam_that_is_welded_once_too_often_is_extra() -> None:
    cell = welded(SIMPLE, [(1.0, 2.0), (4.0, 5.0)], ["A", "A"], ["A", "B"])
    (part,) = cell.parts
    assert (part.missing, part.extra, part.reason) == (("B",), ("A",), "seam_missing")


def measured_mm(lost: tuple[int, int]) -> Any:
    """The arc's figures where the robot moves at 8 mm/s for 1 s, its samples numbered `lost` not arriving."""
    streams = {
        "welder": {"driver": "welder.serial", "kind": "welder"},
        "motion": {"driver": "motion.csv_serial", "kind": "motion", "max_gap_ms": 300.0, "min_coverage": 0.5},
    }
    motion = StreamSpec("motion", "motion", 100.0, (1,), "float32", ("tcp_speed",), ("mm/s",))
    program = SIMPLE | {"optional": ["motion"]}
    cell = Cell(config({"fillet": program}, streams=streams, views={}), [welder_spec(), motion])
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(1.0, 2.0)], to_s=4.0, streams=["welder"])
    clock, moving = ClockParams(0, t(0), 1e7), np.full((1, 1), 8.0, np.float32)
    for k in range(400):
        if not lost[0] <= k < lost[1]:
            cell.add(Chunk("motion", k, k, clock.t_ns(k + 1), 0, moving, clock))
    cell.run(4.0)
    return cell.verdict.arc


def test_length_and_speed_are_measured_and_made_up_for_short_gaps() -> None:
    whole, gapped = measured_mm((0, 0)), measured_mm((140, 160))
    assert (whole.length_is_nominal, whole.travel_speed_mm_s) == (False, pytest.approx(8.0))
    assert gapped.length_mm == pytest.approx(8.0, rel=0.02)
    assert whole.arc_energy_j_mm == pytest.approx(180.3 * 22.03 / 8, rel=1e-3)


def test_a_broken_motion_stream_measures_no_length() -> None:
    broken = measured_mm((120, 190))
    assert (broken.length_is_nominal, broken.travel_speed_mm_s) == (True, None)
    assert broken.length_mm == pytest.approx(10.0, rel=1e-3)


def test_a_weld_without_a_full_arc_is_too_short_without_any_limit() -> None:
    cell = welded(SIMPLE, [(1.0, 1.1)], ["A"], ["A"])
    (part,) = cell.parts
    assert (part.too_short, part.label) == (("A",), Label.INDETERMINATE)
