"""Session-level nuisance: what stays the same for all seams of a shift and differs between shifts.

A session is known by its name alone; its state is drawn from that name.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from drivers.sim.randomness import generator

__all__ = ["Session", "session_named", "session_names"]


LIMITS: Mapping[str, tuple[float, float]] = {
    "tip_mohm": (0.0, 50.0),
    "tip_noise_mohm": (0.0, 40.0),
    "co2_percent": (0.0, 100.0),
    "mic_distance_m": (0.05, 2.0),
    "mic_gain": (0.01, 100.0),
    "neighbour_level": (0.0, 1.0),
    "lens_spots": (0, 500),
    "arc_gain": (0.01, 10.0),
    "light_gain": (0.01, 10.0),
    "light_angle_rad": (-math.pi / 2, math.pi / 2),
    "light_warmth": (-0.5, 0.5),
    "plate_tone": (0.05, 1.0),
    "hum_hz": (1.0, 500.0),
    "current_gain": (0.5, 1.5),
    "voltage_gain": (0.5, 1.5),
    "lens_growth": (0.0, 20.0),
}
"""What a cell can be at all: the booth is 2 m deep, a sensor off by more than half is a dead one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """State of the cell during one shift."""

    name: str
    tip_mohm: float
    """Mean contact resistance of the worn tip, mΩ."""
    tip_noise_mohm: float
    co2_percent: float
    mic_distance_m: float
    mic_gain: float
    neighbour_level: float
    lens_spots: int
    lens_seed: int
    arc_gain: float
    camera_shift_mm: tuple[float, float]
    light_gain: float
    light_angle_rad: float
    light_warmth: float
    plate_tone: float
    hum_hz: float
    current_gain: float
    """Gain error of the current sensor; calibration holds it within a few percent. Likewise `voltage_gain`."""
    voltage_gain: float
    mic_agc: bool
    """The microphone's preamplifier sets its own gain, slowly."""
    lens_growth: float
    """Spots that spatter adds to the cover glass per seam of the session."""

    def __post_init__(self) -> None:
        """Raise ValueError with quantity, value and range when the cell cannot be like that."""
        for quantity, (low, high) in LIMITS.items():
            value = getattr(self, quantity)
            if not low <= value <= high:
                raise ValueError(f"session {self.name}: {quantity} is {value}; it must lie in {low:g}–{high:g}")


def session_named(name: str) -> Session:
    """The session of that name, drawn deterministically from it."""
    seed = zlib.crc32(name.encode())
    rng = generator(seed, "session")
    return Session(
        name=name,
        tip_mohm=float(rng.uniform(1.0, 4.0)),
        tip_noise_mohm=float(rng.uniform(0.2, 0.8)),
        co2_percent=float(rng.normal(20.0, 0.7)),
        mic_distance_m=float(rng.uniform(0.20, 0.35)),
        mic_gain=float(rng.uniform(0.85, 1.15)),
        neighbour_level=float(rng.choice([0.0, 0.0, 0.004, 0.010])),
        lens_spots=int(rng.integers(0, 14)),
        lens_seed=seed,
        arc_gain=float(rng.uniform(0.88, 1.12)),
        camera_shift_mm=(float(rng.normal(0, 0.4)), float(rng.normal(0, 0.4))),
        light_gain=float(rng.uniform(0.85, 1.12)),
        light_angle_rad=float(rng.uniform(-0.5, 0.5)),
        light_warmth=float(rng.normal(0.0, 0.03)),
        plate_tone=float(rng.uniform(0.42, 0.58)),
        hum_hz=float(rng.uniform(22.0, 29.0)),
        current_gain=float(1 + np.clip(rng.normal(0, 0.01), -0.02, 0.02)),
        voltage_gain=float(1 + np.clip(rng.normal(0, 0.004), -0.01, 0.01)),
        mic_agc=bool(rng.uniform() < 0.25),
        lens_growth=float(rng.uniform(0.0, 0.4)),
    )


def session_names(count: int) -> Iterator[str]:
    """Names of the first `count` sessions, in time order."""
    return (f"session-{index:02d}" for index in range(count))
