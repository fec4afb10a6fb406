"""CFM: size as published; a broken law between two modalities is found."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipelines.cfm import LOOPS, Cfm, CfmConfig, CfmNet, cfm_loss, fit_cfm
from pipelines.grid_nets import GridTensors
from pipelines.grids import GridData
from tests.support.grid_law import quiet, seams


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def fitted() -> Cfm:
    torch.set_num_threads(1)
    loop = dataclasses.replace(LOOPS["cell"], epochs=30, batch=8)
    return fit_cfm(seams(80, 1), seams(24, 2), CfmConfig.preset("cell", "cpu"), loop, quiet)


def test_published_size() -> None:
    net = CfmNet({"rgb": 768, "geo": 1152}, 10, CfmConfig.preset("compat", "gpu"))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 5.54
    assert net.into["geo"].mid.in_features == 960


def test_the_small_size_is_narrower_and_the_cells_knows_programs() -> None:
    net = CfmNet({"rgb": 768, "geo": 1152}, 10, CfmConfig.preset("cell", "cpu"))
    assert net.into["geo"].mid.in_features == 256
    assert net.into["geo"].program.weight.shape == (10, 256)


def test_the_loss_is_a_cosine_over_measured_cells() -> None:
    data = seams(4, 0)
    moved = GridData(
        {k: np.where(data.valid[..., None], 3 * c if k == "geo" else c, 50) for k, c in data.cells.items()},
        data.valid,
        data.program,
        data.programs,
    )
    torch.manual_seed(0)
    net = CfmNet({"geo": 8, "proc": 12}, 2, CfmConfig())
    for mapper in net.into.values():  # a constant prediction, so that only the observed cells matter
        torch.nn.init.zeros_(mapper.out.weight)
    losses = [cfm_loss(net, GridTensors(d).batch(np.arange(4), torch.device("cpu"))).item() for d in (data, moved)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_broken_law_is_found_and_at_its_place(fitted: Cfm) -> None:
    good, bad = (fitted.error_maps(d) for d in (seams(40, 3), seams(40, 4, bad=True)))
    fused = [m["geo"] * m["proc"] for m in (good, bad)]
    worst = [np.sort(m.reshape(40, -1))[:, -3:].mean(1) for m in fused]
    assert roc_auc_score([0] * 40 + [1] * 40, np.concatenate(worst)) > 0.9
    assert fused[1][:, 1:4, 2:5].mean() > 2 * fused[1][:, :, 6:].mean()


def test_an_error_is_attributed_to_the_predicted_modality(fitted: Cfm) -> None:
    data = seams(6, 5)
    data.cells["geo"][:, 0, 0] *= -1
    before, after = fitted.error_maps(seams(6, 5)), fitted.error_maps(data)
    assert after["geo"][:, 0, 0].mean() > before["geo"][:, 0, 0].mean() + 0.5
    np.testing.assert_array_equal(after["proc"][:, 1:], before["proc"][:, 1:])


def test_maps_are_finite_bounded_and_0_where_nothing_was_measured(fitted: Cfm) -> None:
    data = seams(5, 6)
    data.cells["proc"][:, -1] = np.nan
    data.cells["geo"][0, 0, 0] = 0.0  # a vector without direction
    for error in fitted.error_maps(data).values():
        assert np.isfinite(error).all()
        assert (error[~data.valid] == 0).all()
        assert error.max() <= 2.0


def test_restored_gives_the_same_maps(fitted: Cfm) -> None:
    data = seams(7, 6)
    restored = Cfm.restore(fitted.about(), fitted.tensors())
    for name, error in fitted.error_maps(data).items():
        np.testing.assert_array_equal(restored.error_maps(data)[name], error)


def test_refusals_name_what_is_wrong(fitted: Cfm) -> None:
    with pytest.raises(ValueError, match="two modalities, got 3"):
        CfmNet({"rgb": 4, "geo": 4, "proc": 4}, 1, CfmConfig())
    with pytest.raises(ValueError, match="trained on channels"):
        fitted.error_maps(seams(4, 0, channels=(8, 9)))
    none = seams(4, 0).take(np.zeros(4, bool))
    with pytest.raises(ValueError, match="held_out has none"):
        fit_cfm(seams(4, 0), none, CfmConfig(), LOOPS["cell"], quiet)
