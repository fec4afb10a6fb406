"""Frames follow the arc's energy; the photograph shows markers, bead and damage at the promised scale."""

import cv2
import numpy as np
import pytest

from drivers.sim.arc import ARC_HZ, simulate_arc
from drivers.sim.arc_camera import EXPOSURE_S, READOUT_S, exposed_power
from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.photograph import FIELD_MM, MARKER_DICTIONARY, marker_centres_mm
from drivers.sim.programs import PROGRAMS
from drivers.sim.render import render_seam
from drivers.sim.seam import IMAGE_PRESETS, ImagePreset, RenderedSeam, SeamPlan
from drivers.sim.sessions import session_named
from drivers.sim.variation import draw_latents

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


def test_each_row_sees_the_power_of_its_own_exposure() -> None:
    program, session = PROGRAMS["short-butt-3"], session_named("session-00")
    trace = simulate_arc(program, session, draw_latents(program, session, 5), 5)
    rows = exposed_power(trace, np.array([1.0, 2.0]), 240)
    for row, begin_s in ((0, 2.0), (239, 2.0 + READOUT_S)):
        a, b = int(begin_s * ARC_HZ), int((begin_s + EXPOSURE_S) * ARC_HZ)
        assert rows[1, row] == pytest.approx(trace.power_w[a:b].mean(), rel=0.01)


def test_frame_brightness_follows_integrated_arc_power() -> None:
    rendered = seam("short-butt-3", 6, preset=SMALL)
    program, session = PROGRAMS["short-butt-3"], session_named("session-01")
    trace = simulate_arc(program, session, draw_latents(program, session, 6), 6)
    starts = np.arange(len(rendered.frames)) / rendered.arc_fps - rendered.lead_s
    burning = (starts > 0.7) & (starts < rendered.arc_s - 0.4)
    power = exposed_power(trace, starts, SMALL.arc_px[0]).mean(axis=1)[burning]
    bright = np.array([gray(jpeg).mean() for jpeg in rendered.frames])[burning]
    assert np.corrcoef(power, bright)[0, 1] > 0.85


def test_frames_are_dark_before_the_arc_and_saturated_in_it() -> None:
    rendered = seam("spray-lap-5", 7, preset=SMALL)
    strike = int(rendered.lead_s * rendered.arc_fps)
    assert gray(rendered.frames[strike - 3]).max() < 60
    lit = gray(rendered.frames[strike + 60])
    assert (lit > 250).mean() > 0.005
    assert np.median(lit) < 80
    assert lit.shape == SMALL.arc_px


@pytest.mark.parametrize("program", PROGRAMS)
def test_markers_are_found_and_give_eight_pixels_a_millimetre(program: str) -> None:
    view = gray(seam(program, 8).views["top"])
    assert view.shape == SMALL.view_px
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKER_DICTIONARY)))
    corners, ids, _ = detector.detectMarkers(view)
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
