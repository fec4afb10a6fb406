"""Calibrations for tests: those of the synthetic cell, through real files."""

import datetime
from typing import Any

from calibration.files import Calibration

__all__ = ["MADE_UTC", "VALUES", "made"]

MADE_UTC = datetime.datetime(2023, 11, 1, tzinfo=datetime.UTC)
"""Two weeks before the synthetic cell welds (`tests.support.cell`)."""

VALUES: dict[str, dict[str, Any]] = {
    "welder": {
        "channels": {
            "current": {"gain": 1.1, "offset": 2.0, "unit": "A", "range": [50.0, 250.0]},
            "voltage": {"gain": 0.9, "offset": 0.0, "unit": "V", "range": [15.0, 30.0]},
        }
    },
    "microphone": {"gain_db": 6.0, "levels_dbfs": {"fillet": -20.0}, "noise_floor_dbfs": -60.0},
    "lag": {"lag_mm": 3.0, "interval_mm": [2.5, 3.5], "seams": 20},
}


def made(kind: str, device: str, **changes: Any) -> Calibration:
    """A calibration of the kind; `changes` of its fields."""
    fields: dict[str, Any] = {
        "created_utc": MADE_UTC,
        "values": VALUES[kind],
        "residuals": {},
        "valid_days": 365.0,
        "software": "edged 0.1.0",
    }
    return Calibration(kind, device, **{**fields, **changes})
