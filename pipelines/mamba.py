"""Mamba: the selective state-space block that reads the waveforms in causal time.

Glossary (Gu & Dao, *Mamba*, arXiv 2312.00752; sections in brackets)::

    B   batch                     L   length, 10 ms steps
    D   d_model, width            E   d_inner = expand · d_model (3.4)
    N   d_state, state size (2)   R   dt_rank, rank of Δ (3.6)
    Δ   step size, softplus(W_Δ x + b_Δ) (3.2)      A   −exp(A_log), diagonal (3.6)
    B_t, C_t   input and output maps that depend on x_t (algorithm 2)
    h_t = exp(Δ A) h_{t−1} + Δ B_t x_t,   y_t = C_t h_t + D x_t   (equation 2, zero-order hold on A)

Parameter names are those of the published code, so its weights load here and ours load there.
`forward` over a sequence, `forward` over its pieces with the state carried, and `step` one by one all agree.
On a CPU the scan is compiled (`pipelines/selective_scan/`); on CUDA the fused scan of `mamba-ssm` is used when that
package is installed (untested here), plain torch otherwise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.selective_scan import selective_scan

__all__ = ["Mamba", "MambaState", "started"]


PUT_IN = 1e-8
"""Step size at which a state is put in: small beside 2^-24 / max |A|."""


class MambaState(NamedTuple):
    """What a block carries from one piece of a sequence to the next; its size does not depend on length."""

    conv: Tensor  # (B, E, d_conv − 1): the last inputs of the causal convolution
    ssm: Tensor  # (B, E, N): h


Scan = Callable[..., tuple[Tensor, Tensor]]


def _fused_scan() -> Scan | None:
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None

    def from_zero(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        across = [t.transpose(1, 2).contiguous() for t in (x, dt, b, c)]
        y, last = selective_scan_fn(across[0], across[1], a, across[2], across[3], d, return_last_state=True)
        return y.transpose(1, 2), last

    return started(from_zero)


def started(from_zero: Scan) -> Scan:
    """A scan from any h, of one that only starts from h = 0 and takes all arguments but h.

    N steps before the first put h in, state by state: Δ = 1e-8 lets nothing fade (exp(Δ A) is 1 in float32), b is
    1e8 for the state and 0 for the others, x is h. So no (B, L, E, N) array is made. Float32 or wider.
    """

    def scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        n = h.shape[-1]
        one = torch.eye(n, dtype=b.dtype, device=b.device).expand(len(b), n, n)
        x = torch.cat([h.transpose(1, 2), x], 1)
        dt = torch.cat([dt.new_full((len(dt), n, dt.shape[2]), PUT_IN), dt], 1)
        b = torch.cat([one / PUT_IN, b], 1)
        c = torch.cat([c.new_zeros(len(c), n, n), c], 1)
        y, last = from_zero(x, dt, a, b, c, d)
        return y[:, n:], last

    return scan


class Mamba(nn.Module):
    """One block, (B, L, D) → (B, L, D), causal."""

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(self.d_inner, 1))  # (E, N)
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self._init_dt()

    def _init_dt(self) -> None:
        """b_Δ such that Δ lies log-uniformly in [1e-3, 0.1] at first (section 3.6)."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        dt = torch.exp(torch.rand(self.d_inner) * math.log(100.0) + math.log(1e-3))
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus

    def initial(self, batch: int) -> MambaState:
        """The state before the first step: all zero."""
        like = self.A_log
        return MambaState(
            like.new_zeros(batch, self.d_inner, self.d_conv - 1), like.new_zeros(batch, self.d_inner, self.d_state)
        )

    def forward(self, x: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """(B, L, D) and the state before it → (B, L, D) and the state after it."""
        state = self.initial(len(x)) if state is None else state
        if not x.shape[1]:
            return x, state  # nothing to read; the convolution refuses to
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, E) each
        padded = torch.cat([state.conv, u.transpose(1, 2)], -1)  # (B, E, d_conv − 1 + L)
        u = F.silu(self.conv1d(padded)).transpose(1, 2)  # (B, L, E)
        dt_low, b, c = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dt = F.softplus(self.dt_proj(dt_low))  # (B, L, E)
        run = (_fused_scan() if x.is_cuda else None) or selective_scan
        y, h = run(u, dt, -torch.exp(self.A_log), b, c, self.D, state.ssm)
        return self.out_proj(y * F.silu(z)), MambaState(padded[..., padded.shape[-1] - self.d_conv + 1 :], h)

    def step(self, x_t: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        """One step: (B, D) → (B, D)."""
        y, after = self.forward(x_t[:, None], state)
        return y[:, 0], after
