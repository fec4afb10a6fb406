"""Point-MAE's encoder: an organised point cloud → features on a grid (Pang et al., arXiv 2203.06604, as CFM uses it).

Plain torch and scipy, no compiled point operations. Weights come from a local safetensors file in the published
layout.

    points   (n, 3)          valid points of the cloud (h, w, 3)
    centres  (g, 3)          farthest points, the first one the cloud's first; g = 1024
    groups   (g, k, 3)       the k = 128 nearest points of each centre, less the centre
    tokens   (g, 384)        a small PointNet over each group, maximum over its points
    levels   3 × (g, 384)    outputs of blocks 3, 7, 11 (from 0), each through the last norm → (g, 1152)
    spread   (n, 1152)       inverse squared distance over the three nearest centres
    map      (H, W, 1152)    scattered to (h, w), zero elsewhere; mean of 3×3; adaptive mean to the grid

The network saw ShapeNet's objects scaled into the unit sphere; CFM gives it metres as they are. Whoever calls scales.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.checkpoints import CheckpointError, digest, weights_file

if TYPE_CHECKING:
    import torch

__all__ = ["PointMae", "PointMaeConfig", "build_encoder", "farthest_points"]

PREFIX = "MAE_encoder."
UNUSED = ("MAE_decoder.", "mask_token", "decoder_pos_embed.", "increase_dim.")
GROUPS_AT_ONCE = 128  # the PointNet's activations of all 1024 groups at once would take half a gigabyte


@dataclass(frozen=True)
class PointMaeConfig:
    """The published sizes; only tests change the network's."""

    dim: int = 384
    depth: int = 12
    heads: int = 6
    centres: int = 1024
    group: int = 128
    levels: tuple[int, ...] = (3, 7, 11)

    @property
    def channels(self) -> int:
        """Of the map: 1152 as published."""
        return self.dim * len(self.levels)


def build_encoder(config: PointMaeConfig) -> "torch.nn.Module":
    """The encoder with the published parameter names (less `MAE_encoder.`); random weights.

    `forward(groups (g, k, 3), centres (g, 3)) -> (g, channels)`.
    """
    import torch
    from torch import nn

    def conv(c_in: int, c_out: int, then: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(c_in, c_out, 1), nn.BatchNorm1d(c_out), nn.ReLU(), nn.Conv1d(c_out, then, 1))

    class Groups(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first_conv, self.second_conv = conv(3, 128, 256), conv(512, 512, config.dim)

        def forward(self, groups: torch.Tensor) -> torch.Tensor:  # (g, k, 3) → (g, dim)
            each = self.first_conv(groups.transpose(1, 2))  # (g, 256, k)
            whole = each.amax(2, keepdim=True).expand_as(each)
            out: torch.Tensor = self.second_conv(torch.cat([whole, each], 1))
            return out.amax(2)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj = nn.Linear(config.dim, 3 * config.dim, bias=False), nn.Linear(config.dim, config.dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # (g, dim)
            q, k, v = (
                self.qkv(x).view(len(x), 3, config.heads, -1).permute(1, 2, 0, 3)[:, None]
            )  # (1, heads, g, dim/heads)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)[0]
            out: torch.Tensor = self.proj(mixed.transpose(0, 1).reshape(len(x), -1))
            return out

    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(config.dim, 4 * config.dim), nn.Linear(4 * config.dim, config.dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
            return out

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
            self.attn, self.mlp = Attention(), Mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.attn(self.norm1(x))
            out: torch.Tensor = x + self.mlp(self.norm2(x))
            return out

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(config.depth))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.blocks, self.norm = Groups(), Blocks(), nn.LayerNorm(config.dim)
            self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, config.dim))

        def forward(self, groups: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
            x = torch.cat([self.encoder(some) for some in torch.split(groups, GROUPS_AT_ONCE)])
            place = self.pos_embed(centres)
            levels = []
            for i, block in enumerate(self.blocks.blocks):
                x = block(x + place)  # the position is added before every block, not once
                if i in config.levels:
                    levels.append(self.norm(x))
            return torch.cat(levels, 1)

    return Encoder()


class PointMae:
    """Point clouds → maps, with the weights of the safetensors file `path`.

    The file has the published names (`MAE_encoder.blocks.blocks.0.attn.qkv.weight`, …); the decoder's are not used.
    Raises CheckpointError when it is a pickle, lacks a tensor, or holds one of another shape.
    """

    def __init__(self, path: Path, device: str = "cpu", config: PointMaeConfig | None = None) -> None:
        self.config, self._device = config or PointMaeConfig(), device
        self._network = _loaded(weights_file(path), self.config).to(device)
        self.weights_sha256 = digest([path])

    def __call__(
        self, cloud: NDArray[np.floating[Any]], grid: tuple[int, int], valid: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """An organised cloud `(h, w, 3)` → map `(H, W, 1152)` float32 and which cells have points `(H, W)`.

        `valid` `(h, w)` says which points there are; without it those with no coordinate of exactly zero, as
        published. Raises ValueError when fewer are valid than a group takes, or when a valid one is not finite.
        """
        if cloud.ndim != 3 or cloud.shape[2] != 3:
            raise ValueError(f"Point-MAE takes organised clouds of shape (h, w, 3), got {cloud.shape}")
        seen = (cloud != 0).all(2) if valid is None else valid
        points = np.ascontiguousarray(cloud[seen], np.float32)
        if not np.isfinite(points).all():
            raise ValueError("the cloud has valid points that are not finite; leave them out of `valid`")
        return _onto_grid(self.features(points), seen, grid)

    def features(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(n, 3)` → `(n, 1152)`: every point's features. With n < 1024 every point is a centre."""
        import torch
        from scipy.spatial import cKDTree

        if len(points) < self.config.group:
            raise ValueError(f"the cloud has {len(points)} valid points, a group takes {self.config.group}")
        centres = points[farthest_points(points, min(self.config.centres, len(points)))]
        _, near = cKDTree(points).query(centres, self.config.group)
        groups = points[near.reshape(len(centres), -1)] - centres[:, None]
        with torch.inference_mode():
            at_centres = self._network(
                torch.from_numpy(groups).to(self._device), torch.from_numpy(centres).to(self._device)
            )
        return _spread(points, centres, at_centres.cpu().numpy())


def farthest_points(points: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Indices `(n,)` of `(m, 3)` points: the first, then each time the one farthest from all chosen."""
    chosen = np.zeros(n, np.intp)
    apart = np.full(len(points), np.inf, np.float32)
    for i in range(1, n):
        apart = np.minimum(apart, ((points - points[chosen[i - 1]]) ** 2).sum(1))
        chosen[i] = apart.argmax()
    return chosen


def _loaded(path: Path, config: PointMaeConfig) -> "torch.nn.Module":
    from safetensors.torch import load_file

    stored = load_file(path)
    known = {name.removeprefix(PREFIX): t for name, t in stored.items() if not name.startswith(UNUSED)}
    network = build_encoder(config)
    wanted = network.state_dict()
    wrong = sorted(n for n in wanted.keys() | known.keys() if n not in wanted or n not in known)
    wrong += sorted(n for n in wanted.keys() & known.keys() if wanted[n].shape != known[n].shape)
    if wrong:
        raise CheckpointError(
            f"{path}: not Point-MAE's encoder, {len(wrong)} tensors are missing, unknown or of another shape: "
            f"{', '.join(wrong[:3])}"
        )
    network.load_state_dict(known, strict=True)
    return network.eval().requires_grad_(False)


def _spread(
    points: NDArray[np.float32], centres: NDArray[np.float32], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`(g, c)` features of centres → `(n, c)` of points, by the inverse squared distance of the three nearest."""
    from scipy.spatial import cKDTree

    distance, near = cKDTree(centres).query(points, min(3, len(centres)))
    distance, near = distance.reshape(len(points), -1), near.reshape(len(points), -1)
    weight = 1.0 / (distance**2 + 1e-8)
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    out = np.zeros((len(points), features.shape[1]), np.float32)
    for k in range(near.shape[1]):  # one neighbour at a time: all three together would triple 200 MB
        out += weight[:, k, None] * features[near[:, k]]
    return out


def _onto_grid(
    features: NDArray[np.float32], seen: NDArray[np.bool_], grid: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features `(n, c)` of the points of `seen` `(h, w)` → `(H, W, c)` and the cells that a point reached `(H, W)`.

    The mean of 3×3 takes no margin, so that its map is two rows and columns smaller, as published.
    """
    import torch
    from torch.nn import functional

    def pooled(flat: NDArray[np.float32]) -> NDArray[np.float32]:
        picture = torch.zeros(*seen.shape, flat.shape[1])
        picture[torch.from_numpy(seen)] = torch.from_numpy(flat)
        smooth = functional.avg_pool2d(picture.permute(2, 0, 1)[None], 3, 1)
        return np.asarray(functional.adaptive_avg_pool2d(smooth, grid)[0].permute(1, 2, 0).numpy())

    return pooled(features), pooled(np.ones((len(features), 1), np.float32))[..., 0] > 0
