"""Calibration files: what is written is read, older ones are kept, edited ones are refused by name."""

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.files import (
    Calibration,
    CalibrationError,
    CalibrationSet,
    load_calibrations,
    read_calibration,
    write_calibration,
)

NOW = datetime.datetime(2026, 5, 4, 12, 30, 15, tzinfo=datetime.UTC)
LINE = {"gain": 1.02, "offset": -0.5, "unit": "A", "range": [50.0, 250.0]}


def made(**changes: Any) -> Calibration:
    fields: dict[str, Any] = {
        "kind": "welder",
        "device": "welder1",
        "created_utc": NOW,
        "values": {"channels": {"current": LINE}},
        "residuals": {"current_rms_a": 0.4},
        "valid_days": 365.0,
        "software": "edged 0.1.0",
    }
    return Calibration(**{**fields, **changes})


def test_a_written_calibration_is_read_again(tmp_path: Path) -> None:
    path = write_calibration(tmp_path / "new", made(notes="meter 7, ä"))
    assert path.name == "welder-welder1.toml"
    assert read_calibration(path) == made(notes="meter 7, ä")
    assert not list(path.parent.glob("*.part"))


names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    device=names,
    notes=st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
    gain=st.floats(0.2, 5.0),
    offset=st.one_of(finite, st.integers(-1000, 1000)),
    residuals=st.dictionaries(names, finite, max_size=3),
    valid_days=st.none() | st.floats(0.1, 1e6),
    created=st.datetimes(
        datetime.datetime(2000, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)
    ),
)
def test_every_calibration_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    device: str,
    notes: str,
    gain: float,
    offset: float,
    residuals: dict[str, float],
    valid_days: float | None,
    created: datetime.datetime,
) -> None:
    item = made(
        device=device,
        notes=notes,
        values={"channels": {"current": {**LINE, "gain": gain, "offset": offset}}},
        residuals=residuals,
        valid_days=valid_days,
        created_utc=created,
    )
    folder = tmp_path_factory.mktemp("set")
    path = write_calibration(folder, item)
    assert read_calibration(path) == item
    again = CalibrationSet.from_content(CalibrationSet.of([item]).content(), "recording")
    assert again.calibration_id == load_calibrations(folder).calibration_id


def test_numpy_values_become_plain_ones() -> None:
    line = {**LINE, "gain": np.float64(1.02), "range": np.array([50.0, 250.0])}
    assert made(values={"channels": {"current": line}}).digest == made().digest


def test_the_older_file_is_kept_and_not_loaded(tmp_path: Path) -> None:
    write_calibration(tmp_path, made())
    later = NOW + datetime.timedelta(days=1)
    write_calibration(tmp_path, made(created_utc=later))
    write_calibration(tmp_path, made(created_utc=later, notes="again within the second"))
    write_calibration(tmp_path, made(created_utc=later, notes="and again"))
    older = sorted(path.name for path in tmp_path.glob("welder-welder1.2*.toml"))
    assert older == [
        "welder-welder1.20260504T123015Z.toml",
        "welder-welder1.20260505T123015Z-1.toml",
        "welder-welder1.20260505T123015Z.toml",
    ]
    assert read_calibration(tmp_path / older[0]) == made()
    assert load_calibrations(tmp_path).get("welder", "welder1") == made(created_utc=later, notes="and again")


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gain = 1.02", "gain = 1.03", "welder-welder1.toml: digest: .* edited or is damaged"),
        ("gain = 1.02", "gain = 9.0", r"values: channels.current.gain: .*less than or equal to 5 \(got 9.0\)"),
        ("gain = 1.02", "gane = 1.02", "channels.current.gane: unknown key"),
        ("schema = 1", "schema = 2", "schema: 2, this version reads 1"),
        ('kind = "welder"', 'kind = "toaster"', "kind: 'toaster' is unknown; known: .*welder"),
        ("2026-05-04 12:30:15+00:00", "2026-05-04 12:30:15", "no time zone"),
        ("schema = 1", "schema = ", "not valid TOML"),
        ('software = "edged 0.1.0"', "", "software: missing"),
        ("current_rms_a = 0.4", 'current_rms_a = "low"', "residuals.current_rms_a: .*number.*'low'"),
        ("offset = -0.5", "offset = nan", "values.channels.current.offset: nan is no finite number"),
    ],
)
def test_a_file_that_was_edited_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = edited(write_calibration(tmp_path, made()), old, new)
    with pytest.raises(CalibrationError, match=message) as caught:
        load_calibrations(tmp_path)
    assert str(path) in str(caught.value)


def test_an_edited_file_is_kept_when_a_new_one_replaces_it(tmp_path: Path) -> None:
    path = edited(write_calibration(tmp_path, made()), "gain = 1.02", "gain = 1.03")
    write_calibration(tmp_path, made())
    (kept,) = tmp_path.glob("welder-welder1.2*.toml")
    assert "1.03" in kept.read_text()
    assert read_calibration(path) == made()


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    path = write_calibration(tmp_path, made())
    path.rename(tmp_path / "welder-welder2.toml")
    with pytest.raises(CalibrationError, match=re.escape("is of welder:welder1; name it welder-welder1.toml")):
        load_calibrations(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "toaster"}, "unknown"),
        ({"device": ""}, "cannot name a file; name the stream"),
        ({"device": "a.20260504T123015Z"}, "cannot name a file"),
        ({"valid_days": 0.0}, "valid_days: 0 must be above 0"),
        ({"values": {"channels": {}}}, "channels"),
        ({"residuals": {"current_rms_a": float("inf")}}, "residuals.current_rms_a: inf"),
        ({"created_utc": datetime.datetime(2026, 1, 1)}, "no time zone"),
        ({"values": {"channels": {"current": {**LINE, "range": [5.0, 5.0]}}}}, "first must lie below"),
    ],
)
def test_what_cannot_be_a_calibration_is_refused_before_it_is_written(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        made(**changes)


def test_no_folder_is_no_calibration(tmp_path: Path) -> None:
    empty = load_calibrations(tmp_path / "none")
    assert (empty.calibration_id, empty.items) == ("none", {})
    (tmp_path / "file").touch()
    with pytest.raises(CalibrationError, match="is no folder"):
        load_calibrations(tmp_path / "file")


def test_a_set_says_what_is_missing_and_what_is_expired() -> None:
    lag = made(
        kind="lag",
        device="fillet",
        values={"lag_mm": 3.0, "interval_mm": [2.5, 3.5], "seams": 20},
        valid_days=None,
        created_utc=NOW - datetime.timedelta(days=100),
    )
    both = CalibrationSet.of([made(), lag])
    assert both.missing(["lag:fillet", "camera:top", "welder:welder1"]) == ("camera:top",)
    assert both.expired(NOW + datetime.timedelta(days=365)) == ()
    assert both.expired(NOW + datetime.timedelta(days=366)) == (made(),)
    assert both.expired(NOW, {"lag": 99.0}) == (lag,)
    assert both.expired(NOW, {"lag": 101.0}) == ()


def test_the_id_follows_the_content_and_not_the_order() -> None:
    other = made(device="welder2")
    one = CalibrationSet.of([made(), other]).calibration_id
    assert re.fullmatch("[0-9a-f]{12}", one)
    assert one == CalibrationSet.of([other, made()]).calibration_id
    assert one != CalibrationSet.of([made(), made(device="welder2", notes="new tip")]).calibration_id


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CalibrationError, match=r"cannot be written: .*owner and free space"):
        write_calibration(tmp_path / "file" / "under", made())
