"""Simulated seams through the real engine and extractor: what training gets of them, with and without recordings."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.sim.plan import plan_seams
from drivers.sim.seam import SeamPlan
from edged.evaluate import evaluate_model
from edged.manifest import TRUTH
from edged.recorded import list_features, list_recorded
from edged.simulate import session_names_of, simulate_features, simulate_recordings
from edged.train import extract_features, train_model
from pipelines.features.extractor import save_features
from pipelines.features.lite0 import load_backbone
from pipelines.features.sensor import SENSOR_FEATURES

PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    load_backbone(folder)
    return folder


@pytest.fixture(scope="module")
def plans() -> list[SeamPlan]:
    return plan_seams(3, 7, "both", ["short-butt-3"], sessions=session_names_of(7, 2))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_stream_of_a_recording_becomes_features_once(tmp_path: Path) -> None:
    plans = plan_seams(2, 5, "good", None, sessions=["a", "b"])
    simulate_recordings(plans, tmp_path / "recordings", jobs=1)
    seams = list_recorded(tmp_path / "recordings")
    assert {seam.session for seam in seams} == {plan.session for plan in plans}
    assert all(seam.set_points["current_a"] > 100 for seam in seams)

    features, failed = extract_features(seams, tmp_path / "cache", jobs=1)
    assert failed == {}
    for seam in seams:
        found = features[seam.seam_id]
        assert found.kinds == {"welder", "video", "audio", "result"}
        assert (found.program, found.session) == (seam.program, seam.session)
        assert 30 < found.tokens < 100
        energy = SENSOR_FEATURES.index("energy_j_mm")
        known = found.sensor_known.all(0)
        assert known[np.arange(len(known)) != energy].all()
        assert 0.8 < found.sensor_known[:, energy].mean() < 1.0  # none while the robot stands to fill the crater
        assert found.video_known.mean() > 0.95
        assert found.audio_known.mean() > 0.95

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "features").iterdir()}
    assert len(kept) == 2
    extract_features(seams, tmp_path / "cache", jobs=1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_features_without_recordings_are_those_of_the_recordings_to_the_bit(
    tmp_path: Path, cache: Path, plans: list[SeamPlan]
) -> None:
    simulate_recordings(plans, tmp_path / "recordings", jobs=1)
    assert simulate_features(plans, tmp_path / "bulk", 1, cache) == 3
    extracted, failed = extract_features(list_recorded(tmp_path / "recordings"), cache, jobs=1)
    assert failed == {}
    for seam_id, found in extracted.items():
        save_features(found, tmp_path / "extracted.safetensors")
        simulated = tmp_path / "bulk" / "features" / f"{seam_id}.safetensors"
        assert (tmp_path / "extracted.safetensors").read_bytes() == simulated.read_bytes()
    for name in ("manifest.jsonl", TRUTH):
        assert (tmp_path / "bulk" / name).read_bytes() == (tmp_path / "recordings" / name).read_bytes()

    seams = list_features(tmp_path / "bulk")
    assert [(s.seam_id, s.program, s.session, s.set_points) for s in seams] == [
        (s.seam_id, s.program, s.session, s.set_points) for s in list_recorded(tmp_path / "recordings")
    ]
    given, failed = extract_features(seams, tmp_path / "nothing", jobs=1)
    assert (given.keys(), failed) == (extracted.keys(), {})
    assert not (tmp_path / "nothing").exists()  # neither recordings nor a backbone were needed
    # Whatever reads what a detector may read finds no truth in it.
    truth = [json.loads(line)["truth"] for line in (tmp_path / "bulk" / TRUTH).read_text().splitlines()]
    readable = b"".join(data for name, data in files(tmp_path / "bulk").items() if name != TRUTH)
    for line in truth:
        assert line["type"].encode() not in readable
        assert str(line["seed"]).encode() not in readable


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_only_training_takes_a_folder_of_features_and_says_so(
    tmp_path: Path, cache: Path, plans: list[SeamPlan]
) -> None:
    simulate_features(plans[:1], tmp_path / "bulk", 1, cache)
    with pytest.raises(ValueError, match="only `edged train`"):
        evaluate_model(tmp_path / "bulk", "demo", cache)
    # One seam is too few for a model, and that is what training complains of.
    with pytest.raises(ValueError, match="good seams"):
        train_model(tmp_path / "bulk", tmp_path / "model", jobs=1, cache_dir=cache)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_killed_run_leaves_no_process_and_the_next_one_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, cache: Path
) -> None:
    plans = plan_seams(6, 7, "mix", ["short-butt-3"], sessions=session_names_of(7, 2))
    simulate_features(plans, tmp_path / "whole", 1, cache)  # one process, the others have two
    words = ["simulate", "--seams", "6", "--seed", "7", "--program", "short-butt-3", "--sessions", "2", "--features"]
    words += ["--jobs", "2", "--out", str(tmp_path / "cut"), "--cache-dir", str(cache)]
    # A session of its own, so that what is left of it can be found.
    begun = subprocess.Popen([sys.executable, "-m", "edged.cli", *words], start_new_session=True)
    until = time.monotonic() + PATIENCE_S
    while len(list((tmp_path / "cut" / "features").glob("*"))) < 2:
        assert begun.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    # Its processes end with it, in the middle of a seam or not: none may write into what is resumed.
    while _session_lives(begun.pid):
        assert time.monotonic() < until
        time.sleep(0.05)
    there = {name for name in files(tmp_path / "cut") if name.endswith(".safetensors")}
    assert len([name for name in there if name.startswith("features/")]) < 6

    assert subprocess.run([sys.executable, "-m", "edged.cli", *words], check=False).returncode == 0
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def _session_lives(session: int) -> bool:
    """Whether any process of the session still runs; one that has ended and was not waited for does not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            return True
    return False
