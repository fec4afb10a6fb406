"""MAFR, Uni-RCM, IB-IUMAD and CFM as detectors: a model directory is written, read again, refused with a reason."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edged.local_scorer import LocalScorer
from edged.train import train_model
from edged.types import Label
from pipelines import cfm, mafr, uni_rcm_config
from pipelines.build import NoBackbone
from pipelines.features.extractor import FEATURES_VERSION, SeamFeatures
from pipelines.grid_build import FITS, GridOptions, build_grid, fit_grid, loop_of
from pipelines.grid_detector import GridDetector
from pipelines.grid_methods import METHODS
from pipelines.model_files import read_tensors, write_model
from pipelines.models import ModelError, load_detector, model_toml, write_manifest
from pipelines.per_program import PerProgram
from pipelines.table import DETECTORS, GRID_DETECTORS, TRAINERS, trainer
from pipelines.training import TrainConfig, split_by_session
from tests.support.backbone import TinyBackbone
from tests.support.cell import Cell, config
from tests.support.law_grids import laid_goods

SHAPE = (6, 8)
SMALL = GridOptions(pair=("rgb", "proc"), shape=SHAPE, epochs=1)
TINY: dict[str, dict[str, Any]] = {
    "ib_iumad": {"d": 16, "feed_forward": 16, "heads": 2, "levels": 1, "bottleneck": 8}
}
ALPHA = 0.2


@pytest.fixture(scope="module")
def goods() -> list[SeamFeatures]:
    return laid_goods(60)


Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(goods: list[SeamFeatures], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A model directory of a detector, made once."""
    made: dict[str, Path] = {}

    def make(detector: str) -> Path:
        if detector not in made:
            made[detector] = tmp_path_factory.mktemp(detector)
            options = dataclasses.replace(SMALL, flags=TINY.get(detector, {}))
            report = trainer(detector)(
                goods, [{}] * len(goods), made[detector], TrainConfig(), ALPHA, None, options=options
            )
            assert report["refused"] == []
        return made[detector]

    return make


def load(directory: Path) -> GridDetector:
    with pytest.MonkeyPatch.context() as patch:  # its features are made up; exporting lite0 takes seconds
        patch.setattr("pipelines.grid_detector.load_backbone", lambda *_: TinyBackbone())
        found = load_detector(directory)
    assert isinstance(found, GridDetector)
    return found


def test_one_table_names_every_grid_detector_everywhere() -> None:
    assert set(GRID_DETECTORS) == set(METHODS) == set(FITS)
    assert set(GRID_DETECTORS) < set(DETECTORS)
    assert set(GRID_DETECTORS) < set(TRAINERS)


@pytest.mark.parametrize("detector", GRID_DETECTORS)
def test_a_model_directory_gives_the_scores_of_what_was_fitted(
    detector: str, build: Build, goods: list[SeamFeatures]
) -> None:
    directory = build(detector)
    torch.set_num_threads(1)
    split = split_by_session(goods, dataclasses.replace(TrainConfig(), calibration_goods=4))
    options = dataclasses.replace(SMALL, flags=TINY.get(detector, {}))
    fresh = fit_grid(detector, goods, split, options)
    model = load(directory)
    assert model.requires == ("result", "welder")
    assert model.model_id.startswith(f"{detector}-")
    seam = laid_goods(3, seed=7)[2]
    found = model.score(seam)
    maps, valid = fresh.maps(seam)
    assert found.raw == pytest.approx(fresh.fusion.score(maps, valid, 0).raw, rel=1e-5)
    assert found.score == pytest.approx(found.raw / found.threshold)  # type: ignore[operator]
    assert found.p_value is not None
    about = model_toml(directory)
    assert (about["detector"], about["pair"], about["requires"]) == (detector, ["rgb", "proc"], ["result", "welder"])
    assert "Thresholds for a false-alarm budget of 20.0%" in (directory / "report.md").read_text()


def test_a_bead_that_is_odd_at_one_place_scores_higher(build: Build) -> None:
    model = load(build("mafr"))
    seam = laid_goods(2, seed=8)[0]
    fine = seam.views["top"].fine.copy()
    fine[10:18, 40:60] += 3.0
    odd = dataclasses.replace(seam, views={"top": dataclasses.replace(seam.views["top"], fine=fine)})
    good, bad = model.score(seam), model.score(odd)
    assert bad.raw > good.raw + 1.0
    assert bad.score is not None
    assert bad.score > 1.0
    assert 30.0 * 40 / 112 - 8.0 < bad.explain["worst_row_mm"] < 30.0 * 60 / 112 + 4.0
    assert len(bad.along) == SHAPE[1]
    worst = max(bad.along, key=lambda point: point.score)
    assert worst.mm == pytest.approx(bad.explain["worst_row_mm"], abs=30.0 / SHAPE[1] + 0.1)
    assert 1.0 < worst.score <= bad.score
    assert worst.score > max(point.score for point in good.along)


def refused(directory: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load(directory)
    assert str(directory) in str(caught.value)


@pytest.fixture
def copy(build: Build, tmp_path: Path) -> Path:
    """A model to be spoilt."""
    return Path(shutil.copytree(build("cfm"), tmp_path / "model"))


def test_a_changed_model_is_refused(copy: Path) -> None:
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    refused(copy, "model.safetensors has changed; copy the model again")


def test_a_model_of_other_features_is_refused(copy: Path) -> None:
    text = (copy / "model.toml").read_text()
    (copy / "model.toml").write_text(text.replace('features_version = "', 'features_version = "0'))
    write_manifest(copy)
    found = f"features_version is '0{FEATURES_VERSION}', this edged makes '{FEATURES_VERSION}'; train the model again"
    refused(copy, found)


def test_a_pickle_is_never_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model.pt")
    write_manifest(copy)
    refused(copy, "model.pt can run code when read and is never loaded; a model has model.safetensors")


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    text = (copy / "model.toml").read_text()
    (copy / "model.toml").write_text(text.replace("most_hidden = 256", "most_hidden = 8"))
    write_manifest(copy)
    refused(copy, "cannot be read as a cfm model")


@pytest.mark.parametrize(
    ("program", "reason", "says"),
    [
        ("p9", "unknown_program", "was not trained on program 'p9'; it knows p1, p2"),
        ("p1", "worker_failed", "required stream result is missing"),
    ],
)
def test_what_the_model_cannot_judge_is_indeterminate(build: Build, program: str, reason: str, says: str) -> None:
    """Neither an unknown program nor a seam without its photograph comes out good."""
    cfg = config({program: {"views": []}})
    cell = Cell(cfg, scorer=LocalScorer({program: load(build("uni_rcm"))}))  # type: ignore[arg-type]
    cell.weld([(2.0, 3.0)], 5.0)
    cell.say(0.5, "expect", program=program)
    cell.run(6.0)
    assert (cell.verdict.label, cell.verdict.reason) == (Label.INDETERMINATE, reason)
    assert says in cell.verdict.detail


def test_compat_has_a_network_per_program_where_the_papers_have(goods: list[SeamFeatures], tmp_path: Path) -> None:
    options = dataclasses.replace(SMALL, preset="compat")
    build_grid("cfm", goods, [{}] * len(goods), tmp_path, TrainConfig(), ALPHA, options=options)
    model = load(tmp_path)
    method = model.fitted.method
    assert isinstance(method, PerProgram)
    assert len(method.methods) == 2
    first, second = (m.tensors() for m in method.methods)
    assert any(not np.array_equal(first[name], second[name]) for name in first)
    seams = laid_goods(2, seed=9)
    assert {seam.program for seam in seams} == {"p1", "p2"}
    maps, _ = model.fitted.maps(seams[1])
    swapped = dataclasses.replace(model.fitted, method=PerProgram("cfm", method.methods[::-1]))
    assert not np.allclose(maps["rgb"], swapped.maps(seams[1])[0]["rgb"])


def test_a_model_in_half_precision_is_calibrated_as_it_is_stored(
    goods: list[SeamFeatures], build: Build, tmp_path: Path
) -> None:
    options = dataclasses.replace(SMALL, half=True)
    build_grid("cfm", goods, [{}] * len(goods), tmp_path, TrainConfig(), ALPHA, options=options)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path, build("cfm"))]
    assert sizes[0] < 0.55 * sizes[1]
    half, full = load(tmp_path), load(build("cfm"))
    split = split_by_session(goods, dataclasses.replace(TrainConfig(), calibration_goods=4))
    seam = goods[split.calibration[0]]
    raw = half.score(seam).raw
    assert raw == pytest.approx(full.score(seam).raw, rel=0.05)
    (scores,) = [t.scores for t in half.thresholds if t.program == seam.program]
    assert min(abs(raw - score) for score in scores) < 1e-6 * raw


def test_what_does_not_survive_half_precision_stays_whole(tmp_path: Path) -> None:
    tensors = {"huge": np.array([1e9, 1.0]), "plain": np.array([0.5, 0.25]), "count": np.array([1, 2])}
    write_model(tmp_path, tensors, {"detector": "cfm"}, half=True)
    found = read_tensors(tmp_path)
    assert {name: list(value) for name, value in found.items()} == {
        "huge": [1e9, 1.0], "plain": [0.5, 0.25], "count": [1, 2]
    }  # fmt: skip
    assert {value.dtype for name, value in found.items() if name != "count"} == {np.dtype(np.float32)}


def test_compat_trains_by_the_published_schedules() -> None:
    for size in ("cpu", "gpu"):
        assert loop_of("mafr", "compat", size) == mafr.LOOPS["compat"]
        assert loop_of("cfm", "compat", size) == cfm.LOOPS["compat"]
        assert loop_of("uni_rcm", "compat", size) == uni_rcm_config.LOOPS["compat", size]
    assert loop_of("mafr", "cell", "cpu") != mafr.LOOPS["compat"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pair": ("rgb", "sound")}, "modality 'sound' is not known; known: rgb, geo, proc"),
        ({"pair": ("rgb", "rgb")}, "two different modalities"),
        ({"preset": "fast"}, "preset 'fast' is not known to mafr; known: compat, cell"),
        ({"size": "tpu"}, "size 'tpu'"),
        ({"fusion": "mean"}, "fusion 'mean' is not known to mafr; known: mul, add, max, minp"),
    ],
)
def test_unknown_choices_are_refused_before_anything_is_fitted(
    goods: list[SeamFeatures], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    options = dataclasses.replace(SMALL, **change)
    with pytest.raises(ValueError, match=says):
        build_grid("mafr", goods, [{}] * len(goods), tmp_path, TrainConfig(), ALPHA, options=options)


def test_goods_without_the_pairs_streams_say_which_they_lack(goods: list[SeamFeatures], tmp_path: Path) -> None:
    unscanned = [dataclasses.replace(seam, geo=None) for seam in goods]
    options = dataclasses.replace(SMALL, pair=("geo", "proc"))
    with pytest.raises(ValueError, match="has the streams profile, welder; choose another --pair"):
        build_grid("mafr", unscanned, [{}] * len(goods), tmp_path, TrainConfig(), ALPHA, options=options)


def test_causal_hm_refuses_the_choices_that_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--pair, --fusion: causal_hm has no such choice, only cfm"):
        train_model(tmp_path, tmp_path / "out", choices={"pair": ("rgb", "proc"), "fusion": "max"})


def test_calibration_never_needs_a_backbone() -> None:
    with pytest.raises(RuntimeError, match="no backbone"):
        NoBackbone()(np.zeros((1, 8, 8, 3), np.uint8))
