"""What the live score sees of 100 ms of a burning seam, and the stretches that end now.

First half of the live score (`pipelines/live.py` judges what is made here). A seam's tokens come one by one, and
each costs the same however long the seam is: running sums and the last ten tokens are all that is kept. Bulk
features go through the same `LiveInput.token` and `LiveStretches` token by token, so live, replay, training and
evaluation agree.

Spectra are taken one token late: they reach 29 ms beyond their token's end, and a live score must not wait for them.
Loudness, which does not, is taken at once.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.features.grid import STEPS_PER_TOKEN, TOKEN_NS
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import MELS
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.features.waves import FLOWING_A
from pipelines.normaliser import Normaliser

__all__ = ["GROUP_KINDS", "HEAD_TOKENS", "LiveInput", "LiveStretches", "LiveToken", "RawToken", "fit_input"]

Array = NDArray[np.float64]

GROUP_KINDS: Mapping[str, str] = {
    "sensor": "welder", "waves": "welder", "loud": "audio", "mel": "audio", "video": "video"
}  # fmt: skip
"""Group of features → the kind of stream it needs."""
HEAD_TOKENS = 8
"""Ignition: here every token is compared with the goods' tokens of the same place."""
START_TOKENS = (3, 7)
"""Ends of the means from token 1 on that say early what is wrong from the start."""
LENGTHS: Mapping[str, tuple[int, ...]] = {"sensor": (1, 3, 5, 10), "waves": (1, 3, 5, 10)}
CHANGE_LENGTHS: Mapping[str, tuple[int, ...]] = dict.fromkeys(("sensor", "waves", "mel", "video"), (3, 5, 10))
"""Sound and picture only as they change: where microphone and lamp stand differs from session to session. An arc's
own clicks make its loudness jump by itself, so that only the head is judged by it."""
LONGEST = 10
END_TOKENS = 3
END_FEATURES = tuple(
    SENSOR_FEATURES.index(name) for name in ("current_mean", "voltage_mean", "wire_feed_speed", "tcp_speed")
)
"""What the crater's filling is told by: few numbers, because every seam has only one end."""
BEFORE_TOKENS = 5
"""Of the seam's body before a stretch, so that there is something that it may have left."""
SLOWED = 0.9
"""A robot slower than this share of the seam's own speed so far stands, or is about to."""
TOKEN_S = TOKEN_NS / 1e9
CURRENT_MAX, TCP_SPEED = SENSOR_FEATURES.index("current_max"), SENSOR_FEATURES.index("tcp_speed")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RawToken:
    """Features of 100 ms as the extractor gives them; None: not there, or not in time.

    sensor, sensor_known `(10, 24)`; waves `(39,)`, 0 where unknown; loud `(9,)`; mel `(56,)`, of the token before;
    video `(1280,)`.
    """

    sensor: NDArray[np.float32]
    sensor_known: NDArray[np.bool_]
    waves: NDArray[np.float32] | None = None
    loud: NDArray[np.float32] | None = None
    mel: NDArray[np.float32] | None = None
    video: NDArray[np.float32] | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveToken:
    """100 ms of a seam. `values`: group → standardised features `(D,)`, without those that are not there.

    `burning`: current flowed in every 10 ms of it. `speed_mm_s`: measured travel speed, None where nobody measures.
    """

    values: Mapping[str, Array]
    burning: bool
    speed_mm_s: float | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveInput:
    """Standardises raw tokens: by the detector's `normaliser`, waveforms by `waves_mean` and `waves_std` (39,)."""

    normaliser: Normaliser
    waves_mean: NDArray[np.float32]
    waves_std: NDArray[np.float32]

    def token(self, raw: RawToken) -> LiveToken:
        """One token."""
        own = self.normaliser
        values: dict[str, NDArray[Any]] = {}
        flowing = raw.sensor_known[:, CURRENT_MAX] & (raw.sensor[:, CURRENT_MAX] > FLOWING_A)
        if raw.sensor_known[:, CURRENT_MAX].any():
            steps = own.steps(raw.sensor, raw.sensor_known)[:, : len(SENSOR_FEATURES)]
            values["sensor"] = np.concatenate([steps.mean(0), steps.std(0)])
        if raw.waves is not None:
            values["waves"] = (raw.waves - self.waves_mean) / self.waves_std
        if raw.loud is not None:
            values["loud"] = (_half(raw.loud) - own.mel_mean[MELS:]) / own.mel_std[MELS:]
        if raw.mel is not None:
            values["mel"] = (_half(raw.mel) - own.mel_mean[:MELS]) / own.mel_std[:MELS]
        if raw.video is not None:
            values["video"] = own.video(_half(raw.video)[None])[0]
        moving = raw.sensor_known[:, TCP_SPEED].all()
        speed = float(raw.sensor[:, TCP_SPEED].mean()) if moving else None
        return LiveToken({k: v.astype(np.float64) for k, v in values.items()}, bool(flowing.all()), speed)

    def tokens(self, features: SeamFeatures) -> Iterator[LiveToken]:
        """Those of bulk features, in order."""
        steps = features.sensor.reshape(features.tokens, STEPS_PER_TOKEN, -1)
        known = features.sensor_known.reshape(steps.shape)
        levels = features.audio[:, FEATURES:]
        for k in range(features.tokens):
            mel = levels[k - 1, :MELS] if k and features.audio_known[k - 1] else None
            loud = levels[k, MELS:] if features.audio_known[k] else None
            waves = features.waves[k] if features.waves_known[k].any() else None
            video = features.video[k] if features.video_known[k] else None
            yield self.token(RawToken(steps[k], known[k], waves, loud, mel, video))  # type: ignore[arg-type]


def fit_input(features: Sequence[SeamFeatures], normaliser: Normaliser) -> LiveInput:
    """Fit on goods what the detector's normaliser does not know."""
    rows = np.concatenate([f.waves[f.waves_known.any(1)] for f in features]).astype(np.float64)
    if not len(rows):
        width = features[0].waves.shape[1]
        return LiveInput(normaliser, np.zeros(width, np.float32), np.ones(width, np.float32))
    spread = rows.std(0)
    return LiveInput(
        normaliser, rows.mean(0).astype(np.float32), np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
    )


def _half(values: NDArray[Any]) -> NDArray[np.float32]:
    """As precise as bulk features are kept, so that live scores are those of training."""
    return values.astype(np.float16).astype(np.float32)


class _Sums:
    """Of one group: the body's sum and the last ten tokens."""

    def __init__(self) -> None:
        self.total: Array | None = None
        self.count = 0
        self.last: deque[Array | None] = deque(maxlen=LONGEST)

    def add(self, value: Array | None) -> None:
        self.last.append(value)
        if value is not None:
            self.total = value.copy() if self.total is None else self.total + value
            self.count += 1

    def stretch(self, length: int) -> tuple[Array, int] | None:
        """Sum and number of the last `length` tokens; None where they have not been or most of them is missing."""
        if len(self.last) < length:
            return None
        there = [v for v in list(self.last)[-length:] if v is not None]
        if 2 * len(there) < length or not there:
            return None
        return np.sum(there, axis=0), len(there)


class LiveStretches:
    """One open seam. `add` gives what of it can be judged now: name → `(D,)`.

    "GROUP.head": the token itself, while the arc settles; "GROUP.start_K": mean of tokens 1 to K, of all that there
    are. "GROUP.L": mean of the last L tokens of the body. "GROUP.change_L": the same less the mean of the body
    before. "sensor.end": `END_FEATURES` of the last tokens before the current went out. While the robot stands and
    fills the crater nothing is told: the end tells of it.

    Args:
        shortest: tokens of the program's shortest good seam; nothing is filled long before.
    """

    def __init__(self, shortest: int) -> None:
        self._late = shortest - BEFORE_TOKENS
        self._sums = {group: _Sums() for group in GROUP_KINDS}
        self._tail: deque[Array] = deque(maxlen=END_TOKENS)
        self._start: dict[str, list[Array]] = {}
        self._speed = (0.0, 0)
        self.count = 0
        """Tokens so far."""
        self.travelled_mm: float | None = 0.0
        """By measured speed; None where there is none."""

    def add(self, token: LiveToken) -> dict[str, Array]:
        """Take the next token."""
        at, self.count = self.count, self.count + 1
        self._travel(token)
        if not token.burning:
            return self._end()
        sensor = token.values.get("sensor")
        if sensor is not None:
            self._tail.append(sensor[list(END_FEATURES)])
        if at < HEAD_TOKENS:
            return self._head(at, token)
        if self._fills(at, token):
            return {}
        found: dict[str, Array] = {}
        for group, sums in self._sums.items():
            sums.add(token.values.get(group))
            if group in token.values:
                found |= _stretches(group, sums)
        return found

    def _head(self, at: int, token: LiveToken) -> dict[str, Array]:
        found = {f"{group}.head": value for group, value in token.values.items()}
        for group, value in token.values.items():
            if at:
                self._start.setdefault(group, []).append(value)
        if at in START_TOKENS:
            found |= {f"{group}.start_{at}": np.mean(values, axis=0) for group, values in self._start.items()}
        return found

    def body(self) -> Array | None:
        """Mean of the waveforms' features over the body so far, None before there is any."""
        sums = self._sums["sensor"]
        return None if sums.total is None else sums.total / sums.count

    def _end(self) -> dict[str, Array]:
        """The arc went out: its last tokens, once; should it burn again, stretches begin anew."""
        tail = list(self._tail)
        self._tail.clear()
        for sums in self._sums.values():
            sums.last.clear()
        return {"sensor.end": np.concatenate(tail)} if len(tail) == END_TOKENS else {}

    def _fills(self, at: int, token: LiveToken) -> bool:
        """Whether the crater may be being filled: late, and the robot stands; late alone where nobody measures."""
        if at < self._late:
            return False
        total, count = self._speed
        if token.speed_mm_s is None or not count:
            return True
        if token.speed_mm_s < SLOWED * total / count:
            return True
        self._speed = (total + token.speed_mm_s, count + 1)
        return False

    def _travel(self, token: LiveToken) -> None:
        if token.speed_mm_s is None:
            self.travelled_mm = None
            return
        if self.travelled_mm is not None:
            self.travelled_mm += token.speed_mm_s * TOKEN_S
        if self.count <= self._late:
            total, count = self._speed
            self._speed = (total + token.speed_mm_s, count + 1)


def _stretches(group: str, sums: _Sums) -> dict[str, Array]:
    found: dict[str, Array] = {}
    as_it_is, as_it_changes = LENGTHS.get(group, ()), CHANGE_LENGTHS.get(group, ())
    for length in sorted({*as_it_is, *as_it_changes}):
        stretch = sums.stretch(length)
        if stretch is None:
            continue
        total, n = stretch
        if length in as_it_is:
            found[f"{group}.{length}"] = total / n
        if length in as_it_changes and sums.total is not None and sums.count - n >= BEFORE_TOKENS:
            found[f"{group}.change_{length}"] = total / n - (sums.total - total) / (sums.count - n)
    return found
