"""Baselines on a seam's process as a whole."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.baselines.late_fusion import LateFusionConfig, TokenAutoencoder
from pipelines.baselines.seam_method import SeamGoods
from pipelines.baselines.sensor_mahalanobis import SensorMahalanobisConfig, seam_statistics
from pipelines.baselines.table import BASELINES
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.loop import LoopConfig
from tests.unit.pipelines.baselines import law

LOOP = LoopConfig(epochs=10, batch=16, lr=5e-3)
CONFIGS: dict[str, Any] = {
    "sensor_mahalanobis": SensorMahalanobisConfig(),
    "late_fusion": LateFusionConfig(hidden=16),
}
SEES = {"sensor_mahalanobis": {"sensor"}, "late_fusion": {"audio", "video"}}


def _goods(n: int, seed: int) -> SeamGoods:
    return SeamGoods(law.processes(n, seed), np.arange(n) % 2, 2)


@pytest.fixture(scope="module", params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(name: str) -> Any:
    return BASELINES[name].fit(_goods(60, 1), _goods(20, 2), CONFIGS[name], LOOP, law.quiet)


def _scores(method: Any, seed: int, bad: frozenset[str] = frozenset()) -> list[float]:
    return [method.score(seam, i % 2) for i, seam in enumerate(law.processes(40, seed, bad))]


@pytest.mark.parametrize("kind", ["sensor", "audio", "video"])
def test_it_sees_its_own_streams_and_no_other(name: str, fitted: Any, kind: str) -> None:
    good, bad = _scores(fitted, 3), _scores(fitted, 3 + (kind in SEES[name]), frozenset({kind}))
    area = roc_auc_score([0] * 40 + [1] * 40, good + bad)
    if kind in SEES[name]:
        assert area > 0.9
    else:
        assert good == bad or area == pytest.approx(0.5, abs=0.15)
    assert min(good + bad) > 0
    assert np.isfinite(good + bad).all()


def test_a_restored_one_gives_the_same_score(name: str, fitted: Any) -> None:
    again = BASELINES[name].restore(json.loads(json.dumps(fitted.about())), fitted.tensors())
    seam = law.processes(1, 9)[0]
    assert again.score(seam, 1) == fitted.score(seam, 1)


def test_a_programs_own_goods_are_its_measure() -> None:
    """What is normal of one program is not of another."""
    train, held_out = _goods(120, 1), _goods(30, 2)
    for goods in (train, held_out):
        for i, seam in enumerate(goods.processes):
            seam.steps[:, : len(SENSOR_FEATURES)] += 3.0 * (i % 2)
    method = BASELINES["sensor_mahalanobis"].fit(train, held_out, CONFIGS["sensor_mahalanobis"], LOOP, law.quiet)
    seam = law.processes(1, 5)[0]
    assert method.score(seam, 1) > 2 * method.score(seam, 0)


def test_statistics_are_those_of_the_tokens() -> None:
    seam = law.processes(1, 5)[0]
    found = seam_statistics(seam, ("mean", "max"))
    figures = len(SENSOR_FEATURES)
    assert found.shape == (4 * figures,)
    whole = seam.steps[:, :figures].reshape(seam.tokens, 10, figures)
    np.testing.assert_allclose(found[:figures], whole.mean((0, 1)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[2 * figures : 3 * figures], whole.mean(1).max(0), rtol=1e-5)


@pytest.fixture(scope="module")
def fusion() -> Any:
    return BASELINES["late_fusion"].fit(_goods(16, 1), _goods(20, 2), CONFIGS["late_fusion"], LOOP, law.quiet)


def test_the_published_weights_are_in_the_score(fusion: Any) -> None:
    seam = law.processes(1, 4, frozenset({"audio"}))[0]
    z = fusion.parts(seam)
    assert fusion.score(seam, 0) == pytest.approx(np.logaddexp(0, 0.37 * z["audio"] + 0.63 * z["video"]))
    alone = fusion.score(seam.without(frozenset({"video"})), 0)
    assert alone == pytest.approx(np.logaddexp(0, z["audio"]))


def test_errors_of_held_out_goods_are_standard(fusion: Any) -> None:
    z = [fusion.parts(seam)["video"] for seam in law.processes(20, 2)]
    assert np.mean(z) == pytest.approx(0, abs=1e-3)
    assert np.std(z) == pytest.approx(1, rel=1e-2)


def test_padding_does_not_count() -> None:
    import torch

    torch.manual_seed(0)
    net = TokenAutoencoder(6, LateFusionConfig(hidden=8, code=2))
    tokens = torch.randn(1, 11, 6)
    longer = torch.cat([tokens, torch.full((1, 9, 6), 50.0)], 1)
    known = torch.arange(20)[None] < 11
    alone, padded = net(tokens, known[:, :11]), net(longer, known)
    assert (padded[0, 11:] == 0).all()
    torch.testing.assert_close(padded[0, :6], alone[0, :6])  # beyond, the end is seen through the convolutions


def test_a_seam_without_sound_and_video_is_refused(fusion: Any) -> None:
    seam = law.processes(1, 4)[0].without(frozenset({"audio", "video"}))
    with pytest.raises(ValueError, match="neither of audio, video"):
        fusion.score(seam, 0)


def test_goods_without_a_stream_train_on_the_other() -> None:
    def mute(goods: SeamGoods) -> SeamGoods:
        return dataclasses.replace(goods, processes=[p.without(frozenset({"audio"})) for p in goods.processes])

    loop = dataclasses.replace(LOOP, epochs=1)
    train, held_out = mute(_goods(10, 1)), mute(_goods(5, 2))
    method = BASELINES["late_fusion"].fit(train, held_out, CONFIGS["late_fusion"], loop, law.quiet)
    assert list(method.nets) == ["video"]
    none = SeamGoods([p.without(frozenset({"video"})) for p in train.processes], train.program, 2)
    with pytest.raises(ValueError, match="neither sound nor video"):
        BASELINES["late_fusion"].fit(none, none, CONFIGS["late_fusion"], loop, law.quiet)


def test_every_seam_has_a_program() -> None:
    with pytest.raises(ValueError, match="2 seams with 3 programs"):
        SeamGoods(law.processes(2, 1), np.zeros(3, np.int64), 1)


def test_sound_and_video_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    """One killed training must not go on from the other's checkpoint."""

    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int, loss: float) -> None:
        stages.append(stage)
        if len(set(stages)) == 2 and done == 1:
            raise Stop

    stages: list[str] = []
    loop = dataclasses.replace(LOOP, epochs=3, checkpoint=tmp_path, checkpoint_every_s=0.0)
    goods = _goods(10, 1), _goods(5, 2)
    with pytest.raises(Stop):
        BASELINES["late_fusion"].fit(*goods, CONFIGS["late_fusion"], loop, stop)
    assert [path.stem for path in tmp_path.glob("*.safetensors")] == [stages[-1]]
    again = BASELINES["late_fusion"].fit(*goods, CONFIGS["late_fusion"], loop, law.quiet)
    loop = dataclasses.replace(loop, checkpoint=None)
    plain = BASELINES["late_fusion"].fit(*goods, CONFIGS["late_fusion"], loop, law.quiet)
    seam = law.processes(1, 9)[0]
    assert again.score(seam, 0) == plain.score(seam, 0)
