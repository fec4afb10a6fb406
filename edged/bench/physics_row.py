"""One figure of the virtual cell beside the range and source it is held against."""

import dataclasses

import numpy as np

from edged.bench.sources import SOURCES, source_keys

__all__ = ["Row"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str

    def as_dict(self) -> dict[str, object]:
        for key in source_keys(self.source):
            if key not in SOURCES:
                raise KeyError(f"physics row {self.name!r} names the source {key!r}; known: {', '.join(SOURCES)}")
        ok = bool(np.isfinite(self.value) and self.low <= self.value <= self.high)
        numbers = {"value": float(self.value), "low": float(self.low), "high": float(self.high)}
        return dataclasses.asdict(self) | numbers | {"ok": ok}
