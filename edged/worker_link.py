"""What daemon and worker say to each other: frames `[msgpack header, raw bytes…]` over a private ipc socket.

Daemon → worker: begin, push, prepare, finish, drop, stop. Worker → daemon: ready, alive, live, score. Both ends are
the same version of edged, so there is no schema number; what comes in is validated all the same, because a scoring
process that runs on broken memory must not be believed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from drivers.base import Chunk, ClockParams, StreamSpec
from pipelines.window import Gap, Integrity, LivePoint, ResultView, Score, Seam, SeamFrame, SeamWindow

__all__ = [
    "LinkError",
    "begin_frames",
    "chunk_of",
    "frames_of",
    "header_of",
    "live_header",
    "live_of",
    "pack_header",
    "push_frames",
    "score_map",
    "score_of",
    "seam_and_streams_of",
    "size_of",
    "window_frames",
    "window_of",
]

Buffer = bytes | NDArray[Any]

SEAM = TypeAdapter(Seam)
SPECS = TypeAdapter(tuple[StreamSpec, ...])
GAPS = TypeAdapter(tuple[Gap, ...])
INTEGRITY = TypeAdapter(dict[str, Integrity])
SCORE = TypeAdapter(Score)
LIVE = TypeAdapter(tuple[LivePoint, ...])
FRAME: TypeAdapter[SeamFrame | None] = TypeAdapter(SeamFrame | None)


class LinkError(Exception):
    """The other end said something that is not in the protocol."""


def frames_of(header: Mapping[str, Any], *buffers: Buffer) -> list[Buffer]:
    """The frames of one message."""
    return [pack_header(header), *buffers]


def pack_header(header: Mapping[str, Any]) -> bytes:
    """A message without raw frames."""
    packed: bytes = msgpack.packb(header)
    return packed


def header_of(frame: bytes) -> dict[str, Any]:
    """The header of a received message. Raises LinkError."""
    try:
        header = msgpack.unpackb(frame)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise LinkError(f"header is not msgpack: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("op"), str):
        raise LinkError(f"header is {header!r:.200}, not a map with op")
    return header


def begin_frames(seam: Seam, streams: tuple[StreamSpec, ...]) -> list[Buffer]:
    """Open a seam."""
    return frames_of({"op": "begin", "seam": _plain(seam), "streams": [_plain(spec) for spec in streams]})


def seam_and_streams_of(header: Mapping[str, Any]) -> tuple[Seam, tuple[StreamSpec, ...]]:
    """Inverse of `begin_frames`. Raises LinkError."""
    try:
        return SEAM.validate_python(header["seam"]), SPECS.validate_python(header["streams"])
    except (KeyError, ValidationError) as error:
        raise LinkError(f"begin: {error}") from error


def push_frames(seam_id: str, chunk: Chunk) -> list[Buffer]:
    """Hand over a chunk; its data stays one raw frame in the very bytes that are recorded."""
    data = np.ascontiguousarray(chunk.data)
    header = {
        "op": "push",
        "seam_id": seam_id,
        "stream": chunk.stream,
        "seq": chunk.seq,
        "counter": chunk.counter,
        "arrival_ns": chunk.arrival_ns,
        "lost_before": chunk.lost_before,
        "clock": None if chunk.clock is None else dataclasses.astuple(chunk.clock),
        "dtype": data.dtype.str,
        "shape": data.shape,
    }
    return frames_of(header, data)


def chunk_of(header: Mapping[str, Any], buffer: bytes) -> Chunk:
    """Inverse of `push_frames`; the data is a read-only view of `buffer`. Raises LinkError."""
    try:
        return Chunk(
            stream=header["stream"],
            seq=header["seq"],
            counter=header["counter"],
            arrival_ns=header["arrival_ns"],
            lost_before=header["lost_before"],
            data=np.frombuffer(buffer, header["dtype"]).reshape(header["shape"]),
            clock=None if header["clock"] is None else ClockParams(*header["clock"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LinkError(f"push: {error}") from error


def window_frames(window: SeamWindow, sent_ns: int, op: str = "finish") -> list[Buffer]:
    """Ask for the score, or `prepare` for it; one frame an image, then the height map where there is one."""
    height_map = None if window.height_map_mm is None else np.ascontiguousarray(window.height_map_mm, np.float32)
    header = {
        "op": op,
        "sent_ns": sent_ns,
        "seam": _plain(window.seam),
        "streams": [_plain(spec) for spec in window.streams],
        "views": [[name, view.view, view.stream, view.t_ns] for name, view in window.views.items()],
        "integrity": {name: _plain(integrity) for name, integrity in window.integrity.items()},
        "gaps": [_plain(gap) for gap in window.gaps],
        "height_map_shape": None if height_map is None else height_map.shape,
        "calibration_id": window.calibration_id,
        "missing": window.missing,
        "frame": _plain(window.frame),
    }
    buffers: list[Buffer] = [np.ascontiguousarray(view.jpeg) for view in window.views.values()]
    return frames_of(header, *buffers, *([] if height_map is None else [height_map]))


def window_of(header: Mapping[str, Any], buffers: Sequence[bytes]) -> SeamWindow:
    """Inverse of `window_frames`. Raises LinkError."""
    try:
        views = header["views"]
        shape = header["height_map_shape"]
        if len(buffers) != len(views) + (shape is not None):
            raise LinkError(f"finish: {len(buffers)} buffers for {len(views)} views")
        jpegs = [np.frombuffer(buffer, np.uint8) for buffer in buffers[: len(views)]]
        return SeamWindow(
            seam=SEAM.validate_python(header["seam"]),
            streams=SPECS.validate_python(header["streams"]),
            views={
                name: ResultView(view, stream, t_ns, jpeg)
                for (name, view, stream, t_ns), jpeg in zip(views, jpegs, strict=True)
            },
            integrity=INTEGRITY.validate_python(header["integrity"]),
            gaps=GAPS.validate_python(header["gaps"]),
            height_map_mm=None if shape is None else np.frombuffer(buffers[-1], np.float32).reshape(shape),
            calibration_id=header["calibration_id"],
            missing=tuple(header["missing"]),
            frame=FRAME.validate_python(header["frame"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LinkError(f"finish: {error}") from error


def score_map(score: Score) -> dict[str, Any]:
    """A score as plain maps and lists."""
    plain: dict[str, Any] = _plain(score)
    return plain


def score_of(plain: object) -> Score:
    """Inverse of `score_map`. Raises LinkError, also where the numbers that decide are not finite."""
    try:
        score = SCORE.validate_python(plain)
    except ValidationError as error:
        raise LinkError(f"score: {error}") from error
    for name in ("raw", "score", "p_value", "threshold"):
        value = getattr(score, name)
        if value is not None and not isfinite(value):
            raise LinkError(f"score: {name} is {value}, which can be compared with no limit")
    return score


def live_header(seam_id: str, points: Sequence[LivePoint]) -> dict[str, Any]:
    """Points of an open seam's live score."""
    return {"op": "live", "seam_id": seam_id, "points": [_plain(point) for point in points]}


def live_of(header: Mapping[str, Any]) -> tuple[LivePoint, ...]:
    """Inverse of `live_header`. Raises LinkError, also where a number is not finite."""
    try:
        points = LIVE.validate_python(header["points"])
    except (KeyError, ValidationError) as error:
        raise LinkError(f"live: {error}") from error
    for point in points:
        numbers = {"raw": point.raw, "score": point.score, "mm": point.mm, **point.components}
        wrong = [f"{name} is {value}" for name, value in numbers.items() if value is not None and not isfinite(value)]
        if wrong:
            raise LinkError(f"live, {point.t_s} s after arc-on: {', '.join(wrong)}")
    return points


def size_of(frames: Sequence[Buffer]) -> int:
    """Bytes that a message holds in a queue."""
    return sum(len(frame) if isinstance(frame, bytes) else frame.nbytes for frame in frames)


def _plain(value: Any) -> Any:
    """Dataclasses as maps, numpy scalars as numbers: what msgpack can carry."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
