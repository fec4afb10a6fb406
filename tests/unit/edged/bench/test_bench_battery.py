"""A small tree with one dent through the whole verb; what is dropped, named and written; cells and maps fit."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from edged.bench import battery
from edged.bench.battery_cells import as_stored, assembled, cells_of, grid_data, linear, picture
from edged.bench.battery_readings import READINGS
from edged.cli import app
from tests.support.backbone import TinyBackbone


def _plate(seed: int, rows: int = 96, dent: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height = rng.normal(150, 4, (rows, 240)).round().clip(1, 255).astype(np.uint8)
    height[:, :40] = 0
    if dent:
        height[40:64, 64:96] = 60
    return height


def _tree(root: Path) -> Path:
    names = {f"train/good/4-a{k}.png": _plate(k) for k in range(6)} | {"test/good/5-a.png": _plate(20, 120)}
    names |= {f"test/defective/6-b{k}_row0_1.png": _plate(30 + k, dent=True) for k in range(2)}
    mask = np.zeros((96, 240), np.uint8)
    mask[40:64, 64:96] = 255
    names |= {f"ground_truth/defective/6-b{k}_row0_1.png": mask for k in range(2)}
    for name, values in names.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / name), values)
    return root


def test_the_picture_has_no_brightness_of_its_own() -> None:
    height = _plate(0)
    brighter = np.where(height > 0, height + 50, 0).astype(np.uint8)
    assert np.array_equal(picture(height), picture(brighter))
    assert picture(height)[:, :40].max() == 0 < picture(height)[:, 40:].min()


def test_a_dent_is_where_its_cells_are() -> None:
    scan = cells_of(_plate(0, 300, dent=True), TinyBackbone())
    assert scan.corners == ((0, 0), (0, 16), (76, 0), (76, 16))
    assert scan.cells.shape == (4, 28, 28, 152)
    assert not scan.plate[0][:, :5].any()
    assert scan.plate[0][:, 5:].all()
    data, like = grid_data([scan])
    assert np.allclose(data.cells["geo"][data.valid].mean(0), 0, atol=1e-3)
    again, _ = grid_data([scan], like)
    assert np.array_equal(again.cells["geo"], data.cells["geo"])
    map_px = assembled(scan, np.abs(data.cells["geo"][..., 0]) * data.valid)
    assert map_px.shape == (300, 240)
    row, column = np.unravel_index(map_px.argmax(), map_px.shape)
    assert 40 <= row < 64
    assert 64 <= column < 96


def test_the_prior_falls_with_the_distance_from_the_edge() -> None:
    prior = battery.edge_prior(_plate(0))
    assert prior[10, 20] == 0
    assert prior[10, 41] > prior[10, 104] > prior[10, 200] > 0
    assert prior[10, 103] == pytest.approx(np.exp(-1), abs=0.01)
    assert np.all(battery.edge_prior(np.full((20, 30), 9, np.uint8)) == 1)


def test_the_verb_writes_rows_page_and_what_falls_short(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"before\n{battery.BEGIN}\nstale figures\n{battery.END}\nafter\n", encoding="utf-8")
    out = tmp_path / "out.json"
    options = ["--data", str(_tree(tmp_path / "set")), "--json", str(out), "--results", str(page), "--readings"]
    done = CliRunner().invoke(app, ["bench", "battery", *options])
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    rows = {row["pipeline"]: row for row in report["rows"]}
    assert list(rows) == ["mean_valid", "image_size", "edge_prior", "median_distance", *battery.PRIMARY]
    assert rows["patchcore"]["pixel_auroc"] > 0.8  # smoothed cells reach beyond the dent
    assert rows["mean_valid"]["pixel_auroc"] is None
    assert rows["edge_prior"]["auroc"] is None
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{battery.END}\nafter\n")
    assert "| patchcore | primary |" in text
    assert "stale figures" not in text
    read = {(row["reading"], row["pipeline"]): row for row in report["readings"]}
    assert len(read) == 2 * len(READINGS)
    assert read["named", "patchcore"]["pixel_auroc"]["64"] == pytest.approx(
        rows["patchcore"]["pixel_auroc"], abs=0.02
    )
    assert read["named", "patchcore"]["aupro_to_1"] >= rows["patchcore"]["aupro"]
    assert "| shrunk | patchcore |" in text


def test_a_shrunk_scan_and_its_map_are_as_large_as_the_scan() -> None:
    scan = cells_of(_plate(0, 300, dent=True), TinyBackbone(), whole=True)
    assert (scan.corners, scan.cells.shape) == (((0, 0),), (1, 28, 28, 152))
    errors = np.zeros((1, 28, 28), np.float32)
    errors[0, 4, 9] = 1.0
    found = assembled(scan, errors)
    assert found.shape == (300, 240)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (row, column) == pytest.approx((4.5 / 28 * 300, 9.5 / 28 * 240), abs=6)


def test_drawings_differ_as_they_say() -> None:
    height = _plate(0)
    brighter = np.where(height > 0, height + 50, 0).astype(np.uint8)
    assert np.array_equal(linear(height), linear(brighter))
    assert not np.array_equal(as_stored(height), as_stored(brighter))
    levels = np.array([[100, 101, 99, 102, 98, 100, 120, 0]], np.uint8)
    assert linear(levels)[0, -2:, 0].tolist() == [255, 0]
    assert picture(levels)[0, -2, 0] < 255


def test_rows_below_the_guard_a_known_figure_or_an_untrained_row_are_said() -> None:
    good = {"pixel_auroc": 0.9, "aupro": 0.95, "auroc": 0.99}
    rows = [{"pipeline": name, **good} for name in battery.PRIMARY]
    rows += [{"pipeline": n, "pixel_auroc": 0.5, "aupro": 0.6} for n in ("edge_prior", "median_distance")]
    assert battery._falls_short(rows) == []
    rows[0] |= {"pixel_auroc": 0.4, "auroc": 0.8}
    said = battery._falls_short(rows)
    assert len(said) == 4
    assert "below the guard" in said[0]
    assert "below the 0.78" in said[1]
    assert "edge_prior" in said[2]


@pytest.mark.parametrize("text", ["", f"{battery.END}\n{battery.BEGIN}\n", f"{battery.BEGIN}\n" * 2 + battery.END])
def test_a_page_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "results.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="once, in this order"):
        battery.write_section(page, "new")
    assert page.read_text(encoding="utf-8") == text


def test_an_unknown_row_and_a_folder_that_is_not_the_set_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "battery", "--data", str(tmp_path), "--also", "patchcor"])
    assert done.exit_code == 2
    assert "no exploratory row 'patchcor'" in done.output
    assert CliRunner().invoke(app, ["bench", "battery", "--data", str(tmp_path / "none")]).exit_code == 2
