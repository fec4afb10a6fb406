"""Puts streams that share no clock onto one time axis, by the two things all of them see: arc-on and arc-off.

The log of the current is the reference; sound and light are shifted onto it. Pure functions over arrays, used by
the imports before anything is written.

Sound is the hard one: gas hisses for about a second before the arc and again after it, as loud as the arc in some
bands, so no energy threshold finds arc-on. The arc's length is known from the current, so the stretch of that length
that differs most from the rest is searched, first by loudness, then by a classifier of inside against outside, which
learns by itself that hiss belongs outside.
"""

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AlignError",
    "Alignment",
    "Span",
    "align_light",
    "align_sound",
    "current_span",
    "light_span",
    "sound_span",
]

MIN_CURRENT_A = 15.0
FRAME_S = 0.01
BANDS_HZ = (60, 150, 300, 600, 1200, 2000, 3000, 4500, 6500, 8000)
SMOOTHER = np.full(9, 1 / 9)
"""90 ms: several short circuits, so that no frame falls between two of them."""
SETTLED = 250
"""Frames after which an arc that was found is an arc for certain, its gas pre-flow being over."""
MIN_HISS = 40
HISS_DISTANCE = 3.0
"""Standard deviations of the arc's own frames by which hiss must differ from it; real hiss differs by more."""
ROUNDS = 4
DURATION_TOLERANCE_S = 0.6
"""Current at 9 Hz places each edge within 0.1 s; the rest is for the arc's sound setting in and dying away."""
MIN_CONTRAST = 0.5
"""Mean evidence inside against outside, 0–1, below which there is no arc to be heard."""
MAX_RATE_ERROR = 0.15


class AlignError(Exception):
    """A stream cannot be put onto the log's time; the text says what was looked for and what was there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One arc, s on the stream's own axis; `off_s` is None where the stream ends before the arc does."""

    on_s: float
    off_s: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Alignment:
    """How a stream lies on the log's time: its item k was taken at `start_s + k / rate_hz`.

    `lead_s` is how much earlier than the log's its arc-on comes when both axes begin at 0. `residual_ms` is by how
    much the arc's length differs from the log's, None where only one edge was there to align on.
    """

    start_s: float
    rate_hz: float
    lead_s: float
    residual_ms: float | None
    truncated: bool


def current_span(t_s: NDArray[np.float64], current_a: NDArray[np.float64], merge_s: float = 1.0) -> Span:
    """The longest arc in the log. `t_s` and `current_a` are `(n,)`; edges lie midway between two rows.

    Raises AlignError when no current flows, or flows from the first row or to the last.
    """
    peak_a = float(np.percentile(current_a, 95)) if len(current_a) else 0.0
    peak_a = max(peak_a, float(current_a.max(initial=0.0)) / 2)
    limit_a = max(MIN_CURRENT_A, 0.3 * peak_a)
    runs = _runs(current_a > limit_a, t_s, merge_s)
    if not runs:
        raise AlignError(f"no arc in the log: no current above {limit_a:.0f} A in {len(t_s)} rows")
    first, last = max(runs, key=lambda run: t_s[run[1]] - t_s[run[0]])
    if first == 0 or last == len(t_s) - 1:
        raise AlignError(
            f"the arc is cut off by the log: current flows in its {'first' if first == 0 else 'last'} row"
        )
    return Span(float(t_s[first - 1] + t_s[first]) / 2, float(t_s[last] + t_s[last + 1]) / 2)


def sound_span(samples: NDArray[np.int16], rate_hz: float, duration_s: float) -> Span:
    """The arc of known length in `(n,)` mono sound. Raises AlignError when nothing stands out."""
    features = _features(samples, rate_hz)
    n_arc, tolerance = round(duration_s / FRAME_S), round(DURATION_TOLERANCE_S / FRAME_S)
    if len(features) <= 2 * tolerance or len(features) < n_arc // 2:
        raise AlignError(f"{len(samples) / rate_hz:.1f} s of sound are too short for an arc of {duration_s:.1f} s")
    loudness = features[:, 1:6].mean(axis=1)
    low, high = np.percentile(loudness, [10, 90])
    evidence = np.clip((loudness - (low + high) / 2) / max(float(high - low) / 2, 1e-9), -1, 1)
    start, stop = _best_stretch(evidence, n_arc, tolerance)
    for _ in range(ROUNDS):
        if stop - start in (0, len(features)):
            break
        evidence = _evidence(features, start, stop)
        found = _best_stretch(evidence, n_arc, tolerance)
        if found == (start, stop):
            break
        start, stop = found
    outside = np.concatenate([evidence[:start], evidence[stop:]])
    contrast = float(evidence[start:stop].mean() - outside.mean()) / 2 if 0 < stop - start < len(features) else 0.0
    if contrast < MIN_CONTRAST:
        raise AlignError(f"no arc of {duration_s:.1f} s stands out in the sound (contrast {contrast:.2f} of 1)")
    if stop < len(features) - 1:
        return Span(start * FRAME_S, stop * FRAME_S)
    return Span(_onset(features, start) * FRAME_S, None)


def light_span(light: NDArray[np.float64], merge_frames: int = 15) -> Span:
    """The longest bright stretch of `(n_frames,)` mean brightness, in *frames*. Raises AlignError without an arc."""
    if len(light) < 3:
        raise AlignError(f"{len(light)} frames are no video of an arc")
    dark, bright = np.percentile(light, [2, 98])
    if bright - dark < 5.0:
        raise AlignError(f"no arc light: brightness stays between {dark:.1f} and {bright:.1f} of 255")
    frames = np.arange(len(light), dtype=np.float64)
    runs = _runs(light > dark + 0.3 * (bright - dark), frames, merge_frames)
    first, last = max(runs, key=lambda run: run[1] - run[0])
    if first == 0:
        raise AlignError("the video begins within the arc, so arc-on cannot be seen in it")
    return Span(first - 0.5, None if last == len(light) - 1 else last + 0.5)


def align_sound(log: Span, sound: Span, rate_hz: float) -> Alignment:
    """Shift sound onto the log, splitting the misfit between the two edges."""
    lead_s = log.on_s - sound.on_s
    if sound.off_s is None or log.off_s is None:
        return Alignment(lead_s, rate_hz, lead_s, None, truncated=True)
    misfit_s = (sound.off_s - sound.on_s) - (log.off_s - log.on_s)
    return Alignment(lead_s - misfit_s / 2, rate_hz, lead_s, misfit_s * 1e3, truncated=False)


def align_light(log: Span, light: Span, header_hz: float, typical_hz: float) -> Alignment:
    """Shift and stretch video onto the log: the header's rate is not trusted, the arc's length is.

    The residual is what the header's rate would have missed arc-off by. A video without arc-off gets `typical_hz`.
    Raises AlignError when the fitted rate is more than 15 % off `typical_hz`: then the bright stretch is no arc.
    """
    if light.off_s is None or log.off_s is None:
        start_s = log.on_s - light.on_s / typical_hz
        return Alignment(start_s, typical_hz, log.on_s - light.on_s / typical_hz, None, truncated=True)
    frames = light.off_s - light.on_s
    rate_hz = frames / (log.off_s - log.on_s)
    if abs(rate_hz / typical_hz - 1) > MAX_RATE_ERROR:
        raise AlignError(
            f"the arc is bright for {frames:.0f} frames in {log.off_s - log.on_s:.2f} s, which is {rate_hz:.1f} fps "
            f"and not about {typical_hz:.1f}"
        )
    start_s = log.on_s - light.on_s / rate_hz
    residual_ms = (frames / header_hz - (log.off_s - log.on_s)) * 1e3
    return Alignment(start_s, rate_hz, start_s, residual_ms, truncated=False)


def _runs(active: NDArray[np.bool_], at: NDArray[np.float64], merge: float) -> list[tuple[int, int]]:
    """(first, last) indices of the active stretches, those closer than `merge` on the axis `at` joined."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    runs: list[tuple[int, int]] = []
    for first, stop in edges.reshape(-1, 2):
        if runs and at[first] - at[runs[-1][1]] <= merge:
            runs[-1] = (runs[-1][0], int(stop) - 1)
        else:
            runs.append((int(first), int(stop) - 1))
    return runs


def _features(samples: NDArray[np.int16], rate_hz: float) -> NDArray[np.float64]:
    """`(n_frames, bands + 1)`: log band energies each 10 ms, and how ragged the envelope is (hiss is smooth)."""
    hop = round(rate_hz * FRAME_S)
    n = len(samples) // hop - 1
    if n < 1:
        return np.zeros((0, len(BANDS_HZ)))
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 2 * hop)[::hop][:n]
    power = np.abs(np.fft.rfft(frames * np.hanning(2 * hop), axis=1)) ** 2
    hz = np.fft.rfftfreq(2 * hop, 1 / rate_hz)
    edges = np.searchsorted(hz, BANDS_HZ)
    bands = [power[:, a : max(b, a + 1)].mean(axis=1) for a, b in itertools.pairwise(edges) if a < len(hz)]
    slices = np.array_split(np.arange(2 * hop), 20)
    envelope = np.stack([(frames[:, part] ** 2).mean(axis=1) for part in slices], axis=1)
    ragged = np.log(envelope + 1.0).std(axis=1)
    features = np.column_stack([np.log(np.stack(bands, axis=1) + 1.0), ragged])
    # Padded with the edge's own values: zeros would look like nothing else in the sound.
    padded = np.pad(features, ((len(SMOOTHER) // 2,) * 2, (0, 0)), mode="edge")
    return np.stack([np.convolve(column, SMOOTHER, mode="valid") for column in padded.T], axis=1)


def _best_stretch(evidence: NDArray[np.float64], n_arc: int, tolerance: int) -> tuple[int, int]:
    """Start and stop of the stretch of `n_arc` ± `tolerance` frames with the most evidence.

    Beyond the end there is no evidence for or against, so that an arc may run out of the sound.
    """
    total = np.concatenate([[0.0], np.cumsum(evidence)])
    total = np.concatenate([total, np.full(n_arc, total[-1])])
    best, found = -np.inf, (0, 0)
    for length in sorted(range(max(1, n_arc - tolerance), n_arc + tolerance + 1), key=lambda n: abs(n - n_arc)):
        gain = total[length:] - total[:-length]
        at = int(np.argmax(gain))
        if gain[at] > best + 1e-9:
            best, found = float(gain[at]), (at, min(at + length, len(evidence)))
    return found


def _onset(features: NDArray[np.float64], found: int) -> int:
    """First frame of an arc that runs out of the sound and seems to begin at frame `found`.

    Without arc-off nothing after the arc shows that hiss lies outside, so it may have been taken for arc. Then the
    sound changes once more soon after `found`: the split of those frames into two with the largest Hotelling T².
    """
    core = features[found + SETTLED :]
    if len(core) < SETTLED:
        seconds = (len(features) - found) * FRAME_S
        raise AlignError(f"only {seconds:.1f} s of the arc are in the sound; too little to align")
    # The smoother mixes the first frames with the silence before, which is unlike everything.
    start = found + len(SMOOTHER) // 2 + 1
    head = features[start : start + SETTLED]
    counts = np.arange(1, SETTLED)[:, None]
    before = np.cumsum(head, axis=0)[:-1]
    difference = before / counts - (head.sum(axis=0) - before) / (SETTLED - counts)
    covariance = np.cov(core.T) + 1e-6 * np.eye(core.shape[1])
    distance2 = np.einsum("ij,ij->i", difference, np.linalg.solve(covariance, difference.T).T)
    t2 = distance2 * (counts * (SETTLED - counts))[:, 0] / SETTLED
    inner = slice(MIN_HISS, SETTLED - MIN_HISS)
    split = MIN_HISS + int(np.argmax(t2[inner]))
    return start + split + 1 if distance2[split] > HISS_DISTANCE**2 else found


def _evidence(features: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
    """−1 … 1 for every frame: how much it is like those in `start..stop` and unlike the others.

    Logistic regression and not a linear discriminant, because outside is two things, silence and hiss, and the far
    one must not pull the boundary into the near one.
    """
    from sklearn.linear_model import LogisticRegression

    inside = np.zeros(len(features), np.bool_)
    inside[start:stop] = True
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    model = LogisticRegression(class_weight="balanced", max_iter=200).fit(scaled, inside)
    evidence: NDArray[np.float64] = 2 * model.predict_proba(scaled)[:, 1] - 1
    return evidence
