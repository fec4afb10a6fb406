"""The block frame: round trips, any split, garbage and bit flips."""

import binascii
import itertools

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivers.serial_frame import MAX_FRAME_BYTES, Block, FrameParser, encode_block, frame_bytes

samples = hnp.arrays(
    np.int16,
    st.tuples(st.integers(1, 60), st.integers(1, 4)),
    elements=st.integers(-32768, 32767) | st.just(0),
)
blocks = st.lists(st.tuples(st.integers(0, 2**32 - 1), samples), min_size=1, max_size=5)


def same(found: list[Block], wanted: list[tuple[int, np.ndarray]]) -> bool:
    return len(found) == len(wanted) and all(
        f.seq == seq and np.array_equal(f.samples, data) for f, (seq, data) in zip(found, wanted, strict=True)
    )


def test_the_layout_is_the_documented_one() -> None:
    frame = encode_block(0x01020304, np.array([[1, -2]], np.int16))
    plain = cobs.decode(frame[:-1])
    assert frame[-1] == 0
    assert plain[:-2] == bytes([1, 2, 1, 0, 4, 3, 2, 1, 1, 0, 0xFE, 0xFF])
    crc = 0xFFFF
    for byte in plain[:-2]:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    assert int.from_bytes(plain[-2:], "little") == crc


@given(blocks)
def test_round_trip(wanted: list[tuple[int, np.ndarray]]) -> None:
    parser = FrameParser()
    assert same(parser.feed(b"".join(encode_block(*block) for block in wanted)), wanted)
    assert parser.bad_frames == 0
    assert parser.pending_bytes == 0


@given(blocks, st.lists(st.integers(0, 3000), max_size=8))
def test_any_split_gives_the_same_blocks(wanted: list[tuple[int, np.ndarray]], cuts: list[int]) -> None:
    data = b"".join(encode_block(*block) for block in wanted)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parser = FrameParser()
    found = [block for a, b in itertools.pairwise(edges) for block in parser.feed(data[a:b])]
    assert same(found, wanted)


@given(blocks, st.lists(st.binary(max_size=200), min_size=6, max_size=6))
def test_garbage_that_is_delimited_costs_nothing(wanted: list[tuple[int, np.ndarray]], garbage: list[bytes]) -> None:
    data = b"".join(junk + b"\0" + encode_block(*block) for junk, block in zip(garbage, wanted, strict=False))
    assert same(FrameParser().feed(data), wanted)


@given(samples, st.binary(min_size=1, max_size=50))
def test_garbage_glued_to_a_frame_costs_that_frame_only(data: np.ndarray, junk: bytes) -> None:
    parser = FrameParser()
    stream = encode_block(1, data) + junk + encode_block(2, data) + encode_block(3, data)
    assert [block.seq for block in parser.feed(stream) if block.seq != 2] == [1, 3]
    if 0 not in junk:
        assert parser.bad_frames == 1


# A flipped COBS code byte shifts many bytes, which a 16 bit CRC misses once in 65536: fixed examples, so no flake.
@settings(derandomize=True, max_examples=300)
@given(blocks, st.data())
def test_bit_flips_never_give_a_wrong_block(wanted: list[tuple[int, np.ndarray]], data: st.DataObject) -> None:
    stream = bytearray(b"".join(encode_block(*block) for block in wanted))
    at = data.draw(st.integers(0, len(stream) - 1))
    for bit in data.draw(st.sets(st.integers(0, 7), min_size=1, max_size=2)):
        stream[at] ^= 1 << bit
    found = FrameParser().feed(bytes(stream))
    assert len(found) >= len(wanted) - 2
    for block in found:
        assert any(block.seq == seq and np.array_equal(block.samples, right) for seq, right in wanted)


def test_memory_is_bounded_and_an_oversized_frame_is_one_bad_frame() -> None:
    parser = FrameParser()
    good = encode_block(7, np.ones((50, 3), np.int16))
    assert len(parser.feed(good)) == 1
    for _ in range(100):
        assert parser.feed(b"\x55" * 1000) == []
        assert parser.pending_bytes <= MAX_FRAME_BYTES
    assert parser.bad_frames == 1
    assert [block.seq for block in parser.feed(b"\0" + good)] == [7]


def test_the_frame_under_way_at_open_is_no_bad_frame() -> None:
    parser = FrameParser()
    good = encode_block(7, np.ones((50, 3), np.int16))
    assert [block.seq for block in parser.feed(good[100:] + good)] == [7]
    assert parser.bad_frames == 0
    parser.feed(good[100:])
    assert parser.bad_frames == 1
    parser.reset()
    parser.feed(good[100:])
    assert parser.bad_frames == 1


@pytest.mark.parametrize("change", [0, 1, 2])
def test_wrong_version_channels_or_count_is_refused(change: int) -> None:
    parser = FrameParser()
    parser.feed(b"\0")
    plain = bytearray(cobs.decode(encode_block(1, np.ones((4, 3), np.int16))[:-1]))
    plain[change] += 1
    plain[-2:] = binascii.crc_hqx(bytes(plain[:-2]), 0xFFFF).to_bytes(2, "little")
    assert parser.feed(cobs.encode(bytes(plain)) + b"\0") == []
    assert parser.bad_frames == 1


def test_a_block_that_fits_no_frame_is_refused() -> None:
    for shape in [(0, 3), (2000, 3), (5, 17)]:
        with pytest.raises(ValueError, match="does not fit"):
            encode_block(0, np.zeros(shape, np.int16))
    with pytest.raises(ValueError, match="int16"):
        encode_block(0, np.zeros((5, 3), np.float32))  # type: ignore[arg-type]


@given(st.integers(1, 400), st.integers(1, 3))
def test_frame_bytes_is_an_upper_bound(n: int, channels: int) -> None:
    assert frame_bytes(n, channels) - 2 <= len(encode_block(2**32 - 1, np.full((n, channels), -1, np.int16)))
    assert len(encode_block(2**32 - 1, np.full((n, channels), -1, np.int16))) <= frame_bytes(n, channels)
