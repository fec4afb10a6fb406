"""Arcs that are not one neat seam: each has a defined verdict, none is a silent OK."""

import pytest

from drivers.base import Chunk
from edged.types import Label
from tests.support.cell import Cell, S, config, stream_chunks, t, welder_spec
from tests.unit.edged.test_engine import assert_same_seam, replayed

NO_VIEWS = {"views": [], "required": ["welder"], "optional": []}


def simple(program: dict[str, object] | None = None, **kwargs: object) -> Cell:
    """A cell with a welder only."""
    cfg = config({"fillet": {**NO_VIEWS, **(program or {})}})
    return Cell(cfg, [welder_spec()], **kwargs)  # type: ignore[arg-type]


def test_two_arcs_a_fifth_of_a_second_apart_are_one_seam_with_a_restrike() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.say(2.1, "expect", program="fillet", seam_ref="B")
    cell.weld([(1.0, 2.0), (2.2, 3.0)], to_s=5.0)
    cell.run(6.0)
    verdict = cell.verdict
    assert verdict.seam.arcs == ((t(1.0), t(2.0)), (t(2.2), t(3.0)))
    assert verdict.arc_s == pytest.approx(1.8)
    assert (verdict.label, verdict.reason) == (Label.INDETERMINATE, "arc_count")
    assert verdict.detail == "2 arcs, 1 expected"
    assert verdict.score is not None
    assert [status.seam_ref for status in cell.engine.open_seams()] == ["B"]
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


def test_stitch_weld_with_as_many_arcs_as_expected_is_ok() -> None:
    cell = simple({"expected_arcs": 3})
    cell.say(0.1, "expect", program="fillet")
    cell.weld([(1.0, 1.5), (1.8, 2.3), (2.6, 3.1)], to_s=5.0)
    assert cell.run(6.0)[0].label is Label.OK


def test_arcs_further_apart_than_the_merge_gap_are_two_seams() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.say(1.5, "expect", program="fillet", seam_ref="B")
    cell.weld([(1.0, 2.0), (2.6, 3.6)], to_s=6.0)
    cell.run(6.0)
    assert [(v.seam.seam_ref, v.label, v.seam.arcs) for v in cell.verdicts] == [
        ("A", Label.OK, ((t(1.0), t(2.0)),)),
        ("B", Label.OK, ((t(2.6), t(3.6)),)),
    ]
    for seam_id in ("seam-1", "seam-2"):
        assert_same_seam(cell, replayed(cell, seam_id), seam_id)


def test_next_arc_inside_the_post_roll_stays_out_of_the_recording() -> None:
    cell = simple({"post_roll_s": 2.0, "pre_roll_s": 2.0})
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.say(1.5, "expect", program="fillet", seam_ref="B")
    cell.weld([(1.0, 2.0), (2.6, 3.6)], to_s=8.0)
    cell.run(8.0)
    for seam_id in ("seam-1", "seam-2"):
        twin = replayed(cell, seam_id)
        assert len(twin.verdicts) == 1
        assert_same_seam(cell, twin, seam_id)


def test_arc_of_50_ms_is_a_seam_that_was_too_short() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.weld([(1.0, 1.05)], to_s=3.0)
    cell.run(4.0)
    verdict = cell.verdict
    assert (verdict.label, verdict.reason) == (Label.INDETERMINATE, "arc_too_short")
    assert verdict.arc_s == pytest.approx(0.05)
    assert verdict.recording is not None
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


def test_failed_ignition_before_the_arc_belongs_to_the_seam_and_is_not_counted() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet")
    cell.weld([(1.0, 1.05), (1.3, 3.0)], to_s=5.0)
    cell.run(5.0)
    assert cell.verdict.label is Label.OK
    assert cell.verdict.seam.arcs == ((t(1.0), t(1.05)), (t(1.3), t(3.0)))


def test_ten_minute_seam_longer_than_the_ring() -> None:
    spec = welder_spec(rate_hz=50.0)
    cell = Cell(config({"fillet": NO_VIEWS}), [spec], ring_s=5.0)
    cell.say(0.1, "expect", program="fillet")
    cell.weld([(1.0, 601.0)], to_s=603.0, block_s=0.5)
    cell.run(604.0, tick_s=1.0)
    verdict = cell.verdict
    assert (verdict.label, verdict.arc_s) == (Label.OK, pytest.approx(600.0))
    assert verdict.integrity["welder"].items == 30_000
    assert verdict.integrity["welder"].lost_items == 0
    assert cell.rings["welder"].overwritten > 29_000
    assert sum(chunk.n for chunk in cell.scorer.pushed["seam-1"]) == round((0.5 + 600.0 + 0.3) * 50)
    assert verdict.mean_current_a == pytest.approx(180.3, abs=0.02)


def test_expect_without_an_arc() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.weld([], to_s=12.0)
    cell.run(10.05)
    assert cell.verdicts == []
    cell.run(12.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_arc")
    assert cell.verdict.seam.seam_ref == "A"
    assert cell.verdict.recording is None


def test_expect_while_the_welder_is_down_says_so() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.run(12.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "stream_missing")


def test_arc_after_its_deadline_is_not_the_announced_seam() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.weld([(10.2, 12.0)], to_s=14.0)
    cell.run(15.0)
    assert [(v.seam.seam_ref, v.reason) for v in cell.verdicts] == [("A", "no_arc"), (None, "unknown_program")]


def test_expect_during_an_arc_names_the_next_seam_and_its_deadline_begins_after_the_arc() -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet", seam_ref="A")
    cell.say(2.0, "expect", program="fillet", seam_ref="B")
    cell.weld([(1.0, 14.0), (20.0, 22.0)], to_s=25.0, block_s=0.1)
    cell.run(25.0)
    assert [(v.seam.seam_ref, v.label, v.seam.arc_on_ns) for v in cell.verdicts] == [
        ("A", Label.OK, t(1.0)),
        ("B", Label.OK, t(20.0)),
    ]
    assert_same_seam(cell, replayed(cell, "seam-2"), "seam-2")


def test_arc_nobody_announced_is_an_unknown_program() -> None:
    cell = simple()
    cell.weld([(1.0, 2.0)], to_s=4.0)
    cell.run(4.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "unknown_program")
    assert cell.verdict.recording is not None
    assert cell.scorer.begun == []


def test_expect_that_comes_after_arc_on_is_not_this_arcs() -> None:
    """The chunk with the arc-on arrives after the message, and still the message is the younger one."""
    cell = simple()
    cell.say(1.003, "expect", program="fillet", seam_ref="B")
    cell.weld([(1.0, 2.0)], to_s=4.0)
    cell.run(4.0)
    assert (cell.verdict.seam.seam_ref, cell.verdict.reason) == (None, "unknown_program")


def test_default_program_is_used_and_recorded() -> None:
    cfg = config({"fillet": NO_VIEWS}, cell={"default_program": "fillet"})
    cell = Cell(cfg, [welder_spec()])
    cell.weld([(1.0, 2.0)], to_s=4.0)
    cell.run(4.0)
    assert (cell.verdict.label, cell.verdict.seam.program) == (Label.OK, "fillet")
    assert_same_seam(cell, replayed(cell, "seam-1"), "seam-1")


def test_program_that_is_not_configured_never_becomes_the_default() -> None:
    cfg = config({"fillet": NO_VIEWS}, cell={"default_program": "fillet"})
    cell = Cell(cfg, [welder_spec()])
    cell.say(0.1, "expect", program="filet", seam_ref="A")
    cell.weld([(1.0, 2.0)], to_s=4.0)
    cell.run(4.0)
    assert cell.replies[0]["ok"] is False
    assert "'filet' is not configured (known: fillet)" in cell.replies[0]["error"]
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "unknown_program")
    assert cell.verdict.seam.seam_ref == "A"


def two_torches() -> Cell:
    cfg = config(
        {"fillet": NO_VIEWS},
        streams={
            "left": {"driver": "welder.serial", "kind": "welder", "torch": "L"},
            "right": {"driver": "welder.serial", "kind": "welder", "torch": "R"},
            "mic": {"driver": "microphone.portaudio", "kind": "audio"},
        },
        views={},
    )
    from tests.support.cell import audio_spec

    cell = Cell(cfg, [welder_spec("left", "L"), welder_spec("right", "R"), audio_spec()])
    for name, arcs in (("left", [(1.0, 4.0)]), ("right", [(2.0, 3.0)]), ("mic", [(1.0, 4.0)])):
        for chunk in stream_chunks(cell.specs[name], arcs, 0.0, 6.0):
            cell.add(chunk)
    return cell


def test_two_torches_burn_at_once() -> None:
    cell = two_torches()
    cell.say(0.1, "expect", program="fillet", seam_ref="A", torch="R")
    cell.say(0.2, "expect", program="fillet", seam_ref="B", torch="L")
    cell.say(0.3, "expect", program="fillet", seam_ref="C")
    cell.run(6.0)
    assert "torch: missing; this cell has L, R" in cell.replies[2]["error"]
    assert [(v.seam.seam_ref, v.seam.torch, v.label, v.seam.arcs) for v in cell.verdicts] == [
        ("A", "R", Label.OK, ((t(2.0), t(3.0)),)),
        ("B", "L", Label.OK, ((t(1.0), t(4.0)),)),
    ]
    streams = {ref: {c.stream for c in cell.scorer.pushed[ref]} for ref in ("seam-1", "seam-2")}
    assert streams == {"seam-1": {"right", "mic"}, "seam-2": {"left", "mic"}}


def test_no_post_roll_and_no_pre_roll_replay_the_same() -> None:
    cell = simple({"pre_roll_s": 0.0, "post_roll_s": 0.0})
    cell.say(0.1, "expect", program="fillet")
    cell.weld([(1.013, 2.007)], to_s=4.0)
    cell.run(4.0)
    assert cell.verdict.label is Label.OK
    twin = replayed(cell, "seam-1")
    assert_same_seam(cell, twin, "seam-1")
    assert cell.scorer.pushed["seam-1"][0].t_ns == t(1.013)


def test_utc_does_not_enter_any_decision() -> None:
    def verdict(step_ns: int) -> tuple[object, ...]:
        cell = simple()
        calls = []

        def utc_ns(now_ns: int) -> int:
            calls.append(now_ns)
            return now_ns + step_ns * (-1) ** len(calls)

        cell.engine._utc_ns = utc_ns
        cell.say(0.1, "expect", program="fillet")
        cell.weld([(1.0, 2.0)], to_s=4.0)
        (found,) = cell.run(4.0)
        return found.label, found.reason, found.seam, found.integrity, found.latency_from_arc_off_ms

    assert verdict(0) == verdict(3600 * S * 24)


def test_clock_of_the_welder_steps_by_its_counter() -> None:
    """The device restarts in mid-seam: its counter jumps, its stamps leave 40 ms out."""
    cell = simple()
    cell.say(0.1, "expect", program="fillet")
    chunks = list(stream_chunks(cell.specs["welder"], [(1.0, 3.0)], 0.0, 5.0))
    for chunk in chunks:
        if t(2.0) <= chunk.t_ns < t(2.04):
            continue
        cell.add(chunk)
    cell.run(5.0)
    integrity = cell.verdict.integrity["welder"]
    assert (integrity.state, integrity.gaps, integrity.lost_items) == ("degraded", 1, 80)
    assert integrity.longest_gap_ms == pytest.approx(40.0)
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, True)
    (gap,) = cell.scorer.windows[0].gaps
    assert (gap.from_ns, gap.to_ns, gap.reason) == (t(2.0), t(2.04), "lost")


def restamped(chunk: Chunk, shift_ns: int) -> Chunk:
    import dataclasses

    assert chunk.clock is not None
    return dataclasses.replace(chunk, clock=dataclasses.replace(chunk.clock, t0_ns=chunk.clock.t0_ns + shift_ns))


@pytest.mark.parametrize(("shift_s", "reason"), [(0.3, "clock_step"), (-0.3, "clock_step")])
def test_stamps_that_step_break_the_stream(shift_s: float, reason: str) -> None:
    cell = simple()
    cell.say(0.1, "expect", program="fillet")
    for chunk in stream_chunks(cell.specs["welder"], [(1.0, 4.0)], 0.0, 6.0):
        cell.add(restamped(chunk, round(shift_s * S)) if chunk.t_ns >= t(2.0) else chunk)
    cell.run(7.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "stream_broken")
    assert [gap.reason for gap in cell.scorer.windows[0].gaps] == [reason]
