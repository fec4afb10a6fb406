"""A laser profiler on its real port: pty → driver → daemon, scan on the PLC's trigger → verdict → replay."""

import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.scanner import PROFILER_OPTIONS, SCAN_HZ, SCAN_S, Scanner, scan_rows
from drivers.sim.seam import ImagePreset
from drivers.sim.timeline import Pacer
from edged.control import ask
from edged.replay_engine import replay_recording, replaying_engine
from edged.types import Label
from edged.watch import received
from edged.wire import VerdictMessage
from tests.support.cell import FakeScorer
from tests.support.running import PATIENCE_S, cell_config, running_daemon, wait_for_status, write_weld

TINY = ImagePreset(arc_px=(60, 96), view_px=(160, 480), arc_fps=30.0, jpeg_quality=80)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


@pytest.fixture
def laser(folder: Path) -> Iterator[tuple[Scanner, Pacer]]:
    """The virtual profiler, printing bare plate until it is moved."""
    scanner, pacer = Scanner(folder, 1), Pacer()
    pacer.add(SCAN_HZ, 1, scanner.send)
    pacer.start()
    yield scanner, pacer
    pacer.close()
    scanner.close()


def scan_config(folder: Path) -> Path:
    path = cell_config(folder, folder / "weld.csv", views=["scan"], result_deadline_s=20.0)
    raw = tomllib.loads(path.read_text())
    options = {"port": str(folder / "profiler"), **PROFILER_OPTIONS}
    # A loaded machine may stall the profiler's far end, which is this process.
    raw["streams"]["laser"] = {
        "driver": "profile.csv_serial",
        "kind": "profile",
        "options": options,
        "max_gap_ms": 500.0,
        "min_coverage": 0.8,
    }
    raw["views"] = {"scan": {"stream": "laser", "settle_ms": 100.0, "scan_s": SCAN_S}}
    path.write_text(tomli_w.dumps(raw))
    return path


def wait_for_arc_off(control: str) -> dict[str, Any]:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        for seam in ask(control, {"op": "status"})["open_seams"]:
            if seam["state"] == "awaiting_result":
                return dict(seam)
    raise AssertionError("no arc-off was seen")


@pytest.mark.slow
def test_a_triggered_scan_becomes_the_seams_height_map(folder: Path, laser: tuple[Scanner, Pacer]) -> None:
    rendered = render_seam(plan_seams(1, seed=3)[0], TINY)
    write_weld(folder / "weld.csv", 8.0, (1.5,), 25.0)
    config, control = scan_config(folder), f"ipc://{folder}/control.sock"
    scanner, pacer = laser
    with running_daemon(config):
        wait_for_status(config)
        assert ask(control, {"op": "expect", "program": "T1", "seam_ref": "a"})["ok"]
        wait_for_arc_off(control)
        assert ask(control, {"op": "view", "seam_ref": "a", "view": "scan"})["ok"]
        scanner.move_over(rendered, (time.monotonic_ns() - pacer.t0_ns) / 1e9 + 0.2)
        verdict = next(m for _, m in received(f"ipc://{folder}/verdicts.sock", PATIENCE_S) if _is_verdict(m))
    assert (verdict.label, verdict.reason) == (Label.OK, "ok"), (folder / "daemon.log").read_text()
    assert verdict.integrity["laser"].kind == "profile"
    assert verdict.integrity["laser"].items == pytest.approx(SCAN_S * SCAN_HZ, abs=2)

    scorer = FakeScorer()
    again = replay_recording(Path(verdict.recording), lambda setup, say: replaying_engine(setup, scorer, say))
    assert again.integrity["laser"].items == verdict.integrity["laser"].items
    found = scorer.windows[0].height_map_mm
    assert found is not None
    assert len(found) == pytest.approx(SCAN_S * SCAN_HZ, abs=2)
    bead = np.round(scan_rows(rendered), 3)
    begins = [k for k in range(len(found) - len(bead) + 1) if _same(found[k : k + len(bead)], bead)]
    assert len(begins) == 1, "the bead lies in the scan once, row for row"


def _is_verdict(message: Any) -> bool:
    return isinstance(message, VerdictMessage)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(np.isnan(a), np.isnan(b)) and np.nanmax(np.abs(a - b)) < 2e-3)
