"""The virtual cell's microphone: what its FIFO does with readers that come, go and fall behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.sim.alsa_fifo import PIPE_BYTES, FifoMicrophone


def block(value: int) -> np.ndarray:
    return np.full((480, 1), value, np.int16)


@pytest.fixture
def microphone(tmp_path: Path) -> Iterator[FifoMicrophone]:
    microphone = FifoMicrophone(tmp_path)
    yield microphone
    microphone.close()
    assert list(tmp_path.iterdir()) == []


def listen(tmp_path: Path) -> int:
    return os.open(tmp_path / "microphone.fifo", os.O_RDONLY | os.O_NONBLOCK)


def test_what_nobody_listens_to_is_gone_and_no_loss(tmp_path: Path, microphone: FifoMicrophone) -> None:
    microphone.write(block(1))
    ear = listen(tmp_path)
    microphone.write(block(2))
    assert os.read(ear, 65_536) == block(2).tobytes()
    microphone.write(block(3))
    os.close(ear)
    microphone.write(block(4))
    ear = listen(tmp_path)
    microphone.write(block(5))
    assert os.read(ear, 65_536) == block(5).tobytes(), "the next listener hears what the last one left"
    os.close(ear)
    assert (microphone.unread, microphone.dropped) == (2 * 480, 0)


def test_a_listener_may_be_late_by_a_pipe_and_then_loses_whole_blocks(
    tmp_path: Path, microphone: FifoMicrophone
) -> None:
    ear = listen(tmp_path)
    blocks = 1_100
    for k in range(blocks):
        microphone.write(block(k))
    heard = np.frombuffer(os.read(ear, 2 * PIPE_BYTES), np.int16)
    os.close(ear)
    assert 0 < microphone.dropped < 100 * 480, "ten seconds are kept"
    assert len(heard) == 480 * blocks - microphone.dropped
    assert np.array_equal(heard, np.repeat(np.arange(len(heard) // 480), 480))
    assert microphone.unread == 0
