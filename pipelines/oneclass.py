"""s_P and the distances behind s_R and s_R|P: how far a good program's normal range is left, and where.

The waveform is looked at on several scales: the whole seam, sliding stretches of 3 s and 0.5 s (a fault may begin in
mid-seam), its last half second (crater), and how far a second of it leaves the seam's own course: a step within a
seam is small against what seams differ by. Of sound only the last is asked, of the picture nothing: where a
microphone and a lamp stand changes from session to session and is no weld's fault, and in some good seams what the
camera sees jumps (ADR 0010). Each (group, scale) is a Gaussian of good welds; a sliding scale's figure is its
maximum.

The waveform below a millisecond tells most, and only as long as it is the arc's: where the current is noisier than a
sensor of the program ever was, or logged too slowly for waveforms, "levels" stand in.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.features.grid import TOKEN_NS
from pipelines.gaussian import (
    Gaussian,
    Standard,
    cross_fitted,
    fit_gaussian,
    fit_standard,
    from_tensors,
    raw_score,
    standards_from_tensors,
    standards_to_tensors,
    to_tensors,
)
from pipelines.normaliser import Process
from pipelines.window import TimelinePoint

__all__ = ["GROUPS", "ProcessOneClass", "ResultDistances", "fit_process", "fit_result", "timeline_points"]

Array = NDArray[np.float64]
GROUPS = {"waveform": "welder", "levels": "welder", "audio": "audio", "places": "video"}
"""Group of features → the kind of stream it needs."""
SLIDING = {"window_3s": 30, "window_05s": 5}
EDGE_TOKENS = 5
CHANGE_TOKENS = 10
WAVEFORM_SCALES = ("seam", *SLIDING, "tail", "change_1s")
SCALES: Mapping[str, tuple[str, ...]] = {
    "waveform": WAVEFORM_SCALES, "levels": WAVEFORM_SCALES, "audio": ("change_1s",), "places": ()
}  # fmt: skip
"""Which scales of a group the score asks for; of every group `LIVE` is there, for the score while the arc burns."""
LIVE = "window_05s"
NOISE_FACTOR = 3.0
"""Times the noisiest of the program's goods. An arc's inductance keeps its current smooth from sample to sample, so
noise there is the sensor's: health says so, and the weld is judged by what noise does not move."""
MOST_NOISE = "most_noise_a"
NEVER_NOISY = 1e9
"""A, where no good told its noise: a finite number, as models hold nothing else."""
LEAST_SPREAD = 0.02
"""Of a feature's spread over all programs: what a program holds constant must not blow up."""
STRIDE = 3
"""Sliding stretches used for fitting start every 0.3 s; neighbours say the same."""


def _group(process: Process, group: str) -> tuple[Array, NDArray[np.bool_]]:
    """Tokens `(T, D)` of a group and which there are."""
    if group == "audio":
        return process.audio.astype(np.float64), process.audio_known
    names = ("levels", "waves") if group == "waveform" else (group,)
    tables = [process.tables[name] for name in names]
    return np.concatenate([t[0] for t in tables], 1).astype(np.float64), np.all([t[1] for t in tables], axis=0)


def _stretches(process: Process, group: str, scale: str) -> tuple[Array, NDArray[np.int64]]:
    """Means over every stretch of `scale`: `(n, D)` and the token after each stretch's last one."""
    values, known = _group(process, group)
    total = process.tokens
    if scale == "change_1s":
        return _changes(values, known)
    length = {"seam": total, "tail": EDGE_TOKENS}.get(scale) or SLIDING[scale]
    length = min(length, total)
    ends = np.arange(length, total + 1)
    if scale == "tail":
        ends = ends[-1:]
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values * known[:, None], 0)])
    count = np.concatenate([[0], np.cumsum(known)])
    n = count[ends] - count[ends - length]
    enough = n * 2 >= length  # a stretch of which most is missing says nothing
    means = (sums[ends] - sums[ends - length])[enough] / n[enough, None]
    return means, ends[enough]


def _changes(values: Array, known: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int64]]:
    """Every second of the seam's body less the body's mean, and the token after it; nothing of a short seam."""
    inner = slice(EDGE_TOKENS, len(values) - EDGE_TOKENS)
    body, there = values[inner], known[inner]
    if len(body) < 2 * CHANGE_TOKENS or not there.any():
        return np.zeros((0, values.shape[1])), np.zeros(0, np.int64)
    sums = np.concatenate([np.zeros((1, body.shape[1])), np.cumsum(body * there[:, None], 0)])
    count = np.concatenate([[0], np.cumsum(there)])
    n = count[CHANGE_TOKENS:] - count[:-CHANGE_TOKENS]
    enough = 2 * n >= CHANGE_TOKENS
    means = (sums[CHANGE_TOKENS:] - sums[:-CHANGE_TOKENS])[enough] / n[enough, None]
    ends = np.arange(EDGE_TOKENS + CHANGE_TOKENS, len(values) - EDGE_TOKENS + 1)
    return means - sums[-1] / count[-1], ends[enough]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ProcessOneClass:
    """The fitted Gaussians, keyed "group.scale".

    most_noise_a: `(P,)`, standard deviation of the current's samples above which they are not asked.
    """

    parts: Mapping[str, tuple[Gaussian, Standard]]
    most_noise_a: Array

    def score(self, process: Process, program: int) -> tuple[dict[str, float], Array]:
        """z-score of every (group, scale) that the seam has, and the live score per token `(T,)`.

        The live score of a token is the largest z of the 0.5 s stretches that end at it.
        """
        found: dict[str, float] = {}
        timeline = np.full(process.tokens, -np.inf)
        asked = self.asked(process, program)
        for key, (gaussian, standard) in self.parts.items():
            group, scale = key.split(".")
            if group not in asked:
                continue
            means, ends = _stretches(process, group, scale)
            if len(means) == 0:
                continue
            distance = gaussian.distance(means, program)
            if scale in SCALES[group]:
                found[key] = float(standard.z(float(distance.max()), program))
            if scale == LIVE:
                np.maximum.at(timeline, ends - 1, standard.z(distance, program))
        return found, timeline

    def asked(self, process: Process, program: int) -> tuple[str, ...]:
        """The groups that this seam is judged by: its waveform, or where that cannot be trusted its levels."""
        noisy = process.noise_a is not None and process.noise_a > self.most_noise_a[program]
        return _asked(process, noisy)

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        found: dict[str, Array] = {MOST_NOISE: self.most_noise_a}
        for key, (gaussian, standard) in self.parts.items():
            found |= to_tensors(key, gaussian, standard)
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "ProcessOneClass":
        """What `tensors` gave."""
        keys = {name.rpartition(".")[0] for name in tensors if name != MOST_NOISE}
        return cls({key: from_tensors(key, tensors) for key in sorted(keys)}, tensors[MOST_NOISE])


def fit_process(
    processes: Sequence[Process], program: NDArray[np.int64], sessions: NDArray[np.int64], programs: int
) -> tuple[ProcessOneClass, dict[str, Array]]:
    """Fit on goods; standardised out of fold by session.

    Returns every signal's z-scores of these goods too, `(n,)`, as sessions say that did not teach it; NaN without it.
    """
    parts: dict[str, tuple[Gaussian, Standard]] = {}
    signals: dict[str, Array] = {}
    asked = [_asked(process, noisy=False) for process in processes]
    for group in GROUPS:
        for scale in dict.fromkeys((*SCALES[group], LIVE)):
            stretches = [_stretches(p, group, scale)[0] for p in processes]
            have = np.array([i for i, s in enumerate(stretches) if len(s)], np.int64)
            if len(np.unique(sessions[have])) < 2:
                continue  # this cell has no such stream
            own = [stretches[i] for i in have]
            gaussian, standard, distance = _fit_part(own, program[have], sessions[have], programs)
            key = f"{group}.{scale}"
            parts[key] = gaussian, standard
            if scale in SCALES[group]:
                z = standard.z(distance, program[have])
                judged = np.array([group in asked[i] for i in have])
                signals[key] = np.full(len(processes), np.nan)
                signals[key][have[judged]] = z[judged]
    return ProcessOneClass(parts, _most_noise(processes, program, programs)), signals


def _asked(process: Process, noisy: bool) -> tuple[str, ...]:
    fine = not noisy and 2 * int(process.tables["waves"][1].sum()) > process.tokens
    return ("waveform" if fine else "levels", "audio", "places")


def _most_noise(processes: Sequence[Process], program: NDArray[np.int64], programs: int) -> Array:
    found = np.full(programs, NEVER_NOISY)
    for p in range(programs):
        told = [one.noise_a for one, own in zip(processes, program, strict=True) if own == p]
        known = [noise for noise in told if noise is not None]
        if known:
            found[p] = NOISE_FACTOR * max(known)
    return found


def _fit_part(
    stretches: Sequence[Array], program: NDArray[np.int64], sessions: NDArray[np.int64], programs: int
) -> tuple[Gaussian, Standard, Array]:
    thinned = [s[::STRIDE] for s in stretches]

    def fit(rows: NDArray[np.int64]) -> Gaussian:
        owner = np.repeat(program[rows], [len(thinned[i]) for i in rows])
        seams = np.bincount(program[rows], minlength=programs)
        stack = np.concatenate([thinned[i] for i in rows])
        return fit_gaussian(stack, owner, programs, least=LEAST_SPREAD, lend=seams)

    distance = cross_fitted(sessions, fit, lambda g, i: g.distance(stretches[i], int(program[i])).max())
    return fit(np.arange(len(stretches))), fit_standard(distance, program, programs), distance


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultDistances:
    """Distance of result tokens `(Q, D)`: of their mean, of a typical one and of the worst one."""

    seam: Gaussian
    token: Gaussian
    standards: Mapping[str, Standard]

    def score(self, tokens: Array, known: NDArray[np.bool_], program: int) -> tuple[dict[str, float], Array]:
        """z-scores "mean", "typical", "worst" and every token's distance `(Q,)`."""
        distance = self.token.distance(tokens, program)
        figures = _figures(self, tokens, known, program)
        return {name: float(self.standards[name].z(value, program)) for name, value in figures.items()}, distance

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        found = {"seam.mean": self.seam.mean, "seam.whiten": self.seam.whiten}
        found |= {"token.mean": self.token.mean, "token.whiten": self.token.whiten}
        return found | standards_to_tensors(self.standards)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "ResultDistances":
        """What `tensors` gave."""
        return cls(
            Gaussian(tensors["seam.mean"], tensors["seam.whiten"]),
            Gaussian(tensors["token.mean"], tensors["token.whiten"]),
            standards_from_tensors(tensors),
        )


FIGURES = ("mean", "typical", "worst")


def _figures(model: ResultDistances, tokens: Array, known: NDArray[np.bool_], program: int) -> dict[str, float]:
    distance = model.token.distance(tokens, program)[known]
    mean = (tokens - model.token.mean[program])[known].mean(0)
    return {
        "mean": float(model.seam.distance(mean, program)),
        "typical": float(distance.mean()),
        "worst": float(distance.max()),
    }


def fit_result(
    tokens: Array,
    known: NDArray[np.bool_],
    program: NDArray[np.int64],
    sessions: NDArray[np.int64],
    programs: int,
    centred: bool = False,
) -> tuple[ResultDistances, dict[str, Array]]:
    """Fit on goods' result tokens `(n, Q, D)`, `known` `(n, Q)`.

    `centred`: they are residuals of a prediction, whose normal value is 0, and no mean is fitted.

    Returns their z-scores by signal `(n,)` too, out of fold.
    """
    zero = np.zeros((programs, *tokens.shape[1:]))

    def fit(rows: NDArray[np.int64]) -> ResultDistances:
        token = fit_gaussian(tokens[rows], program[rows], programs, mean=zero if centred else None)
        off = tokens[rows] - token.mean[program[rows]]
        weight = known[rows][..., None]
        means = (off * weight).sum(1) / np.maximum(weight.sum(1), 1)
        seam = fit_gaussian(means, program[rows], programs, mean=np.zeros((programs, tokens.shape[2])))
        return ResultDistances(seam, token, {})

    table = cross_fitted(
        sessions, fit, lambda m, i: np.array(list(_figures(m, tokens[i], known[i], int(program[i])).values()))
    )
    standards = {name: fit_standard(table[:, k], program, programs) for k, name in enumerate(FIGURES)}
    whole = fit(np.arange(len(tokens)))
    signals = {name: standards[name].z(table[:, k], program) for k, name in enumerate(FIGURES)}
    return dataclasses.replace(whole, standards=standards), signals


def timeline_points(live: Array, speed_mm_s: float | None, limit: float | None) -> tuple[TimelinePoint, ...]:
    """The live score `(T,)` of z-scores as points; `limit` None leaves it in raw units."""
    points = []
    for k, z in enumerate(live):
        if np.isfinite(z):
            t_s = (k + 1) * TOKEN_NS / 1e9
            mm = None if speed_mm_s is None else t_s * speed_mm_s
            points.append(TimelinePoint(t_s, mm, raw_score(float(z)) / (limit or 1.0)))
    return tuple(points)
