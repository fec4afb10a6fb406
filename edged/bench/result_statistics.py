"""Numbers from the observed result of one seam: height map and photographs, as the sensors gave them.

First stage of the validity report's measurements, beside process_statistics: no detector and no truth is involved.
The main photograph is straightened by its markers; further views give statistics of the whole picture.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.profile import PROFILE_HALF_WIDTH_MM, PROFILE_MM_PER_ROW
from drivers.sim.programs import VIEW_NAMES
from edged.bench.process_statistics import aggregate
from pipelines.bead_rows import bead_columns

__all__ = ["result_statistics"]

Array = NDArray[np.float64]

HOLE_MM = -2.0
BEAD_RUN_MM = 5.0
STRIP_COLUMNS = 56
STRIP_MM = 57.8
"""Length of the straightened strip: 0.76 of the 76 mm between the markers' centres."""
STRIP_BANDS = (0.0, 0.18, 0.32, 0.42, 0.5, 0.58, 0.68, 0.82, 1.0)
"""Edges across the straightened photograph between which brightness and colour are averaged."""


def result_statistics(views: Mapping[str, bytes], heights: NDArray[np.float32]) -> dict[str, float]:
    """Name → number; views that the program does not have give NaN, so that all seams have the same names."""
    length_mm = len(heights) * PROFILE_MM_PER_ROW
    out = {f"map {name}": value for name, value in _height_statistics(heights.astype(np.float64)).items()}
    out |= {f"photo {name}": value for name, value in _strip_statistics(views["top"], length_mm).items()}
    for view in VIEW_NAMES:
        if view != "top":
            out |= {f"{view} {name}": value for name, value in _view_statistics(views.get(view)).items()}
    return out


def _height_statistics(z: Array) -> dict[str, float]:
    import cv2

    points = z.shape[1]
    y = np.linspace(-PROFILE_HALF_WIDTH_MM, PROFILE_HALF_WIDTH_MM, points)
    step = y[1] - y[0]
    hole = z < HOLE_MM
    level = _plate_level(z, y, hole)
    flat = np.where(hole, 0.0, z - level)
    out = _hole_statistics(hole, y)
    smooth: Any = cv2.GaussianBlur(flat, (0, 0), 1.0)
    columns = bead_columns(smooth, y, step)
    rows = np.stack(list(columns.values()), axis=1)
    run = round(BEAD_RUN_MM / PROFILE_MM_PER_ROW)
    out |= aggregate(tuple(columns), rows, min(run, len(rows) // 3), max(len(rows) // 10, 1))
    ends = {"first": rows[: len(rows) // 10 + 1], "last": rows[-(len(rows) // 10 + 1) :]}
    for end, part in ends.items():
        out |= {f"{end} {name}": float(v) for name, v in zip(columns, part.mean(0), strict=True)}
    out |= _tail_statistics(smooth, columns["centre"], y)
    return out | _outliers(cv2, flat, hole, columns["width"], columns["centre"], y)


def _plate_level(z: Array, y: Array, hole: NDArray[np.bool_]) -> Array:
    """Plate's height and tilt under the head, from both margins, shape (1, points)."""
    margin = np.abs(y) > 0.72 * PROFILE_HALF_WIDTH_MM
    part = np.where(hole, np.nan, z)[:, margin]
    level = np.nanmedian(part, axis=0)
    slope, offset = np.polyfit(y[margin], level, 1)
    return np.asarray((slope * y + offset)[np.newaxis])


def _tail_statistics(z: Array, centre: Array, y: Array) -> dict[str, float]:
    """Centre line over the last 6 mm against the body: the crater."""
    line = np.take_along_axis(z, np.abs(y - centre[:, np.newaxis]).argmin(1)[:, np.newaxis], axis=1)[:, 0]
    tail = line[-round(6.0 / PROFILE_MM_PER_ROW) :]
    body = float(np.median(line))
    return {
        "crater depth": body - float(np.min(tail[:-2])),
        "crater mean": body - float(tail.mean()),
        "crater volume": float(np.clip(body - tail, 0, None).sum() * PROFILE_MM_PER_ROW),
        "crater step": float(np.abs(np.diff(tail)).max()),
    }


def _hole_statistics(hole: NDArray[np.bool_], y: Array) -> dict[str, float]:
    rows, cols = np.nonzero(hole)
    if len(rows) == 0:
        return {"hole x": float("nan"), "hole y": float("nan"), "hole size": 0.0}
    # From the seam's middle: seams of one program differ in length by less than the grid.
    along = (rows.mean() - hole.shape[0] / 2) * PROFILE_MM_PER_ROW
    return {"hole x": float(along), "hole y": float(y[cols].mean()), "hole size": float(len(rows))}


def _outliers(
    cv2: Any, flat: Array, hole: NDArray[np.bool_], width: Array, centre: Array, y: Array
) -> dict[str, float]:
    """What sticks out of, or is cut into, the surface that its neighbourhood continues."""
    around = cv2.medianBlur(flat.astype(np.float32), 5)
    wide = np.asarray(cv2.blur(around, (1, 15)), np.float64)
    near_hole = cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    out: dict[str, float] = {}
    on_bead = np.abs(y - centre[:, np.newaxis]) < 0.5 * width[:, np.newaxis]
    core = np.abs(y - centre[:, np.newaxis]) < 0.38 * width[:, np.newaxis]
    inner = np.zeros(flat.shape, bool)
    inner[len(flat) // 10 : -len(flat) // 10] = True
    for name, rest in (("fine", flat - around), ("broad", np.asarray(around, np.float64) - wide)):
        for place, where in (
            ("bead", core & inner & ~near_hole),
            ("toe", on_bead & ~core & inner & ~near_hole),
            ("plate", ~on_bead & ~near_hole),
        ):
            values = rest[where] if where.any() else np.zeros(1)
            out[f"{name} {place} std"] = float(np.log10(values.std() + 1e-6))
            out[f"{name} {place} max"] = float(values.max())
            out[f"{name} {place} min"] = float(values.min())
            out[f"{name} {place} above"] = float((values > 0.15).sum())
            out[f"{name} {place} below"] = float((values < -0.15).sum())
    return out


def _strip_statistics(jpeg: bytes, length_mm: float) -> dict[str, float]:
    import cv2

    from pipelines.features.frames import decode_rgb
    from pipelines.features.result import seam_strip

    strip, located = seam_strip(decode_rgb(np.frombuffer(jpeg, np.uint8)))
    grey: Any = cv2.cvtColor(strip, cv2.COLOR_RGB2GRAY)
    out = {"located": float(located)}
    columns = _strip_columns(cv2, strip, grey)
    rows = np.stack(list(columns.values()), axis=1)
    # The markers stand around the seam's middle, so the strip's scale says where the bead begins and ends.
    reach = min(round(0.5 * length_mm / STRIP_MM * STRIP_COLUMNS), STRIP_COLUMNS // 2)
    first, last = STRIP_COLUMNS // 2 - reach, STRIP_COLUMNS // 2 + reach
    out |= aggregate(tuple(columns), rows[first:last], 5, 2)
    out |= {f"tail {name}": float(v) for name, v in zip(columns, rows[max(last - 4, 0) : last].mean(0), strict=True)}
    detail = grey.astype(np.float32) - cv2.GaussianBlur(grey, (0, 0), 4.0).astype(np.float32)
    across, along = strip.shape[0], strip.shape[1]
    a, b = first * along // STRIP_COLUMNS, last * along // STRIP_COLUMNS
    for name, (top, bottom) in {"core": (0.38, 0.62), "beside": (0.62, 0.8), "other": (0.1, 0.38)}.items():
        piece = detail[round(top * across) : round(bottom * across), a:b]
        out |= {
            f"{name} dark": float((piece < -25).mean()),
            f"{name} bright": float((piece > 25).mean()),
            f"{name} darkest": float(np.percentile(piece, 0.2)),
            f"{name} brightest": float(np.percentile(piece, 99.8)),
            f"{name} detail": float(np.log10(piece.std() + 1e-3)),
        }
    dark = (grey < 26).astype(np.uint8)
    count, _, stats, centres = cv2.connectedComponentsWithStats(dark)
    if count > 1:
        big = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        out |= {"spot x": float(centres[big][0]), "spot y": float(centres[big][1])}
        out["spot size"] = float(np.sqrt(stats[big, cv2.CC_STAT_AREA]))
    else:
        out |= {"spot x": float("nan"), "spot y": float("nan"), "spot size": 0.0}
    return out


def _strip_columns(cv2: Any, strip: NDArray[np.uint8], grey: NDArray[np.uint8]) -> dict[str, Array]:
    """Per stretch along the seam (1 mm): brightness, colour and texture in bands across, bead's width by eye."""
    across = strip.shape[0]
    out: dict[str, Array] = {}
    texture = np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.CV_32F))
    edges = [round(e * across) for e in STRIP_BANDS]
    light = strip.astype(np.float32)
    for k, (a, b) in enumerate(itertools.pairwise(edges)):
        colour = light[a:b].mean(0).reshape(STRIP_COLUMNS, -1, 3).mean(1).astype(np.float64)
        out[f"light {k}"] = colour.mean(1)
        out[f"warmth {k}"] = (colour[:, 0] - colour[:, 2]) / np.maximum(colour.mean(1), 1.0)
        out[f"texture {k}"] = np.log10(
            texture[a:b].mean(0).reshape(STRIP_COLUMNS, -1).mean(1).astype(np.float64) + 0.1
        )
    # Metal is grey, its surroundings are tinted: saturation tells them apart.
    saturation = (light.max(2) - light.min(2)) / np.maximum(light.max(2), 1.0)
    profile = saturation.reshape(across, STRIP_COLUMNS, -1).mean(2)
    middle = profile[round(0.25 * across) : round(0.75 * across)]
    out["bead wide"] = (middle < 0.10).sum(0).astype(np.float64)
    grey_profile = grey.reshape(across, STRIP_COLUMNS, -1).mean(2).astype(np.float64)
    out["brightest row"] = grey_profile[round(0.25 * across) : round(0.75 * across)].argmax(0).astype(np.float64)
    return out


def _view_statistics(jpeg: bytes | None) -> dict[str, float]:
    """Statistics of a whole further view, in cells and as extremes of detail; NaN where there is no such view."""
    import cv2

    cells = [f"{kind} {r}{c}" for kind in ("light", "texture") for r in range(3) for c in range(4)]
    names = ("dark", "bright", "darkest", "brightest", "warmth", *cells)
    if jpeg is None:
        return dict.fromkeys(names, float("nan"))
    image: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    detail = grey.astype(np.float32) - cv2.GaussianBlur(grey, (0, 0), 4.0).astype(np.float32)
    middle = detail[len(detail) // 4 : -len(detail) // 4]
    texture = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    shape = (4, 3)
    light_cells = cv2.resize(grey, shape, interpolation=cv2.INTER_AREA).ravel().astype(float)
    texture_cells = np.log10(cv2.resize(texture, shape, interpolation=cv2.INTER_AREA).ravel().astype(float) + 0.1)
    colour = image.reshape(-1, 3).mean(0)
    values = (
        (middle < -25).mean(), (middle > 25).mean(), np.percentile(middle, 0.5), np.percentile(middle, 99.5),
        (colour[2] - colour[0]) / max(colour.mean(), 1.0), *light_cells, *texture_cells,
    )  # fmt: skip
    return {name: float(value) for name, value in zip(names, values, strict=True)}
