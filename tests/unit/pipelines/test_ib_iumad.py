"""IB-IUMAD on goods of a known law: what it finds, what each flag changes, and what an increment keeps."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.forgetting_guard import GUARDS, ForgettingGuard, keep_factors, outputs_recorded
from pipelines.grids import GridData
from pipelines.ib_iumad import (
    IbIumad,
    IbIumadConfig,
    add_programs,
    bottleneck_loss,
    fit_ib_iumad,
    parameter_counts,
    pool,
)
from pipelines.ib_net import IbNet, IbOut, feed_forward_ends
from pipelines.ib_scan import Es2d
from pipelines.incremental import seam_figures
from pipelines.loop import LoopConfig
from pipelines.metrics import auroc
from pipelines.selective_scan import scan_ref

H, W, C = 5, 8, 6
TINY: dict[str, Any] = {
    "d": 32, "feed_forward": 64, "levels": 2, "heads": 4, "bottleneck": 16, "d_state": 4,
    "max_tokens": 12, "jitter": 5.0,
}  # fmt: skip


def quiet(stage: str, done: int, total: int, loss: float) -> None:
    """Says nothing."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def goods(seed: int, n: int, programs: tuple[int, ...] = (0, 1), total: int = 2, broken: bool = False) -> GridData:
    """b = f(a) + noise with a of the program's own plane; `broken`: b follows another law."""
    law, rng = np.random.default_rng(0), np.random.default_rng(seed)
    planes, f, other = law.standard_normal((4, 2, C)), *(law.standard_normal((2, C, C)) / C**0.5)
    program = np.resize(np.array(programs, np.int64), n)

    hidden = rng.standard_normal((n, 2))
    a = np.broadcast_to(np.einsum("nk,nkc->nc", hidden, planes[program])[:, None, None], (n, H, W, C))
    b = 1.5 * np.tanh(a @ (other if broken else f))
    cells = {name: x + 0.1 * rng.standard_normal(x.shape) for name, x in (("geo", b), ("proc", a))}
    valid = np.ones((n, H, W), np.bool_)
    valid[:, 0, 0] = False
    return GridData({name: x.astype(np.float32) for name, x in cells.items()}, valid, program, total)


def fitted(epochs: int = 1, **changes: Any) -> IbIumad:
    config = IbIumadConfig.preset(**{**TINY, **changes})
    return fit_ib_iumad(goods(1, 16), goods(2, 8), config, LoopConfig(epochs=epochs, batch=8, lr=3e-3), quiet)


def forward(net: IbNet, data: GridData, train: bool = False) -> IbOut:
    torch.manual_seed(0)
    tokens = pool(data, TINY["max_tokens"])
    out: IbOut = net.train(train)(tokens.maps, tokens.seen)
    net.eval()
    return out


@pytest.fixture(scope="module")
def small() -> IbIumad:
    torch.set_num_threads(1)
    return fitted()


def test_a_broken_law_is_found() -> None:
    config = IbIumadConfig.preset(
        **{**TINY, "levels": 1, "max_tokens": 6, "bottleneck": 4, "jitter": 1.0, "dropout": 0.0}
    )
    held, good, bad = goods(2, 32), goods(3, 40), goods(4, 40, broken=True)
    model = fit_ib_iumad(goods(1, 192), held, config, LoopConfig(epochs=30, batch=32, lr=3e-3), quiet)
    of_held = model.error_maps(held)
    score = np.concatenate([seam_figures(of_held, held, model.error_maps(x), x) for x in (good, bad)])
    found = auroc([False] * 40 + [True] * 40, score.tolist(), ["s"] * 80)
    assert found.value is not None
    assert found.value > 0.9
    assert model.report is not None
    assert model.report.best_loss < 0.6 * model.report.first_loss


def test_error_maps_are_finite_nothing_where_invalid_and_survive_the_file(small: IbIumad) -> None:
    data = goods(5, 3)
    data.valid[0] = False
    data.valid[1, :, 4:] = False
    data.cells["geo"][1, :, 4:] = np.nan
    maps = small.error_maps(data)
    again = IbIumad.restore(small.about(), small.tensors()).error_maps(data)
    assert list(maps) == ["geo", "proc"]
    for name, found in maps.items():
        assert found.shape == (3, H, W)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert (found[~data.valid] == 0).all()
        assert (found[data.valid] > 0).all()
        np.testing.assert_array_equal(found, again[name])


def test_the_same_seed_gives_the_same_model(small: IbIumad) -> None:
    for name, value in fitted().tensors().items():
        np.testing.assert_array_equal(value, small.tensors()[name])


def test_other_data_than_the_models_is_refused(small: IbIumad) -> None:
    data = goods(1, 2)
    with pytest.raises(ValueError, match="channels"):
        small.error_maps(dataclasses.replace(data, cells={"rgb": data.cells["geo"], "proc": data.cells["proc"]}))
    taller = {name: np.concatenate([cells, cells], 1) for name, cells in data.cells.items()}
    with pytest.raises(ValueError, match="tokens"):
        small.error_maps(dataclasses.replace(data, cells=taller, valid=np.concatenate([data.valid] * 2, 1)))
    one = dataclasses.replace(data, cells={"geo": data.cells["geo"]})
    with pytest.raises(ValueError, match="pair"):
        fit_ib_iumad(one, one, IbIumadConfig.preset(**TINY), LoopConfig(epochs=1), quiet)


@pytest.mark.parametrize("grid", [(4, 6), (5, 7)])
def test_es2d_scans_each_interleaved_grid_in_its_own_direction(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net, x = Es2d(8, 4), torch.randn(2, *grid, 8)
    y, by_hand = net(x), torch.full_like(x, torch.nan)
    rows, columns = range(grid[0]), range(grid[1])
    paths = [
        [(r, c) for r in rows[0::2] for c in columns[0::2]],
        [(r, c) for c in columns[0::2] for r in rows[1::2]],
        [(r, c) for r in rows[0::2] for c in columns[1::2]][::-1],
        [(r, c) for c in columns[1::2] for r in rows[1::2]][::-1],
    ]
    for k, path in enumerate(paths):
        steps = torch.stack([x[:, r, c] for r, c in path], 1)
        low, b, c_ = (steps @ net.x_proj[k].T).split([net.rank, 4, 4], -1)
        dt = torch.nn.functional.softplus(low @ net.dt_weight[k].T + net.dt_bias[k])
        out, _ = scan_ref(steps, dt, -net.A_log[k].exp(), b, c_, net.D[k], torch.zeros(2, 8, 4))
        for i, (r, c) in enumerate(path):
            by_hand[:, r, c] = out[:, i]
    torch.testing.assert_close(y, by_hand, atol=1e-5, rtol=1e-5)


def test_published_sizes_give_their_parameter_counts() -> None:
    from pipelines.ib_iumad import _net_config

    config = _net_config(IbIumadConfig.preset("compat", "gpu"), {"rgb": 272, "geo": 272}, (14, 14), 10)
    counts = parameter_counts(IbNet(config))
    d, wide, tokens = 256, 1024, 196
    attention, feed_forward = 4 * (d * d + d), d * wide + wide + wide * d + d
    encoder = attention + feed_forward + 2 * 2 * d
    decoder = 2 * attention + feed_forward + 3 * 2 * d + tokens * d
    mrn = 272 * d + d + 28 * d // 2 + 4 * (encoder + decoder)
    assert counts["mrn"] == 2 * mrn
    assert counts["head"] == d * 10 + 10
    assert counts["out"] == d * 272 + 272  # the first modality's map only
    assert counts["total"] == sum(n for name, n in counts.items() if name != "total")


def test_modules_that_are_off_do_not_exist_and_naive_fusion_is_left() -> None:
    model = fitted(mamba=False, ibfm=False)
    counts = parameter_counts(model.net)
    out = forward(model.net, goods(5, 2))
    assert counts["mamba"] == 0
    assert "ibfm" not in counts
    assert out.told == []
    assert out.fused is None


@pytest.mark.parametrize(
    ("fusion", "extra"), [("add", 0), ("concat", 2 * 32 * 32 + 32), ("cross", 4 * (32 * 32 + 32))]
)
def test_the_fusion_flag_chooses_the_fusion(fusion: str, extra: int) -> None:
    model = fitted(fusion=fusion)
    bottleneck = 32 * 16 + 16 + 16 * 32 + 32
    assert parameter_counts(model.net)["ibfm"] == bottleneck + extra


def test_presets_differ_as_they_say() -> None:
    assert list(fitted(**{"targets": "first"}).error_maps(goods(5, 2))) == ["geo"]
    compat, cell = IbIumadConfig.preset("compat"), IbIumadConfig.preset("cell")
    differ = {f.name for f in dataclasses.fields(compat) if getattr(compat, f.name) != getattr(cell, f.name)}
    assert differ == {"targets", "cross_residual", "head_ce"}


def test_the_residual_of_the_cross_attention_is_a_flag(small: IbIumad) -> None:
    assert small.net.ibfm is not None
    stream, seen = torch.randn(2, 12, 32), torch.ones(2, 12, dtype=torch.bool)
    with_it = small.net.ibfm(stream, stream, seen)[0]
    small.net.ibfm.cross_residual = False
    without = small.net.ibfm(stream, stream, seen)[0]
    small.net.ibfm.cross_residual = True
    torch.testing.assert_close(with_it - without, stream)


def test_a_detached_condition_leaves_the_mamba_decoders_to_the_label(small: IbIumad) -> None:
    for detached in (True, False):
        net = small.net
        net.zero_grad()
        net.config = dataclasses.replace(net.config, condition_detached=detached)
        forward(net, goods(5, 4)).maps["geo"].square().sum().backward()
        grads = [p.grad for p in net.mamba.parameters() if p.grad is not None]
        assert any(g.abs().sum() > 0 for g in grads) is not detached
    small.net.config = dataclasses.replace(small.net.config, condition_detached=True)
    small.net.zero_grad()


def test_jitter_is_noise_in_training_only(small: IbIumad) -> None:
    cells = torch.randn(2, 3, 4, C)
    assert small.net._jittered(cells) is cells
    small.net.train()
    noise = torch.stack([small.net._jittered(cells) - cells for _ in range(400)])
    small.net.eval()
    expected = (cells.norm(dim=-1, keepdim=True) * TINY["jitter"] / C).expand_as(cells)
    torch.testing.assert_close(noise.std(0), expected, rtol=0.25, atol=0.0)


def test_the_bottleneck_loss_stops_gradients_where_it_says() -> None:
    for both in (False, True):
        fused, squeezed = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
        loss = bottleneck_loss(fused, squeezed, both)
        p, q = fused.softmax(-1), squeezed.softmax(-1)
        torch.testing.assert_close(loss, (p * (p / q).log()).sum(-1).mean())
        loss.backward()
        assert squeezed.grad is not None
        assert (fused.grad is not None) is both


@pytest.mark.parametrize("changes", [{"head_ce": False}, {"both_sides": True}, {"svd_tail": 10.0}])
def test_a_flag_of_the_loss_changes_the_training(small: IbIumad, changes: dict[str, Any]) -> None:
    other = fitted(**changes)
    assert any((value != small.tensors()[name]).any() for name, value in other.tensors().items())


def grown(model: IbIumad, guard: str, **more: Any) -> IbIumad:
    config = dataclasses.replace(model.config, forgetting_guard=guard)
    loop = LoopConfig(epochs=3, batch=8, lr=3e-3, patience=0)
    return add_programs(model, goods(6, 16, (2,), 3), goods(7, 8, (2,), 3), config, loop, quiet, **more)


def test_an_increment_grows_the_heads_and_leaves_the_old_model(small: IbIumad) -> None:
    before = small.tensors()
    new = grown(small, "none")
    assert (small.programs, new.programs) == (2, 3)
    assert len(new.net.mamba["geo"].classifier.weight) == 3
    for name, value in small.tensors().items():
        np.testing.assert_array_equal(value, before[name])
    assert IbIumad.restore(new.about(), new.tensors()).programs == 3


def test_guards_keep_what_they_promise(small: IbIumad) -> None:
    """Along the most used direction nothing moves; a pull moves less than no pull; none moves everything."""
    moved, along = {}, {}
    for guard in GUARDS:
        new = grown(small, guard)
        name = next(iter(feed_forward_ends(small.net)))
        old, now = feed_forward_ends(small.net)[name], feed_forward_ends(new.net)[name]
        top = torch.linalg.eigh(small.outputs[name])[1][:, -1]
        change = now.weight.detach() - old.weight.detach()
        moved[guard], along[guard] = float(change.norm()), float((top @ change).norm())
    assert along["svd_project"] < 1e-4 * along["none"]
    assert along["svd_project+ema_pull"] < 1e-4 * along["none"]
    assert moved["svd_project"] > 0.1 * moved["none"]
    assert moved["ema_pull"] < 0.98 * moved["none"]
    assert moved["svd_project+ema_pull"] < moved["svd_project"]


def test_the_guard_corrects_a_step_once() -> None:
    layer = torch.nn.Linear(3, 2)
    old = layer.weight.detach().clone()
    gram = torch.diag(torch.tensor([9.0, 1.0]))
    guard = ForgettingGuard("svd_project+ema_pull", layer, {"": layer}, {"": gram})
    guard.before_step()
    with torch.no_grad():
        layer.weight += 1.0
    for _ in range(2):
        guard.settle()
    expected = old + torch.tensor([[0.0], [0.95]])  # the used row stays, the free one is pulled by 5 %
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert keep_factors(256)[[0, 255]].tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="not one of"):
        ForgettingGuard("pray", layer, {}, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kept no outputs"):
        ForgettingGuard("svd_project", layer, {"": layer}, {})


def test_outputs_are_recorded_as_their_gram_and_added_by_increments(small: IbIumad) -> None:
    layer, x = torch.nn.Linear(3, 2), torch.randn(5, 4, 3)
    with outputs_recorded({"a": layer}) as found:
        y = layer(x).detach().flatten(0, 1)
    layer(x)
    torch.testing.assert_close(found["a"], y.T @ y)
    new = grown(small, "svd_project")
    for name, gram in new.outputs.items():
        assert gram.trace() > small.outputs[name].trace()


def test_replay_trains_on_kept_goods_too(small: IbIumad) -> None:
    kept = dataclasses.replace(goods(1, 8), programs=3)
    replayed, alone = grown(small, "none", replay=kept), grown(small, "none")
    rows = goods(8, 16)
    loss = [float(np.mean(m.error_maps(rows)["geo"] ** 2)) for m in (replayed, alone)]
    assert loss[0] < loss[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: dataclasses.replace(c, d=64), "d differ"),
        (lambda c: dataclasses.replace(c, forgetting_guard="pray"), "not one of"),
    ],
)
def test_an_increment_with_another_config_is_refused(
    small: IbIumad, change: Callable[[IbIumadConfig], IbIumadConfig], match: str
) -> None:
    new = goods(6, 4, (2,), 3)
    with pytest.raises(ValueError, match=match):
        add_programs(small, new, new, change(small.config), LoopConfig(epochs=1), quiet)


def test_an_increment_with_an_old_programs_goods_is_refused(small: IbIumad) -> None:
    with pytest.raises(ValueError, match="count from 2 to 2"):
        add_programs(small, goods(6, 4, (1,), 3), goods(6, 4, (1,), 3), small.config, LoopConfig(epochs=1), quiet)
