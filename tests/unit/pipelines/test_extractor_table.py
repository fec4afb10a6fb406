"""The table of extractors: rows, choice by tier, what a loaded one says of itself."""

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pipelines.features import table
from pipelines.features.checkpoints import CheckpointError
from pipelines.features.table import EXTRACTORS, Place, Role, Tier, choose, extractor, load, load_backbone


def test_every_tier_has_an_extractor_for_every_role() -> None:
    assert [choose(role, "default").name for role in get_args(Role)] == ["lite0"] * 4
    assert [choose(role, "tiny").name for role in get_args(Role)] == ["tiny"] * 4
    assert [choose(role, "full").name for role in get_args(Role)] == ["dinov3", "vjepa2", "ast", "point_mae"]
    assert len({row.name for row in EXTRACTORS}) == len(EXTRACTORS)


def test_an_unknown_name_role_or_tier_says_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        KeyError, match="no extractor 'resnet'; known extractors: ast, dino_vitb8, dinov3, lite0, point_mae"
    ):
        load("resnet", Place(tmp_path))
    with pytest.raises(KeyError, match="known roles: image, video, audio, geometry"):
        choose("smell", "full")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="known tiers: full, default, tiny"):
        choose("image", "small")  # type: ignore[arg-type]


def test_loaded_says_which_weights_it_has(tmp_path: Path) -> None:
    loaded = load("tiny", Place(tmp_path))
    assert loaded.extractor is extractor("tiny")
    assert loaded.weights_sha256.startswith("2e56f509")
    assert loaded.run(np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 7, 7, 1280)


def test_full_needs_a_checkpoint_and_says_where(tmp_path: Path) -> None:
    full = [row for row in EXTRACTORS if row.tier == "full"]
    assert full
    for row in full:
        with pytest.raises(CheckpointError, match=f"{row.name!r} needs a local checkpoint"):
            load(row.name, Place(tmp_path))
        with pytest.raises(CheckpointError, match=f"{tmp_path}/{row.name}.* docs/backbones.md"):
            load(row.name, Place(tmp_path, tmp_path))


@pytest.mark.parametrize("tier", get_args(Tier))
def test_only_tiers_with_lite0s_maps_give_a_backbone(
    tmp_path: Path, tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.features.lite0.load_backbone", lambda *_: "lite0's own")
    if tier == "full":
        with pytest.raises(KeyError, match="take `default` or `tiny`"):
            load_backbone(tier, Place(tmp_path))
    else:
        assert (load_backbone(tier, Place(tmp_path)) == "lite0's own") == (tier == "default")


def test_the_table_imports_nothing_heavy() -> None:
    import subprocess

    code = f"import sys, {table.__name__}; print({{'torch', 'transformers', 'cv2'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
