"""Uni-RCM on goods of a known law: what breaks the law shows, in one modality or between two."""

import dataclasses
import functools
import tomllib
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from sklearn.metrics import roc_auc_score

from pipelines.grids import GridData
from pipelines.loop import LoopConfig
from pipelines.uni_rcm import UniRcm, UniRcmConfig, direction_loss, fit_uni_rcm
from pipelines.uni_rcm_config import LOOPS

SHAPE, A, B, PROGRAMS = (4, 7), 6, 5, 2
SIZES: dict[str, Any] = {"d": 16, "blocks": 2, "codes": {"rgb": 32, "geo": 16, "proc": 16}}
LOOP = LoopConfig(epochs=8, batch=6, lr=5e-3, optimiser="adam", patience=0)
SPOT = (slice(1, 3), slice(2, 5))
LAW = np.random.default_rng(7).standard_normal((A, B)).astype(np.float32)


def seams(n: int = 72, seed: int = 0, pair: tuple[str, str] = ("geo", "proc")) -> GridData:
    """b = tanh(a · LAW) + noise, and a different at every seam and place; every third seam has an unknown cell."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, *SHAPE, A)).astype(np.float32)
    b = np.tanh(a @ LAW) + 0.1 * rng.standard_normal((n, *SHAPE, B)).astype(np.float32)
    valid = np.ones((n, *SHAPE), np.bool_)
    valid[::3, 0, 0] = False
    return GridData({pair[0]: a, pair[1]: b}, valid, np.arange(n, dtype=np.int64) % PROGRAMS, PROGRAMS)


def swapped(goods: GridData) -> GridData:
    """In a spot, each seam's second modality is its neighbour's: each alone as in goods."""
    first, second = goods.cells
    cells = goods.cells[second].copy()
    cells[:, *SPOT] = np.roll(cells[:, *SPOT], 1, axis=0)
    return dataclasses.replace(goods, cells={first: goods.cells[first], second: cells})


def marked(goods: GridData, name: str) -> GridData:
    """A spot where one modality leaves what goods show."""
    cells = dict(goods.cells)
    cells[name] = cells[name].copy()
    cells[name][:, *SPOT] *= 4.0
    return dataclasses.replace(goods, cells=cells)


def only(data: GridData, name: str) -> GridData:
    return dataclasses.replace(data, cells={name: data.cells[name]})


def quiet(stage: str, done: int, total: int, loss: float) -> None:
    assert stage in {"network", "quantiser geo", "quantiser proc", "quantiser rgb"}
    assert 0 <= done <= total
    assert np.isfinite(loss)


@functools.cache
def fitted(preset: str = "cell", epochs: int = LOOP.epochs, seed: int = 0, **choices: Any) -> UniRcm:
    torch.set_num_threads(1)
    config = dataclasses.replace(UniRcmConfig.preset(preset, "cpu"), **{**SIZES, **choices})  # type: ignore[arg-type]
    return fit_uni_rcm(seams(), seams(40, seed=1), config, dataclasses.replace(LOOP, epochs=epochs, seed=seed), quiet)


def auroc(model: UniRcm, bads: GridData, names: tuple[str, ...] = ("geo", "proc")) -> dict[str, float]:
    goods = seams(60, seed=2)
    goods = dataclasses.replace(goods, cells={name: goods.cells[name] for name in bads.pair})
    ok, ng = model.error_maps(goods), model.error_maps(bads)
    label = [0] * len(goods) + [1] * len(bads)
    return {
        name: float(roc_auc_score(label, np.concatenate([np.sort(m[name].reshape(len(m[name]), -1))[:, -6:].mean(1)
                                                         for m in (ok, ng)])))
        for name in names
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["cell", "compat"])
def test_what_breaks_the_law_between_two_modalities_shows(preset: str) -> None:
    model, bads = fitted(preset), swapped(seams(60, seed=3))
    assert min(auroc(model, bads).values()) > 0.9
    assert 0.3 < auroc(model, only(bads, "proc"), ("proc",))["proc"] < 0.7  # each modality alone is as in goods


def test_maps_are_finite_and_nothing_where_nothing_was_measured() -> None:
    model, data = fitted(epochs=1), seams(20, seed=4)
    known = model.error_maps(data)
    spoilt = {name: np.where(data.valid[..., None], cells, np.float32("nan")) for name, cells in data.cells.items()}
    for name, found in model.error_maps(dataclasses.replace(data, cells=spoilt)).items():
        assert found.shape == (20, *SHAPE)
        assert found.dtype == np.float32
        assert (found[data.valid] > 0).all()
        assert not found[~data.valid].any()
        np.testing.assert_array_equal(found, known[name])
    assert model.error_maps(data.take(np.arange(0)))["geo"].shape == (0, *SHAPE)


@pytest.mark.parametrize("preset", ["cell", "compat"])
def test_a_model_comes_back_from_its_file(preset: str) -> None:
    model, data = fitted(preset, epochs=1), seams(20, seed=4)
    about = tomllib.loads(tomli_w.dumps(model.about()))
    again = UniRcm.restore(about, model.tensors())
    assert again.config == model.config
    for part in (data, only(data, "proc")):
        for name, found in again.error_maps(part).items():
            np.testing.assert_array_equal(found, model.error_maps(part)[name])


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    first, again, other = fitted(epochs=1), fitted.__wrapped__(epochs=1), fitted(epochs=1, seed=1)
    for name, tensor in first.tensors().items():
        np.testing.assert_array_equal(tensor, again.tensors()[name])
    assert not np.array_equal(
        first.tensors()["nets.to_first.embed.weight"], other.tensors()["nets.to_first.embed.weight"]
    )


@pytest.mark.parametrize("preset", ["cell", "compat"])
def test_a_missing_modality_leaves_the_quantiser_of_the_other(preset: str) -> None:
    model, data = fitted(preset, epochs=1), seams(40, seed=1)
    (alone,) = model.error_maps(only(data, "geo")).values()
    assert (alone[data.valid] > 0).all()
    # Absolute in either preset: of the held-out goods' cells 1 in 100 exceeds 1.
    assert (alone[data.valid] > 1.0).mean() == pytest.approx(0.01, abs=0.003)
    assert auroc(model, only(marked(seams(60, seed=3), "geo"), "geo"), ("geo",))["geo"] > 0.9


def test_the_published_scale_loses_how_large_an_error_is_and_ours_keeps_it() -> None:
    data = seams(30, seed=5)
    for scale in ("image_max", "goods_p99"):
        model = fitted(epochs=1, q_scale=scale, direction_weights="equal")
        without = dataclasses.replace(model, config=dataclasses.replace(model.config, quantiser=False), quantisers={})
        terms = {}
        for kind, seen in (("goods", data), ("marked", marked(data, "geo"))):
            terms[kind] = (model.error_maps(seen)["geo"] - without.error_maps(seen)["geo"]) / model.config.beta["geo"]
        largest = {kind: term.max((1, 2)) for kind, term in terms.items()}
        if scale == "image_max":
            np.testing.assert_allclose([largest["goods"], largest["marked"]], 1.0, atol=1e-4)
        else:
            assert largest["marked"].min() > 1.5 > largest["goods"].max()


def test_scales_are_each_programs_own_where_it_has_goods_enough() -> None:
    goods = seams(400, seed=6)
    loud = dataclasses.replace(goods, cells={**goods.cells})
    loud.cells["geo"][goods.program == 1] *= 3.0  # type: ignore[index]
    config = dataclasses.replace(UniRcmConfig.preset("cell", "cpu"), **SIZES)
    loop = dataclasses.replace(LOOP, epochs=1)
    own = fit_uni_rcm(seams(), loud, config, loop, quiet).q_goods["geo"]
    pooled = fit_uni_rcm(seams(), loud.take(np.arange(40)), config, loop, quiet).q_goods["geo"]
    assert own[1] > 2 * own[0] > 0
    assert pooled[0] == pooled[1] > 0


def test_a_direction_that_tells_nothing_counts_less() -> None:
    config = dataclasses.replace(UniRcmConfig.preset("cell", "cpu"), **SIZES)
    goods = seams(120)
    rng = np.random.default_rng(0)
    first = goods.cells["geo"].copy()
    first[..., 2:] = 3.0 * rng.standard_normal(first[..., 2:].shape)  # texture: the law reads two channels alone
    cells = {"rgb": first, "proc": np.repeat(first[..., :2], 2, -1)}
    data = dataclasses.replace(goods, cells=cells)
    train, held_out = data.take(np.arange(90)), data.take(np.arange(90, 120))
    model = fit_uni_rcm(train, held_out, config, dataclasses.replace(LOOP, epochs=8), quiet)
    assert model.r2["proc"] > 0.8
    assert model.r2["rgb"] < 0.4
    assert model.weight["proc"] == 1.0
    assert 0 < model.weight["rgb"] < 0.5
    equal = dataclasses.replace(model, config=dataclasses.replace(config, direction_weights="equal"))
    assert equal.weight == {"rgb": 1.0, "proc": 1.0}
    weighed, plain = (m.error_maps(held_out)["rgb"][held_out.valid] for m in (model, equal))
    assert (weighed < plain).all()
    lost = dataclasses.replace(model, r2={"rgb": -3.0, "proc": -1.0})
    assert lost.weight == {"rgb": 1.0, "proc": 1.0}


def test_the_square_error_is_what_pins_a_predictions_length() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    assert float(direction_loss(2 * x, x, valid, 0.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(direction_loss(2 * x, x, valid, 0.1)) == pytest.approx(0.1 * float(x.square().mean()), rel=1e-4)
    assert float(direction_loss(-x, x, valid, 0.0)) == pytest.approx(2.0, rel=1e-5)
    valid[0] = False
    wrong = torch.cat([-x[:1], x[1:]])
    assert float(direction_loss(wrong, x, valid, 0.1)) == pytest.approx(0.0, abs=1e-6)
    assert float(direction_loss(wrong, x, torch.zeros_like(valid), 0.1)) == 0.0


def test_each_choice_changes_the_maps() -> None:
    base = fitted(epochs=1)
    data = seams(10, seed=8)
    maps = base.error_maps(data)["geo"]
    for choice in (
        {"norm": "batch"}, {"branch": "rfi"}, {"branch": "ram"}, {"reference": "zeros"}, {"blocks": 1},
        {"program_embedding": False}, {"mse_weight": 0.1}, {"quantiser": False}, {"levels": 1},
        {"normalise_first": False}, {"rows_per_code": 40}, {"iterations": 1},
    ):  # fmt: skip
        other = fitted.__wrapped__(epochs=1, **choice).error_maps(data)["geo"]
        assert np.abs(other - maps).max() > 1e-4, choice


def test_codes_and_levels_are_as_configured() -> None:
    model = fitted(epochs=1)
    assert [q.codebooks[0].shape for q in model.quantisers.values()] == [(16, A), (16, B)]
    assert all(len(q.codebooks) == 4 for q in model.quantisers.values())
    published = UniRcmConfig.preset("compat", "gpu")
    assert published == UniRcmConfig()
    assert (published.codes["rgb"], published.codes["geo"], published.beta["rgb"], published.beta["geo"]) == (
        4096, 1024, 0.05, 0.10,
    )  # fmt: skip
    loop = LOOPS["compat", "gpu"]
    assert (loop.epochs, loop.batch, loop.lr, loop.schedule, loop.clip, loop.patience, loop.seed) == (
        200, 32, 3e-4, "constant", None, 0, 115,
    )  # fmt: skip


def test_what_does_not_fit_is_refused_by_name() -> None:
    model, data = fitted(epochs=1), seams(6)
    with pytest.raises(ValueError, match="fitted on geo and proc, got cells of rgb"):
        model.error_maps(only(seams(6, pair=("rgb", "proc")), "rgb"))
    cut = GridData({n: c[:, :, :5] for n, c in data.cells.items()}, data.valid[:, :, :5], data.program, PROGRAMS)
    with pytest.raises(ValueError, match=r"grid of \(4, 7\), got seams on \(4, 5\)"):
        model.error_maps(cut)
    bare = fitted(epochs=1, quantiser=False)
    with pytest.raises(ValueError, match="geo alone cannot be scored without a quantiser"):
        bare.error_maps(only(data, "geo"))
    with pytest.raises(ValueError, match="two modalities"):
        fit_uni_rcm(only(data, "geo"), only(data, "geo"), model.config, LOOP, quiet)
    with pytest.raises(ValueError, match="got 6 of"):
        fit_uni_rcm(data, data.take(np.arange(0)), model.config, LOOP, quiet)
    nowhere = dataclasses.replace(data, valid=np.zeros_like(data.valid))
    with pytest.raises(ValueError, match="none of the 6 held-out goods has a valid cell"):
        fit_uni_rcm(seams(40), nowhere, model.config, dataclasses.replace(LOOP, epochs=1), quiet)
