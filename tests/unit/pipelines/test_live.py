"""The live score: what it finds and how soon, what it leaves alone, and that chunks and bulk features agree."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from drivers.base import Chunk
from pipelines.features.extractor import SeamExtractor
from pipelines.live import LiveModel, LiveValue, highest_raw, live_values
from pipelines.live_fit import fit_live, live_thresholds
from pipelines.live_scorer import (
    LIVE_FILE,
    LIVE_SIGNAL,
    Live,
    load_live,
    process_kinds,
    save_live,
    use_cell_limits,
)
from pipelines.live_tokens import HEAD_TOKENS, LiveStretches, LiveToken
from pipelines.models import ModelError
from pipelines.normaliser import fit_normaliser
from pipelines.thresholds import ThresholdTable, calibrate
from pipelines.window import LivePoint
from tests.support import seam_chunks as cell
from tests.support.backbone import TinyBackbone
from tests.support.live_seams import TOKENS, live_goods, live_seam

ONSET = 25
ALL = frozenset({"welder", "audio", "video"})


@pytest.fixture(scope="module")
def model() -> LiveModel:
    goods = live_goods(64)
    names = sorted({f.session for f in goods})
    return fit_live(goods, np.array([names.index(f.session) for f in goods]), fit_normaliser(goods))


@pytest.fixture(scope="module")
def limits(model: LiveModel) -> dict[str, float]:
    table = live_thresholds(model, "m", live_goods(80, seed=1), alpha=0.05, sets=(ALL,))
    assert {threshold.signal for threshold in table} == {LIVE_SIGNAL}
    return {threshold.program: threshold.value for threshold in table}


def first_warning(values: Iterable[LiveValue], limit: float) -> int | None:
    return next((value.token for value in values if value.raw > limit), None)


def test_a_step_in_mid_seam_is_warned_of_within_half_a_second_and_goods_are_not(
    model: LiveModel, limits: dict[str, float]
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(6):
        found = first_warning(live_values(model, live_seam(rng, 0, onset=ONSET, volts=4.0)), limits["p1"])
        assert found is not None
        assert ONSET <= found < ONSET + 5
    warned = [first_warning(live_values(model, f), limits[f.program]) is not None for f in live_goods(40, seed=4)]
    assert sum(warned) <= 8


def test_a_crater_that_is_not_filled_shows_when_the_arc_goes_out(model: LiveModel, limits: dict[str, float]) -> None:
    values = live_values(model, live_seam(np.random.default_rng(5), 0, filled=0))
    assert first_warning(values, limits["p1"]) == TOKENS
    assert first_warning(live_values(model, live_seam(np.random.default_rng(5), 0)), limits["p1"]) is None


def test_the_predicted_result_leaves_the_good_ones_where_the_process_does(model: LiveModel) -> None:
    rng = np.random.default_rng(6)
    usual, hot = ([live_values(model, live_seam(rng, 0, heat=heat))[-5].parts["s_R"] for _ in range(4)]
                  for heat in (0.0, 6.0))  # fmt: skip
    assert min(hot) > max(usual) + 1.0


def test_prefixes_do_not_see_what_comes(model: LiveModel) -> None:
    seam, other = (live_seam(np.random.default_rng(7), 0, onset=onset, volts=5.0) for onset in (None, ONSET))
    before = [v for v in live_values(model, seam) if v.token < ONSET]
    assert before == [v for v in live_values(model, other) if v.token < ONSET]


def test_the_highest_with_all_kinds_is_that_of_the_points_and_fewer_kinds_never_raise(model: LiveModel) -> None:
    seam = live_seam(np.random.default_rng(8), 0)
    whole, alone = highest_raw(model, seam, (ALL, frozenset({"welder"})))
    assert whole == max(value.raw for value in live_values(model, seam))
    assert 0 < alone <= whole
    assert process_kinds(model) == ALL


def token(value: float, speed: float | None = 6.0, burning: bool = True) -> LiveToken:
    return LiveToken({"sensor": np.full(48, value)}, burning, speed)


def test_stretches_are_means_and_changes_of_the_body_only() -> None:
    stretches = LiveStretches(shortest=1000)
    stretches.add(token(500.0))
    found = [stretches.add(token(100.0)) for _ in range(HEAD_TOKENS - 1)]
    assert found[0].keys() == {"sensor.head"}
    assert [(k, f[name][0]) for k, f in enumerate(found, start=1) for name in f if "start" in name] == [
        (3, 100.0), (7, 100.0)
    ]  # fmt: skip
    for _ in range(10):
        body = stretches.add(token(1.0))
    assert body["sensor.3"][0] == 1.0
    for _ in range(3):
        body = stretches.add(token(4.0))
    assert body["sensor.3"][0] == 4.0
    assert body["sensor.change_3"][0] == pytest.approx(3.0)
    assert body["sensor.10"][0] == pytest.approx((7 * 1.0 + 3 * 4.0) / 10)
    assert stretches.travelled_mm == pytest.approx(0.6 * (HEAD_TOKENS + 13))


def test_a_pause_between_two_arcs_tells_the_first_ones_end_and_starts_anew() -> None:
    stretches = LiveStretches(shortest=1000)
    for _ in range(HEAD_TOKENS + 12):
        stretches.add(token(1.0))
    assert stretches.add(token(0.0, burning=False)).keys() == {"sensor.end"}
    assert stretches.add(token(0.0, burning=False)) == {}
    assert "sensor.10" not in stretches.add(token(1.0))


def test_while_the_crater_is_filled_nothing_is_judged() -> None:
    for speed, keys in ((6.0, True), (0.0, False), (None, False)):
        stretches = LiveStretches(shortest=30)
        for _ in range(30):
            stretches.add(token(1.0))
        assert bool(stretches.add(token(1.0, speed))) is keys


@pytest.fixture(scope="module")
def cell_live() -> Live:
    """Fitted on seams of the chunk-made cell, whose streams the test below pushes."""
    goods = []
    for i in range(16):
        rng = np.random.default_rng(i)
        extractor = SeamExtractor(cell.seam(session=f"s{i // 4}"), cell.STREAMS, TinyBackbone())
        for stream in cell.seam_chunks(rng, 2.35).values():
            for chunk in stream:
                extractor.push(chunk)
        goods.append(extractor.finish(cell.window(rng, 2.35, session=f"s{i // 4}")))
    model = fit_live(goods, np.arange(16) // 4, fit_normaliser(goods))
    table = ThresholdTable()
    table.add(calibrate("m", "p1", ALL, [1.0 + 0.1 * i for i in range(9)], 0.1, signal=LIVE_SIGNAL))
    return Live(model, "m", table)


def points(live: Live, chunks: Iterable[Chunk]) -> list[LivePoint]:
    extractor = SeamExtractor(cell.seam(), cell.STREAMS, TinyBackbone())
    scorer = live.begin(cell.seam(), cell.STREAMS, extractor)
    assert scorer is not None
    found: list[LivePoint] = []
    for chunk in chunks:
        extractor.push(chunk)
        scorer.push(chunk)
        found += scorer.points()
    return found


def in_pieces(chunks: Iterable[Chunk], parts: int) -> list[Chunk]:
    def cut(chunk: Chunk) -> list[Chunk]:
        n = max(1, chunk.n // parts)
        return [chunk] if chunk.data.ndim == 1 else [chunk.cut(a, min(a + n, chunk.n)) for a in range(0, chunk.n, n)]

    return sorted((piece for chunk in chunks for piece in cut(chunk)), key=lambda c: c.end_ns)


def test_points_of_chunks_are_those_of_bulk_features_however_they_are_cut(cell_live: Live) -> None:
    chunks = [c for stream in cell.seam_chunks(np.random.default_rng(40), 2.35).values() for c in stream]
    extractor = SeamExtractor(cell.seam(), cell.STREAMS, TinyBackbone())
    for chunk in chunks:
        extractor.push(chunk)
    whole = live_values(cell_live.model, extractor.finish(cell.window(np.random.default_rng(1), 2.35)))
    expected = {value.token: value.raw for value in whole}
    for parts in (97, 281):
        found = points(cell_live, in_pieces(chunks, parts))
        assert not any(point.without for point in found)
        # The last whole token of bulk features is the last that burns; then the arc goes out.
        told = {round(point.t_s * 10) - 1: point.raw for point in found}
        assert told.keys() == expected.keys()
        assert told == pytest.approx(expected, rel=2e-3)
        assert all(point.score == pytest.approx(point.raw / 1.8) for point in found)


def test_a_microphone_that_falls_silent_is_waited_for_once_and_then_named(cell_live: Live) -> None:
    streams = cell.seam_chunks(np.random.default_rng(41), 2.35)
    heard = [c for c in in_pieces(streams["microphone"], 97) if c.end_ns < cell.ON_NS + 1_000_000_000]
    others = [c for name, stream in streams.items() if name != "microphone" for c in stream]
    found = points(cell_live, sorted([*heard, *in_pieces(others, 97)], key=lambda c: c.end_ns))
    missed = [round(point.t_s, 1) for point in found if point.without]
    assert missed[0] == 1.0 or missed[0] == 1.1
    assert all(point.without == ("audio",) for point in found if point.t_s >= 1.2)
    assert found[-1].t_s == pytest.approx(2.4)


class WithLive:
    """A detector as far as its live part goes."""

    def __init__(self, live: Live) -> None:
        self.live = live


def test_the_cells_own_limit_comes_first_for_its_calibration_and_set_of_streams(cell_live: Live) -> None:
    raw = [2.0 + 0.1 * i for i in range(9)]
    own = calibrate("m", "p1", ALL, raw, 0.1, signal=LIVE_SIGNAL, calibration_id="c7")
    live = dataclasses.replace(cell_live)
    for calibration_id, kinds, limit in (("c7", ALL, 2.8), ("c8", ALL, 1.8), ("c7", ALL - {"audio"}, None)):
        use_cell_limits(WithLive(live), ThresholdTable([own]), calibration_id)  # type: ignore[arg-type]
        found = live.threshold("p1", kinds)
        assert (None if found is None else found.value) == (None if limit is None else pytest.approx(limit))
    use_cell_limits(WithLive(live), ThresholdTable([own]), "c7")  # type: ignore[arg-type]
    chunks = [c for stream in cell.seam_chunks(np.random.default_rng(40), 2.35).values() for c in stream]
    found_points = points(live, in_pieces(chunks, 97))
    assert found_points
    assert all(point.score == pytest.approx(point.raw / 2.8) for point in found_points)


def test_a_program_that_was_not_trained_on_has_no_live_score(cell_live: Live) -> None:
    seam = cell.seam(program="p9")
    extractor = SeamExtractor(seam, cell.STREAMS, TinyBackbone())
    assert cell_live.begin(seam, cell.STREAMS, extractor) is None


def test_a_saved_live_part_scores_the_same_and_a_broken_one_is_named(model: LiveModel, tmp_path: Path) -> None:
    normaliser = model.input.normaliser
    assert load_live(tmp_path, normaliser, "m", ThresholdTable()) is None
    save_live(model, tmp_path)
    again = load_live(tmp_path, normaliser, "m", ThresholdTable())
    assert again is not None
    seam = live_seam(np.random.default_rng(9), 1, "p2")
    raw = [value.raw for value in live_values(again.model, seam)]
    assert raw == pytest.approx([value.raw for value in live_values(model, seam)], rel=1e-3)
    (tmp_path / LIVE_FILE).write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match=f"{LIVE_FILE}: cannot be read"):
        load_live(tmp_path, normaliser, "m", ThresholdTable())


def test_live_and_verdict_thresholds_stand_side_by_side_and_old_files_stay(tmp_path: Path) -> None:
    raw = [1.0 + 0.1 * i for i in range(99)]
    verdict, live = (calibrate("m", "p", ["welder"], raw, 0.01, signal=signal) for signal in ("score", LIVE_SIGNAL))
    table = ThresholdTable([verdict])
    table.save(tmp_path / "old.json")
    assert "signal" not in (tmp_path / "old.json").read_text()
    table.add(live)
    table.save(tmp_path / "new.json")
    again = ThresholdTable.load(tmp_path / "new.json")
    assert again.find("m", "p", ["welder"]) == verdict
    assert again.find("m", "p", ["welder"], signal=LIVE_SIGNAL) == live
    assert verdict.threshold_id != live.threshold_id
    assert verdict.threshold_id == dataclasses.replace(live, signal="score").threshold_id
