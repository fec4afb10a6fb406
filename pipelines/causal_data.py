"""Good seams as Causal-HM's network meets them, in either direction, for training and for the bench.

Forward: standardised process in, result rows out. Reverse: result rows in, *process rows* out: the process of each
stretch of the seam that a result row shows, as many numbers per row, whitened alike, so that the two directions
differ in nothing but which side is asked about.

Glossary: n seams, Q result rows (V views × R), K numbers of a row, M modes along the seam, P programs.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.causal_net import ProcessBatch
from pipelines.normaliser import Process, token_statistics
from pipelines.skip import MODES, summary
from pipelines.training import collate

__all__ = ["CausalData", "ProcessRows", "RowsBatch", "centre_rows", "fit_process_rows"]

Array = NDArray[np.float32]
MAX_VALUE = 8.0
"""Process rows beyond this are cut, as the network's inputs are."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowsBatch:
    """Result rows as an input: rows (B, Q, K), known (B, Q), program (B,)."""

    rows: torch.Tensor
    known: torch.Tensor
    program: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CausalData:
    """n seams: rows (n, Q, K) as deviations from the program's mean, 0 where not known; known (n, Q); program and
    session (n,) indices; process_rows (n, Q, K) and their known (n, Q) where `fit_process_rows` gave them."""

    processes: Sequence[Process]
    rows: Array
    known: NDArray[np.bool_]
    program: NDArray[np.int64]
    session: NDArray[np.int64]
    programs: int
    process_rows: Array | None = None
    process_known: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.processes)

    def take(self, rows: NDArray[np.int64]) -> "CausalData":
        """Some of the seams."""
        return dataclasses.replace(
            self,
            processes=[self.processes[int(i)] for i in rows],
            rows=self.rows[rows],
            known=self.known[rows],
            program=self.program[rows],
            session=self.session[rows],
            process_rows=None if self.process_rows is None else self.process_rows[rows],
            process_known=None if self.process_known is None else self.process_known[rows],
        )

    def process_batch(self, rows: NDArray[np.int64]) -> ProcessBatch:
        """The forward direction's input."""
        return collate([self.processes[int(i)] for i in rows], self.program[rows].tolist())

    def rows_batch(self, rows: NDArray[np.int64]) -> RowsBatch:
        """The reverse direction's input."""
        return RowsBatch(
            torch.from_numpy(self.rows[rows]).clamp(-MAX_VALUE, MAX_VALUE),
            torch.from_numpy(self.known[rows]),
            torch.from_numpy(self.program[rows]),
        )

    def asked(self, direction: str) -> tuple[Array, NDArray[np.bool_]]:
        """What is predicted (n, Q, K) and where it is known. Raises ValueError without process rows in reverse."""
        if direction == "forward":
            return self.rows, self.known
        if self.process_rows is None or self.process_known is None:
            raise ValueError("the reverse direction predicts process rows: make them with fit_process_rows")
        return self.process_rows, self.process_known

    def summaries(self, direction: str) -> NDArray[np.float64]:
        """Modes along the seam of what is given (n, M, D), for the linear way beside the network."""
        if direction == "forward":
            return np.stack([summary(p) for p in self.processes])
        place = (np.arange(self.rows.shape[1]) + 0.5) / self.rows.shape[1]
        basis = np.cos(np.pi * np.arange(MODES)[:, None] * place) / self.rows.shape[1]
        found: NDArray[np.float64] = np.einsum("mq,nqk->nmk", basis, self.rows.astype(np.float64))
        return found


def centre_rows(
    tokens: Array, known: NDArray[np.bool_], program: NDArray[np.int64], means: Array | None = None, programs: int = 0
) -> tuple[Array, Array]:
    """Rows (n, Q, K) less their program's mean, and the means (P, Q, K); fitted here unless given."""
    if means is None:
        pooled = _mean(tokens, known)
        found = [_mean(tokens[program == p], known[program == p], pooled) for p in range(programs)]
        means = np.stack(found).astype(np.float32)
    return (tokens - means[program]) * known[..., None], means


def _mean(tokens: Array, known: NDArray[np.bool_], other: Array | None = None) -> Array:
    """Mean over known rows (Q, K); that of `other` where none is known."""
    weight = known[..., None]
    count = weight.sum(0)
    mean: Array = (tokens * weight).sum(0) / np.maximum(count, 1)
    return mean if other is None else np.where(count > 0, mean, other)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ProcessRows:
    """How a process becomes rows: means (P, Q, D) of its stretches, and projection (K, D)."""

    means: Array
    components: Array

    def add(self, data: CausalData) -> CausalData:
        """The same seams with process rows."""
        stretches, known = _stretches(data)
        off, _ = centre_rows(stretches, known, data.program, self.means)
        rows = np.clip(off @ self.components.T, -MAX_VALUE, MAX_VALUE).astype(np.float32)
        return dataclasses.replace(data, process_rows=rows, process_known=known)


def fit_process_rows(train: CausalData) -> ProcessRows:
    """Fit on training goods: PCA of the stretches' deviations from their program's mean, whitened to K numbers."""
    from sklearn.decomposition import PCA

    stretches, known = _stretches(train)
    off, means = centre_rows(stretches, known, train.program, programs=train.programs)
    keep = min(train.rows.shape[2], off.shape[2], int(known.sum()) - 1)
    fitted = PCA(keep, svd_solver="randomized", random_state=0).fit(off[known])
    spread = np.sqrt(np.maximum(fitted.explained_variance_, 1e-12))
    components = np.zeros((train.rows.shape[2], off.shape[2]), np.float32)
    components[:keep] = fitted.components_ / np.maximum(spread, 1e-3 * spread.max() + 1e-9)[:, None]
    return ProcessRows(means, components)


def _stretches(data: CausalData) -> tuple[Array, NDArray[np.bool_]]:
    """Mean process over each row's share of the seam's time (n, Q, D), and where there is any (n, Q)."""
    queries = data.rows.shape[1]
    rows = []
    for process in data.processes:
        tokens = np.concatenate([token_statistics(process), process.video, process.audio], 1)
        edges = np.linspace(0, len(tokens), queries + 1)
        first = np.minimum(edges[:-1].astype(int), len(tokens) - 1)
        last = np.maximum(np.ceil(edges[1:] - 1e-9).astype(int), first + 1)
        sums = np.concatenate([np.zeros((1, tokens.shape[1])), np.cumsum(tokens, 0, dtype=np.float64)])
        rows.append(((sums[last] - sums[first]) / (last - first)[:, None]).astype(np.float32))
    return np.stack(rows), np.ones((len(rows), queries), np.bool_)
