"""A seam on its grid: what lies at a place of the seam lies in that place's cell, whichever stream showed it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.features.extractor import SeamFeatures
from pipelines.features.result import CROP_X, CROP_Y
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.grids import MODALITIES
from pipelines.normaliser import Normaliser, fit_normaliser
from pipelines.seam_grid import (
    HALF_WIDTH_MM,
    GridScaler,
    arc_position_mm,
    fit_grid_scaler,
    overlaps,
    seam_grid,
)
from pipelines.window import SeamFrame
from tests.support.grid_seams import FRAME, LENGTH_MM, framed, grid_goods
from tests.support.law_seams import law_seam

SPEED = SENSOR_FEATURES.index("tcp_speed")


def seam() -> SeamFeatures:
    rng = np.random.default_rng(3)
    return framed(law_seam(rng, 0), rng)


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    return fit_normaliser(grid_goods(12))


EXTENT = st.tuples(st.floats(-50, 50), st.floats(1, 80), st.integers(1, 40)).map(lambda t: (t[0], t[0] + t[1], t[2]))


@given(EXTENT, EXTENT)
def test_overlaps_are_averages(source: tuple[float, float, int], target: tuple[float, float, int]) -> None:
    weight = overlaps(source, target)
    assert weight.shape == (target[2], source[2])
    assert (weight >= 0).all()
    np.testing.assert_allclose(weight.sum(1), 1.0, rtol=1e-5)


@given(st.floats(-20, 0), st.floats(30, 60), st.integers(20, 200), st.integers(1, 28))
def test_a_ramp_in_mm_lies_where_it_belongs(first: float, last: float, n: int, bins: int) -> None:
    """Bins whose value is their place in mm give, wherever the source covers the target, the target's places."""
    target = (0.0, 30.0, bins)
    at = (np.arange(n) + 0.5) / n * (last - first) + first
    found = overlaps((first, last, n), target) @ at
    wanted = (np.arange(bins) + 0.5) / bins * 30.0
    assert found == pytest.approx(wanted, abs=(last - first) / n)


def test_what_lies_beyond_takes_the_nearest() -> None:
    weight = overlaps((10.0, 20.0, 5), (0.0, 30.0, 3))
    np.testing.assert_allclose(weight @ np.arange(5.0), [0.0, 2.0, 4.0], atol=1e-6)


@pytest.mark.parametrize(("s_mm", "y_mm"), [(12.0, 3.0), (40.0, -5.0), (26.5, 0.5)])
def test_a_mark_on_the_photograph_lands_in_its_cell(s_mm: float, y_mm: float) -> None:
    """The mark is drawn where the markers' places say it would be seen."""
    dark = seam()
    x0, x1, y0, y1 = FRAME.views["top"]
    view = dark.views["top"]
    level = {part: np.zeros_like(getattr(view, part)) for part in ("fine", "coarse", "profile")}
    along = ((s_mm - x0) / (x1 - x0) - CROP_X[0]) / (CROP_X[1] - CROP_X[0])
    across = ((y_mm - y0) / (y1 - y0) - CROP_Y[0]) / (CROP_Y[1] - CROP_Y[0])
    for cells in level.values():
        cells[int(across * cells.shape[0]), int(along * cells.shape[1])] = 1.0
    marked = dataclasses.replace(dark, views={"top": dataclasses.replace(view, **level)})
    grid = seam_grid(marked, ["rgb"])
    assert grid.valid.all()
    h, w = grid.valid.shape
    wanted = (int((y_mm + HALF_WIDTH_MM) / (2 * HALF_WIDTH_MM) * h), int(s_mm / LENGTH_MM * w))
    for channels in (slice(0, 40), slice(152, 155)):  # fine map, brightness
        shown = grid.cells["rgb"][..., channels].sum(-1)
        assert np.unravel_index(shown.argmax(), shown.shape) == wanted


def test_a_bump_of_the_height_map_lands_in_its_cell() -> None:
    flat = seam()
    assert flat.geo is not None
    heights = np.zeros_like(flat.geo.heights)
    heights[84:88, 56:60, 0] = 2.0  # across 6 to 7 mm, along 25 to 26.8 mm
    known = flat.geo.known.copy()
    known[0] = False
    grid = seam_grid(
        dataclasses.replace(flat, geo=dataclasses.replace(flat.geo, heights=heights, known=known)), ["geo"]
    )
    shown = grid.cells["geo"][..., 152]
    assert np.unravel_index(shown.argmax(), shown.shape) == (10, 14)
    assert shown.max() == pytest.approx(2.0 * (4 / 8), rel=0.02)  # a cell is 8 points across and 4 along
    assert not grid.valid[0].any()
    assert grid.valid[1:].all()


def moving(features: SeamFeatures, speed_mm_s: np.ndarray, known: bool = True) -> SeamFeatures:
    sensor, there = features.sensor.copy(), features.sensor_known.copy()
    sensor[:, SPEED], there[:, SPEED] = speed_mm_s, known
    return dataclasses.replace(features, sensor=sensor, sensor_known=there)


def test_the_arc_is_where_its_speed_took_it() -> None:
    steps = 10 * seam().tokens
    speed = np.where(np.arange(steps) < steps // 2, 10.0, 2.0)
    found = arc_position_mm(moving(seam(), speed))
    wanted = np.interp((np.arange(8) + 0.5) * 0.1, [0.0, 0.4, 0.8], [0.0, 4.0, 4.8])
    np.testing.assert_allclose(found, wanted, atol=0.11)  # half a step is 5 ms
    gone = moving(seam(), speed)
    gone.sensor_known[10:20, SPEED] = False  # a stretch that the motion stream missed goes at its mean
    assert arc_position_mm(gone)[-1] == pytest.approx(
        wanted[-1] - 10 * 0.1 + 0.1 * speed[[*range(10), *range(20, 80)]].mean(), abs=0.1
    )


def test_backwards_motion_never_takes_the_arc_back() -> None:
    speed = np.where(np.arange(80) % 20 < 10, 8.0, -3.0)
    assert (np.diff(arc_position_mm(moving(seam(), speed))) >= 0).all()


def test_without_motion_the_programmed_speed_or_even_progress() -> None:
    still = moving(seam(), np.zeros(80), known=False)
    wanted = (np.arange(8) + 0.5) * 0.1
    np.testing.assert_allclose(arc_position_mm(still), 6.0 * wanted, atol=0.07)
    even = dataclasses.replace(still, travel_speed_mm_s=None)
    np.testing.assert_allclose(arc_position_mm(even), LENGTH_MM / 0.8 * wanted, atol=0.7)


def test_a_rows_process_is_that_of_the_arc_beyond_it_by_the_lag(normaliser: Normaliser) -> None:
    """A burst of current in one token shows on the metal that froze then: the lag behind where the arc stood."""
    plain = moving(seam(), np.full(80, LENGTH_MM / 0.8))
    burst = dataclasses.replace(plain, sensor=plain.sensor.copy())
    burst.sensor[40:50, 0] += 40.0  # token 4, the arc at some 28 mm

    def shown(lag_mm: float) -> np.ndarray:
        frame = dataclasses.replace(FRAME, lag_mm=lag_mm)
        grids = [
            seam_grid(dataclasses.replace(f, frame=frame), ["proc"], normaliser).cells["proc"] for f in (burst, plain)
        ]
        off = np.abs(grids[0] - grids[1])[..., 0]
        assert (off == off[:1]).all()  # the same for all cells across
        return (np.flatnonzero(off[0] > 0.5 * off.max()) + 0.5) / 28 * LENGTH_MM

    position = arc_position_mm(plain)[4]
    for lag_mm in (0.0, 6.0, 12.0):
        rows = shown(lag_mm)
        assert len(rows)
        assert rows.mean() == pytest.approx(position - lag_mm, abs=LENGTH_MM / 8 / 2 + 1.0)


def test_a_cell_knows_its_place_across(normaliser: Normaliser) -> None:
    y = seam_grid(seam(), ["proc"], normaliser).cells["proc"][:, 3, -3:]
    np.testing.assert_allclose(y[:, 0], np.linspace(-1, 1, 14), atol=1e-6)
    np.testing.assert_allclose(y[:, 2], np.abs(y[:, 0]), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": None}, r"does not say where its photographs and scans lie; add \[programs.p1.frame\]"),
        ({"views": {}}, "no post-weld view whose place is known"),
        ({"frame": SeamFrame(50.0)}, r"no post-weld view whose place is known; have \['top'\], places of \[\]"),
        ({"geo": None}, "required stream profile is missing"),
    ],
)
def test_what_a_seam_lacks_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seam_grid(dataclasses.replace(seam(), **change), ["rgb", "geo"])  # type: ignore[arg-type]


def test_a_photograph_without_its_markers_is_refused() -> None:
    found = seam()
    lost = {"top": dataclasses.replace(found.views["top"], located=False)}
    with pytest.raises(ValueError, match="markers of view 'top' were not found"):
        seam_grid(dataclasses.replace(found, views=lost), ["rgb"])


def test_the_scaler_standardises_what_is_valid_and_survives_the_disk(normaliser: Normaliser) -> None:
    grids = [seam_grid(f, MODALITIES, normaliser, (4, 6)) for f in grid_goods(6)]
    for grid in grids:
        grid.valid[0] = False
        grid.cells["geo"][0] = 1e4  # what was not measured must not count
    scaler = fit_grid_scaler(grids)
    data = scaler(grids, np.zeros(6, np.int64), 1)
    assert data.cells["rgb"].shape == (6, 4, 6, 155)
    inside = data.cells["geo"][:, 1:].reshape(-1, 155)
    assert np.abs(inside.mean(0)).max() < 1e-3
    assert np.abs(data.cells["geo"]).max() == 10.0
    again = GridScaler.from_tensors(scaler.tensors(), MODALITIES)
    for name, cells in again(grids, data.program, 1).cells.items():
        np.testing.assert_array_equal(cells, data.cells[name])
