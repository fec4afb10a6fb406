"""The selective scan in plain torch: as it is written, and in pieces. What the compiled forms are measured against.

B batch    L length    E channels    N states
h_t = exp(Δ_t A) h_{t−1} + Δ_t x_t b_t,   y_t = c_t h_t + d x_t     (Gu & Dao, arXiv 2312.00752, equation 2)
"""

import torch
from torch import Tensor

__all__ = ["SCAN_CHUNK", "scan", "scan_ref"]

SCAN_CHUNK = 64
"""Steps whose (B, l, E, N) intermediates are held at once."""


def scan_ref(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence as it is written, one step after another.

    x, dt: (B, L, E); a: (E, N); b, c: (B, L, N); d: (E,); h: (B, E, N). Returns y (B, L, E) and the last h.
    """
    ys = [x.new_empty(len(x), 0, x.shape[2])]
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * a)  # (B, E, N)
        h = decay * h + (dt[:, t] * x[:, t])[..., None] * b[:, t, None, :]
        ys.append(((h * c[:, t, None, :]).sum(-1) + d * x[:, t])[:, None])
    return torch.cat(ys, 1), h


def scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """`scan_ref` in pieces of `SCAN_CHUNK` steps; same arguments and results.

    The exponentials and the output sums of a piece are taken at once, only the multiply-add goes step by
    step; no more than a piece's (B, l, E, N) is in memory.
    """
    ys = [x.new_empty(len(x), 0, x.shape[2])]
    for begin in range(0, x.shape[1], SCAN_CHUNK):
        piece = slice(begin, begin + SCAN_CHUNK)
        y, h = _piece(x[:, piece], dt[:, piece], a, b[:, piece], c[:, piece], h)
        ys.append(y)
    return torch.cat(ys, 1) + d * x, h


def _piece(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    decay = torch.exp(dt[..., None] * a)  # (B, l, E, N)
    drive = (dt * x)[..., None] * b[:, :, None, :]  # (B, l, E, N)
    states = []
    for t in range(x.shape[1]):
        h = torch.addcmul(drive[:, t], decay[:, t], h)
        states.append(h)
    y = torch.einsum("blen,bln->ble", torch.stack(states, 1), c)
    return y, h
