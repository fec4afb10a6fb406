"""The arc camera's tokens: one frame through lite0, and where things stand in all of them.

The token of 100 ms shows lite0 the first frame at or after its start; the figures of `scene.py` are means over every
frame of the token. A token during which no frame came is masked.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk
from pipelines.features.grid import TOKEN_NS, cells
from pipelines.features.lite0 import FEATURES, INPUT_PX, Backbone
from pipelines.features.scene import SCENE_FEATURES, glass_figures, scene_figures, small_grey

__all__ = ["FrameTokens", "decode_rgb", "resize_rgb"]


def decode_rgb(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A JPEG's pixels `(h, w, 3)` RGB; a grey one is repeated. Raises ValueError when it cannot be decoded."""
    import cv2

    image: Any = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"an image of {jpeg.size} bytes cannot be decoded; it is not a whole JPEG")
    decoded: NDArray[np.uint8] = image
    return decoded


def resize_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(h, w, 3)` → `(224, 224, 3)`, the whole picture, averaging over areas."""
    import cv2

    resized: Any = cv2.resize(image, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA)
    small: NDArray[np.uint8] = resized
    return small


ARC_LEVEL = 250
"""Grey level that only an arc reaches; frames without one say nothing of the glass before it."""


class FrameTokens:
    """The frame tokens of one seam: `(1280,)` pooled lite0 features each, and the figures of the scene."""

    def __init__(self, stream: str | None, arc_on_ns: int, backbone: Backbone) -> None:
        self._stream, self._arc_on_ns, self._backbone = stream, arc_on_ns, backbone
        self._tokens: dict[int, NDArray[np.float32]] = {}
        self._scenes: dict[int, tuple[NDArray[np.float64], int]] = {}
        self._glass: tuple[NDArray[np.float64], int] | None = None
        self.undecodable = 0

    def push(self, chunk: Chunk) -> None:
        """Take one JPEG; frames before arc-on are dropped without being decoded."""
        if chunk.stream != self._stream:
            return
        token = int(cells(chunk.times_ns(), self._arc_on_ns, TOKEN_NS)[0])
        if token < 0:
            return
        try:
            image = None if token in self._tokens else decode_rgb(chunk.data)
            grey = small_grey(chunk.data)
        except ValueError:
            # One torn frame is not the seam's end: the next frame of the token stands in, and it is counted.
            self.undecodable += 1
            return
        if image is not None:
            self._tokens[token] = self._backbone(resize_rgb(image)[None])[0].mean((0, 1))
            self._see_glass(grey)
        total, n = self._scenes.get(token, (np.zeros(len(SCENE_FEATURES)), 0))
        self._scenes[token] = total + scene_figures(grey), n + 1

    def has(self, token: int) -> bool:
        """Whether the token has its frame."""
        return token in self._tokens

    def get(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Tokens `start..stop`: `(n, 1280)` and which there are."""
        values = np.zeros((stop - start, FEATURES), np.float32)
        known = np.zeros(stop - start, np.bool_)
        for k in range(start, stop):
            if k in self._tokens:
                values[k - start], known[k - start] = self._tokens[k], True
        return values, known

    def scenes(self, start: int, stop: int) -> NDArray[np.float32]:
        """The scene's figures of tokens `start..stop`: `(n, features)`; zeros where there was no frame."""
        values = np.zeros((stop - start, len(SCENE_FEATURES)), np.float32)
        for k in range(start, stop):
            if k in self._scenes:
                total, n = self._scenes[k]
                values[k - start] = total / n
        return values

    def glass(self) -> dict[str, float]:
        """`glass_figures` of the frames so far; empty where none showed an arc."""
        if self._glass is None:
            return {}
        total, n = self._glass
        return glass_figures(total / n)

    def _see_glass(self, grey: NDArray[np.uint8]) -> None:
        if grey.max() < ARC_LEVEL:
            return
        if self._glass is None or self._glass[0].shape != grey.shape:  # another picture size: another camera
            self._glass = np.zeros(grey.shape), 0
        self._glass = self._glass[0] + grey, self._glass[1] + 1
