"""A part's verdict: OK only if every expected seam is; NOK beats INDETERMINATE beats OK."""

import pytest

from edged.judge import Judge
from edged.types import Label
from pipelines.thresholds import ThresholdTable, calibrate
from tests.support.cell import Cell, FakeScorer, config, t, welder_spec

SIMPLE = {"fillet": {"views": [], "required": ["welder"], "optional": []}}


class ByRef(FakeScorer):
    """Seams in `bad` score above the limit, those in `broken` get no score."""

    bad: frozenset[str] = frozenset()

    def finish(self, window):  # type: ignore[no-untyped-def]
        self.score = 2.0 if window.seam.seam_ref in self.bad else 0.5
        super().finish(window)


def part(
    seams: list[str], welded: list[str], bad: set[str], end: bool = True, goods: int = 0, mode: str = "armed"
) -> Cell:
    """With `goods`, limits are conformal over 0.01, 0.02, … and the part has a budget of 20 %."""
    scorer = ByRef()
    scorer.bad = frozenset(bad)
    programs = {"fillet": {**SIMPLE["fillet"], "mode": mode}}
    cfg = config(programs, **({"parts": {"false_alarm_budget": 0.2}} if goods else {}))
    judge = None
    if goods:
        own = calibrate("model-1", "fillet", (), [0.01 * (i + 1) for i in range(goods)] + [1.5], 0.3)
        judge = Judge(cfg, ThresholdTable(), {"fillet": ThresholdTable([own])})
    cell = Cell(cfg, [welder_spec()], scorer=scorer, judge=judge)
    cell.say(0.1, "part", part_id="P", seams=seams)
    arcs = []
    for k, ref in enumerate(welded):
        cell.say(1.0 + 2 * k, "expect", program="fillet", part_id="P", seam_ref=ref)
        arcs.append((1.5 + 2 * k, 1.6 + 2 * k if ref.startswith("short") else 2.2 + 2 * k))
    end_s = 1.0 + 2 * len(welded)
    cell.weld(arcs, to_s=end_s + 5)
    if end:
        cell.say(end_s - 0.5, "end_part", part_id="P")
    cell.run(end_s + 5)
    return cell


@pytest.mark.parametrize(
    ("seams", "welded", "bad", "label", "reason", "detail"),
    [
        (["A", "B"], ["A", "B"], set(), Label.OK, "ok", "2 seams"),
        (["A", "B"], ["A", "B"], {"B"}, Label.NOK, "seam_nok", "B"),
        (["A", "B"], ["A"], set(), Label.INDETERMINATE, "seam_missing", "B"),
        (["A", "B"], ["A"], {"A"}, Label.NOK, "seam_nok", "A"),
        (["A", "short"], ["A", "short"], set(), Label.INDETERMINATE, "seam_indeterminate", "short"),
        (["A", "short"], ["A", "short"], {"A"}, Label.NOK, "seam_nok", "A"),
        (["A", "A"], ["A"], set(), Label.INDETERMINATE, "seam_missing", "A"),
        (["A", "A"], ["A", "A"], set(), Label.OK, "ok", "2 seams"),
        (["A", "B"], ["A", "X"], {"X"}, Label.NOK, "seam_nok", "X"),
    ],
)
def test_part_verdict(
    seams: list[str], welded: list[str], bad: set[str], label: Label, reason: str, detail: str
) -> None:
    cell = part(seams, welded, bad)
    (verdict,) = cell.parts
    assert (verdict.label, verdict.reason, verdict.detail) == (label, reason, detail)
    assert {seam.seam_ref for seam in verdict.seams} == set(seams) | set(welded)


def test_part_is_judged_without_end_part_once_all_seams_are_there() -> None:
    assert [verdict.label for verdict in part(["A", "B"], ["A", "B"], set(), end=False).parts] == [Label.OK]


def test_end_part_waits_for_open_seams() -> None:
    cell = Cell(config(SIMPLE), [welder_spec()])
    cell.say(0.1, "part", part_id="P", seams=["A"])
    cell.say(0.2, "expect", program="fillet", part_id="P", seam_ref="A")
    cell.say(0.3, "end_part", part_id="P")
    cell.weld([(1.0, 2.0)], to_s=5.0)
    cell.run(2.0)
    assert cell.parts == []
    cell.run(5.0)
    assert [verdict.label for verdict in cell.parts] == [Label.OK]


def test_forgotten_part_times_out_as_missing() -> None:
    cell = Cell(config(SIMPLE), [welder_spec()])
    cell.say(0.1, "part", part_id="P", seams=["A"])
    cell.run(1.0)
    cell.engine.step(None, t(3600.0))
    assert cell.parts == []
    cell.engine.step(None, t(3600.2))
    assert [(verdict.label, verdict.reason) for verdict in cell.parts] == [(Label.INDETERMINATE, "seam_missing")]


def test_part_that_is_open_already_is_refused_and_shutdown_judges_it() -> None:
    cell = Cell(config(SIMPLE), [welder_spec()])
    assert cell.engine.control({"op": "part", "part_id": "P", "seams": ["A"]}, t(0)) == {"ok": True}
    assert "open already" in cell.engine.control({"op": "part", "part_id": "P", "seams": ["A"]}, t(0))["error"]
    cell.engine.shutdown(t(1))
    assert [verdict.label for verdict in cell.parts] == [Label.INDETERMINATE]


def test_end_part_of_a_judged_part_says_so_and_changes_nothing() -> None:
    cell = part(["A"], ["A"], {"A"}, end=False)
    assert [verdict.label for verdict in cell.parts] == [Label.NOK]
    ended = {"op": "end_part", "part_id": "P"}
    for _ in range(2):
        assert cell.engine.control(ended, t(9.0)) == {"ok": True, "already": "NOK"}
    cell.run(10.0)
    assert len(cell.parts) == 1
    assert not cell.engine.control({"op": "end_part", "part_id": "Q"}, t(10.0))["ok"]
    assert cell.engine.control({"op": "part", "part_id": "P", "seams": ["A"]}, t(10.0))["ok"]
    assert cell.engine.control(ended, t(10.0)) == {"ok": True}, "it was opened again"
    cell.run(11.0)
    assert [verdict.reason for verdict in cell.parts] == ["seam_nok", "seam_missing"]


@pytest.mark.parametrize(
    ("bad", "label", "reason", "shadow_label"),
    [(set(), Label.OK, "ok", None), ({"B"}, Label.NOK, "seam_nok", None)],
)
def test_a_part_with_goods_enough_is_judged_at_its_share_of_the_budget(
    bad: set[str], label: Label, reason: str, shadow_label: Label | None
) -> None:
    """Scores are 1.0 and 4.0; at 20 % / 2 the limit is the largest of 12 goods, 1.5, at the program's 30 % 0.1."""
    cell = part(["A", "B"], ["A", "B"], bad, goods=11)
    (verdict,) = cell.parts
    assert (verdict.label, verdict.reason, verdict.shadow_label) == (label, reason, shadow_label)
    assert [v.false_alarm_budget for v in cell.verdicts] == [0.1, 0.1]
    assert [v.score.threshold for v in cell.verdicts if v.score] == [1.5, 1.5]


@pytest.mark.parametrize(("bad", "would_be"), [(set(), Label.NOK), ({"B"}, Label.NOK)])
def test_a_part_with_too_few_goods_stays_in_shadow(bad: set[str], would_be: Label) -> None:
    cell = part(["A", "B", "C"], ["A", "B", "C"], bad, goods=11)
    (verdict,) = cell.parts
    assert (verdict.label, verdict.reason, verdict.shadow_label) == (Label.INDETERMINATE, "part_budget", would_be)
    assert "of 3 seams needs 14 goods of each; program fillet has 12, record 2 more" in verdict.detail
    assert [v.label for v in cell.verdicts] == [Label.NOK] * 3, "its seams are judged by their program's own budget"
    assert [v.false_alarm_budget for v in cell.verdicts] == [0.3] * 3


@pytest.mark.parametrize(
    ("welded", "bad", "label", "reason", "shadow_label"),
    [
        (["A", "B"], set(), Label.INDETERMINATE, "seam_indeterminate", Label.OK),
        (["A", "B"], {"A"}, Label.INDETERMINATE, "seam_indeterminate", Label.NOK),
        (["A"], set(), Label.INDETERMINATE, "seam_missing", Label.INDETERMINATE),
        (["A"], {"A"}, Label.INDETERMINATE, "seam_missing", Label.NOK),
    ],
)
def test_a_part_of_programs_in_shadow_says_what_it_would_be(
    welded: list[str], bad: set[str], label: Label, reason: str, shadow_label: Label
) -> None:
    cell = part(["A", "B"], welded, bad, mode="shadow")
    (verdict,) = cell.parts
    assert (verdict.label, verdict.reason, verdict.shadow_label) == (label, reason, shadow_label)
