"""Bounds of a seam that only show at their edge: late images, images too late, and chunks that come twice."""

from edged.types import Label
from tests.support.cell import Cell, config, stream_chunks, t

OTHERS = ["welder", "mic", "arc_camera"]


def test_an_image_taken_before_the_deadline_may_arrive_a_little_after_it() -> None:
    cell = Cell()
    cell.weld([(2.0, 4.0)], 12.0, streams=OTHERS)
    for chunk in stream_chunks(cell.specs["result_camera"], [], 0.0, 12.0, latency_s=0.2):
        cell.add(chunk)
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(8.75, "view", seam_ref="A", view="top")
    cell.run(8.99)
    assert cell.verdicts == []
    cell.run(12.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.OK, "ok")
    taken_ns = cell.scorer.windows[0].views["top"].t_ns
    assert t(8.85) <= taken_ns <= t(9.0)
    assert taken_ns + 200_000_000 > t(9.0), "it arrives 0.2 s later, else the test shows nothing"


def test_an_image_bound_before_the_arcs_were_known_to_be_over_must_keep_the_deadline_too() -> None:
    cell = Cell(config({"fillet": {"merge_gap_s": 1.0, "result_deadline_s": 0.3}}))
    cell.weld([(2.0, 4.0)], 8.0)
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(4.35, "view", seam_ref="A", view="top")
    cell.run(4.8)
    assert cell.engine.open_seams()[0].views == ("top",), "bound while the seam could still have gone on"
    cell.run(8.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")


def test_the_pre_roll_does_not_reach_into_the_arc_before() -> None:
    program = {"merge_gap_s": 0.2, "post_roll_s": 0.1, "pre_roll_s": 0.5, "views": []}
    cell = Cell(config({"fillet": program}))
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(0.6, "expect", program="fillet", seam_ref="B")
    cell.weld([(2.0, 4.0), (4.4, 6.0)], 8.0)
    cell.run(8.0)
    assert [verdict.seam.seam_ref for verdict in cell.verdicts] == ["A", "B"]
    first_ns = min(chunk.t_ns for chunk in cell.scorer.pushed[cell.verdicts[1].seam.seam_id])
    assert t(4.0) <= first_ns < t(4.05), "its own pre-roll would begin at 3.9 s"


def test_a_chunk_that_comes_twice_is_pushed_and_counted_once() -> None:
    once, twice = Cell(), Cell()
    for cell in (once, twice):
        cell.say(0.5, "expect", program="fillet", seam_ref="A")
        cell.say(5.0, "view", seam_ref="A", view="top")
        cell.weld([(2.0, 4.0)], 8.0)
        cell.run(3.0)
    (again,) = twice.rings["mic"].slice(t(2.9), t(2.901))
    (whole,) = (chunk for chunk in twice.rings["mic"].slice(t(2.5), t(3.0)) if chunk.seq == again.seq)
    twice.engine.step(whole, twice.clock.now_ns())
    for cell in (once, twice):
        cell.run(8.0)
    pushed = [[chunk.counter for chunk in c.scorer.pushed["seam-1"] if chunk.stream == "mic"] for c in (once, twice)]
    assert pushed[0] == pushed[1]
    assert once.verdict.integrity == twice.verdict.integrity
