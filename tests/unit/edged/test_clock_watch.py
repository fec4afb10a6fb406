"""Strikes to trends, trends to stamps, drift to health."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from calibration.latency import LatencyTrend
from edged.clock_watch import ClockWatch, clock_warnings
from edged.config import StreamConfig
from edged.strike_file import StrikeFile
from edged.types import Health
from tests.support.cell import Cell, config, stream_chunks

MS = 1_000_000
HEALTH = Health("mic", "audio", "ok", 48e3, 48e3, 1, 0, 0, 0, 0, 0, 12.0, 0.1, None)
MIC = StreamConfig(driver="x", kind="audio")


class Stream:
    """What the watch moves; remembers how often it was asked to."""

    def __init__(self, delay_ns: int = 0) -> None:
        self.trend = LatencyTrend()
        self.moved = 0
        self.delay_ns = delay_ns

    def follow_trend(self) -> None:
        self.moved += 1


def welded(mic_late_s: float | None) -> Cell:
    """A cell after one seam whose sound is late, or silent."""
    cell = Cell(config({"fillet": {"views": []}}))
    cell.say(0.5, "expect", program="fillet")
    for name in cell.specs:
        arcs: Any = [(2.0, 4.0)]
        if name == "mic":
            arcs = [] if mic_late_s is None else [(2.0 + mic_late_s, 4.0)]
        for chunk in stream_chunks(cell.specs[name], arcs, 0.0, 8.0):
            cell.add(chunk)
    cell.run(8.0)
    return cell


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        ({}, MIC, None),
        ({"drift_ppm": -260.0}, MIC, "stream mic: its clock is off by -260 ppm, limit 200"),
        ({"drift_ppm": 90.0}, MIC.model_copy(update={"max_drift_ppm": 50.0}), "+90 ppm, limit 50"),
        ({"drift_ppm": None}, MIC, None),
        ({"strike_ms": 31.0, "strikes": 20}, MIC, "stream mic: arc strikes come +31.0 ms against the current"),
        ({"strike_ms": 31.0, "strikes": 2}, MIC, None),
        ({"strike_ms": -24.0, "strikes": 20}, MIC, None),
    ],
)
def test_warnings_name_stream_value_and_limit(change: dict[str, Any], config: StreamConfig, says: str | None) -> None:
    found = clock_warnings(dataclasses.replace(HEALTH, **change), config, 25.0)
    assert (says in found[0] and len(found) == 1) if says else found == []


def test_strikes_reach_the_trends_and_only_followers_are_moved() -> None:
    cell = welded(0.03)
    streams = {name: Stream() for name in cell.specs}
    following = {**cell.config.streams}
    following["mic"] = following["mic"].model_copy(update={"follow_strikes": True})
    watch = ClockWatch(cell.config.model_copy(update={"streams": following}), streams)
    watch.note(cell.verdict)
    watch.follow()
    assert streams["mic"].trend.latency_ns == pytest.approx(30 * MS, abs=MS)
    assert (streams["mic"].moved, streams["arc_camera"].moved) == (1, 0)
    assert streams["welder"].trend.strikes == 0, "the current is what the others are held against"


def test_the_trend_goes_on_after_a_restart_unless_the_delay_is_another(tmp_path: Path) -> None:
    cell, path = welded(0.03), tmp_path / "strike-trends.json"
    first = ClockWatch(cell.config, {"mic": Stream(5 * MS)}, StrikeFile(path))
    first.note(cell.verdict)
    same, other = Stream(5 * MS), Stream(6 * MS)
    ClockWatch(cell.config, {"mic": same}, StrikeFile(path))
    ClockWatch(cell.config, {"mic": other}, StrikeFile(path))
    assert same.trend.latency_ns == pytest.approx(30 * MS, abs=MS)
    assert (same.trend.strikes, same.trend.applied_ns, other.trend.strikes) == (1, 0, 0)
    assert same.trend.apply(0) == same.trend.latency_ns


@pytest.mark.parametrize(
    "content", ["", "{", '{"streams": {"mic": {"delay_ns": 0, "strikes_ns": [1e12]}}}', '{"version": 2}']
)
def test_a_damaged_file_is_told_and_begun_anew(tmp_path: Path, content: str) -> None:
    cell, path, stream = welded(0.03), tmp_path / "strike-trends.json", Stream()
    path.write_text(content)
    watch = ClockWatch(cell.config, {"mic": stream}, StrikeFile(path))
    assert stream.trend.strikes == 0
    (line,) = watch.warnings({})
    assert "strike-trends.json cannot be read, strikes are collected anew" in line
    watch.note(cell.verdict)
    assert watch.warnings({}) == []
    assert StrikeFile(path).read()["mic"].strikes_ns == stream.trend.kept_ns


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    cell, stream = welded(0.03), Stream()
    watch = ClockWatch(cell.config, {"mic": stream}, StrikeFile(tmp_path / "none" / "strike-trends.json"))
    watch.note(cell.verdict)
    assert stream.trend.strikes == 1
    assert "cannot be written" in watch.warnings({})[0]


def test_a_strike_missing_in_sound_leaves_trend_and_verdict_alone() -> None:
    cell = welded(None)
    stream = Stream()
    watch = ClockWatch(cell.config, {"mic": stream})
    stream.trend.add(7 * MS, 0)
    watch.note(cell.verdict)
    assert cell.verdict.integrity["mic"].sync_residual_ms is None
    assert cell.verdict.reason != "sync"
    assert (stream.trend.strikes, stream.trend.latency_ns) == (1, 7 * MS)


def test_of_two_strikes_within_a_second_the_first_is_measured_within_its_own_arc() -> None:
    cell = Cell(config({"fillet": {"views": [], "min_arc_s": 0.05, "expected_arcs": 2}}))
    cell.say(0.5, "expect", program="fillet")
    cell.weld([(2.0, 2.08), (2.17, 4.0)], 8.0)
    cell.run(8.0)
    assert len(cell.verdict.seam.arcs) == 2
    assert cell.verdict.integrity["mic"].sync_residual_ms == pytest.approx(0.0, abs=1.0)
    assert cell.verdict.integrity["arc_camera"].sync_residual_ms == pytest.approx(0.0, abs=17.0)
