"""What calibrations of vision recover of the truth: `python -m tests.bench.bench_calibration_vision [--json FILE]`.

Boards and marked plates are photographed by a pinhole camera with lens distortion, blur and noise (`board_camera`);
parts and scans are the virtual cell's. Errors are estimate minus truth.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.boards import parse_board
from calibration.camera import PARAMETERS, calibrate_camera
from calibration.registration import register
from calibration.views import calibrate_view
from pipelines.rectify import ViewGeometry, pose_of
from pipelines.scan_place import bead_ends, scan_place
from tests.support.board_camera import TrueCamera, photograph
from tests.support.board_pictures import hand_held, pictures
from tests.support.marked_plate import LAYOUT, PX_PER_MM, SEAM_MM, camera_mm, plate, seam_points, stations, true_px
from tests.support.scanned_parts import SCAN, heights_of, scanned_part

BOARD = parse_board("charuco:7x5:20mm")
VIEW_CAMERA = TrueCamera(960, 400, 1130.0, 1126.0, 492.0, 193.0, (-0.12, 0.04, 0.0004, -0.0006))
INTRINSICS = (VIEW_CAMERA.fx, VIEW_CAMERA.fy, VIEW_CAMERA.cx, VIEW_CAMERA.cy, *VIEW_CAMERA.distortion)
PROGRAMS = ("short-butt-3", "pulsed-lap-4", "spray-lap-5")
Row = tuple[str, float, float, str, int]
"""What, median and largest of the absolute errors, unit, number of cases."""


def row(what: str, errors: NDArray[np.float64], unit: str) -> Row:
    """Median and largest absolute error."""
    size = np.abs(errors)
    return what, float(np.median(size)), float(size.max()), unit, size.size


def cameras(runs: int) -> list[Row]:
    """Intrinsics from 14 hand-held views a run."""
    true = TrueCamera()
    truth = np.array([true.fx, true.fy, true.cx, true.cy, *true.distortion])
    errors, inside, rms = [], [], []
    for seed in range(runs):
        result = calibrate_camera(pictures(true, BOARD, hand_held(BOARD, 14, seed), seed), BOARD)
        error = np.array([result.fit.values[name] for name in PARAMETERS]) - truth
        errors.append(error)
        inside.append([abs(e) <= result.interval[name] for e, name in zip(error, PARAMETERS, strict=True)])
        rms.append(result.fit.rms_px)
    e = np.array(errors)
    return [
        row("camera: focal length", 100 * e[:, :2] / truth[:2], "%"),
        row("camera: principal point", e[:, 2:4], "px"),
        row("camera: k1", e[:, 4], ""),
        row("camera: residual RMS", np.array(rms), "px"),
        ("camera: 95 % intervals that hold the truth", 100 * float(np.mean(inside)), 100.0, "%", len(inside) * 8),
    ]


def views(runs: int) -> list[Row]:
    """Poses of a result camera, from above and from 35° aside, with its intrinsics and without."""
    rows = []
    for tilt_deg in (0.0, 35.0):
        for name, layout in (
            ("with intrinsics", dataclasses.replace(LAYOUT, camera=INTRINSICS)),
            ("without", LAYOUT),
        ):
            rows += _view(f"view at {tilt_deg:g}°, {name}", tilt_deg, layout, runs)
    return rows


def _view(title: str, tilt_deg: float, layout: ViewGeometry, runs: int) -> list[Row]:
    poses = stations(runs, tilt_deg, 0.8)
    texture = plate()
    seen: list[tuple[str, NDArray[np.uint8] | None]] = [
        (str(k), photograph(VIEW_CAMERA, texture, 1 / PX_PER_MM, pose, k)) for k, pose in enumerate(poses)
    ]
    result = calibrate_view(seen, layout, SEAM_MM)
    places, stands = [], []
    for picture, pose in zip(result.pictures, poses, strict=True):
        px = true_px(seam_points(), pose, VIEW_CAMERA.matrix, VIEW_CAMERA.distortion)
        places.append(np.linalg.norm(picture.placed.to_mm(px) - seam_points(), axis=1).max())
        rotation, translation = pose_of(picture.placed.onto)
        x, y, z = -rotation.T @ translation
        stands.append(float(np.linalg.norm(np.array([x, y, -z]) - camera_mm(pose))))
    rows = [row(f"{title}: worst place on the seam", np.array(places), "mm")]
    return rows if layout.camera is None else [*rows, row(f"{title}: camera's place", np.array(stands), "mm")]


def registrations(parts: int) -> list[Row]:
    """Scans laid onto photographs of the virtual cell: each part, and the median of all."""
    rows = []
    for program in PROGRAMS:
        made = [scanned_part(program, seed) for seed in range(1, parts + 1)]
        found = [register(part.photo, part.area, part.heights, SCAN, part.length_mm) for part in made]
        off = np.array([(r.along_mm, r.across_mm, 1e3 * r.turn_rad, 1e3 * r.stretch) for r in found])
        off[:, :3] -= [(p.lies[0], p.lies[1], 1e3 * p.lies[2]) for p in made]
        names = (("along", "mm"), ("across", "mm"), ("turn", "mrad"), ("stretch", "‰"))
        rows += [row(f"scan on photograph, {program}: {n}", off[:, k], unit) for k, (n, unit) in enumerate(names)]
        rows.append(row(f"  median of {parts}: along, across", np.median(off[:, :2], axis=0), "mm"))
    return rows


def scans(seams: int) -> list[Row]:
    """Whole rows by which a scan began late or early, by its bead."""
    wrong, off = [], []
    for program in PROGRAMS:
        good = [ends for seed in range(1, 6) if (ends := bead_ends(heights_of(program, seed), SCAN)) is not None]
        nominal = (float(np.median([e[0] for e in good])), float(np.median([e[1] for e in good])))
        for seed in range(11, 11 + seams):
            for late in (-1, 0, 1):
                place = scan_place(heights_of(program, seed, late), SCAN, nominal)
                shift = None if place is None else place.shift_mm
                off.append(np.inf if shift is None else shift - late * SCAN[1])
                wrong.append(place is None or place.shift_rows(SCAN) != late)
    return [
        row("scan's begin by its bead", np.array(off), "mm"),
        (
            "scans laid by a wrong number of rows",
            100 * float(np.mean(wrong)),
            100 * float(np.mean(wrong)),
            "%",
            len(wrong),
        ),
    ]


PARTS: dict[str, Callable[[int], list[Row]]] = {
    "camera": cameras, "views": views, "registration": registrations, "scans": scans,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--only", choices=sorted(PARTS), action="append")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    table = Table("what", "median", "largest", "unit", "n")
    rows = [row for name in options.only or PARTS for row in PARTS[name](options.runs)]
    for what, median, largest, unit, n in rows:
        table.add_row(what, f"{median:.3g}", f"{largest:.3g}", unit, str(n))
    Console().print(table)
    if options.json is not None:
        options.json.write_text(json.dumps([list(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
