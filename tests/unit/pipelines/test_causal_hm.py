"""Causal-HM trained on welds of a known law: what it finds, what it refuses, and that streaming is the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from drivers.base import Chunk
from pipelines.build import build_causal_hm
from pipelines.causal_hm import CausalHM, weights_id
from pipelines.features.extractor import SeamExtractor, SeamFeatures
from pipelines.gaussian import raw_score
from pipelines.models import ModelError, load_detector, model_toml, write_manifest
from pipelines.training import TrainConfig, split_by_session
from pipelines.window import Integrity, Score
from tests.support import seam_chunks as cell
from tests.support.backbone import TinyBackbone
from tests.support.law_seams import FROM_HEAT, goods, law_seam, without

SMALL = TrainConfig(epochs=3, d=48, d_sensor=16, lr=3e-3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    build_causal_hm(goods(340), [{"current_a": 150.0}] * 340, out, SMALL, alpha=0.05)
    return out


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(directory: Path, cache_dir: Path) -> CausalHM:
    with pytest.MonkeyPatch.context() as patch:  # its features are made up; exporting lite0 takes seconds
        patch.setattr("pipelines.causal_hm.load_backbone", lambda *_: TinyBackbone())
        found = load_detector(directory, cache_dir=cache_dir)
    assert isinstance(found, CausalHM)
    return found


def scores(model: CausalHM, n: int, seed: int = 5, **fault: float) -> list[Score]:
    rng = np.random.default_rng(seed)
    return [model.score(law_seam(rng, i, ("p1", "p2")[i % 2], **fault)) for i in range(n)]


def test_goods_pass_and_each_half_alone_is_found_where_it_lies(model: CausalHM) -> None:
    good = scores(model, 40)
    process, result = scores(model, 10, process_shift=1.0), scores(model, 10, spot=1.0)
    assert sum(s.score > 1.0 for s in good if s.score is not None) <= 8
    for found, part, other in ((process, "s_P", "s_R"), (result, "s_R", "s_P")):
        assert all(s.score is not None and s.score > 1.0 for s in found)
        assert all(s.components[part] > 3 for s in found)
        # The same draws without the fault: the half that has none says of them what it said of good welds.
        twins = [twin.components[other] for twin in good[: len(found)]]
        assert [s.components[other] for s in found] == pytest.approx(twins)
        assert all(s.p_value is not None and s.p_value < 0.05 for s in found)


def test_a_pair_shows_in_the_residual_only(model: CausalHM) -> None:
    pairs = [*scores(model, 12, heat=1.5, shown_heat=-1.5), *scores(model, 12, heat=-1.5, shown_heat=1.5)]
    twins = [*scores(model, 12, heat=1.5), *scores(model, 12, heat=-1.5)]
    mean = {
        c: (np.mean([s.components[c] for s in pairs]), np.mean([s.components[c] for s in twins])) for c in COMPONENTS
    }
    assert mean["s_RP"][0] > mean["s_RP"][1] + 1.0
    assert abs(mean["s_P"][0] - mean["s_P"][1]) < 0.5
    assert abs(mean["s_R"][0] - mean["s_R"][1]) < 0.5


COMPONENTS = ("s_P", "s_R", "s_RP")


def test_score_is_raw_over_threshold_and_keeps_the_order_of_z(model: CausalHM) -> None:
    found = scores(model, 1)[0]
    assert found.threshold is not None
    assert found.score == pytest.approx(found.raw / found.threshold)
    assert found.raw == pytest.approx(raw_score(max(found.components.values())))
    z = np.linspace(-30, 60, 200)
    raw = np.array([raw_score(v) for v in z])
    assert (raw > 0).all()
    assert (np.diff(raw) > 0).all()


def test_a_lost_optional_stream_uses_the_threshold_of_what_is_left(model: CausalHM) -> None:
    seam = law_seam(np.random.default_rng(7), 0)
    whole, deaf = model.score(seam), model.score(without(seam, "audio"))
    assert deaf.threshold_id != whole.threshold_id
    assert deaf.score is not None
    assert "audio" not in deaf.by_modality


def test_a_lost_required_stream_is_named(model: CausalHM) -> None:
    with pytest.raises(ValueError, match="result is missing"):
        model.score(without(law_seam(np.random.default_rng(7), 0), "result"))


def test_a_view_that_cannot_be_compared_is_refused(model: CausalHM) -> None:
    seam = law_seam(np.random.default_rng(7), 0)
    view = dataclasses.replace(seam.views["top"], located=True)
    with pytest.raises(ValueError, match="markers were found in its post-weld image, unlike in training"):
        model.score(dataclasses.replace(seam, views={"top": view}))


def test_an_unknown_program_is_named(model: CausalHM) -> None:
    with pytest.raises(ValueError, match="not trained on program 'p9'; it knows p1, p2"):
        model.begin(cell.seam(program="p9"), cell.STREAMS)


def test_streaming_equals_scoring_whole_features(model: CausalHM) -> None:
    chunks = [c for stream in cell.seam_chunks(np.random.default_rng(0), 2.35).values() for c in stream]
    window = cell.window(np.random.default_rng(1), 2.35)
    extractor = SeamExtractor(cell.seam(), cell.STREAMS, TinyBackbone())
    for chunk in chunks:
        extractor.push(chunk)
    expected = model.score(extractor.finish(window))
    small = sorted((p for c in chunks for p in _pieces(c)), key=lambda c: c.t_ns)
    for stream in (chunks, small):
        scorer = model.begin(cell.seam(), cell.STREAMS)
        for chunk in stream:
            scorer.push(chunk)
        found = scorer.finish(window)
        assert found.raw == pytest.approx(expected.raw, rel=1e-5)
        assert found.components == pytest.approx(expected.components, rel=1e-5, abs=1e-5)
        assert [p.t_s for p in found.timeline] == [p.t_s for p in expected.timeline]
        assert found.timeline[-1].mm == pytest.approx(found.timeline[-1].t_s * 6.0)


def _pieces(chunk: Chunk) -> list[Chunk]:
    if chunk.data.ndim == 1:
        return [chunk]
    n = max(1, chunk.n // 97)
    return [chunk.cut(a, min(a + n, chunk.n)) for a in range(0, chunk.n, n)]


def test_a_stream_that_integrity_calls_broken_is_not_used(model: CausalHM) -> None:
    chunks = [c for stream in cell.seam_chunks(np.random.default_rng(0)).values() for c in stream]
    broken = Integrity("microphone", "audio", 0.2, 10, 90, 3, 900.0, None, "broken")
    window = dataclasses.replace(cell.window(np.random.default_rng(1), 1.5), integrity={"microphone": broken})
    scorer = model.begin(cell.seam(), cell.STREAMS)
    for chunk in chunks:
        scorer.push(chunk)
    assert "audio" not in scorer.finish(window).by_modality


def test_training_is_deterministic(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, d=16, d_sensor=8)
    seams = goods(60)
    for name in ("a", "b"):
        build_causal_hm(seams, [{}] * 60, tmp_path / name, config, alpha=0.2)
    assert weights_id(tmp_path / "a") == weights_id(tmp_path / "b")


def test_too_few_goods_train_but_do_not_arm(tmp_path: Path) -> None:
    report = build_causal_hm(goods(60), [{}] * 60, tmp_path, TrainConfig(epochs=1, d=16, d_sensor=8))
    assert report["thresholds"] == {}
    assert len(report["refused"]) == 2
    assert "record" in report["refused"][0]
    assert report["refused"][0] in (tmp_path / "report.md").read_text()


def test_a_few_seams_are_too_few_to_train() -> None:
    with pytest.raises(ValueError, match="record at least 24"):
        split_by_session(goods(23), TrainConfig())


def test_no_session_is_shared_between_splits() -> None:
    seams: list[SeamFeatures] = goods(240, sessions=24)
    split = split_by_session(seams, TrainConfig(calibration_goods=40))
    parts = [{seams[i].session for i in rows} for rows in (split.train, split.fit, split.calibration)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert max(parts[0] | parts[1]) < min(parts[2])
    assert sum(len(rows) for rows in (split.train, split.fit, split.calibration)) == 240


def test_features_of_another_version_are_refused(directory: Path, tmp_path: Path, cache_dir: Path) -> None:
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "model.toml").read_text()
    (tmp_path / "model.toml").write_text(text.replace(f'"{model_toml(directory)["features_version"]}"', '"0"', 1))
    write_manifest(tmp_path)
    with pytest.raises(ModelError, match="train the model again"):
        load_detector(tmp_path, cache_dir=cache_dir)


def test_the_model_is_a_few_megabytes_and_has_no_pickle(directory: Path) -> None:
    names = {p.name for p in directory.iterdir()}
    assert names == {
        "model.safetensors", "live.safetensors", "model.toml", "thresholds.json", "setpoints.json", "trained_on.json",
        "report.md", "manifest.sha256",
    }  # fmt: skip
    assert sum(p.stat().st_size for p in directory.iterdir()) < 6_000_000


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_score_along_the_seam_shows_where(model: CausalHM) -> None:
    rng = np.random.default_rng(8)
    good, plain = law_seam(rng, 0), law_seam(rng, 0)
    fine = plain.views["top"].fine.copy()
    fine[:, 48:52] += 8.0 * FROM_HEAT["fine"]  # the 13th of 28 places
    hot = dataclasses.replace(
        plain, views={"top": dataclasses.replace(plain.views["top"], fine=fine.astype(np.float16))}
    )
    for seam in (good, hot):
        found, score = model.analyse(seam), model.score(seam)
        assert found.components == pytest.approx(score.components)
        assert found.raw == pytest.approx(score.raw)
        assert found.along() is None  # no scan
        worst = found.parts["s_R"]["photo.worst"]
        assert np.nanmax(found.rows["s_R.photo"]) == pytest.approx(worst)
    found = model.analyse(hot)
    before, marked = (np.fmax(f.rows["s_R.photo"], f.rows["s_RP.photo"]) for f in (model.analyse(plain), found))
    assert np.nanargmax(marked - before) == 12
    assert np.nanargmax(marked) == 12
    rows = {"s_R.scan": np.array([1.0, np.nan]), "s_RP.scan": np.array([3.0, 2.0]), "s_R.photo": np.full(2, 9.0)}
    assert dataclasses.replace(found, rows=rows).along().tolist() == [3.0, 2.0]


def test_a_network_for_measurements_is_refused(directory: Path, tmp_path: Path, cache_dir: Path) -> None:
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "model.toml").read_text()
    (tmp_path / "model.toml").write_text(text.replace('decoder = "linattn_tokens"', 'decoder = "softmax_tokens"'))
    write_manifest(tmp_path)
    with pytest.raises(ModelError, match="decoder = softmax_tokens: such a network is for measurements"):
        load_detector(tmp_path, cache_dir=cache_dir)
