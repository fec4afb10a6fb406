"""`camera.folder`: images of a folder in the order of their names, paced like a camera or a result camera.

First step of the data path. JPEG files pass through byte for byte; others are encoded once.
"""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivers.base import MONOTONIC, Chunk, DeviceError, HostClock, Isolation, StreamEnded, StreamSpec
from drivers.pacing import FileOptions, Pacer

__all__ = ["ImageFolder", "ImageFolderOptions"]

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
ENCODED_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})
JPEG_START = b"\xff\xd8\xff"


class ImageFolderOptions(FileOptions):
    """Options of `camera.folder`; `path` is the folder. `height` and `width` are for information, 0 is unknown."""

    kind: Literal["video", "result"] = "video"
    rate_hz: Annotated[float, Field(gt=0, le=1000)] = 30.0
    height: Annotated[int, Field(ge=0)] = 0
    width: Annotated[int, Field(ge=0)] = 0
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90


class ImageFolder:
    """Reads one image a chunk; a file that is no image is a lost item. After the last one: StreamEnded."""

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[FileOptions]] = ImageFolderOptions

    def __init__(self, name: str, options: ImageFolderOptions, clock: HostClock = MONOTONIC) -> None:
        self._options = options
        self._pacer = Pacer(clock, options.pace)
        self._paths: list[Path] | None = None
        self._at = 0
        self._base = 0
        self._lost = 0
        self._seq = 0
        self._spec = StreamSpec(
            name=name,
            kind=options.kind,
            rate_hz=options.rate_hz,
            shape=(options.height, options.width),
            dtype="uint8",
            torch=options.torch,
        )

    @property
    def spec(self) -> StreamSpec:
        """One JPEG a chunk."""
        return self._spec

    def open(self) -> None:
        """List the folder. Raises DeviceError when it is missing or holds no image."""
        folder = Path(self._options.path)
        try:
            found = [p for p in folder.iterdir() if p.suffix.lower() in JPEG_SUFFIXES | ENCODED_SUFFIXES]
        except OSError as error:
            raise DeviceError(f"image folder {folder} cannot be opened: {error.strerror}; check path") from error
        if not found:
            raise DeviceError(f"image folder {folder} holds no image; it needs .jpg or .png files")
        self._base += self._at
        self._paths, self._at = sorted(found, key=_natural), 0
        self._pacer.start()

    def read(self) -> Chunk | None:
        """The next image when it is due. Raises StreamEnded after the last one."""
        if self._paths is None:
            raise DeviceError(f"image folder {self._options.path} is read before it was opened; call open() first")
        if self._at >= len(self._paths):
            raise StreamEnded(f"image folder {self._options.path} has ended")
        if (arrival_ns := self._pacer.arrival_ns(self._at * self._spec.dt_ns)) is None:
            return None
        data = _jpeg(self._paths[self._at], self._options.jpeg_quality)
        self._at += 1
        if data is None:
            self._lost += 1
            return None
        chunk = Chunk(self._spec.name, self._seq, self._base + self._at - 1, arrival_ns, self._lost, data)
        self._seq += 1
        self._lost = 0
        return chunk

    def close(self) -> None:
        """Forget the list; safe to call twice."""
        self._paths = None


def _jpeg(path: Path, quality: int) -> NDArray[np.uint8] | None:
    """The file as JPEG bytes; None when it is no image or cannot be read."""
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError:
        return None
    if path.suffix.lower() in JPEG_SUFFIXES:
        return raw if raw[:3].tobytes() == JPEG_START else None
    import cv2

    image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if image is None:
        return None
    ok, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(encoded, np.uint8).reshape(-1) if ok else None


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which f2 comes before f10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
