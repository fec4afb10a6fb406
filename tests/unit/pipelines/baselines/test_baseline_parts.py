"""The parts that give each baseline its character, each alone."""

import numpy as np
import pytest
import torch

from pipelines.baselines.cells import neighbourhood
from pipelines.baselines.dinomaly import DinomalyConfig, DinomalyNet, linear_attention
from pipelines.baselines.efficientad import EfficientAdConfig, EfficientAdNet
from pipelines.baselines.memae import MemAeConfig, MemAeNet, addresses
from pipelines.baselines.patchcore import PatchCoreConfig, fit_patchcore
from pipelines.baselines.simplenet import SimpleNetConfig, SimpleNetNet, fit_simplenet
from pipelines.loop import LoopConfig
from tests.unit.pipelines.baselines import law

SHAPE = (*law.SHAPE, 12)


def _cells(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    data = law.grids(n, 1)
    return torch.from_numpy(data.cells["rgb"]), torch.from_numpy(data.valid)


def test_linear_attention_on_one_token_is_the_value() -> None:
    """A sequence of length 1 makes it a plain linear layer, whatever is asked."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 1, 8) * 3
    torch.testing.assert_close(linear_attention(q, k, v, torch.ones(2, 1, dtype=torch.bool)), v)


def test_linear_attention_is_the_written_sum() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 5, 4)
    known = torch.tensor([[True, True, False, True, True]])
    phi = lambda x: torch.where(x > 0, x + 1, x.exp())  # noqa: E731
    weight = phi(q[0, 0]) @ phi(k[0, 0]).T * known
    wanted = weight @ v[0, 0] / weight.sum(1, keepdim=True)
    torch.testing.assert_close(linear_attention(q, k, v, known)[0, 0], wanted)


def _dinomaly(**kwargs: float) -> DinomalyNet:
    torch.manual_seed(0)
    return DinomalyNet(DinomalyConfig(width=16, blocks=2, heads=2, split=(4,), **kwargs), SHAPE)  # type: ignore[arg-type]


def test_easy_cells_pull_a_tenth() -> None:
    """Gradients at the decoder's end: those of the easiest share are the plain loss's times the factor."""
    cells, valid = _cells()
    gradients = []
    for share in (0.0, 0.5):
        net = _dinomaly(easy_share=share, easy_ramp=1, dropout=0.0)
        net.step += 5
        seen = []
        net.heads[1].register_full_backward_hook(lambda _m, _i, out, seen=seen: seen.append(out[0]))
        net(cells, valid).backward()
        gradients.append(seen[0].flatten(0, 1))
    plain, loose = gradients
    ratio = (loose.norm(dim=1) / plain.norm(dim=1).clamp_min(1e-12))[valid.flatten()]
    assert set(np.round(ratio.numpy(), 3)) == {np.float32(0.1), np.float32(1.0)}
    assert float((ratio < 0.5).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_the_easy_share_grows_with_training_only() -> None:
    net = _dinomaly(easy_ramp=100)
    cells, valid = _cells()
    net.train()
    net(cells, valid)
    net.eval()
    net(cells, valid)
    assert int(net.step) == 1


def test_dropout_is_the_noise() -> None:
    cells, valid = _cells()
    net = _dinomaly().train().requires_grad_(False)
    assert float(net(cells, valid)) != float(net(cells, valid))
    net.eval()
    assert float(net(cells, valid)) == float(net(cells, valid))


def test_an_anchor_makes_typical_cells_comparable() -> None:
    """Cells near 0 with a small error: their cosine is noise without a constant beside the channels."""
    cells, valid = _cells()
    with torch.no_grad():
        tiny = {a: float(_dinomaly(anchor=a).eval().error(cells * 1e-3, valid).mean()) for a in (0.0, 1.0)}
    assert tiny[1.0] < 0.5 * tiny[0.0]


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="12 channels"):
        DinomalyNet(DinomalyConfig(split=(40,)), SHAPE)
    with pytest.raises(ValueError, match="1 blocks cannot decode 2 groups"):
        DinomalyNet(DinomalyConfig(blocks=1, split=(4,)), SHAPE)


def test_the_published_size_of_dinomalys_bottleneck() -> None:
    with torch.device("meta"):  # counts only
        net = DinomalyNet(DinomalyConfig.preset("compat", "gpu"), (14, 28, 155))
    assert sum(p.numel() for p in net.bottleneck.parameters()) == 768 * 3072 + 3072 + 3072 * 768 + 768
    assert len(net.blocks) == 8


def test_shrinkage_cuts_small_addresses() -> None:
    w = addresses(torch.tensor([[3.0, 0.0, 0.0, -1.0]]), shrink=1.0)
    assert w.count_nonzero() == 1
    assert float(w.sum()) == pytest.approx(1.0)
    assert addresses(torch.tensor([[3.0, 0.0, 0.0, -1.0]]), shrink=0.0).count_nonzero() == 4


def test_a_memory_answers_with_what_it_holds() -> None:
    torch.manual_seed(0)
    cells, _ = _cells()
    net = MemAeNet(MemAeConfig(hidden=8, code=4, memories=1), SHAPE).requires_grad_(False)
    rebuilt, _ = net.read(cells)
    assert float(rebuilt.std(dim=(0, 1, 2)).max()) < 1e-5  # one memory: the same for every cell


def test_the_entropys_weight_is_in_the_loss() -> None:
    cells, valid = _cells()
    losses = []
    for entropy in (0.0, 1.0):
        torch.manual_seed(0)
        losses.append(MemAeNet(MemAeConfig(entropy=entropy), SHAPE)(cells, valid).item())
    assert losses[1] > losses[0] + 0.5


def test_more_noise_is_easier_to_tell() -> None:
    loss = {}
    for sigma in (0.015, 1.0):
        config = SimpleNetConfig(hidden=32, sigma=sigma)
        loop = LoopConfig(epochs=6, batch=10, lr=5e-3)
        report = fit_simplenet(law.grids(40, 1), law.grids(10, 2), config, loop, law.quiet).report
        assert report is not None
        loss[sigma] = report.best_loss
    assert loss[0.015] > 0.95  # nothing can be told: the margin is lost on one side or the other
    assert loss[1.0] < 0.7


def test_simplenets_held_out_loss_is_the_same_twice() -> None:
    torch.manual_seed(0)
    cells, valid = _cells()
    net = SimpleNetNet(SimpleNetConfig(), SHAPE).eval().requires_grad_(False)
    assert float(net(cells, valid)) == float(net(cells, valid))
    net.train()
    assert float(net(cells, valid)) != float(net(cells, valid))


def test_the_student_sees_the_lower_level_only() -> None:
    torch.manual_seed(0)
    net = EfficientAdNet(EfficientAdConfig(lower=4, hidden=8, code=2), SHAPE)
    cells, _ = _cells()
    followed, _, mimicked = net.differences(cells)
    changed = cells.clone()
    changed[..., 4:] += 1.0
    again, _, mimicked_again = net.differences(changed)
    assert not torch.equal(followed, again)
    assert torch.equal(mimicked, mimicked_again)
    with pytest.raises(ValueError, match="12 of 12 channels"):
        EfficientAdNet(EfficientAdConfig(lower=12), SHAPE)


def test_quantiles_of_held_out_goods_scale_both_maps_alike() -> None:
    torch.manual_seed(0)
    cells, valid = _cells(20)
    net = EfficientAdNet(EfficientAdConfig(lower=4, hidden=8, code=2), SHAPE).eval()
    with torch.no_grad():
        net.calibrate(cells, valid)
        for i, found in enumerate(net._maps(cells)):
            low, high = np.quantile(found[valid].numpy() * float(net.scale[i]), (0.9, 0.995))
            assert high - low == pytest.approx(0.1, rel=1e-3)


def test_hard_features_alone_teach_the_student() -> None:
    torch.manual_seed(0)
    cells, valid = _cells()
    losses = []
    for hard in (0.0, 0.99):
        torch.manual_seed(0)
        losses.append(EfficientAdNet(EfficientAdConfig(lower=4, hard=hard), SHAPE)(cells, valid).item())
    assert losses[1] > 2 * losses[0]


def test_a_neighbourhood_leaves_out_what_is_not_valid() -> None:
    cells = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    valid = np.ones((1, 3, 4), np.bool_)
    valid[0, 0, 0] = False
    found = neighbourhood(cells, valid, 3)[0, ..., 0]
    assert found[1, 1] == pytest.approx(np.mean([1, 2, 4, 5, 6, 8, 9, 10]))
    assert found[2, 3] == pytest.approx(np.mean([6, 7, 10, 11]))
    with pytest.raises(ValueError, match="odd side, not 4"):
        neighbourhood(cells, valid, 4)


def test_reweighting_raises_what_lies_by_a_rare_member() -> None:
    train = law.grids(30, 1)
    train.cells["rgb"][:] = 0.1 * np.random.default_rng(0).standard_normal(train.cells["rgb"].shape)
    train.cells["rgb"][0, 2, 4] = 3.0  # a good cell that happened once
    data = law.grids(2, 2)
    data.cells["rgb"][:] = 0.0
    data.cells["rgb"][0, 2, 4] = 3.5
    data.cells["rgb"][1, 2, 4] = -0.5
    maps = {}
    for reweight in (0, 9):
        config = PatchCoreConfig(share=0.3, patch=1, reweight=reweight, per_program=False)
        method = fit_patchcore(train, train, config, LoopConfig(), law.quiet)
        maps[reweight] = method.error_maps(data)["rgb"]
    weight = maps[9][:, 2, 4] / maps[0][:, 2, 4]
    assert weight[0] > 0.99
    assert 0.8 < weight[1] < 0.95
