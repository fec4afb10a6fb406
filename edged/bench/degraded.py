"""`edged bench degraded`: what a delivered model finds, and how often it cries wolf, on data that are not whole.

Two ways to lose: a stream is missing, and the seam is judged by the limit of the streams that are left; or a stream
is there and spoilt (as `edged bench corruption` renders it), and nobody told the model. Both on test seams of a
corpus that the model never saw, with the model's own limits.
"""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from edged.bench.detect import WORK
from edged.bench.results_part import write_part
from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE
from pipelines.metrics import auroc, false_alarm_rate

if TYPE_CHECKING:
    from edged.bench.detection.data import CorpusData
    from edged.bench.detection.scored import TestSeam
    from pipelines.features.extractor import SeamFeatures

__all__ = ["Judged", "bench_degraded", "degraded_rows", "judged_row"]

OPTIONAL = ("audio", "video", "profile")
CORRUPTED = (
    ("sensor_noise", 0.3), ("sensor_dropout", 0.5), ("time_shift", 400.0), ("muted_microphone", 1.0),
    ("dark_camera", 1.0),
)  # fmt: skip
"""The process streams' corruptions, each at its hardest level; see `edged bench corruption` for all."""

BUDGET = 0.01
"""Of the shipped models; a row whose interval lies above it is shown in red."""

Judge = Callable[["SeamFeatures"], "Judged"]


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """One seam: its raw score and whether it lies above its limit; both None where the model refuses it."""

    raw: float | None
    flagged: bool | None


def bench_degraded(
    model: Annotated[str, typer.Option(help="Directory, or a model that ships.")] = "demo",
    work: Annotated[Path, typer.Option(help="Corpora; a next time goes on from them.")] = WORK,
    corpus: Annotated[int, typer.Option(help="Which corpus, at the quick protocol's size.")] = 2,
    seams: Annotated[int, typer.Option(min=2, help="So many test goods, and as many defects, are spoilt.")] = 40,
    spoilt: Annotated[bool, typer.Option(help="Spoilt streams too, which are rendered again.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes and threads.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
    results: Annotated[Path | None, typer.Option(help="Markdown file whose marked part is replaced.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Measure a model with missing and with spoilt streams."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported, by what runs below
    console = Console(stderr=True)
    try:
        found, model_id = _measure(model, work, corpus, seams, spoilt, jobs, cache_dir.expanduser(), console)
        report = {"model_id": model_id, "corpus": corpus, "rows": found}
        if json_out is not None:
            json_out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if results is not None:
            write_part(results, "degraded", _markdown(report, seams, spoilt))
    except (ValueError, OSError) as error:
        console.print(f"[red]edged bench degraded:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    Console().print(_table(found))


def _measure(
    model: str, work: Path, number: int, seams: int, spoilt: bool, jobs: int, cache_dir: Path, console: Console
) -> tuple[list[dict[str, Any]], str]:
    from edged.bench.detection.corpus import QUICK, corpus_in, plan_corpus
    from edged.bench.detection.corrupted import chosen_seams, only_seams, render_twins
    from edged.bench.detection.corruptions import CORRUPTIONS
    from edged.bench.detection.data import load_corpus, load_seams
    from pipelines.causal_hm import CausalHM
    from pipelines.models import ModelError, load_detector

    planned = plan_corpus(number, QUICK)
    data = load_corpus(planned, corpus_in(work, planned, jobs, cache_dir, console))
    try:
        detector = load_detector(model, threads=jobs, cache_dir=cache_dir)
    except ModelError as error:
        raise ValueError(str(error)) from error
    if not isinstance(detector, CausalHM):
        raise ValueError(f"model {model} is no causal_hm; detectors of a pair do not score a seam with half of it")

    def judge(features: "SeamFeatures") -> Judged:
        try:
            score = detector.score(features)
        except ValueError:  # INDETERMINATE in the daemon
            return Judged(None, None)
        return Judged(score.raw, None if score.score is None else score.score >= 1.0)

    with progress_bars(console) as bars:
        features, seams_of_all = _all_seams(data)
        shown = functools.partial(bars.track, description="missing streams")
        cases = list(degraded_rows(features, seams_of_all, judge, shown))
    if spoilt:
        rows = chosen_seams(planned, seams)
        few = only_seams(data, rows)
        cases.append(judged_row("whole, the seams below", few.seams, map(judge, few.testing())))
        for name, level in CORRUPTED:
            said = f"spoilt: {name.replace('_', ' ')} {level:g} {CORRUPTIONS[name].unit}"
            folder = work / "corruption" / planned.name / f"{name}-{level:g}"
            with progress_bars(console) as bars:
                shown = functools.partial(bars.track, description=said)
                render_twins(planned, rows, (name, level), folder, jobs, cache_dir, shown)
            twins = load_seams([planned.plans[i] for i in few.test], folder)
            cases.append(judged_row(said, few.seams, map(judge, twins)))
    return cases, detector.model_id


def _all_seams(data: "CorpusData") -> tuple[list["SeamFeatures"], list["TestSeam"]]:
    """The corpus' test seams, and every other good one too: none of them taught the delivered model."""
    from edged.bench.detection.scored import TestSeam

    others = np.setdiff1d(np.arange(len(data.features)), data.test)
    more = [data.features[i] for i in others]
    goods = [TestSeam(f.seam_id, f.program, f.session, "good") for f in more]
    return [*data.testing(), *more], [*data.seams, *goods]


def degraded_rows(
    features: Sequence["SeamFeatures"],
    seams: Sequence["TestSeam"],
    judge: Judge,
    progress: Callable[[Sequence[Any]], Any] = iter,
) -> Iterator[dict[str, Any]]:
    """A row for each set of optional streams that may be missing, the whole seam first; last one without current."""
    sets = [some for n in range(len(OPTIONAL) + 1) for some in itertools.combinations(OPTIONAL, n)]
    for lost in progress([*sets, ("welder",)]):
        name = f"missing: {', '.join(lost)}" if lost else "all streams"
        yield judged_row(name, seams, (judge(f.without(frozenset(lost))) for f in features))


def judged_row(name: str, seams: Sequence["TestSeam"], judged: Iterable[Judged]) -> dict[str, Any]:
    """AUROC (drift left out, which is no fault of the weld) and realised false alarms, with intervals by session."""
    pairs = list(zip(seams, judged, strict=True))
    scored = [(seam, found) for seam, found in pairs if found.raw is not None and seam.family != "drift"]
    goods = [(seam, found) for seam, found in pairs if not seam.bad and found.flagged is not None]
    raw = [float(found.raw) for _, found in scored if found.raw is not None]
    area = auroc([seam.bad for seam, _ in scored], raw, [seam.session for seam, _ in scored]) if raw else None
    alarms = false_alarm_rate([bool(found.flagged) for _, found in goods], [seam.session for seam, _ in goods])
    return {
        "case": name,
        "auroc": None if area is None else area.value,
        "auroc_ci": None if area is None else area.ci,
        "false_alarms": alarms.value,
        "false_alarms_ci": alarms.ci,
        "goods": len(goods),
        "bads": int(np.sum([seam.bad for seam, _ in scored])),
        "indeterminate": sum(found.flagged is None for _, found in pairs),
        "seams": len(pairs),
    }


COLUMNS = ("case", "AUROC", "false alarms", "goods / bads", "INDETERMINATE")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["case"],
        _figure(row["auroc"], row["auroc_ci"]),
        _figure(row["false_alarms"], row["false_alarms_ci"]),
        f"{row['goods']} / {row['bads']}",
        f"{row['indeterminate']} of {row['seams']}",
    )


def _figure(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval is not None else "")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(*COLUMNS, title="missing and spoilt streams")
    for row in rows:
        beyond = row["false_alarms_ci"] is not None and row["false_alarms_ci"][0] > BUDGET
        table.add_row(*_cells(row), style="red" if beyond else None)
    return table


def _markdown(report: dict[str, Any], seams: int, spoilt: bool) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(_cells(row) for row in report["rows"])]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    flags = f"--seams {seams}" if spoilt else "--no-spoilt"
    return (
        f"{table}\n\nMade by `edged bench degraded --corpus {report['corpus']} {flags} --results docs/results.md`, "
        f"model {report['model_id']}, its own limits for 1 %; intervals are 95 % and by session; *drift* is out of "
        "AUROC. What integrity and sensor health would have said of spoilt streams is not in it: they come first.\n"
    )
