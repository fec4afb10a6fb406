"""The tier of the backbone is a property of features, of a model and of its training; two tiers never meet."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drivers.sim.plan import plan_seams
from edged.cli import app
from edged.manifest import FEATURES_DATA, MANIFEST
from edged.simulate import simulate_features
from edged.simulated_seam import Bulk, seam_id_of
from pipelines.build import build_causal_hm
from pipelines.causal_hm import CausalHM
from pipelines.features.extractor import (
    FEATURES_VERSION,
    SeamFeatures,
    content_key,
    load_features,
    one_tier,
    save_features,
)
from pipelines.features.table import Place, Tier, tier_of
from pipelines.features.tiny import TinyBackbone
from pipelines.grid_build import GridOptions, fit_grid
from pipelines.grid_detector import GridDetector
from pipelines.models import ModelError, load_detector, model_toml, write_manifest
from pipelines.training import TrainConfig, split_by_session
from tests.support.grid_seams import grid_goods
from tests.support.law_seams import goods

SMALL = TrainConfig(epochs=1, d=16, d_sensor=8)


def tiny(seams: list[SeamFeatures]) -> list[SeamFeatures]:
    return [dataclasses.replace(seam, tier="tiny") for seam in seams]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the tier tiny."""
    out = tmp_path_factory.mktemp("causal")
    build_causal_hm(tiny(goods(60)), [{}] * 60, out, SMALL)
    return out


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid detector's model of the tier tiny."""
    out, seams = tmp_path_factory.mktemp("grid"), tiny(grid_goods(60))
    options = GridOptions(("geo", "proc"), epochs=1, shape=(7, 7))
    fit_grid("cfm", seams, split_by_session(seams, SMALL), options).save(out)
    return out


def rewritten(model: Path, to: Path, old: str, new: str) -> Path:
    """A copy of a model with another word in its `model.toml`, and a manifest that fits."""
    to.mkdir()
    for file in model.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    text = (to / "model.toml").read_text()
    assert old in text
    (to / "model.toml").write_text(text.replace(old, new, 1))
    write_manifest(to)
    return to


def load(model: Path, cache: Path) -> CausalHM | GridDetector:
    if model_toml(model)["detector"] == "causal_hm":
        found = load_detector(model, cache_dir=cache)
        assert isinstance(found, CausalHM)
        return found
    return GridDetector.load(model, "cpu", 1, cache)


def test_stored_features_say_their_tier(tmp_path: Path) -> None:
    (seam,) = tiny(goods(1))
    save_features(seam, tmp_path / "a.safetensors")
    assert load_features(tmp_path / "a.safetensors", "tiny").tier == "tiny"
    with pytest.raises(ValueError, match="features of tier tiny, expected default; say --tier tiny"):
        load_features(tmp_path / "a.safetensors")


def test_features_that_name_no_tier_are_of_the_default_one(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "a.safetensors"
    save_features(goods(1)[0], path)
    with safe_open(path, framework="numpy") as file:
        about = {key: value for key, value in file.metadata().items() if key != "tier"}
    save_file(load_file(path), path, about)
    assert load_features(path).tier == "default"
    with pytest.raises(ValueError, match="tier default, expected tiny"):
        load_features(path, "tiny")


def test_a_recordings_features_are_cached_by_tier(tmp_path: Path) -> None:
    recording = tmp_path / "a.mcap"
    recording.write_bytes(b"bytes")
    assert content_key(recording) == hashlib.sha256(FEATURES_VERSION.encode() + b"bytes").hexdigest()[:24]
    assert content_key(recording, "tiny") != content_key(recording)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("full", "dinov3 gives .*no detector is made for other shapes.* take `default` or `tiny`"),
        ("huge", "known tiers"),
    ],
)
def test_a_tier_that_seams_cannot_have_is_refused_by_name(
    name: str, reason: str, causal: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"tier '{name}'.*{reason}"):
        tier_of(name)
    model = rewritten(causal, tmp_path / "model", 'tier = "tiny"', f'tier = "{name}"')
    with pytest.raises(ModelError, match=f"model.toml: .*tier '{name}'.*train the model again"):
        load(model, tmp_path)
    for verb in (("train", "--recordings", str(tmp_path)), ("simulate", "--features")):
        done = CliRunner().invoke(app, [*verb, "--out", str(tmp_path / "out"), "--tier", name])
        assert done.exit_code == 2
        assert f"tier '{name}'" in done.output
    assert not (tmp_path / "out").exists()


def test_recordings_have_no_tier(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path / "out"), "--tier", "tiny"])
    assert done.exit_code == 2
    assert "add --features" in done.output


@pytest.mark.parametrize("which", ["causal", "grid"])
def test_a_model_loads_the_backbone_of_its_tier(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(which)
    found = load(model, tmp_path)
    assert (model_toml(model)["tier"], model_toml(model)["backbone"]) == ("tiny", "tiny")
    assert isinstance(found.backbone, TinyBackbone)
    assert found.fitted.tier == "tiny"
    asked: list[tuple[Tier, Place]] = []
    for module in ("causal_hm", "grid_detector"):
        monkeypatch.setattr(f"pipelines.{module}.load_backbone", lambda *a: asked.append(a))
    assert load(rewritten(model, tmp_path / "old", 'tier = "tiny"\n', ""), tmp_path).fitted.tier == "default"
    assert asked == [("default", Place(tmp_path))]


@pytest.mark.parametrize("which", ["causal", "grid"])
def test_a_model_refuses_features_of_another_tier(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = load(request.getfixturevalue(which), tmp_path)
    seam = grid_goods(1)[0] if which == "grid" else goods(1)[0]
    assert model.score(dataclasses.replace(seam, tier="tiny")).raw > 0
    with pytest.raises(ValueError, match=r"tier default, model .* is of tier tiny; extract them with --tier tiny"):
        model.score(seam)


def test_goods_of_two_tiers_are_not_trained_on() -> None:
    seams = grid_goods(24)
    mixed = [*tiny(seams[:1]), *seams[1:]]
    split = split_by_session(mixed, SMALL)
    reason = "seam seam-0023 of default, seam seam-0000 of tiny; extract all with the same --tier"
    with pytest.raises(ValueError, match=reason):
        one_tier(mixed)
    with pytest.raises(ValueError, match=reason):
        fit_grid("cfm", mixed, split, GridOptions(epochs=1))
    with pytest.raises(ValueError, match=reason):
        build_causal_hm(mixed, [{}] * 24, Path("nowhere"), SMALL)


def test_training_names_a_folder_of_another_tier(tmp_path: Path) -> None:
    folder, lines = tmp_path / "goods", []
    for i, seam in enumerate(tiny(goods(2))):
        save_features(seam, folder / FEATURES_DATA.format(f"S{i}"))
        lines.append(
            json.dumps({"seam_id": f"S{i}", "program": seam.program, "session": seam.session, "utc": f"{i}"})
        )
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")
    done = CliRunner().invoke(
        app, ["train", "--recordings", str(folder), "--out", str(tmp_path / "m"), "--jobs", "1"]
    )
    assert done.exit_code == 2
    assert "say --tier tiny" in " ".join(done.output.split())
    args = ["train", "--recordings", str(folder), "--out", str(tmp_path / "m"), "--jobs", "1", "--tier", "tiny"]
    done = CliRunner().invoke(app, args)
    assert "record at least 24" in done.output  # read, and then too few


def test_seams_are_simulated_without_weights(tmp_path: Path) -> None:
    (plan,) = plan_seams(1, 3, "good", ["short-butt-3"], sessions=["s0"])
    assert simulate_features([plan], tmp_path / "tiny", 1, tmp_path / "none", tier="tiny") == 1
    found = load_features(tmp_path / "tiny" / FEATURES_DATA.format(seam_id_of(plan)), "tiny")
    assert found.video.any()
    with pytest.raises(ValueError, match=f"version {FEATURES_VERSION}, tier tiny, not features of version"):
        simulate_features([plan], tmp_path / "tiny", 1, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_a_folder_of_the_default_tier_holds_reads_as_before(tmp_path: Path) -> None:
    assert Bulk(tmp_path).about()["holds"] == f"features of version {FEATURES_VERSION}"
