"""Scans: bound by trigger, complete or no result, recorded raw, and bound again from the recording."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import RecordingHeader, RecordingReader
from edged.config import Config, ConfigError, ViewConfig, parse_config
from edged.recording import SeamRecorder, config_metadata, recordings
from edged.replay_engine import EngineFactory, replay_recording, replaying_engine
from edged.types import Label
from edged.virtual_cell import virtual_cell_config
from pipelines.window import SeamWindow
from tests.support.cell import MS, T0, Cell, FakeScorer, S, audio_spec, camera_spec, config, t, welder_spec

WIDTH, RATE_HZ = 4, 100.0
SETTLE_S, SCAN_S = 0.1, 1.0
LASER = StreamSpec("laser", "profile", RATE_HZ, (WIDTH,), "float32", scale=(2.0,) * WIDTH)
SPECS = [
    welder_spec(),
    audio_spec(),
    camera_spec("arc_camera"),
    camera_spec("result_camera", "result", 10),
    LASER,
]
NAN = np.float32(np.nan)


def scan_config(optional: tuple[str, ...] = ("video",), **program: Any) -> Config:
    cell = config({"fillet": {"views": ["top", "scan"], "optional": list(optional), **program}})
    streams = dict(cell.streams)
    streams["laser"] = streams["welder"].model_copy(update={"driver": "profile.csv_serial", "kind": "profile"})
    views = {**cell.views, "scan": ViewConfig(stream="laser", settle_ms=SETTLE_S * 1e3, scan_s=SCAN_S)}
    return cell.model_copy(update={"streams": streams, "views": views})


def row(counter: int) -> np.ndarray:
    """Each row differs from each other; raw, half of the mm."""
    return np.array([counter, counter + 0.5, 1.0, -1.0], np.float32)


def rows(from_s: float, to_s: float, block: int = 3, spec: StreamSpec = LASER) -> Iterator[Chunk]:
    """Rows as a free-running profiler gives them."""
    clock = ClockParams(0, T0, 1e9 / RATE_HZ)
    first, last = round(from_s * RATE_HZ), round(to_s * RATE_HZ)
    for at in range(first, last, block):
        counters = range(at, min(at + block, last))
        data = np.stack([row(counter) for counter in counters])
        yield Chunk(spec.name, at, at, clock.t_ns(at + len(counters)) + 5 * MS, 0, data, clock)


def welded(
    cell: Cell,
    scan_s: float | None = 5.0,
    laser: Callable[[], Iterator[Chunk]] = lambda: rows(0.0, 14.0),
    to_s: float = 14.0,
) -> Cell:
    """A seam from 2 to 4 s, its image at 4.5 s, its scan triggered at `scan_s`."""
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s, streams=["welder", "mic", "arc_camera", "result_camera"])
    for chunk in laser():
        cell.add(chunk)
    cell.say(4.5, "view", seam_ref="A", view="top")
    if scan_s is not None:
        cell.say(scan_s, "view", seam_ref="A", view="scan")
    cell.run(to_s)
    return cell


def scan_cell(cfg: Config | None = None, **kwargs: Any) -> Cell:
    return Cell(cfg or scan_config(), specs=SPECS, **kwargs)


def window_of(cell: Cell) -> SeamWindow:
    (window,) = cell.scorer.windows
    return window


def lossy(*lost: tuple[float, float]) -> Callable[[], Iterator[Chunk]]:
    """Rows 0 to 14 s, one a chunk, without those of the given times."""

    def made() -> Iterator[Chunk]:
        kept_to = 0
        for chunk in rows(0.0, 14.0, block=1):
            if not any(t(a) <= chunk.t_ns < t(b) for a, b in lost):
                yield dataclasses.replace(chunk, lost_before=chunk.counter - kept_to)
                kept_to = chunk.counter + 1

    return made


def test_the_rows_of_the_triggers_time_become_the_height_map_in_mm() -> None:
    cell = welded(scan_cell())
    assert (cell.verdict.label, cell.verdict.reason, cell.verdict.degraded) == (Label.OK, "ok", False)
    found = window_of(cell).height_map_mm
    assert found is not None
    assert found.dtype == np.float32
    expected = 2 * np.stack([row(counter) for counter in range(510, 610)])  # from trigger + settle, for scan_s
    np.testing.assert_array_equal(found, expected)
    assert list(window_of(cell).views) == ["top"]
    assert "laser" not in {chunk.stream for chunk in cell.scorer.pushed["seam-1"]}
    laser = cell.verdict.integrity["laser"]
    assert (laser.kind, laser.state, laser.items, laser.coverage) == ("profile", "ok", 100, 1.0)


@pytest.mark.parametrize("block", [1, 7, 50])
def test_the_height_map_does_not_depend_on_how_the_stream_was_cut(block: int) -> None:
    cell = welded(scan_cell(), laser=lambda: rows(0.0, 14.0, block))
    expected = window_of(welded(scan_cell())).height_map_mm
    np.testing.assert_array_equal(window_of(cell).height_map_mm, expected)


def test_the_program_waits_for_its_scan_and_no_longer() -> None:
    cell = welded(scan_cell(), to_s=6.0)
    assert cell.verdicts == []
    cell.run(6.3)
    assert cell.verdict.label is Label.OK


def test_without_a_trigger_there_is_no_result_however_many_rows_come() -> None:
    cell = welded(scan_cell(), scan_s=None)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")
    assert cell.verdict.detail == "no complete scan of scan within 5 s"
    assert cell.verdict.integrity["laser"].state == "missing"
    assert window_of(cell).height_map_mm is None
    assert "profile" in window_of(cell).missing
    assert cell.verdict.score is not None


def test_without_rows_there_is_no_result() -> None:
    cell = welded(scan_cell(), laser=lambda: iter(()))
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")
    assert cell.verdict.integrity["laser"].state == "missing"


def test_a_scan_before_arc_off_is_void_and_may_be_repeated() -> None:
    cell = scan_cell()
    cell.say(3.5, "view", seam_ref="A", view="scan")
    welded(cell)
    assert [reply["ok"] for reply in cell.replies] == [True] * 4
    assert cell.verdict.label is Label.OK
    found = window_of(cell).height_map_mm
    assert found is not None
    assert found[0, 0] == 2 * 510


def test_a_trigger_between_two_rows_loses_none() -> None:
    cell = welded(scan_cell(), scan_s=5.004)
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, False)
    laser = cell.verdict.integrity["laser"]
    assert (laser.state, laser.gaps, laser.lost_items) == ("ok", 0, 0)
    found = window_of(cell).height_map_mm
    assert found is not None
    assert (len(found), found[0, 0]) == (100, 2 * 511)


def test_a_scan_that_ends_just_before_the_deadline_counts_by_the_same_limits() -> None:
    cell = welded(scan_cell(), scan_s=7.8, laser=lambda: rows(0.0, 8.87))
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, True)
    assert cell.verdict.integrity["laser"].longest_gap_ms == pytest.approx(30.0, abs=1.0)


def test_two_views_of_one_frame_record_it_once() -> None:
    cfg = scan_config(views=["top", "side"])
    cfg = cfg.model_copy(update={"views": {**cfg.views, "side": cfg.views["top"]}})
    cell = scan_cell(cfg)
    cell.say(4.5, "view", seam_ref="A", view="side")
    welded(cell, scan_s=None)
    assert cell.verdict.label is Label.OK
    images = [e for e in cell.recorder.events["seam-1"] if isinstance(e, Chunk) and e.stream == "result_camera"]
    assert len(images) == 1


def test_a_second_trigger_of_a_scan_is_refused() -> None:
    cell = scan_cell()
    cell.say(5.5, "view", seam_ref="A", view="scan")
    welded(cell)
    assert "has been triggered already" in cell.replies[-1]["error"]
    assert cell.verdict.label is Label.OK


def test_a_scan_that_ends_after_the_deadline_is_no_result_but_is_recorded() -> None:
    cell = welded(scan_cell(), scan_s=8.2)  # ends at 9.3 s, the deadline is 9.0 s
    assert cell.replies[-1]["ok"] is True
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")
    assert window_of(cell).height_map_mm is None
    assert [c for c in cell.recorder.events["seam-1"] if isinstance(c, Chunk) and c.stream == "laser"]


def test_a_few_lost_rows_are_nan_in_their_places_and_degrade_the_verdict() -> None:
    cell = welded(scan_cell(), laser=lossy((5.30, 5.33)))
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, True)
    found = window_of(cell).height_map_mm
    assert found is not None
    assert found.shape == (100, WIDTH)
    assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == [20, 21, 22]
    assert found[23, 0] == 2 * 533
    laser = cell.verdict.integrity["laser"]
    assert (laser.state, laser.lost_items, laser.gaps) == ("degraded", 3, 1)
    assert [(gap.stream, gap.lost_items) for gap in window_of(cell).gaps] == [("laser", 3)]


@pytest.mark.parametrize(
    ("lost", "detail"),
    [
        ([(5.3, 5.55)], "laser covers 75.0%, longest gap 250 ms"),
        ([(5.10, 5.16)], "laser covers 94.0%, longest gap 60 ms"),
        ([(6.04, 7.0)], "laser covers 94.0%, longest gap 60 ms"),
        ([(5.2, 5.23), (5.5, 5.53)], "laser covers 94.0%, longest gap 30 ms"),
    ],
    ids=["long gap", "begins late", "ends early", "many short gaps"],
)
def test_a_scan_with_holes_beyond_the_limits_is_no_result(lost: list[tuple[float, float]], detail: str) -> None:
    cell = welded(scan_cell(), laser=lossy(*lost))
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")
    assert cell.verdict.detail == f"no complete scan of scan within 5 s, {detail}"
    assert cell.verdict.integrity["laser"].state == "broken"
    assert window_of(cell).height_map_mm is None


def test_rows_lost_before_the_scan_are_not_the_scans() -> None:
    cell = welded(scan_cell(), laser=lossy((0.0, 5.1)))
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, False)


def test_a_profiler_that_stops_after_its_scan_is_not_waited_for() -> None:
    cell = welded(scan_cell(), laser=lambda: rows(5.1, 6.1), to_s=7.3)
    assert cell.verdict.label is Label.OK
    assert cell.verdict.integrity["laser"].state == "ok"


def test_points_without_return_are_nan_and_rows_without_any_are_missing() -> None:
    def laser(blind: range) -> Iterator[Chunk]:
        for chunk in rows(0.0, 14.0):
            data = chunk.data.copy()
            data[:, 1] = NAN
            for k in range(chunk.n):
                if chunk.counter + k in blind:
                    data[k] = NAN
            yield dataclasses.replace(chunk, data=data)

    few = welded(scan_cell(), laser=lambda: laser(range(520, 523)))
    assert (few.verdict.label, few.verdict.degraded) == (Label.OK, True)
    found = window_of(few).height_map_mm
    assert found is not None
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(found[:, 0]).sum() == 3
    dark = welded(scan_cell(), laser=lambda: laser(range(0, 2000)))
    assert (dark.verdict.label, dark.verdict.reason) == (Label.INDETERMINATE, "no_result")


def test_an_optional_scan_may_be_missing_and_the_verdict_says_degraded() -> None:
    cell = welded(scan_cell(scan_config(optional=("video", "profile"))), scan_s=None)
    assert (cell.verdict.label, cell.verdict.degraded) == (Label.OK, True)


def test_a_required_profile_gives_no_result_and_not_stream_missing() -> None:
    cell = welded(scan_cell(scan_config(required=["welder", "profile"])), scan_s=None)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, "no_result")


def test_a_program_without_a_scan_takes_no_rows() -> None:
    cell = welded(scan_cell(scan_config(views=["top"])), scan_s=None)
    assert cell.verdict.label is Label.OK
    assert "laser" not in cell.verdict.integrity
    assert all(event.stream != "laser" for event in cell.recorder.events["seam-1"] if isinstance(event, Chunk))


def test_the_scan_is_shown_among_the_views_taken() -> None:
    cell = scan_cell()
    welded(cell, to_s=6.05)
    assert [status.views for status in cell.engine.open_seams()] == [("top",)]


@pytest.mark.parametrize("lost", [[], [(5.3, 5.33)], [(5.3, 5.8)]])
def test_a_replay_from_the_file_binds_the_same_rows_again(tmp_path: Path, lost: list[tuple[float, float]]) -> None:
    cfg = scan_config()
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", True, "cell")
    recorder = SeamRecorder(tmp_path, lambda: header, config_metadata(cfg))
    cell = scan_cell(cfg, recorder=recorder)
    cell.say(3.5, "view", seam_ref="A", view="scan")  # void, and recorded as such
    welded(cell, laser=lossy(*lost))
    (file,) = recordings(tmp_path)
    recorded = [e for e in RecordingReader(file).events(["laser"]) if isinstance(e, Chunk)]
    scanned = [c for c in recorded if t(5.1) <= c.t_ns < t(6.1)]
    assert [c.counter for c in scanned] == [c.counter for c in lossy(*lost)() if t(5.1) <= c.t_ns < t(6.1)]
    assert all(c.clock is not None and c.data.dtype == np.float32 for c in recorded)

    scorer = FakeScorer()
    verdict = replay_recording(file, _engines(scorer))
    assert (verdict.label, verdict.reason) == (cell.verdict.label, cell.verdict.reason)
    assert verdict.integrity == cell.verdict.integrity
    (window,), before = scorer.windows, window_of(cell)
    assert window.gaps == before.gaps
    if before.height_map_mm is None:
        assert window.height_map_mm is None
        assert lost == [(5.3, 5.8)]
    else:
        np.testing.assert_array_equal(window.height_map_mm, before.height_map_mm)


def _engines(scorer: FakeScorer) -> EngineFactory:
    return lambda setup, on_verdict: replaying_engine(setup, scorer, on_verdict)


def raw_config() -> dict[str, Any]:
    raw, _ = virtual_cell_config(Path("/simulated"), profiler=True)
    raw["programs"] = {"p": next(iter(raw["programs"].values()))}
    return raw


@pytest.mark.parametrize(
    ("section", "change", "problem"),
    [
        (("views", "scan"), {"scan_s": None}, "views.scan.scan_s: missing; say how many seconds"),
        (("views", "scan"), {"scan_s": 0}, "views.scan.scan_s: Input should be greater than 0"),
        (("views", "scan"), {"stream": "mic"}, "views.scan.stream: 'mic' is no camera and no laser profiler"),
        (("views", "top"), {"scan_s": 1.0}, "views.top.scan_s: 'resultcam' is a camera"),
        (("programs", "p"), {"result_deadline_s": 2.3}, "programs.p.result_deadline_s: 2.3 s after arc-off is too"),
        (("programs", "p"), {"views": ["top"], "required": ["welder", "profile"]}, "programs.p.views: lists no scan"),
        (
            ("programs", "p"),
            {"views": ["scan"], "required": ["welder", "result"]},
            "programs.p.required: a result is",
        ),
        (("programs", "p"), {"views": ["scan", "scan"]}, "programs.p.views: scan, scan are scans"),
    ],
)
def test_a_config_whose_scan_cannot_work_says_where(
    section: tuple[str, str], change: dict[str, Any], problem: str
) -> None:
    raw = raw_config()
    values = {**raw[section[0]][section[1]], **change}
    raw[section[0]][section[1]] = {key: value for key, value in values.items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        parse_config(raw)
    assert any(line.startswith(problem) for line in caught.value.problems), caught.value.problems


def test_views_of_cameras_are_written_as_before_there_were_scans() -> None:
    assert ViewConfig(stream="c").model_dump() == {"stream": "c", "settle_ms": 0.0}
    scan = ViewConfig(stream="c", scan_s=2.0)
    assert ViewConfig.model_validate(scan.model_dump(mode="json")) == scan
