"""The photograph taken after welding: part with bead, heat tint and marks, between coded markers; colour JPEG.

Drawn flat in part coordinates (x along the seam from its start, y across, mm), then seen through a camera of
varying pose and light.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import Bead, bead_outline, height_map
from drivers.sim.damage import HOLE_RADIUS_MM, Marks
from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session

__all__ = ["FIELD_MM", "MARKER_DICTIONARY", "MARKER_MM", "marker_centres_mm", "render_view"]

FIELD_MM = (90.0, 30.0)
"""Field of view along and across the seam, centred on the seam's middle: 10.7 px/mm at 960 px."""
MARKER_MM = 6.0
MARKER_DICTIONARY = "DICT_4X4_50"
MARKER_OFFSETS_MM = ((-38.0, -10.0), (38.0, -10.0), (38.0, 10.0), (-38.0, 10.0))

Image = NDArray[np.float32]
Array = NDArray[np.float64]

# Oxide colours of carbon steel from far (cold) to near (hot), BGR: bare, straw, brown, purple, blue, grey.
_TINT_AT = np.array([0.0, 0.35, 0.5, 0.62, 0.76, 0.9, 1.0])
_TINT_BGR = np.array(
    [[1, 1, 1], [0.72, 0.95, 1.02], [0.55, 0.72, 0.92], [0.78, 0.55, 0.72], [1.02, 0.72, 0.55], [0.8, 0.76, 0.74],
     [0.62, 0.62, 0.62]]
)  # fmt: skip


def marker_centres_mm(length_mm: float) -> dict[int, tuple[float, float]]:
    """Marker id → centre in part coordinates, mm, of a seam of that length; the same ids on every fixture."""
    return {k: (length_mm / 2 + dx, dy) for k, (dx, dy) in enumerate(MARKER_OFFSETS_MM)}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """Flat part at `px_per_mm`; x, y: mm of its columns and rows."""

    px_per_mm: float
    x: Array
    y: Array

    def at(self, x_mm: float, y_mm: float) -> tuple[int, int]:
        return round((x_mm - self.x[0]) * self.px_per_mm), round((y_mm - self.y[0]) * self.px_per_mm)


def render_view(
    program: Program, session: Session, bead: Bead, marks: Marks, seed: int, preset: ImagePreset
) -> bytes:
    """One colour JPEG of the preset's `view_px`."""
    import cv2

    rows, cols = preset.view_px
    scale = cols / FIELD_MM[0]
    half_y = rows / scale / 2
    x = np.arange(cols) / scale + program.length_mm / 2 - FIELD_MM[0] / 2
    canvas = _Canvas(scale, x, np.arange(rows) / scale - half_y)
    z = height_map(bead, canvas.x, canvas.y, seed) + marks.relief(canvas.x, canvas.y)
    albedo = _plate(program, session, canvas, bead, seed)
    _bead_skin(albedo, bead, canvas, z, seed)
    image = albedo * _shade(z, scale, session, seed)[..., np.newaxis]
    _details(image, program, bead, marks, canvas, seed)
    _markers(image, program, canvas)
    flat = np.clip(image * 255.0, 0, 255).astype(np.uint8)
    seen = cv2.warpPerspective(
        flat, _pose(rows, cols, scale, seed), (cols, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return _expose(np.asarray(seen, np.uint8), session, seed, preset)


def _plate(program: Program, session: Session, canvas: _Canvas, bead: Bead, seed: int) -> Image:
    """Rolled plate with the joint's line and the heat tint beside the bead; (rows, cols, 3), 1 = white."""
    import cv2

    rng = generator(seed, "photo", "plate")
    grain = rng.standard_normal((len(canvas.y), len(canvas.x)), dtype=np.float32)
    s = canvas.px_per_mm
    brushed = cv2.GaussianBlur(grain, (0, 0), 0.7 * s, sigmaY=0.06 * s)
    stain = cv2.resize(
        rng.standard_normal((6, 16), dtype=np.float32), grain.shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    tone = session.plate_tone * (1 + 0.16 * brushed / float(brushed.std()) * 0.45 + 0.03 * stain)
    half = np.interp(canvas.x, bead.x_mm, 0.5 * bead.width_mm)
    centre = np.interp(canvas.x, bead.x_mm, bead.centre_mm)
    beyond = np.abs(canvas.y[:, np.newaxis] - centre) - half
    outside = np.maximum(np.maximum(-canvas.x, canvas.x - bead.x_mm[-1]), 0.0)
    reach = 3.0 + half
    heat = np.clip(1 - np.hypot(np.maximum(beyond, 0), outside) / reach, 0, 1).astype(np.float32) + 0.02 * stain
    tint = np.stack([np.interp(heat, _TINT_AT, _TINT_BGR[:, c]) for c in range(3)], axis=-1).astype(np.float32)
    image = np.asarray(tone[..., np.newaxis] * tint, np.float32)
    _joint(image, program, canvas)
    return image


def _joint(image: Image, program: Program, canvas: _Canvas) -> None:
    """Butt: a thin dark gap. Lap: the upper plate's edge and its shadow. Fillet: the web stands darker."""
    row = canvas.at(0, 0)[1]
    thin = max(1, round(0.25 * canvas.px_per_mm))
    if program.joint != "butt":
        shadow = max(2, round(0.9 * canvas.px_per_mm))
        image[row : row + shadow] *= np.linspace(0.45, 0.95, shadow, dtype=np.float32)[:, np.newaxis, np.newaxis]
        image[:row] *= np.float32(1.10 if program.joint == "lap" else 0.78)
    image[row : row + thin] *= np.float32(0.3)


def _bead_skin(albedo: Image, bead: Bead, canvas: _Canvas, z: Image, seed: int) -> None:
    """Weld metal is silver grey; without gas a dull dark oxide, and beside it soot."""
    half, centre, _ = bead_outline(bead, canvas.x)
    distance = np.abs(canvas.y[:, np.newaxis].astype(np.float32) - centre) / half
    metal = np.clip((1.03 - distance) * 12, 0, 1) * (z > -1.5)
    oxide = np.interp(canvas.x, bead.x_mm, bead.oxide)
    shine = (0.66 - 0.38 * oxide).astype(np.float32)
    skin = shine[np.newaxis, :, np.newaxis] * np.array([1.0, 0.99, 0.97], np.float32)
    # Small brown slag islands on sound beads.
    rng = generator(seed, "photo", "slag")
    albedo += metal[..., np.newaxis] * (skin - albedo)
    soot = (0.55 * oxide * np.exp(-(((distance - 1.2) / 0.7) ** 2))).astype(np.float32)
    albedo *= 1 - soot[..., np.newaxis]
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, bead.x_mm[-1]), rng.normal(0, 0.35) * float(half.mean())
        _blob(albedo, canvas, (x, y), (rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.3)), (0.25, 0.36, 0.46), 0.6)


def _blob(
    image: Image, canvas: _Canvas, at_mm: tuple[float, float], axes_mm: tuple[float, float],
    bgr: tuple[float, float, float], opacity: float,
) -> None:  # fmt: skip
    import cv2

    mask = np.zeros(image.shape[:2], np.float32) if opacity < 1 else None
    s = canvas.px_per_mm
    axes = (max(round(axes_mm[0] * s), 1), max(round(axes_mm[1] * s), 1))
    if mask is None:
        cv2.ellipse(image, canvas.at(*at_mm), axes, 0, 0, 360, bgr, -1, cv2.LINE_AA)
        return
    cx, cy = canvas.at(*at_mm)
    a, b = max(cx - axes[0] - 2, 0), max(cx + axes[0] + 3, 0)
    c, d = max(cy - axes[1] - 2, 0), max(cy + axes[1] + 3, 0)
    piece = image[c:d, a:b]
    if piece.size:
        over = piece.copy()
        cv2.ellipse(over, (cx - a, cy - c), axes, 0, 0, 360, bgr, -1, cv2.LINE_AA)
        piece += np.float32(opacity) * (over - piece)


def _shade(z: Image, scale: float, session: Session, seed: int) -> Image:
    """Diffuse and specular light of the height map from the session's lamp."""
    import cv2

    smooth = cv2.GaussianBlur(z, (0, 0), 0.05 * scale)
    gy, gx = np.gradient(smooth, 1 / scale)
    rng = generator(seed, "photo", "light")
    angle = session.light_angle_rad + 0.15 * rng.standard_normal()
    lx, ly, lz = 0.35 * np.sin(angle), -0.52 * np.cos(angle), 0.80
    norm = np.sqrt(1 + gx * gx + gy * gy)
    diffuse = np.clip((-gx * lx - gy * ly + lz) / norm, 0, None)
    hx, hy, hz = lx / 1.95, ly / 1.95, (lz + 1) / 1.95
    specular = np.clip((-gx * hx - gy * hy + hz) / norm, 0, 1) ** 24
    steep = np.clip(np.hypot(gx, gy) * 2.5, 0, 1)
    return np.asarray(0.30 + 0.85 * diffuse + 0.55 * specular * steep, np.float32)


def _details(image: Image, program: Program, bead: Bead, marks: Marks, canvas: _Canvas, seed: int) -> None:
    """Grains beside the bead, pores, a burnt hole, marks."""
    import cv2

    s = canvas.px_per_mm
    _grains(image, program, bead, canvas, seed)
    rng = generator(seed, "photo", "pores")
    where, size, side = rng.uniform(size=120), rng.uniform(0.12, 0.4, 120), rng.normal(0, 0.22, 120)
    chance = rng.uniform(size=120)
    for k in range(120):
        cell = int(where[k] * (len(bead.x_mm) - 1))
        if chance[k] < 0.8 * bead.oxide[cell] - 0.02:
            at = (float(bead.x_mm[cell]), float(np.clip(side[k], -0.38, 0.38) * bead.width_mm[cell]))
            _blob(image, canvas, at, (size[k] * 1.25, size[k] * 1.15), (0.55, 0.56, 0.58), 0.5)
            _blob(image, canvas, at, (size[k], size[k]), (0.05, 0.05, 0.06), 1.0)
    for x, sink, width in zip(bead.x_mm[::3], bead.sink_mm[::3], bead.width_mm[::3], strict=True):
        if sink > 0.5:
            radius = min(0.22 * width * sink, 0.42 * width)
            _blob(image, canvas, (float(x), 0.0), (0.4, radius), (0.03, 0.03, 0.035), 1.0)
    for x, y, r in marks.oil:
        _blob(image, canvas, (x, y), (r, 0.7 * r), (0.10, 0.17, 0.22), 0.55)
        _blob(image, canvas, (x - 0.3 * r, y - 0.25 * r), (0.25 * r, 0.1 * r), (0.75, 0.8, 0.85), 0.5)
    if len(marks.scratch):
        _scratch(image, marks, canvas)
    centre = canvas.at(*marks.hole_mm)
    cv2.circle(image, centre, round(HOLE_RADIUS_MM * s), (0.04, 0.04, 0.04), -1, cv2.LINE_AA)
    cv2.circle(
        image, centre, round((HOLE_RADIUS_MM + 0.1) * s), (0.75, 0.75, 0.75), max(1, round(0.12 * s)), cv2.LINE_AA
    )


def _scratch(image: Image, marks: Marks, canvas: _Canvas) -> None:
    """A groove: bare metal on the lit flank, shadow in the other; drawn with sub-pixel width."""
    import cv2

    fine = 8
    points = np.array([canvas.at(*p) for p in marks.scratch], np.int32) * fine
    wide = (0.05 + 0.25 * marks.scratch_depth_mm) * canvas.px_per_mm
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.polylines(mask, [points], False, 1.0, max(1, round(wide)), cv2.LINE_AA, 3)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.6), np.float32)[..., np.newaxis]
    below = np.roll(mask, max(1, round(wide)), axis=0)
    image *= 1 - 0.55 * below
    image += mask * min(0.3 + 0.6 * marks.scratch_depth_mm, 0.8) * (0.9 - image)


def _grains(image: Image, program: Program, bead: Bead, canvas: _Canvas, seed: int) -> None:
    """Fine spatter stuck to the plate: some always, more without gas."""
    rng = generator(seed, "photo", "grains")
    usual = {"short_circuit": 22, "globular": 40, "spray": 10, "pulsed": 8}[program.transfer] * rng.uniform(0.6, 1.4)
    draws = rng.uniform(size=(260, 5))
    for u in draws:
        cell = int(u[0] * (len(bead.x_mm) - 1))
        if u[1] * 260 > usual * (1 + 4.0 * bead.oxide[cell]):
            continue
        away = float(bead.width_mm[cell]) * 0.55 + 7.0 * u[2] ** 1.5
        at = (float(bead.x_mm[cell]), away * (1 if u[3] < 0.5 else -1))
        r = 0.10 + 0.22 * u[4] ** 2
        _blob(image, canvas, (at[0] + 0.08, at[1] + 0.1), (r, r), (0.13, 0.13, 0.13), 0.7)
        _blob(image, canvas, at, (r, r), (0.5, 0.5, 0.51), 1.0)


def _markers(image: Image, program: Program, canvas: _Canvas) -> None:
    """Coded markers on white tags beside the part."""
    import cv2

    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKER_DICTIONARY))
    side = round(MARKER_MM * canvas.px_per_mm)
    border = round(0.9 * canvas.px_per_mm)
    for ident, (x, y) in marker_centres_mm(program.length_mm).items():
        code = cv2.aruco.generateImageMarker(dictionary, ident, side).astype(np.float32) / 255 * 0.82 + 0.05
        cx, cy = canvas.at(x, y)
        a, c = cx - side // 2, cy - side // 2
        image[c - border : c + side + border, a - border : a + side + border] = 0.9
        image[c : c + side, a : a + side] = code[..., np.newaxis]


def _pose(rows: int, cols: int, scale: float, seed: int) -> Array:
    """Homography from the flat part to the picture: the camera never hangs quite the same."""
    import cv2

    rng = generator(seed, "photo", "pose")
    corners = np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], np.float32)
    centre = corners.mean(0)
    turn = np.deg2rad(rng.normal(0, 0.5))
    zoom = 1 + rng.normal(0, 0.008)
    rotation = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = np.clip(rng.normal(0, 0.4, 2), -0.9, 0.9) * scale
    tilt = rng.normal(0, 0.35, (4, 2)) * scale
    moved = (corners - centre) @ rotation.T + centre + shift + np.clip(tilt, -0.7 * scale, 0.7 * scale)
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)))


def _expose(seen: NDArray[np.uint8], session: Session, seed: int, preset: ImagePreset) -> bytes:
    """Lamp's fall-off over the field, white balance, lens blur, sensor noise, JPEG."""
    import cv2

    rng = generator(seed, "photo", "exposure")
    rows, cols = seen.shape[:2]
    gain = session.light_gain * (1 + 0.04 * rng.standard_normal())
    slope = rng.normal(0, 0.06) + 0.1 * session.light_angle_rad
    lamp = gain * (1 + slope * np.linspace(-1, 1, cols, dtype=np.float32))
    white = np.array([1 - session.light_warmth, 1.0, 1 + session.light_warmth], np.float32)
    lit = seen.astype(np.float32) * lamp[np.newaxis, :, np.newaxis] * white
    image = np.asarray(cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.5, 0.8)) * cols / 960), np.float32)
    noise = rng.standard_normal((rows, cols), dtype=np.float32) * np.float32(2.0)
    image += noise[..., np.newaxis]
    quality = [cv2.IMWRITE_JPEG_QUALITY, preset.jpeg_quality]
    return bytes(cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), quality)[1].tobytes())
