"""The galleries are drawn at a tiny size: every file is there, is a picture, and shows what it says."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.sim.faults import FAULTS
from edged.bench import gallery
from edged.bench.gallery_seams import specimen, types_of


def test_every_gallery_is_written_as_a_picture(tmp_path: Path) -> None:
    paths = gallery.draw_galleries(tmp_path, types=("burn_through", "spatter_on_bead"), columns=(0, 5))
    assert {p.name for p in paths} == set(gallery.GALLERIES)
    for path in paths:
        image = cv2.imread(str(path))
        assert image is not None, path.name
        assert image.std() > 5, f"{path.name} is empty"


def test_a_gallery_without_any_of_the_types_is_left_out(tmp_path: Path) -> None:
    names = {p.name for p in gallery.draw_galleries(tmp_path, types=("oil",), columns=(0, 5))}
    assert "cell-beads.jpg" in names
    assert not names & {"cell-heights.jpg", "cell-frames.jpg", "cell-waves.png", "cell-sound.jpg"}


def test_an_unknown_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rust"):
        gallery.draw_galleries(tmp_path, types=("rust",))


def test_labels_carry_severity_value_and_unit() -> None:
    shown = specimen("burn_through")
    assert shown.label(0) == "good twin"
    assert shown.label(5) == f"5: {FAULTS['burn_through'].severities[4]:g} mm"


def test_the_crop_shows_the_place_of_the_fault() -> None:
    shown = specimen("burn_through")
    good, bad = (gallery.bead_crop(shown, shown.result(s)[0]["top"]).astype(float) for s in (0, 5))
    changed = np.abs(good - bad).mean(axis=2)
    centre = changed[:, changed.shape[1] // 4 : -changed.shape[1] // 4]
    assert centre.mean() > 2 * max(changed[:, :20].mean(), 0.5)


def test_each_fault_that_has_a_picture_acts_on_the_seam_that_shows_it() -> None:
    for name in types_of("both", "process", "drift"):
        fault = specimen(name).plan(3).fault
        assert fault is not None
        assert fault.type == name


def test_the_oracle_is_drawn_and_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    row = {"type": "oil", "family": "result"}
    rows = [row | {"severity": k, "auroc": 0.09 * k, "ci": [0.08 * k, 0.1 * k]} for k in range(1, 6)]
    path = gallery.draw_oracle(rows, tmp_path / "cell-oracle.png")
    assert cv2.imread(str(path)) is not None
    with pytest.raises(ValueError, match="no oracle rows"):
        gallery.draw_oracle([], tmp_path / "none.png")
