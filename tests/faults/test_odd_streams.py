"""Streams that fail during a seam: a gap with its size in the verdict, never a silent OK, nothing waits for ever."""

import dataclasses

import numpy as np
import pytest

from drivers.base import Chunk
from edged.types import Label
from tests.support.cell import Cell, FakeScorer, config, stream_chunks, t
from tests.unit.edged.test_engine import assert_same_seam, replayed


def seam_without(stream: str, from_s: float, to_s: float, **program: object) -> Cell:
    """One seam of 2 s at 2.0 with a view; `stream` is away over [from_s, to_s)."""
    cell = Cell(config({"fillet": program}))
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(4.5, "view", seam_ref="A", view="top")
    cell.weld(
        [(2.0, 4.0)],
        to_s=14.0,
        keep=lambda chunk: not (chunk.stream == stream and t(from_s) <= chunk.t_ns < t(to_s)),
    )
    cell.run(25.0)
    return cell


@pytest.mark.parametrize(
    ("stream", "from_s", "to_s", "label", "reason"),
    [
        ("mic", 0.0, 99.0, Label.INDETERMINATE, "stream_missing"),
        ("mic", 2.5, 3.5, Label.INDETERMINATE, "stream_broken"),
        ("mic", 3.0, 99.0, Label.INDETERMINATE, "stream_broken"),
        ("mic", 2.5, 2.54, Label.OK, "ok"),
        ("arc_camera", 0.0, 99.0, Label.OK, "ok"),
        ("arc_camera", 2.5, 3.5, Label.OK, "ok"),
        ("welder", 2.5, 3.5, Label.INDETERMINATE, "stream_broken"),
        ("welder", 3.0, 99.0, Label.INDETERMINATE, "stream_broken"),
        ("welder", 3.8, 4.4, Label.INDETERMINATE, "stream_broken"),
        ("welder", 1.5, 2.4, Label.INDETERMINATE, "stream_broken"),
        ("welder", 4.02, 99.0, Label.INDETERMINATE, "stream_broken"),
        ("welder", 4.2, 99.0, Label.INDETERMINATE, "stream_broken"),
        ("result_camera", 0.0, 99.0, Label.INDETERMINATE, "no_result"),
    ],
)
def test_stream_that_is_away(stream: str, from_s: float, to_s: float, label: Label, reason: str) -> None:
    cell = seam_without(stream, from_s, to_s)
    verdict = cell.verdict
    assert (verdict.label, verdict.reason) == (label, reason), verdict.detail
    if label is Label.OK:
        assert verdict.degraded
    assert verdict.recording is not None
    assert verdict.score is not None


def test_gap_has_its_size_in_the_verdict() -> None:
    cell = seam_without("mic", 2.5, 3.5)
    integrity = cell.verdict.integrity["mic"]
    assert integrity.coverage == pytest.approx(0.5)
    assert integrity.longest_gap_ms == pytest.approx(1000.0)
    assert integrity.lost_items == 8000
    assert "mic covers 50.0%, longest gap 1000 ms" in cell.verdict.detail
    (gap,) = cell.scorer.windows[0].gaps
    assert (gap.stream, gap.from_ns, gap.to_ns) == ("mic", t(2.5), t(3.5))
    assert cell.scorer.windows[0].missing == ("audio",)
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


def test_stream_that_is_down_holds_the_verdict_for_a_bounded_time() -> None:
    cell = Cell(config({"fillet": {"views": []}}))
    cell.say(0.5, "expect", program="fillet")
    cell.weld([(2.0, 4.0)], to_s=8.0, keep=lambda chunk: chunk.stream != "arc_camera")
    cell.run(5.2)
    assert cell.verdicts == []
    cell.run(5.5)
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, True)


def test_late_stream_is_waited_for() -> None:
    cell = Cell(config({"fillet": {"views": []}}))
    cell.say(0.5, "expect", program="fillet")
    cell.weld([(2.0, 4.0)], to_s=8.0, streams=["welder", "arc_camera", "result_camera"])
    for chunk in stream_chunks(cell.specs["mic"], [(2.0, 4.0)], 0.0, 8.0, latency_s=0.8):
        cell.add(chunk)
    cell.run(7.0)
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, False)
    assert cell.verdict.integrity["mic"].coverage == 1.0
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


def test_burning_arc_whose_current_stops_is_closed() -> None:
    cell = seam_without("welder", 3.0, 99.0)
    assert cell.verdict.seam.arcs == ((t(2.0), t(3.0)),)
    assert "5000 ms or more without current data" in cell.verdict.detail


def test_long_blindness_gives_up_what_was_announced() -> None:
    """Nobody can tell whether the arc that burns afterwards is the announced one."""
    cell = Cell(config({"fillet": {"views": [], "arc_deadline_s": 60.0}}))
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(2.5, "expect", program="fillet", seam_ref="B")
    cell.weld([(2.0, 12.0)], to_s=15.0, keep=lambda c: c.stream != "welder" or not t(3.0) <= c.t_ns < t(10.0))
    cell.run(20.0)
    assert [(v.seam.seam_ref, v.label, v.reason) for v in cell.verdicts] == [
        ("A", Label.INDETERMINATE, "stream_broken"),
        ("B", Label.INDETERMINATE, "stream_missing"),
        (None, Label.INDETERMINATE, "unknown_program"),
    ]


def test_microphone_that_delivers_one_number_is_silent() -> None:
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(4.5, "view", seam_ref="A", view="top")
    for name in cell.specs:
        for chunk in stream_chunks(cell.specs[name], [(2.0, 4.0)], 0.0, 8.0):
            dead = name == "mic" and t(2.5) <= chunk.t_ns < t(3.5)
            cell.add(dataclasses.replace(chunk, data=np.zeros_like(chunk.data)) if dead else chunk)
    cell.run(8.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "stream_broken")
    (gap,) = cell.scorer.windows[0].gaps
    assert gap.reason == "silent"


def test_lost_blocks_are_counted_from_the_driver() -> None:
    cell = Cell(config({"fillet": {"views": []}}))
    cell.say(0.5, "expect", program="fillet")

    def lossy(chunk: Chunk) -> Chunk:
        lost = chunk.stream == "welder" and chunk.t_ns == t(3.0)
        return dataclasses.replace(chunk.cut(10, chunk.n), lost_before=10) if lost else chunk

    for name in cell.specs:
        for chunk in stream_chunks(cell.specs[name], [(2.0, 4.0)], 0.0, 8.0):
            cell.add(lossy(chunk))
    cell.run(8.0)
    integrity = cell.verdict.integrity["welder"]
    assert (integrity.lost_items, integrity.gaps, integrity.state) == (10, 1, "degraded")
    assert integrity.longest_gap_ms == pytest.approx(5.0)
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, True)


def test_sound_that_lags_is_out_of_sync() -> None:
    cell = Cell(config({"fillet": {"views": [], "max_sync_residual_ms": 20.0}}))
    cell.say(0.5, "expect", program="fillet")
    for name in cell.specs:
        arcs = [(2.03, 4.03)] if name == "mic" else [(2.0, 4.0)]
        for chunk in stream_chunks(cell.specs[name], arcs, 0.0, 8.0):
            cell.add(chunk)
    cell.run(8.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "sync")
    assert cell.verdict.integrity["mic"].sync_residual_ms == pytest.approx(30.0, abs=1.0)


def test_worker_that_never_answers() -> None:
    """Not even that it is loading: the engine waits for start and finish time-outs together, then says so."""
    scorer = FakeScorer()
    scorer.silent = True
    cell = Cell(config({"fillet": {"views": []}}), scorer=scorer)
    cell.say(0.5, "expect", program="fillet")
    cell.weld([(2.0, 4.0)], to_s=8.0)
    cell.run(144.0)
    assert cell.verdicts == []
    cell.run(150.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "worker_failed")
    assert scorer.dropped == ["seam-1"]
