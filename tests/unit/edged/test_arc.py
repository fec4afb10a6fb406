"""The arc detector against a sample-by-sample twin, whatever the chunks; its edges, gaps and sums."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.arc import MAX_BRIDGE_NS, ArcDetector, ArcEvent
from edged.config import ArcConfig
from tests.support.cell import MS, S, welder_spec

CONFIG = ArcConfig(on_current_a=30.0, off_current_a=15.0, hold_ms=5.0)
SPEC = welder_spec(rate_hz=1000.0)


def chunks_of(current_a: NDArray[np.float64], cuts: list[int], spec: StreamSpec = SPEC) -> list[Chunk]:
    """The samples cut at `cuts`, 20 V throughout, first sample at 0 ns."""
    data = np.stack([current_a * 10, np.full(len(current_a), 2000.0)], axis=1).astype(np.int16)
    edges = [0, *sorted(set(cuts)), len(data)]
    clock = ClockParams(0, 0, 1e9 / spec.rate_hz)
    return [
        Chunk(spec.name, seq, a, 0, 0, data[a:b], clock)
        for seq, (a, b) in enumerate(itertools.pairwise(edges))
        if b > a
    ]


def run(chunks: list[Chunk], spec: StreamSpec = SPEC, config: ArcConfig = CONFIG) -> list[ArcEvent]:
    detector = ArcDetector(spec, config)
    return [event for chunk in chunks for event in detector.feed(chunk)]


def arcs_ref(current_a: NDArray[np.float64], dt_ns: int, config: ArcConfig) -> list[tuple[str, int]]:
    """The definition, one sample at a time."""
    events: list[tuple[str, int]] = []
    hold_ns = max(config.hold_ms * 1e6, 1.5 * dt_ns)
    burning, last_high = False, 0
    for k, value in enumerate(current_a):
        now = k * dt_ns
        if burning and value < config.off_current_a and now - last_high > hold_ns:
            burning = False
            events.append(("arc_off", last_high + dt_ns))
        if not burning and value >= config.on_current_a:
            burning = True
            events.append(("arc_on", now))
        if burning and value >= config.off_current_a:
            last_high = now
    return events


@given(
    levels=st.lists(st.tuples(st.sampled_from([0, 20, 100]), st.integers(1, 12)), min_size=1, max_size=30),
    cuts=st.lists(st.integers(1, 200), max_size=12),
)
def test_same_as_definition_for_any_chunking(levels: list[tuple[int, int]], cuts: list[int]) -> None:
    current = np.concatenate([np.full(n, float(level)) for level, n in levels])
    events = run(chunks_of(current, [cut for cut in cuts if cut < len(current)]))
    assert [(event.kind, event.t_ns) for event in events] == arcs_ref(current, MS, CONFIG)
    whole = run(chunks_of(current, []))
    for a, b in zip(events, whole, strict=True):
        assert (a.edge_gap_ns, a.lost) == (b.edge_gap_ns, b.lost)
        if a.stats is not None and b.stats is not None:
            assert a.stats.samples == b.stats.samples
            assert a.stats.energy_j == pytest.approx(b.stats.energy_j, rel=1e-12)


def test_edges_are_the_samples_where_the_current_rose_and_fell() -> None:
    current = np.zeros(100)
    current[20:60] = 100.0
    on, off = run(chunks_of(current, [33, 64]))
    assert (on.kind, on.t_ns, on.edge_gap_ns) == ("arc_on", 20 * MS, 0)
    assert (off.kind, off.t_ns, off.lost) == ("arc_off", 60 * MS, False)
    assert off.stats is not None
    assert off.stats.samples == 40
    assert off.stats.mean_current_a == pytest.approx(100.0)
    assert off.stats.energy_j == pytest.approx(100.0 * 20.0 * 0.040)


def test_pulsed_current_is_one_arc_and_its_power_is_instantaneous() -> None:
    pulses = np.where(np.arange(60) % 4 == 0, 300.0, 5.0)
    current = np.concatenate([np.zeros(10), pulses, np.zeros(20)])
    events = run(chunks_of(current, [15, 31, 40]))
    assert [event.kind for event in events] == ["arc_on", "arc_off"]
    assert events[1].t_ns == (10 + 57) * MS
    stats = events[1].stats
    assert stats is not None
    assert stats.energy_j == pytest.approx(float(current[10:67].sum()) * 20.0 * 1e-3)


def test_nine_hertz_log() -> None:
    spec = welder_spec(rate_hz=9.0)
    current = np.zeros(60)
    current[10:40] = 150.0
    dt_ns = round(1e9 / 9)
    chunks = []
    for k, value in enumerate(current):  # one sample a chunk, stamped on arrival, irregularly late
        arrival = k * dt_ns + (k % 3) * 20 * MS
        data = np.array([[value * 10, 2000]], np.int16)
        chunks.append(Chunk("welder", k, k, arrival, 0, data, ClockParams(k, arrival, 1e9 / 9)))
    on, off = run(chunks, spec, ArcConfig())
    assert (on.t_ns, on.edge_gap_ns) == (chunks[10].t_ns, 0)
    assert (off.t_ns, off.edge_gap_ns) == (chunks[39].end_ns, 0)


def gapped(before_on: bool, after_on: bool, gap_ns: int) -> list[Chunk]:
    """A low, an arc, `gap_ns` without data, then current or none."""
    level = np.concatenate([np.zeros(10), np.full(20, 100.0 if before_on else 0.0)])
    first = chunks_of(level, [])[0]
    after = chunks_of(np.concatenate([np.full(20, 100.0 if after_on else 0.0), np.zeros(20)]), [])[0]
    start_ns = first.end_ns + gap_ns
    return [first, Chunk("welder", 5, 1000, 0, 0, after.data, ClockParams(1000, start_ns, 1e6))]


def test_gap_inside_an_arc_is_bridged() -> None:
    events = run(gapped(True, True, S))
    assert [(event.kind, event.edge_gap_ns, event.lost) for event in events] == [
        ("arc_on", 0, False),
        ("arc_off", 0, False),
    ]


def test_arc_that_ends_in_a_gap_says_so() -> None:
    on, off = run(gapped(True, False, S))
    assert (on.edge_gap_ns, off.edge_gap_ns, off.t_ns) == (0, S, 30 * MS)


def test_arc_that_begins_in_a_gap_says_so() -> None:
    on, off = run(gapped(False, True, S))
    assert (on.edge_gap_ns, off.edge_gap_ns) == (S, 0)


def test_gap_longer_than_the_bridge_loses_the_arc() -> None:
    kinds = [(event.kind, event.lost, event.edge_gap_ns) for event in run(gapped(True, True, 6 * S))]
    assert kinds == [
        ("arc_on", False, 0),
        ("arc_off", True, MAX_BRIDGE_NS),
        ("arc_on", False, MAX_BRIDGE_NS),
        ("arc_off", False, 0),
    ]


def test_stream_that_begins_inside_an_arc() -> None:
    on, off = run(chunks_of(np.concatenate([np.full(20, 100.0), np.zeros(20)]), []))
    assert (on.edge_gap_ns, off.edge_gap_ns) == (MAX_BRIDGE_NS, 0)


def test_lose_ends_the_arc_and_the_next_begins_unseen() -> None:
    detector = ArcDetector(SPEC, CONFIG)
    first, second = gapped(True, True, 100 * MS)
    detector.feed(first)
    (off,) = detector.lose()
    assert (off.lost, off.t_ns) == (True, 30 * MS)
    assert detector.lose() == []
    assert detector.feed(second)[0].edge_gap_ns == MAX_BRIDGE_NS


def test_no_current_channel_is_an_error() -> None:
    spec = StreamSpec("w", "welder", 10.0, (1,), "int16", ("voltage",))
    with pytest.raises(ValueError, match="no channel 'current'"):
        ArcDetector(spec, CONFIG)
