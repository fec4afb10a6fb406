"""Sound as tokens: streaming log-mel pictures of 0.7 s through lite0, one token per 100 ms.

The sound is resampled to 16 kHz, cut into spectra each 50 samples (3.125 ms) from arc-on, and 224 spectra
make one 224×224 picture; lite0's map has seven columns, so a column is one token of 100 ms. Levels are
absolute (dB of full scale, no normalisation per seam): how loud an arc is tells its transfer mode.
A token is `[1280 lite0, 56 mel levels in dB, 9 figures of loudness]`, the last from the sound at its own rate. One
lite0 pass per 0.7 s of sound is 1–2 % of a core.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.features.grid import TOKEN_NS
from pipelines.features.lite0 import FEATURES, GRID, INPUT_PX, Backbone
from pipelines.features.loudness import LOUDNESS, loudness

__all__ = ["AUDIO_FEATURES", "LEVELS", "MELS", "AudioTokens", "mel_filters"]

RATE_HZ = 16_000
HOP = 50
FFT = 512
MELS = 56
LOW_HZ = 100.0
FLOOR_DB = -100.0
WINDOW_S = HOP * INPUT_PX / RATE_HZ  # one picture, 0.7 s
TOKEN_S = WINDOW_S / GRID
MARGIN_S = 0.05  # for the resampler's edges and the last spectrum's overhang
GAP_NS = 1_000_000
LEVELS = MELS + len(LOUDNESS)
"""Figures of a token that are levels and no output of lite0."""
AUDIO_FEATURES = FEATURES + LEVELS


def mel_filters() -> NDArray[np.float64]:
    """Triangular filters `(MELS, FFT // 2 + 1)`, each summing to one; HTK mel scale from 100 Hz to 8 kHz."""
    mel_edges = np.linspace(_mel(LOW_HZ), _mel(RATE_HZ / 2), MELS + 2)
    hz = 700.0 * (10.0 ** (mel_edges / 2595.0) - 1.0)
    bins = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
    # Low bands are narrower than a bin: widen them, so that none is empty.
    half = np.maximum(np.stack([hz[1:-1] - hz[:-2], hz[2:] - hz[1:-1]], 1), RATE_HZ / FFT)
    offset = bins[None, :] - hz[1:-1, None]
    triangle = np.maximum(0.0, 1.0 - np.where(offset < 0, -offset / half[:, :1], offset / half[:, 1:]))
    filters: NDArray[np.float64] = triangle / triangle.sum(1, keepdims=True)
    return filters


def _mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


class AudioTokens:
    """The sound tokens of one seam.

    Samples are counted from the first one at or after arc-on; a gap becomes silence of its own length, so
    that nothing after it shifts, and a token of which most is such silence is masked.
    """

    def __init__(self, spec: StreamSpec | None, arc_on_ns: int, backbone: Backbone) -> None:
        self._spec, self._arc_on_ns, self._backbone = spec, arc_on_ns, backbone
        self._filters = mel_filters()
        self._hann = np.hanning(FFT + 1)[:-1]
        self._rate = round(spec.rate_hz) if spec is not None else RATE_HZ
        self._full_scale = _full_scale(spec) if spec is not None else 1.0
        self._end_ns: int | None = None
        # What is still needed of the sound: from MARGIN_S before the next picture on.
        self._pieces: list[NDArray[np.float32]] = [np.zeros(self._at(MARGIN_S), np.float32)]
        self._held = len(self._pieces[0])
        self._windows: list[NDArray[np.float32]] = []
        self._sounded = 0
        self._gaps: list[tuple[int, int]] = []
        self._idle: list[NDArray[np.float32]] = []

    def push(self, chunk: Chunk) -> None:
        """Take a chunk of sound; several channels are averaged."""
        if self._spec is None or chunk.stream != self._spec.name:
            return
        before = int(np.searchsorted(chunk.times_ns(), self._arc_on_ns))
        self._hear_idle(chunk, before)
        if before == chunk.n:
            return
        start_ns = self._arc_on_ns if self._end_ns is None else self._end_ns
        late = int((chunk.times_ns()[before] - start_ns) / chunk.dt_ns + 0.01) if before == 0 else 0
        if late * chunk.dt_ns >= GAP_NS:
            self._gaps.append((self._sounded, self._sounded + late))
            self._append(np.zeros(late, np.float32))
        self._end_ns = chunk.end_ns
        self._append(self._mono(chunk.data[before:]))
        while self._held >= self._at(2 * MARGIN_S + WINDOW_S):
            sound = np.concatenate(self._pieces)
            self._windows.append(self._tokens(sound[: self._at(2 * MARGIN_S + WINDOW_S)]))
            rest = sound[self._at(WINDOW_S) :]
            self._pieces, self._held = [rest], len(rest)

    def get(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Tokens `start..stop`: `(n, 1345)` and which there are; an unfinished picture is filled with silence."""
        values = np.zeros((stop - start, AUDIO_FEATURES), np.float32)
        known = np.zeros(stop - start, np.bool_)
        windows = list(self._windows)
        rest = (self._held - self._at(MARGIN_S)) * 1_000_000_000 // self._rate // TOKEN_NS
        if stop > GRID * len(windows) and rest > 0:
            padded = np.zeros(self._at(2 * MARGIN_S + WINDOW_S), np.float32)
            sound = np.concatenate(self._pieces)
            padded[: len(sound)] = sound
            windows.append(self._tokens(padded)[:rest])
        tokens = np.concatenate(windows) if windows else np.zeros((0, AUDIO_FEATURES), np.float32)
        found = tokens[start:stop]
        values[: len(found)], known[: len(found)] = found, True
        return values, known & ~self._lost(start, stop)

    def idle(self) -> dict[str, float]:
        """`sound_idle_db`: RMS level of the 100 ms before arc-on, dB of full scale; empty where nothing came then."""
        if not self._idle:
            return {}
        wave = np.concatenate(self._idle).astype(np.float64)
        return {"sound_idle_db": float(10 * np.log10(np.mean(wave**2) + 10.0 ** (FLOOR_DB / 10)))}

    def _hear_idle(self, chunk: Chunk, before: int) -> None:
        first = int(np.searchsorted(chunk.times_ns(), self._arc_on_ns - TOKEN_NS))
        if first < before:
            self._idle.append(self._mono(chunk.data[first:before]))

    def _mono(self, data: NDArray[Any]) -> NDArray[np.float32]:
        samples = data.reshape(len(data), -1).astype(np.float32)
        samples[~np.isfinite(samples)] = 0.0  # silence, as a gap
        found: NDArray[np.float32] = samples.mean(1) / np.float32(self._full_scale)
        return found

    def _lost(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which tokens are for the most part a gap."""
        edges = np.arange(start, stop + 1) * self._rate * TOKEN_NS // 1_000_000_000
        silent = np.zeros(stop - start)
        for first, last in self._gaps:
            silent += np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0, None)
        return silent * 2 > np.diff(edges)

    def _at(self, seconds: float) -> int:
        return round(seconds * self._rate)

    def _append(self, samples: NDArray[np.float32]) -> None:
        self._pieces.append(samples)
        self._held += len(samples)
        self._sounded += len(samples)

    def levels(self, token: int) -> NDArray[np.float32] | None:
        """A token's levels `(65,)`, as `get` will give them, from the moment when 50 ms after it have been heard.

        None before that. From which of the two places they come depends on the sound's chunks alone.
        """
        window, place = divmod(token, GRID)
        if window < len(self._windows):
            found: NDArray[np.float32] = self._windows[window][place, FEATURES:]
            return found
        first, last = self._at(place * TOKEN_S), self._at((place + 1) * TOKEN_S + 2 * MARGIN_S)
        if window > len(self._windows) or self._held < last:
            return None
        sound = np.concatenate(self._pieces)[first:last]
        own = sound[self._at(MARGIN_S) : self._at(MARGIN_S + TOKEN_S)]
        mel = self._spectra(sound, INPUT_PX // GRID).mean(0)
        return np.concatenate([mel, loudness(own, self._rate)]).astype(np.float32)

    def heard(self, token: int) -> bool:
        """Whether a token that is over is sound and not for the most part a gap."""
        return not self._lost(token, token + 1)[0]

    def loudness(self, token: int) -> NDArray[np.float32] | None:
        """The last nine of `levels`, from the moment when the token has been heard; None before that."""
        window, place = divmod(token, GRID)
        if window < len(self._windows):
            found: NDArray[np.float32] = self._windows[window][place, FEATURES + MELS :]
            return found
        first, last = self._at(MARGIN_S + place * TOKEN_S), self._at(MARGIN_S + (place + 1) * TOKEN_S)
        if window > len(self._windows) or self._held < last:
            return None
        return loudness(np.concatenate(self._pieces)[first:last], self._rate)

    def _tokens(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """One picture's seven tokens `(7, 1345)` from its sound with `MARGIN_S` before and after it."""
        own = sound[self._at(MARGIN_S) : self._at(MARGIN_S + WINDOW_S)]
        loud = np.stack([loudness(piece, self._rate) for piece in np.array_split(own, GRID)])
        level_db = self._spectra(sound, INPUT_PX)  # (224, MELS)
        grey = np.clip((level_db - FLOOR_DB) / -FLOOR_DB * 255.0, 0.0, 255.0).astype(np.uint8)
        picture = np.repeat(grey.T[::-1], INPUT_PX // MELS, axis=0)  # high notes on top, time to the right
        deep = self._backbone(np.repeat(picture[None, :, :, None], 3, axis=3))[0].mean(0)  # (7, 1280)
        levels = level_db.reshape(GRID, INPUT_PX // GRID, MELS).mean(1)
        return np.concatenate([deep, levels, loud], axis=1).astype(np.float32)

    def _spectra(self, sound: NDArray[np.float32], count: int) -> NDArray[np.float64]:
        """Mel levels in dB `(count, MELS)` of sound with `MARGIN_S` before and after the spectra's beginnings."""
        if self._rate != RATE_HZ:
            from scipy.signal import resample_poly

            common = math.gcd(self._rate, RATE_HZ)
            sound = resample_poly(sound, RATE_HZ // common, self._rate // common)
        first = round(MARGIN_S * RATE_HZ)
        samples = sound[first : first + HOP * count + FFT - HOP]
        frames = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP]
        power = np.abs(np.fft.rfft(frames * self._hann, axis=1)) ** 2 / np.sum(self._hann) ** 2
        found: NDArray[np.float64] = 10.0 * np.log10(power @ self._filters.T + 10.0 ** (FLOOR_DB / 10.0))
        return found


def _full_scale(spec: StreamSpec) -> float:
    dtype = np.dtype(spec.dtype)
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
