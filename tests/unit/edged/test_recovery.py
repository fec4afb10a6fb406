"""What a crash leaves on disk, and what every seam of it gets: its own verdict, a score, or interrupted."""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from drivers.base import StreamSpec
from edged.config import Config
from edged.journal import Entry, Journal
from edged.manifest import read_manifest
from edged.recording import (
    SeamRecorder,
    config_metadata,
    host_header,
    open_recordings,
    recordings,
    verdict_metadata,
)
from edged.recovery import interrupted_verdict, parts_of, recover_after_crash
from edged.rescoring import Rescorer, SharedScorer
from edged.scoring import ScoreReply
from edged.types import Label, Verdict
from edged.wire import TimePair, unpack
from pipelines.window import Seam
from tests.support.cell import Cell, FakeScorer, config, make_score
from tests.support.verdicts import a_verdict


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal that is older than every seam of these tests."""
    found = Journal(tmp_path / "journal.db", reserve_bytes=4096)
    yield found
    found.close()


def weld(folder: Path, until_s: float, *, view: bool = True, silent: bool = True) -> Cell:
    """A seam with an arc from 2 s to 4 s as far as `until_s`; then the process is gone, its scorer unheard."""
    header = host_header("cell", "0.1.0", is_simulated=True)
    recorder = SeamRecorder(folder, lambda: header, config_metadata(config()))
    scorer = FakeScorer()
    scorer.silent = silent
    cell = Cell(recorder=recorder, scorer=scorer, new_id=lambda: str(ULID()))  # type: ignore[arg-type]
    cell.weld([(2.0, 4.0)], until_s)
    cell.say(0.5, "expect", program="fillet", part_id="P", seam_ref="A")
    if view:
        cell.say(5.0, "view", seam_ref="A", view="top")
    cell.run(until_s)
    recorder.close()
    return cell


def recover(folder: Path, journal: Journal, cfg: Config | None = None) -> tuple[list[Path], list[dict[str, Any]]]:
    published: list[Entry] = []
    left = recover_after_crash(cfg or config(), folder, journal, published.append)
    return left, [unpack(entry.payload) for entry in published]


def rescore(folder: Path, paths: list[Path], journal: Journal, scorer: FakeScorer) -> Rescorer:
    def give_up(path: Path, error: str) -> Verdict:
        return interrupted_verdict(config(), Seam(path.stem, "cell", "1", "fillet", 0), error, path)

    def on_verdict(verdict: Verdict, pair: TimePair) -> None:
        journal.append(verdict, pair)

    return Rescorer(config(), SharedScorer(scorer).lane(), paths, lambda: True, on_verdict, give_up)


def run(rescorer: Rescorer) -> None:
    while rescorer.pending:
        rescorer.step()


def test_a_seam_whose_inputs_are_all_there_is_scored_after_the_crash(tmp_path: Path, journal: Journal) -> None:
    weld(tmp_path, 8.0)
    left, published = recover(tmp_path, journal)
    assert published == []
    assert left == recordings(tmp_path)
    assert open_recordings(tmp_path) == []
    rescorer = rescore(tmp_path, left, journal, FakeScorer(1.5))
    assert rescorer.pending == (left[0].stem,)
    run(rescorer)
    (entry,) = journal.range(1, 9)
    said = unpack(entry.payload)
    live = weld(tmp_path / "live", 8.0, silent=False).verdict
    assert (said["label"], said["reason"], said["score"]) == (2, "score_above_threshold", 1.5)
    assert said["detail"].endswith("scored from its recording after a restart")
    assert said["arc_s"] == pytest.approx(live.arc_s)
    assert said["mean_current_a"] == pytest.approx(live.mean_current_a)
    assert said["integrity"]["mic"]["coverage"] == live.integrity["mic"].coverage
    assert said["recording"] == str(left[0])
    assert said["latency_from_arc_off_ms"] is None
    assert read_manifest(tmp_path)[left[0].stem]["label"] == "NOK"
    assert recover(tmp_path, journal) == ([], []), "a second restart finds nothing to do"


@pytest.mark.parametrize(
    ("until_s", "view"), [(3.0, True), (4.2, True), (6.0, False)], ids=["in the arc", "after it", "no image yet"]
)
def test_a_seam_that_lacks_an_input_is_interrupted_and_never_scored(
    tmp_path: Path, journal: Journal, until_s: float, view: bool
) -> None:
    weld(tmp_path, until_s, view=view)
    left, published = recover(tmp_path, journal)
    assert left == []
    assert [(said["label"], said["reason"]) for said in published] == [(0, "interrupted"), (0, "seam_indeterminate")]
    assert [said["part_id"] for said in published] == ["P", "P"]
    assert journal.labels([published[0]["seam_id"]]) == {published[0]["seam_id"]: "INDETERMINATE"}
    assert recover(tmp_path, journal) == ([], [])


def test_a_verdict_that_was_on_disk_but_not_in_the_journal_is_published_as_it_was(
    tmp_path: Path, journal: Journal
) -> None:
    cell = weld(tmp_path, 8.0, silent=False)
    left, (said, part) = recover(tmp_path, journal)
    assert left == []
    assert said["label"] == 1
    assert (part["kind"], part["label"]) == ("part", 0), "no part is OK whose other seams are forgotten"
    other = Journal(tmp_path / "other.db", reserve_bytes=4096)
    expected = unpack(other.append(cell.verdict).payload)
    other.close()
    times = {"journal_id", "arc_on_utc_ns", "arcs_utc_ns"}
    assert {k: v for k, v in said.items() if k not in times} == {k: v for k, v in expected.items() if k not in times}


SPECS = (StreamSpec("welder", "welder", 1000.0, (1,), "int16", ("current",)),)


def test_the_journal_and_not_a_count_says_what_is_missing(tmp_path: Path, journal: Journal) -> None:
    recorder = SeamRecorder(tmp_path, lambda: host_header("cell", "0.1.0", is_simulated=True))
    ids = [str(ULID()) for _ in range(70)]
    for seam_id in ids:
        verdict = a_verdict(seam_id)
        recorder.begin(verdict.seam, SPECS, 0)
        recorder.finish(verdict.seam, verdict_metadata(verdict), 0)
    for seam_id in sorted(ids)[1:]:
        journal.append(a_verdict(seam_id))
    _, published = recover(tmp_path, journal)
    assert [said["seam_id"] for said in published if said["kind"] == "verdict"] == [min(ids)]


def test_recordings_from_before_the_journal_are_not_its_business(tmp_path: Path, journal: Journal) -> None:
    recorder = SeamRecorder(tmp_path, lambda: host_header("cell", "0.1.0", is_simulated=True))
    verdict = a_verdict(str(ULID.from_timestamp(time.time() - 3600)))
    recorder.begin(verdict.seam, SPECS, 0)
    recorder.finish(verdict.seam, verdict_metadata(verdict), 0)
    assert recover(tmp_path, journal) == ([], [])


def test_time_stands_still_while_the_worker_thinks(tmp_path: Path, journal: Journal) -> None:
    weld(tmp_path, 8.0)
    left, _ = recover(tmp_path, journal)
    scorer = FakeScorer()
    scorer.silent = True
    rescorer = rescore(tmp_path, left, journal, scorer)
    while not scorer.windows:
        rescorer.step()
    for _ in range(5000):  # each would be 50 ms of the recording's time
        rescorer.step()
    assert rescorer.pending
    scorer.replies.append(ScoreReply(left[0].stem, make_score(0.5)))
    run(rescorer)
    assert journal.labels([left[0].stem]) == {left[0].stem: "OK"}


def test_a_recording_that_cannot_be_replayed_gets_its_verdict_all_the_same(tmp_path: Path, journal: Journal) -> None:
    weld(tmp_path, 8.0)
    left, _ = recover(tmp_path, journal)
    blob = bytearray(left[0].read_bytes())
    middle = len(blob) // 2
    blob[middle : middle + 2000] = bytes(2000)
    left[0].write_bytes(blob)
    run(rescore(tmp_path, left, journal, FakeScorer()))
    (entry,) = journal.range(1, 9)
    assert (unpack(entry.payload)["label"], unpack(entry.payload)["reason"]) == (0, "interrupted")


def test_nothing_is_done_while_the_worker_has_no_room(tmp_path: Path, journal: Journal) -> None:
    weld(tmp_path, 8.0)
    left, _ = recover(tmp_path, journal)
    scorer = FakeScorer()
    room = itertools.chain([True] * 5, itertools.repeat(False))
    rescorer = Rescorer(
        config(), SharedScorer(scorer).lane(), left, lambda: next(room), lambda v, p: None, lambda p, e: a_verdict()
    )
    for _ in range(50):
        rescorer.step()
    assert rescorer.pending == (left[0].stem,)
    assert scorer.windows == []


def test_engines_that_share_a_worker_get_their_own_answers() -> None:
    scorer = FakeScorer()
    shared = SharedScorer(scorer)
    one, two = shared.lane(), shared.lane()
    for lane, seam_id in ((one, "a"), (two, "b"), (two, "c")):
        lane.begin(dataclasses.replace(a_verdict(seam_id).seam, arcs=()), ())
    two.drop("c")
    scorer.replies = [ScoreReply(seam_id, make_score(0.5)) for seam_id in "abc"]
    assert [reply.seam_id for reply in one.poll()] == ["a"]
    assert [reply.seam_id for reply in two.poll()] == ["b"]
    assert scorer.dropped == ["c"]


def test_every_field_of_a_verdict_survives_its_recording(tmp_path: Path) -> None:
    from drivers.mcap_codec import RecordingReader
    from edged.recording import recorded_verdict

    recorder = SeamRecorder(tmp_path, lambda: host_header("cell", "0.1.0", is_simulated=True))
    verdict = a_verdict("A", shadow_label=Label.NOK, mode="shadow", label=Label.INDETERMINATE, arc_energy_j_mm=None)
    recorder.begin(verdict.seam, SPECS, 0)
    path = recorder.finish(verdict.seam, verdict_metadata(verdict), 0)
    assert recorded_verdict(RecordingReader(path)) == dataclasses.replace(verdict, recording=str(path))


def test_the_part_of_a_seam_that_was_open_is_nok_or_unknown_and_never_ok() -> None:
    def labelled(seam_id: str, label: Label) -> Verdict:
        verdict = a_verdict(seam_id)
        return dataclasses.replace(verdict, label=label, seam=dataclasses.replace(verdict.seam, part_id="P"))

    good, bad = labelled("A", Label.OK), labelled("B", Label.NOK)
    assert [(part.label, part.reason) for part in parts_of(config(), [good])] == [
        (Label.INDETERMINATE, "seam_indeterminate")
    ]
    (part,) = parts_of(config(), [good, bad])
    assert (part.label, [seam.seam_id for seam in part.seams]) == (Label.NOK, ["A", "B"])
