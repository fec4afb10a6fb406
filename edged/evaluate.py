"""`edged eval`: how well a model separates the recordings of a folder; the only verb that opens `truth.jsonl`.

Every seam goes through the real engine and the same extractor as live. Beside the model stands the set-point
baseline: a figure that it reaches too is no evidence of having looked at the weld.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from drivers.mcap_codec import RecordingError
from edged.bulk_pool import bulk_pool
from edged.manifest import TRUTH
from edged.recorded import RecordedSeam, list_recorded, rescore
from edged.train import DEFAULT_CACHE
from edged.types import Label
from pipelines.metrics import Auroc, auroc, false_alarm_rate
from pipelines.models import ModelError, load_detector, model_directory
from pipelines.setpoint_knn import SetpointKnn

__all__ = ["evaluate", "evaluate_model", "evaluation"]

COMPONENTS = ("s_P", "s_R", "s_RP")


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredSeam:
    """One seam of the evaluation. `score` is None where the verdict was INDETERMINATE for want of one."""

    seam_id: str
    program: str
    session: str
    family: str
    type: str | None
    score: float | None
    flagged: bool
    components: Mapping[str, float]
    setpoint: float

    @property
    def bad(self) -> bool:
        """Whether the truth names a fault."""
        return self.family != "good"


def evaluate(
    recordings: Annotated[Path, typer.Option(help="Folder with recordings, manifest.jsonl and truth.jsonl.")],
    model: Annotated[str, typer.Option(help='Model directory, or "demo".')] = "demo",
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
) -> None:
    """Score recordings and compare with their truth."""
    console = Console(stderr=True)
    try:
        report = evaluate_model(recordings, model, cache_dir.expanduser(), jobs, console)
    except (ValueError, OSError, RecordingError, ModelError) as error:
        console.print(f"[red]edged eval:[/red] {error}")
        raise typer.Exit(2) from error
    _print(report, console)
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def evaluate_model(
    recordings: Path, model: str, cache_dir: Path, jobs: int = 1, console: Console | None = None
) -> dict[str, Any]:
    """The figures of `edged eval --json`. Raises ValueError, RecordingError or ModelError."""
    seams = list_recorded(recordings)
    truth = read_truth(recordings / TRUTH)
    unknown = [seam.seam_id for seam in seams if seam.seam_id not in truth]
    if unknown:
        raise ValueError(
            f"{recordings / TRUTH}: no line for {', '.join(unknown[:5])}; {len(unknown)} seam(s) lack one"
        )
    directory = model_directory(model)
    # Loaded here once: a model that cannot be loaded is one clear message, and its graphs are exported only once.
    budget = _budget(load_detector(model, cache_dir=cache_dir))
    knn = _setpoint_model(directory)
    scored = []
    with bulk_pool(jobs) as pool:
        found = pool.map(_score_one, seams, [model] * len(seams), [cache_dir] * len(seams))
        for seam, (score, flagged, components) in zip(
            seams, track(found, "scoring", total=len(seams), console=console or Console(quiet=True)), strict=True
        ):
            about = truth[seam.seam_id] or {}
            scored.append(
                ScoredSeam(
                    seam.seam_id,
                    seam.program,
                    seam.session,
                    str(about.get("family") or "good"),
                    about.get("type"),
                    score,
                    flagged,
                    components,
                    0.0 if knn is None else knn.score(seam.program, seam.set_points),
                )
            )
    return evaluation(scored, budget) | {"model": model}


def read_truth(path: Path) -> dict[str, dict[str, Any] | None]:
    """Truth by seam id. Raises ValueError when the file is missing."""
    if not path.exists():
        raise ValueError(f"{path}: missing; evaluation needs to know which seams are bad")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {line["seam_id"]: line.get("truth") for line in lines}


_detectors: dict[str, Any] = {}
"""One loaded model per scoring process."""


def _score_one(seam: RecordedSeam, model: str, cache_dir: Path) -> tuple[float | None, bool, dict[str, float]]:
    """(score, flagged, components); the raw score where the program has no threshold."""
    from edged.local_scorer import LocalScorer

    if model not in _detectors:
        _detectors[model] = load_detector(model, cache_dir=cache_dir)
    verdict = rescore(seam.path, LocalScorer({seam.program: _detectors[model]}), model)
    if verdict.score is None:
        return None, False, {}
    score = verdict.score
    return score.score if score.score is not None else score.raw, verdict.label is Label.NOK, dict(score.components)


def _budget(detector: Any) -> float | None:
    """The false-alarm budget of the model's thresholds, where it has any."""
    alphas = {threshold.alpha for threshold in getattr(detector, "thresholds", ())}
    return max(alphas) if alphas else None


def _setpoint_model(directory: Path) -> SetpointKnn | None:
    path = directory / "setpoints.json"
    return SetpointKnn.load(path) if path.exists() else None


def evaluation(seams: Sequence[ScoredSeam], budget: float | None) -> dict[str, Any]:
    """All figures. Seams without a score count as indeterminate and as nothing else."""
    known = [s for s in seams if s.score is not None]
    goods = [s for s in known if not s.bad]
    families = sorted({s.family for s in known if s.bad})
    types = sorted({s.type for s in known if s.bad and s.type is not None})

    def against(bads: Sequence[ScoredSeam], value: str) -> Auroc:
        rows = [*goods, *bads]
        return auroc([s.bad for s in rows], [_value(s, value) for s in rows], [s.session for s in rows])

    def by_family(value: str) -> dict[str, Any]:
        return {f: _row(against([s for s in known if s.family == f], value)) for f in families}

    bads = [s for s in known if s.bad]
    whole, setpoint = against(bads, "score"), against(bads, "setpoint")
    rate = false_alarm_rate([s.flagged for s in goods], [s.session for s in goods])
    return {
        "n_good": sum(not s.bad for s in seams),
        "n_bad": sum(s.bad for s in seams),
        "indeterminate": len(seams) - len(known),
        "auroc": whole.value,
        "ci": _interval(whole.ci),
        "by_family": by_family("score"),
        "by_type": {t: _row(against([s for s in known if s.bad and s.type == t], "score")) for t in types},
        "components": {
            name: {**_row(against(bads, name)), "by_family": by_family(name)}
            for name in COMPONENTS
            if all(name in s.components for s in known)
        },
        "setpoint_knn": {
            "auroc": setpoint.value,
            "ci": _interval(setpoint.ci),
            "by_family": by_family("setpoint"),
        },
        "far": {"value": rate.value, "ci": _interval(rate.ci), "n": rate.n, "budget": budget},
    }


def _value(seam: ScoredSeam, name: str) -> float:
    if name == "score":
        assert seam.score is not None  # only seams with a score are compared
        return seam.score
    return seam.setpoint if name == "setpoint" else seam.components[name]


def _row(found: Auroc) -> dict[str, Any]:
    return {"auroc": found.value, "ci": _interval(found.ci), "n": found.n}


def _interval(ci: tuple[float, float] | None) -> list[float] | None:
    return None if ci is None else list(ci)


def _print(report: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"{report['n_good']} good, {report['n_bad']} bad, {report['indeterminate']} indeterminate")
    for column in ("", "n", "AUROC", "95 %", "set-points alone"):
        table.add_column(column)
    rows = [("all", {"auroc": report["auroc"], "ci": report["ci"], "n": report["n_bad"]}, report["setpoint_knn"])]
    rows += [(f, row, report["setpoint_knn"]["by_family"][f]) for f, row in report["by_family"].items()]
    rows += [(f"  {t}", row, None) for t, row in report["by_type"].items()]
    for name, row, baseline in rows:
        ci = "" if row["ci"] is None else f"{row['ci'][0]:.3f}–{row['ci'][1]:.3f}"
        table.add_row(name, str(row["n"]), _figure(row["auroc"]), ci, _figure(baseline and baseline["auroc"]))
    console.print(table)
    far = report["far"]
    if far["value"] is not None:
        interval = f"{far['ci'][0]:.2%}–{far['ci'][1]:.2%}"
        budget = "no threshold" if far["budget"] is None else f"budget {far['budget']:.1%}"
        console.print(f"false alarms: {far['value']:.2%} ({interval}) of {far['n']} goods, {budget}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
