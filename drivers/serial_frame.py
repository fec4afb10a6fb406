"""The serial block frame of ADC boards: COBS, int16 samples, CRC-16. Bytes in, blocks out, no I/O.

`drivers/welder_serial.py` feeds it from a port; `docs/serial-frame.md` is its specification for firmware.

A frame before COBS, all little endian::

    version u8 | channels u8 | samples N u16 | block sequence u32 | int16[N][channels] | CRC-16/CCITT-FALSE u16

Blocks and not single samples, because three channels at 10 kHz in single-sample frames do not fit 921600
baud, and because a block is parsed by numpy in one step.
"""

import binascii
import dataclasses
import struct

import numpy as np
from cobs import cobs
from numpy.typing import NDArray

__all__ = ["MAX_CHANNELS", "MAX_FRAME_BYTES", "VERSION", "Block", "FrameParser", "encode_block", "frame_bytes"]

VERSION = 1
MAX_CHANNELS = 16
MAX_FRAME_BYTES = 8192
"""Longest encoded frame without its delimiter; longer ones are garbage. Bounds the parser's memory."""

DELIMITER = b"\0"
_HEADER = struct.Struct("<BBHI")
_CRC = struct.Struct("<H")
_OVERHEAD = _HEADER.size + _CRC.size


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive samples of one frame: its u32 block sequence and `(N, channels)` int16 raw samples."""

    seq: int
    samples: NDArray[np.int16]


def frame_bytes(samples: int, channels: int) -> int:
    """Largest number of bytes that a frame of `samples` × `channels` takes on the wire, delimiter included."""
    plain = _OVERHEAD + 2 * samples * channels
    return plain + plain // 254 + 1 + len(DELIMITER)


def encode_block(seq: int, samples: NDArray[np.int16]) -> bytes:
    """One frame with its delimiter from `(N, channels)` int16. Raises ValueError when it would not fit a frame."""
    if samples.ndim != 2 or samples.dtype != np.int16:
        raise ValueError(f"samples must be (N, channels) int16, got {samples.shape} {samples.dtype}")
    n, channels = samples.shape
    if n < 1 or not 1 <= channels <= MAX_CHANNELS or frame_bytes(n, channels) > MAX_FRAME_BYTES:
        raise ValueError(f"a block of {n} × {channels} samples does not fit a frame of {MAX_FRAME_BYTES} bytes")
    header = _HEADER.pack(VERSION, channels, n, seq & 0xFFFFFFFF)
    plain = header + samples.astype("<i2", copy=False).tobytes()
    return bytes(cobs.encode(plain + _CRC.pack(binascii.crc_hqx(plain, 0xFFFF)))) + DELIMITER


class FrameParser:
    """Cuts a byte stream into blocks; the stream may start anywhere and hold garbage.

    Garbage costs the frame that it touches and no other: the next delimiter is a fresh start. The frame that
    was under way when the port was opened is no bad frame.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.bad_frames = 0
        self._max_frame_bytes = max_frame_bytes
        self._rest = b""
        self._skipping = False
        self._synced = False

    def reset(self) -> None:
        """Forget the unfinished frame, as after opening the port again; the counts stay."""
        self._rest, self._skipping, self._synced = b"", False, False

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished frame that are held; never more than `max_frame_bytes`."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Block]:
        """Blocks that `data` completes, in order; bad frames are counted in `bad_frames`."""
        *frames, rest = (self._rest + data).split(DELIMITER)
        blocks = []
        for frame in frames:
            if self._skipping:
                self._skipping = False
            elif frame and (block := self._block(frame)) is not None:
                blocks.append(block)
            self._synced = True
        if len(rest) > self._max_frame_bytes:
            self._skipping = True
            self.bad_frames += self._synced
        self._rest = b"" if self._skipping else rest
        return blocks

    def _block(self, frame: bytes) -> Block | None:
        block = _decode(frame) if len(frame) <= self._max_frame_bytes else None
        if block is None:
            self.bad_frames += self._synced
        return block


def _decode(frame: bytes) -> Block | None:
    try:
        plain = bytes(cobs.decode(frame))
    except cobs.DecodeError:
        return None
    if len(plain) < _OVERHEAD:
        return None
    version, channels, n, seq = _HEADER.unpack_from(plain)
    # A CRC with its own value appended low byte first does not leave zero, so it is compared.
    if len(plain) != _OVERHEAD + 2 * n * channels or n * channels == 0 or version != VERSION:
        return None
    if binascii.crc_hqx(plain[:-2], 0xFFFF) != _CRC.unpack_from(plain, len(plain) - 2)[0]:
        return None
    samples = np.frombuffer(plain, "<i2", n * channels, _HEADER.size).reshape(n, channels)
    return Block(seq, samples)
