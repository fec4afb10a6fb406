"""Where calibration pictures come from: a folder, or a camera of the configuration while somebody holds the board.

Each is a generator of (name, picture); a file that is no picture has None.
"""

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError
from drivers.base import Chunk
from edged.config import Config
from edged.stream import Stream

__all__ = ["Picture", "camera_pictures", "decoded", "folder_pictures"]

Picture = tuple[str, NDArray[np.uint8] | None]
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
EVERY_S = 1.0
"""Between two pictures of a running camera: time to move the board."""
SILENT_S = 15.0


def folder_pictures(folder: Path) -> Iterator[Picture]:
    """Grey pictures of a folder in the order of their names. Raises CalibrationError when it holds none."""
    import cv2

    if not folder.is_dir():
        raise CalibrationError(f"{folder}: is no folder; give the folder that holds the pictures")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CalibrationError(f"{folder}: holds no picture; it needs PNG, JPEG, BMP or TIFF files")
    for path in paths:
        raw = np.fromfile(path, np.uint8)
        image: Any = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE) if raw.size else None
        yield path.name, None if image is None else np.asarray(image, np.uint8)


def decoded(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A grey picture of JPEG bytes; None when they are none."""
    import cv2

    image: Any = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE) if jpeg.size else None
    return None if image is None else np.asarray(image, np.uint8)


def camera_pictures(
    config: Config, name: str, count: int, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic
) -> Iterator[Picture]:
    """`count` pictures of a camera of the configuration, one each `every_s`; the daemon must not hold it.

    Raises CalibrationError: no such camera, or it gives nothing for `SILENT_S`.
    """
    if name not in config.streams or config.streams[name].kind not in ("video", "result"):
        cameras = [key for key, stream in config.streams.items() if stream.kind in ("video", "result")]
        raise CalibrationError(f"{name!r} is no camera of the configuration; it has {', '.join(cameras) or 'none'}")
    frames: queue.Queue[NDArray[np.uint8]] = queue.Queue(maxsize=2)

    def keep(chunk: Chunk) -> None:
        # The ring goes on, so the bytes are copied; a picture that nobody waits for is dropped.
        if not frames.full():
            frames.put_nowait(np.array(chunk.data, np.uint8))

    stream = Stream(name, config.streams[name], keep, child_env=config.children.env)
    stream.start()
    try:
        due_s = now_s()
        for number in range(count):
            yield f"picture {number + 1}", decoded(_next(frames, due_s, now_s, name))
            due_s = now_s() + every_s
    finally:
        stream.stop()


def _next(
    frames: "queue.Queue[NDArray[np.uint8]]", due_s: float, now_s: Callable[[], float], name: str
) -> NDArray[np.uint8]:
    while True:
        try:
            frame = frames.get(timeout=SILENT_S)
        except queue.Empty:
            raise CalibrationError(
                f"camera {name}: no picture within {SILENT_S:g} s; stop edged while it is calibrated "
                "('systemctl stop edged'), and see that the camera is on"
            ) from None
        if now_s() >= due_s:
            return frame
