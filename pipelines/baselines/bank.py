"""A bank of good cells and how far a cell lies from them; the state of `memory_bank` and `patchcore`.

Glossary: n cells, C channels, M members, k neighbours, g group: a welding program, or 0 for all of them together.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.baselines.coreset import greedy_k_centre

__all__ = ["Bank", "BankConfig", "fit_bank"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
LEAST = 16
"""Members of a group at least: neighbours are asked of it however few its cells."""


@dataclasses.dataclass(frozen=True, slots=True)
class BankConfig:
    """How a bank is made; `share` of its cells become members."""

    share: float = 0.01
    dims: int = 32
    """Of the random projection in which the coreset is chosen."""
    per_program: bool = True
    """Whether cells are compared with their own program's only, as the published banks are of one class each."""
    candidates: int = 100_000
    """At most this many cells of a group, drawn evenly, compete for membership: the choice is quadratic."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """`members` (M, C) in groups, each in the order of its coreset; `owner` (M,): the group of each."""

    members: Array
    owner: Rows

    @functools.cached_property
    def _groups(self) -> dict[int, Any]:
        from sklearn.neighbors import NearestNeighbors

        return {
            int(g): NearestNeighbors(algorithm="brute").fit(self.members[self.owner == g])
            for g in np.unique(self.owner)
        }

    def nearest(self, cells: Array, group: int, k: int) -> tuple[Array, Rows]:
        """Euclidean distances to the k nearest members of the group, nearest first, and their numbers, `(n, k)`.

        Raises ValueError when the group has no members or fewer than k.
        """
        if group not in self._groups:
            raise ValueError(
                f"the bank has no cells of program {group}; it knows {sorted(self._groups)}: fit it anew"
            )
        size = int((self.owner == group).sum())
        if k > size:
            raise ValueError(f"{k} neighbours asked of program {group}, whose bank has {size} cells: raise its share")
        distance, at = self._groups[group].kneighbors(cells, n_neighbors=k)
        return distance.astype(np.float32), np.flatnonzero(self.owner == group)[at]

    def truncated(self, part: float) -> "Bank":
        """The first `part` of every group: what a smaller share would have given, without choosing anew."""
        groups = [np.flatnonzero(self.owner == g) for g in np.unique(self.owner)]
        keep = np.concatenate([own[: max(min(LEAST, len(own)), round(part * len(own)))] for own in groups])
        return Bank(self.members[keep], self.owner[keep])

    @property
    def state_mb(self) -> float:
        """What it holds in memory, in 10⁶ bytes."""
        return (self.members.nbytes + self.owner.nbytes) / 1e6

    def tensors(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        return {f"{prefix}.members": self.members, f"{prefix}.owner": self.owner}

    @classmethod
    def from_tensors(cls, prefix: str, tensors: Mapping[str, NDArray[Any]]) -> "Bank":
        """What `tensors` gave."""
        return cls(tensors[f"{prefix}.members"], tensors[f"{prefix}.owner"])


def fit_bank(cells: Array, group: Rows, config: BankConfig, seed: int) -> Bank:
    """From good cells `(n, C)` and the group `(n,)` of each."""
    if not 0.0 < config.share <= 1.0:
        raise ValueError(f"a bank keeps a share of its cells between 0 and 1, got {config.share}")
    rng = np.random.default_rng(seed)
    kept = []
    for g in np.unique(group):
        own = np.flatnonzero(group == g)
        members = max(min(LEAST, len(own)), round(config.share * len(own)))
        if len(own) > config.candidates:
            own = rng.choice(own, max(config.candidates, members), replace=False)
        kept.append(own[greedy_k_centre(cells[own], members, seed, config.dims)])
    chosen = np.concatenate(kept)
    return Bank(np.ascontiguousarray(cells[chosen]), group[chosen])
