"""The live score: how far a seam that still burns has left its program's good welds. Process only, never a label.

`pipelines/live_tokens.py` says what can be judged after each 100 ms; here it is judged. Two signals:

    s_P   the largest z of Gaussians of good welds: the token itself while the arc settles, stretches of 0.1 to 1 s
          that end now, their step against the seam so far, the crater at the arc's end
    s_R   the distance of the result that the process so far predicts from good results (`live_result.py`)

Each is standardised on random prefixes of goods, by folds that keep sessions whole; the larger one is the live score,
and its threshold is conformal on the *maximum* over each calibration good: with it 1 % of good seams warn at any
time. Mahalanobis distances and their z-scores are those of `pipelines/gaussian.py`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.gaussian import (
    Gaussian,
    Standard,
    from_tensors,
    raw_score,
    standards_from_tensors,
    standards_to_tensors,
    to_tensors,
)
from pipelines.live_result import ResultPath
from pipelines.live_tokens import GROUP_KINDS, LiveInput, LiveStretches, LiveToken
from pipelines.normaliser import Normaliser

__all__ = ["LiveModel", "LiveSeam", "LiveValue", "highest_raw", "live_values", "path_inputs", "with_end"]

Array = NDArray[np.float64]
RESULT = ("sensor.result_now", "sensor.result_so_far")
NOW_LENGTH = 10
"""Tokens of the stretch whose result is predicted."""
INPUT = ("waves_mean", "waves_std")
MOST_Z = 600.0
"""Its exponential is still a number."""


@dataclasses.dataclass(frozen=True, slots=True)
class LiveValue:
    """After token `token` (from 0): `raw`, positive, and the z-scores "s_P" and "s_R" behind it, as far as they are.

    `travelled_mm`: along the seam by measured speed, None where nobody measures.
    """

    token: int
    raw: float
    parts: Mapping[str, float]
    travelled_mm: float | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveModel:
    """parts: Gaussian and standard of every name of `LiveStretches`; heads have a mean per token.

    shortest (P,): tokens of each program's shortest good seam. standards: of "s_P" and "s_R".
    """

    programs: tuple[str, ...]
    input: LiveInput
    shortest: NDArray[np.int64]
    parts: Mapping[str, tuple[Gaussian, Standard]]
    path: ResultPath | None
    path_standards: Mapping[str, Standard]
    standards: Mapping[str, Standard]

    def begin(self, program: str) -> "LiveSeam":
        """Open a seam. Raises ValueError for a program that the model was not trained on."""
        return LiveSeam(self, self.programs.index(program))

    def parts_of(self, z: Mapping[str, float], program: int) -> dict[str, float]:
        """s_P and s_R, as far as they are, from z-scores by name."""
        found = {}
        for signal, names in (("s_P", [n for n in z if n not in RESULT]), ("s_R", [n for n in RESULT if n in z])):
            if names and signal in self.standards:
                largest = max(z[name] for name in names)
                found[signal] = float(self.standards[signal].z(np.exp(min(largest, MOST_Z)), program))
        return found

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of features that it judges."""
        return tuple(group for group in GROUP_KINDS if any(name.startswith(f"{group}.") for name in self.parts))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        found: dict[str, NDArray[Any]] = {"shortest": self.shortest}
        found |= {name: getattr(self.input, name) for name in INPUT}
        for name, (gaussian, standard) in self.parts.items():
            found |= to_tensors(f"parts.{name}", gaussian, standard)
        if self.path is not None:
            found |= {f"path.{name}": value for name, value in self.path.tensors().items()}
        found |= {f"path_standards.{k}": v for k, v in standards_to_tensors(self.path_standards).items()}
        return found | {f"standards.{k}": v for k, v in standards_to_tensors(self.standards).items()}

    @classmethod
    def from_tensors(
        cls, programs: Sequence[str], normaliser: Normaliser, tensors: Mapping[str, NDArray[Any]]
    ) -> "LiveModel":
        """What `tensors` gave; `normaliser` is the detector's. Raises KeyError naming what is missing."""

        def below(prefix: str) -> dict[str, NDArray[Any]]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        parts = {name: value.astype(np.float64) for name, value in below("parts.").items()}
        names = sorted({name.rpartition(".")[0] for name in parts})
        return cls(
            tuple(programs),
            LiveInput(normaliser, *(tensors[name] for name in INPUT)),
            tensors["shortest"].astype(np.int64),
            {name: from_tensors(name, parts) for name in names},
            ResultPath.from_tensors(below("path.")) if below("path.") else None,
            standards_from_tensors(below("path_standards.")),
            standards_from_tensors(below("standards.")),
        )


class LiveSeam:
    """One open seam; `add` costs the same for every token."""

    def __init__(self, model: LiveModel, program: int) -> None:
        self._model, self._program = model, program
        self._stretches = LiveStretches(int(model.shortest[program]))

    def add(self, token: LiveToken) -> LiveValue | None:
        """The score after this token; None where there is nothing to judge yet."""
        at = self._stretches.count
        parts = self._model.parts_of(self.judge(token), self._program)
        if not parts:
            return None
        return LiveValue(at, raw_score(max(parts.values())), parts, self._stretches.travelled_mm)

    def judge(self, token: LiveToken) -> dict[str, float]:
        """z-scores of everything that can be judged after this token, by name."""
        model, at = self._model, self._stretches.count
        figures = self._stretches.add(token)
        z = {}
        for name, value in figures.items():
            part = model.parts.get(name)
            if part is not None:
                z[name] = float(part[1].z(_distance(part[0], name, value, at, self._program), self._program))
        return z | _path_z(model, path_inputs(figures, self._stretches.body()), self._program)


def live_values(model: LiveModel, features: SeamFeatures) -> list[LiveValue]:
    """The live score along a whole seam, as it would have come; the arc's end is judged too.

    Raises ValueError for a program that the model was not trained on.
    """
    seam = model.begin(features.program)
    found = (seam.add(token) for token in with_end(model.input.tokens(features)))
    return [value for value in found if value is not None]


def highest_raw(model: LiveModel, features: SeamFeatures, sets: Sequence[frozenset[str]]) -> list[float]:
    """The seam's highest live score with each set of stream kinds; 0 where there was nothing to judge."""
    seam, program = model.begin(features.program), model.programs.index(features.program)
    highest = [0.0] * len(sets)
    for token in with_end(model.input.tokens(features)):
        z = seam.judge(token)
        for i, kinds in enumerate(sets):
            parts = model.parts_of({n: v for n, v in z.items() if GROUP_KINDS[n.partition(".")[0]] in kinds}, program)
            highest[i] = max(highest[i], *(raw_score(value) for value in parts.values()), 0.0)
    return highest


def with_end(tokens: Iterable[LiveToken]) -> Iterable[LiveToken]:
    """The tokens and the one in which the arc goes out, which bulk features do not have."""
    yield from tokens
    yield LiveToken({}, False, None)


def _distance(gaussian: Gaussian, name: str, value: Array, token: int, program: int) -> float:
    if name.endswith(".head"):
        off = value - gaussian.mean[program, token]
        return float(np.sqrt(np.mean((gaussian.whiten[program] @ off) ** 2)))
    return float(gaussian.distance(value, program))


def path_inputs(figures: Mapping[str, Array], body: Array | None) -> dict[str, Array]:
    """What the result is predicted from: the last second, and the body so far. Nothing before there is a second."""
    now = figures.get(f"sensor.{NOW_LENGTH}")
    return {} if now is None or body is None else dict(zip(RESULT, (now, body), strict=True))


def _path_z(model: LiveModel, inputs: Mapping[str, Array], program: int) -> dict[str, float]:
    if model.path is None:
        return {}
    return {
        name: float(model.path_standards[name].z(float(model.path.distance(value, program)), program))
        for name, value in inputs.items()
        if name in model.path_standards
    }
