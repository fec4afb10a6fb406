"""`edged bench battery`: detectors on real weld surfaces, the height maps of the battery-weld set.

The protocol, set before any figure was looked at:

- Each scan in units of its own median and MAD; training scans of welds that are tested are dropped
  (`pipelines/datasets/battery_weld.py`); nothing is chosen on test scans and no figure is flipped.
- **Primary detectors**: `patchcore` on the cells of lite0's middle maps and `edge_prior × patchcore`. Every other
  network is exploratory.
- **Primary figures**: pixel AUROC inside the seam band, and exact AUPRO (limit .3), both over the defective scans.
  AUPRO with the published thresholds (`compat`) and AUPRO of the whole curve (to a rate of 1) stand beside. The
  image AUROC is a regression guard only: the mean of the valid pixels solves it without looking at a weld.
- Intervals resample welds.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edged.bench import battery_readings
from edged.bench.battery_cells import cells_of
from edged.bench.battery_rows import Scan, Scores, Tell, edge_prior, figures, maps_of, read_scan, scores_of, untrained
from edged.bench.detection.page_marks import table, with_ci
from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE
from pipelines.datasets import of_split
from pipelines.datasets.battery_weld import BAND_PX, load

__all__ = ["EXPLORATORY", "PRIMARY", "bench_battery", "edge_prior", "markdown", "measure_battery", "write_section"]

PRIMARY = ("patchcore", "edge_prior × patchcore")
EXPLORATORY = ("simplenet", "dinomaly", "efficientad")
REFERENCES = {("patchcore", "pixel_auroc"): 0.78, ("edge_prior × patchcore", "aupro"): 0.89}
"""Figures known from another implementation; here so that falling short of them is said."""
GUARD = 0.95
"""Image AUROC that a primary detector must not fall below."""
HELD_OUT_EVERY = 5
"""Every fifth training weld is held out for early stopping, by methods that need that."""
BEGIN, END = "<!-- begin battery -->", "<!-- end battery -->"


def bench_battery(
    data: Annotated[Path, typer.Option(help="Folder of the battery-weld set: train, test, ground_truth.")],
    also: Annotated[
        list[str] | None, typer.Option(help=f"An exploratory row, {' or '.join(EXPLORATORY)}; may be given again.")
    ] = None,
    readings: Annotated[
        bool, typer.Option("--readings", help="Also other readings of the protocol's text, side by side.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of banks and trainings.")] = 0,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
    threads: Annotated[int, typer.Option(min=1, help="Threads of lite0 and of trainings.")] = 1,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    results: Annotated[Path | None, typer.Option(help="Page whose battery section is written anew.")] = None,
) -> None:
    """Detectors on the real height maps of the battery-weld set, beside rows that need no detector."""
    console = Console(stderr=True)
    try:
        with progress_bars(console) as bars:
            tasks: dict[str, Any] = {}

            def tell(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done)

            report = measure_battery(data, cache_dir.expanduser(), also or (), seed, threads, tell, readings)
        _print(report, console)
        if json_out is not None:
            json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if results is not None:
            write_section(results, markdown(report))
    except (ValueError, OSError) as error:
        console.print(f"[red]edged bench battery:[/red] {error}")
        raise typer.Exit(2) from error


def measure_battery(
    data: Path,
    cache_dir: Path,
    also: Sequence[str] = (),
    seed: int = 0,
    threads: int = 1,
    tell: Tell = lambda *_: None,
    readings: bool = False,
) -> dict[str, Any]:
    """The figures of `edged bench battery --json`: about, rows, falls_short, and readings where asked for.

    Raises ValueError for a folder that is not the set, or for a row that is not in EXPLORATORY.
    """
    unknown = [name for name in also if name not in EXPLORATORY]
    if unknown:
        raise ValueError(f"no exploratory row {unknown[0]!r}; known: {', '.join(EXPLORATORY)}")
    import torch

    from pipelines.features.lite0 import load_backbone

    items = load(data)
    train, test = ([read_scan(item) for item in of_split(items, split)] for split in ("train", "test"))
    backbone = load_backbone(cache_dir, threads=threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = untrained(test) + _trained(train, test, backbone, also, seed, tell)
        read = battery_readings.measure_readings(train, test, backbone, seed, tell) if readings else []
    finally:
        torch.set_num_threads(before)
    found = [figures(scores, test) for scores in rows]
    return {
        "about": {
            "train": len(train),
            "test_good": sum(scan.item.is_good for scan in test),
            "test_defective": sum(not scan.item.is_good for scan in test),
            "welds_tested": len({scan.item.group for scan in test}),
            "band_px": BAND_PX,
            "primary": list(PRIMARY),
            "seed": seed,
            "also": list(also),
        },
        "rows": found,
        "falls_short": _falls_short(found),
        "readings": read,
    }


def _trained(
    train: Sequence[Scan], test: Sequence[Scan], backbone: Any, also: Sequence[str], seed: int, tell: Tell
) -> list[Scores]:
    """PatchCore and its product with the prior, then the exploratory methods."""
    scans = [*train, *test]
    cells = []
    for done, scan in enumerate(scans, start=1):
        cells.append(cells_of(scan.height, backbone))
        tell("lite0", done, len(scans))
    known, tested = cells[: len(train)], cells[len(train) :]
    welds = sorted({scan.item.group for scan in train})
    apart = set(welds[::HELD_OUT_EVERY])
    held_out = [c for c, scan in zip(known, train, strict=True) if scan.item.group in apart]
    rest = [c for c, scan in zip(known, train, strict=True) if scan.item.group not in apart]
    out = []
    # PatchCore stops on nothing and so takes every good scan.
    maps = maps_of("patchcore", known, held_out, tested, seed, tell)
    prior = [edge_prior(scan.height) for scan in test]
    out.append(scores_of(PRIMARY[0], "primary", maps, test))
    out.append(scores_of(PRIMARY[1], "primary", [p * m for p, m in zip(prior, maps, strict=True)], test))
    return out + [
        scores_of(name, "exploratory", maps_of(name, rest, held_out, tested, seed, tell), test) for name in also
    ]


def _falls_short(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a primary row lies below the guard, a known figure, or a row that needs no training."""
    by_name = {row["pipeline"]: row for row in rows}
    out = []
    for name in PRIMARY:
        row = by_name[name]
        if row["auroc"] < GUARD:
            out.append(f"{name}: image AUROC {row['auroc']:.3f} is below the guard of {GUARD}")
        for figure in ("pixel_auroc", "aupro"):
            known = REFERENCES.get((name, figure))
            if known is not None and row[figure] < known:
                out.append(f"{name}: {figure} {row[figure]:.3f} is below the {known} known from elsewhere")
            out += [
                f"{name}: {figure} {row[figure]:.3f} is not above the {by_name[other][figure]:.3f} of {other}"
                for other in ("edge_prior", "median_distance")
                if row[figure] <= by_name[other][figure]
            ]
    return out


COLUMNS = (
    ("pixel AUROC in the band", "pixel_auroc", "pixel_auroc_ci"),
    ("AUPRO", "aupro", "aupro_ci"),
    ("AUPRO compat", "aupro_compat", None),
    ("AUPRO to rate 1", "aupro_to_1", None),
    ("image AUROC", "auroc", "ci"),
)


def _cells(row: Mapping[str, Any]) -> list[str]:
    figures = [with_ci(row[figure], None if ci is None else row[ci]) for _, figure, ci in COLUMNS]
    return [row["pipeline"], row["role"], *figures]


def markdown(report: Mapping[str, Any]) -> str:
    """The section's generated part: table, what falls short, command."""
    about = report["about"]
    short = [f"- {line}" for line in report["falls_short"]]
    options = "".join(f" --also {name}" for name in about["also"]) + (" --readings" if report["readings"] else "")
    made = (
        f"Made by `edged bench battery --data DIR{options} --results docs/results.md`, seed {about['seed']}: "
        f"{about['train']} training scans, {about['test_good']} good and {about['test_defective']} defective ones of "
        f"{about['welds_tested']} welds; band {about['band_px']} px; intervals resample welds."
    )
    parts = [
        table(("row", "role", *(name for name, _, _ in COLUMNS)), map(_cells, report["rows"])),
        made,
        "\n".join(["What falls short:", "", *short])
        if short
        else "No primary row falls short of what it is held to.",
    ]
    parts += [battery_readings.markdown(report["readings"]).rstrip()] if report["readings"] else []
    return "\n\n".join(parts) + "\n"


def write_section(page: Path, text: str) -> None:
    """Put `text` between the page's markers. Raises ValueError when it has none."""
    whole = page.read_text(encoding="utf-8")
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise ValueError(
            f"{page} must have the lines {BEGIN} and {END} once, in this order; add them where it belongs"
        )
    before, rest = whole.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}", encoding="utf-8")


def _print(report: Mapping[str, Any], console: Console) -> None:
    shown = Table(title="battery-weld, real height maps")
    for name in ("row", "role", *(name for name, _, _ in COLUMNS)):
        shown.add_column(name)
    for row in report["rows"]:
        shown.add_row(*_cells(row))
    console.print(shown)
    for line in report["falls_short"]:
        console.print(f"[yellow]{line}[/yellow]")
