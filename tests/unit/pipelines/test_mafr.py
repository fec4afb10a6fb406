"""MAFR: sizes as published, each flag does what it says, and a broken law between two modalities is found."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipelines.grid_nets import GridTensors
from pipelines.grids import GridData
from pipelines.mafr import LOOPS, Mafr, MafrConfig, fit_mafr, mafr_loss
from pipelines.mafr_losses import avgpool_l1, smoothness, soft_census, znssd
from pipelines.mafr_net import Cbam, MafrNet
from tests.support.grid_law import quiet, seams

COMPAT = MafrConfig.preset("compat", "gpu")
CELL = MafrConfig.preset("cell", "cpu")
SHORT = dataclasses.replace(LOOPS["cell"], epochs=3, batch=8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes() -> None:
    net = MafrNet({"rgb": 768, "geo": 1152}, 10, COMPAT)
    parts = [count(net.encoder), count(net.decoders["rgb"]), count(net.decoders["geo"]), count(net)]
    assert [round(p / 1e6, 2) for p in parts] == [3.69, 3.32, 6.37, 13.38]
    assert net.encoder.linears[0].out_features == 960


def test_presets_differ_in_the_named_flags() -> None:
    assert (COMPAT.cbam, COMPAT.census, COMPAT.window, COMPAT.smooth_channels) == ("percell", "avgpool_l1", 7, 2)
    assert (COMPAT.masked_losses, COMPAT.normalised_score, COMPAT.program_embedding) == (False, False, False)
    assert (CELL.cbam, CELL.smooth_channels) == ("grid", 0)
    assert CELL.masked_losses
    assert CELL.program_embedding
    assert (COMPAT.hidden, CELL.hidden) == (960, 256)


def test_the_latent_cannot_hold_a_cell_whole() -> None:
    assert MafrNet({"rgb": 10, "geo": 6}, 1, CELL).encoder.linears[0].out_features == 8


@pytest.mark.parametrize(
    ("flag", "more"),
    [
        ({"shared_norm": False}, 2 * 2 * (7 + 8 + 6)),
        ({"skip": False}, -(7 * 8 + 8 + 7 * 6 + 6)),
        ({"cbam": "none"}, -(2 * 8 + 2 * 6 + 2 * 98)),
        ({"program_embedding": True}, 3 * 7),
    ],
)
def test_parts_come_and_go(flag: dict[str, object], more: int) -> None:
    channels = {"rgb": 8, "geo": 6}
    plain = count(MafrNet(channels, 3, COMPAT))
    assert count(MafrNet(channels, 3, dataclasses.replace(COMPAT, **flag))) - plain == more


def _cells(seed: int = 0, shape: tuple[int, ...] = (2, 5, 7, 8)) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cbam_of_a_cell_alone_is_the_published_one_on_a_map_of_one_cell() -> None:
    torch.manual_seed(0)
    cbam, x = Cbam(8, whole_grid=False), _cells()
    alone = x.reshape(-1, 8, 1, 1)
    gate = torch.sigmoid(cbam.mlp(alone.mean((2, 3))) + cbam.mlp(alone.amax((2, 3))))[..., None, None]
    gated = alone * gate
    spatial = torch.sigmoid(cbam.conv(torch.cat([gated.mean(1, keepdim=True), gated.amax(1, keepdim=True)], 1)))
    expected = (gated * spatial).reshape(x.shape)
    torch.testing.assert_close(cbam(x, torch.ones(2, 5, 7, dtype=torch.bool)), expected)


@pytest.mark.parametrize("whole_grid", [False, True])
def test_only_cbam_on_the_grid_sees_neighbours(whole_grid: bool) -> None:
    torch.manual_seed(0)
    cbam, x, valid = Cbam(8, whole_grid), _cells(), torch.ones(2, 5, 7, dtype=torch.bool)
    moved = x.clone()
    moved[:, 2, 3] += 5.0
    changed = (cbam(x, valid) - cbam(moved, valid)).abs().sum(-1) > 1e-6
    assert changed[:, 2, 3].all()
    assert bool(changed[:, 2, 4].all()) is whole_grid


def test_cbam_on_the_grid_is_blind_for_what_was_not_measured() -> None:
    torch.manual_seed(0)
    cbam, x, valid = Cbam(8, True), _cells(), torch.ones(2, 5, 7, dtype=torch.bool)
    valid[:, 0] = False
    moved = x.clone()
    moved[:, 0] = 100.0
    torch.testing.assert_close(cbam(x, valid)[valid], cbam(moved, valid)[valid])
    assert cbam(x, torch.zeros_like(valid)).isfinite().all()


def test_znssd_is_blind_for_level_and_scale_of_a_cell() -> None:
    x, weight = _cells(), torch.ones(2, 5, 7)
    torch.testing.assert_close(znssd(x, 3.0 * x + 2.0, weight), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(znssd(x, -x, weight), torch.full((2,), 4.0), atol=1e-4, rtol=0)


def test_smoothness_by_hand_and_its_channels() -> None:
    x = torch.zeros(1, 1, 3, 4)
    x[0, 0, 1] = 1.0  # the guide steps by 1 there, so U's steps count e⁻¹
    y = x.clone()
    y[0, 0, 1, 3] += 2.0  # U of the last channel: 0, 2, 0
    weight = torch.ones(1, 1, 3)
    assert smoothness(x, y, weight, 2).item() == 0.0
    assert smoothness(x, y, weight, 0).item() == pytest.approx(2 * np.exp(-1) * 2 / 4)


def test_window_means_by_hand() -> None:
    x, weight = torch.zeros(1, 3, 3, 1), torch.ones(1, 3, 3)
    y = x.clone()
    y[0, 1, 1] = 9.0
    assert avgpool_l1(x, y, weight, 3, masked=False).item() == pytest.approx(1.0)
    # Off the grid does not count when masked: corners have 4 cells, edges 6.
    assert avgpool_l1(x, y, weight, 3, masked=True).item() == pytest.approx((4 * 9 / 4 + 4 * 9 / 6 + 1) / 9)
    weight[0, 0, 0] = 0.0
    expected = (3 * 9 / 4 + 2 * 9 / 5 + 2 * 9 / 6 + 9 / 8) / 8
    assert avgpool_l1(x, y, weight, 3, masked=True).item() == pytest.approx(expected)


def test_soft_census_sees_order_and_not_level() -> None:
    x, weight = _cells(), torch.ones(2, 5, 7)
    torch.testing.assert_close(soft_census(x, x + 7.0, weight, 3), torch.zeros(2), atol=1e-5, rtol=0)
    assert (soft_census(x, -x, weight, 3) > 0.1).all()
    step = torch.tensor([0.0, 2.0]).reshape(1, 1, 2, 1)
    found = soft_census(step, torch.zeros_like(step), torch.ones(1, 1, 2), 3)
    assert found.item() == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item() - 0.5)


@pytest.mark.parametrize("census", ["avgpool_l1", "soft", "none"])
@pytest.mark.parametrize("masked", [True, False])
def test_masked_losses_do_not_see_what_was_not_measured(census: str, masked: bool) -> None:
    config = dataclasses.replace(CELL, census=census, masked_losses=masked, dropout=0.0)
    data = seams(4, 0)
    data.valid[:, 2, 3] = False
    torch.manual_seed(0)
    net = MafrNet({"geo": 8, "proc": 12}, 2, config)
    other = GridData({k: np.where(data.valid[..., None], c, 50) for k, c in data.cells.items()}, *_rest(data))
    losses = [
        mafr_loss(net, GridTensors(d).batch(np.arange(4), torch.device("cpu")), config).item() for d in (data, other)
    ]
    assert (losses[0] == pytest.approx(losses[1], rel=1e-5)) is masked


def _rest(data: GridData) -> tuple[np.ndarray, np.ndarray, int]:
    return data.valid, data.program, data.programs


@pytest.mark.parametrize("weight", ["weight_znssd", "weight_smooth", "weight_census"])
def test_each_weight_weighs(weight: str) -> None:
    batch = GridTensors(seams(4, 0)).batch(np.arange(4), torch.device("cpu"))
    torch.manual_seed(0)
    net = MafrNet({"geo": 8, "proc": 12}, 2, CELL).eval()
    losses = [mafr_loss(net, batch, dataclasses.replace(CELL, **{weight: w})).item() for w in (0.0, 1.0, 2.0)]
    assert losses[1] - losses[0] > 1e-3
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)


@pytest.mark.parametrize("config", [CELL, MafrConfig.preset("compat", "cpu")])
def test_a_batch_is_the_mean_of_its_halves(config: MafrConfig) -> None:
    data = seams(4, 0)
    data.valid[0, :4] = False  # seams with different numbers of measured cells
    tensors = GridTensors(data)
    torch.manual_seed(0)
    net = MafrNet(tensors.channels, 2, config).eval()
    parts = [
        mafr_loss(net, tensors.batch(rows, torch.device("cpu")), config).item()
        for rows in (np.arange(4), np.arange(2), np.arange(2, 4))
    ]
    assert parts[0] == pytest.approx((parts[1] + parts[2]) / 2, rel=1e-5)


def test_a_normalised_score_does_not_see_a_vectors_length() -> None:
    maps = []
    for normalised in (False, True):
        torch.manual_seed(0)
        method = Mafr(
            MafrNet({"geo": 8, "proc": 12}, 2, dataclasses.replace(CELL, normalised_score=normalised)).eval()
        )
        with torch.no_grad():
            x, y = _cells(1), _cells(2)
            maps.append([method._error(x, y), method._error(x, 3.0 * y)])
    assert not torch.allclose(*maps[0])
    torch.testing.assert_close(*maps[1])


@pytest.fixture(scope="module")
def fitted() -> Mafr:
    torch.set_num_threads(1)
    loop = dataclasses.replace(LOOPS["cell"], epochs=20, batch=8)
    return fit_mafr(seams(64, 1), seams(16, 2), CELL, loop, quiet)


def test_a_broken_law_is_found_and_at_its_place(fitted: Mafr) -> None:
    good, bad = seams(40, 3), seams(40, 4, bad=True)
    good_maps, bad_maps = fitted.error_maps(good), fitted.error_maps(bad)
    fused = [m["geo"] * m["proc"] for m in (good_maps, bad_maps)]
    worst = [np.sort(m.reshape(40, -1))[:, -3:].mean(1) for m in fused]
    assert roc_auc_score([0] * 40 + [1] * 40, np.concatenate(worst)) > 0.9
    assert fused[1][:, 1:4, 2:5].mean() > 2 * fused[1][:, :, 6:].mean()
    assert fitted.report is not None
    assert fitted.report.best_loss < 0.5 * fitted.report.first_loss


def test_maps_are_finite_and_0_where_nothing_was_measured(fitted: Mafr) -> None:
    data = seams(5, 6)
    data.cells["geo"][:, -1] = np.nan
    maps = fitted.error_maps(data)
    assert list(maps) == ["geo", "proc"]
    for error in maps.values():
        assert error.shape == data.valid.shape
        assert error.dtype == np.float32
        assert np.isfinite(error).all()
        assert (error[~data.valid] == 0).all()
        assert (error[data.valid] > 0).all()


def test_restored_gives_the_same_maps(fitted: Mafr) -> None:
    data = seams(7, 6)
    restored = Mafr.restore(fitted.about(), fitted.tensors())
    for name, error in fitted.error_maps(data).items():
        np.testing.assert_array_equal(restored.error_maps(data)[name], error)


def test_the_same_seed_gives_the_same_network() -> None:
    first, again, other = (
        fit_mafr(seams(16, 1), seams(8, 2), CELL, dataclasses.replace(SHORT, seed=seed), quiet) for seed in (1, 1, 2)
    )
    same = [
        all(np.array_equal(a, b[k]) for k, a in first.tensors().items()) for b in (again.tensors(), other.tensors())
    ]
    assert same == [True, False]


def test_compat_trains_one_seam_a_step_on_one_program() -> None:
    data = seams(12, 1)
    own = data.take(data.program == 1)
    loop = dataclasses.replace(LOOPS["compat"], epochs=2)
    method = fit_mafr(own, own, MafrConfig.preset("compat", "cpu"), loop, quiet)
    assert method.report is not None
    assert (loop.batch, method.report.best_epoch) == (1, 2)
    assert method.error_maps(own)["geo"].shape == own.valid.shape


def test_refusals_name_what_is_wrong(fitted: Mafr) -> None:
    data = seams(4, 0)
    with pytest.raises(ValueError, match="train has none"):
        fit_mafr(data.take(np.zeros(4, bool)), data, CELL, SHORT, quiet)
    with pytest.raises(ValueError, match="geo has only one"):
        fit_mafr(seams(4, 0, channels=(1, 4)), data, CELL, SHORT, quiet)
    with pytest.raises(ValueError, match="trained on channels"):
        fitted.error_maps(seams(4, 0, channels=(8, 9)))
    with pytest.raises(ValueError, match="of 2 programs"):
        fitted.error_maps(seams(6, 0, programs=3))
    data.cells["proc"][2, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="proc: measured cells of seam 2"):
        fitted.error_maps(data)
