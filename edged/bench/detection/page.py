"""The detection section of docs/results.md and its pictures, from docs/detection.json and nothing else.

Figures come from the report (`page_tables.py`), sentences from `page_text.py`. Every table names the schedule, seeds
and corpora below it; what a report lacks is left out with a line that says so.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from edged.bench.detection.arms import ORACLE, PRODUCT
from edged.bench.detection.figures import draw_figures
from edged.bench.detection.page_marks import FAILED, Report, Row, is_part, used
from edged.bench.detection.page_tables import (
    bank_table,
    bars_table,
    contrasts_table,
    costs_table,
    families_table,
    forgetting_table,
    points_table,
    types_table,
)
from edged.bench.detection.page_text import NOT_TESTED, TEMPLATE

__all__ = ["BEGIN", "END", "detection_page", "write_page"]

BEGIN, END = "<!-- begin detection -->", "<!-- end detection -->"
NEEDED = ("rows", "contrasts", "bars", "runs")
CAPTIONS = {
    "roc": "ROC by family, one corpus and seed",
    "pod": "Share found against size at 1 % false alarms; dots: each severity; line: the fit; dashed: a90/95",
    "histograms": "Scores of good and bad seams over the limit, one corpus and seed",
    "corruption": "AUROC under corrupted inputs",
    "forgetting": "AUROC over the programs seen so far, after each increment",
}

ALL_PROGRAMS = 10


def write_page(json_path: Path, docs_dir: Path) -> Path:
    """Put the section between its markers in `docs_dir`/results.md (at the end where there are none) and draw img/.

    Raises FileNotFoundError, KeyError for a report that lacks a part, ValueError for a lone marker,
    MissingMatplotlibError.
    """
    report = json.loads(json_path.read_text(encoding="utf-8"))
    path = docs_dir / "results.md"
    whole = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and not end:
        raise ValueError(f"{path} has {BEGIN} but no {END} after it; put it where the section ends")
    pictures = draw_figures(report, docs_dir / "img")
    text = detection_page(report, {name: f"img/{drawn.name}" for name, drawn in pictures.items()})
    before = before if begin else before.rstrip("\n") + "\n\n"
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after or chr(10)}", encoding="utf-8")
    return path


def _programs(names: Sequence[str]) -> str:
    return f"{len(names)} programs ({', '.join(names)})" if len(names) < ALL_PROGRAMS else "All ten programs"


def detection_page(report: Report, pictures: Mapping[str, str]) -> str:
    """The section as Markdown; `pictures`: name → link. Raises KeyError naming what the report lacks."""
    lacking = [name for name in NEEDED if name not in report]
    if lacking:
        raise KeyError(f"the report has no {', '.join(lacking)}; make it with `edged bench detect --json F`")
    whole = [row for row in report["rows"] if not is_part(row)]
    parts = [row for row in report["rows"] if is_part(row)]
    delivered = [row for row in whole if row["ablation"] is None]
    ablated = [row for row in whole if row["ablation"] is not None and row["pipeline"] != ORACLE]
    product = [row for row in whole if row["pipeline"] == PRODUCT and row["ablation"] is None]
    return Template(TEMPLATE).substitute(
        failed=_failed(report["bars"]),
        programs=_programs(report.get("programs") or []),
        sim_version=report.get("sim_version") or "?",
        bootstraps=report.get("bootstraps", "?"),
        made=_made(report),
        contrasts=contrasts_table(report["contrasts"]),
        points=points_table(report["contrasts"]),
        contrasts_used=used(report["runs"]),
        bars=bars_table(report["bars"]),
        bars_used=used(report["runs"]),
        families=families_table(delivered),
        families_used=used(delivered),
        ablations=families_table(ablated),
        ablations_used=used(ablated),
        parts=families_table([row for row in parts if row["pipeline"] == PRODUCT], costs=False),
        parts_used=used([row for row in parts if row["pipeline"] == PRODUCT]),
        types=types_table(product, report),
        types_used=used(product),
        costs=costs_table(whole),
        costs_used=used(whole),
        forgetting=forgetting_table(report),
        bank=bank_table(report.get("bank") or ()),
        pictures=_pictures(pictures),
        not_tested="\n".join(f"- {line}" for line in NOT_TESTED),
    )


def _made(report: Report) -> str:
    command = report.get("command") or "edged bench detect --json F"
    short = " This is the short protocol (`--quick`): its figures are no claim." if report.get("quick") else ""
    notes = "".join(f"\n\n{note}" for note in report.get("notes") or ())
    return f"Made by `{command}` from {len(report['runs'])} runs.{short}{notes}"


def _failed(bars: Sequence[Row]) -> str:
    failed = [bar["name"] for bar in bars if bar["holds"] is False]
    held = sum(bar["holds"] is True for bar in bars)
    undecided = sum(bar["holds"] is None and bar["asked"] is not None for bar in bars)
    said = f"Of {held + len(failed)} bars that could be judged {held} hold; {undecided} are undecided."
    return "\n".join([said, *([""] if failed else []), *(f"- {FAILED} {name}" for name in failed)])


def _pictures(pictures: Mapping[str, str]) -> str:
    def shown(name: str) -> str:
        caption = CAPTIONS[name]
        if name in pictures:
            return f"![{caption}]({pictures[name]})\n\n{caption}."
        return f"Left out, for the report has no figures for it: {caption}."

    return "\n\n".join(shown(name) for name in CAPTIONS)
