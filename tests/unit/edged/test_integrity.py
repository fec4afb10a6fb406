"""Coverage, gaps and states of one stream, for any cutting."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.config import StreamConfig
from edged.integrity import StreamMeter
from tests.support.cell import MS, audio_spec, camera_spec

CONFIG = StreamConfig(driver="x", kind="audio")
SPEC = audio_spec(rate_hz=1000.0)
ARCS = ((0, 1000 * MS),)


def audio(start: int, stop: int, seq: int = 0, lost: int = 0) -> Chunk:
    data = (np.arange(start, stop, dtype=np.int16) * 7919 % 257)[:, None]
    return Chunk("mic", seq, start, 0, lost, data, ClockParams(0, 0, 1e6))


@given(
    holes=st.lists(st.tuples(st.integers(0, 990), st.integers(5, 60)), max_size=6),
    cuts=st.lists(st.integers(1, 1199), max_size=20),
)
def test_against_a_count_of_samples_for_any_cutting(holes: list[tuple[int, int]], cuts: list[int]) -> None:
    there = np.ones(1200, bool)
    for begin, length in holes:
        there[begin : begin + length] = False
    changes = np.flatnonzero(np.diff(there.astype(int))) + 1
    edges = sorted({0, 1200, *changes.tolist(), *cuts})
    meter = StreamMeter(SPEC)
    for begin, end in itertools.pairwise(edges):
        if there[begin]:
            meter.add(audio(begin, end))
    found, gaps = meter.result(ARCS, CONFIG, None)
    assert found.items == int(there[:1000].sum())
    assert found.coverage == pytest.approx(there[:1000].mean())
    missing = np.diff(np.concatenate(([0], (~there).astype(int), [0])))
    spans = list(zip(np.flatnonzero(missing == 1), np.flatnonzero(missing == -1), strict=True))
    inside = [(int(b), int(min(e, 1000))) for b, e in spans if b < 1000]
    assert [(gap.from_ns // MS, gap.to_ns // MS) for gap in gaps] == inside
    assert found.lost_items == sum(e - b for b, e in inside)
    assert found.longest_gap_ms == max((e - b for b, e in inside), default=0)


@pytest.mark.parametrize(
    ("chunks", "state"),
    [
        ([], "missing"),
        ([audio(1000, 1100)], "missing"),
        ([audio(0, 1000)], "ok"),
        ([audio(0, 500), audio(540, 1000, 1)], "degraded"),
        ([audio(0, 500), audio(500, 1000, 1, lost=3)], "degraded"),
        ([audio(0, 500), audio(701, 1000, 1)], "broken"),
        ([audio(0, 940)], "broken"),
        ([audio(60, 1000)], "broken"),
    ],
)
def test_states(chunks: list[Chunk], state: str) -> None:
    meter = StreamMeter(SPEC)
    for chunk in chunks:
        meter.add(chunk)
    assert meter.result(ARCS, CONFIG, None)[0].state == state


def frames(times_ms: list[float], spec: StreamSpec) -> StreamMeter:
    meter = StreamMeter(spec)
    for k, at_ms in enumerate(times_ms):
        at_ns = round(at_ms * MS)
        meter.add(Chunk(spec.name, k, k, at_ns, 0, np.zeros(4, np.uint8), ClockParams(k, at_ns, spec.dt_ns)))
    return meter


def test_frames_that_jitter_are_whole() -> None:
    times = [k * 100.0 + (k % 3) * 30.0 for k in range(-2, 12)]
    found, gaps = frames(times, camera_spec("cam", rate_hz=10.0)).result(ARCS, CONFIG, None)
    assert (found.state, found.coverage, found.lost_items, gaps) == ("ok", 1.0, 0, [])


def test_frames_that_come_late_in_a_burst_are_not_lost() -> None:
    times = [0, 100, 200, 520, 530, 540, 600, 700, 800, 900, 1000]
    found, gaps = frames([float(x) for x in times], camera_spec("cam", rate_hz=10.0)).result(ARCS, CONFIG, None)
    assert (found.lost_items, found.gaps) == (0, 1)
    assert (gaps[0].from_ns, gaps[0].to_ns, gaps[0].reason) == (400 * MS, 520 * MS, "no_data")


def test_camera_that_hangs_loses_frames() -> None:
    times = [0.0, 100.0, 200.0, 700.0, 800.0, 900.0, 1000.0]
    found, _ = frames(times, camera_spec("cam", rate_hz=10.0)).result(ARCS, CONFIG, None)
    assert (found.lost_items, found.longest_gap_ms, found.state) == (3, 300.0, "broken")


def test_skipped_chunks_count_as_lost() -> None:
    meter = StreamMeter(SPEC)
    meter.add(audio(0, 500))
    meter.skip(audio(500, 540, 1), "overwritten")
    meter.add(audio(540, 1000, 2))
    found, (gap,) = meter.result(ARCS, CONFIG, None)
    assert (found.lost_items, gap.lost_items, gap.reason) == (40, 40, "overwritten")


def test_listed_gaps_are_bounded_and_all_are_counted() -> None:
    meter = StreamMeter(SPEC)
    for k in range(250):
        meter.add(dataclasses.replace(audio(4 * k, 4 * k + 3, k), lost_before=1))
    found, gaps = meter.result(ARCS, CONFIG, None)
    assert (found.gaps, found.lost_items, len(gaps)) == (250, 250, 100)
