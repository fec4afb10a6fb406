"""The CSV log of a run: rows with a time and slow channels, read as they are. Feeds alignment and recording."""

import csv
import dataclasses
import datetime
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edged.importing.align import AlignError
from edged.importing.mapping import LogMapping

__all__ = ["WeldLog", "read_log"]

MIN_ROWS = 10


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WeldLog:
    """`t_s` `(n,)` seconds after the first row, `utc_ns` of that row, channels name → `(n,)`.

    `bad_rows` could not be read or went back in time.
    """

    t_s: NDArray[np.float64]
    utc_ns: int
    channels: dict[str, NDArray[np.float64]]
    bad_rows: int


def read_log(path: Path, mapping: LogMapping) -> WeldLog:
    """Read a run's CSV. Fields beyond a row's end and blanks around names do not matter.

    Raises AlignError when a column is missing or fewer than ten rows can be read.
    """
    columns = {**mapping.welder, **mapping.motion}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        wanted = [*mapping.time_columns, *columns.values()]
        if missing := [name for name in wanted if name not in header]:
            raise AlignError(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(header)!r:.200}")
        time_at = [header.index(name) for name in mapping.time_columns]
        value_at = [header.index(name) for name in columns.values()]
        times: list[float] = []
        values: list[list[float]] = []
        bad = 0
        for row in rows:
            parsed = _row(row, time_at, value_at, mapping.time_format)
            if parsed is None or (times and parsed[0] <= times[-1]):
                bad += bool(row)
                continue
            times.append(parsed[0])
            values.append(parsed[1])
    if len(times) < MIN_ROWS:
        raise AlignError(
            f"{path.name} has {len(times)} readable rows of {len(times) + bad}; at least {MIN_ROWS} are needed"
        )
    table = np.array(values)
    t_s = np.array(times) - times[0]
    return WeldLog(t_s, round(times[0] * 1e9), {name: table[:, k] for k, name in enumerate(columns)}, bad)


def _row(row: list[str], time_at: list[int], value_at: list[int], form: str) -> tuple[float, list[float]] | None:
    try:
        text = " ".join(row[at].strip() for at in time_at)
        values = [float(row[at]) for at in value_at]
        time_s = float(text) if form == "seconds" else _utc_s(text, form)
    except (ValueError, IndexError):
        return None
    return (time_s, values) if all(map(math.isfinite, [time_s, *values])) else None


def _utc_s(text: str, form: str) -> float:
    """The log's local time read as UTC, because no zone is given."""
    return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.UTC).timestamp()
