"""One arc-camera frame per token, through lite0.

The token of 100 ms shows the first frame at or after its start; a token during which no frame came is masked.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk
from pipelines.features.grid import TOKEN_NS, cells
from pipelines.features.lite0 import FEATURES, INPUT_PX, Backbone

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


class FrameTokens:
    """The frame tokens of one seam: `(1280,)` pooled lite0 features each."""

    def __init__(self, stream: str | None, arc_on_ns: int, backbone: Backbone) -> None:
        self._stream, self._arc_on_ns, self._backbone = stream, arc_on_ns, backbone
        self._tokens: dict[int, NDArray[np.float32]] = {}
        self.undecodable = 0

    def push(self, chunk: Chunk) -> None:
        """Take one JPEG; frames that open no token are dropped without being decoded."""
        if chunk.stream != self._stream:
            return
        token = int(cells(chunk.times_ns(), self._arc_on_ns, TOKEN_NS)[0])
        if token < 0 or token in self._tokens:
            return
        try:
            image = decode_rgb(chunk.data)
        except ValueError:
            # One torn frame is not the seam's end: the next frame of the token stands in, and it is counted.
            self.undecodable += 1
            return
        self._tokens[token] = self._backbone(resize_rgb(image)[None])[0].mean((0, 1))

    def get(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Tokens `start..stop`: `(n, 1280)` and which there are."""
        values = np.zeros((stop - start, FEATURES), np.float32)
        known = np.zeros(stop - start, np.bool_)
        for k in range(start, stop):
            if k in self._tokens:
                values[k - start], known[k - start] = self._tokens[k], True
        return values, known
