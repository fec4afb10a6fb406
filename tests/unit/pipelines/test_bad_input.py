"""What a broken sensor, a wrong model or too few welds lead to: no score, and a reason that names what is wrong.

Through the scorers that the worker runs, of both families of detectors.
"""

import dataclasses
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from drivers.base import Chunk, StreamSpec
from edged.local_scorer import LocalScorer
from pipelines.build import build_causal_hm
from pipelines.causal_hm import CausalHM
from pipelines.features.extractor import SeamExtractor
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.grid_build import GridOptions, fit_grid
from pipelines.grid_detector import GridDetector
from pipelines.models import ModelError, load_detector, write_manifest
from pipelines.thresholds import TooFewGoodsError, calibrate
from pipelines.training import TrainConfig, split_by_session
from pipelines.window import Score, SeamWindow
from tests.support import seam_chunks as cell
from tests.support.backbone import TinyBackbone
from tests.support.grid_seams import FRAME, LENGTH_MM, grid_goods
from tests.support.law_seams import goods
from tests.support.models import write_band_model
from tests.support.verdicts import a_score

ARC_S = 1.5
SMALL = TrainConfig(epochs=1, d=16, d_sensor=8)
CHUNKS = cell.seam_chunks(np.random.default_rng(0), ARC_S)
Model = CausalHM | GridDetector
Change = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Directories of a small model of each family."""
    causal, grid = tmp_path_factory.mktemp("causal"), tmp_path_factory.mktemp("grid")
    build_causal_hm(goods(60), [{}] * 60, causal, SMALL, alpha=0.2)
    seams = grid_goods(60)
    options = GridOptions(("geo", "proc"), epochs=1, shape=(7, 7))
    fit_grid("cfm", seams, split_by_session(seams, SMALL), options).save(grid)
    write_manifest(grid)
    return {"causal": causal, "grid": grid}


def load(folder: Path, cache: Path) -> Model:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("causal_hm", "grid_detector"):
            patch.setattr(f"pipelines.{module}.load_backbone", lambda *_: TinyBackbone())
        if "causal" in folder.name:
            found = load_detector(folder, cache_dir=cache)
            assert isinstance(found, CausalHM)
            return found
        return GridDetector.load(folder, "cpu", 1, cache)


@pytest.fixture(scope="module", params=["causal", "grid"])
def model(
    request: pytest.FixtureRequest, folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Model:
    return load(folders[request.param], tmp_path_factory.mktemp("cache"))


def bead(rows: int = 101, points: int = 65) -> np.ndarray:
    """A height map over the whole seam, rows 0.5 mm apart."""
    y = np.linspace(-12, 12, points)
    return np.tile(np.maximum(1.5 * (1 - (y / 3) ** 2), 0.0), (rows, 1)).astype(np.float32)


def window(program: str = "p1", height_map_mm: np.ndarray | None = None) -> SeamWindow:
    found = cell.window(np.random.default_rng(1), ARC_S, program=program)
    heights = bead() if height_map_mm is None else height_map_mm
    return dataclasses.replace(found, height_map_mm=heights, frame=FRAME)


def floats(stream: str, change: Change | None = None) -> tuple[tuple[StreamSpec, ...], dict[str, list[Chunk]]]:
    """All streams, `stream` in floating physical units, its samples changed."""
    spec = next(s for s in cell.STREAMS if s.name == stream)
    wide = dataclasses.replace(spec, dtype="float32", scale=(), offset=())
    (chunk,) = CHUNKS[stream]
    data = spec.physical(chunk.data)
    if stream == "microphone":
        data /= 32767
    if change is not None:
        change(data)
    streams = tuple(wide if s.name == stream else s for s in cell.STREAMS)
    return streams, {**CHUNKS, stream: [dataclasses.replace(chunk, data=data)]}


def score(
    model: Model,
    streams: Sequence[StreamSpec] = cell.STREAMS,
    chunks: Mapping[str, list[Chunk]] = CHUNKS,
    end: SeamWindow | None = None,
) -> Score:
    """The seam through the scorer, in pieces of some 50 ms."""
    scorer = model.begin(cell.seam(), tuple(streams))
    pieces = list(chunks.get("camera", ()))
    for name in ("welder", "motion", "microphone"):
        for chunk in chunks.get(name, ()):
            step = max(1, chunk.n // 40)
            pieces += [chunk.cut(a, min(a + step, chunk.n)) for a in range(0, chunk.n, step)]
    for piece in sorted(pieces, key=lambda c: c.t_ns):
        scorer.push(piece)
    return scorer.finish(window() if end is None else end)


def nan_at(first: int, last: int, value: float = float("nan"), step: int = 1) -> Change:
    def change(data: np.ndarray) -> None:
        data[first:last:step, 0] = value

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("stream", ["welder", "microphone", "motion"])
def test_a_few_samples_that_are_no_numbers_are_as_if_lost(model: Model, stream: str, value: float) -> None:
    spec = next(s for s in cell.STREAMS if s.name == stream)
    first = round(0.8 * spec.rate_hz)
    found = score(model, *floats(stream, nan_at(first, first + max(1, round(0.1 * spec.rate_hz)), value)))
    assert np.isfinite(found.raw)
    assert all(np.isfinite(z) for z in found.components.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("stream", "rate_hz"), [("welder", 10_000), ("microphone", 48_000)])
def test_many_are_counted_and_refused_with_the_streams_name(
    model: Model, stream: str, rate_hz: int, value: float
) -> None:
    bad = round(0.2 * rate_hz)
    streams, chunks = floats(stream, nan_at(rate_hz // 2, rate_hz // 2 + bad, value))
    with pytest.raises(ValueError, match=rf"{bad} of \d+ samples of stream {stream} are NaN or infinite") as said:
        score(model, streams, chunks)
    total = int(str(said.value).split(" samples")[0].rpartition(" ")[2])
    assert total == pytest.approx(ARC_S * rate_hz, abs=10)  # the devices' clocks run fast by up to 80 ppm


def test_what_lies_outside_the_arc_is_not_counted(model: Model) -> None:
    def change(data: np.ndarray) -> None:
        data[:2_900] = np.nan  # the arc begins at 3,000
        data[18_100:] = np.nan

    assert np.isfinite(score(model, *floats("welder", change)).raw)


def test_the_samples_left_over_are_the_features() -> None:
    def step_means(change: Change | None) -> np.ndarray:
        streams, chunks = floats("welder", change)
        extractor = SeamExtractor(cell.seam(), streams, TinyBackbone())
        extractor.push(chunks["welder"][0])
        found = extractor.finish(window())
        assert np.isfinite(found.sensor).all()
        return found.sensor[:, SENSOR_FEATURES.index("current_mean")]

    whole, thinned = step_means(None), step_means(nan_at(5_000, 6_000, step=2))
    lost = step_means(nan_at(5_000, 6_000))
    assert thinned == pytest.approx(whole, abs=5)  # 50 of 100 samples with a deviation of 10 A
    changed = np.flatnonzero(lost != whole)
    assert changed[0] >= 19
    assert changed[-1] <= 30
    assert len(np.unique(lost[22:29])) == 1  # held


def test_a_number_beyond_reason_gives_no_score(model: Model) -> None:
    def change(data: np.ndarray) -> None:
        data[5_000:9_000, 0] = 1e30

    streams, chunks = floats("welder", change)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"not finite|beyond reason"):
        score(model, streams, chunks)


@pytest.mark.parametrize("where", ["raw", "score", "components"])
def test_a_score_that_hides_a_nan_is_refused(where: str) -> None:
    value = {"s_P": 1.0, "s_R": float("nan")} if where == "components" else float("inf")
    assert a_score().checked("s") == a_score()
    with pytest.raises(ValueError, match=r"seam s: (raw is inf|score is inf|s_R is nan); .*beyond reason"):
        a_score(**{where: value}).checked("s")


def test_a_required_stream_that_gave_nothing_is_named(model: Model) -> None:
    with pytest.raises(ValueError, match="required stream welder is missing"):
        score(model, chunks={name: chunks for name, chunks in CHUNKS.items() if name != "welder"})


def test_an_optional_stream_that_gave_nothing_is_done_without(model: Model) -> None:
    found = score(model, chunks={name: CHUNKS[name] for name in ("welder",)})
    assert np.isfinite(found.raw)
    assert "audio" not in found.by_modality


def test_a_seam_without_its_result_is_named(model: Model) -> None:
    end = dataclasses.replace(window(), views={}, height_map_mm=None)
    with pytest.raises(ValueError, match=r"required stream (result|profile) is missing"):
        score(model, end=end)


def test_a_height_map_of_which_half_is_missing_is_refused(model: Model) -> None:
    heights = bead()
    heights[:, ::3] = np.nan  # a third: filled from its neighbours
    assert np.isfinite(score(model, end=window(height_map_mm=heights)).raw)
    heights[:60] = np.inf
    with pytest.raises(ValueError, match=r"73% of the height map has no return.*clean the profiler's window"):
        score(model, end=window(height_map_mm=heights))


def test_a_program_never_seen_is_unknown(model: Model) -> None:
    scorer = LocalScorer({"p9": model})
    scorer.begin(cell.seam(program="p9"), cell.STREAMS)
    scorer.push("seam", CHUNKS["welder"][0])
    scorer.finish(window("p9"))
    (reply,) = scorer.poll()
    assert (reply.score, reply.reason) == (None, "unknown_program")
    assert "not trained on program 'p9'; it knows p1, p2" in reply.detail


def test_a_program_without_a_band_is_unknown(tmp_path: Path) -> None:
    scorer = LocalScorer({"p1": load_detector(write_band_model(tmp_path / "model"))})
    scorer.begin(cell.seam(), cell.STREAMS)
    scorer.push("seam", CHUNKS["welder"][0])
    scorer.finish(window())
    assert [reply.reason for reply in scorer.poll()] == ["unknown_program"]


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


@pytest.mark.parametrize("which", ["causal", "grid"])
def test_a_model_with_a_wrong_digest_version_or_a_pickle_is_refused(
    which: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    changed = copied(folders[which], tmp_path / "digest")
    (changed / "model.safetensors").write_bytes(b"else")
    with pytest.raises(ModelError, match=r"model.safetensors has changed; copy the model again"):
        load_detector(changed)
    old = copied(folders[which], tmp_path / f"{which}-old")
    text = (old / "model.toml").read_text()
    (old / "model.toml").write_text(text.replace('features_version = "', 'features_version = "0.', 1))
    write_manifest(old)
    with pytest.raises(ModelError, match=r"features_version is '0\.\d+', .* train the model again"):
        load(old, tmp_path)
    beside = copied(folders[which], tmp_path / f"{which}-beside")
    (beside / "weights.pt").write_bytes(pickle.dumps({}))
    write_manifest(beside)
    with pytest.raises(ModelError, match=r"weights.pt can run code when read and is never loaded.*edged train"):
        load(beside, tmp_path)
    inside = copied(folders[which], tmp_path / f"{which}-inside")
    (inside / "model.safetensors").write_bytes(pickle.dumps({"net.weight": [1.0]}))
    write_manifest(inside)
    with pytest.raises(ModelError, match=r"model.safetensors: cannot be read"):
        load(inside, tmp_path)


def test_too_few_goods_say_how_many_more() -> None:
    # 30 of 99 by the model's own scores; a grid detector is calibrated by the same function as Causal-HM
    with pytest.raises(TooFewGoodsError, match=r"program p1: 30 good seams .* 1.00% needs 99: record 69 more"):
        calibrate("cfm-1", "p1", ("profile", "welder"), np.linspace(1, 2, 30).tolist())
    with pytest.raises(ValueError, match="record at least 24"):
        split_by_session(grid_goods(3), SMALL)
    seams = [dataclasses.replace(seam, geo=None) for seam in grid_goods(24)]
    with pytest.raises(ValueError, match=r"no good seam of the part 'train' has the streams profile, welder"):
        fit_grid("cfm", seams, split_by_session(seams, SMALL), GridOptions(("geo", "proc"), epochs=1))


def test_the_scan_covers_the_made_up_seam() -> None:
    assert FRAME.scan is not None
    assert len(bead()) * FRAME.scan[1] >= LENGTH_MM
