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


def test_what_nobody_reads_is_gone_and_no_loss(port: PtyPort) -> None:
    assert not port.is_read
    for frame in FRAMES:
        port.write(frame)
    with serial.Serial(str(port.link), timeout=0.2) as reader:
        assert port.is_read
        for frame in FRAMES[:3]:
            port.write(frame)
        assert read_all(port, reader) == b"".join(FRAMES[:3])
    assert not port.is_read
    port.write(b"x")
    assert (port.unread, port.dropped) == (len(FRAMES) + 1, 0)


def test_a_late_reader_gets_its_whole_backlog_and_loses_the_oldest_frames_beyond(port: PtyPort) -> None:
    many = [bytes([k % 256]) * 499 + b"\0" for k in range(200)]
    with serial.Serial(str(port.link), timeout=0.2) as reader:
        for frame in many:
            port.write(frame)
        got = read_all(port, reader)
    assert 0 < port.dropped < len(many)
    assert port.unread == 0
    assert len(got) == 500 * (len(many) - port.dropped), "whole frames"
    assert got.endswith(b"".join(many[-20:]))
    assert b"".join(many).startswith(got[: 500 * 4])


def test_what_one_reader_left_the_next_does_not_get(port: PtyPort) -> None:
    with serial.Serial(str(port.link), timeout=0.2):
        for frame in FRAMES:
            port.write(frame)
    port.write(b"unread")
    with serial.Serial(str(port.link), timeout=0.2) as reader:
        port.write(b"fresh")
        assert read_all(port, reader) == b"fresh"


def test_unplugging_hangs_up_and_the_name_comes_back(port: PtyPort) -> None:
    reader = serial.Serial(str(port.link), timeout=0.3)
    port.unplug()
    port.unplug()
    assert not port.link.is_symlink()
    with pytest.raises(OSError, match=r"disconnected|Input/output"):
        reader.read(1)
    reader.close()
    port.write(b"lost")
    assert (port.unread, port.dropped) == (1, 0)
    port.plug()
    port.plug()
    with serial.Serial(str(port.link), timeout=1) as reader:
        port.write(b"hello")
        assert reader.read(5) == b"hello"
