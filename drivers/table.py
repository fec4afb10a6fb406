"""The one table of drivers: `driver` in the config → the class that serves it.

Adding a device kind is adding a row and a file. Classes are imported when asked for, never before.
"""

import importlib
from typing import Any

from drivers.base import MONOTONIC, DeviceError, Driver, HostClock

__all__ = ["DRIVERS", "create_driver", "driver_class"]

DRIVERS: dict[str, str] = {
    "welder.serial": "drivers.welder_serial:WelderSerial",
    "welder.csv_serial": "drivers.welder_csv_serial:WelderCsvSerial",
    "welder.file": "drivers.samples_file:SamplesFile",
    "motion.file": "drivers.samples_file:SamplesFile",
    "motion.csv_serial": "drivers.welder_csv_serial:WelderCsvSerial",
    "microphone.portaudio": "drivers.microphone_portaudio:MicrophonePortaudio",
    "microphone.file": "drivers.audio_file:AudioFile",
    "camera.opencv": "drivers.camera_opencv:CameraOpencv",
    "camera.folder": "drivers.image_folder:ImageFolder",
    "profile.csv_serial": "drivers.welder_csv_serial:WelderCsvSerial",
    "profile.file": "drivers.samples_file:SamplesFile",
    "replay": "drivers.replay:Replay",
}


def driver_class(kind: str) -> type[Driver]:
    """The class behind `kind`: a row of the table, or "module:Class" for a driver of one's own.

    Raises DeviceError naming the known kinds when there is none, or what a module lacks.
    """
    path = DRIVERS.get(kind, kind)
    module, colon, name = path.partition(":")
    if not colon:
        raise DeviceError(f"no driver {kind!r}; known drivers: {', '.join(sorted(DRIVERS))}, or module:Class")
    try:
        found: type[Driver] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DeviceError(f"driver {kind!r}: {error}") from error
    return found


def create_driver(kind: str, name: str, options: dict[str, Any], clock: HostClock = MONOTONIC) -> Driver:
    """Validate `options` and make the driver for stream `name`; opens nothing. Raises ValidationError."""
    cls = driver_class(kind)
    return cls(name, cls.Options.model_validate(options), clock)
