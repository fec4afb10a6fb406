"""Whether a result camera still stands where it stood: the coded markers' place in every view, and its light.

The markers (ArUco 4×4, ids 0–3) stand beside the part; where their middle wanders in the picture the camera or the
fixture has moved. A cell without markers is judged by its light alone.
"""

import math
from collections.abc import Mapping

import numpy as np

from edged.sensor_report import Figure, SensorReport, problem
from pipelines.window import ResultView

__all__ = ["view_reports"]

LOOKED_AT_PX = 960
"""Wider pictures are made this wide first: finding markers is what takes the time."""
DARK_MEAN = 4.0
RIM_PX = 16


def view_reports(views: Mapping[str, ResultView]) -> dict[str, SensorReport]:
    """Stream → what its views of one seam say of it."""
    found: dict[str, SensorReport] = {}
    for name, view in sorted(views.items()):
        report, before = _look(name, view), found.get(view.stream, SensorReport())
        found[view.stream] = SensorReport(before.problems + report.problems, {**before.figures, **report.figures})
    return found


def _look(name: str, view: ResultView) -> SensorReport:
    import cv2  # heavy, and only wanted where there is a camera

    image = cv2.imdecode(view.jpeg, cv2.IMREAD_GRAYSCALE)
    if image is None:
        detail = f"view {name} ({len(view.jpeg)} bytes) cannot be decoded"
        return SensorReport(problem("unreadable", 1.0, None, 0.0, "share", detail))
    if image.shape[1] > LOOKED_AT_PX:
        size = (LOOKED_AT_PX, round(image.shape[0] * LOOKED_AT_PX / image.shape[1]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mean = float(image.mean())
    if mean < DARK_MEAN:
        return SensorReport(problem("dark", -mean, None, -DARK_MEAN, "counts", f"view {name} is black"))
    level = 20 * math.log10(mean)
    light = Figure("brightness", level, 1.5, "dB", f"view {name} has a mean brightness of {mean:.0f} of 255")
    return SensorReport(figures={f"{name}_brightness": light} | _places(name, np.asarray(image, np.uint8)))


def _places(name: str, image: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> dict[str, Figure]:
    """Middle of the markers and their distance, per cent of the picture's width; nothing unless all four are seen."""
    import cv2

    # A marker at the picture's very edge has no rim to be told from: lend it one, and all of them one as dark.
    plate = float(np.median(image))
    framed = cv2.copyMakeBorder(image, RIM_PX, RIM_PX, RIM_PX, RIM_PX, cv2.BORDER_CONSTANT, value=[plate])
    framed = np.minimum(framed, np.uint8(plate))
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    corners, ids, _ = detector.detectMarkers(framed)
    seen = (
        {}
        if ids is None
        else {int(i): c.reshape(4, 2).mean(0) - RIM_PX for i, c in zip(np.asarray(ids).ravel(), corners, strict=True)}
    )
    if set(seen) != {0, 1, 2, 3}:
        return {}
    centres = np.stack([seen[marker] for marker in range(4)]) * (100.0 / image.shape[1])
    x, y = centres.mean(0).tolist()
    size = float(np.linalg.norm(centres - centres.mean(0), axis=1).mean())
    detail = f"the markers of view {name} stand around {x:.1f}, {y:.1f} % of its width"
    places = {"x": x, "y": y, "size": size}
    return {f"{name}_{axis}": Figure("moved", value, 1.0, "% of width", detail) for axis, value in places.items()}
