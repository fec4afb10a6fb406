"""`edged calibrate microphone` on recordings of the virtual cell, whose microphone hangs at a known place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration.files import read_calibration
from edged.cli import app
from tests.support.process_recordings import ProcessSeam, write_process

SIM_SOUND_M_S = 343.0


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["calibrate", "microphone", "mic", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def reference(process_seams: list[ProcessSeam], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    code, output = run(
        "--recording", process_seams[0].path.parent, "--directory", folder, "--json", folder / "r.json"
    )
    assert code == 0, output
    return folder / "microphone-mic.toml"


def test_the_distance_is_that_of_the_virtual_microphone(reference: Path, process_seams: list[ProcessSeam]) -> None:
    values = read_calibration(reference).values
    assert values["distance_m"] == pytest.approx(process_seams[0].session.mic_distance_m, abs=0.01)
    assert values["gain_db"] == 0.0
    assert set(values["levels_dbfs"]) == {seam_program(seam) for seam in process_seams}
    assert -70 < values["noise_floor_dbfs"] < min(values["levels_dbfs"].values()) - 6
    report = json.loads((reference.parent / "r.json").read_text())
    assert {line["seam_id"] for line in report["seams"]} == {seam.seam_id for seam in process_seams}


def seam_program(seam: ProcessSeam) -> str:
    from drivers.mcap_codec import RecordingReader
    from edged.recording import recorded_seam

    return recorded_seam(RecordingReader(seam.path)).program


def test_a_moved_microphone_is_found_and_a_gain_from_too_few_seams_refused(
    reference: Path, moved_seams: list[ProcessSeam], tmp_path: Path
) -> None:
    options = ("--recording", moved_seams[0].path.parent, "--directory", tmp_path)
    code, output = run(*options, "--reference", reference)
    assert (code, "not written: gain_interval_db" in output) == (1, True)
    code, output = run(*options)
    assert code == 0, output
    values = read_calibration(tmp_path / "microphone-mic.toml").values
    assert values["distance_m"] == pytest.approx(moved_seams[0].session.mic_distance_m, abs=0.01)


def test_a_tape_tells_what_of_the_delay_is_no_way_in_air(process_seams: list[ProcessSeam], tmp_path: Path) -> None:
    true_m = process_seams[0].session.mic_distance_m
    options = ("--recording", process_seams[0].path.parent, "--directory", tmp_path)
    code, output = run(*options, "--measured-distance-m", true_m + 0.343)
    assert code == 0, output
    values = read_calibration(tmp_path / "microphone-mic.toml").values
    assert values["latency_ms"] == pytest.approx(-1.0, abs=0.03)
    assert values["distance_m"] == pytest.approx(true_m + 0.343)


@pytest.mark.parametrize(("noted", "taken_off_ms"), [(True, 9.0), (False, 7.0)])
def test_what_was_taken_off_the_stamps_counts_again(tmp_path: Path, noted: bool, taken_off_ms: float) -> None:
    """The delay that a recording notes; before they noted one, the configured one was taken off."""
    seams = [
        write_process(tmp_path, program, "calibration-a", 50 + k, delay_ms=taken_off_ms, noted=noted)
        for k, program in enumerate(("short-butt-3", "pulsed-lap-4"))
    ]
    code, output = run("--recording", tmp_path, "--directory", tmp_path / "out")
    assert code == 0, output
    values = read_calibration(tmp_path / "out" / "microphone-mic.toml").values
    assert values["distance_m"] == pytest.approx(seams[0].session.mic_distance_m, abs=0.01)


def test_what_cannot_be_compared_is_named(reference: Path, moved_seams: list[ProcessSeam], tmp_path: Path) -> None:
    from calibration.files import write_calibration
    from tests.support.calibrations import made

    other = write_calibration(tmp_path, made("microphone", "mic"))
    code, output = run("--recording", moved_seams[0].path.parent, "--reference", other, "--directory", tmp_path)
    assert (code, "levels can be compared within a program only" in output) == (2, True)
    wrong = write_calibration(tmp_path, made("welder", "mic"))
    code, output = run("--recording", moved_seams[0].path.parent, "--reference", wrong, "--directory", tmp_path)
    assert (code, "is of welder:mic; --reference takes one of microphone:mic" in output) == (2, True)
    code, output = run("--recording", tmp_path)
    assert (code, "no recordings there" in output) == (2, True)
