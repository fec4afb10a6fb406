"""A microphone's measured delay goes into its stamps: what `edged calibrate microphone` found, before the config.

Sound takes 2.9 ms a metre, and sound card and driver take some more; the calibration tells both together, from arc to
host. The configuration's `latency_ms` and `distance_m` are what is known without one. What was taken off is
recorded, because a stamp is never made twice: a replay has the recorded ones, and the next calibration adds it again.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from calibration.acoustics import speed_of_sound_m_s
from calibration.kinds import MicrophoneValues
from edged.cell_calibration import CellCalibration
from edged.config import Config

__all__ = ["Delayed", "delay_warnings", "measured_delays_ms", "with_measured_delays"]

MOST_APART_M = 0.3
"""A tape and a calibration that are further apart do not speak of the same place."""


class Delayed(Protocol):
    """A stream that has not begun yet."""

    def use_delay(self, delay_ns: int) -> None:
        """Take this off instead of what is configured."""
        ...


def with_measured_delays(
    config: Config, calibration: CellCalibration, streams: Mapping[str, Delayed]
) -> CellCalibration:
    """Give each microphone its measured delay; the calibration that says so in recordings."""
    delays_ms = measured_delays_ms(config, calibration)
    for name, delay_ms in delays_ms.items():
        streams[name].use_delay(round(delay_ms * 1e6))
    return dataclasses.replace(calibration, delays_ms=delays_ms)


def measured_delays_ms(config: Config, calibration: CellCalibration) -> dict[str, float]:
    """Audio stream → its measured delay from the arc to the host, where there is one."""
    values = (
        (name, _values(calibration, name)) for name, section in config.streams.items() if section.kind == "audio"
    )
    return {
        name: max(found.delay_ms, 0.0) for name, found in values if found is not None and found.delay_ms is not None
    }


def delay_warnings(config: Config, calibration: CellCalibration) -> list[str]:
    """A sentence per microphone whose configured distance is another than the measured one, for health."""
    lines = []
    for name, delay_ms in measured_delays_ms(config, calibration).items():
        section, values = config.streams[name], _values(calibration, name)
        if section.distance_m is None or values is None or values.distance_m is None:
            continue
        # A calibration without a tape counts the whole delay as way, so the whole may agree where its parts do not.
        whole_m = 1e-3 * (delay_ms - section.delay_ns / 1e6) * speed_of_sound_m_s(section.air_c)
        apart_m = min(abs(values.distance_m - section.distance_m), abs(whole_m))
        if apart_m > MOST_APART_M:
            lines.append(
                f"streams.{name}.distance_m says {section.distance_m:.2f} m, calibration microphone:{name} measured "
                f"{values.distance_m:.2f} m, which counts; take distance_m out, or calibrate the microphone again"
            )
    return lines


def _values(calibration: CellCalibration, stream: str) -> MicrophoneValues | None:
    found = calibration.found.get("microphone", stream)
    return found.checked if found is not None and isinstance(found.checked, MicrophoneValues) else None
