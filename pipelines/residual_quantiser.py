"""Residual quantiser: what good cells of one modality look like, as sums of L codes; what it cannot say is odd.

Uni-RCM's offline residual quantiser (arXiv 2605.29455, "ORQ"; `pipelines/uni_rcm.py` uses it): L cascaded codebooks,
each clustering what the ones before left over, fitted once on frozen cells of good seams. Its error needs no second
modality, so it is also what is left of the method when one is missing.

Clusters are scikit-learn's `KMeans` with Lloyd's algorithm and one random start: exactly the published recipe, it
re-seeds dead codes (with the rows that are worst represented), and it walks over the rows in blocks of 256, so beside
the rows themselves it needs 256 × K distances, never n × K. `MiniBatchKMeans` would be faster, but it has neither
Lloyd's iterations nor the monotone error that comes with them. To say an error takes numpy alone: the worker needs no
scikit-learn.

Glossary::

    x (n, C)   cells · L levels · K codes of a level · c_l (C,) the nearest code of level l
    r_l (n, C) what levels 1 … l leave over, x − Σ c · q (n,) = ‖r_L‖₂
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuantiserConfig", "ResidualQuantiser", "fit_quantiser"]

Array = NDArray[np.float32]
ROWS_PER_CODE = 39
"""A code needs at least this many rows: with fewer rows there are fewer codes (the rule of FAISS)."""
BLOCK_ROWS = 4096
"""Rows whose distances to all codes are held at a time: 4096 × 4096 float32 are 64 MB."""
LEAST_NORM = 1e-8


@dataclasses.dataclass(frozen=True, slots=True)
class QuantiserConfig:
    """Published: 4 levels, 20 iterations, K = 4096 for photographs and 1024 for geometry, all rows of all good seams.

    `rows_per_code`: at most this many rows a code are clustered, drawn evenly; 0: all rows. `normalise_first`:
    level 1 clusters directions, and its codes are then the means of the members as they are.
    """

    levels: int = 4
    codes: int = 1024
    iterations: int = 20
    normalise_first: bool = True
    rows_per_code: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResidualQuantiser:
    """`codebooks`: L arrays (K, C)."""

    codebooks: tuple[Array, ...]

    def error(self, x: Array) -> Array:
        """q ≥ 0 of every cell, `(…, C)` → `(…,)`, in the cells' units. Raises ValueError at another C."""
        channels = self.codebooks[0].shape[1]
        if x.shape[-1] != channels:
            raise ValueError(f"the quantiser was fitted on {channels} channels, got cells of {x.shape[-1]}")
        left = x.reshape(-1, channels).astype(np.float32)  # a copy: residuals are taken in place
        for codes in self.codebooks:
            _subtract_nearest(left, codes)
        found: Array = np.sqrt(np.einsum("nc,nc->n", left, left)).reshape(x.shape[:-1])
        return found

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        return {f"level{i}": codes for i, codes in enumerate(self.codebooks)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "ResidualQuantiser":
        """What `tensors` gave."""
        return cls(tuple(tensors[f"level{i}"] for i in range(len(tensors))))


def fit_quantiser(
    x: Array, config: QuantiserConfig, tell: Callable[[int, float], None] | None = None
) -> ResidualQuantiser:
    """Fit on the valid cells `(n, C)` of good seams; the same codes for the same rows, seed and number of threads.

    `tell(level, root mean square error)` is called after each level. Raises ValueError without rows.
    """
    if not len(x):
        raise ValueError("a residual quantiser needs cells of good seams, got none")
    rng = np.random.default_rng(config.seed)
    left = _drawn(x, config, rng)
    codes_here = max(1, min(config.codes, len(left) // ROWS_PER_CODE))
    codebooks = []
    for level in range(config.levels):
        seed = int(rng.integers(2**31))
        if level == 0 and config.normalise_first:
            # Directions first: otherwise a few long vectors claim the codes. What is looked up later is raw.
            size = np.linalg.norm(left, axis=1, keepdims=True)
            _, labels = _lloyd(left / np.maximum(size, LEAST_NORM), codes_here, config.iterations, seed)
            codes = _raw_means(left, labels, codes_here)
        else:
            codes, _ = _lloyd(left, codes_here, config.iterations, seed)
        codebooks.append(codes)
        _subtract_nearest(left, codes)
        if tell is not None:
            tell(level + 1, float(np.sqrt(np.einsum("nc,nc->", left, left) / len(left))))
    return ResidualQuantiser(tuple(codebooks))


def _drawn(x: Array, config: QuantiserConfig, rng: np.random.Generator) -> Array:
    """A copy of the rows to cluster."""
    most = config.codes * config.rows_per_code
    if not most or len(x) <= most:
        return x.astype(np.float32)
    found: Array = x[np.sort(rng.permutation(len(x))[:most])].astype(np.float32)
    return found


def _lloyd(x: Array, codes: int, iterations: int, seed: int) -> tuple[Array, NDArray[np.int32]]:
    """Codes `(K, C)` and each row's `(n,)`."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    # copy_x: k-means shifts the rows and shifts them back in place; they are copies already.
    model = KMeans(codes, init="random", n_init=1, max_iter=iterations, tol=0.0, random_state=seed, copy_x=False)
    with warnings.catch_warnings():
        # Fewer distinct rows than codes (a still stream): some codes are then the same, which harms nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    return model.cluster_centers_.astype(np.float32), model.labels_


def _raw_means(x: Array, labels: NDArray[np.int32], codes: int) -> Array:
    """Mean of each code's members `(K, C)`; a code without any becomes the row that is worst represented."""
    members = np.bincount(labels, minlength=codes)
    rows = np.split(np.argsort(labels, kind="stable"), np.cumsum(members)[:-1])
    found = np.zeros((codes, x.shape[1]), np.float32)
    for code in np.flatnonzero(members):
        found[code] = x[rows[code]].mean(0, dtype=np.float64)
    dead = list(np.flatnonzero(members == 0))
    off = np.linalg.norm(x - found[labels], axis=1) if dead else np.zeros(1)
    while dead and off.max() > LEAST_NORM:
        worst = int(off.argmax())
        found[dead.pop()] = x[worst]
        off = np.minimum(off, np.linalg.norm(x - x[worst], axis=1))
    live: Array = np.delete(found, dead, axis=0)  # what is still dead has no row left that wants it
    return live


def _subtract_nearest(left: Array, codes: Array) -> None:
    """Take each row's nearest code (L2) from it, in place."""
    half = 0.5 * np.einsum("kc,kc->k", codes, codes)
    for start in range(0, len(left), BLOCK_ROWS):
        block = left[start : start + BLOCK_ROWS]
        block -= codes[np.argmin(half - block @ codes.T, axis=1)]
