"""The AVI of a run: how bright each frame is, for alignment, and its frames as JPEG, for the recording."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edged.importing.align import AlignError

__all__ = ["frame_light", "frames", "header_fps"]

JPEG_START = b"\xff\xd8\xff"
JPEG_QUALITY = 90

Jpeg = NDArray[np.uint8]


def header_fps(path: Path) -> float:
    """The frame rate that the file's header states. Raises AlignError when it is no video."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        fps = float(capture.get(cv2.CAP_PROP_FPS)) if capture.isOpened() else 0.0
    finally:
        capture.release()
    if not fps > 0:
        raise AlignError(f"{path.name} cannot be read as video")
    return fps


def frames(path: Path) -> Iterator[Jpeg | None]:
    """Every frame as JPEG `(n_bytes,)`, None for a damaged one. MJPEG passes through, others are encoded once."""
    import cv2

    packets = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    try:
        ok, first = packets.read()
        if ok and first.reshape(-1)[:3].tobytes() == JPEG_START:
            yield np.array(first, np.uint8).reshape(-1)
            while (read := packets.read())[0]:
                data = np.array(read[1], np.uint8).reshape(-1)
                yield data if data[:3].tobytes() == JPEG_START else None
            return
    finally:
        packets.release()
    yield from _encoded(path)


def frame_light(path: Path) -> NDArray[np.float64]:
    """Mean brightness 0–255 of every frame; a damaged frame is as bright as the one before."""
    import cv2

    light: list[float] = []
    for jpeg in frames(path):
        image = None if jpeg is None else cv2.imdecode(jpeg, cv2.IMREAD_REDUCED_GRAYSCALE_8)
        light.append(float(image.mean()) if image is not None else (light[-1] if light else 0.0))
    return np.array(light)


def _encoded(path: Path) -> Iterator[Jpeg | None]:
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        while (read := capture.read())[0]:
            ok, encoded = cv2.imencode(".jpg", read[1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            yield np.asarray(encoded, np.uint8).reshape(-1) if ok else None
    finally:
        capture.release()
