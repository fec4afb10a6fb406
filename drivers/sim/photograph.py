"""The photographs taken after welding: part with bead, heat tint and marks, between coded markers; colour JPEG.

Drawn flat in part coordinates (x along the seam from its start, y across, mm), then seen through a camera of
varying pose and light (`views.py`); `photo_marks.py` draws what sits on the surface.
"""

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import Bead
from drivers.sim.damage import Marks
from drivers.sim.jpeg import filled
from drivers.sim.photo_marks import blob, draw_marks
from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session
from drivers.sim.surface import Surface, bead_surface
from drivers.sim.views import (
    FIELD_MM,
    MARKER_DICTIONARY,
    VIEWS,
    Canvas,
    canvas_of,
    foreshorten,
    marker_centres_mm,
    place_part,
    pose_of,
    put_markers,
    tilt_of,
)

__all__ = ["FIELD_MM", "MARKER_DICTIONARY", "marker_centres_mm", "render_view"]

BUFFER_BYTES = 65_536

Image = NDArray[np.float32]
Array = NDArray[np.float64]

# Oxide colours of carbon steel from far (cold) to near (hot), BGR: bare, straw, brown, purple, blue, grey.
_TINT_AT = np.array([0.0, 0.35, 0.5, 0.62, 0.76, 0.9, 1.0])
_TINT_BGR = np.array(
    [[1, 1, 1], [0.72, 0.95, 1.02], [0.55, 0.72, 0.92], [0.78, 0.55, 0.72], [1.02, 0.72, 0.55], [0.8, 0.76, 0.74],
     [0.62, 0.62, 0.62]]
)  # fmt: skip
_TINT = np.stack(
    [np.interp(np.linspace(0, 1, 256), _TINT_AT, _TINT_BGR[:, c]) for c in range(3)], axis=-1
).astype(np.float32)  # fmt: skip


def render_view(
    program: Program, session: Session, bead: Bead, marks: Marks, seed: int, preset: ImagePreset, view: str = "top"
) -> bytes:
    """One colour JPEG of the preset's `view_px`. Raises KeyError for a view that `views.VIEWS` does not have.

    A view's bytes depend on the seed and on that view alone: it is the same whatever else is photographed.
    """
    import cv2

    rows, cols = preset.view_px
    canvas = canvas_of(VIEWS[view], program.length_mm, rows, cols)
    tilt = tilt_of(view, seed)
    surface = bead_surface(bead, canvas.x, canvas.y, seed)
    height = surface.height_mm + marks.relief(canvas.x, canvas.y)
    albedo = _plate(program, session, canvas, bead, seed, view)
    _bead_skin(albedo, bead, canvas, surface, seed)
    image = albedo * _shade(height, canvas.px_per_mm, session, seed, view, tilt)[..., np.newaxis]
    draw_marks(image, program, bead, marks, canvas, seed)
    image *= 255.0
    part = np.clip(image, 0, 255).astype(np.uint8)
    if tilt:
        part = foreshorten(part, height, canvas, tilt)
    pose = pose_of(view, rows, cols, seed)
    lying = pose @ place_part(canvas, program.length_mm, tilt, seed)
    seen = cv2.warpPerspective(part, lying, (cols, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    picture = np.asarray(seen, np.uint8)
    put_markers(picture, view, canvas, program.length_mm, tilt, pose)
    return _expose(picture, session, seed, preset, view)


def _plate(program: Program, session: Session, canvas: Canvas, bead: Bead, seed: int, view: str) -> Image:
    """Rolled plate with the joint's line and the heat tint beside the bead; (rows, cols, 3), 1 = white."""
    import cv2

    finish = generator(seed, "photo", "finish")
    brushing, blotches, tone_shift = finish.uniform(0.5, 1.4), finish.uniform(0.5, 1.8), finish.normal(0, 0.04)
    rng = generator(seed, "photo", "plate", view)
    grain = rng.standard_normal((len(canvas.y), len(canvas.x)), dtype=np.float32)
    s = canvas.px_per_mm
    brushed = cv2.GaussianBlur(grain, (0, 0), 0.7 * s, sigmaY=0.06 * s)
    stain = cv2.resize(
        rng.standard_normal((6, 16), dtype=np.float32), grain.shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    tone = np.float32(0.072 * brushing / float(brushed.std())) * brushed + np.float32(0.03 * blotches) * stain
    tone = np.float32(session.plate_tone * (1 + tone_shift)) * (1 + tone)
    half = np.interp(canvas.x, bead.x_mm, 0.5 * bead.width_mm)
    centre = np.interp(canvas.x, bead.x_mm, bead.centre_mm)
    beyond = np.abs(canvas.y[:, np.newaxis].astype(np.float32) - centre.astype(np.float32)) - half.astype(np.float32)
    outside = np.maximum(np.maximum(-canvas.x, canvas.x - bead.x_mm[-1]), 0.0).astype(np.float32)
    far = np.sqrt(np.maximum(beyond, 0) ** 2 + outside**2) / (3.0 + half).astype(np.float32)
    heat = np.clip(1 - far, 0, 1) + np.float32(0.02) * stain
    image: Image = _TINT[np.clip(heat * 255, 0, 255).astype(np.uint8)]
    image *= tone[..., np.newaxis]
    _joint(image, program, canvas)
    return image


def _joint(image: Image, program: Program, canvas: Canvas) -> None:
    """Butt: a thin dark gap. Lap: the upper plate's edge and its shadow. Fillet: the web stands darker."""
    row = canvas.at(0, 0)[1]
    thin = max(1, round(0.25 * canvas.px_per_mm))
    if program.joint != "butt":
        shadow = max(2, round(0.9 * canvas.px_per_mm))
        image[row : row + shadow] *= np.linspace(0.45, 0.95, shadow, dtype=np.float32)[:, np.newaxis, np.newaxis]
        image[:row] *= np.float32(1.10 if program.joint == "lap" else 0.78)
    image[row : row + thin] *= np.float32(0.3)


def _bead_skin(albedo: Image, bead: Bead, canvas: Canvas, surface: Surface, seed: int) -> None:
    """Weld metal is silver grey; without gas a dull dark oxide with soot beside it."""
    window = albedo[surface.rows, surface.columns]
    x = canvas.x[surface.columns]
    # Distance in half widths of the metal that lies there, so that rolled metal is metal.
    distance = np.abs(surface.across)
    oxide = np.interp(x, bead.x_mm, bead.oxide).astype(np.float32)
    metal = np.clip((np.float32(1.03) - distance) * 12, 0, 1)
    shine = np.float32(0.66) - np.float32(0.38) * oxide
    skin = shine[np.newaxis, :, np.newaxis] * np.array([1.0, 0.99, 0.97], np.float32)
    window += metal[..., np.newaxis] * (skin - window)
    if (bead.oxide > 0.02).any():
        soot = np.float32(0.55) * oxide * np.exp(-(((distance - np.float32(1.2)) / np.float32(0.7)) ** 2))
        # Burnt, mottled skin instead of bright ripples.
        mottle = generator(seed, "photo", "mottle").uniform(-1, 1, metal.shape).astype(np.float32)
        window *= (1 - soot + np.float32(0.22) * oxide * metal * mottle)[..., np.newaxis]
    if bead.overlap_mm.any():
        _unfused_edge(window, bead, x, canvas.y[surface.rows], distance, surface)
    rng = generator(seed, "photo", "slag")
    for _ in range(int(rng.integers(2, 9))):
        at, side = rng.uniform(0, bead.x_mm[-1]), rng.normal(0, 0.17)
        # Small brown slag islands on sound beads.
        place = (at, side * float(np.interp(at, bead.x_mm, bead.width_mm)))
        blob(albedo, canvas, place, (rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.3)), (0.25, 0.36, 0.46), 0.6)


def _unfused_edge(window: Image, bead: Bead, x: Array, y: Array, distance: Image, surface: Surface) -> None:
    """The crevice under metal that rolled over the toe: a dark line on the plate right at its edge."""
    off = y[:, np.newaxis] - np.interp(x, bead.x_mm, bead.centre_mm)
    overlap = np.interp(x, bead.x_mm, bead.overlap_mm)
    reach = np.maximum(surface.half_mm + overlap, 0.5)
    beyond_mm = (distance - 1.0) * reach
    dark = np.exp(-(((beyond_mm - 0.08) / 0.16) ** 2)) * np.clip(overlap / 0.25, 0, 1) * (off * bead.steep_side > 0)
    window *= (1 - 0.85 * dark).astype(np.float32)[..., np.newaxis]


def _shade(z: Image, scale: float, session: Session, seed: int, view: str, tilt_rad: float) -> Image:
    """Diffuse and specular light of the height map from the view's lamp; hollows lie in shade."""
    import cv2

    smooth = cv2.GaussianBlur(z, (0, 0), 0.05 * scale)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1, scale=scale / 2)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1, scale=scale / 2)
    rng = generator(seed, "photo", "light", *([] if view == "top" else [view]))
    angle = VIEWS[view].lamp_rad + session.light_angle_rad + 0.15 * rng.standard_normal()
    level = 0.52 if view == "top" else 0.58
    light = np.array([0.67 * level * np.sin(angle), -level * np.cos(angle), 0.80])
    towards = np.array([0.0, np.sin(tilt_rad), np.cos(tilt_rad)])
    halfway = (light + towards) / float(np.linalg.norm(light + towards) * (1.017 if view == "top" else 1.0))
    lx, ly, lz = light.astype(np.float32)
    hx, hy, hz = halfway.astype(np.float32)
    norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
    diffuse = np.maximum((lz - gx * lx - gy * ly) * norm, 0)
    specular = np.clip((hz - gx * hx - gy * hy) * norm, 0, 1)
    specular = np.square(np.square(np.square(specular**3)))
    steep = np.clip(np.hypot(gx, gy) * np.float32(2.5), 0, 1)
    around = round(0.8 * scale) | 1
    hollow = np.clip((cv2.blur(smooth, (around, around)) - smooth) * np.float32(1.6), 0, np.float32(0.6))
    lit = np.float32(0.30) + np.float32(0.85) * diffuse + np.float32(0.55) * specular * steep
    return np.asarray(lit * (1 - hollow), np.float32)


def _expose(seen: NDArray[np.uint8], session: Session, seed: int, preset: ImagePreset, view: str) -> bytes:
    """Lamp's fall-off over the field, white balance, lens blur, sensor noise, JPEG."""
    import cv2

    rng = generator(seed, "photo", "exposure", *([] if view == "top" else [view]))
    rows, cols = seen.shape[:2]
    gain = session.light_gain * (1 + 0.04 * rng.standard_normal())
    slope = rng.normal(0, 0.06) + 0.1 * session.light_angle_rad
    lamp = (gain * (1 + slope * np.linspace(-1, 1, cols))).astype(np.float32)
    white = np.array([1 - session.light_warmth, 1.0, 1 + session.light_warmth], np.float32)
    lit = seen.astype(np.float32) * (lamp[:, np.newaxis] * white)
    image = np.asarray(cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.5, 0.8)) * cols / 960), np.float32)
    noise = rng.standard_normal((rows, cols), dtype=np.float32) * np.float32(2.0)
    image += noise[..., np.newaxis]
    quality = [cv2.IMWRITE_JPEG_QUALITY, preset.jpeg_quality]
    jpeg = cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), quality)[1].tobytes()
    return filled(jpeg, BUFFER_BYTES)
