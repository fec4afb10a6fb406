"""The straight way from process to result: which directions of the result the process can tell at all, linearly.

Canonical correlations (Hotelling, 1936) between a pooled, causal summary of the waveforms and the result's rows, on
goods within their program: a few hundred seams teach no network, but they teach this. What it predicts is a
reduced-rank regression that the network's output is added to (`pipelines/causal_net.py` learns the remainder); its
result directions are those in which a mismatch is looked for (`pipelines/mismatch.py`).

Glossary: n seams, Q result rows of K numbers, M modes along the seam (mean, cosines), D numbers of a summary a mode,
R directions a mode, P programs.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.gaussian import cross_fitted
from pipelines.normaliser import Process, token_statistics

__all__ = ["MODES", "Skip", "fit_skip", "row_modes", "summary"]

Array = NDArray[np.float64]
MODES = 3
DIRECTIONS = 4
SHRINK_PROCESS, SHRINK_RESULT = 0.1, 0.3
"""Added to the variances (1) of either side."""
LEAST_CORRELATION = 0.1
"""A direction whose out-of-fold correlation is below this is noise."""


def summary(process: Process) -> Array:
    """`(M, D)`: cosine modes over the seam's relative time of the token statistics, and the log of its duration."""
    tokens = token_statistics(process).astype(np.float64)
    place = (np.arange(process.tokens) + 0.5) / process.tokens
    basis = np.cos(np.pi * np.arange(MODES)[:, None] * place)  # (M, T)
    waves = basis @ tokens / process.tokens
    return np.concatenate([waves, np.full((MODES, 1), np.log(process.tokens))], axis=1)


def row_modes(rows: Array, basis: Array) -> Array:
    """Rows `(…, Q, K)` → modes `(…, M, K)`; `basis` (M, Q) has the rows' weights in it."""
    found: Array = np.matmul(basis, rows)
    return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Skip:
    """centre (P, M, D) and scale (M, D) of summaries; to_result (M, D, K); along (P, M, Q): the rows' weights within
    the modes, and back (P, M, Q): a mode's share in each row; directions (M, K, R); correlation (M, R), 0: noise."""

    centre: Array
    scale: Array
    to_result: Array
    along: Array
    back: Array
    directions: Array
    correlation: Array

    def predict(self, found: Array, program: int) -> Array:
        """Rows `(Q, K)`, deviation from the program's mean, from a summary `(M, D)`."""
        x = (found - self.centre[program]) / self.scale
        modes = np.einsum("md,mdk->mk", x, self.to_result)
        rows: Array = self.back[program].T @ modes
        return rows

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "Skip":
        """What `tensors` gave."""
        return cls(**{f.name: tensors[f.name] for f in dataclasses.fields(cls)})


def fit_skip(
    summaries: Array, rows: Array, program: NDArray[np.int64], sessions: NDArray[np.int64], programs: int
) -> Skip:
    """Fit on goods: summaries (n, M, D), rows (n, Q, K) as deviations from their program's mean.

    Which rows lie on the bead is learned too: first every row counts alike, then each as it follows the process.
    """
    weight = np.ones((programs, rows.shape[1]))
    for _ in range(2):
        along, back = _basis(weight)
        found = _fit(summaries, rows, along, back, program, sessions, programs)
        weight = _row_weights(found, summaries, rows, program, weight)
    along, back = _basis(weight)
    return _fit(summaries, rows, along, back, program, sessions, programs)


def _basis(weight: Array) -> tuple[Array, Array]:
    """From rows' weights (P, Q): the modes' weights and their shares, (P, M, Q) each."""
    share = weight / weight.sum(1, keepdims=True)
    place = np.cumsum(share, 1) - 0.5 * share
    waves = np.cos(np.pi * np.arange(MODES)[:, None] * place[:, None])  # (P, M, Q)
    waves /= np.sqrt((share[:, None] * waves**2).sum(-1, keepdims=True))
    on_bead = np.clip(weight / np.quantile(weight, 0.8, axis=1, keepdims=True), 0, 1)
    return share[:, None] * waves, on_bead[:, None] * waves


def _row_weights(skip: Skip, summaries: Array, rows: Array, program: NDArray[np.int64], before: Array) -> Array:
    """How well each row follows the process in the first direction, (P, Q); smoothed along the seam."""
    weight = before.copy()
    if skip.correlation[0, 0] == 0:
        return weight
    for p in range(len(weight)):
        own = np.flatnonzero(program == p)
        if len(own) < 10:
            continue
        x = (summaries[own, 0] - skip.centre[p, 0]) / skip.scale[0]
        told = x @ skip.to_result[0] @ skip.directions[0, :, 0]
        shown = rows[own] @ skip.directions[0, :, 0]  # (n, Q)
        told = (told - told.mean()) / (told.std() + 1e-9)
        shown = (shown - shown.mean(0)) / (shown.std(0) + 1e-9)
        follows = np.clip(told @ shown / len(own), 0.0, None)
        smooth = np.convolve(np.pad(follows, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        weight[p] = smooth**2 + 0.02 * (smooth**2).max() + 1e-6
    return weight


def _fit(
    summaries: Array,
    rows: Array,
    along: Array,
    back: Array,
    program: NDArray[np.int64],
    sessions: NDArray[np.int64],
    programs: int,
) -> Skip:
    pooled = summaries.mean(0)
    centre = np.stack([summaries[program == p].mean(0) if (program == p).any() else pooled for p in range(programs)])
    x = summaries - centre[program]
    spread = x.std(0)
    scale = np.where(spread > 1e-6, spread, 1.0)
    x = x / scale
    y = np.stack([row_modes(rows[i], along[p]) for i, p in enumerate(program.tolist())])  # (n, M, K)
    to_result, directions, correlation = [], [], []
    for mode in range(MODES):
        rho = _out_of_fold(x[:, mode], y[:, mode], sessions)
        a, b, loadings = _canonical(x[:, mode], y[:, mode])
        to_result.append((a * rho) @ loadings)
        directions.append(b)
        correlation.append(rho)
    return Skip(centre, scale, np.stack(to_result), along, back, np.stack(directions), np.stack(correlation))


def _canonical(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Canonical directions a (D, R), b (K, R), of unit variance, and the results' loadings (R, K)."""
    size = np.maximum(y.std(0), 1e-9)
    scaled = y / size
    of_x = _whitening(x, SHRINK_PROCESS)
    of_y = _whitening(scaled, SHRINK_RESULT)
    left, _, right = np.linalg.svd(of_x @ (x.T @ scaled / len(x)) @ of_y)
    a, b = of_x @ left[:, :DIRECTIONS], (of_y @ right.T)[:, :DIRECTIONS] / size[:, None]
    a, b = a / np.maximum((x @ a).std(0), 1e-9), b / np.maximum((y @ b).std(0), 1e-9)
    return a, b, (y @ b).T @ y / len(y)


def _whitening(x: Array, shrink: float) -> Array:
    values, vectors = np.linalg.eigh(x.T @ x / len(x) + shrink * np.eye(x.shape[1]))
    found: Array = vectors / np.sqrt(values) @ vectors.T
    return found


def _out_of_fold(x: Array, y: Array, sessions: NDArray[np.int64]) -> Array:
    """Correlation of each canonical pair on sessions that it was not fitted on, (R,); 0 where it is noise."""

    def pair(model: tuple[Array, Array, Array], i: int) -> Array:
        return np.stack([x[i] @ model[0], y[i] @ model[1]])

    found = cross_fitted(sessions, lambda rows: _canonical(x[rows], y[rows]), pair)  # (n, 2, R)
    told, shown = found[:, 0], found[:, 1]
    rho = (told * shown).mean(0) / np.maximum(np.sqrt((told**2).mean(0) * (shown**2).mean(0)), 1e-9)
    return np.where(rho >= LEAST_CORRELATION, np.clip(rho, 0.0, 0.99), 0.0)
