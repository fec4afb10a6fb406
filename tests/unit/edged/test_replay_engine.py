"""A seam replayed from its file gives the verdict, the window and every pushed byte that it gave live."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.base import Chunk, ClockParams
from drivers.mcap_codec import ControlEvent, RecordingError, RecordingHeader, RecordingReader, RecordingWriter
from edged.config import Config
from edged.recording import SeamRecorder, config_metadata, recordings
from edged.replay_engine import EngineFactory, in_arrival_order, replay_recording, replaying_engine
from tests.support.cell import Cell, FakeScorer, config, t

S = 1_000_000_000


@pytest.fixture(scope="module")
def seams(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, Path]:
    """The cell as it ran live, and where its recordings lie."""
    folder = tmp_path_factory.mktemp("recordings")
    return live(folder), folder


def live(folder: Path, cfg: Config | None = None, *, with_config: bool = True) -> Cell:
    """Two seams in a row, the second announced while the first waits for its image; recorded by the real recorder."""
    cfg = cfg or config()
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", True, "cell")
    recorder = SeamRecorder(folder, lambda: header, config_metadata(cfg) if with_config else None)
    cell = Cell(cfg, recorder=recorder)  # type: ignore[arg-type]
    cell.weld([(2.0, 4.0), (5.5, 7.0)], 12.0)
    cell.say(0.5, "expect", program="fillet", part_id="P", seam_ref="A")
    cell.say(4.2, "expect", program="fillet", part_id="P", seam_ref="B")
    cell.say(5.0, "view", seam_ref="A", view="top")
    cell.say(8.0, "view", seam_ref="B", view="top")
    cell.run(13.0)
    assert [verdict.reason for verdict in cell.verdicts] == ["ok", "ok"]
    return cell


def engines(scorer: FakeScorer) -> EngineFactory:
    return lambda setup, on_verdict: replaying_engine(setup, scorer, on_verdict)


def pushed(scorer: FakeScorer, seam_id: str) -> dict[str, bytes]:
    """All that a scorer got of a seam: by stream its items' times and its data, however they were cut."""
    found: dict[str, bytes] = {}
    for chunk in scorer.pushed[seam_id]:
        for key, data in ((f"{chunk.stream}.t", chunk.times_ns()), (chunk.stream, chunk.data)):
            found[key] = found.get(key, b"") + data.tobytes()
    return found


def test_replay_gives_verdict_window_and_pushes_again(seams: tuple[Cell, Path]) -> None:
    cell, folder = seams
    files = recordings(folder)
    assert [file.stem for file in files] == ["seam-1", "seam-2"]
    for file, was in zip(files, cell.verdicts, strict=True):
        scorer = FakeScorer()
        verdict = replay_recording(file, engines(scorer))
        assert verdict.seam == was.seam
        assert (verdict.label, verdict.reason, verdict.score) == (was.label, was.reason, was.score)
        assert verdict.integrity == was.integrity
        assert verdict.heat_input_kj_mm == was.heat_input_kj_mm
        assert pushed(scorer, file.stem) == pushed(cell.scorer, file.stem)
        window = next(w for w in scorer.windows if w.seam.seam_id == file.stem)
        before = next(w for w in cell.scorer.windows if w.seam.seam_id == file.stem)
        assert window.views["top"].t_ns == before.views["top"].t_ns
        assert window.views["top"].jpeg.tobytes() == before.views["top"].jpeg.tobytes()


def test_another_config_can_judge_it(seams: tuple[Cell, Path]) -> None:
    strict = config({"fillet": {"expected_arcs": 2}})
    verdict = replay_recording(recordings(seams[1])[0], engines(FakeScorer()), strict)
    assert verdict.reason == "arc_count"


def test_a_recording_without_config_says_what_to_give(tmp_path: Path) -> None:
    live(tmp_path, with_config=False)
    file = recordings(tmp_path)[0]
    with pytest.raises(RecordingError, match=r"holds no configuration to judge it by; give one with --config"):
        replay_recording(file, engines(FakeScorer()))
    assert replay_recording(file, engines(FakeScorer()), config()).reason == "ok"


def test_a_config_that_no_arc_crosses_gives_a_reason_and_not_silence(seams: tuple[Cell, Path]) -> None:
    deaf = config(arc={"on_current_a": 900.0, "off_current_a": 800.0})
    verdict = replay_recording(recordings(seams[1])[0], engines(FakeScorer()), deaf)
    assert (verdict.label.name, verdict.score) == ("INDETERMINATE", None)
    assert verdict.reason in ("no_arc", "stream_missing")


def test_an_engine_that_gives_no_verdict_is_an_error(seams: tuple[Cell, Path]) -> None:
    silent = FakeScorer()
    silent.silent = True
    patient = config(worker={"finish_timeout_s": 1000.0})
    with pytest.raises(RecordingError, match="seam seam-1 gave no verdict within 120 s after its last chunk"):
        replay_recording(recordings(seams[1])[0], engines(silent), patient)


def test_it_can_be_paced(seams: tuple[Cell, Path]) -> None:
    times: list[int] = []
    replay_recording(recordings(seams[1])[0], engines(FakeScorer()), pace=times.append)
    assert times == sorted(times)
    assert times[0] == t(0.5)


def test_a_recording_keeps_no_driver_options(tmp_path: Path) -> None:
    secret = {"url": "rtsp://user:secret@10.0.0.5/"}
    cfg = config()
    camera = cfg.streams["arc_camera"].model_copy(update={"options": secret})
    cfg = cfg.model_copy(update={"streams": {**cfg.streams, "arc_camera": camera}})
    live(tmp_path, cfg)
    assert "secret" not in str(RecordingReader(recordings(tmp_path)[0]).metadata("config"))


def test_events_come_by_arrival_and_a_stream_by_seq_once(tmp_path: Path) -> None:
    cell = Cell()
    cell.weld([], 1.0)
    specs = tuple(cell.specs.values())
    chunks = [item for _, _, item in sorted(cell._queue, key=lambda entry: entry[:2]) if isinstance(item, Chunk)]
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", True, "cell")
    message = ControlEvent(chunks[3].arrival_ns, {"op": "expect"})
    with RecordingWriter(tmp_path / "s.mcap", specs, header) as writer:
        for stream in cell.specs:
            for chunk in chunks:
                if chunk.stream == stream:
                    writer.chunk(chunk)
        writer.chunk(chunks[0])
        writer.control(message.t_ns, message.message)
        writer.finish()
    got = list(in_arrival_order(RecordingReader(tmp_path / "s.mcap").events()))
    assert [time for time, _ in got] == sorted(time for time, _ in got)
    assert len(got) == len(chunks) + 1
    for stream in cell.specs:
        seqs = [event.seq for _, event in got if isinstance(event, Chunk) and event.stream == stream]
        assert seqs == list(range(len(seqs)))


def test_reordering_holds_no_more_than_its_horizon() -> None:
    base = next(iter(Cell().specs.values()))
    clock = ClockParams(0, 0, 1e6)

    def endless() -> Iterator[Chunk]:
        for seq in range(1000):
            taken.append(seq)
            data = np.zeros((1, *base.shape), base.dtype)
            yield dataclasses.replace(Chunk(base.name, seq, seq, seq * S, 0, data), clock=clock)

    taken: list[int] = []
    events = in_arrival_order(endless(), horizon_ns=5 * S)
    for seq in range(50):
        assert next(events)[0] == seq * S
        assert len(taken) <= seq + 8
