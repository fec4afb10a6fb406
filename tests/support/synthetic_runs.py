"""Runs with known answers: scores drawn from normal laws whose AUROC has a closed form."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from edged.bench.detection.scored import ROW_FIELDS, Run, TestSeam

SIZES = (0.5, 1.0, 2.0, 4.0, 8.0)
TYPES = {"process": ("tip_wear",), "result": ("scratch",), "pair": ("derangement",), "both": ("gas_loss", "undercut")}


def seams(n_good: int = 600, each: int = 30, sessions: int = 16, corpus: str = "1") -> tuple[TestSeam, ...]:
    """Goods, then every type × 5 severities × `each`, dealt to the sessions in turn."""
    out = [TestSeam(f"{corpus}g{k}", f"p{k % 10}", f"s{k % sessions}", "good") for k in range(n_good)]
    for family, types in TYPES.items():
        for name in types:
            for severity, size in enumerate(SIZES, 1):
                out += [
                    TestSeam(f"{corpus}{name}{severity}-{k}", f"p{k % 10}", f"s{k % sessions}", family, name,
                             severity, size, "mm", 20.0, 40.0)
                    for k in range(each)
                ]  # fmt: skip
    return tuple(out)


def shift_for(auroc: float) -> float:
    """How far apart two unit normals lie for this AUROC."""
    return float(np.sqrt(2) * norm.ppf(auroc))


def row(**values: Any) -> dict[str, Any]:
    return dict.fromkeys(ROW_FIELDS) | {"corpus": 1, "seed": 0, "sim_version": "1.0", "schedule": "cpu-60"} | values


def a_run(
    about: Mapping[str, Any], auroc: Mapping[str, float], tested: Sequence[TestSeam] | None = None, seed: int = 0
) -> Run:
    """Scores exp(z − limit): z normal, moved for bads of a family so that its AUROC is as asked (default 0.5)."""
    tested = tuple(tested or seams(corpus=str(about["corpus"])))
    z = np.random.default_rng(seed).standard_normal(len(tested))
    z += [shift_for(auroc.get(seam.family, 0.5)) if seam.bad else 0.0 for seam in tested]
    return Run(row=about, seams=tested, score=np.exp(z - norm.ppf(0.99)))


def with_part(run: Run, name: str, auroc: Mapping[str, float], seed: int) -> Run:
    return dataclasses.replace(run, parts={**run.parts, name: a_run(run.row, auroc, run.seams, seed).score})
