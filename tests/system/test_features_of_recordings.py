"""Simulated recordings through the real engine and extractor: what training gets of them."""

from pathlib import Path

import pytest

from drivers.sim.plan import plan_seams
from edged.recorded import list_recorded
from edged.simulate import simulate_recordings
from edged.train import extract_features


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
        assert found.sensor_known.all()
        assert found.video_known.mean() > 0.95
        assert found.audio_known.mean() > 0.95

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "features").iterdir()}
    assert len(kept) == 2
    extract_features(seams, tmp_path / "cache", jobs=1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
