"""Five views: markers that undo the pose, enough pixels a millimetre, each fault seen where it shows."""

import functools

import cv2
import numpy as np
import pytest

from drivers.sim import damage
from drivers.sim.bead import Bead, form_bead
from drivers.sim.faults import FAULTS, apply_fault, fault_gate, fault_of
from drivers.sim.photo_marks import USUAL_GRAINS
from drivers.sim.photograph import MARKER_DICTIONARY, marker_centres_mm, render_view
from drivers.sim.profile import PROFILE_MM_PER_ROW, profile_grid, render_profile
from drivers.sim.programs import PROGRAMS, VIEW_NAMES
from drivers.sim.seam import IMAGE_PRESETS, Fault
from drivers.sim.sessions import session_named
from drivers.sim.variation import LATENT_HZ, Latents, draw_latents
from drivers.sim.views import VIEWS
from pipelines.features.frames import decode_rgb
from pipelines.features.result import seam_strip

SMALL = IMAGE_PRESETS["small"]
SESSION = session_named("session-01")
ROLLED_MM = (0.3, 0.6, 1.0, 1.5, 2.2)
MISSING_S = (0.05, 0.10, 0.15, 0.20, 0.25)


def _rolled(state: Latents, severity: int) -> None:
    gate = fault_gate(Fault("", severity, 0.0, "mm", 1.5, 4.0), len(state.position_mm))
    state.overlap_mm += gate * ROLLED_MM[severity - 1]


def _unfilled(state: Latents, severity: int) -> None:
    missing_s = MISSING_S[severity - 1]
    last = len(state.position_mm) - int(missing_s * LATENT_HZ)
    state.source_v[last:] = state.wire_mm_s[last:] = 0.0
    state.crater_fill_missing_s = missing_s


SET = {"rolled": _rolled, "unfilled": _unfilled}
"""States that a fault leads to, set directly."""


@functools.cache
def part(program: str, seed: int, fault: str | None = None, severity: int = 4) -> tuple[Bead, damage.Marks]:
    made = PROGRAMS[program]
    state, placed = draw_latents(made, SESSION, seed), None
    if fault in SET:
        SET[fault](state, severity)
    elif fault is not None:
        placed = fault_of(fault, severity, 1.5, 1.5 + (FAULTS[fault].extent_s or 2.5))
        apply_fault(state, placed, made)
    bead = form_bead(made, SESSION, state, seed)
    return bead, damage.place_marks(placed, bead, state, made.length_mm, seed)


@functools.cache
def photo(program: str, seed: int, view: str, fault: str | None = None, severity: int = 4) -> np.ndarray:
    bead, marks = part(program, seed, fault, severity)
    jpeg = render_view(PROGRAMS[program], SESSION, bead, marks, seed, SMALL, view)
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def relief(program: str, seed: int, fault: str | None = None, severity: int = 4) -> np.ndarray:
    bead, marks = part(program, seed, fault, severity)
    return render_profile(bead, seed, marks.relief(*profile_grid(bead)).T)


def found_markers(image: np.ndarray) -> dict[int, np.ndarray]:
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKER_DICTIONARY)))
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    plate = float(np.median(grey))
    # Paper as dark as the plate, as the product's reader has it: else its outline hides that of the square within.
    attempts = (np.minimum(grey, np.uint8(plate)), cv2.threshold(grey, 0.55 * plate, 255, cv2.THRESH_BINARY)[1], grey)
    found: dict[int, np.ndarray] = {}
    for attempt in attempts:
        corners, ids, _ = detector.detectMarkers(attempt)
        for i, corner in zip([] if ids is None else ids.ravel(), corners, strict=True):
            found.setdefault(int(i), corner[0].mean(axis=0))
    return found


def to_pixels(image: np.ndarray, length_mm: float, view: str) -> np.ndarray:
    """Homography from the part's plane, mm, to the picture, from the markers alone."""
    found, centres = found_markers(image), marker_centres_mm(length_mm, view)
    assert set(found) >= set(centres)
    ids = sorted(centres)
    return cv2.getPerspectiveTransform(
        np.array([centres[k] for k in ids], np.float32), np.array([found[k] for k in ids])
    )


def px_per_mm(image: np.ndarray, length_mm: float, view: str) -> tuple[float, float]:
    """Smallest scale along and across the seam over the bead that the view shows."""
    onto = to_pixels(image, length_mm, view)
    middle = VIEWS[view].centre_mm(length_mm)
    x = np.linspace(max(0, middle - 22), min(length_mm, middle + 22), 9)
    scales = []
    for dx, dy in ((0.5, 0.0), (0.0, 0.5)):
        here, there = (
            cv2.perspectiveTransform(np.array([[(k + s * dx, s * dy) for k in x]], np.float32), onto)[0]
            for s in (-1, 1)
        )
        scales.append(float(np.linalg.norm(there - here, axis=1).min()))
    return scales[0], scales[1]


@pytest.mark.parametrize("view", VIEW_NAMES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_markers_undo_the_pose_and_the_bead_has_enough_pixels(program: str, view: str) -> None:
    seed = list(PROGRAMS).index(program)
    along, across = px_per_mm(photo(program, seed, view), PROGRAMS[program].length_mm, view)
    assert min(along, across) >= (8 if view == "top" else 3)
    if view in ("start", "end"):
        assert min(along, across) > 1.6 * 960 / 90
    if view in ("left", "right"):
        assert 0.68 < across / along < 0.86


@pytest.mark.parametrize("view", VIEW_NAMES)
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("fault", ["gas_loss", "burn_through", "rolled"])
def test_no_fault_hides_the_markers(fault: str, severity: int, view: str) -> None:
    image = photo("spray-lap-5", 4, view, fault, severity)
    assert min(px_per_mm(image, PROGRAMS["spray-lap-5"].length_mm, view)) >= (8 if view == "top" else 3)


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_readers_find_the_strip_of_every_view(view: str) -> None:
    image = cv2.imencode(".png", photo("short-butt-3", 5, view))[1].ravel()
    strip, located = seam_strip(decode_rgb(image))
    assert located
    assert strip.shape == (224, 896, 3)
    # The bright bead lies in the strip's middle: the oblique ones lean, but no further than that.
    row = np.argmax(cv2.GaussianBlur(strip[:, 300:600].mean((1, 2)), (1, 61), 0))
    assert abs(int(row) - 112) < 45


SHOWS = {
    ("gas_loss", "top"): True, ("burn_through", "top"): True, ("undercut", "top"): True, ("convexity", "top"): True,
    ("rolled", "top"): True, ("unfilled", "end"): True, ("spatter_on_bead", "top"): True, ("scratch", "top"): True,
    ("oil", "top"): True, ("wrong_part", "top"): True, ("rolled", "left"): True, ("rolled", "right"): True,
    ("burn_through", "left"): True, ("unfilled", "top"): True,
    ("wire_slip", "right"): True, ("lack_of_fusion", "top"): False, ("tip_wear", "end"): False,
    ("subsurface_pores", "left"): False,
}  # fmt: skip


@pytest.mark.parametrize(("fault", "view"), SHOWS)
def test_a_fault_shows_in_its_views_and_not_in_its_twins(fault: str, view: str) -> None:
    good, bad = photo("spray-lap-5", 6, view), photo("spray-lap-5", 6, view, fault, 5)
    changed = int((cv2.absdiff(good, bad).max(axis=2) > 25).sum())
    assert (changed > 80) == SHOWS[fault, view]
    if not SHOWS[fault, view]:
        assert changed == 0


@pytest.mark.parametrize(
    ("fault", "at_least_mm"),
    [("gas_loss", 0.15), ("burn_through", 2.0), ("undercut", 0.5), ("convexity", 0.2), ("rolled", 0.5),
     ("unfilled", 0.3), ("wire_slip", 0.3), ("spatter_on_bead", 0.4), ("scratch", 0.4), ("wrong_part", 2.0)],
)  # fmt: skip
def test_what_has_a_shape_shows_in_the_height_map(fault: str, at_least_mm: float) -> None:
    moved = np.abs(relief("spray-lap-5", 7, fault, 5) - relief("spray-lap-5", 7))
    assert moved.max() > at_least_mm


@pytest.mark.parametrize("fault", ["oil", "lack_of_fusion", "tip_wear", "subsurface_pores"])
def test_what_is_flat_or_hidden_leaves_the_height_map_as_it_was(fault: str) -> None:
    np.testing.assert_array_equal(relief("spray-lap-5", 7, fault, 5), relief("spray-lap-5", 7))


@pytest.mark.parametrize("fault", ["gas_loss", "undercut", "rolled", "convexity"])
def test_metal_that_froze_before_the_onset_is_the_twins_to_the_bit(fault: str) -> None:
    good, bad = relief("spray-lap-5", 8), relief("spray-lap-5", 8, fault, 5)
    froze_mm = 1.5 * PROGRAMS["spray-lap-5"].travel_mm_s * 0.85 - 13.2
    rows = max(int(froze_mm / PROFILE_MM_PER_ROW), 0)
    np.testing.assert_array_equal(bad[:rows], good[:rows])
    assert not np.array_equal(bad, good)


def test_the_crack_is_a_fine_groove_of_the_height_map() -> None:
    bead, _ = part("short-butt-3", 9, "unfilled", 5)
    tip, middle = bead.cracks[0][-1], bead.cracks[0][0]
    heights = relief("short-butt-3", 9, "unfilled", 5)
    x, y = profile_grid(bead)
    depths = []
    for at in np.linspace(middle, tip, 7)[1:5]:
        row, point = np.argmin(np.abs(x - at[0])), np.argmin(np.abs(y - at[1]))
        around = heights[max(row - 3, 0) : row + 4, point - 3 : point + 4]
        depths.append(np.median(around) - around.min())
    assert np.median(depths) > 0.1


def test_the_same_seed_gives_the_same_bytes_and_each_view_its_own_pose() -> None:
    bead, marks = part("short-butt-3", 10)
    program = PROGRAMS["short-butt-3"]
    views = {v: render_view(program, SESSION, bead, marks, 10, SMALL, v) for v in VIEW_NAMES}
    again = {v: render_view(program, SESSION, bead, marks, 10, SMALL, v) for v in reversed(VIEW_NAMES)}
    assert views == again
    assert len(set(views.values())) == len(VIEW_NAMES)


def test_parts_lie_differently_in_their_fixture() -> None:
    shifts = []
    for seed in range(8):
        image = photo("short-butt-3", seed, "top")
        _, marks = part("short-butt-3", seed)
        onto = to_pixels(image, 25.0, "top")
        nominal = cv2.perspectiveTransform(np.array([[marks.hole_mm]], np.float32), onto)[0, 0]
        a, b = np.rint(nominal).astype(int)
        near = image[b - 40 : b + 40, a - 40 : a + 40].max(axis=2) < 35
        rows, columns = np.nonzero(near)
        shifts.append((columns.mean() - 40, rows.mean() - 40))
    spread_mm = np.std(shifts, axis=0) / (960 / 90)
    assert (spread_mm > 0.05).all()
    assert (spread_mm < 0.8).all()


def test_every_transfer_mode_has_its_usual_grains() -> None:
    assert {program.transfer for program in PROGRAMS.values()} | {"pulsed"} <= set(USUAL_GRAINS)
