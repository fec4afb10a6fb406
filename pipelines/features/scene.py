"""Where things stand in one arc-camera frame: what pooling over the picture loses.

lite0's pooled vector says what a frame shows, not where. A weld-pool camera is read for places: the arc's bright area
and its middle, the pool behind it, the dark line of the joint ahead, streaks of spatter. None of them needs to be
known beforehand: the figures are brightness in cells and along rows and columns, moments of the bright areas at three
levels, and the darkest line left and right of the arc, relative to it. Lengths are in picture widths, so that a frame
of another size gives the same numbers. A token's figures are the means over its frames.

What stands still on the cover glass while everything moves is told per seam: `glass_figures`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCENE_FEATURES", "SMALL_PX", "glass_figures", "scene_figures", "small_grey"]

Array = NDArray[np.float64]
SMALL_PX = 192
"""Width of the grey picture that everything is measured in; a joint of a millimetre is still pixels wide."""
CELLS = (6, 8)
PROFILE_ROWS, ROW_BANDS = 30, 4
PROFILE_COLUMNS, COLUMN_BANDS = 32, 3
LEVELS = (60, 128, 250)
"""Plate and pool, arc and pool, what saturates."""
MOMENTS = ("size", "x", "y", "spread_x", "spread_y", "lean", "wide", "high")
SIDES = ("left", "right")
STREAK = 30
"""Grey levels by which a streak of spatter differs from what lies two pixels above and below."""
LINE_REACH = 0.15
"""Of the width, above and below the arc's middle: where the joint's dark line is looked for."""
LINE_DEPTH = 0.1
"""A line is darker than its surroundings by this share at least."""

SCENE_FEATURES: tuple[str, ...] = (
    "brightness",
    *(f"cell_{r}_{c}" for r in range(CELLS[0]) for c in range(CELLS[1])),
    *(f"rows_{band}_{r}" for band in range(ROW_BANDS) for r in range(PROFILE_ROWS)),
    *(f"columns_{band}_{c}" for band in range(COLUMN_BANDS) for c in range(PROFILE_COLUMNS)),
    *(f"{moment}_{level}" for level in LEVELS for moment in MOMENTS),
    *(f"line_{side}_{what}" for side in SIDES for what in ("place", "depth", "width")),
    "streaks",
)


def small_grey(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A JPEG as a grey picture `(h, SMALL_PX)`. Raises ValueError when it cannot be decoded."""
    import cv2

    image: Any = cv2.imdecode(jpeg, cv2.IMREAD_REDUCED_GRAYSCALE_2)
    if image is None:
        raise ValueError(f"an image of {jpeg.size} bytes cannot be decoded; it is not a whole JPEG")
    if image.shape[1] != SMALL_PX:
        high = max(round(image.shape[0] * SMALL_PX / image.shape[1]), 2 * PROFILE_ROWS)
        image = cv2.resize(image, (SMALL_PX, high), interpolation=cv2.INTER_AREA)
    small: NDArray[np.uint8] = image
    return small


def scene_figures(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`SCENE_FEATURES` of a grey picture `(h, w)`; brightness as the decimal logarithm of grey levels plus one."""
    moments = [_moments(grey > level) for level in LEVELS]
    arc_y = moments[-1][2] if moments[-1][0] > 0 else moments[0][2]
    parts = [
        _log(np.array([grey.mean()])),
        _log(_blocks(grey, *CELLS)).ravel(),
        _log(_blocks(grey, PROFILE_ROWS, ROW_BANDS)).T.ravel(),
        _log(_blocks(grey, COLUMN_BANDS, PROFILE_COLUMNS)).ravel(),
        *moments,
        *(_line(grey, side, arc_y * grey.shape[1]) for side in SIDES),
        np.array([_streaks(grey)]),
    ]
    return np.concatenate(parts).astype(np.float32)


def _log(levels: Array) -> Array:
    found: Array = np.log10(levels + 1.0)
    return found


def _blocks(grey: NDArray[np.uint8], high: int, wide: int) -> Array:
    """Mean grey level in `(high, wide)` blocks; an edge that fills none is left out."""
    rows, columns = grey.shape
    h, w = rows // high, columns // wide
    whole = grey[: h * high, : w * wide].reshape(high, h, wide, w)
    found: Array = whole.sum((1, 3), dtype=np.uint32) / (h * w)
    return found


def _moments(bright: NDArray[np.bool_]) -> Array:
    """`MOMENTS` of a mask in picture widths; zeros where nothing is bright."""
    rows, columns = bright.shape
    across, along = bright.sum(0, dtype=np.int64), bright.sum(1, dtype=np.int64)
    size = int(across.sum())
    if size == 0:
        return np.zeros(len(MOMENTS))
    x, y = np.arange(columns), np.arange(rows)
    mean_x, mean_y = across @ x / size, along @ y / size
    square_x, square_y = across @ (x - mean_x) ** 2 / size, along @ (y - mean_y) ** 2 / size
    both = float((y - mean_y) @ bright.astype(np.float64) @ (x - mean_x)) / size
    wide, high = (across > 0).sum(), (along > 0).sum()
    lean = both / max(float(square_x + square_y), 1e-9)
    lengths = [np.sqrt(size), mean_x, mean_y, np.sqrt(square_x), np.sqrt(square_y), 0.0, wide, high]
    found: Array = np.array(lengths, np.float64) / columns
    found[5] = lean
    return found


def _line(grey: NDArray[np.uint8], side: str, arc_y: float) -> Array:
    """Place relative to the arc's middle, depth and width of the dark line at one side, in picture widths.

    The place is the middle of what is darker than the surroundings by `LINE_DEPTH`, drawn to the arc's own height
    where hardly anything is: a line that is not seen must not be anywhere.
    """
    rows, columns = grey.shape
    quarter = grey[:, : columns // 4] if side == "left" else grey[:, 3 * columns // 4 :]
    reach = round(LINE_REACH * columns)
    first = int(np.clip(round(arc_y) - reach, 0, rows - 2))
    profile = quarter[first : int(np.clip(round(arc_y) + reach, first + 2, rows))].mean(1)
    usual = max(float(np.median(profile)), 1.0)
    dark = np.maximum(usual * (1 - LINE_DEPTH) - profile, 0.0) / usual
    total = float(dark.sum())
    off = (np.arange(len(profile)) + first - arc_y) / columns
    return np.array([float(dark @ off) / (total + 0.05), 1.0 - float(profile.min()) / usual, total / columns])


def _streaks(grey: NDArray[np.uint8]) -> float:
    """Share of the upper half that differs sharply from its neighbours: spatter in flight; log10."""
    upper = grey[: len(grey) // 2].astype(np.int16)
    sharp = np.abs(upper[2:] - upper[:-2]) > STREAK
    return float(np.log10(sharp.mean() + 1e-4))


def glass_figures(mean: Array) -> dict[str, float]:
    """Spots on the cover glass, from the mean picture `(h, SMALL_PX)` of a seam's frames with an arc.

    `glass_spread`: decimal logarithm of how much the mean picture differs from its own blur (natural logarithm of
    brightness); `glass_dark`: its lowest percentile; `glass_spots`: share of pixels darker than their surroundings by
    an eighth.
    """
    import cv2

    level = np.log(mean.astype(np.float32) + 1.0)
    blurred: Any = cv2.GaussianBlur(mean.astype(np.float32) + 1.0, (0, 0), SMALL_PX / 40)
    detail = level - np.log(blurred)
    return {
        "glass_spread": float(np.log10(detail.std() + 1e-6)),
        "glass_dark": float(np.percentile(detail, 1)),
        "glass_spots": float((detail < -0.12).mean()),
    }
