"""The import of whole runs: what is written, what is said to be missing, and that no label gets through."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from drivers.base import Chunk
from drivers.mcap_codec import ControlEvent, RecordingReader
from edged.cli import app
from edged.engine import Engine
from edged.importing.mapping import Mapping, MappingError, PhotoMapping, load_mapping
from edged.importing.photos import blanked_photo, find_stickers
from edged.null_scorer import NullScorer
from edged.recording import recorded_config, recorded_seam
from edged.replay_engine import ReplaySetup, replay_recording
from edged.types import Verdict
from pipelines.window import SeamWindow
from tests.support.weld_dataset import Run, photo, write_run

SESSION = "good_weld_12-21-22"
RUN = Run()


def run_import(root: Path, out: Path, *options: str) -> tuple[int, dict[str, Any]]:
    report = out.parent / "report.json"
    result = CliRunner().invoke(
        app, ["import", "intel-weld", str(root), "--out", str(out), "--json", str(report), *options]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, json.loads(report.read_text()) if report.exists() else {}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("set")
    write_run(root / SESSION, RUN)
    write_run(root / SESSION, Run("12-21-22-0462-07", sound_s=12.0, seed=1), without=frozenset({"video", "photos"}))
    write_run(root / SESSION, Run("12-21-22-0463-07"), without=frozenset({"log"}))
    out = root.parent / "recordings"
    code, report = run_import(root, out)
    assert code == 0
    return out, report


def reader_of(imported: tuple[Path, dict[str, Any]], run_id: str) -> RecordingReader:
    out, report = imported
    (line,) = [line for line in report["runs"] if line["run"] == run_id]
    return RecordingReader(out / f"{line['seam_id']}.mcap")


def test_streams_lie_on_one_axis(imported: tuple[Path, dict[str, Any]]) -> None:
    reader = reader_of(imported, RUN.run_id)
    assert [spec.name for spec in reader.specs] == ["welder", "motion", "audio", "video", "result"]
    seam = recorded_seam(reader)
    chunks = [event for event in reader.events() if isinstance(event, Chunk)]
    welder = [chunk for chunk in chunks if chunk.stream == "welder"]
    first_ns = welder[0].t_ns
    assert (seam.arc_on_ns - first_ns) / 1e9 == pytest.approx(RUN.idle_before_s, abs=0.2)
    currents = np.concatenate([chunk.data for chunk in welder if seam.arc_on_ns < chunk.t_ns < seam.arc_off_ns])[:, 0]
    assert currents.min() > 100
    sound = np.concatenate([chunk.data[:, 0] for chunk in chunks if chunk.stream == "audio"])
    sound_t = np.concatenate([chunk.times_ns() for chunk in chunks if chunk.stream == "audio"])
    assert np.abs(sound[(sound_t > seam.arc_off_ns + 1.5e9)]).max() < 300
    video = [(c.t_ns, cv2.imdecode(c.data, cv2.IMREAD_GRAYSCALE)) for c in chunks if c.stream == "video"]
    light_on_ns = next(t_ns for t_ns, image in video if image is not None and image.mean() > 60)
    assert abs(light_on_ns - seam.arc_on_ns) / 1e9 < 0.1
    assert all(chunk.arrival_ns >= earlier.arrival_ns for earlier, chunk in itertools.pairwise(chunks))


def test_photos_are_bound_by_control_messages(imported: tuple[Path, dict[str, Any]]) -> None:
    events = list(reader_of(imported, RUN.run_id).events())
    messages = [event.message for event in events if isinstance(event, ControlEvent)]
    assert [message["op"] for message in messages] == ["expect", "view", "view"]
    assert [message.get("view") for message in messages] == [None, "view_1", "view_2"]
    seam = recorded_seam(reader_of(imported, RUN.run_id))
    assert {message["seam_ref"] for message in messages} == {seam.seam_ref}
    for at, event in enumerate(events):
        if isinstance(event, ControlEvent) and event.message["op"] == "view":
            frame = events[at + 1]
            assert isinstance(frame, Chunk)
            assert (frame.stream, frame.t_ns) == ("result", event.t_ns)


def test_the_report_says_leads_residuals_and_what_is_missing(imported: tuple[Path, dict[str, Any]]) -> None:
    _, report = imported
    whole, part, none = (line for line in report["runs"])
    assert whole["alignments"]["sound"]["lead_s"] == pytest.approx(RUN.sound_lead_s, abs=0.3)
    assert abs(whole["alignments"]["sound"]["residual_ms"]) < 250
    assert whole["alignments"]["video"]["rate_hz"] == pytest.approx(29.8, rel=0.02)
    assert whole["voltage_spikes"] > 0
    assert whole["missing"] == {}
    assert part["missing"] == {"video": "no file", "photos": "no file"}
    assert part["alignments"]["sound"]["truncated"]
    assert none["seam_id"] is None
    assert "no log" in none["status"]
    assert report["by_class"] == {
        "class_07": {"runs": 1, "without_video": 1, "without_photos": 1},
        "good": {"runs": 1},
    }


def test_what_is_missing_is_absent_and_said_in_the_recording(imported: tuple[Path, dict[str, Any]]) -> None:
    reader = reader_of(imported, "12-21-22-0462-07")
    assert [spec.name for spec in reader.specs] == ["welder", "motion", "audio"]
    assert (reader.metadata("import") or {})["missing"] == {"video": "no file", "photos": "no file"}


def test_labels_are_in_truth_only(imported: tuple[Path, dict[str, Any]]) -> None:
    out, report = imported
    truth = {line["seam_id"]: line for line in map(json.loads, (out / "truth.jsonl").read_text().splitlines())}
    for line in report["runs"][:2]:
        found = truth[line["seam_id"]]["truth"]
        wanted = ("good", None) if line["run"].endswith("-00") else ("real", "class_07")
        assert (found["family"], found["type"]) == wanted
    visible = (out / "manifest.jsonl").read_text()
    for path in out.glob("*.mcap"):
        reader = RecordingReader(path)
        visible += repr([reader.metadata(name) for name in ("seam", "import", "config")]) + repr(reader.header)
        visible += repr([event for event in reader.events() if isinstance(event, ControlEvent)]) + repr(reader.specs)
    for secret in ("0462", "class_", "good", SESSION):
        assert secret not in visible
    assert len(list(out.glob("*"))) == 4


def test_the_recordings_replay_through_the_engine(imported: tuple[Path, dict[str, Any]]) -> None:
    for run_id, streams, views in [
        (RUN.run_id, {"audio", "video", "motion"}, 2),
        ("12-21-22-0462-07", {"audio", "motion"}, 0),
    ]:
        reader = reader_of(imported, run_id)
        windows: list[SeamWindow] = []
        # Armed, as training and evaluation replay it; a program that is collecting is not scored.
        config = recorded_config(reader)
        assert config is not None
        programs = {n: p.model_copy(update={"mode": "armed", "model": "m"}) for n, p in config.programs.items()}
        config = config.model_copy(update={"programs": programs})
        verdict = replay_recording(reader.path, lambda setup, done, w=windows: _engine(setup, done, w), config)
        seam = recorded_seam(reader)
        assert verdict.seam.seam_id == seam.seam_id
        assert verdict.reason == "collecting", verdict.detail
        assert verdict.seam.arc_on_ns == pytest.approx(seam.arc_on_ns, abs=2e8)
        (window,) = windows
        assert len(window.views) == views
        for name in streams | {"welder"}:
            if run_id == RUN.run_id or name != "audio":
                assert window.integrity[name].coverage > 0.95, window.integrity[name]


class _KeepWindow(NullScorer):
    """Keeps what the engine wanted scored."""

    def __init__(self, windows: list[SeamWindow]) -> None:
        super().__init__()
        self._windows = windows

    def finish(self, window: SeamWindow) -> None:
        self._windows.append(window)
        super().finish(window)


def _engine(setup: ReplaySetup, done: Callable[[Verdict], None], windows: list[SeamWindow]) -> Engine:
    return Engine(
        setup.config,
        setup.specs,
        setup.rings,
        _KeepWindow(windows),
        None,
        done,
        lambda part: None,
        setup.header.to_utc_ns,
        lambda: setup.seam.seam_id,
    )


def test_a_second_import_goes_on_where_the_first_stopped(
    imported: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    write_run(root / "s", Run(photos=0), without=frozenset({"video"}))
    assert run_import(root, out)[1]["imported"] == 1
    write_run(root / "s", Run("12-21-22-0462-01", photos=0), without=frozenset({"video"}))
    _, report = run_import(root, out)
    assert [line["status"] for line in report["runs"]] == ["already there", "imported"]
    assert len(list(out.glob("*.mcap"))) == 2


def test_stickers_are_blanked_and_photos_without_one_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), photo(RUN))
    assert len(find_stickers(photo(RUN))) == 1
    jpeg = blanked_photo(path, PhotoMapping())
    assert jpeg is not None
    blanked = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
    assert blanked is not None
    assert blanked[90:250, 1490:1770].std() < 3
    assert blanked[400:500, 400:1400].std() > 10
    cv2.imwrite(str(path), photo(RUN)[300:])
    assert blanked_photo(path, PhotoMapping()) is None
    assert blanked_photo(path, PhotoMapping(sticker="none")) is not None
    boxed = blanked_photo(path, PhotoMapping(sticker="boxes", boxes=((0.0, 0.0, 1.0, 1.0),)))
    assert boxed is not None
    assert len(np.unique(cv2.imdecode(boxed, cv2.IMREAD_GRAYSCALE))) == 1


def test_a_mapping_serves_another_set(tmp_path: Path) -> None:
    where = tmp_path / "set" / "monday" / "bad_17"
    where.mkdir(parents=True)
    rows = [f"{k / 20:.2f};x,{180 if 100 < k < 300 else 0}".replace(";x", "") for k in range(400)]
    (where / "amps.csv").write_text("seconds,amps\n" + "\n".join(rows) + "\n")
    mapping = tmp_path / "m.toml"
    mapping.write_text(
        'log_file = "amps.csv"\nclass_pattern = "^(good|bad)"\ngood_codes = ["good"]\nprogram = "lap"\n'
        '[log]\ntime_columns = ["seconds"]\ntime_format = "seconds"\nrate_hz = 20\nmotion = {}\n'
        'welder = {current = "amps"}\n'
    )
    code, report = run_import(tmp_path / "set", tmp_path / "out", "--mapping", str(mapping))
    assert code == 0
    assert report["by_class"] == {
        "class_bad": {"runs": 1, "without_sound": 1, "without_video": 1, "without_photos": 1}
    }
    (path,) = (tmp_path / "out").glob("*.mcap")
    assert recorded_seam(RecordingReader(path)).program == "lap"


def test_wrong_input_is_said_at_once(tmp_path: Path) -> None:
    mapping = tmp_path / "m.toml"
    mapping.write_text('colour = 1\n[log]\nwelder = {voltage = "u"}\n')
    with pytest.raises(MappingError, match=r"current.*colour") as caught:
        load_mapping(mapping)
    assert "log.welder" in str(caught.value)
    assert run_import(tmp_path, tmp_path / "out", "--mapping", str(mapping))[0] == 2
    assert run_import(tmp_path / "nowhere", tmp_path / "out")[0] == 2
    assert run_import(tmp_path, tmp_path / "out")[0] == 1
    with pytest.raises(MappingError, match="class_pattern"):
        Mapping().class_of("no class here")
