"""`edged train`: recordings of good seams → a model directory with thresholds and a report.

Every recording of the folder is taken as good: give it welds that people judged good, or those of
`edged simulate --family good`. Truth is never opened. Features come from the real engine and extractor and are kept
in a cache, so that a second training starts at once. A folder of `edged simulate --features` holds them already.
"""

import dataclasses
import importlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from drivers.mcap_codec import RecordingError
from edged.bulk_pool import bulk_pool
from edged.progress import progress_bars
from pipelines.distributed import joined, leader_first, world
from pipelines.grids import MODALITIES
from pipelines.table import GRID_DETECTORS, TRAINERS, trainer

if TYPE_CHECKING:
    from edged.recorded import RecordedSeam
    from pipelines.features.extractor import SeamFeatures
    from pipelines.features.table import Tier

__all__ = ["DEFAULT_CACHE", "advance_of", "extract_features", "train", "train_model"]

DEFAULT_CACHE = Path("~/.cache/edged")
CHOICE = f"Of {', '.join(GRID_DETECTORS)} only."
Advance = Callable[[str, int, int, float], None]


def train(
    recordings: Annotated[Path, typer.Option(help="Folder with recordings, or simulated features, of good seams.")],
    out: Annotated[Path, typer.Option(help="Directory of the new model.")],
    pipeline: Annotated[str, typer.Option(help=f"One of: {', '.join(TRAINERS)}.")] = "causal_hm",
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="False-alarm budget.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that extract features.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where features and exported graphs are kept.")] = DEFAULT_CACHE,
    pair: Annotated[
        str | None, typer.Option(help=f"Two of {', '.join(MODALITIES)}; default: by the streams there are. {CHOICE}")
    ] = None,
    preset: Annotated[str | None, typer.Option(help=f"compat (as published) or cell. {CHOICE}")] = None,
    size: Annotated[str | None, typer.Option(help=f"cpu or gpu. {CHOICE}")] = None,
    fusion: Annotated[str | None, typer.Option(help=f"mul, add, max or minp. {CHOICE}")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            "--resume",
            help="Where a killed training, run again, goes on; removed at its end. Default: OUT.training.",
        ),
    ] = None,
    tier: Annotated[str, typer.Option(help="Of the features: default, or tiny (no weights needed).")] = "default",
    device: Annotated[str, typer.Option(help="Where networks are trained: cpu, or cuda for a GPU.")] = "cpu",
    amp: Annotated[
        str, typer.Option(help="Mixed precision: off, bf16, or fp16 (on a GPU only, with scaled gradients).")
    ] = "off",
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the training report here.")] = None,
) -> None:
    """Train a detector on good seams and calibrate its thresholds.

    Killed and run again, it goes on. Started by torchrun, its processes share the batches.
    """
    console = Console(stderr=True)
    if pipeline not in TRAINERS:
        console.print(f"[red]edged train:[/red] no pipeline {pipeline!r}; known: {', '.join(TRAINERS)}")
        raise typer.Exit(2)
    given: dict[str, Any] = {"preset": preset, "size": size, "fusion": fusion}
    given |= {} if pair is None else {"pair": tuple(name.strip() for name in pair.split(","))}
    choices = {name: value for name, value in given.items() if value is not None}
    try:
        importlib.import_module("pipelines.torch_device").check_compute(device, amp)
        with joined(device) as here, progress_bars(Console(stderr=True, quiet=not here.leads)) as bars:
            advance = advance_of(bars)
            report = train_model(
                recordings,
                out,
                pipeline,
                alpha,
                seed,
                jobs,
                cache_dir,
                advance,
                checkpoint,
                tier,
                choices,
                device,
                amp,
            )
    except (ValueError, RecordingError, OSError) as error:
        console.print(f"[red]edged train:[/red] {error}")
        raise typer.Exit(2) from error
    if not here.leads:
        return
    console.print(f"model {report['model_id']} in {out}; its report: {out / 'report.md'}")
    for line in report["refused"]:
        console.print(f"[yellow]{line}[/yellow]")
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def train_model(
    recordings: Path,
    out: Path,
    pipeline: str = "causal_hm",
    alpha: float = 0.01,
    seed: int = 0,
    jobs: int = 2,
    cache_dir: Path = DEFAULT_CACHE,
    advance: Advance | None = None,
    checkpoint: Path | None = None,
    tier: str = "default",
    choices: Mapping[str, Any] | None = None,
    device: str = "cpu",
    amp: str = "off",
) -> dict[str, Any]:
    """What `edged train` does. Under torchrun each process returns the report and the leading one writes the model.

    `device` and `amp` are those of `pipelines.loop.LoopConfig`.
    `choices`: fields of `pipelines.grid_build.GridOptions`, for the detectors that work on a pair of modalities.
    Raises ValueError when the goods do not suffice or are of another tier, or the checkpoint is another training's,
    RecordingError.
    """
    from edged.recorded import list_features, list_recorded
    from pipelines.features.table import tier_of

    wanted = tier_of(tier)

    if (out / "model.toml").exists():
        raise ValueError(f"{out} holds a model already; give another directory or remove it first")
    options = _grid_options(pipeline, choices or {})
    seams = list_features(recordings) or list_recorded(recordings)
    with leader_first():  # the others find its features in the cache
        features, failed = extract_features(seams, cache_dir.expanduser(), jobs, advance, wanted)
    if not features:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:3])
        raise ValueError(f"{recordings}: no seam gave features ({reasons})")
    used = [seam for seam in seams if seam.seam_id in features]
    build = trainer(pipeline)
    config = importlib.import_module("pipelines.training").TrainConfig(
        seed=seed, checkpoint=checkpoint or out.with_name(f"{out.name}.training"), device=device, amp=amp
    )
    with tempfile.TemporaryDirectory() as dropped:  # what processes make that do not lead
        report: dict[str, Any] = build(
            [features[s.seam_id] for s in used],
            [s.set_points for s in used],
            out if world().leads else Path(dropped),
            config,
            alpha,
            advance,
            **options,
        )
    return report | {"recordings": str(recordings), "without_features": failed, "out": str(out)}


def _grid_options(pipeline: str, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Further arguments of the pipeline's trainer. Raises ValueError for a choice that it does not have."""
    if pipeline in GRID_DETECTORS:
        return {"options": importlib.import_module("pipelines.grid_build").GridOptions(**choices)}
    if choices:
        flags = ", ".join(f"--{name}" for name in choices)
        raise ValueError(
            f"{flags}: {pipeline} has no such choice, only {', '.join(GRID_DETECTORS)} have; leave it out"
        )
    return {}


def extract_features(
    seams: "Sequence[RecordedSeam]",
    cache_dir: Path,
    jobs: int,
    advance: Advance | None = None,
    tier: "Tier" = "default",
) -> "tuple[dict[str, SeamFeatures], dict[str, str]]":
    """Features by seam id, and by seam id why a seam has none; those of recordings are cached by their content.

    Raises ValueError where simulated features are of another version or tier.
    """
    from pipelines.features.extractor import load_features
    from pipelines.features.table import Place, load_backbone

    if not all(_is_features(seam) for seam in seams):
        load_backbone(tier, Place(cache_dir))  # exports the graph once, before all processes want it
    features: dict[str, SeamFeatures] = {}
    failed: dict[str, str] = {}
    with bulk_pool(jobs) as pool:
        found = pool.map(_extract_one, seams, [cache_dir] * len(seams), [tier] * len(seams))
        for done, (seam, (path, why)) in enumerate(zip(seams, found, strict=True), start=1):
            if path is None:
                failed[seam.seam_id] = why
            else:
                stored = load_features(path, tier)
                features[seam.seam_id] = dataclasses.replace(stored, session=seam.session, seam_id=seam.seam_id)
            if advance is not None:
                advance("features", done, len(seams), 0.0)
    return features, failed


_backbones: dict[tuple[Path, str], Any] = {}
"""One loaded backbone per extracting process and tier."""


def _extract_one(seam: "RecordedSeam", cache_dir: Path, tier: "Tier") -> tuple[Path | None, str]:
    from edged.local_scorer import FeatureCollector
    from edged.recorded import rescore
    from pipelines.features.extractor import content_key, save_features
    from pipelines.features.table import Place, load_backbone

    if _is_features(seam):
        return seam.path, ""
    path = cache_dir / "features" / f"{content_key(seam.path, tier)}.safetensors"
    if path.exists():
        return path, ""
    if (cache_dir, tier) not in _backbones:
        _backbones[cache_dir, tier] = load_backbone(tier, Place(cache_dir))
    collector = FeatureCollector(_backbones[cache_dir, tier], tier)
    try:
        verdict = rescore(seam.path, collector, "features")
    except RecordingError as error:
        return None, str(error)
    if seam.seam_id not in collector.features:
        return None, collector.failed.get(seam.seam_id, f"{verdict.reason}: {verdict.detail}")
    save_features(collector.features[seam.seam_id], path)
    return path, ""


def _is_features(seam: "RecordedSeam") -> bool:
    return seam.path.suffix == ".safetensors"


def advance_of(bars: Progress) -> Advance:
    """One bar per stage, made when the stage first reports."""
    tasks: dict[str, Any] = {}

    def advance(stage: str, done: int, total: int, loss: float) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        text = f"{stage} (held-out loss {loss:.4f})" if loss else stage
        bars.update(tasks[stage], completed=done, description=text)

    return advance
