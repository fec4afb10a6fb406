"""The baseline that must always stand beside a detector: nearest neighbours on set-points, no sensor at all.

On public welding data it scores about what the papers claim (their bad welds were made with other set-points), so a
detector's figure means little without it.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["SetpointKnn"]

NEIGHBOURS = 5
SetPoints = Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SetpointKnn:
    """Mean distance to the nearest good seams of the same program in standardised set-points."""

    names: tuple[str, ...]
    scale: NDArray[np.float64]
    goods: Mapping[str, NDArray[np.float64]]

    @classmethod
    def fit(cls, goods: Sequence[tuple[str, SetPoints]]) -> Self:
        """From (program, set-points) of good seams."""
        names = tuple(sorted({name for _, points in goods for name in points}))
        table = np.array([_row(points, names) for _, points in goods]).reshape(len(goods), len(names))
        std = table.std(0) if len(goods) else np.ones(len(names))
        scale = np.where(std > 1e-9, std, np.maximum(np.abs(table).mean(0) if len(goods) else 1.0, 1e-9))
        programs = np.array([program for program, _ in goods])
        return cls(names, scale, {p: table[programs == p] / scale for p in sorted(set(programs.tolist()))})

    def score(self, program: str, points: SetPoints) -> float:
        """Distance, 0 where the set-points are those of good seams; a program without goods uses all."""
        rows = self.goods.get(program)
        if rows is None:
            rows = np.concatenate(list(self.goods.values())) if self.goods else np.zeros((0, len(self.names)))
        if len(rows) == 0 or not self.names:
            return 0.0
        distance = np.linalg.norm(rows - _row(points, self.names) / self.scale, axis=1)
        return float(np.sort(distance)[:NEIGHBOURS].mean())

    def save(self, path: Path) -> None:
        """Write as JSON."""
        goods = {program: rows.tolist() for program, rows in self.goods.items()}
        path.write_text(json.dumps({"names": self.names, "scale": self.scale.tolist(), "goods": goods}) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        goods = {program: np.array(rows) for program, rows in found["goods"].items()}
        return cls(tuple(found["names"]), np.array(found["scale"]), goods)


def _row(points: SetPoints, names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(points.get(name, 0.0)) for name in names])
