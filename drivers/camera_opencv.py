"""Driver `camera.opencv`: V4L2 devices, RTSP/HTTP URLs and video files through OpenCV; one JPEG a chunk.

First step of the data path for video and result streams. MJPEG passes through byte for byte, so that the
worker scores the very bytes that are recorded; any other codec is decoded and encoded once, here.
OpenCV can hang for ever inside `read`, so the driver runs in a child process that `Stream` can kill.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivers.base import MONOTONIC, Chunk, DeviceError, DriverOptions, HostClock, Isolation, StreamEnded, StreamSpec

if TYPE_CHECKING:
    import cv2

__all__ = ["CameraOpencv", "CameraOpencvOptions", "SourceType", "is_whole_jpeg", "source_type"]

SourceType = Literal["v4l2", "url", "file"]

START_OF_IMAGE = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"
TRAILING_BYTES = 4096
"""Cameras pad their frames, so the end marker is looked for in this many last bytes; image data cannot hold it."""

MAX_DAMAGED_IN_A_ROW = 30
FILE_RATE_TOLERANCE = 0.01


class CameraOpencvOptions(DriverOptions):
    """`[streams.NAME.options]` of `camera.opencv`.

    `source`: `/dev/videoN`, an `rtsp://`, `http://`, `udp://` … URL, or a video file. `width`, `height`: 0 takes
    what the device gives; another size than the one stated is an error. `rate_hz`: the nominal frame rate; a file
    is paced by it, whatever its header says. `ffmpeg_options`: `key;value|key;value` for FFmpeg.
    `jpeg_quality`: for codecs other than MJPEG, which must be encoded here. `counted`: the camera runs freely at
    `rate_hz` and no frame is lost unseen on the way (USB, TCP, a file), so that counting the frames read tells their
    time better than their arrival.
    """

    source: Annotated[str, Field(min_length=1)]
    kind: Literal["video", "result"] = "video"
    rate_hz: Annotated[float, Field(gt=0, le=1000)] = 30.0
    width: Annotated[int, Field(ge=0)] = 0
    height: Annotated[int, Field(ge=0)] = 0
    open_timeout_ms: Annotated[int, Field(gt=0)] = 5000
    read_timeout_ms: Annotated[int, Field(gt=0)] = 2000
    ffmpeg_options: str = "rtsp_transport;tcp"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    counted: bool = False


def source_type(source: str) -> SourceType:
    """What `source` names: a V4L2 device, a URL or a file."""
    if source.startswith("/dev/"):
        return "v4l2"
    return "url" if "://" in source else "file"


def is_whole_jpeg(data: NDArray[np.uint8]) -> bool:
    """Whether `data` `(n_bytes,)` begins with JPEG's start marker and has the end marker at its end."""
    if data[: len(START_OF_IMAGE)].tobytes() != START_OF_IMAGE:
        return False
    return END_OF_IMAGE in data[-TRAILING_BYTES:].tobytes()


class CameraOpencv:
    """A camera read through OpenCV; POS_MSEC is wrong on most of its sources, so arrivals tell when a frame was
    taken: its own, or where frames are `counted` the lower envelope of all.

    `counter` numbers the frames since the stream was configured, damaged ones included, and does not go back
    when the camera is reopened.
    """

    isolation: ClassVar[Isolation] = "process"
    Options: ClassVar[type[DriverOptions]] = CameraOpencvOptions

    def __init__(self, name: str, options: CameraOpencvOptions, clock: HostClock = MONOTONIC) -> None:
        self._name = name
        self._options = options
        self._clock = clock
        self._type = source_type(options.source)
        self._capture: cv2.VideoCapture | None = None
        self._is_encoded = False
        self._first: NDArray[np.uint8] | None = None
        self._seq = 0
        self._counter = 0
        self._lost = 0
        self._file_t0_ns: int | None = None
        self._file_frames = 0

    @property
    def spec(self) -> StreamSpec:
        """One JPEG image an item; the shape is `(0, 0)` unless the config states it."""
        options = self._options
        return StreamSpec(
            name=self._name,
            kind=options.kind,
            rate_hz=options.rate_hz,
            shape=(options.height, options.width),
            dtype="uint8",
            torch=options.torch,
            tick="counter" if options.counted else "arrival",
        )

    def open(self) -> None:
        """Open within `open_timeout_ms` and take the first frame, which shows whether JPEG can pass through.

        Raises DeviceError naming the source: it cannot be opened, gives no frame, or has another size or rate.
        """
        self.close()
        try:
            self._open_capture(encoded=True)
            frame = self._grab()
            if frame is None or frame[: len(START_OF_IMAGE)].tobytes() != START_OF_IMAGE:
                self._open_capture(encoded=False)
                frame = self._grab()
            if frame is None:
                raise DeviceError(
                    f"{self._source} opened but gave no frame within {self._options.read_timeout_ms} ms; "
                    "check that it sends images"
                )
            self._check_format(frame)
        except DeviceError:
            self.close()
            raise
        self._first = frame
        self._file_t0_ns = None
        self._file_frames = 0

    def read(self) -> Chunk | None:
        """The next frame, waiting at most `read_timeout_ms`; never None.

        Raises StreamEnded at the end of a file, DeviceError where a camera stops or sends no whole images.
        """
        if self._capture is None:
            raise DeviceError(f"{self._source} is not open; call open() first")
        for _ in range(MAX_DAMAGED_IN_A_ROW):
            frame, self._first = (self._first, None) if self._first is not None else (self._grab(), None)
            if frame is None:
                raise self._stopped()
            self._counter += 1
            arrival_ns = self._arrival_ns()
            data = frame if self._is_encoded else self._encode(frame)
            if is_whole_jpeg(data):
                return self._chunk(data, arrival_ns)
            self._lost += 1
        raise DeviceError(
            f"{self._source} sent {MAX_DAMAGED_IN_A_ROW} damaged images in a row (last: {data.size} bytes, begins "
            f"{data[:4].tobytes().hex()}); check its cable, its network and its codec"
        )

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None
        self._first = None

    @property
    def _source(self) -> str:
        return f"camera {self._name} ({self._options.source})"

    def _open_capture(self, *, encoded: bool) -> None:
        # OpenCV reads this limit once, at its first V4L2 device, and only in whole seconds.
        timeout_s = math.ceil(self._options.read_timeout_ms / 1000)
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(timeout_s))
        import cv2

        cv2.setNumThreads(1)
        # A camera that is away is reported by DeviceError, not by OpenCV's warnings on stderr.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        self.close()
        if self._type == "file" and not Path(self._options.source).is_file():
            raise DeviceError(f"{self._source}: no such file")
        backend = cv2.CAP_V4L2 if self._type == "v4l2" else cv2.CAP_FFMPEG
        with _ffmpeg_options(self._options.ffmpeg_options):
            capture = cv2.VideoCapture(self._options.source, backend, self._open_parameters(encoded=encoded))
        if not capture.isOpened():
            capture.release()
            raise DeviceError(f"{self._source} cannot be opened; {_OPEN_FIX[self._type]}")
        self._capture = capture
        self._is_encoded = encoded

    def _open_parameters(self, *, encoded: bool) -> list[int]:
        import cv2

        options = self._options
        if self._type != "v4l2":
            timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, options.open_timeout_ms]
            timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, options.read_timeout_ms]
            # FORMAT −1 hands out the packets as they came; CONVERT_RGB 0 does not do so with FFmpeg.
            return timeouts + ([cv2.CAP_PROP_FORMAT, -1] if encoded else [])
        parameters = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")]
        if options.width and options.height:
            parameters += [cv2.CAP_PROP_FRAME_WIDTH, options.width, cv2.CAP_PROP_FRAME_HEIGHT, options.height]
        parameters += [cv2.CAP_PROP_FPS, round(options.rate_hz)]
        return parameters + ([cv2.CAP_PROP_CONVERT_RGB, 0] if encoded else [])

    def _grab(self) -> NDArray[np.uint8] | None:
        """The next packet `(n_bytes,)` or image `(height, width, 3)`; None when the source stopped."""
        assert self._capture is not None
        ok, frame = self._capture.read()
        if not ok or frame is None or frame.size == 0:
            return None
        data = np.asarray(frame, np.uint8)
        return data.reshape(-1) if self._is_encoded else data

    def _check_format(self, frame: NDArray[np.uint8]) -> None:
        import cv2

        assert self._capture is not None
        options = self._options
        image: NDArray[Any] | None = cv2.imdecode(frame, cv2.IMREAD_UNCHANGED) if self._is_encoded else frame
        wanted = (options.height, options.width)
        # A first frame that is damaged is no reason to refuse the camera: `read` counts it as lost.
        if image is not None and any(want not in (0, is_) for want, is_ in zip(wanted, image.shape, strict=False)):
            raise DeviceError(
                f"{self._source} gives {image.shape[1]}×{image.shape[0]} pixels, the config says "
                f"width = {options.width}, height = {options.height}; correct it or leave both 0"
            )
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        is_stated = "rate_hz" in options.model_fields_set or rate_hz <= 0
        if self._type == "file" and not is_stated and abs(rate_hz / options.rate_hz - 1) > FILE_RATE_TOLERANCE:
            raise DeviceError(
                f"{self._source} says {rate_hz:.3f} frames/s; state rate_hz, since a file's header may be wrong"
            )

    def _arrival_ns(self) -> int:
        if self._type != "file":
            return self._clock.now_ns()
        if self._file_t0_ns is None:
            self._file_t0_ns = self._clock.now_ns()
        due_ns = self._file_t0_ns + round(self._file_frames * 1e9 / self._options.rate_hz)
        self._file_frames += 1
        self._clock.sleep_until_ns(due_ns)
        return due_ns

    def _encode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        ok, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._options.jpeg_quality])
        if not ok:
            raise DeviceError(f"{self._source}: an image of shape {image.shape} cannot be encoded as JPEG")
        return jpeg.reshape(-1).view(np.uint8)

    def _chunk(self, data: NDArray[np.uint8], arrival_ns: int) -> Chunk:
        chunk = Chunk(
            stream=self._name,
            seq=self._seq,
            counter=self._counter - 1,
            arrival_ns=arrival_ns,
            lost_before=self._lost,
            data=data,
        )
        self._seq += 1
        self._lost = 0
        return chunk

    def _stopped(self) -> DeviceError:
        if self._type == "file":
            return StreamEnded(f"{self._source} ended after {self._file_frames} frames")
        # isOpened() stays True for ever, so a read without a frame is the only sign of a lost camera.
        return DeviceError(
            f"{self._source} gave no frame within {self._options.read_timeout_ms} ms after frame {self._counter}; "
            f"{_OPEN_FIX[self._type]}"
        )


_OPEN_FIX: dict[SourceType, str] = {
    "v4l2": "check that it is plugged in (`v4l2-ctl --list-devices`) and that no other program uses it",
    "url": "check the address, the network and that the camera is on",
    "file": "check that it is a video file",
}


@contextlib.contextmanager
def _ffmpeg_options(options: str) -> Iterator[None]:
    """OpenCV takes FFmpeg's options from the environment only; it is restored at once."""
    key = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    before = os.environ.get(key)
    os.environ[key] = options
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
