"""The configuration that an imported recording carries, so that replay, training and evaluation can judge it.

A live recording holds the configuration of its cell; an imported one gets this, made for slow logs aligned offline.
"""

from collections.abc import Collection

from drivers.base import StreamKind
from edged.config import ArcConfig, CellConfig, Config, ProgramConfig, StreamConfig, ViewConfig
from edged.importing.mapping import Mapping

__all__ = ["import_config", "view_name"]

KINDS: dict[str, tuple[StreamKind, str]] = {
    "welder": ("welder", "welder.file"),
    "motion": ("motion", "motion.file"),
    "audio": ("audio", "microphone.file"),
    "video": ("video", "camera.opencv"),
    "result": ("result", "camera.folder"),
}
"""Stream name → its kind and the driver that would read such a file."""
OPTIONAL = ("motion", "audio", "video")
LOG_PERIODS_HELD = 2.5
MAX_GAP_MS = 1000.0
"""The log's own steps reach 0.2 s."""
MAX_SYNC_RESIDUAL_MS = 400.0
"""Three rows of a 9 Hz log: what the current can say about when the arc was struck."""


def view_name(index: int) -> str:
    """Name of the photograph `index`, counted from 0."""
    return f"view_{index + 1}"


def import_config(mapping: Mapping, streams: Collection[str], views: int) -> Config:
    """How a run with these streams and so many photographs is cut; its program is still collecting."""
    names = tuple(view_name(index) for index in range(views))
    program = ProgramConfig(
        views=names,
        merge_gap_s=1.0,
        required=("welder",),
        optional=tuple(KINDS[name][0] for name in OPTIONAL if name in streams),
        max_sync_residual_ms=MAX_SYNC_RESIDUAL_MS,
    )
    return Config(
        cell=CellConfig(name=mapping.cell),
        streams={
            name: StreamConfig(driver=KINDS[name][1], kind=KINDS[name][0], max_gap_ms=MAX_GAP_MS) for name in streams
        },
        views={name: ViewConfig(stream="result") for name in names},
        programs={mapping.program: program},
        arc=ArcConfig(hold_ms=LOG_PERIODS_HELD * 1000 / mapping.log.rate_hz),
    )
