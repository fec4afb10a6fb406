"""Training and scoring of every form on welds of a known law: what fits and what does not must come apart."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipelines.causal_data import CausalData, fit_process_rows
from pipelines.causal_published import PublishedConfig, PublishedNet, score_published, train_published
from pipelines.causal_residual import CausalResidual, fit_residual
from pipelines.causal_targets import WeightedTarget, published_loss, variance_term
from pipelines.causal_train import CausalTraining, Trained, net_config, predict, train_net
from pipelines.loop import LoopConfig
from pipelines.modality_dropout import drop_modalities
from tests.support.law_process import ROWS, law_data

LOOP = LoopConfig(epochs=10, batch=16, lr=5e-3, patience=0)
SMALL = {"d": 24, "d_sensor": 12, "d_state": 4}
CLEAN = CausalTraining(modality_dropout=0.0)


def silent(*_: object) -> None:
    pass


def trained(
    training: CausalTraining = CLEAN, loop: LoopConfig = LOOP, **choices: object
) -> tuple[Trained, CausalData]:
    torch.set_num_threads(1)
    train, held_out = law_data(96, 1), law_data(48, 2)
    if choices.get("direction") == "reverse":
        rows = fit_process_rows(train)
        train, held_out = rows.add(train), rows.add(held_out)
    config = net_config(train, **(SMALL | choices))
    return train_net(train, held_out, config, training, loop, silent), held_out


def separates(model: CausalResidual, direction: str = "forward", views: int = 1) -> dict[str, float]:
    train = law_data(96, 1, views=views)
    good, bad = law_data(40, 3, views=views), law_data(40, 4, broken=True, views=views)
    if direction == "reverse":
        rows = fit_process_rows(train)
        good, bad = rows.add(good), rows.add(bad)
    of_good, of_bad = model.score(good).parts, model.score(bad).parts
    assert all(np.isfinite(v).all() for scores in (of_good, of_bad) for v in scores.values())
    label = np.repeat([False, True], 40)
    return {name: float(roc_auc_score(label, np.concatenate([of_good[name], of_bad[name]]))) for name in of_good}


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"target": "frozen_cov", "sensor_encoder": "mean"},
        {"decoder": "mlp", "sensor_encoder": "mean"},
        {"form": "bidirectional", "sensor_encoder": "gru"},
        {"direction": "reverse"},
        {"direction": "reverse", "target": "frozen_cov"},
    ],
    ids=lambda c: "-".join(map(str, c.values())) or "default",
)
def test_what_does_not_fit_its_process_comes_apart(choices: dict[str, object]) -> None:
    found, held_out = trained(**choices)
    # Noise is most of what there is to predict, all the more so once it is weighted alike.
    assert found.report["held_out_loss"] < 0.9 * found.report["held_out_loss_of_the_mean"]
    got = separates(fit_residual(found, held_out), str(choices.get("direction", "forward")))
    assert got["s_RP"] > 0.75
    assert got["mismatch"] > 0.9
    assert abs(got["s_R"] - 0.5) < 0.2


def test_the_linear_way_stands_beside_the_network_in_both_directions() -> None:
    brief = dataclasses.replace(LOOP, epochs=1)
    for direction in ("forward", "reverse"):
        linear = dataclasses.replace(CLEAN, linear=True)
        found, held_out = trained(linear, loop=brief, direction=direction, sensor_encoder="mean")
        assert found.linear is not None
        got = separates(fit_residual(found, held_out), direction)
        assert got["mismatch"] > 0.9
    with pytest.raises(ValueError, match="needs target frozen_pca"):
        trained(CausalTraining(linear=True), target="ema")


@pytest.mark.parametrize("views", ["max", "mean"])
def test_pooled_views_are_predicted(views: str) -> None:
    train, held_out = law_data(96, 1, views=2), law_data(48, 2, views=2)
    config = net_config(train, **SMALL, sensor_encoder="mean", views=views, queries=ROWS)
    model = fit_residual(train_net(train, held_out, config, CLEAN, LOOP, silent), held_out)
    assert separates(model, views=2)["mismatch"] > 0.9


def test_a_target_that_may_collapse_does_and_one_that_may_not_does_not() -> None:
    long = dataclasses.replace(LOOP, epochs=40, patience=0, lr=1e-2)
    training = dataclasses.replace(CLEAN, loss="published")
    cheap = {"decoder": "mlp", "sensor_encoder": "mean"}
    dev, _ = trained(training, loop=long, target="trainable_dev", **cheap)
    ema, _ = trained(training, loop=long, target="ema", **cheap)
    frozen, _ = trained(training, loop=long, target="frozen_pca", **cheap)
    assert dev.report["collapsed"] == 1
    assert ema.report["collapsed"] == 0
    assert frozen.report["target_spread"] == 1.0
    assert float(ema.report["target_spread"]) > 3 * float(dev.report["target_spread"])


def test_training_is_deterministic_and_the_sensor_may_drop_out() -> None:
    brief = dataclasses.replace(LOOP, epochs=1)
    both = CausalTraining(modality_dropout=0.3, modality_dropout_sensor=0.5)
    (a, data), (b, _), (c, _) = trained(both, loop=brief), trained(both, loop=brief), trained(CLEAN, loop=brief)
    assert np.array_equal(predict(a.net, data), predict(b.net, data))
    assert not np.array_equal(predict(a.net, data), predict(c.net, data))


def test_each_stream_drops_by_its_own_share() -> None:
    torch.manual_seed(0)
    data = law_data(300, 0)
    batch = data.process_batch(np.arange(300))
    whole = drop_modalities(batch, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(whole, batch, strict=True))
    dropped = drop_modalities(batch, 0.3, 0.6)
    lost = {n: 1 - getattr(dropped, n).reshape(300, -1).any(1).float().mean() for n in STREAMS}
    assert abs(lost["video_known"] - 0.3) < 0.1
    assert abs(lost["audio_known"] - 0.3) < 0.1
    assert abs(lost["sensor"] - 0.6) < 0.1
    assert not dropped.steps[~dropped.sensor].any()


STREAMS = ("video_known", "audio_known", "sensor")


def test_the_covariance_weights_what_varies_least() -> None:
    data = law_data(200, 0)
    scaled = dataclasses.replace(data, rows=data.rows * np.linspace(0.1, 3.0, data.rows.shape[2], dtype=np.float32))
    target = WeightedTarget(net_config(scaled, target="frozen_cov"))
    target.fit(scaled.rows, scaled.known)
    z = target(torch.from_numpy(scaled.rows), torch.from_numpy(scaled.known))[0].flatten(0, 1).double()
    assert np.abs((z.T @ z / len(z)).numpy() - np.eye(z.shape[1])).max() < 0.3


def test_the_published_loss_by_hand() -> None:
    z, p = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]]), torch.tensor([[[4.0, 3.0]], [[1.0, 2.0]]])
    known = torch.ones(2, 1, dtype=torch.bool)
    cosine = (1 - 24 / 25 + 1 - 1 / 5**0.5) / 2
    worst = (0.95 + 1.95) / 2  # |off| − β / 2 of each seam's worse number
    assert float(published_loss(p, z, known)) == pytest.approx(cosine + worst, abs=1e-5)
    gram = ((25 - 25) ** 2 + 2 * (10 - 3) ** 2 + (5 - 1) ** 2) / 2**2 / 4  # pᵢ·pⱼ / 2 against zᵢ·zⱼ / 2
    assert float(published_loss(p, z, known, 1.0)) == pytest.approx(cosine + worst + gram, abs=1e-5)
    hidden = torch.tensor([[True], [False]])
    assert torch.isfinite(published_loss(p, z, hidden))


def test_the_variance_term_asks_for_a_spread_of_one() -> None:
    known = torch.ones(100, 4, dtype=torch.bool)
    torch.manual_seed(0)
    assert float(variance_term(2.0 * torch.randn(100, 4, 3), known)) == 0.0
    assert float(variance_term(torch.zeros(100, 4, 3), known)) == pytest.approx(0.99, abs=1e-3)


def test_scores_lie_along_the_seam_where_the_fault_is() -> None:
    found, held_out = trained(loop=dataclasses.replace(LOOP, epochs=4))
    model = fit_residual(found, held_out)
    good = law_data(8, 5)
    rows = good.rows.copy()
    rows[:, 2] += 4.0
    known = good.known.copy()
    known[:, 5] = False
    scores = model.score(dataclasses.replace(good, rows=rows * known[..., None], known=known))
    for name in ("s_R", "s_RP"):
        assert (np.nanargmax(scores.along[name], 1) == 2).all()
        assert np.isnan(scores.along[name][:, 5]).all()
        np.testing.assert_array_less(np.nanmax(scores.along[name], 1) - 1e-9, scores.parts[name])


def test_the_published_form_has_the_published_size() -> None:
    net = PublishedNet(PublishedConfig())

    def millions(*parts: torch.nn.Module) -> float:
        return sum(p.numel() for part in parts for p in part.parameters()) / 1e6

    assert millions(net.project_video, net.project_audio) == pytest.approx(1.45, abs=0.005)
    assert millions(net.modulator) == pytest.approx(0.37, abs=0.005)
    assert millions(net.process) == pytest.approx(6.3, abs=0.05)
    assert millions(net.result) == pytest.approx(9.6, abs=0.05)
    assert millions(net) == pytest.approx(18.3, abs=0.05)


def test_the_published_form_trains_and_scores_on_our_features() -> None:
    torch.set_num_threads(1)
    train, held_out = law_data(64, 1), law_data(36, 2)
    first = train.processes[0]
    config = PublishedConfig(
        sensor=first.steps.shape[1] // 2, video=first.video.shape[1], audio=first.audio.shape[1],
        result=train.rows.shape[2], d=16, hidden=16, d_sensor=8, d_state=4,
    )  # fmt: skip
    loop = dataclasses.replace(LOOP, epochs=3, patience=0)
    net, report = train_published(train, held_out, ROWS, config, loop, silent)
    assert report["held_out_loss"] < report["held_out_loss_of_the_mean"]
    scores = score_published(net, held_out, ROWS)
    assert scores.shape == (36,)
    assert np.isfinite(scores).all()
    assert scores.std() > 0
    long = dataclasses.replace(LOOP, epochs=30, patience=0, lr=1e-2)
    _, collapsed = train_published(train, held_out, ROWS, config, long, silent)
    assert collapsed["target_spread"] < 0.5 * report["target_spread"]


def test_the_published_form_sees_only_the_sensors_last_state_and_no_padding() -> None:
    torch.manual_seed(0)
    train = law_data(6, 1)
    first = train.processes[0]
    config = PublishedConfig(
        sensor=first.steps.shape[1] // 2, video=first.video.shape[1], audio=first.audio.shape[1],
        result=train.rows.shape[2], d=16, hidden=16, d_sensor=8, d_state=4,
    )  # fmt: skip
    net = PublishedNet(config).eval()
    torch.nn.init.normal_(net.modulator.head.weight)
    together = score_published(net, train, ROWS)
    alone = [score_published(net, train.take(np.array([i])), ROWS)[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
