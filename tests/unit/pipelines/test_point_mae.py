"""Point-MAE's encoder: sizes, against torch's own transformer and plain distances, and its loader."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipelines.features.checkpoints import CheckpointError
from pipelines.features.point_mae import PointMae, PointMaeConfig, build_encoder, farthest_points
from pipelines.features.table import Place, load

SMALL = PointMaeConfig(dim=24, depth=4, heads=3, centres=40, group=16, levels=(1, 2, 3))


def _published(config: PointMaeConfig) -> dict[str, torch.Tensor]:
    """A random checkpoint in the published layout, decoder and all, with batch norms that have seen something."""
    torch.manual_seed(0)
    encoder = build_encoder(config)
    for name, tensor in encoder.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_()
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
    state = {f"MAE_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    state["mask_token"] = torch.zeros(1, 1, config.dim)
    state["decoder_pos_embed.0.weight"] = torch.zeros(128, 3)
    state["MAE_decoder.norm.weight"] = torch.ones(config.dim)
    state["increase_dim.0.bias"] = torch.zeros(96)
    return state


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "point_mae.safetensors"
    save_file(_published(SMALL), path)
    return path


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    """A bead on a plate, `(30, 40, 3)` in mm, no coordinate zero."""
    y, x = np.mgrid[1:31, 1:41].astype(np.float32)
    height = 1 + 2 * np.exp(-((y - 15) ** 2) / 20) + np.random.default_rng(0).normal(0, 0.02, x.shape)
    return np.stack([x, y, height], 2).astype(np.float32) / 10


def test_published_size_and_names() -> None:
    with torch.device("meta"):
        encoder = build_encoder(PointMaeConfig())
    # PointNet 494 464, positions 50 048, twelve blocks of 1 773 312, norm 768
    assert sum(p.numel() for p in encoder.parameters()) == 494_464 + 50_048 + 12 * 1_773_312 + 768 == 21_825_024
    assert PointMaeConfig().channels == 1152
    names = set(encoder.state_dict())
    assert {
        "encoder.first_conv.0.weight",
        "encoder.first_conv.1.running_var",
        "encoder.second_conv.3.bias",
        "pos_embed.2.weight",
        "blocks.blocks.11.attn.qkv.weight",
        "blocks.blocks.0.mlp.fc1.bias",
        "norm.weight",
    } <= names
    assert "blocks.blocks.0.attn.qkv.bias" not in names


def _reference(config: PointMaeConfig, points: np.ndarray) -> np.ndarray:
    """Features of every point `(n, channels)`, slowly, through torch's own transformer layers."""
    state = {k.removeprefix("MAE_encoder."): v for k, v in _published(config).items()}
    xyz = torch.from_numpy(points)
    chosen = [0]
    while len(chosen) < config.centres:
        chosen.append(int(torch.cdist(xyz, xyz[chosen]).min(1).values.argmax()))
    centres = xyz[chosen]
    groups = xyz[torch.cdist(centres, xyz).topk(config.group, largest=False).indices] - centres[:, None]

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:  # one point a row
        y = x @ state[f"{name}.0.weight"][..., 0].T + state[f"{name}.0.bias"]
        y = (y - state[f"{name}.1.running_mean"]) / (state[f"{name}.1.running_var"] + 1e-5).sqrt()
        y = (y * state[f"{name}.1.weight"] + state[f"{name}.1.bias"]).relu()
        return y @ state[f"{name}.3.weight"][..., 0].T + state[f"{name}.3.bias"]

    each = conv(groups, "encoder.first_conv")
    whole = each.max(1, keepdim=True).values.expand_as(each)
    x = conv(torch.cat([whole, each], 2), "encoder.second_conv").max(1).values
    place = centres @ state["pos_embed.0.weight"].T + state["pos_embed.0.bias"]
    place = nn.functional.gelu(place) @ state["pos_embed.2.weight"].T + state["pos_embed.2.bias"]
    levels = []
    for i in range(config.depth):
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, 4 * config.dim, 0.0, "gelu", batch_first=True, norm_first=True
        )
        own = {
            k.removeprefix(f"blocks.blocks.{i}."): v for k, v in state.items() if k.startswith(f"blocks.blocks.{i}.")
        }
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": own["attn.qkv.weight"],
                "self_attn.in_proj_bias": torch.zeros(3 * config.dim),
                "self_attn.out_proj.weight": own["attn.proj.weight"],
                "self_attn.out_proj.bias": own["attn.proj.bias"],
                "linear1.weight": own["mlp.fc1.weight"],
                "linear1.bias": own["mlp.fc1.bias"],
                "linear2.weight": own["mlp.fc2.weight"],
                "linear2.bias": own["mlp.fc2.bias"],
                **{f"norm{k}.{what}": own[f"norm{k}.{what}"] for k in (1, 2) for what in ("weight", "bias")},
            }
        )
        x = layer.eval()((x + place)[None])[0]
        if i in config.levels:
            levels.append(nn.functional.layer_norm(x, (config.dim,), state["norm.weight"], state["norm.bias"]))
    found = torch.cat(levels, 1)
    apart, near = torch.cdist(xyz, centres).topk(3, largest=False)
    weight = 1 / (apart**2 + 1e-8)
    spread = (found[near] * (weight / weight.sum(1, keepdim=True))[..., None]).sum(1)
    return spread.detach().numpy()


def test_features_against_torchs_own_layers(path: Path) -> None:
    points = np.random.default_rng(3).normal(size=(300, 3)).astype(np.float32)  # no two distances are equal
    found = PointMae(path, config=SMALL).features(points)
    assert found.shape == (300, 72)
    np.testing.assert_allclose(found, _reference(SMALL, points), atol=2e-4)


def test_farthest_points_spread() -> None:
    line = np.stack([np.arange(9.0), np.zeros(9), np.zeros(9)], 1).astype(np.float32)
    assert farthest_points(line, 4).tolist() == [0, 8, 4, 2]


def test_a_cloud_becomes_a_map(path: Path, cloud: np.ndarray) -> None:
    network = PointMae(path, config=SMALL)
    found, valid = network(cloud, (7, 10))
    assert found.shape == (7, 10, 72)
    assert valid.shape == (7, 10)
    assert found.dtype == np.float32
    assert valid.all()
    # Features of the points, averaged by hand: 3×3 of (30, 40) is (28, 38), whose first cell is 4 × 4.
    flat = network.features(cloud.reshape(-1, 3)).reshape(30, 40, 72)
    smooth = np.lib.stride_tricks.sliding_window_view(flat, (3, 3), (0, 1)).mean((3, 4))
    np.testing.assert_allclose(found[0, 0], smooth[:4, :4].mean((0, 1)), atol=1e-4)


def test_cells_without_points_are_zero_and_not_valid(path: Path, cloud: np.ndarray) -> None:
    network = PointMae(path, config=SMALL)
    holes = cloud.copy()
    holes[:15] = 0
    found, valid = network(holes, (6, 8))
    assert not valid[:2].any()
    assert valid[4:].all()
    assert (found[~valid] == 0).all()
    assert np.abs(found[valid]).max(1).min() > 0
    seen = np.ones(cloud.shape[:2], bool)
    seen[:15] = False
    holes[:15] = np.nan  # what a sensor gives: `valid` says which points there are
    again, told = network(holes, (6, 8), seen)
    np.testing.assert_array_equal(again, found)
    np.testing.assert_array_equal(told, valid)


def test_bad_clouds_are_refused(path: Path, cloud: np.ndarray) -> None:
    network = PointMae(path, config=SMALL)
    with pytest.raises(ValueError, match="0 valid points, a group takes 16"):
        network(np.zeros((30, 40, 3)), (6, 8))
    broken = cloud.copy()
    broken[3, 4, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        network(broken, (6, 8))
    with pytest.raises(ValueError, match=r"\(30, 40\)"):
        network(cloud[..., 0], (6, 8))


def test_fewer_points_than_centres(path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert PointMae(path, config=SMALL).features(points).shape == (20, 72)


def test_wrong_weights_are_refused(tmp_path: Path, path: Path) -> None:
    state = _published(SMALL)
    other = tmp_path / "other.safetensors"
    save_file({k: v for k, v in state.items() if k != "MAE_encoder.norm.bias"}, other)
    with pytest.raises(CheckpointError, match=r"1 tensors are missing.*norm\.bias"):
        PointMae(other, config=SMALL)
    save_file({**state, "MAE_encoder.blocks.blocks.4.norm1.bias": torch.zeros(24)}, other)
    with pytest.raises(CheckpointError, match=r"blocks\.4\.norm1\.bias"):
        PointMae(other, config=SMALL)
    with pytest.raises(CheckpointError, match="of another shape"):
        PointMae(path)
    torch.save(state, tmp_path / "pretrain.pth")
    with pytest.raises(CheckpointError, match="is a pickle"):
        PointMae(tmp_path / "pretrain.pth", config=SMALL)


def test_the_published_size_through_the_table(tmp_path: Path, cloud: np.ndarray) -> None:
    (tmp_path / "point_mae").mkdir()
    save_file(_published(PointMaeConfig()), tmp_path / "point_mae" / "point_mae.safetensors")
    loaded = load("point_mae", Place(tmp_path, tmp_path))
    found, valid = loaded.run(cloud[::2, ::2], (4, 5))
    assert found.shape == (4, 5, 1152)
    assert valid.all()
    assert len(loaded.weights_sha256) == 64
