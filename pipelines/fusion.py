"""What comes after the error maps of a grid method: one score and one map per seam.

Each modality is measured against goods first, so that one threshold holds for all seams of a program and a modality
whose errors are large has no more say than others. The published scores, which know no goods, are
`pipelines/fusion_compat.py`, offered here too.

Glossary::

    n seams · H × W cells · P programs · k modalities that are there
    error    a modality's error maps (n, H, W) ≥ 0
    cell z   (log error − location) / spread of good seams at that cell and in that program
    worst    mean of a seam's few largest cell z
    z_m      the modality's worst, standardised over good seams
    r_m      exp(scale_m · z_m): how many times worse than the typical good; r_m > 0
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.fusion_compat import CompatScores, blur, compat_scores
from pipelines.gaussian import Standard, cross_fitted, fit_standard

__all__ = ["RULES", "CompatScores", "FusedScore", "Fusion", "Rule", "blur", "compat_scores", "fit_fusion"]

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rule = Literal["mul", "add", "max", "minp"]
RULES: tuple[Rule, ...] = ("mul", "add", "max", "minp")

WORST_SHARE = 0.02
"""Share of the measured cells whose mean is a seam's figure: good seams have odd single cells."""
PRIOR = 20.0
"""A cell's location and spread over all programs count as much as this many seams of the program's own; the location
less where programs are seen to differ."""
LEAST_SPREAD = 1e-3
FLOOR_QUANTILE = 0.01
"""Errors below this quantile of goods' are taken as equal: the logarithm of nearly nothing says nothing."""
UNMEASURED_Z = -10.0
"""Stands in the fused map where nothing was measured; no cell z lies below."""


def rule_named(text: str) -> Rule:
    """A rule from a file or flag. Raises ValueError with those there are."""
    for rule in RULES:
        if rule == text:
            return rule
    raise ValueError(f"fusion rule {text!r}, expected one of {', '.join(RULES)}")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Typical:
    """Goods' log errors of one modality: location, spread (P, H, W); errors below `floor` count as `floor`."""

    location: Array
    spread: Array
    floor: float

    def z(self, error: NDArray[Any], valid: Flags, program: int) -> Array:
        """Cell z of one seam, (H, W); `UNMEASURED_Z` where not measured."""
        logs = np.log(np.maximum(error, self.floor))
        z = np.maximum((logs - self.location[program]) / self.spread[program], UNMEASURED_Z)
        return np.where(valid, z, UNMEASURED_Z).astype(np.float32)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FusedScore:
    """One seam. `raw` > 0, higher is more anomalous; `by_modality`: z_m; `map` (H, W): fused cell z, for showing
    where, `UNMEASURED_Z` where nothing was measured."""

    raw: float
    by_modality: Mapping[str, float]
    map: Array


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """What good seams' error maps look like, and the rule. All rules use the same fit: `dataclasses.replace(fusion,
    rule=…)` is another rule's."""

    rule: Rule
    typical: Mapping[str, Typical]
    standards: Mapping[str, Standard]

    def score(self, maps: Mapping[str, NDArray[Any]], valid: Flags | None, program: int) -> FusedScore:
        """Score one seam's error maps (H, W).

        A modality that is absent, or has no measured cell, has no say: the others decide, and a seam scored from
        fewer needs the threshold of goods scored from the same ones.

        Args:
            maps: by modality; some of those fitted.
            valid: (H, W) measured cells; None: those whose error is not 0.

        Raises ValueError for an unknown modality, program or grid, errors that are not finite, and where no modality
        has a measured cell.
        """
        self._refuse(maps, program)
        z, cells, where = {}, [], []
        for name, error in maps.items():
            measured = np.asarray(error) > 0 if valid is None else valid
            if not measured.any():
                continue
            cell_z = self.typical[name].z(error, measured, program)
            standard = self.standards[name]
            z[name] = float((_worst(cell_z[measured]) - standard.location[program]) / standard.scale)
            cells.append(cell_z)
            where.append(measured)
        if not z:
            raise ValueError(
                f"none of {', '.join(maps) or 'no modality'} has a measured cell; a seam without any cannot be scored"
            )
        logs = np.array([z[name] * self.standards[name].scale for name in z])
        fused = FUSE_CELLS[self.rule](np.stack(cells)).astype(np.float32)
        raw = _positive(FUSE_SEAM[self.rule](logs, np.array(list(z.values()))))
        return FusedScore(raw, z, np.where(np.any(where, axis=0), fused, np.float32(UNMEASURED_Z)))

    def _refuse(self, maps: Mapping[str, NDArray[Any]], program: int) -> None:
        for name, error in maps.items():
            if name not in self.typical:
                raise ValueError(f"{name}: fitted on {', '.join(self.typical)}; fit the fusion anew with its goods")
            programs, *grid = self.typical[name].location.shape
            if not 0 <= program < programs:
                raise ValueError(f"program {program}: fitted on programs 0..{programs - 1}")
            if list(np.shape(error)) != grid:
                raise ValueError(f"{name}: error map {np.shape(error)}, fitted on {tuple(grid)}")
            if not np.isfinite(error).all():
                raise ValueError(f"{name}: the error map has cells that are not finite")

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file; the rule is not among them."""
        found: dict[str, NDArray[Any]] = {}
        for name, typical in self.typical.items():
            standard = self.standards[name]
            found |= {
                f"{name}/location": typical.location,
                f"{name}/spread": typical.spread,
                f"{name}/floor": np.array([typical.floor]),
                f"{name}/at": standard.location,
                f"{name}/scale": np.array([standard.scale]),
            }
        return found

    @classmethod
    def from_tensors(cls, rule: str, tensors: Mapping[str, NDArray[Any]]) -> "Fusion":
        """What `tensors` gave. Raises ValueError for a rule that does not exist."""
        names = sorted(key.removesuffix("/floor") for key in tensors if key.endswith("/floor"))
        return cls(
            rule_named(rule),
            {
                n: Typical(tensors[f"{n}/location"], tensors[f"{n}/spread"], float(tensors[f"{n}/floor"][0]))
                for n in names
            },
            {n: Standard(tensors[f"{n}/at"], float(tensors[f"{n}/scale"][0])) for n in names},
        )


def _minp(logs: Doubles, z: Doubles) -> float:
    """−log of (the smallest p × number of modalities). The p are the normal tail's: an empirical one of n goods,
    times k, could never come below k / (n + 1), and so never flag at a small budget."""
    from scipy.stats import norm

    return float(-norm.logsf(z.max()) - np.log(len(z)))


FUSE_SEAM: Mapping[str, Callable[[Doubles, Doubles], float]] = {
    "mul": lambda logs, z: float(logs.sum()),
    "add": lambda logs, z: float(np.logaddexp.reduce(logs)),
    "max": lambda logs, z: float(logs.max()),
    "minp": _minp,
}
"""(log r_m, z_m) → log of the seam's figure: Π r_m, Σ r_m, max r_m; and min-p."""

FUSE_CELLS: Mapping[str, Callable[[Array], Array]] = {
    "mul": lambda z: np.asarray(z.sum(0) / np.sqrt(len(z))),
    "add": lambda z: np.asarray(np.logaddexp.reduce(z, axis=0) - np.log(len(z))),
    "max": lambda z: np.asarray(z.max(0)),
    "minp": lambda z: np.asarray(z.max(0)),
}
"""Cell z (k, H, W) → fused cell z (H, W)."""


def _positive(log_figure: float) -> float:
    """log(1 + exp(x)): the same order, and positive, so that raw / threshold is meaningful."""
    return float(max(np.logaddexp(0.0, log_figure), np.finfo(np.float64).tiny))


def _worst(z: NDArray[Any]) -> float:
    """Mean of the few largest of `(cells,)`."""
    count = max(1, round(WORST_SHARE * len(z)))
    return float(np.partition(z, len(z) - count)[-count:].mean(dtype=np.float64))


def fit_fusion(
    maps: Mapping[str, NDArray[Any]],
    valid: Flags,
    program: NDArray[np.int64],
    programs: int,
    sessions: NDArray[np.int64],
    rule: str = "minp",
) -> Fusion:
    """Fit on error maps (n, H, W) of goods that did not train the method; standardised out of fold by session.

    Args:
        valid: (n, H, W) measured cells; seams without any are left out.
        sessions: (n,) number of each seam's session.

    Raises ValueError with goods of fewer than two sessions, and for a rule that does not exist.
    """
    have = np.flatnonzero(valid.any((1, 2)))
    measured, own, groups = valid[have], program[have], sessions[have]
    typical, standards = {}, {}
    for name, every in maps.items():
        error = np.asarray(every, np.float32)[have]
        if not np.isfinite(error).all():
            raise ValueError(f"{name}: error maps of goods have cells that are not finite")
        floor = _floor(error[measured]) if len(have) else 1.0
        logs = np.log(np.maximum(error, floor)).astype(np.float64)

        def fit(rows: NDArray[np.int64], logs: Doubles = logs, floor: float = floor) -> Typical:
            return _typical(logs[rows], measured[rows], own[rows], programs, floor)

        def worst(found: Typical, row: int, error: Array = error) -> Doubles:
            return np.array(_worst(found.z(error[row], measured[row], int(own[row]))[measured[row]]))

        standards[name] = fit_standard(np.exp(cross_fitted(groups, fit, worst)), own, programs)
        typical[name] = fit(np.arange(len(have)))
    return Fusion(rule_named(rule), typical, standards)


def _floor(errors: Array) -> float:
    positive = errors[errors > 0]
    return float(np.quantile(positive, FLOOR_QUANTILE)) if len(positive) else 1.0


def _typical(logs: Doubles, valid: Flags, program: NDArray[np.int64], programs: int, floor: float) -> Typical:
    """Each cell's location and spread: all programs' pattern, moved by the program's offset, drawn to the program's
    own cell as its goods suffice."""
    level = logs[valid].mean()
    count = valid.sum(0)
    pattern = level + ((logs - level) * valid).sum(0) / (count + 1.0)
    own = [valid & (program == p)[:, None, None] for p in range(programs)]
    prior = _prior(logs - pattern, own)
    locations = np.stack([_location(logs, which, pattern, prior) for which in own])
    off = np.where(valid, logs - locations[program], 0.0) ** 2
    overall = off[valid].mean()
    pooled = (off.sum(0) + PRIOR * overall) / (count + PRIOR)
    spreads = []
    for p in range(programs):
        seams = program == p
        spreads.append(np.sqrt((off[seams].sum(0) + PRIOR * pooled) / (valid[seams].sum(0) + PRIOR)))
    spread = np.maximum(np.stack(spreads), LEAST_SPREAD)
    return Typical(locations.astype(np.float32), spread.astype(np.float32), floor)


def _prior(off: Doubles, own: Sequence[Flags]) -> float:
    """How many seams the pattern of all programs counts as, at a cell of one program: the variance of a cell from
    seam to seam over that of programs' means about the pattern (the weight of empirical Bayes)."""
    within, freedom, between = 0.0, 0, []
    for which in own:
        n = which.sum(0)
        enough = n > 1
        if not enough.any():
            continue
        kept = np.where(which, off, 0.0)[:, enough]  # (n, cells)
        mean = kept.sum(0) / n[enough]
        squares = (kept**2).sum(0) - n[enough] * mean**2
        within += float(squares.sum())
        freedom += int((n[enough] - 1).sum())
        between.append(float(np.mean((mean - mean.mean()) ** 2 - squares / (n[enough] - 1) / n[enough])))
    if not between:
        return PRIOR
    return float(np.clip(within / freedom / max(float(np.mean(between)), 1e-9), 1.0, PRIOR))


def _location(logs: Doubles, own: Flags, pattern: Doubles, prior: float) -> Doubles:
    """`own` (n, H, W): measured cells of the program's goods."""
    off = np.where(own, logs - pattern, 0.0)
    seams = own.any((1, 2)).sum()
    offset = off.sum() / max(1, own.sum()) * seams / (seams + prior)
    found: Doubles = pattern + offset + np.where(own, off - offset, 0.0).sum(0) / (own.sum(0) + prior)
    return found
