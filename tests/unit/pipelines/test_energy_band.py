"""The smallest detector: right figures, independent of chunking, honest about what it lacks."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from pipelines.energy_band import Band, EnergyBand
from pipelines.models import ModelError, load_detector, model_digest, verify_manifest, write_manifest
from pipelines.window import Score, Seam, SeamWindow
from tests.support.models import write_band_model

RATE_HZ = 1000.0
SPEC = StreamSpec(
    "w", "welder", RATE_HZ, (2,), "int16", ("current", "voltage"), ("A", "V"), scale=(0.1, 0.01), offset=(0.0, 0.0)
)
CLOCK = ClockParams(0, 5_000_000_000, 1e9 / RATE_HZ)
ON_NS = CLOCK.t_ns(500)
SEAM = Seam("s", "cell", "t", "T1", ON_NS, travel_speed_mm_s=10.0)
DONE = dataclasses.replace(SEAM, arcs=((ON_NS, CLOCK.t_ns(1500)), (CLOCK.t_ns(2000), CLOCK.t_ns(2500))))
BANDS = {"T1": {"mean_current_a": Band(mean=150.0, std=2.0), "arc_energy_j_mm": Band(mean=300.0, std=10.0)}}
MODEL = EnergyBand("m", 4.0, BANDS)


def _raw(current_a: float = 150.0) -> NDArray[np.int16]:
    """3 s at 20 V: half a second of lead, arcs of 1 s and 0.5 s, 0 A outside of them."""
    raw = np.zeros((3000, 2), np.int16)
    for start, end in ((500, 1500), (2000, 2500)):
        raw[start:end] = (current_a / 0.1, 20 / 0.01)
    return raw


def _score(raw: NDArray[np.int16], cuts: list[int], seam: Seam = DONE) -> Score:
    scorer = MODEL.begin(SEAM, (SPEC,))
    edges = [0, *sorted(cuts), len(raw)]
    for seq, (start, end) in enumerate(itertools.pairwise(edges)):
        if end > start:
            scorer.push(Chunk("w", seq, start, 0, 0, raw[start:end], CLOCK))
    return scorer.finish(SeamWindow(seam, (SPEC,), {}, {}))


def test_figures_are_over_the_arcs_alone() -> None:
    score = _score(_raw(154.0), [])
    assert score.explain["mean_current_a"] == pytest.approx(154.0, abs=1e-3)
    assert score.explain["arc_energy_j_mm"] == pytest.approx(154.0 * 20 / 10, abs=1e-2)
    assert score.components["mean_current_a"] == pytest.approx(2.0, abs=1e-3)
    assert score.score == pytest.approx(0.5, abs=1e-3)
    assert score.stage_ms.keys() == {"push", "finish"}


@given(cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_score_does_not_depend_on_chunking(cuts: list[int]) -> None:
    raw = _raw()
    raw[:, 0] += np.random.default_rng(1).integers(-50, 50, 3000, dtype=np.int16)
    assert _score(raw, cuts).raw == pytest.approx(_score(raw, []).raw, rel=1e-9)


def test_a_long_seam_grows_its_grid() -> None:
    raw = np.tile(np.array([[1500, 2000]], np.int16), (70_000, 1))
    seam = dataclasses.replace(SEAM, arcs=((ON_NS, CLOCK.t_ns(69_000)),))
    assert _score(raw, [30_000], seam).explain["mean_current_a"] == pytest.approx(150.0, abs=1e-3)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="no sample of w"):
        _score(_raw()[:400], [])
    with pytest.raises(ValueError, match="'T9'"):
        _score(_raw(), [], dataclasses.replace(DONE, program="T9"))
    with pytest.raises(ValueError, match="arc_energy_j_mm"):
        _score(_raw(), [], dataclasses.replace(DONE, travel_speed_mm_s=None))
    with pytest.raises(ValueError, match="torch t"):
        MODEL.begin(SEAM, (dataclasses.replace(SPEC, torch="other"),))


def test_loads_through_the_table(tmp_path: Path) -> None:
    path = write_band_model(tmp_path / "m")
    detector = load_detector(path, "cpu", 1, tmp_path)
    assert isinstance(detector, EnergyBand)
    assert detector.model_id == f"energy_band-{model_digest(path)}"
    assert detector.bands["T1"]["mean_current_a"].mean == 150.0


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    path = write_band_model(tmp_path / "m")
    with (path / "model.toml").open("a") as file:
        file.write("# edited\n")
    (path / "more").write_text("x")
    with pytest.raises(ModelError, match=r"more is not in the manifest, model\.toml has changed"):
        load_detector(path)
    (path / "model.toml").unlink()
    with pytest.raises(ModelError, match=r"model\.toml is missing"):
        verify_manifest(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('detector = "nonsense"', "no detector 'nonsense'; known detectors: .*energy_band"),
        ("detector = 3", "detector = 3"),
        ("detector =", "cannot be read"),
        ('detector = "energy_band"', "programs"),
    ],
)
def test_a_wrong_model_toml_is_explained(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "model.toml").write_text(text)
    write_manifest(tmp_path)
    with pytest.raises(ModelError, match=problem):
        load_detector(tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is this a model"):
        load_detector(tmp_path / "nowhere")
