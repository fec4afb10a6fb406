"""From features of good seams to a model directory: split, fit, save, calibrate, report.

What `edged train` and the shipped model's recipe call; runs in the training process, which has torch.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.causal_hm import OPTIONAL, CausalHM, save_model, save_thresholds
from pipelines.features.extractor import SeamFeatures
from pipelines.setpoint_knn import SetpointKnn
from pipelines.thresholds import DEFAULT_ALPHA, ThresholdTable, TooFewGoodsError, calibrate, goods_needed
from pipelines.training import Fitted, TrainConfig, fit, split_by_session

__all__ = ["build_causal_hm"]

Progress = Callable[[str, int, int, float], None]


def build_causal_hm(
    features: Sequence[SeamFeatures],
    set_points: Sequence[Mapping[str, float]],
    out: Path,
    config: TrainConfig | None = None,
    alpha: float = DEFAULT_ALPHA,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on goods in order of time and write the model directory `out`; returns the training report.

    Raises ValueError when the goods do not suffice for training. A program with too few goods for a threshold is
    trained all the same and named in the report with how many more it needs.
    """
    config = dataclasses.replace(config or TrainConfig(), calibration_goods=goods_needed(alpha))
    began = time.monotonic()
    split = split_by_session(features, config)
    fitted = fit(features, split, config, progress)
    out.mkdir(parents=True, exist_ok=True)
    goods = [(features[i].program, set_points[i]) for i in (*split.train.tolist(), *split.fit.tolist())]
    SetpointKnn.fit(goods).save(out / "setpoints.json")
    seconds = time.monotonic() - began
    model_id = save_model(fitted, out, {"held_out_explained_variance": fitted.report["explained_variance"]})
    held_out = [features[i] for i in split.calibration]
    table, refused = _thresholds(model_id, fitted, held_out, alpha)
    report = {
        "model_id": model_id,
        "pipeline": "causal_hm",
        "programs": list(fitted.programs),
        "views": list(fitted.views),
        "alpha": alpha,
        "seams": {"train": len(split.train), "fit": len(split.fit), "calibration": len(split.calibration)},
        "sessions": len({f.session for f in features}),
        "training": fitted.report,
        "training_s": round(seconds, 1),
        "thresholds": {f"{t.program} [{'+'.join(t.streams)}]": round(t.value, 4) for t in table},
        "refused": refused,
    }
    (out / "report.md").write_text(_markdown(report), encoding="utf-8")
    save_thresholds(table, out)
    return report


def _thresholds(
    model_id: str, fitted: Fitted, goods: Sequence[SeamFeatures], alpha: float
) -> tuple[ThresholdTable, list[str]]:
    """One threshold per program and set of streams that may survive: all of them, and without each optional one."""
    table, refused = ThresholdTable(), []
    scorer = CausalHM(model_id, fitted, table, _NoBackbone())
    for program in fitted.programs:
        own = [f for f in goods if f.program == program and {"welder", "result"} <= f.kinds]
        own = [f for f in own if any(v.located == fitted.normaliser.located for v in f.views.values())]
        for dropped in _subsets(OPTIONAL):
            by_kinds: dict[frozenset[str], list[float]] = {}
            for features in own:
                masked = features.without(set(dropped))
                if set(dropped) <= fitted.kinds(features):
                    by_kinds.setdefault(fitted.kinds(masked), []).append(scorer.score(masked).raw)
            if not by_kinds and not dropped:
                by_kinds[frozenset({"welder", "result"})] = []
            for kinds, raw in by_kinds.items():
                if table.find(model_id, program, kinds) is not None:
                    continue
                try:
                    table.add(calibrate(model_id, program, kinds, raw, alpha))
                except TooFewGoodsError as error:
                    if not dropped:
                        refused.append(str(error))
    return table, refused


def _subsets(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    return [some for n in range(len(kinds) + 1) for some in itertools.combinations(kinds, n)]


class _NoBackbone:
    """Calibration scores features that were already extracted."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("calibration needs no backbone")

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        raise RuntimeError("calibration needs no backbone")


def _markdown(report: Mapping[str, Any]) -> str:
    training = report["training"]
    lines = [
        f"# Training report of {report['model_id']}",
        "",
        f"Trained on good seams only, split by session ({report['sessions']} sessions): "
        + ", ".join(f"{n} {part}" for part, n in report["seams"].items())
        + f". {report['training_s']} s.",
        "",
        "| figure | value |",
        "|---|---|",
        *(
            f"| {name.replace('_', ' ')} | {value:.4g} |"
            if isinstance(value, float)
            else f"| {name.replace('_', ' ')} | {value} |"
            for name, value in training.items()
        ),
        "",
        f"Thresholds for a false-alarm budget of {report['alpha']:.1%} (raw score):",
        "",
        "| program [streams] | limit |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in report["thresholds"].items()),
    ]
    if report["refused"]:
        lines += ["", "Without a threshold:", "", *(f"- {line}" for line in report["refused"])]
    return "\n".join(lines) + "\n"
