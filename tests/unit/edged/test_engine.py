"""The engine end to end on synthetic signals: one seam, its window, its verdict, and the same from its recording."""

import dataclasses

import numpy as np
import pytest

from drivers.base import Chunk
from edged.scoring import LiveReply
from edged.types import Label
from tests.support.cell import MS, Cell, FakeRecorder, FakeScorer, S, config, stream_chunks, t
from tests.support.verdicts import a_point


def one_seam(cell: Cell, view_s: float | None = 4.5) -> Cell:
    cell.say(0.5, "expect", program="fillet", part_id="P1", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=12.0)
    if view_s is not None:
        cell.say(view_s, "view", seam_ref="A", view="top")
    cell.run(12.0)
    return cell


def test_good_seam_is_ok() -> None:
    cell = one_seam(Cell())
    verdict = cell.verdict
    assert (verdict.label, verdict.reason) == (Label.OK, "ok"), verdict.detail
    assert not verdict.degraded
    assert cell.replies == [{"ok": True, "seam_id": "seam-1"}, {"ok": True, "seam_id": "seam-1"}]
    assert verdict.seam.seam_ref == "A"
    assert verdict.seam.arcs == ((t(2.0), t(4.0)),)
    assert verdict.mean_current_a == pytest.approx(180.3, abs=0.01)
    assert verdict.arc_energy_j_mm == pytest.approx(180.3 * 22.03 * 2.0 / 20.0, rel=1e-4)
    assert verdict.heat_input_kj_mm == pytest.approx(0.8 * verdict.arc_energy_j_mm / 1000)
    assert verdict.recording == "/recordings/seam-1.mcap"
    assert cell.recorder.finished["seam-1"]["label"] == "OK"
    assert verdict.latency_from_last_input_ms is not None
    assert verdict.latency_from_last_input_ms < 100


def test_window_is_exact_and_pushed_once() -> None:
    cell = one_seam(Cell())
    pushed = cell.scorer.pushed["seam-1"]
    for name in ("welder", "mic", "arc_camera"):
        times = np.concatenate([chunk.times_ns() for chunk in pushed if chunk.stream == name])
        spec = cell.specs[name]
        assert np.all(np.diff(times) > 0)
        assert times[0] >= t(1.5)
        assert times[0] < t(1.5) + spec.dt_ns
        assert times[-1] < t(4.3)
        assert times[-1] >= t(4.3) - spec.dt_ns - 1
    assert not [chunk for chunk in pushed if chunk.stream == "result_camera"]


def test_integrity_and_strikes() -> None:
    cell = one_seam(Cell())
    found = cell.verdict.integrity
    assert set(found) == {"welder", "mic", "arc_camera"}
    for integrity in found.values():
        assert (integrity.state, integrity.lost_items, integrity.gaps) == ("ok", 0, 0)
        assert integrity.coverage == pytest.approx(1.0, abs=1e-3)
    assert found["mic"].items == 16000
    assert found["arc_camera"].items == 60
    assert found["welder"].sync_residual_ms == 0.0
    assert found["mic"].sync_residual_ms == pytest.approx(0.0, abs=1.0)
    assert found["arc_camera"].sync_residual_ms == pytest.approx(0.0, abs=1000 / 30 / 2)


def test_view_is_first_frame_after_trigger_and_settling() -> None:
    cell = one_seam(Cell(), view_s=4.55)
    view = cell.scorer.windows[0].views["top"]
    assert view.t_ns == t(4.7)
    recorded = [e for e in cell.recorder.events["seam-1"] if isinstance(e, Chunk) and e.stream == "result_camera"]
    assert [chunk.t_ns for chunk in recorded] == [t(4.7)]


def replayed(cell: Cell, seam_id: str, jitter_ns: int = 0) -> Cell:
    """The recording of a seam through a new engine, on a clock that is `jitter_ns` late."""
    twin = Cell(cell.config, list(cell.specs.values()), recorder=FakeRecorder(), new_id=lambda: seam_id)
    for event in cell.recorder.events[seam_id]:
        if isinstance(event, Chunk):
            twin.add(dataclasses.replace(event, arrival_ns=event.arrival_ns + jitter_ns))
        else:
            at_ns, message = event
            twin.say((at_ns - t(0)) / S, **message)
    twin.run(60.0)
    return twin


@pytest.mark.parametrize("jitter_ms", [0, 30])
def test_replay_pushes_the_same(jitter_ms: int) -> None:
    cell = one_seam(Cell())
    twin = replayed(cell, "seam-1", jitter_ms * MS)
    assert_same_seam(cell, twin, "seam-1")


def assert_same_seam(cell: Cell, twin: Cell, seam_id: str) -> None:
    for name in cell.specs:
        live = [chunk for chunk in cell.scorer.pushed[seam_id] if chunk.stream == name]
        again = [chunk for chunk in twin.scorer.pushed[seam_id] if chunk.stream == name]
        assert [(c.seq, c.counter, c.n, c.t_ns) for c in live] == [(c.seq, c.counter, c.n, c.t_ns) for c in again]
        assert all(np.array_equal(a.data, b.data) for a, b in zip(live, again, strict=True))
    a = next(w for w in cell.scorer.windows if w.seam.seam_id == seam_id)
    b = next(w for w in twin.scorer.windows if w.seam.seam_id == seam_id)
    assert (a.seam, a.integrity, a.gaps, a.missing) == (b.seam, b.integrity, b.gaps, b.missing)
    assert {k: v.t_ns for k, v in a.views.items()} == {k: v.t_ns for k, v in b.views.items()}
    live_verdict = next(v for v in cell.verdicts if v.seam.seam_id == seam_id)
    again_verdict = next(v for v in twin.verdicts if v.seam.seam_id == seam_id)
    assert (live_verdict.label, live_verdict.reason) == (again_verdict.label, again_verdict.reason)
    assert live_verdict.arc_energy_j_mm == again_verdict.arc_energy_j_mm


def test_score_above_limit_is_nok() -> None:
    verdict = one_seam(Cell(scorer=FakeScorer(1.0))).verdict
    assert (verdict.label, verdict.reason) == (Label.NOK, "score_above_threshold")


def test_shadow_publishes_nothing_but_says_what_it_would() -> None:
    verdict = one_seam(Cell(config({"fillet": {"mode": "shadow"}}))).verdict
    assert (verdict.label, verdict.reason, verdict.shadow_label) == (Label.INDETERMINATE, "shadow", Label.OK)


def test_recording_is_on_disk_before_the_verdict_is_handed_over() -> None:
    class Ordered(FakeRecorder):
        def finish(self, seam, verdict, now_ns):  # type: ignore[no-untyped-def]
            cell.order.append(f"disk {seam.seam_id}")
            return super().finish(seam, verdict, now_ns)

    cell = Cell(recorder=Ordered())
    one_seam(cell)
    assert cell.order == ["disk seam-1", "verdict seam-1"]


def test_shutdown_interrupts_open_seams() -> None:
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(0.6, "expect", program="fillet", seam_ref="B")
    cell.weld([(2.0, 4.0)], to_s=3.0)
    cell.run(3.0)
    assert [status.state for status in cell.engine.open_seams()] == ["expected", "burning"]
    cell.engine.shutdown(cell.clock.now_ns())
    assert {(v.seam.seam_ref, v.label, v.reason) for v in cell.verdicts} == {
        ("A", Label.INDETERMINATE, "interrupted"),
        ("B", Label.INDETERMINATE, "interrupted"),
    }
    assert cell.recorder.finished["seam-1"]["reason"] == "interrupted"
    assert cell.engine.open_seams() == []


def test_all_but_the_last_view_is_worked_on_before_it_comes() -> None:
    cell = Cell(config({"fillet": {"views": ["top", "side"]}}, views=TWO_VIEWS))
    cell.say(0.5, "expect", program="fillet", part_id="P1", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=12.0)
    cell.say(5.0, "view", seam_ref="A", view="top")
    cell.say(6.0, "view", seam_ref="A", view="side")
    cell.run(5.0)
    (early,) = cell.scorer.prepared
    assert early.seam.arcs == ((t(2.0), t(4.0)),)
    assert early.views == {}
    cell.run(5.9)
    assert [sorted(window.views) for window in cell.scorer.prepared] == [[], ["top"]]
    assert cell.scorer.windows == []
    cell.run(12.0)
    assert len(cell.scorer.prepared) == 2
    (asked,) = cell.scorer.windows
    assert sorted(asked.views) == ["side", "top"]
    assert asked.integrity == early.integrity
    assert cell.verdict.label is Label.OK


TWO_VIEWS = {name: {"stream": "result_camera", "settle_ms": 100.0} for name in ("top", "side")}


def test_a_stream_that_is_late_changes_what_was_prepared() -> None:
    """The microphone's last half second comes after the process has been given up waiting for."""
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", part_id="P1", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=12.0, streams=["welder", "arc_camera", "result_camera"])
    late = list(stream_chunks(cell.specs["mic"], [(2.0, 4.0)], 0.0, 4.4))
    for chunk in late:
        delay_ns = 2 * S if chunk.t_ns > t(3.5) else 0
        cell.add(dataclasses.replace(chunk, arrival_ns=chunk.arrival_ns + delay_ns))
    cell.say(7.0, "view", seam_ref="A", view="top")
    cell.run(12.0)
    (asked,) = cell.scorer.windows
    assert cell.scorer.prepared[0].integrity["mic"].coverage < 0.8
    assert asked.integrity["mic"].coverage == pytest.approx(1.0, abs=1e-3)


def test_points_of_open_seams_are_told_and_those_of_others_are_not() -> None:
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", part_id="P1", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=12.0)
    cell.run(3.0)
    points = a_point(), a_point(t_s=0.4)
    cell.scorer.points = [LiveReply("seam-1", points), LiveReply("nobody's", points)]
    cell.run(4.0)
    assert cell.live == [("seam-1", points[0]), ("seam-1", points[1])]
    cell.say(4.5, "view", seam_ref="A", view="top")
    cell.run(12.0)
    assert cell.verdict.label is Label.OK  # a live score never decides
    cell.scorer.points = [LiveReply("seam-1", points)]
    cell.run(13.0)
    assert len(cell.live) == 2


def test_a_stream_that_comes_with_the_deadline_still_counts() -> None:
    """In the very step in which the score is asked for, nothing of before may stand."""
    cell = Cell()
    cell.say(0.5, "expect", program="fillet", part_id="P1", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=12.0, streams=["welder", "arc_camera", "result_camera"])
    for chunk in stream_chunks(cell.specs["mic"], [(2.0, 4.0)], 0.0, 4.4, block_s=0.1):
        if chunk.t_ns < t(3.85):
            cell.add(chunk)
        elif chunk.t_ns < t(3.95):  # the last whole chunk of the arc, after deadline and grace
            cell.add(dataclasses.replace(chunk, arrival_ns=t(9.501)))
    cell.run(12.0)
    (asked,) = cell.scorer.windows
    assert cell.scorer.prepared[-1].integrity["mic"].coverage == pytest.approx(0.95)
    assert asked.integrity["mic"].coverage == pytest.approx(1.0, abs=1e-3)
