"""A height map becomes pictures and numbers: a bead of known shape on a tilted plate is measured as what it is."""

import numpy as np
import pytest

from pipelines.bead_rows import BEAD_FEATURES, METAL_MM, bead_columns, bead_rows
from pipelines.features.geometry import HEIGHT_SHAPE, GeoMap, geometry_map
from pipelines.features.result import LEVELS
from tests.support.backbone import TinyBackbone

WIDTH_MM, HEIGHT_MM, PLACE_MM = 7.0, 2.0, 0.6
LENGTH_MM = 40.0
SCAN = (0.0, 0.5, 12.0)
Y = np.linspace(-12, 12, 161)
NAMES = tuple(bead_columns(np.ones((1, 8)), np.arange(8.0), 1.0))


def parabola(width: float = WIDTH_MM, height: float = HEIGHT_MM, place: float = PLACE_MM) -> np.ndarray:
    """A cross-section `(161,)`."""
    return np.maximum(height * (1 - ((Y - place) / (width / 2)) ** 2), 0.0)


def scan(tilt: float = 0.05, level: float = 3.0, rows: int = 81) -> np.ndarray:
    """The bead on a plate that is tilted across and lies `level` mm up."""
    return (np.tile(parabola(), (rows, 1)) + tilt * Y + level).astype(np.float32)


def mapped(heights: np.ndarray) -> GeoMap:
    return geometry_map(heights, SCAN, LENGTH_MM, TinyBackbone())


def columns(geo: GeoMap) -> dict[str, np.ndarray]:
    return dict(zip(NAMES, bead_rows(geo, 12.0).T, strict=False))


def visible_width() -> float:
    """Of the bead above METAL_MM."""
    return WIDTH_MM * float(np.sqrt(1 - METAL_MM / HEIGHT_MM))


def test_shapes_and_the_plate_at_zero() -> None:
    geo = mapped(scan())
    assert (geo.fine.shape, geo.coarse.shape) == (LEVELS["fine"], LEVELS["coarse"])
    assert geo.heights.shape == HEIGHT_SHAPE
    assert geo.known.all()
    height = geo.heights[..., 0].astype(float)
    assert np.abs(height[:20]).max() < 0.01
    assert np.abs(height[-20:]).max() < 0.01
    assert np.abs(geo.heights[5:-5, 5:-5, 2].astype(float)).max() < 0.01  # nothing changes along the seam


@pytest.mark.parametrize(("tilt", "level"), [(0.0, 0.0), (0.05, 3.0), (-0.1, -8.0)])
def test_width_height_area_and_place_are_recovered_on_a_tilted_plate(tilt: float, level: float) -> None:
    found = columns(mapped(scan(tilt, level)))
    point = 24 / HEIGHT_SHAPE[0]
    assert found["width"] == pytest.approx(visible_width(), abs=point)
    assert found["height"] == pytest.approx(HEIGHT_MM, rel=0.02)
    assert found["area"] == pytest.approx(2 / 3 * WIDTH_MM * HEIGHT_MM, rel=0.02)
    assert found["centre"] == pytest.approx(PLACE_MM, abs=point / 2)
    assert found["lowest"] == pytest.approx(0.0, abs=0.02)
    assert found["lopsided"] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_a_wider_or_higher_bead_is_so(scale: float) -> None:
    wide = np.tile(parabola(width=WIDTH_MM * scale), (81, 1)).astype(np.float32)
    high = np.tile(parabola(height=HEIGHT_MM * scale), (81, 1)).astype(np.float32)
    base = columns(mapped(scan(0.0, 0.0)))
    assert columns(mapped(wide))["width"].mean() / base["width"].mean() == pytest.approx(scale, rel=0.03)
    assert columns(mapped(wide))["height"] == pytest.approx(base["height"], rel=0.02)
    assert columns(mapped(high))["height"] == pytest.approx(base["height"] * scale, rel=0.02)


def test_bead_rows_are_finite_and_a_dip_shows_in_its_stretch() -> None:
    dipped = scan()
    dipped[40:43] -= 1.5 * (np.abs(Y - PLACE_MM) < 1.0)  # 20 to 21.5 mm of 40: stretches 14 and 15 of 28
    rows = bead_rows(mapped(dipped), 12.0)
    assert rows.shape == (28, BEAD_FEATURES)
    assert np.isfinite(rows).all()
    off = np.abs(rows - bead_rows(mapped(scan()), 12.0)).sum(1)
    assert set(np.argsort(off)[-2:]) <= {13, 14, 15}
    assert off[:12].max() < 0.05 * off.max()


def test_a_plate_without_a_bead_has_no_width() -> None:
    found = columns(mapped((0.03 * Y + np.zeros((81, 1))).astype(np.float32)))
    assert found["width"].max() == 0.0
    assert np.abs(found["height"]).max() < 0.01
    assert np.isfinite(np.stack(list(found.values()))).all()


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_missing_points_are_filled_from_their_neighbours_and_marked(nothing: float) -> None:
    holed = scan()
    rng = np.random.default_rng(1)
    holed[rng.random(holed.shape) < 0.2] = nothing
    holed[30:36, 60:80] = nothing
    whole, filled = mapped(scan()), mapped(holed)
    off = np.abs(filled.heights[..., 0].astype(float) - whole.heights[..., 0].astype(float))
    assert off.max() < 0.15
    assert columns(filled)["width"] == pytest.approx(visible_width(), abs=0.3)
    assert not filled.known[5:7, 11].all()
    assert filled.known.mean() > 0.97


def test_a_line_of_the_scan_without_a_return_is_filled() -> None:
    holed = scan()
    holed[:, 80] = np.nan
    holed[:50, 3] = np.inf  # most of a line beside the bead, where the plate is taken from
    holed[20] = np.nan
    assert columns(mapped(holed))["height"] == pytest.approx(HEIGHT_MM, rel=0.03)


def test_only_the_seams_part_of_a_longer_scan_is_looked_at() -> None:
    longer = scan(rows=121)
    longer[:20] += 5.0  # the run-on plate, before arc-on
    found = geometry_map(longer, (-10.0, 0.5, 12.0), LENGTH_MM, TinyBackbone())
    assert columns(found)["height"] == pytest.approx(HEIGHT_MM, rel=0.02)


def test_a_scan_too_short_for_the_seam_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"reaches from 0.0 to 30.0 mm, the seam is 40.0 mm long; correct the program"
    ):
        mapped(scan(rows=61))


def test_a_scan_with_hardly_a_return_is_refused() -> None:
    holed = scan()
    holed[:50] = np.nan
    with pytest.raises(ValueError, match=r"62% of the height map has no return, at most 50% .* clean the profiler's"):
        mapped(holed)


def test_a_scan_that_does_not_see_the_plate_is_refused() -> None:
    holed = scan()
    holed[:, np.abs(Y) > 8.0] = np.nan
    with pytest.raises(ValueError, match="no return from the plate beside the bead"):
        mapped(holed)
