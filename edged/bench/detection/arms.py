"""Which runs a contrast or a bar compares: names of pipelines and ablations, and how runs are found by them.

A run is found by `pipeline` and `ablation` (null: as delivered). Where a pipeline ran over several pairs, fusions or
presets, the variant in the protocol's own pair is meant, then preset `cell`, then the fastest sensor. A run whose
`seed` is null is deterministic and stands beside every seed.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from edged.bench.detection.scored import ROW_FIELDS, Run

__all__ = [
    "ABLATIONS", "MAIN_PAIR", "MARGINAL", "ORACLE", "PROCESS_ONLY", "PRODUCT", "RESULT_ONLY", "Arm", "corpora_of",
    "oracle_of", "pair_name", "plain", "side_of", "title", "variant_of", "variants",
]  # fmt: skip

PRODUCT = "causal_hm_full"
ORACLE = "oracle"
"""Runs of the supervised oracle over the same seams, where there are any; else the report of `edged bench cell`.

The oracle learns each type by itself, so it has a run a type: `ablation` "type:NAME", goods and that type's seams.
"""
MAIN_PAIR = "geo,proc"
PROCESS_ONLY = ("setpoint_knn", "sensor_mahalanobis", "process_oneclass", "late_fusion")
RESULT_ONLY = ("patchcore", "dinomaly", "simplenet", "efficientad", "memae")
"""What these see where their row names no pair."""
MARGINAL = (*PROCESS_ONLY, *RESULT_ONLY, "memory_bank", "memory_bank_concat")
"""Baselines that see one half, as far as `side_of` says so: a memory bank over (geo,proc) is none."""

ABLATIONS = {
    "direction:p_to_r": "causal_hm with the result as target",
    "direction:r_to_p": "causal_hm with the process as target; same target dimension, decoder, covariance score",
    "direction:symmetric": "sum of both directions",
    "anti_generalisation:off": "causal_hm_full without mask, Gaussian noise and linear attention",
    "sensor:off": "causal_hm_full trained and tested without the sensor stream",
    "sensor_noise:0.3": "white noise of 0.3 training spreads on the raw sensor samples of test seams",
    "stream:noise": "causal_hm_full with one more stream that is pure noise",
    "stream:random_views": "causal_hm_full with photographs from random viewpoints joined",
    "streams:image": "causal_hm_full that gets photographs only",
}
"""Values of `ablation` that the protocol's contrasts and bars ask for; any other is exploratory."""

CHANGING = ("seed", "corpus", "schedule", "sim_version")


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """One side of a comparison."""

    pipeline: str
    ablation: str | None = None
    pair: str | None = None
    """Only this pair; None: the protocol's where it ran, else whichever did."""

    def __str__(self) -> str:
        words = (self.pipeline, self.pair and f"({self.pair})", self.ablation and f"[{self.ablation}]")
        return " ".join(word for word in words if word)


def pair_name(row: Any) -> str | None:
    """ "geo,proc" from a list or a string; None where the row has no pair."""
    pair = row.get("pair")
    if pair is None:
        return None
    return ",".join(pair) if isinstance(pair, list | tuple) else str(pair).strip("()").replace(" ", "")


def side_of(row: Any) -> str:
    """What a run sees of a weld: "process" or "result" alone, else "joint"; by its pair, without one by its name."""
    pipeline, pair = row.get("pipeline"), pair_name(row)
    if pipeline in PROCESS_ONLY:
        return "process"
    if pair is None:
        return "result" if pipeline in RESULT_ONLY else "joint"
    process = {name == "proc" for name in pair.split(",")}
    return "joint" if len(process) > 1 else "process" if True in process else "result"


def variant_of(run: Run) -> str:
    """What two runs share that differ only in seed, corpus, schedule or version of the cell."""
    return json.dumps([run.row.get(name) for name in ROW_FIELDS if name not in CHANGING])


def variants(runs: Iterable[Run], arm: Arm) -> list[list[Run]]:
    """The runs of an arm, a list for each variant, the one that the protocol means first; empty where none ran."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        right = run.row.get("pipeline") == arm.pipeline and run.row.get("ablation") == arm.ablation
        if right and arm.pair in (None, pair_name(run.row)):
            found.setdefault(variant_of(run), []).append(run)
    return sorted(found.values(), key=_preference)


def oracle_of(runs: Iterable[Run], kind: str) -> list[Run]:
    """The oracle's runs on one type, else those of an oracle over all types at once; empty where there are none."""
    every = list(runs)
    found = variants(every, Arm(ORACLE, f"type:{kind}")) or variants(every, Arm(ORACLE))
    return found[0] if found else []


def corpora_of(runs: Iterable[Run]) -> list[str]:
    """Names of the corpora, sorted."""
    return sorted({str(run.row.get("corpus")) for run in runs})


def plain(runs: Iterable[Run]) -> list[list[Run]]:
    """Every variant without ablation, in the order of the runs, the product first."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.row.get("ablation") is None:
            found.setdefault(variant_of(run), []).append(run)
    return sorted(found.values(), key=lambda group: group[0].row.get("pipeline") != PRODUCT)


def title(row: Any) -> str:
    """Pipeline with what tells it from its sisters, for tables and legends."""
    extra = [pair_name(row), row.get("fusion"), row.get("ablation")]
    extra += [f"{row['sensor_rate']} Hz"] if row.get("sensor_rate") else []
    extra += [row["preset"]] if row.get("preset") not in (None, "cell") else []
    said = ", ".join(str(part) for part in extra if part is not None)
    return f"{row.get('pipeline')} ({said})" if said else str(row.get("pipeline"))


def _preference(group: Sequence[Run]) -> tuple[Any, ...]:
    row = group[0].row
    rate = row.get("sensor_rate")
    return (
        pair_name(row) != MAIN_PAIR,
        row.get("preset") not in (None, "cell"),
        -float(rate) if isinstance(rate, int | float) else float("-inf"),
        variant_of(group[0]),
    )
