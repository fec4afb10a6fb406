"""From features of good seams to a model directory: split, fit, save, calibrate, report.

What `edged train` and the shipped models' recipes call; runs in the training process, which has torch. Every
detector that is trained goes through `write_calibrated`; Causal-HM's half is here, the grid methods' is
`pipelines/grid_build.py`.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.causal_hm import OPTIONAL, REQUIRED, CausalHM, save_model
from pipelines.features.extractor import SeamFeatures
from pipelines.live_fit import fit_live, live_thresholds
from pipelines.live_scorer import save_live
from pipelines.model_files import save_thresholds
from pipelines.normaliser import Normaliser
from pipelines.setpoint_knn import SetpointKnn
from pipelines.thresholds import (
    DEFAULT_ALPHA,
    VERDICT_SIGNAL,
    Threshold,
    ThresholdTable,
    TooFewGoodsError,
    calibrate,
    goods_needed,
)
from pipelines.training import Fitted, Split, TrainConfig, fit, session_groups, split_by_session
from pipelines.window import Score

__all__ = ["Fresh", "Goods", "NoBackbone", "Progress", "build_causal_hm", "write_calibrated"]

Progress = Callable[[str, int, int, float], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Goods:
    """Good seams in order of time, what was set for each, and which part each is in."""

    features: Sequence[SeamFeatures]
    set_points: Sequence[Mapping[str, float]]
    split: Split


class Fresh(Protocol):
    """A detector that was fitted and has no thresholds yet.

    `requires`: kinds of stream without which it does not score; `optional`: kinds without which it needs a threshold
    of its own. `about` goes into the report beside `report`, the training's own figures.
    """

    @property
    def pipeline(self) -> str: ...
    @property
    def programs(self) -> tuple[str, ...]: ...
    @property
    def requires(self) -> tuple[str, ...]: ...
    @property
    def optional(self) -> tuple[str, ...]: ...
    @property
    def report(self) -> Mapping[str, Any]: ...
    @property
    def about(self) -> Mapping[str, Any]: ...
    @property
    def normaliser(self) -> Normaliser: ...

    def kinds(self, features: SeamFeatures) -> frozenset[str]:
        """The kinds that a seam's threshold goes by."""
        ...

    def comparable(self, features: SeamFeatures) -> bool:
        """Whether a seam that has the required kinds can be scored."""
        ...

    def save(self, path: Path) -> str:
        """Write the model directory; returns the model's id."""
        ...

    def scorer(self, model_id: str) -> Callable[[SeamFeatures], Score]:
        """Scores from features, without thresholds."""
        ...


def write_calibrated(fresh: Fresh, goods: Goods, out: Path, alpha: float, seconds: float) -> dict[str, Any]:
    """Write the model directory `out` with thresholds from the calibration goods; returns the training report.

    A program with too few goods for a threshold is named in the report with how many more it needs.
    """
    out.mkdir(parents=True, exist_ok=True)
    split = goods.split
    known = [(goods.features[i].program, goods.set_points[i]) for i in (*split.train.tolist(), *split.fit.tolist())]
    SetpointKnn.fit(known).save(out / "setpoints.json")
    model_id = fresh.save(out)
    held_out = [goods.features[i] for i in split.calibration]
    table, refused = _thresholds(model_id, fresh, held_out, alpha)
    used = np.concatenate([split.train, split.fit])
    sessions = session_groups(goods.features)[used]
    live = fit_live([goods.features[i] for i in used], sessions, fresh.normaliser)
    save_live(live, out)
    for threshold in live_thresholds(live, model_id, held_out, alpha):
        table.add(threshold)
    report = {
        "model_id": model_id,
        "pipeline": fresh.pipeline,
        "programs": list(fresh.programs),
        **fresh.about,
        "alpha": alpha,
        "seams": {"train": len(split.train), "fit": len(split.fit), "calibration": len(split.calibration)},
        "sessions": len({f.session for f in goods.features}),
        "training": dict(fresh.report),
        "training_s": round(seconds, 1),
        "thresholds": {_name(t): round(t.value, 4) for t in table},
        "refused": refused,
    }
    (out / "report.md").write_text(_markdown(report), encoding="utf-8")
    save_thresholds(table, out)
    return report


def _name(threshold: Threshold) -> str:
    signal = "" if threshold.signal == VERDICT_SIGNAL else f"{threshold.signal}, "
    return f"{threshold.program} [{signal}{'+'.join(threshold.streams)}]"


def _thresholds(
    model_id: str, fresh: Fresh, goods: Sequence[SeamFeatures], alpha: float
) -> tuple[ThresholdTable, list[str]]:
    """One threshold per program and set of streams that may survive: all of them, and without each optional one."""
    table, refused = ThresholdTable(), []
    score = fresh.scorer(model_id)
    usable = [f for f in goods if set(fresh.requires) <= f.kinds and fresh.comparable(f)]
    for program in fresh.programs:
        own = [f for f in usable if f.program == program]
        for dropped in _subsets(fresh.optional):
            by_kinds: dict[frozenset[str], list[float]] = {}
            for features in own:
                masked = features.without(set(dropped))
                if set(dropped) <= fresh.kinds(features):
                    by_kinds.setdefault(fresh.kinds(masked), []).append(score(masked).raw)
            if not by_kinds and not dropped:
                by_kinds[frozenset(fresh.requires)] = []
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


class NoBackbone:
    """Calibration scores features that were already extracted."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Raises RuntimeError."""
        raise RuntimeError("calibration needs no backbone")

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raises RuntimeError."""
        raise RuntimeError("calibration needs no backbone")


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
    seconds = time.monotonic() - began
    return write_calibrated(_FreshCausal(fitted), Goods(features, set_points, split), out, alpha, seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class _FreshCausal:
    fitted: Fitted
    pipeline: str = "causal_hm"
    requires: tuple[str, ...] = REQUIRED
    optional: tuple[str, ...] = OPTIONAL

    @property
    def programs(self) -> tuple[str, ...]:
        return self.fitted.programs

    @property
    def report(self) -> Mapping[str, Any]:
        return self.fitted.report

    @property
    def about(self) -> Mapping[str, Any]:
        return {"views": list(self.fitted.views)}

    @property
    def normaliser(self) -> Normaliser:
        return self.fitted.normaliser

    def kinds(self, features: SeamFeatures) -> frozenset[str]:
        return self.fitted.kinds(features)

    def comparable(self, features: SeamFeatures) -> bool:
        return any(view.located == self.fitted.normaliser.located for view in features.views.values())

    def save(self, path: Path) -> str:
        metrics = {"held_out_explained_variance": self.fitted.report["explained_variance"]}
        return save_model(self.fitted, path, metrics)

    def scorer(self, model_id: str) -> Callable[[SeamFeatures], Score]:
        return CausalHM(model_id, self.fitted, ThresholdTable(), NoBackbone()).score


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
