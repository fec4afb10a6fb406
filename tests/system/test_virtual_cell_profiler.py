"""The virtual cell with a laser profiler: it asks for the scan, and the bead lies within the scan's time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.sim.render import render_seam
from drivers.sim.scanner import PROFILER_OPTIONS, SCAN_HZ, SCAN_S, SCAN_SETTLE_S, SCAN_VIEW, scan_rows
from drivers.sim.seam import IMAGE_PRESETS
from drivers.table import create_driver
from tests.system.test_virtual_cell import PLANS, Reader, Running, wait_for


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    cell = Running(tmp_path, "--profiler")
    options = {"port": cell.endpoints["profiler_port"], **PROFILER_OPTIONS}
    cell.readers["profiler"] = Reader(create_driver("profile.csv_serial", "profiler", options))
    cell.readers["profiler"].start()
    yield cell
    cell.close()
    assert not (tmp_path / "profiler").is_symlink()


@pytest.mark.slow
def test_each_seam_is_scanned_on_the_plcs_trigger(running: Running) -> None:
    truth = running.workdir / "truth.jsonl"
    wait_for(lambda: truth.exists() and truth.read_text(), 110)
    messages = [message for message in running.daemon.messages if message["op"] == "view"]
    assert [message["view"] for message in messages[:2]] == ["top", SCAN_VIEW]
    assert messages[0]["seam_ref"] == messages[1]["seam_ref"]

    chunks = list(running.readers["profiler"].chunks)
    assert sum(chunk.lost_before for chunk in chunks[1:]) == 0
    rows = np.concatenate([chunk.data for chunk in chunks])
    bead = np.round(scan_rows(render_seam(PLANS[0], IMAGE_PRESETS["small"])), 3)
    (begin,) = [k for k in range(len(rows) - len(bead) + 1) if _same(rows[k : k + len(bead)], bead)]
    arrivals = np.concatenate([np.full(chunk.n, chunk.arrival_ns) for chunk in chunks])
    from_ns = messages[1]["at_ns"] + SCAN_SETTLE_S * 1e9
    # Rows come late and never early, so the first one bounds the beginning; the length of the scan the end.
    assert arrivals[begin] >= from_ns
    assert len(bead) / SCAN_HZ < SCAN_S


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(np.isnan(a), np.isnan(b)) and np.nanmax(np.abs(a - b)) < 2e-3)
