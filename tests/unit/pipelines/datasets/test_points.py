"""Preprocessing of organised points: DBSCAN against scikit-learn's, the plane, the pad."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from pipelines.datasets.dbscan import NOISE, dbscan
from pipelines.datasets.points import keep_largest_cluster, pad_square, remove_plane
from tests.support.dataset_trees import scan


@given(st.integers(0, 100_000), st.sampled_from([0.03, 0.06, 0.12]), st.sampled_from([1, 4, 12]))
@settings(max_examples=60, deadline=None)
def test_dbscan_is_that_of_scikit_learn(seed: int, distance: float, min_points: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.random((5, 3))
    points = centres[rng.integers(0, 5, 250)] + rng.normal(0, 0.03, (250, 3))
    points[:40] = rng.random((40, 3))
    ours, theirs = dbscan(points, distance, min_points), DBSCAN(eps=distance, min_samples=min_points).fit(points)
    assert np.array_equal(ours == NOISE, theirs.labels_ == -1)
    core = theirs.core_sample_indices_  # a point at the rim of two clusters may belong to either
    pairs = {(int(a), int(b)) for a, b in zip(ours[core], theirs.labels_[core], strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_the_plane_goes_and_the_rest_stays_to_the_bit() -> None:
    points = scan()
    cleaned = remove_plane(points)
    kept = cleaned.any(axis=2)
    assert np.array_equal(cleaned[kept], points[kept])
    assert kept[30, 40]
    assert not kept[30, :20].any()
    assert np.array_equal(remove_plane(points), cleaned)


def test_a_scan_that_has_no_border_is_named() -> None:
    points = scan()
    points[:10] = points[-10:] = points[:, :10] = points[:, -10:] = 0
    with pytest.raises(ValueError, match=r"0 points in the 10 px border .* preprocessed before"):
        remove_plane(points)


def test_only_the_largest_cluster_stays_and_an_empty_scan_is_no_error() -> None:
    cleaned = remove_plane(scan())
    assert cleaned[12:18, 12:18].all()  # the block is off the plane, and a cluster of its own
    largest = keep_largest_cluster(cleaned)
    assert not largest[12:18, 12:18].any()
    assert np.array_equal(largest[20:40], cleaned[20:40])
    empty = np.zeros((4, 4, 3), np.float32)
    assert np.array_equal(keep_largest_cluster(empty), empty)


@pytest.mark.parametrize(
    ("size", "side", "top", "left"), [((60, 80), 100, 20, 10), ((100, 100), 100, 0, 0), ((101, 30), 200, 49, 85)]
)
def test_the_pad_is_a_square_of_whole_hundreds(size: tuple[int, int], side: int, top: int, left: int) -> None:
    padded = pad_square(np.ones((*size, 3), np.uint8))
    assert padded.shape == (side, side, 3)
    rows, columns = np.nonzero(padded[..., 0])
    assert (rows.min(), columns.min(), len(rows)) == (top, left, size[0] * size[1])
    assert pad_square(np.ones(size)).shape == (side, side)
