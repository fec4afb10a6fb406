"""Calibrations as files: one versioned TOML per device, written by `edged calibrate`, read when the daemon starts.

A file says of one device what was measured (`values`), how well (`residuals`), when, by which version, and for how
long it holds. Its digest covers everything else in it: what was changed by hand is refused by name, because nobody
could say any more what a verdict was made with. `CalibrationSet` is a folder of them; its `calibration_id` goes into
recordings and verdicts, and its `content()` into recordings, so that a score can be reproduced and recalibrated.
"""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.kinds import KINDS, Values
from drivers.mcap_file import fsync_folder

__all__ = [
    "NO_CALIBRATION",
    "SCHEMA",
    "Calibration",
    "CalibrationError",
    "CalibrationSet",
    "calibration_paths",
    "load_calibrations",
    "read_calibration",
    "write_calibration",
]

SCHEMA = 1
NO_CALIBRATION = "none"
"""`calibration_id` of an empty set."""

_OLDER = re.compile(r"\.\d{8}T\d{6}Z(-\d+)?$")
_LAYOUT_KEYS = ("schema", "digest")


class CalibrationError(Exception):
    """A calibration cannot be used; the message names file, key and value, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured of one device. Plain values only: numpy scalars and arrays become numbers and lists.

    Raises CalibrationError when `kind` is unknown, the values are not those of its kind, or a number is not finite.
    """

    kind: str
    device: str
    created_utc: datetime.datetime
    """Whole seconds, UTC; a time without a zone is refused."""
    values: Mapping[str, Any]
    residuals: Mapping[str, float]
    """Names carry their unit: `current_rms_a`."""
    valid_days: float | None
    """None: until it is made again."""
    software: str
    notes: str = ""

    def __post_init__(self) -> None:
        """Bring every field into the one form that is written, so that what is read equals what was written."""
        where = f"{self.kind}:{self.device}"
        if self.created_utc.tzinfo is None:
            raise CalibrationError(f"{where}: created_utc {self.created_utc} has no time zone; give UTC")
        utc = self.created_utc.astimezone(datetime.UTC).replace(microsecond=0)
        object.__setattr__(self, "created_utc", utc)
        object.__setattr__(self, "values", _plain(self.values, f"{where}: values"))
        residuals = {key: float(value) for key, value in self.residuals.items()}
        object.__setattr__(self, "residuals", _plain(residuals, f"{where}: residuals"))
        if self.valid_days is not None:
            object.__setattr__(self, "valid_days", _plain(float(self.valid_days), f"{where}: valid_days"))
        _check(self, where)

    @property
    def name(self) -> str:
        """`kind:device`, as in `[calibration] required`."""
        return f"{self.kind}:{self.device}"

    @property
    def digest(self) -> str:
        """sha256 over the content, 64 hex digits."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True, ensure_ascii=True).encode()).hexdigest()

    @property
    def checked(self) -> Values:
        """The values as the model of their kind; `isinstance` tells the type checker which."""
        return KINDS[self.kind].values.model_validate(self.values)

    def age_days(self, now: datetime.datetime) -> float:
        """Days since it was made."""
        return (now - self.created_utc).total_seconds() / 86400

    def content(self) -> dict[str, Any]:
        """All of it, JSON-ready; see `CalibrationSet.content`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "created_utc": self.created_utc.isoformat()}


@dataclasses.dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The calibrations of a cell, by (kind, device)."""

    items: Mapping[tuple[str, str], Calibration] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, calibrations: Iterable[Calibration]) -> Self:
        """A set of these; of two for one device the later in the order counts."""
        return cls({(item.kind, item.device): item for item in calibrations})

    @property
    def calibration_id(self) -> str:
        """12 hex digits over all digests; "none" when the set is empty."""
        if not self.items:
            return NO_CALIBRATION
        lines = sorted(f"{item.name} {item.digest}" for item in self.items.values())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]

    def get(self, kind: str, device: str) -> Calibration | None:
        """The calibration of a device, None where there is none."""
        return self.items.get((kind, device))

    def expired(
        self, now: datetime.datetime, max_age_days: Mapping[str, float] | None = None
    ) -> tuple[Calibration, ...]:
        """Those past their `valid_days` or past the limit of their kind, ordered by name."""
        limits = max_age_days or {}
        return tuple(item for item in self.ordered() if _days_left(item, now, limits.get(item.kind)) < 0)

    def missing(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Which of the wanted "kind:device" the set lacks, in their order."""
        have = {item.name for item in self.items.values()}
        return tuple(name for name in wanted if name not in have)

    def ordered(self) -> list[Calibration]:
        """All, by name."""
        return sorted(self.items.values(), key=lambda item: item.name)

    def content(self) -> list[dict[str, Any]]:
        """JSON-ready, in a fixed order: what a recording keeps."""
        return [item.content() for item in self.ordered()]

    @classmethod
    def from_content(cls, content: Iterable[Mapping[str, Any]], source: str) -> Self:
        """What `content` made. Raises CalibrationError, naming `source`."""
        return cls.of(_from_raw(item, source) for item in content)


def write_calibration(directory: Path, calibration: Calibration) -> Path:
    """Write `KIND-DEVICE.toml` into `directory` (made when missing); an older one is kept beside it.

    When it returns, the file is on disk; a crash leaves the older one. Raises CalibrationError.
    """
    path = directory / _file_name(calibration)
    content = {key: value for key, value in calibration.content().items() if value is not None}
    layout = {"schema": SCHEMA, "digest": calibration.digest, **content, "created_utc": calibration.created_utc}
    part = path.with_suffix(".toml.part")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            tomli_w.dump(_tables_last(layout), file)
            file.flush()
            os.fsync(file.fileno())
        _keep_older(path)
        part.rename(path)
        fsync_folder(directory)
    except OSError as error:
        raise CalibrationError(
            f"{path}: cannot be written: {error.strerror}; check the folder's owner and free space"
        ) from error
    return path


def read_calibration(path: Path) -> Calibration:
    """A calibration from its file. Raises CalibrationError, also when it was edited by hand."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: not valid TOML: {error}; make it again with 'edged calibrate'") from error
    schema = raw.get("schema")
    if schema != SCHEMA:
        raise CalibrationError(f"{path}: schema: {schema!r}, this version reads {SCHEMA}; make it again")
    calibration = _from_raw({key: value for key, value in raw.items() if key not in _LAYOUT_KEYS}, str(path))
    if raw.get("digest") != calibration.digest:
        raise CalibrationError(
            f"{path}: digest: {str(raw.get('digest'))[:12]!r} is not that of the content "
            f"({calibration.digest[:12]}): the file was edited or is damaged; make it again with "
            f"'edged calibrate {calibration.kind}', or put the older file back"
        )
    if path.name != _file_name(calibration) and not _is_older(path):
        raise CalibrationError(f"{path}: is of {calibration.name}; name it {_file_name(calibration)}")
    return calibration


def load_calibrations(directory: Path) -> CalibrationSet:
    """Every calibration of a folder, older ones left out; a folder that is not there is an empty set.

    Raises CalibrationError for the first file that cannot be used.
    """
    if directory.exists() and not directory.is_dir():
        raise CalibrationError(f"{directory}: is no folder; give the folder that holds the KIND-DEVICE.toml files")
    return CalibrationSet.of(read_calibration(path) for path in calibration_paths(directory))


def calibration_paths(directory: Path) -> list[Path]:
    """The files of a folder that hold calibrations, older ones left out; none where there is no folder."""
    return sorted(path for path in directory.glob("*.toml") if not _is_older(path))


class _Layout(BaseModel):
    """The keys of a file beside its values, whose model depends on the kind."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: str
    device: str = Field(min_length=1)
    created_utc: datetime.datetime
    values: dict[str, Any]
    residuals: dict[str, float]
    valid_days: float | None = None
    software: str
    notes: str = ""


def _from_raw(raw: Mapping[str, Any], source: str) -> Calibration:
    values = dict(raw)
    try:
        if isinstance(values.get("created_utc"), str):
            values["created_utc"] = datetime.datetime.fromisoformat(values["created_utc"])
        layout = _Layout.model_validate(values)
        return Calibration(**{name: getattr(layout, name) for name in _Layout.model_fields})
    except ValidationError as error:
        raise CalibrationError(_problems(error, source)) from error
    except (CalibrationError, ValueError) as error:
        raise CalibrationError(f"{source}: {error}") from error


def _check(calibration: Calibration, where: str) -> None:
    kind = KINDS.get(calibration.kind)
    if kind is None:
        raise CalibrationError(f"{where}: kind: {calibration.kind!r} is unknown; known: {', '.join(sorted(KINDS))}")
    if not calibration.device or _OLDER.search(calibration.device):
        raise CalibrationError(f"{where}: device: {calibration.device!r} cannot name a file; name the {kind.device}")
    if calibration.valid_days is not None and calibration.valid_days <= 0:
        raise CalibrationError(
            f"{where}: valid_days: {calibration.valid_days:g} must be above 0; leave it out for ever"
        )
    try:
        kind.values.model_validate(calibration.values)
    except ValidationError as error:
        raise CalibrationError(_problems(error, f"{where}: values")) from error


def _problems(error: ValidationError, source: str) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "values"
        what = "unknown key" if item["type"] == "extra_forbidden" else f"{item['msg']} (got {item['input']!r:.80})"
        lines.append(f"{source}: {key}: {'missing' if item['type'] == 'missing' else what}")
    return "; ".join(lines) + "; make it again with 'edged calibrate'"


def _plain(value: Any, where: str) -> Any:
    """The value as TOML and JSON both know it. Raises CalibrationError."""
    if isinstance(value, Mapping):
        # TOML knows no null: an absent key stands for None, in the models as its default.
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items() if item is not None}
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), where)
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise CalibrationError(f"{where}: {value} is no finite number")
    if isinstance(value, bool | int | float | str):
        return value
    raise CalibrationError(f"{where}: {value!r} of {type(value).__name__} cannot stand in a calibration file")


def _tables_last(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Whoever reads the file sees first what it is; `notes` would otherwise stand below the values."""
    return dict(sorted(layout.items(), key=lambda item: isinstance(item[1], dict)))


def _days_left(calibration: Calibration, now: datetime.datetime, limit: float | None) -> float:
    days = min(calibration.valid_days or math.inf, math.inf if limit is None else limit)
    return days - calibration.age_days(now)


def _file_name(calibration: Calibration) -> str:
    return f"{calibration.kind}-{quote(calibration.device, safe=' ')}.toml"


def _is_older(path: Path) -> bool:
    return _OLDER.search(path.stem) is not None


def _keep_older(path: Path) -> None:
    """Hard-link the file that is to be replaced under the time of its making, so that none is ever missing."""
    if not path.exists():
        return
    try:
        made = read_calibration(path).created_utc
    except CalibrationError:
        # Edited or damaged, but not ours to throw away.
        made = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    stem = f"{path.stem}.{made:%Y%m%dT%H%M%SZ}"
    kept, number = path.with_name(f"{stem}.toml"), 1
    while kept.exists():
        kept, number = path.with_name(f"{stem}-{number}.toml"), number + 1
    os.link(path, kept)
