"""Result images: bound by trigger only; missing, early, late or ambiguous ones never make an OK."""

import pytest

from edged.types import Label
from tests.support.cell import Cell, FakeRecorder, config, t
from tests.unit.edged.test_engine import assert_same_seam, one_seam, replayed


def test_no_trigger_means_no_result_with_the_process_score_attached() -> None:
    cell = one_seam(Cell(), view_s=None)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")
    assert cell.verdict.score is not None
    assert cell.scorer.windows[0].views == {}
    assert "result" in cell.scorer.windows[0].missing
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


@pytest.mark.parametrize("view_s", [3.0, 3.99])
def test_trigger_before_arc_off_shows_no_result(view_s: float) -> None:
    cell = one_seam(Cell(), view_s=view_s)
    assert cell.replies[-1]["ok"] is True
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")


def test_trigger_before_a_restrike_is_void_and_may_be_repeated() -> None:
    cell = Cell(config({"fillet": {"expected_arcs": 2}}))
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(2.0, 3.0), (3.3, 4.0)], to_s=10.0)
    cell.say(3.1, "view", seam_ref="A", view="top")
    cell.say(5.0, "view", seam_ref="A", view="top")
    cell.run(10.0)
    assert [reply["ok"] for reply in cell.replies] == [True, True, True]
    assert cell.verdict.label is Label.OK
    assert cell.scorer.windows[0].views["top"].t_ns == t(5.1)
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


def test_late_trigger_is_refused_and_changes_nothing() -> None:
    cell = one_seam(Cell(), view_s=10.0)
    assert cell.replies[-1] == {"ok": False, "error": "seam 'A' has its verdict already; its view comes too late"}
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")


def test_late_image_is_not_bound() -> None:
    """Triggered in time, but the first frame is younger than the deadline."""
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(2.0, 4.0)], 12.0, keep=lambda c: c.stream != "result_camera" or c.t_ns >= t(9.1))
    cell.say(5.0, "view", seam_ref="A", view="top")
    cell.run(12.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")
    assert "result_camera" not in {e.stream for e in cell.recorder.events["seam-1"] if not isinstance(e, tuple)}


def test_frame_before_the_trigger_is_never_taken() -> None:
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(2.0, 4.0)], 12.0, keep=lambda c: c.stream != "result_camera" or not t(5.0) <= c.t_ns < t(7.0))
    cell.say(5.0, "view", seam_ref="A", view="top")
    cell.run(12.0)
    assert cell.scorer.windows[0].views["top"].t_ns == t(7.0)
    assert cell.verdict.label is Label.OK


def waiting_seams() -> Cell:
    cell = Cell()
    cell.say(0.1, "expect", program="fillet", seam_ref="A", part_id="P1")
    cell.say(0.2, "expect", program="fillet", seam_ref="A", part_id="P2")
    cell.weld([(1.0, 2.0), (3.0, 4.0)], to_s=10.0)
    return cell


def test_several_seams_wait_at_once_and_finish_in_any_order() -> None:
    cell = waiting_seams()
    cell.say(4.6, "view", seam_id="seam-2", view="top")
    cell.say(5.6, "view", seam_id="seam-1", view="top")
    cell.run(5.0)
    assert {status.seam_id: status.state for status in cell.engine.open_seams()} == {"seam-1": "awaiting_result"}
    cell.run(10.0)
    assert [(v.seam.seam_id, v.label) for v in cell.verdicts] == [("seam-2", Label.OK), ("seam-1", Label.OK)]
    assert {w.seam.seam_id: w.views["top"].t_ns for w in cell.scorer.windows} == {"seam-1": t(5.7), "seam-2": t(4.7)}


def test_reference_that_fits_two_open_seams_is_refused() -> None:
    cell = waiting_seams()
    cell.say(4.6, "view", seam_ref="A", view="top")
    cell.say(4.7, "view", seam_ref="A", view="top", part_id="P2")
    cell.run(10.0)
    assert cell.replies[2]["error"] == ("seam_ref: 'A' fits 2 open seams; name one by seam_id: seam-1, seam-2")
    assert cell.replies[3] == {"ok": True, "seam_id": "seam-2"}
    assert {v.seam.seam_id: v.reason for v in cell.verdicts} == {"seam-1": "no_result", "seam-2": "ok"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, "op: None is not one of part, expect, view, end_part, ping"),
        ({"op": "explode"}, "op: 'explode' is not one of"),
        ({"op": ["expect"]}, "op: ['expect'] is not one of"),
        ({"op": "expect"}, "program: Field required"),
        ({"op": "expect", "program": "x" * 129}, "program: String should have at most 128 characters"),
        ({"op": "expect", "program": "a\nb"}, "program: String should match"),
        ({"op": "expect", "program": "fillet", "pass_index": -1, "speed": 3}, "speed: unknown field"),
        ({"op": "expect", "program": "fillet", "torch": "L"}, "torch: 'L' is not known; this cell has 1"),
        ({"op": "view", "view": "top"}, "seam_ref or seam_id is needed"),
        ({"op": "view", "view": "top", "seam_ref": "Z"}, "no open seam 'Z'"),
        ({"op": "part", "part_id": "P", "seams": []}, "seams: Tuple should have at least 1 item"),
        ({"op": "part", "part_id": "P", "seams": ["A"] * 257}, "seams: Tuple should have at most 256 items"),
        ({"op": "end_part", "part_id": "P"}, "part_id: no part 'P' is open"),
    ],
)
def test_message_that_cannot_be_followed(message: dict[str, object], error: str) -> None:
    cell = Cell()
    reply = cell.engine.control(message, t(0))
    assert reply["ok"] is False
    assert error in reply["error"]
    assert cell.engine.open_seams() == []


def test_ping() -> None:
    assert Cell().engine.control({"op": "ping"}, t(0)) == {"ok": True}


def test_unknown_view_and_second_trigger_are_refused() -> None:
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=5.0)
    cell.say(4.5, "view", seam_ref="A", view="side")
    cell.say(4.5, "view", seam_ref="A", view="top")
    cell.say(4.51, "view", seam_ref="A", view="top")
    cell.run(5.0)
    assert "program 'fillet' has no view 'side'; it has top" in cell.replies[1]["error"]
    assert cell.replies[2]["ok"] is True
    assert "has been triggered already" in cell.replies[3]["error"]


def test_queue_of_announced_seams_is_bounded() -> None:
    cell = Cell()
    replies = [cell.engine.control({"op": "expect", "program": "fillet"}, t(0)) for _ in range(65)]
    assert [reply["ok"] for reply in replies] == [True] * 64 + [False]


@pytest.mark.parametrize("recorder", [FakeRecorder(full_after=20), FakeRecorder(fail_finish=True)])
def test_full_disk_makes_every_seam_not_recorded(recorder: FakeRecorder) -> None:
    cell = one_seam(Cell(recorder=recorder))
    verdict = cell.verdict
    assert (verdict.label, verdict.reason, verdict.recording) == (Label.INDETERMINATE, "not_recorded", None)
    assert "No space left on device; it would have been OK (ok)" in verdict.detail
    assert verdict.score is not None
    assert recorder.abandoned == ["seam-1"]
    assert recorder.finished == {}
