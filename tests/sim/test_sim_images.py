"""The photograph shows markers, bead and damage at the promised scale."""

import cv2
import numpy as np
import pytest

from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.photograph import FIELD_MM, MARKER_DICTIONARY, marker_centres_mm
from drivers.sim.programs import PROGRAMS
from drivers.sim.render import render_seam
from drivers.sim.seam import IMAGE_PRESETS, ImagePreset, RenderedSeam, SeamPlan

SMALL = IMAGE_PRESETS["small"]
VIEWS = ImagePreset(arc_px=(24, 40), view_px=SMALL.view_px, arc_fps=SMALL.arc_fps, jpeg_quality=SMALL.jpeg_quality)


def seam(program: str, seed: int, fault: str | None = None, preset: ImagePreset = VIEWS) -> RenderedSeam:
    if fault is None:
        return render_seam(SeamPlan(0, program, "session-01", seed), preset)
    row = FAULTS[fault]
    made = fault_of(fault, 4, 1.5, 1.5 + (row.extent_s or 2.0))
    return render_seam(SeamPlan(0, program, "session-01", seed, row.family, made), preset)


def gray(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("program", PROGRAMS)
def test_markers_are_found_and_give_eight_pixels_a_millimetre(program: str) -> None:
    view = gray(seam(program, 8).views["top"])
    assert view.shape == SMALL.view_px
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKER_DICTIONARY)))
    corners, ids, _ = detector.detectMarkers(np.minimum(view, np.uint8(np.median(view))))
    found = {int(i): c[0].mean(axis=0) for i, c in zip(ids.ravel(), corners, strict=True)}
    centres = marker_centres_mm(PROGRAMS[program].length_mm)
    assert set(found) == set(centres)
    pixels = float(np.linalg.norm(found[1] - found[0]))
    assert pixels / (centres[1][0] - centres[0][0]) >= 8
    assert pixels / (centres[1][0] - centres[0][0]) == pytest.approx(view.shape[1] / FIELD_MM[0], rel=0.04)


@pytest.mark.parametrize(
    "fault", ["gas_loss", "burn_through", "undercut", "convexity", "spatter_on_bead", "scratch", "oil", "wrong_part"]
)
def test_what_shows_changes_the_photograph_and_the_relief_unless_it_is_flat(fault: str) -> None:
    good, bad = seam("spray-lap-5", 9), seam("spray-lap-5", 9, fault)
    difference = cv2.absdiff(gray(good.views["top"]), gray(bad.views["top"]))
    assert (difference > 25).sum() > 40
    flat = fault in ("oil", "gas_loss")
    assert flat or np.abs(good.profile - bad.profile).max() > 0.1


def test_wire_slip_lowers_the_profile_from_where_its_pool_froze() -> None:
    good = seam("spray-lap-5", 10)
    slip = fault_of("wire_slip", 4, 3.0, 9.0)
    bad = render_seam(SeamPlan(0, "spray-lap-5", "session-01", 10, "both", slip), VIEWS)
    lost = (good.profile - bad.profile)[:, 50:70].mean(axis=1)
    at = np.arange(len(lost)) * good.profile_mm_per_row
    assert np.abs(lost[at < bad.truth["onset_mm"] - 15]).max() < 0.02
    assert lost[(at > bad.truth["onset_mm"] + 2) & (at < at[-1] - 6)].min() > 0.05
