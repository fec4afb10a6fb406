"""`edged bench degraded`: what a delivered model finds, and how often it cries wolf, on data that are not whole.

Two ways to lose: a stream is missing, and the seam is judged by the limit of the streams that are left; or a stream
is there and spoilt (as `edged bench corruption` renders it), and nobody told the model. Both on test seams of a
corpus that the model never saw, with the model's own limits. Spoilt seams are counted once more as the daemon answers
them: integrity, strikes and sensor health stand before every score.
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
    from drivers.sim.seam import SeamPlan
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
    """One seam: its raw score and whether it lies above its limit; both None where the model refuses it.

    `before`: why the daemon says INDETERMINATE before any score; None where it does not, or was not asked.
    """

    raw: float | None
    flagged: bool | None
    before: str | None = None


def bench_degraded(
    model: Annotated[str, typer.Option(help="Directory, or a model that ships.")] = "demo",
    work: Annotated[Path, typer.Option(help="Corpora; a next time goes on from them.")] = WORK,
    corpus: Annotated[int, typer.Option(help="Which corpus, at the quick protocol's size.")] = 2,
    seams: Annotated[int, typer.Option(min=2, help="So many test goods, and as many defects, are spoilt.")] = 40,
    missing: Annotated[bool, typer.Option(help="Missing streams.")] = True,
    spoilt: Annotated[bool, typer.Option(help="Spoilt streams, which are rendered again.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes and threads.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
    results: Annotated[Path | None, typer.Option(help="Markdown file whose marked part is replaced.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
) -> None:
    """Measure a model with missing and with spoilt streams."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported, by what runs below
    console = Console(stderr=True)
    try:
        bench = _Bench(model, work, corpus, jobs, cache_dir.expanduser(), console)
        report = {
            "model_id": bench.detector.model_id,
            "corpus": corpus,
            "missing": bench.missing() if missing else [],
            "spoilt": bench.spoilt(seams) if spoilt else [],
        }
        if json_out is not None:
            json_out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if results is not None:
            for part, text in _markdown(report, seams).items():
                write_part(results, part, text)
    except (ValueError, OSError) as error:
        console.print(f"[red]edged bench degraded:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    for table in _tables(report):
        Console().print(table)


class _Bench:
    """A delivered model and the corpus it is asked about. Raises ValueError for a model that this cannot ask."""

    def __init__(self, model: str, work: Path, number: int, jobs: int, cache_dir: Path, console: Console) -> None:
        from edged.bench.detection.corpus import QUICK, corpus_in, plan_corpus
        from edged.bench.detection.data import load_corpus
        from pipelines.causal_hm import CausalHM
        from pipelines.models import ModelError, load_detector

        self._work, self._jobs, self._cache_dir, self._console = work, jobs, cache_dir, console
        self._planned = plan_corpus(number, QUICK)
        self._data = load_corpus(self._planned, corpus_in(work, self._planned, jobs, cache_dir, console))
        try:
            detector = load_detector(model, threads=jobs, cache_dir=cache_dir)
        except ModelError as error:
            raise ValueError(str(error)) from error
        if not isinstance(detector, CausalHM):
            raise ValueError(
                f"model {model} is no causal_hm; detectors of a pair do not score a seam with half of it"
            )
        self.detector = detector

    def missing(self) -> list[dict[str, Any]]:
        """A row for each set of streams that is missing."""
        features, seams = _all_seams(self._data)
        with progress_bars(self._console) as bars:
            shown = functools.partial(bars.track, description="missing streams")
            return list(degraded_rows(features, seams, self._judge, shown))

    def spoilt(self, seams: int) -> list[dict[str, Any]]:
        """A row for each corruption of `seams` test goods and as many defects; the whole seams first."""
        from edged.bench.detection.corrupted import chosen_seams, only_seams, render_twins
        from edged.bench.detection.corruptions import CORRUPTIONS
        from edged.bench.detection.data import load_seams

        rows = chosen_seams(self._planned, seams)
        few = only_seams(self._data, rows)
        plans = [self._planned.plans[i] for i in few.test]
        cases = [judged_row("as they are", few.seams, self._answers(few.testing(), plans, None))]
        for name, level in CORRUPTED:
            said = f"{name.replace('_', ' ')} {level:g} {CORRUPTIONS[name].unit}"
            folder = self._work / "corruption" / self._planned.name / f"{name}-{level:g}"
            with progress_bars(self._console) as bars:
                shown = functools.partial(bars.track, description=said)
                render_twins(self._planned, rows, (name, level), folder, self._jobs, self._cache_dir, shown)
            cases.append(judged_row(said, few.seams, self._answers(load_seams(plans, folder), plans, (name, level))))
        return cases

    def _judge(self, features: "SeamFeatures") -> Judged:
        try:
            score = self.detector.score(features)
        except ValueError:  # INDETERMINATE in the daemon
            return Judged(None, None)
        return Judged(score.raw, None if score.score is None else score.score >= 1.0)

    def _answers(
        self, features: Sequence["SeamFeatures"], plans: Sequence["SeamPlan"], corruption: tuple[str, float] | None
    ) -> list[Judged]:
        """By the score, and by what the daemon asks before it."""
        from edged.bulk_pool import bulk_pool

        with bulk_pool(self._jobs) as pool:
            before = list(pool.map(_said_before, plans, [corruption] * len(plans)))
        found = [self._judge(one) for one in features]
        return [dataclasses.replace(one, before=said) for one, said in zip(found, before, strict=True)]


def _said_before(plan: "SeamPlan", corruption: tuple[str, float] | None) -> str | None:
    """Why the daemon, in a cell that has learned nothing yet, would not hear a score of the seam; None: it would."""
    from edged.simulated_seam import Bulk, unscored_verdict

    verdict = unscored_verdict(plan, Bulk(profiler=True, corruption=corruption))
    return None if verdict.reason == "collecting" else verdict.reason


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
        "in_daemon": _in_daemon(pairs),
    }


def _in_daemon(pairs: Sequence[tuple["TestSeam", Judged]]) -> dict[str, Any]:
    """What a PLC hears of them: of goods and of defects so many OK, NOK and INDETERMINATE; and for which reasons."""
    reasons = [found.before for _, found in pairs if found.before is not None]
    counted: dict[str, Any] = {"reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))}}
    for name, bad in (("goods", False), ("bads", True)):
        found = [one for seam, one in pairs if seam.bad == bad and seam.family != "drift"]
        heard = [one for one in found if one.before is None and one.flagged is not None]
        nok = sum(bool(one.flagged) for one in heard)
        counted[name] = {"OK": len(heard) - nok, "NOK": nok, "INDETERMINATE": len(found) - len(heard)}
    return counted


COLUMNS = ("missing", "AUROC", "false alarms", "goods / bads", "INDETERMINATE")
SPOILT = ("spoilt", "AUROC of the score", "goods NOK by the score", "daemon, goods", "daemon, defects", "because")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["case"].removeprefix("missing: "),
        _figure(row["auroc"], row["auroc_ci"]),
        _figure(row["false_alarms"], row["false_alarms_ci"]),
        f"{row['goods']} / {row['bads']}",
        f"{row['indeterminate']} of {row['seams']}",
    )


def _spoilt_cells(row: dict[str, Any]) -> tuple[str, ...]:
    told = row["in_daemon"]
    reasons = ", ".join(f"{reason} {count}" for reason, count in told["reasons"].items())
    answers = [
        " / ".join(str(told[name][label]) for label in ("OK", "NOK", "INDETERMINATE")) for name in ("goods", "bads")
    ]
    alarms = round(row["false_alarms"] * row["goods"]) if row["goods"] else 0
    return (
        row["case"],
        _figure(row["auroc"], row["auroc_ci"]),
        f"{alarms} of {row['goods']}",
        *answers,
        reasons or "–",
    )


def _figure(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval is not None else "")


def _tables(report: dict[str, Any]) -> Iterator[Table]:
    for name, columns, cells in (("missing", COLUMNS, _cells), ("spoilt", SPOILT, _spoilt_cells)):
        table = Table(*columns, title=f"{name} streams")
        for row in report[name]:
            beyond = row["false_alarms_ci"] is not None and row["false_alarms_ci"][0] > BUDGET
            table.add_row(*cells(row), style="red" if beyond else None)
        if table.row_count:
            yield table


def _markdown(report: dict[str, Any], seams: int) -> dict[str, str]:
    """Part of docs/results.md → its text, for the parts that were measured."""
    command = f"edged bench degraded --corpus {report['corpus']}"
    tail = (
        f"--results docs/results.md`, model {report['model_id']}, its own limits for 1 %; intervals are 95 % and by"
    )
    parts = {}
    if report["missing"]:
        parts["degraded"] = (
            f"{_lines(COLUMNS, map(_cells, report['missing']))}\n\nMade by `{command} --no-spoilt {tail} session; "
            "*drift* is out of AUROC.\n"
        )
    if report["spoilt"]:
        parts["spoilt"] = (
            f"{_lines(SPOILT, map(_spoilt_cells, report['spoilt']))}\n\nMade by `{command} --no-missing --seams "
            f"{seams} {tail} session; *drift* is left out. The score's columns are of a model that nobody warned; "
            "*daemon*: OK / NOK / INDETERMINATE as a PLC would hear them, with integrity, strikes and sensor health "
            "before the score, in a cell that has learned nothing of its sensors yet.\n"
        )
    return parts


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ("---",) * len(head), *rows])
