"""MAFR's three losses between observed and restored cells.

Glossary (arXiv 2510.21793 and its published code)::

    x, y     X, X̂: observed and restored cells of one modality, (B, H, W, C)
    u        U = X̂ − X
    weight   1 for cells that count, 0 for others, (B, H, W)

Each gives one figure per seam, (B,): the mean over the cells that count. So a batch's loss is the mean over its
seams, and does not depend on how a batch is divided among processes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["avgpool_l1", "smoothness", "soft_census", "znssd"]

EPS = 1e-8


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean per seam of `(B, …)` over what counts; 0 where nothing does."""
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1.0)


def _standardised(x: Tensor) -> Tensor:
    off = x - x.mean(-1, keepdim=True)
    return off / torch.sqrt(off.square().mean(-1, keepdim=True) + EPS**2)


def znssd(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Zero-normalised squared difference: each cell's vector standardised over its channels, then compared."""
    return _mean((_standardised(x) - _standardised(y)).square().mean(-1), weight)


def smoothness(x: Tensor, y: Tensor, weight: Tensor, channels: int) -> Tensor:
    """How much U changes from cell to cell, less where X itself does: |∂U|·e^(−|∂I|), I the channel mean of X.

    channels: the published code takes the first 2 only and adds them; 0: all, their mean counted twice, so that the
    weight of the loss stays what it was.
    """
    u = y - x
    u = u[..., :channels] if channels else u
    guide = x.mean(-1)
    along = _slope(u, guide, weight, 2)
    return 2.0 * (along + _slope(u, guide, weight, 1))


def _slope(u: Tensor, guide: Tensor, weight: Tensor, axis: int) -> Tensor:
    change = u.diff(dim=axis).abs().mean(-1)  # (B, H, W − 1) or (B, H − 1, W)
    size = weight.shape[axis] - 1
    both = weight.narrow(axis, 1, size) * weight.narrow(axis, 0, size)
    return _mean(change * torch.exp(-guide.diff(dim=axis).abs()), both)


def avgpool_l1(x: Tensor, y: Tensor, weight: Tensor, window: int, masked: bool) -> Tensor:
    """The published "census" loss, which is none: |mean of U over a window of cells|.

    masked: places off the grid and cells that do not count have no part in a mean; else they count as 0, as
        published.
    """
    u = (y - x) * weight[..., None]
    mean = F.avg_pool2d(u.permute(0, 3, 1, 2), window, 1, window // 2)  # (B, C, H, W)
    if masked:
        share = F.avg_pool2d(weight[:, None], window, 1, window // 2)
        mean = mean / share.clamp(min=EPS)
    return _mean(mean.abs().mean(1), weight)


def soft_census(x: Tensor, y: Tensor, weight: Tensor, window: int) -> Tensor:
    """A census transform with a gradient: is the neighbour larger than the cell, σ(neighbour − cell), in X and in X̂?

    After Zabih & Woodfill (1994), per channel. Each pair of cells of a window is compared once, as σ(−a) = 1 − σ(a).
    """
    reach = window // 2
    steps = [(i, j) for i in range(reach + 1) for j in range(-reach, reach + 1) if (i, j) > (0, 0)]
    total = torch.zeros(len(x), device=x.device)
    pairs = torch.zeros(len(x), device=x.device)
    for i, j in steps:
        differ = (torch.sigmoid(_step(x, i, j)) - torch.sigmoid(_step(y, i, j))).abs().mean(-1)
        near, far = _overlap(weight, i, j)
        total = total + (differ * near * far).flatten(1).sum(1)
        pairs = pairs + (near * far).flatten(1).sum(1)
    return total / pairs.clamp(min=1.0)


def _overlap(x: Tensor, i: int, j: int) -> tuple[Tensor, Tensor]:
    """Views of all cells that have a neighbour i rows and j columns on, and of those neighbours."""
    height, width = x.shape[1:3]
    rows, columns = max(0, height - i), max(0, width - abs(j))
    near = x[:, :rows, max(0, -j) : max(0, -j) + columns]
    far = x[:, i : i + rows, max(0, j) : max(0, j) + columns]
    return near, far


def _step(x: Tensor, i: int, j: int) -> Tensor:
    near, far = _overlap(x, i, j)
    return far - near
