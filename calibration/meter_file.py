"""The log of a reference meter, CSV: what the welder's readings are compared with.

A header names the columns, each with its unit: `current_a`, `Voltage [V]`, `wire_feed_speed_m_min`. What a row
belongs to is said by one more column: `utc` (ISO 8601 with a zone) or `utc_s` (seconds since 1970), `seam_id`; or
the row holds the reading itself, in a second column of the same quantity: `reading_current_a`. Lines that begin with
# are skipped; `;` and tabs separate as well as commas do, and beside those a decimal comma is understood.
"""

import csv
import dataclasses
import datetime
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError

__all__ = ["UNITS", "Meter", "read_meter"]

Array = NDArray[np.float64]

UNITS: Mapping[str, tuple[str, float]] = {
    "ka": ("A", 1e3),
    "ma": ("A", 1e-3),
    "a": ("A", 1.0),
    "kv": ("V", 1e3),
    "mv": ("V", 1e-3),
    "v": ("V", 1.0),
    "m/min": ("m/min", 1.0),
    "mm/s": ("m/min", 0.06),
    "in/min": ("m/min", 0.0254),
    "l/min": ("L/min", 1.0),
}
"""As written in a header, lower case → the unit of a stream, and the factor to it."""

READING = "reading"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Meter:
    """The rows of a meter's log; every array is `(rows,)`, in the units of `units`.

    Exactly one of `utc_s`, `seam_id` and `readings` says what the rows belong to. `lines` are the rows' line numbers.
    """

    path: Path
    values: Mapping[str, Array]
    units: Mapping[str, str]
    lines: tuple[int, ...]
    utc_s: Array | None = None
    seam_id: tuple[str, ...] | None = None
    readings: Mapping[str, Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Column:
    name: str
    unit: str
    factor: float
    is_reading: bool


def read_meter(path: Path, channels: Sequence[str]) -> Meter:
    """A meter's log; `channels` are those of the stream. Raises CalibrationError naming line, column and value."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}; save the meter's log as CSV, UTF-8") from error
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line.lstrip()[0] != "#"]
    if len(numbered) < 2:
        raise CalibrationError(f"{path}: holds no rows; a header such as 'seam_id,current_a,voltage_v' and rows")
    separator = max(";\t,", key=numbered[0][1].count)
    rows = list(csv.reader([line for _, line in numbered], delimiter=separator))
    header = [cell.strip() for cell in rows[0]]
    columns = _columns(path, header, channels)
    lines = tuple(n for n, _ in numbered[1:])
    for line, row in zip(lines, rows[1:], strict=True):
        if len(row) != len(header):
            raise CalibrationError(f"{path}: line {line}: {len(row)} cells, the header has {len(header)}")
    cells = {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(header)}

    def numbers(name: str) -> Array:
        found = [_number(path, line, name, cell) for line, cell in zip(lines, cells[name], strict=True)]
        return np.array(found)

    values: dict[str, Array] = {}
    readings: dict[str, Array] = {}
    units: dict[str, str] = {}
    for name, column in columns.items():
        (readings if column.is_reading else values)[column.name] = numbers(name) * column.factor
        units[column.name] = column.unit
    utc = _times(path, lines, cells["utc"]) if "utc" in cells else numbers("utc_s") if "utc_s" in cells else None
    seam_id = tuple(cells["seam_id"]) if "seam_id" in cells else None
    meter = Meter(path, values, units, lines, utc, seam_id, readings)
    _check_place(meter, header)
    return meter


def _columns(path: Path, header: Sequence[str], channels: Sequence[str]) -> dict[str, _Column]:
    """The columns that hold quantities, by the header's name."""
    found: dict[str, _Column] = {}
    for name in header:
        if name in ("utc", "utc_s", "seam_id"):
            continue
        column = _column(path, name, channels)
        if any(other.name == column.name and other.is_reading == column.is_reading for other in found.values()):
            raise CalibrationError(f"{path}: column {name!r}: there are two of {column.name}; leave one out")
        found[name] = column
    if len(set(header)) != len(header):
        raise CalibrationError(f"{path}: two columns have the same name; header: {', '.join(header)}")
    if all(column.is_reading for column in found.values()):
        raise CalibrationError(f"{path}: no column of a quantity, such as current_a; header: {', '.join(header)}")
    return found


def _column(path: Path, name: str, channels: Sequence[str]) -> _Column:
    plain = re.sub(r"[\s_\[\]()]+", " ", name.lower()).strip()
    is_reading = plain.startswith(f"{READING} ")
    plain = plain.removeprefix(f"{READING} ")
    for channel in sorted(channels, key=len, reverse=True):
        words = channel.lower().replace("_", " ")
        if plain == words:
            raise CalibrationError(
                f"{path}: column {name!r}: names no unit; write for example '{name}_{_like(channel)}'"
            )
        if plain.startswith(f"{words} "):
            unit = plain.removeprefix(f"{words} ").replace(" ", "/")
            if unit not in UNITS:
                raise CalibrationError(
                    f"{path}: column {name!r}: unit {unit!r} is unknown; known: {', '.join(UNITS)}"
                )
            return _Column(channel, *UNITS[unit], is_reading)
    raise CalibrationError(
        f"{path}: column {name!r}: is no channel of the stream ({', '.join(channels)}) and not utc, utc_s or seam_id"
    )


def _like(channel: str) -> str:
    return {"current": "a", "voltage": "v"}.get(channel, "unit")


def _check_place(meter: Meter, header: Sequence[str]) -> None:
    places = [
        name
        for name, there in (
            ("utc or utc_s", meter.utc_s is not None),
            ("seam_id", meter.seam_id is not None),
            ("reading_…", bool(meter.readings)),
        )
        if there
    ]
    if len(places) != 1:
        said = f"has {' and '.join(places)}" if places else "has none of them"
        raise CalibrationError(
            f"{meter.path}: what a row belongs to must be said by a column utc, seam_id or reading_…; it {said}; "
            f"header: {', '.join(header)}"
        )
    if meter.readings and set(meter.readings) != set(meter.values):
        lone = ", ".join(sorted(set(meter.readings) ^ set(meter.values)))
        raise CalibrationError(
            f"{meter.path}: of {lone} there is only the meter's value or only the reading; give both"
        )


def _number(path: Path, line: int, column: str, cell: str) -> float:
    text = cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CalibrationError(f"{path}: line {line}: column {column!r}: {cell!r} is no number; take the row out")
    return value


def _times(path: Path, lines: Sequence[int], cells: Sequence[str]) -> Array:
    found = []
    for line, cell in zip(lines, cells, strict=True):
        try:
            time = datetime.datetime.fromisoformat(cell)
        except ValueError:
            raise CalibrationError(
                f"{path}: line {line}: utc {cell!r} is no time; write 2026-05-04T12:30:15.2Z"
            ) from None
        if time.tzinfo is None:
            raise CalibrationError(f"{path}: line {line}: utc {cell!r} has no time zone; end it with Z or +02:00")
        found.append(time.timestamp())
    return np.array(found)
