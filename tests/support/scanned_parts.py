"""Parts of the virtual cell, photographed and scanned, with the truth of how each lay: for registration's tests."""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import form_bead
from drivers.sim.damage import no_marks
from drivers.sim.photograph import render_view
from drivers.sim.profile import PROFILE_HALF_WIDTH_MM, PROFILE_MM_PER_ROW, render_profile
from drivers.sim.programs import PROGRAMS
from drivers.sim.scanner import plate_rows
from drivers.sim.seam import IMAGE_PRESETS
from drivers.sim.sessions import session_named
from drivers.sim.variation import draw_latents
from drivers.sim.views import VIEWS, canvas_of, marker_centres_mm, place_part
from pipelines.features.frames import decode_rgb
from pipelines.rectify import ViewGeometry, find_and_place, rectify

LEAD_ROWS = 10
SCAN = (-LEAD_ROWS * PROFILE_MM_PER_ROW, PROFILE_MM_PER_ROW, PROFILE_HALF_WIDTH_MM)
PX_PER_MM = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """`photo` `(across, along)` grey on a mm grid of `area`; `heights` `(rows, points)` mm.

    `lies`: the part's own place in its fixture: along mm, across mm, turn rad. Scans follow the part, photographs the
    fixture's markers, so it is what a registration of this part must find.
    """

    photo: NDArray[np.uint8]
    area: tuple[float, float, float, float]
    heights: NDArray[np.float32]
    lies: tuple[float, float, float]
    length_mm: float


def heights_of(program_name: str, seed: int, late_rows: int = 0) -> NDArray[np.float32]:
    """A scan that began `late_rows` rows late (negative: early)."""
    program, session = PROGRAMS[program_name], session_named(f"s{seed % 4}")
    bead = form_bead(program, session, draw_latents(program, session, seed), seed)
    rng = np.random.default_rng([seed, 1])
    rows = [plate_rows(LEAD_ROWS - late_rows, rng), render_profile(bead, seed), plate_rows(20 + late_rows, rng)]
    return np.concatenate(rows).astype(np.float32)


def scanned_part(program_name: str, seed: int) -> Part:
    """One part, from above and by the laser."""
    program, session = PROGRAMS[program_name], session_named(f"s{seed % 4}")
    bead = form_bead(program, session, draw_latents(program, session, seed), seed)
    preset = IMAGE_PRESETS["small"]
    jpeg = render_view(program, session, bead, no_marks(program.length_mm), seed, preset)
    image = decode_rgb(np.frombuffer(jpeg, np.uint8))
    centres = marker_centres_mm(program.length_mm)
    geometry = ViewGeometry(tuple((k, x, y) for k, (x, y) in centres.items()), VIEWS["top"].marker_mm)
    _, placed = find_and_place(image, geometry)
    assert placed is not None
    area = (-8.0, program.length_mm + 8.0, -12.0, 12.0)
    grid = rectify(image, placed, area, (24 * PX_PER_MM, round((area[1] - area[0]) * PX_PER_MM)))
    canvas = canvas_of(VIEWS["top"], program.length_mm, *preset.view_px)
    place = place_part(canvas, program.length_mm, 0.0, seed)
    column, row = canvas.at(program.length_mm / 2, 0.0)
    moved = place @ np.array([column, row, 1.0])
    lies = (
        float(moved[0] - column) / canvas.px_per_mm,
        float(moved[1] - row) / canvas.px_per_mm,
        float(place[1, 0]),
    )
    grey = np.asarray(cv2.cvtColor(grid, cv2.COLOR_RGB2GRAY), np.uint8)
    return Part(grey, area, heights_of(program_name, seed), lies, program.length_mm)
