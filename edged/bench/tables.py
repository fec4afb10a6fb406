"""The study's statistics as tables: one row a seam, goods and every family's defects in the same order as the plans.

Between study (files on disk) and probes, oracle and pairs. Pairs are put together here: the process row of one seam,
the result row of its partner.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edged.bench.study import Study

__all__ = ["Scale", "Side", "Tables", "Windows", "load_tables", "within_program"]

Matrix = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All 100 ms windows of one side, rows (m, k) float32; `seam`: whose each is; `number`: its place in the seam."""

    rows: NDArray[np.float32]
    seam: NDArray[np.int64]
    number: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One row for each base seam: the goods themselves, or a family's defects on them.

    `extent`: onset and end, s after arc-on (NaN: none). `severity` 0 and `type` "" for goods.
    """

    family: str
    type: NDArray[np.str_]
    severity: NDArray[np.int64]
    process: Matrix
    result: Matrix
    metadata: Matrix
    setpoints: Matrix
    extent: Matrix
    windows: Windows | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """`sides["good"]` and one side a family. `bead`: true width, height, area of the goods, (n, 3)."""

    sides: dict[str, Side]
    program: NDArray[np.str_]
    session: NDArray[np.str_]
    bead: Matrix
    process_names: tuple[str, ...]
    result_names: tuple[str, ...]
    window_names: tuple[str, ...]


def load_tables(study: Study, paths: Sequence[Path]) -> Tables:
    """Read what `measure` wrote and put the pairs together."""
    files = [_read(path) for path in paths]
    first = files[0]
    sides = {"good": _side("good", study, files)}
    sides |= {family: _side(family, study, files) for family in study.defects}
    bead = np.stack([file["good.truth"][:3] for file in files])
    sides["pair"] = _pairs(study, sides["good"], files, bead)
    return Tables(
        sides,
        np.array([plan.program for plan in study.base]),
        np.array([plan.session for plan in study.base]),
        bead,
        tuple(map(str, first["process_names"])),
        tuple(map(str, first["result_names"])),
        tuple(map(str, first["window_names"])),
    )


def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    with np.load(path) as file:
        return dict(file)


def _side(family: str, study: Study, files: Sequence[dict[str, NDArray[np.float64]]]) -> Side:
    plans = study.base if family == "good" else study.defects[family]  # type: ignore[index]
    faults = [plan.fault for plan in plans]
    stacked = {
        name: np.stack([file[f"{family}.{name}"] for file in files]).astype(np.float64)
        for name in ("process", "result", "setpoints", "extent", "process_meta", "result_meta")
    }
    windows = None if family == "result" else _windows([file[f"{family}.windows"] for file in files])
    return Side(
        family,
        np.array([fault.type if fault is not None else "" for fault in faults]),
        np.array([fault.severity if fault is not None else 0 for fault in faults]),
        stacked["process"],
        stacked["result"],
        _metadata(stacked["process_meta"], stacked["result_meta"]),
        stacked["setpoints"],
        stacked["extent"],
        windows,
    )


def _metadata(process: Matrix, result: Matrix) -> Matrix:
    """Duration, counts, JPEG sizes of both halves, and the size of the whole recording (last column)."""
    size = process[:, -1:] + result[:, 1:2] + 480 * result[:, :1]
    return np.concatenate([process[:, :-1], result, size], axis=1)


def _windows(pieces: Sequence[NDArray[np.float64]]) -> Windows:
    lengths = [len(piece) for piece in pieces]
    number = np.concatenate([np.arange(n) for n in lengths])
    return Windows(np.concatenate(pieces).astype(np.float32), np.repeat(np.arange(len(pieces)), lengths), number)


def _pairs(study: Study, good: Side, files: Sequence[dict[str, NDArray[np.float64]]], bead: Matrix) -> Side:
    from drivers.sim.pairs import pair_distance, pair_severity
    from drivers.sim.programs import program_named

    partner = np.array(study.partner)
    names = ("width_mm", "height_mm", "area_mm2")
    shown = [dict(zip(names, row.tolist(), strict=True)) for row in bead]
    distance = [
        pair_distance(program_named(plan.program), shown[k], shown[partner[k]]) for k, plan in enumerate(study.base)
    ]
    meta = {
        name: np.stack([file[f"good.{name}"] for file in files]).astype(np.float64)
        for name in ("process_meta", "result_meta")
    }
    return dataclasses.replace(
        good,
        family="pair",
        type=np.full(len(bead), "derangement"),
        severity=np.array([pair_severity(steps) for steps in distance]),
        result=good.result[partner],
        metadata=_metadata(meta["process_meta"], meta["result_meta"][partner]),
        windows=None,
    )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Median and spread of each column within each program."""

    centre: dict[str, Matrix]
    spread: dict[str, Matrix]

    def __call__(self, rows: Matrix, program: NDArray[np.str_]) -> Matrix:
        """Robust z of each row within its program; columns that a program does not have stay NaN."""
        out = np.empty(rows.shape)
        for name in np.unique(program):
            mine = program == name
            key = str(name)
            out[mine] = (rows[mine] - self.centre[key]) / self.spread[key]
        return np.clip(out, -50.0, 50.0)


def within_program(rows: Matrix, program: NDArray[np.str_], known: NDArray[np.str_] | None = None) -> Scale:
    """Scale fitted on goods. A program of `known` without a row, or with too few, takes the pooled figures."""
    pooled = _robust(rows)
    centre, spread = {}, {}
    for name in np.unique(program if known is None else known):
        mine = rows[program == name]
        centre[str(name)], spread[str(name)] = _robust(mine) if len(mine) >= 3 else pooled
    return Scale(centre, spread)


def _robust(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Median and spread of each column; a column that never varies has the spread 1, one without values too."""
    absent = np.isnan(rows).all(0)
    filled = np.where(absent, 0.0, rows)
    quartile = np.nanpercentile if np.isnan(filled).any() else np.percentile
    low, centre, high = quartile(filled, (25, 50, 75), axis=0)
    spread = (high - low) / 1.349
    # Counts are mostly 0: their quartiles agree although they vary.
    std = np.nanstd(filled, axis=0)
    spread = np.where(spread > 0.05 * std, spread, std)
    return centre, np.where(spread > 1e-9 * (1 + np.abs(centre)), spread, 1.0)
