"""Recordings on disk: chunks, stream specs and control messages ↔ MCAP with Foxglove's schemas.

Stands beside the data path: the recorder writes what the rings carry, replay reads it back exactly as it was,
stamps included. One stream is two channels: `/NAME` for people and Foxglove (images, audio, samples) and
`/NAME/meta` with counters and clock, message for message. See `docs/recordings.md`.

This module is what the rest of the program imports; `mcap_writer`, `mcap_reader` and `mcap_file` do the work.

Errors::

    RecordingError         the file is unfinished, damaged or foreign, or the disk is full
"""

from drivers.mcap_file import OPEN_SUFFIX, RECORDING_SUFFIX, RecordingError, recover_recording
from drivers.mcap_layouts import CONTROL_TOPIC, ControlEvent, RecordingHeader
from drivers.mcap_reader import RecordingReader
from drivers.mcap_writer import RecordingWriter

__all__ = [
    "CONTROL_TOPIC",
    "OPEN_SUFFIX",
    "RECORDING_SUFFIX",
    "ControlEvent",
    "RecordingError",
    "RecordingHeader",
    "RecordingReader",
    "RecordingWriter",
    "recover_recording",
]
