"""AUPRO and pixel AUROC against cases worked out by hand, other implementations, and what must hold for any score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pipelines.aupro import aupro, aupro_compat, pixel_auroc


def case(seed: int, levels: int = 40, maps: int = 3) -> tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]]:
    rng = np.random.default_rng(seed)
    masks = [rng.random((15, 18)) < 0.15 for _ in range(maps)]
    return [rng.integers(0, levels, mask.shape) + 8.0 * mask for mask in masks], masks


def brute(maps: list[NDArray[np.float64]], masks: list[NDArray[np.bool_]], limit: float) -> float:
    """The definition, threshold by threshold, with regions found by flooding."""
    regions, goods = [], np.concatenate([score[~mask] for score, mask in zip(maps, masks, strict=True)])
    for score, mask in zip(maps, masks, strict=True):
        left = set(zip(*np.nonzero(mask), strict=True))
        while left:
            todo, found = [left.pop()], []
            while todo:
                row, column = todo.pop()
                found.append(score[row, column])
                near = {(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)} & left
                left -= near
                todo += near
            regions.append(np.array(found))
    thresholds = sorted(set(np.concatenate([score.ravel() for score in maps])), reverse=True)
    x = np.array([0.0] + [float(np.mean(goods >= threshold)) for threshold in thresholds])
    y = np.array([0.0] + [float(np.mean([np.mean(r >= threshold) for r in regions])) for threshold in thresholds])
    at_limit = np.interp(limit, x, y) if limit not in x else None
    inside = x <= limit
    xs = x[inside] if at_limit is None else np.append(x[inside], limit)
    ys = y[inside] if at_limit is None else np.append(y[inside], at_limit)
    return float(np.trapezoid(ys, xs) / limit)


def test_a_case_worked_out_by_hand() -> None:
    # Regions {9, 3} and {5}; goods 7, 6, 4, 2 and seven 1. Downwards: 9 → PRO ¼; 7, 6 → FPR 1/11, 2/11; 5 → PRO ¾;
    # 4 → FPR 3/11; 3 → PRO 1.
    score = np.array([[9, 3, 7, 6, 4, 2, 1], [1, 1, 1, 1, 1, 1, 5]], np.float64)
    mask = np.array([[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]], np.bool_)
    area = (2 / 11) * 0.25 + (1 / 11) * 0.75 + (0.3 - 3 / 11) * 1.0
    assert aupro([score], [mask]) == pytest.approx(area / 0.3)
    assert aupro([score], [mask], limit=0.1) == pytest.approx(0.25)
    # Pixels: 9 beats 11 goods, 5 beats 9, 3 beats 8.
    assert pixel_auroc([score], [mask]) == pytest.approx(28 / 33)


def test_compat_worked_out_by_hand() -> None:
    # Goods 1…10, region {5.5, 20}. Three ranks: 1, 5 (position 4), 10 → (FPR, PRO) = (.9, 1), (.5, 1), (0, ½).
    score = np.append(np.arange(1.0, 11.0), [5.5, 20.0])[None]
    mask = np.append(np.zeros(10, np.bool_), [True, True])[None]
    at_limit = 0.5 + 0.5 * 0.3 / 0.5
    assert aupro_compat([score], [mask], thresholds=3) == pytest.approx((0.5 + at_limit) / 2)
    # Exactly, half of the region lies above every good and 5 of 10 goods above the other half.
    assert aupro([score], [mask]) == pytest.approx(0.5)


def test_compat_counts_a_region_pixel_that_equals_a_good_one_as_missed() -> None:
    # Goods 1, 2, 2, 3; region {2, 5}. Ranks give (FPR, PRO) = (.75, 1), (.5, ½), (.25, ½), (0, ½).
    score, mask = np.array([[1.0, 2.0, 2.0, 3.0, 2.0, 5.0]]), np.array([[False] * 4 + [True] * 2])
    assert aupro_compat([score], [mask], limit=0.5, thresholds=4) == pytest.approx(0.5)
    assert aupro([score], [mask], limit=1.0) == pytest.approx(0.25 * 0.5 + 0.5 * 0.75 + 0.25)


def test_regions_touch_at_corners_and_count_alike_whatever_their_size() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[0, 0] = mask[1, 1] = mask[5:9, 5:9] = True
    score = np.where(mask, 0.0, 1.0) + 0.001 * np.arange(100).reshape(10, 10)
    score[0, 0] = 5.0  # half of the small region is found before any good pixel: PRO ¼ all the way
    assert aupro([score], [mask]) == pytest.approx(0.25)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [3, 40, 100_000])
def test_equal_to_the_definition_with_and_without_ties(limit: float, levels: int) -> None:
    maps, masks = case(1, levels)
    assert aupro(maps, masks, limit) == pytest.approx(brute(maps, masks, limit), abs=1e-12)


@given(st.integers(0, 10_000), st.sampled_from([2, 5, 1000]))
@settings(max_examples=30, deadline=None)
def test_any_monotone_transform_gives_the_same(seed: int, levels: int) -> None:
    maps, masks = case(seed, levels, maps=2)
    other = [np.exp(score / 200.0) * 3 - 7 for score in maps]
    for measure in (aupro, aupro_compat, pixel_auroc):
        assert measure(other, masks) == pytest.approx(measure(maps, masks), abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_pixel_auroc_is_that_of_all_pixels_pooled(seed: int) -> None:
    maps, masks = case(seed, 6)
    within = [np.random.default_rng(seed + 1).random(mask.shape) < 0.7 for mask in masks]
    inside = [np.concatenate([a[w] for a, w in zip(arrays, within, strict=True)]) for arrays in (masks, maps)]
    assert pixel_auroc(maps, masks, within) == pytest.approx(roc_auc_score(*inside), abs=1e-12)


def test_perfect_is_one_inverted_is_nothing_and_random_half_the_limit() -> None:
    maps, masks = case(2, 1000)
    perfect = [mask.astype(np.float64) for mask in masks]
    for measure in (aupro, pixel_auroc):
        assert measure(perfect, masks) == pytest.approx(1.0)
        assert measure([-score for score in perfect], masks) == pytest.approx(0.0)
    rng = np.random.default_rng(3)
    maps, masks = [rng.random((200, 200)) for _ in range(4)], [np.zeros((200, 200), np.bool_) for _ in range(4)]
    for mask in masks:
        mask[20:60, 20:60] = mask[100:140, 100:140] = True
    assert aupro(maps, masks) == pytest.approx(0.15, abs=0.01)
    assert aupro_compat(maps, masks) == pytest.approx(0.15, abs=0.01)
    assert pixel_auroc(maps, masks) == pytest.approx(0.5, abs=0.02)


def test_compat_nears_exact_with_many_thresholds() -> None:
    maps, masks = case(4, 10**9)
    apart = [abs(aupro_compat(maps, masks, thresholds=n) - aupro(maps, masks)) for n in (20, 600)]
    assert apart[1] < 0.003
    assert apart[1] < apart[0]


class Lazily(list[int]):
    """A sequence that makes each map when it is asked for."""

    def __getitem__(self, index: int) -> NDArray[np.float32]:  # type: ignore[override]
        return np.random.default_rng(index).random((256, 256), dtype=np.float32)


def test_memory_does_not_grow_with_the_good_pixels() -> None:
    import tracemalloc

    class Masks(Lazily):
        def __getitem__(self, index: int) -> NDArray[np.bool_]:  # type: ignore[override]
            mask = np.zeros((256, 256), np.bool_)
            mask[:8, :8] = index == 0
            return mask

    peaks = []
    for count in (2, 40):
        tracemalloc.start()
        aupro(Lazily(range(count)), Masks(range(count)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


GOOD, BAD = np.zeros((4, 4), np.bool_), np.eye(4, dtype=np.bool_)
SCORE = np.arange(16.0).reshape(4, 4)


@pytest.mark.parametrize(
    ("maps", "masks", "limit", "names"),
    [
        ([SCORE], [GOOD], 0.3, "region"),
        ([SCORE], [~GOOD], 0.3, "good pixel"),
        ([SCORE, SCORE], [BAD], 0.3, "2 maps but 1 masks"),
        ([SCORE[:3]], [BAD], 0.3, r"map 0 is \(3, 4\)"),
        ([np.where(BAD, np.nan, SCORE)], [BAD], 0.3, "map 0 has 4 scores"),
        ([SCORE], [BAD], 0.0, r"limit = 0\.0"),
        ([SCORE], [BAD], 1.5, r"limit = 1\.5"),
    ],
)
def test_what_cannot_be_measured_is_named(
    maps: list[NDArray[np.float64]], masks: list[NDArray[np.bool_]], limit: float, names: str
) -> None:
    for measure in (aupro, aupro_compat):
        with pytest.raises(ValueError, match=names):
            measure(maps, masks, limit)


def test_pixel_auroc_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="anomalous pixel"):
        pixel_auroc([SCORE], [BAD], [~BAD])
    with pytest.raises(ValueError, match="good pixel"):
        pixel_auroc([SCORE], [BAD], [BAD])
    with pytest.raises(ValueError, match="1 maps but 2"):
        pixel_auroc([SCORE], [BAD], [BAD, BAD])
    with pytest.raises(ValueError, match="map 0"):
        pixel_auroc([SCORE], [BAD], [BAD[:2]])
