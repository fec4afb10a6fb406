"""The one table of frozen extractors: which network turns a picture, clip, sound or surface into features.

Adding one is adding a row and a loader. Nothing heavy is imported until a row is loaded. Three tiers: `default` is
lite0, whose weights come with a package; `full` are large networks whose checkpoints the user puts in place
(docs/backbones.md); `tiny` needs no weights. Features of different tiers or weights are not comparable:
`Loaded.weights_sha256` tells them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.features.checkpoints import CheckpointError
from pipelines.features.lite0 import Backbone

__all__ = [
    "EXTRACTORS",
    "Extractor",
    "Loaded",
    "Place",
    "Role",
    "Tier",
    "choose",
    "extractor",
    "load",
    "load_backbone",
    "tier_of",
]

Role = Literal["image", "video", "audio", "geometry"]
Tier = Literal["full", "default", "tiny"]


@dataclass(frozen=True)
class Place:
    """Where a loader finds and puts things, and where its network runs."""

    cache_dir: Path
    checkpoints: Path | None = None
    """Folder of the user's checkpoints: one sub-folder an extractor, by its name."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Extractor:
    """A row: what it is called, what it takes and gives, what it needs."""

    name: str
    tier: Tier
    roles: tuple[Role, ...]
    takes: str
    gives: str
    loader: Callable[[Place], tuple[Any, str]]
    """Gives the network and the sha256 of its weights."""
    licence: str
    """Of the published weights; the user accepts it where they get them."""
    extra: str | None = None
    checkpoint: str | None = None
    """What lies in `checkpoints/NAME`: a file of this name; None if nothing is needed."""


@dataclass(frozen=True)
class Loaded:
    """A row with its network, ready to run; `run` has the shapes of the row."""

    extractor: Extractor
    run: Any
    weights_sha256: str


def _lite0(place: Place) -> tuple[Any, str]:
    from pipelines.features import lite0

    return lite0.load_backbone(place.cache_dir, place.device, place.threads), lite0.WEIGHTS_SHA256


def _tiny(place: Place) -> tuple[Any, str]:
    from pipelines.features import tiny

    return tiny.TinyBackbone(), tiny.WEIGHTS_SHA256


def _transformers(name: str, network: str) -> Callable[[Place], tuple[Any, str]]:
    def load_it(place: Place) -> tuple[Any, str]:
        from pipelines.features import transformers_backbones

        run = getattr(transformers_backbones, network)(_folder(place, name), place.device)
        return run, run.weights_sha256

    return load_it


def _point_mae(place: Place) -> tuple[Any, str]:
    from pipelines.features.point_mae import PointMae

    run = PointMae(_folder(place, "point_mae") / "point_mae.safetensors", place.device)
    return run, run.weights_sha256


_PICTURES = "(b, 224, 224, 3) uint8 RGB"
_LITE0_MAPS = "(b, 7, 7, 1280); middle: (b, 28, 28, 40), (b, 14, 14, 112)"
_EVERY: tuple[Role, ...] = get_args(Role)

EXTRACTORS: tuple[Extractor, ...] = (
    Extractor("lite0", "default", _EVERY, _PICTURES, _LITE0_MAPS, _lite0, "Apache-2.0, in a package"),
    Extractor("tiny", "tiny", _EVERY, _PICTURES, _LITE0_MAPS, _tiny, "none: seeded random filters"),
    Extractor(
        "dinov3",
        "full",
        ("image",),
        _PICTURES,
        "(b, 14, 14, 1280) for ViT-H+; hidden: 2 × (b, 201, 1280)",
        _transformers("dinov3", "DinoV3"),
        "DINOv3 License, by Meta's form",
        "backbones",
        "config.json",
    ),
    Extractor(
        "dino_vitb8",
        "full",
        ("image",),
        _PICTURES,
        "(b, 28, 28, 768)",
        _transformers("dino_vitb8", "DinoVit"),
        "Apache-2.0",
        "backbones",
        "config.json",
    ),
    Extractor(
        "vjepa2",
        "full",
        ("video",),
        "(b, t, h, w, 3) uint8 RGB, t even",
        "(b, t/2, 16, 16, 1024)",
        _transformers("vjepa2", "VJepa2"),
        "MIT",
        "backbones",
        "config.json",
    ),
    Extractor(
        "ast",
        "full",
        ("audio",),
        "(b, n) float32 at 16 kHz, at most 10.24 s",
        "(b, 9, 73, 768)",
        _transformers("ast", "Ast"),
        "BSD-3-Clause",
        "backbones",
        "config.json",
    ),
    Extractor(
        "point_mae",
        "full",
        ("geometry",),
        "(h, w, 3) floating, organised points",
        "(H, W, 1152) and valid (H, W)",
        _point_mae,
        "MIT",
        None,
        "point_mae.safetensors",
    ),
)


def extractor(name: str) -> Extractor:
    """The row called `name`. Raises KeyError naming the known ones."""
    for row in EXTRACTORS:
        if row.name == name:
            return row
    raise KeyError(f"no extractor {name!r}; known extractors: {', '.join(sorted(r.name for r in EXTRACTORS))}")


def choose(role: Role, tier: Tier) -> Extractor:
    """The extractor of a tier for a role; the first of the table where there are several (`full` image: DINOv3).

    Raises KeyError naming the known roles or tiers.
    """
    for what, asked, known in (("role", role, _EVERY), ("tier", tier, get_args(Tier))):
        if asked not in known:
            raise KeyError(f"no {what} {asked!r}; known {what}s: {', '.join(known)}")
    return next(row for row in EXTRACTORS if row.tier == tier and role in row.roles)


def load(name: str, place: Place) -> Loaded:
    """Load the extractor called `name`.

    Raises KeyError (unknown name), CheckpointError (its checkpoint is missing or not what it should be) or
    ImportError (its extra is not installed).
    """
    row = extractor(name)
    return Loaded(row, *row.loader(place))


def load_backbone(tier: Tier, place: Place) -> Backbone:
    """The picture backbone of a tier whose maps have lite0's shapes: `default` or `tiny`.

    Raises KeyError for `full`, whose networks have other shapes.
    """
    row = choose("image", tier)
    if reason := _other_shapes(tier):
        raise KeyError(reason)
    backbone: Backbone = load(row.name, place).run
    return backbone


def tier_of(name: str) -> Tier:
    """The tier called `name`, if a seam's features can be of it. Raises ValueError with the reason and the fix."""
    known: tuple[Tier, ...] = get_args(Tier)
    found = next((tier for tier in known if tier == name), None)
    if found is None:
        raise ValueError(f"no tier {name!r}; known tiers: {', '.join(known)}")
    if reason := _other_shapes(found):
        raise ValueError(reason)
    return found


def _other_shapes(tier: Tier) -> str:
    """Why seams have no features of this tier; empty where they can."""
    row = choose("image", tier)
    if row.gives == _LITE0_MAPS:
        return ""
    return (
        f"tier {tier!r}: {row.name} gives {row.gives}, not lite0's maps, and no detector is made for other shapes "
        "(docs/backbones.md); take `default` or `tiny`"
    )


def _folder(place: Place, name: str) -> Path:
    if place.checkpoints is None:
        raise CheckpointError(f"extractor {name!r} needs a local checkpoint and no folder of checkpoints was given")
    return place.checkpoints / name
