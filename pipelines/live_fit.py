"""Fitting the live score on good seams: `pipelines/live.py` says what of.

Everything that is standardised is measured out of fold by session, so that no seam is judged by what it taught. The
two signals, s_P and s_R, are standardised on random prefixes of goods: a live score is asked after any 100 ms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.gaussian import Gaussian, Standard, cross_fitted, fit_gaussian, fit_standard
from pipelines.live import LiveModel, highest_raw, path_inputs, with_end
from pipelines.live_result import ResultPath, fit_result_path, result_of
from pipelines.live_scorer import LIVE_SIGNAL, process_kinds
from pipelines.live_tokens import HEAD_TOKENS, LiveInput, LiveStretches, fit_input
from pipelines.normaliser import Normaliser
from pipelines.thresholds import DEFAULT_ALPHA, Threshold, TooFewGoodsError, calibrate

__all__ = ["fit_live", "live_maxima", "live_thresholds"]

Array = NDArray[np.float64]
Rows = tuple[NDArray[np.int64], Array]
"""Tokens (m,) and what was there to be judged after each, (m, D)."""

LEAST_SPREAD = 0.02
"""Of a feature's spread over all programs: what a program holds constant must not blow up."""
PREFIXES = 8
"""Random prefixes of each good that standardise the two signals."""
MIN_SESSIONS = 3
"""For the result path, whose directions are chosen out of fold within a fold."""
MIN_GOODS = 8
"""Of a name; with fewer it is left out."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Good:
    """One good seam: what `LiveStretches` gave by name, what results are predicted from, its result."""

    figures: Mapping[str, Rows]
    path: Mapping[str, Rows]
    body: Array | None
    result: Array | None
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Goods:
    """All of them, with program and session (n,) of each."""

    each: Sequence[_Good]
    program: NDArray[np.int64]
    session: NDArray[np.int64]
    programs: int

    def take(self, rows: NDArray[np.int64]) -> "_Goods":
        return _Goods([self.each[i] for i in rows], self.program[rows], self.session[rows], self.programs)

    @property
    def places(self) -> int:
        """Tokens of the longest, and the one in which its arc goes out."""
        return max(good.tokens for good in self.each) + 1


def fit_live(
    features: Sequence[SeamFeatures], sessions: NDArray[np.int64], normaliser: Normaliser, seed: int = 0
) -> LiveModel:
    """Fit on goods, none of which may make a threshold later; `normaliser` is the detector's.

    Raises ValueError where they are of fewer than two sessions.
    """
    programs = tuple(sorted({f.program for f in features}))
    program = np.array([programs.index(f.program) for f in features], np.int64)
    lengths = np.array([f.tokens for f in features], np.int64)
    shortest = np.array([lengths[program == p].min() for p in range(len(programs))], np.int64)
    views = sorted(set.intersection(*(set(f.views) for f in features)))
    own = fit_input(features, normaliser)
    each = [_good(f, own, int(shortest[p]), views) for f, p in zip(features, program, strict=True)]
    goods = _Goods(each, program, sessions, len(programs))
    parts: dict[str, tuple[Gaussian, Standard]] = {}
    held: dict[str, Array] = {}
    for name in sorted({name for good in each for name in good.figures}):
        have = np.array([i for i, good in enumerate(each) if name in good.figures], np.int64)
        if len(have) >= MIN_GOODS and len(np.unique(sessions[have])) >= 2:
            parts[name], found = _fit_part(name, goods.take(have), goods.places)
            held[name] = np.full((len(each), goods.places), np.nan)
            held[name][have] = found
    path, path_standards, path_held = _fit_path(goods)
    rng = np.random.default_rng(seed)
    standards = {
        signal: _fit_signal(list(tables.values()), goods, rng)
        for signal, tables in (("s_P", held), ("s_R", path_held))
        if tables
    }
    return LiveModel(programs, own, shortest, parts, path, path_standards, standards)


def live_thresholds(
    model: LiveModel,
    model_id: str,
    goods: Sequence[SeamFeatures],
    alpha: float = DEFAULT_ALPHA,
    sets: Sequence[frozenset[str]] = (),
) -> list[Threshold]:
    """Conformal on the highest live score of each good, per program and set of streams; none where goods are too few.

    `goods` taught nothing. `sets`: kinds of stream; without any, the welder's with every choice of the others.
    """
    found = []
    for program in model.programs:
        for kinds, raw in live_maxima(model, program, goods, sets):
            try:
                found.append(calibrate(model_id, program, kinds, list(raw.values()), alpha, signal=LIVE_SIGNAL))
            except TooFewGoodsError:
                continue  # the verdict's thresholds have told how many more are needed
    return found


def live_maxima(
    model: LiveModel, program: str, goods: Sequence[SeamFeatures], sets: Sequence[frozenset[str]] = ()
) -> list[tuple[frozenset[str], dict[str, float]]]:
    """Each set of stream kinds with the highest live score of each good that has them, by seam id, all above 0.

    `sets`: without any, the welder's with every choice of the others that the model looks at, the fullest first.
    """
    optional = sorted(process_kinds(model) - {"welder"})
    sets = sets or [
        frozenset({"welder", *some}) for n in range(len(optional), -1, -1) for some in combinations(optional, n)
    ]
    own = [f for f in goods if f.program == program and "welder" in f.kinds]
    table = [highest_raw(model, f, sets) for f in own]
    rows = [(f, row) for f, row in zip(own, table, strict=True)]
    return [
        (kinds, {f.seam_id: row[i] for f, row in rows if kinds <= f.kinds and row[i] > 0})
        for i, kinds in enumerate(sets)
    ]


def _good(features: SeamFeatures, own: LiveInput, shortest: int, views: Sequence[str]) -> _Good:
    stretches = LiveStretches(shortest)
    figures: dict[str, list[tuple[int, Array]]] = {}
    path: dict[str, list[tuple[int, Array]]] = {}
    for at, token in enumerate(with_end(own.tokens(features))):
        found = stretches.add(token)
        for table, values in ((figures, found), (path, path_inputs(found, stretches.body()))):
            for name, value in values.items():
                table.setdefault(name, []).append((at, value))
    result = result_of(features, own.normaliser, views)
    return _Good(_rows(figures), _rows(path), stretches.body(), result, features.tokens)


def _rows(table: Mapping[str, list[tuple[int, Array]]]) -> dict[str, Rows]:
    return {
        name: (np.array([at for at, _ in rows]), np.stack([value for _, value in rows]))
        for name, rows in table.items()
    }


def _fit_part(name: str, goods: _Goods, places: int) -> tuple[tuple[Gaussian, Standard], Array]:
    """Gaussian, standard of the seams' largest distance, and out-of-fold z after every token (n, places)."""
    rows = [good.figures[name] for good in goods.each]
    is_head = name.endswith(".head")

    def fit(some: NDArray[np.int64]) -> Gaussian:
        owner = np.repeat(goods.program[some], [len(rows[i][0]) for i in some])
        values = np.concatenate([rows[i][1] for i in some])
        if is_head:
            return _fit_head(np.concatenate([rows[i][0] for i in some]), values, owner, goods.programs)
        if ".start_" in name:
            return _fit_once_a_seam(values, owner, goods.programs)
        return fit_gaussian(values, owner, goods.programs, least=LEAST_SPREAD)

    def measure(gaussian: Gaussian, i: int) -> Array:
        at, values = rows[i]
        p = int(goods.program[i])
        if is_head:
            values = values - gaussian.mean[p, at] + gaussian.mean[p, 0]
            gaussian = Gaussian(gaussian.mean[:, 0], gaussian.whiten)
        return _placed(at, gaussian.distance(values, p), places)

    distance = cross_fitted(goods.session, fit, measure)
    standard = fit_standard(np.nanmax(distance, axis=1), goods.program, goods.programs)
    z = standard.z(distance.T, goods.program).T
    return (fit(np.arange(len(rows))), standard), z


def _fit_head(at: NDArray[np.int64], values: Array, owner: NDArray[np.int64], programs: int) -> Gaussian:
    """A mean per program and token, (P, HEAD_TOKENS, D); the covariance around them is of all tokens."""
    mean = np.zeros((programs, HEAD_TOKENS, values.shape[1]))
    for p in range(programs):
        for k in range(HEAD_TOKENS):
            own = values[(owner == p) & (at == k)]
            mean[p, k] = own.mean(0) if len(own) else values[at == k].mean(0) if (at == k).any() else values.mean(0)
    zero = np.zeros((programs, values.shape[1]))
    around = fit_gaussian(values - mean[owner, at], owner, programs, mean=zero, least=LEAST_SPREAD)
    return Gaussian(mean, around.whiten)


def _fit_once_a_seam(values: Array, owner: NDArray[np.int64], programs: int) -> Gaussian:
    """Each program's mean, and the covariance around them of all programs: one row a seam is too few for its own."""
    pooled = values.mean(0)
    mean = np.stack([values[owner == p].mean(0) if (owner == p).any() else pooled for p in range(programs)])
    zero = np.zeros((1, values.shape[1]))
    around = fit_gaussian(values - mean[owner], np.zeros(len(owner), np.int64), 1, mean=zero, least=LEAST_SPREAD)
    return Gaussian(mean, np.repeat(around.whiten, programs, axis=0))


def _fit_path(goods: _Goods) -> tuple[ResultPath | None, dict[str, Standard], dict[str, Array]]:
    """The path, the standards of its two distances and their out-of-fold z (n, places); none without results."""
    have = np.array(
        [i for i, good in enumerate(goods.each) if good.result is not None and good.path and good.body is not None],
        np.int64,
    )
    if len(have) < MIN_GOODS or len(np.unique(goods.session[have])) < MIN_SESSIONS:
        return None, {}, {}
    own = goods.take(have)
    body = np.stack([good.body for good in own.each if good.body is not None])
    result = np.stack([good.result for good in own.each if good.result is not None])

    def fit(some: NDArray[np.int64]) -> ResultPath:
        return fit_result_path(body[some], result[some], own.program[some], own.session[some], own.programs)

    standards, held = {}, {}
    for name in sorted({name for good in own.each for name in good.path}):

        def measure(path: ResultPath, i: int, name: str = name) -> Array:
            at, values = own.each[i].path[name]
            return _placed(at, path.distance(values, int(own.program[i])), goods.places)

        distance = cross_fitted(own.session, fit, measure)
        standards[name] = fit_standard(np.nanmax(distance, axis=1), own.program, own.programs)
        held[name] = np.full((len(goods.each), goods.places), np.nan)
        held[name][have] = standards[name].z(distance.T, own.program).T
    return fit(np.arange(len(have))), standards, held


def _placed(at: NDArray[np.int64], distance: Array, places: int) -> Array:
    row = np.full(places, np.nan)
    row[at] = distance
    return row


def _fit_signal(tables: Sequence[Array], goods: _Goods, rng: np.random.Generator) -> Standard:
    """Of the largest z so far, after random prefixes of the goods."""
    now = np.fmax.reduce(tables)
    so_far = np.fmax.accumulate(now, axis=1)
    row = np.repeat(np.arange(len(now)), PREFIXES)
    end = rng.integers(0, np.repeat([good.tokens + 1 for good in goods.each], PREFIXES))
    value = so_far[row, end]
    there = ~np.isnan(value)
    return fit_standard(np.exp(value[there]), goods.program[row[there]], goods.programs)
