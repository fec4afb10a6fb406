"""The live score: how far a seam that still burns has left its program's good welds. Process only, never a label.

`pipelines/live_tokens.py` says what can be judged after each 100 ms; here it is judged. Two signals:

    s_P   the largest z of Gaussians of good welds: the token itself while the arc settles, stretches of 0.1 to 1 s
          that end now, their step against the seam so far, the crater's filling, the arc's end
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
from pipelines.live_tokens import GROUP_KINDS, LiveStretches, LiveToken, live_tokens
from pipelines.normaliser import Normaliser

__all__ = ["LiveModel", "LiveSeam", "LiveValue", "live_values", "max_raw", "path_inputs", "with_end"]

Array = NDArray[np.float64]
RESULT = ("result.now", "result.so_far")
NOW_LENGTH = 10
"""Tokens of the stretch whose result is predicted."""
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
    normaliser: Normaliser
    shortest: NDArray[np.int64]
    parts: Mapping[str, tuple[Gaussian, Standard]]
    path: ResultPath | None
    path_standards: Mapping[str, Standard]
    standards: Mapping[str, Standard]

    def begin(self, program: str) -> "LiveSeam":
        """Open a seam. Raises ValueError for a program that the model was not trained on."""
        return LiveSeam(self, self.programs.index(program))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of features that it judges."""
        return tuple(group for group in GROUP_KINDS if any(name.startswith(f"{group}.") for name in self.parts))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        found: dict[str, NDArray[Any]] = {"shortest": self.shortest}
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
            normaliser,
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
        model, at = self._model, self._stretches.count
        figures = self._stretches.add(token)
        z = {}
        for name, value in figures.items():
            part = model.parts.get(name)
            if part is not None:
                z[name] = float(part[1].z(_distance(part[0], name, value, at, self._program), self._program))
        z |= _path_z(model, path_inputs(figures, self._stretches.body()), self._program)
        parts = {}
        for signal, names in (("s_P", [n for n in z if n not in RESULT]), ("s_R", [n for n in RESULT if n in z])):
            if names and signal in model.standards:
                largest = max(z[name] for name in names)
                parts[signal] = float(model.standards[signal].z(np.exp(min(largest, MOST_Z)), self._program))
        if not parts:
            return None
        return LiveValue(at, raw_score(max(parts.values())), parts, self._stretches.travelled_mm)


def live_values(model: LiveModel, features: SeamFeatures, kinds: frozenset[str] | None = None) -> list[LiveValue]:
    """The live score along a whole seam, as it would have come; the arc's end is judged too.

    `kinds`: only these kinds of stream. Raises ValueError for a program that the model was not trained on.
    """
    seam = model.begin(features.program)
    groups = [group for group, kind in GROUP_KINDS.items() if kinds is None or kind in kinds]
    found = (seam.add(_only(token, groups)) for token in with_end(live_tokens(features, model.normaliser)))
    return [value for value in found if value is not None]


def max_raw(values: Iterable[LiveValue]) -> float:
    """The seam's highest live score; 0 where there was nothing to judge."""
    return max((value.raw for value in values), default=0.0)


def with_end(tokens: Iterable[LiveToken]) -> Iterable[LiveToken]:
    """The tokens and the one in which the arc goes out, which bulk features do not have."""
    yield from tokens
    yield LiveToken({}, False, None)


def _only(token: LiveToken, groups: Sequence[str]) -> LiveToken:
    return dataclasses.replace(token, values={g: v for g, v in token.values.items() if g in groups})


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
