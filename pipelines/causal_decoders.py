"""From process tokens to predicted result tokens: the decoders that Causal-HM is compared in.

    linattn_tokens   learned queries read the tokens through running sums (the product's)
    softmax_tokens   the same with softmax attention; keeps every token, bench only
    linattn_1tok     the tokens' mean as a sequence of length one through linear attention, as the development
                     code of the paper has it; there φ(q)φ(k)ᵀv / φ(q)φ(k)ᵀ = v, and attention does nothing
    mlp              the tokens' mean through a perceptron

All meet the process through `sums`, `join` (of two pieces of a seam) and `forward`.

Glossary (linear attention: Katharopoulos et al., arXiv 2006.16236, as in Dinomaly)::

    B batch · T tokens · d width · Q queries · K target numbers of a query · H heads · k = d / H
    φ      elu + 1
    S_h    Σ φ(k_t) v_tᵀ (k, k) and z_h = Σ φ(k_t) (k,)
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.causal_config import NetConfig

__all__ = ["RunningSums", "decoder"]


class RunningSums(NamedTuple):
    """What a decoder keeps of the process, by layer.

    linattn_tokens: S (B, H, k, k) and z (B, H, k). Pooled decoders: Σ tokens (B, d) and their number (B, 1).
    softmax_tokens: the tokens (B, T, d) and which count (B, T).
    """

    s: tuple[Tensor, ...]
    z: tuple[Tensor, ...]


def _phi(x: Tensor) -> Tensor:
    return F.elu(x) + 1.0


class LinearAttention(nn.Module):
    """Queries read tokens through S and z."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))

    def sums(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, d), (B, T) → S (B, H, k, k), z (B, H, k)."""
        key = _phi(self._split(self.key(tokens))) * known[:, None, :, None]  # (B, H, T, k)
        return torch.einsum("bhtk,bhtv->bhkv", key, self._split(self.value(tokens))), key.sum(2)

    def forward(self, queries: Tensor, s: Tensor, z: Tensor) -> Tensor:
        q = _phi(self._split(self.query(queries)))  # (B, H, Q, k)
        read = torch.einsum("bhqk,bhkv->bhqv", q, s) / (torch.einsum("bhqk,bhk->bhq", q, z)[..., None] + 1e-6)
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class SoftmaxAttention(LinearAttention):
    """Queries read the tokens themselves; a seam without any reads zeros."""

    def sums(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, d), (B, T): as they are."""
        return tokens, known

    def forward(self, queries: Tensor, s: Tensor, z: Tensor) -> Tensor:
        q, key, value = (self._split(x) for x in (self.query(queries), self.key(s), self.value(s)))
        bias = torch.log(z.clamp(min=1e-30))[:, None, None, :]  # finite: a row without a token must not be NaN
        read = F.scaled_dot_product_attention(q, key, value, attn_mask=bias)
        read = read * (z.sum(1) > 0).to(read)[:, None, None, None]
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Pre-norm attention and perceptron, each beside the way straight on."""

    def __init__(self, d: int, attend: LinearAttention) -> None:
        super().__init__()
        self.norm_tokens, self.norm_queries, self.norm_ffn = (nn.LayerNorm(d) for _ in range(3))
        self.attend = attend
        self.ffn = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def sums(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of the tokens for this block."""
        return self.attend.sums(self.norm_tokens(tokens), known)

    def forward(self, queries: Tensor, s: Tensor, z: Tensor) -> Tensor:
        queries = queries + self.attend(self.norm_queries(queries), s, z)
        out: Tensor = queries + self.ffn(self.norm_ffn(queries))
        return out


class SelfBlock(nn.Module):
    """Pre-norm linear self-attention and perceptron; (B, L, d) → (B, L, d)."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.norm, self.norm_ffn = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attend = LinearAttention(d, heads)
        self.ffn = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        x = x + self.attend(seen, *self.attend.sums(seen, seen.new_ones(seen.shape[:2])))
        out: Tensor = x + self.ffn(self.norm_ffn(x))
        return out


class TokensDecoder(nn.Module):
    """Learned queries, `layers` blocks of the given attention."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        d = config.d
        attention = SoftmaxAttention if config.decoder == "softmax_tokens" else LinearAttention
        self.keeps_tokens = config.decoder == "softmax_tokens"
        self.queries = nn.Parameter(torch.randn(config.queries, d) / math.sqrt(d))
        self.blocks = nn.ModuleList(Block(d, attention(d, config.heads)) for _ in range(config.layers))
        self.out_norm, self.out = nn.LayerNorm(d), _silent(d, config.targets)

    def sums(self, tokens: Tensor, known: Tensor) -> RunningSums:
        """(B, T, d), (B, T) float → what is kept."""
        pairs = [block.sums(tokens, known) for block in self.blocks]  # type: ignore[operator]
        return RunningSums(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))

    def join(self, before: RunningSums, now: RunningSums) -> RunningSums:
        """Of two pieces of a seam."""
        return RunningSums(*(tuple(map(self._join, a, b)) for a, b in zip(before, now, strict=True)))

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b], 1) if self.keeps_tokens else a + b

    def forward(self, sums: RunningSums, program: Tensor) -> Tensor:
        """Predicted tokens (B, Q, K); program (B, d)."""
        x = self.queries[None] + program[:, None]
        for block, s, z in zip(self.blocks, sums.s, sums.z, strict=True):
            x = block(x, s, z)
        out: Tensor = self.out(self.out_norm(x))
        return out


class PooledDecoder(nn.Module):
    """The process as one vector, its tokens' mean; all predicted tokens come out of it at once."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        d = config.d
        self.shape = (config.queries, config.targets)
        self.pool_norm = nn.LayerNorm(d)
        self.body = POOLED[config.decoder](config)
        self.out = _silent(d, config.queries * config.targets)

    def sums(self, tokens: Tensor, known: Tensor) -> RunningSums:
        """(B, T, d), (B, T) float → Σ tokens, and their number."""
        return RunningSums(((tokens * known[..., None]).sum(1),), (known.sum(1, keepdim=True),))

    def join(self, before: RunningSums, now: RunningSums) -> RunningSums:
        """Of two pieces of a seam."""
        return RunningSums((before.s[0] + now.s[0],), (before.z[0] + now.z[0],))

    def forward(self, sums: RunningSums, program: Tensor) -> Tensor:
        """Predicted tokens (B, Q, K); program (B, d)."""
        pooled = self.pool_norm(sums.s[0] / sums.z[0].clamp(min=1)) + program
        out: Tensor = self.out(self.body(pooled)).unflatten(-1, self.shape)
        return out


class Mlp(nn.Sequential):
    """d → d: the last form of the development code."""

    def __init__(self, config: NetConfig) -> None:
        d = config.d
        super().__init__(nn.Linear(d, d), nn.LayerNorm(d), nn.SiLU(), nn.Dropout(0.1), nn.Linear(d, d))


class OneToken(nn.Module):
    """d → d: bottleneck and linear attention over a sequence of length one."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.mask_ratio)
        self.blocks = nn.Sequential(*(SelfBlock(config.d, config.heads) for _ in range(config.layers)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.drop(x)[:, None])[:, 0]
        return out


POOLED: dict[str, type[nn.Module]] = {"mlp": Mlp, "linattn_1tok": OneToken}


def decoder(config: NetConfig) -> TokensDecoder | PooledDecoder:
    """The decoder that `config` names."""
    return PooledDecoder(config) if config.decoder in POOLED else TokensDecoder(config)


def _silent(d: int, out: int) -> nn.Linear:
    """Predictions start at the program's mean: what the process cannot tell costs nothing."""
    made = nn.Linear(d, out)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made
