"""Real welds: what a row sees, what it cannot fit, labels, completeness; the verb on simulated recordings."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from drivers.sim.plan import plan_seams
from edged.bench.real import _remarks, _standard_error
from edged.bench.real_rows import ROWS, RowError, one_session_out
from edged.bench.real_seams import RealSeam, alignment, completeness, read_labels
from edged.cli import app
from edged.simulate import session_names_of, simulate_recordings
from pipelines.features.extractor import SeamFeatures
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import LEVELS
from pipelines.features.scene import SCENE_FEATURES
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.features.waves import WAVE_FEATURES
from pipelines.window import Integrity

NO_CACHE = Path("unused")
TOKENS = 12


def _seam(k: int, session: str, defect: str = "good", off: float = 0.0, audio: bool = True) -> RealSeam:
    rng = np.random.default_rng(k)
    sensor = rng.normal(off, 1.0, (10 * TOKENS, len(SENSOR_FEATURES))).astype(np.float32)
    sound = rng.normal(off, 1.0, (TOKENS, FEATURES + LEVELS)).astype(np.float16)
    waves = np.zeros((TOKENS, len(WAVE_FEATURES)), np.float32)
    features = SeamFeatures(
        f"seam-{k}", "p", session, sensor, np.ones_like(sensor, np.bool_),
        np.zeros((TOKENS, FEATURES), np.float16), np.zeros(TOKENS, np.bool_), sound, np.full(TOKENS, audio), {},
        waves=waves, waves_known=np.ones_like(waves, np.bool_),
        scene=np.zeros((TOKENS, len(SCENE_FEATURES)), np.float16),
    )  # fmt: skip
    seen = Integrity("mic", "audio", 1.0, 1, 0, 0, 0.0, 2.0 - k, "ok" if audio else "missing")
    current = Integrity("welder", "welder", 1.0, 1, 0, 0, 0.0, None, "ok")
    points = {"current_a": 150.0 + off}
    return RealSeam(
        f"seam-{k}", "p", session, points, defect, 5.0 + off, features, "", {"mic": seen, "welder": current}
    )


def _welds(off: float = 3.0) -> list[RealSeam]:
    """Three sessions of five goods and two bads."""
    return [
        _seam(10 * s + k, f"s{s}", "pore" if k > 4 else "good", off if k > 4 else 0.0)
        for s in range(3)
        for k in range(7)
    ]


def _scores(seams: Sequence[RealSeam], name: str, budget_s: float = 1e6) -> list[float | None]:
    return one_session_out(seams, ROWS[name], NO_CACHE, budget_s, lambda *_: None)


@pytest.mark.parametrize("name", ["setpoint_knn", "duration", "sensor_mahalanobis", "audio_mahalanobis"])
def test_every_row_sees_what_it_looks_at_and_nothing_else(name: str) -> None:
    seams = _welds()
    found = np.array(_scores(seams, name), np.float64)
    bad = np.array([seam.bad for seam in seams])
    assert found[bad].min() > found[~bad].max()


def test_a_session_is_scored_by_the_goods_of_the_others() -> None:
    asked: list[tuple[set[str], set[str]]] = []

    def fit(goods: Sequence[RealSeam], cache_dir: Path):  # type: ignore[no-untyped-def]
        assert not any(seam.bad for seam in goods)
        known = {seam.session for seam in goods}
        return lambda seam: asked.append((known, {seam.session})) or 1.0  # type: ignore[func-returns-value]

    one_session_out(_welds(), fit, NO_CACHE, 1e6, lambda *_: None)
    assert len(asked) == 21
    assert all(not known & own and len(known) == 2 for known, own in asked)


def test_what_cannot_be_fitted_says_what_is_lacking() -> None:
    with pytest.raises(RowError, match="0 goods of other sessions have current and a post-weld image"):
        _scores(_welds(), "causal_hm_full")
    with pytest.raises(RowError, match="only the session"):
        _scores([_seam(k, "s0") for k in range(9)], "duration")
    with pytest.raises(RowError, match="more than --minutes allows"):
        _scores(_welds(), "duration", budget_s=0.0)
    with pytest.raises(RowError, match="have audio; 8 are needed"):
        _scores([_seam(k, f"s{k % 2}", audio=k < 3) for k in range(20)], "audio_mahalanobis")


def test_a_seam_without_the_stream_has_no_score() -> None:
    found = _scores([*_welds(), _seam(99, "s1", "pore", audio=False)], "audio_mahalanobis")
    assert found[-1] is None
    assert None not in found[:-1]


def test_what_goods_and_bads_lack_and_how_streams_are_aligned() -> None:
    seams = [_seam(0, "a"), _seam(1, "a"), _seam(7, "b", "pore", audio=False)]
    assert completeness(seams) == {
        "good": {"seams": 2, "without_features": 0, "without_welder": 0, "without_audio": 0},
        "pore": {"seams": 1, "without_features": 0, "without_welder": 0, "without_audio": 1},
    }
    assert alignment(seams)["mic"] == {"seams": 3, "strike_seen": 3, "median_ms": 2.0, "worst_ms": 5.0}


def test_labels_come_from_a_table_or_the_truth(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --labels"):
        read_labels(tmp_path, None)
    table = tmp_path / "labels.csv"
    table.write_text("seam_id,label\na,Good\nb,pore\n", encoding="utf-8")
    assert read_labels(tmp_path, table) == {"a": "good", "b": "pore"}
    table.write_text("seam_id,label\na,\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no label for a"):
        read_labels(tmp_path, table)
    table.write_text("seam,label\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks seam_id"):
        read_labels(tmp_path, table)


def test_tens_of_welds_decide_nothing_and_it_says_so() -> None:
    assert _standard_error(0.8, 22, 12) == pytest.approx(0.086, abs=0.001)
    report = {"n_good": 22, "n_bad": 12, "sessions": 4, "sessions_with_both": 3, "alignment": {}, "completeness": {}}
    report |= {"standard_error_at_0.8": 0.086, "decidable": False, "without_features": {}}
    said = "\n".join(_remarks(report))
    assert "no AUROC bar is decidable" in said
    assert "1 of 4 sessions hold one class only" in said


def test_the_verb_on_recordings(tmp_path: Path) -> None:
    plans = plan_seams(4, 3, "mix", ["short-lap-3"], None, None, session_names_of(3, 2))
    simulate_recordings(plans, tmp_path / "seams", 1, profile="intel")
    out = tmp_path / "out.json"
    done = CliRunner().invoke(app, ["bench", "real", str(tmp_path / "seams"), "--jobs", "1", "--json", str(out)])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["pipeline"]: row for row in report["rows"]}
    assert list(rows) == list(ROWS)
    assert rows["duration"]["n_good"] + rows["duration"]["n_bad"] == 4
    assert "training needs 24" in rows["causal_hm_full"]["why"]
    assert report["without_features"] == {}
    assert "no AUROC bar is decidable" in done.output
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("seam_id", "label"), ("another", "good")])
    done = CliRunner().invoke(app, ["bench", "real", str(tmp_path / "seams"), "--labels", str(labels)])
    assert done.exit_code == 2
    assert "lack a label" in done.output
