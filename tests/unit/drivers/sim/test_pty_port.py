"""The virtual cell's serial port, read through pyserial."""

from pathlib import Path

import pytest
import serial

from drivers.sim.pty_port import PtyPort

FRAMES = [bytes([k]) * 500 for k in range(40)]


@pytest.fixture
def port(tmp_path: Path):
    port = PtyPort(tmp_path / "welder", backlog_frames=20)
    yield port
    port.close()
    assert list(tmp_path.iterdir()) == []


def read_all(port: PtyPort, reader: serial.Serial) -> bytes:
    """Until three reads in a row gave nothing."""
    got, empty = b"", 0
    while empty < 3:
        port._flush()
        data = reader.read(4096)
        got += data
        empty = 0 if data else empty + 1
    return got


def test_what_is_written_is_read_whole_and_in_order(port: PtyPort) -> None:
    with serial.Serial(str(port.link), timeout=0.2) as reader:
        for frame in FRAMES[:20]:
            port.write(frame)
        assert read_all(port, reader) == b"".join(FRAMES[:20])
    assert port.dropped == 0


def test_without_a_reader_whole_frames_are_dropped_the_oldest_first_and_counted(port: PtyPort) -> None:
    many = [bytes([k % 256]) * 499 + b"\n" for k in range(1000)]
    for frame in many:
        port.write(frame)
    with serial.Serial(str(port.link), timeout=0.3) as reader:
        got = read_all(port, reader)
    assert got
    assert b"".join(many[-200:]).endswith(got), "the reader got the distant past, or pieces"
    assert port.dropped > 500


def test_unplugging_hangs_up_and_the_name_comes_back(port: PtyPort) -> None:
    reader = serial.Serial(str(port.link), timeout=0.3)
    port.unplug()
    port.unplug()
    assert not port.link.is_symlink()
    with pytest.raises(OSError, match=r"disconnected|Input/output"):
        reader.read(1)
    reader.close()
    port.write(b"lost")
    assert port.dropped == 1
    port.plug()
    port.plug()
    with serial.Serial(str(port.link), timeout=1) as reader:
        port.write(b"hello")
        assert reader.read(5) == b"hello"
