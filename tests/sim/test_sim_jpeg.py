"""Filled JPEGs: whole buffers, the same picture."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sim.jpeg import filled

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()


@given(st.integers(1, 300_000))
def test_a_filled_jpeg_is_whole_buffers_long(buffer_bytes: int) -> None:
    out = filled(JPEG, max(buffer_bytes, 8))
    assert len(out) % max(buffer_bytes, 8) == 0
    assert len(out) - len(JPEG) < max(buffer_bytes, 8) + 4


@pytest.mark.parametrize("missing", [0, 1, 2, 3, 4, 5, 65_536, 65_537, 65_538, 65_541, 65_542, 200_001])
def test_it_shows_the_same_picture(missing: int) -> None:
    out = filled(JPEG, len(JPEG) + missing)
    assert len(out) == len(JPEG) + missing if missing not in (1, 2, 3) else 2 * (len(JPEG) + missing)
    seen, wanted = (cv2.imdecode(np.frombuffer(j, np.uint8), cv2.IMREAD_UNCHANGED) for j in (out, JPEG))
    np.testing.assert_array_equal(seen, wanted)
