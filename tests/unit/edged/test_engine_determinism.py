"""What the scorer receives depends on stamped times and control messages only, however chunks are cut or arrive."""

import dataclasses
import random
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.base import Chunk
from drivers.mcap_codec import RecordingHeader, RecordingReader
from edged.recording import SeamRecorder
from pipelines.window import SeamWindow
from tests.support.cell import MS, Arcs, Cell, S, config, stream_chunks, t
from tests.unit.edged.test_engine import assert_same_seam

ARCS: Arcs = [(2.0, 2.4), (2.55, 3.003)]


def weld(block_s: float, late_ms: int, tick_s: float, seed: int) -> Cell:
    """One seam with a restrike and a view; every chunk arrives up to `late_ms` late, in its stream's order."""
    cell = Cell(config({"fillet": {"expected_arcs": 2}}))
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(3.6, "view", seam_ref="A", view="top")
    late = random.Random(seed)
    for spec in cell.specs.values():
        arrival_ns = 0
        for chunk in stream_chunks(spec, ARCS, 0.9, 6.0, block_s):
            arrival_ns = max(arrival_ns, chunk.arrival_ns + late.randint(0, late_ms) * MS)
            cell.add(dataclasses.replace(chunk, arrival_ns=arrival_ns))
    cell.run(8.0, tick_s)
    return cell


def received(cell: Cell) -> tuple[dict[str, tuple[bytes, bytes]], SeamWindow]:
    """Times and data of every stream's items, and the window."""
    (window,) = cell.scorer.windows
    pushed = cell.scorer.pushed["seam-1"]
    items = {}
    for name in cell.specs:
        mine = [chunk for chunk in pushed if chunk.stream == name]
        times = b"".join(chunk.times_ns().tobytes() for chunk in mine)
        items[name] = (times, b"".join(np.ascontiguousarray(chunk.data).tobytes() for chunk in mine))
    return items, window


REFERENCE = weld(0.02, 0, 0.05, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    block_s=st.sampled_from([0.001, 0.0035, 0.02, 0.05, 0.2]),
    late_ms=st.sampled_from([0, 5, 120, 400]),
    tick_s=st.sampled_from([0.005, 0.05, 0.3]),
    seed=st.integers(0, 1000),
)
def test_same_items_and_window_for_any_cutting_arrival_and_clock(
    block_s: float, late_ms: int, tick_s: float, seed: int
) -> None:
    items, window = received(weld(block_s, late_ms, tick_s, seed))
    expected_items, expected = received(REFERENCE)
    assert items == expected_items
    assert (window.seam, window.gaps, window.missing) == (expected.seam, expected.gaps, expected.missing)
    assert window.integrity == expected.integrity
    assert {k: v.t_ns for k, v in window.views.items()} == {k: v.t_ns for k, v in expected.views.items()}


def test_recording_on_disk_replays_the_same_in_the_order_written(tmp_path: Path) -> None:
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "edged test", True, "cell")
    cell = Cell(recorder=SeamRecorder(tmp_path, lambda: header))  # type: ignore[arg-type]
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.say(4.5, "view", seam_ref="A", view="top")
    cell.weld([(2.0, 4.0)], to_s=8.0)
    cell.run(8.0)
    path = tmp_path / "seam-1.mcap"
    assert cell.verdict.recording == str(path)
    reader = RecordingReader(path)
    twin = Cell(cell.config, list(reader.specs), new_id=lambda: path.stem)
    for event in reader.events():
        at_ns = event.arrival_ns if isinstance(event, Chunk) else event.t_ns
        twin.clock.sleep_until_ns(at_ns)
        if isinstance(event, Chunk):
            twin.engine.step(twin.rings[event.stream].append(event), twin.clock.now_ns())
        else:
            assert twin.engine.control(event.message, at_ns)["ok"]
    twin.run(20.0)
    assert_same_seam(cell, twin, "seam-1")
    assert twin.verdict.seam == cell.verdict.seam
    assert (t(2.0), t(4.0)) in cell.verdict.seam.arcs
