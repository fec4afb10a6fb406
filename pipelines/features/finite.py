"""How many samples of a seam are NaN or infinite: such a sample is unknown, and too many of them are no measurement.

The extractor's parts leave them out, as if they had been lost on the way; here they are counted on the token grid, so
that the count does not depend on how a stream was cut. Drivers refuse lines that are no numbers, so these come from a
broken sensor or a wrong scaling.
"""

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.features.grid import TOKEN_NS, cells
from pipelines.features.sensor import SLOW

__all__ = ["MOST_UNUSABLE", "FiniteCounts"]

MOST_UNUSABLE = 0.1
"""Of a stream's samples within the arc; a slow log of a short seam has a few dozen."""


class FiniteCounts:
    """The samples of one seam's welder, motion and audio streams, and how many are not finite."""

    def __init__(self, arc_on_ns: int, streams: tuple[StreamSpec, ...]) -> None:
        self._arc_on_ns = arc_on_ns
        self._columns = {spec.name: columns for spec in streams if (columns := _columns(spec)) is not None}
        self._counts: dict[str, NDArray[np.int64]] = {name: np.zeros((0, 2), np.int64) for name in self._columns}

    def push(self, chunk: Chunk) -> None:
        """Count a chunk's samples; those of other kinds of stream are ignored."""
        columns = self._columns.get(chunk.stream)
        if columns is None:
            return
        token = cells(chunk.times_ns(), self._arc_on_ns, TOKEN_NS)
        inside = token >= 0
        if not inside.any():
            return
        data = chunk.data[inside].reshape(int(inside.sum()), -1)[:, columns]
        bad = ~np.isfinite(data).all(1) if data.dtype.kind == "f" else np.zeros(len(data), np.bool_)
        length = max(int(token[-1]) + 1, len(self._counts[chunk.stream]))
        counts = np.zeros((length, 2), np.int64)
        counts[: len(self._counts[chunk.stream])] = self._counts[chunk.stream]
        counts[:, 0] += np.bincount(token[inside], minlength=length)
        counts[:, 1] += np.bincount(token[inside][bad], minlength=length)
        self._counts[chunk.stream] = counts

    def check(self, seam_id: str, tokens: int, unused: Set[str] = frozenset()) -> None:
        """Raise ValueError naming the first stream of which more than `MOST_UNUSABLE` is not finite.

        `unused`: streams that nothing will be made of, since they are known to be broken.
        """
        for name, counts in self._counts.items():
            if name in unused:
                continue
            total, bad = counts[:tokens].sum(0).tolist()
            if bad > MOST_UNUSABLE * total:
                raise ValueError(
                    f"seam {seam_id}: {bad} of {total} samples of stream {name} are NaN or infinite, at most "
                    f"{MOST_UNUSABLE:.0%} may be; check the sensor, its wiring and its scaling"
                )


def _columns(spec: StreamSpec) -> list[int] | slice | None:
    """The channels of a stream that features are made of; None where there are none."""
    if spec.kind == "audio":
        return slice(None)
    if spec.kind not in ("welder", "motion"):
        return None
    found = [i for i, channel in enumerate(spec.channels) if channel in ("current", "voltage", *SLOW)]
    return found or None
