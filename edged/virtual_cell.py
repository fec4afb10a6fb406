"""The configuration of the virtual cell: the same streams, views and programs for demo, simulate and training.

The demo opens these drivers on real transports; bulk simulation only uses their names and limits.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edged.config import Config, parse_config
from edged.importing.config import LOG_PERIODS_HELD, MAX_GAP_MS, MAX_SYNC_RESIDUAL_MS
from edged.types import Mode

if TYPE_CHECKING:
    from drivers.sim.programs import Program

__all__ = ["PROFILES", "CellEndpoints", "Profile", "profile_named", "virtual_cell_config"]

Profile = Literal["cell", "intel"]
"""What the cell's sensors give: its own streams, or the shape of the public Intel data (`drivers.sim.intel`)."""
INTEL_DEADLINE_S = 60.0
"""Photographs come up to 45 s after the arc, five of them one after the other."""


@dataclasses.dataclass(frozen=True, slots=True)
class CellEndpoints:
    """Where the running virtual cell serves its devices (`cell.json`)."""

    welder_port: str
    motion_port: str
    arc_url: str
    result_url: str
    alsa_config: str
    microphone: str
    profiler_port: str = "/dev/null"


NOT_OPENED = CellEndpoints(
    "/dev/null", "/dev/null", "http://127.0.0.1:9/arc", "http://127.0.0.1:9/result", "", "weldmic"
)


def virtual_cell_config(
    data_dir: Path,
    mode: Mode = "collecting",
    model: str | None = None,
    endpoints: CellEndpoints = NOT_OPENED,
    verdicts: str = "tcp://127.0.0.1:5560",
    *,
    profiler: bool = False,
    profile: Profile = "cell",
) -> tuple[dict[str, Any], Config]:
    """The cell as a TOML-ready dict and as the validated `Config`; `profiler`: with a laser that scans every seam.

    `profile`: "intel" cuts seams of slow logs whose photographs come late; nothing serves such a cell's devices.
    Raises ValueError for a profile with a profiler that has none.
    """
    from drivers.sim.programs import PROGRAMS, VIEW_NAMES
    from drivers.sim.scanner import PROFILER_OPTIONS, SCAN_S, SCAN_SETTLE_S, SCAN_VIEW

    if profiler and profile != "cell":
        raise ValueError(f"profile {profile!r} has no laser profiler; leave one of the two out")
    streams, limits, arc = _PROFILES[profile](endpoints)
    programs = {
        name: {
            "mode": mode,
            "travel_speed_mm_s": program.travel_mm_s,
            "views": [*program.views, *((SCAN_VIEW,) if profiler else ())],
            "frame": _frame(program, profiler),
            **limits,
            **({"model": model} if model is not None else {}),
        }
        for name, program in PROGRAMS.items()
    }
    raw: dict[str, Any] = {
        "cell": {"name": "virtual-cell", "data_dir": str(data_dir), "is_simulated": True},
        "streams": streams,
        "views": {name: {"stream": "resultcam", "settle_ms": 150.0} for name in VIEW_NAMES},
        "programs": programs,
        "net": {"verdicts": verdicts},
        **({"arc": arc} if arc else {}),
    }
    if profiler:
        raw["streams"]["profiler"] = {
            "driver": "profile.csv_serial",
            "kind": "profile",
            "max_gap_ms": 50.0,
            "options": {"port": endpoints.profiler_port, **PROFILER_OPTIONS},
        }
        raw["views"][SCAN_VIEW] = {"stream": "profiler", "settle_ms": SCAN_SETTLE_S * 1e3, "scan_s": SCAN_S}
    if endpoints.alsa_config:
        raw["children"] = {"env": {"ALSA_CONFIG_PATH": endpoints.alsa_config}}
    return raw, parse_config(raw, source="virtual cell")


def _frame(program: "Program", profiler: bool) -> dict[str, Any]:
    """Where the results lie: the virtual cell's truth, as a cell that was measured once would state it."""
    from drivers.sim.bead import pool_length_mm
    from drivers.sim.profile import PROFILE_HALF_WIDTH_MM, PROFILE_MM_PER_ROW
    from drivers.sim.scanner import RUN_ON_S, SCAN_MM_S
    from drivers.sim.views import VIEWS

    views = {}
    for name in program.views:
        centre = VIEWS[name].centre_mm(program.length_mm)
        along, across = VIEWS[name].marker_at_mm
        views[name] = [centre - along, centre + along, -across, across]
    scan = [-RUN_ON_S * SCAN_MM_S, PROFILE_MM_PER_ROW, PROFILE_HALF_WIDTH_MM]
    # What froze at s was fed while the arc crossed the pool ahead of it; on average half a pool later.
    lag_mm = 0.5 * pool_length_mm(program)
    return {
        "length_mm": program.length_mm,
        "lag_mm": lag_mm,
        "views": views,
        **({"scan": scan} if profiler else {}),
    }


_Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Streams, what each program says of its seams, and the arc detector's settings."""


def _cell_parts(endpoints: CellEndpoints) -> _Parts:
    from drivers.sim.arc_camera import EXPOSURE_MS
    from drivers.sim.chunks import MOTION_OPTIONS, READOUT_MS, WELDER_OPTIONS

    streams: dict[str, Any] = {
        "welder": {
            "driver": "welder.serial",
            "kind": "welder",
            "options": {"port": endpoints.welder_port, **WELDER_OPTIONS},
        },
        "mic": {
            "driver": "microphone.portaudio",
            "kind": "audio",
            "options": {"device": endpoints.microphone},
        },
        "arccam": {
            "driver": "camera.opencv",
            "kind": "video",
            "latency_ms": EXPOSURE_MS,
            "exposure_ms": EXPOSURE_MS,
            "readout_ms": READOUT_MS,
            # It sends every frame over TCP, so counting them is a better clock than their arrival.
            "options": {"source": endpoints.arc_url, "rate_hz": 30.0, "counted": True},
        },
        "resultcam": {
            "driver": "camera.opencv",
            "kind": "result",
            "options": {"source": endpoints.result_url, "kind": "result", "rate_hz": 10.0},
        },
        "motion": {
            "driver": "motion.csv_serial",
            "kind": "motion",
            "options": {"port": endpoints.motion_port, **MOTION_OPTIONS},
        },
    }
    limits = {"required": ["welder", "audio", "video"], "optional": ["motion"], "result_deadline_s": 8.0}
    return streams, limits, {}


def _intel_parts(endpoints: CellEndpoints) -> _Parts:
    """The cell's own streams with a 9 Hz log's limits: the same ones under which a real log is imported."""
    from drivers.sim.intel import LOG_HZ

    streams, _, _ = _cell_parts(endpoints)
    for name in ("welder", "motion"):
        streams[name]["max_gap_ms"] = MAX_GAP_MS
    limits = {
        "required": ["welder", "audio"],
        "optional": ["video", "motion"],
        "merge_gap_s": 1.0,
        "max_sync_residual_ms": MAX_SYNC_RESIDUAL_MS,
        "result_deadline_s": INTEL_DEADLINE_S,
    }
    return streams, limits, {"hold_ms": LOG_PERIODS_HELD * 1e3 / LOG_HZ}


_PROFILES: dict[Profile, Callable[[CellEndpoints], _Parts]] = {"cell": _cell_parts, "intel": _intel_parts}
PROFILES: tuple[Profile, ...] = tuple(_PROFILES)


def profile_named(name: str) -> Profile:
    """The profile of that name. Raises ValueError naming the known ones."""
    for profile in PROFILES:
        if profile == name:
            return profile
    raise ValueError(f"profile {name!r} is not known; known: {', '.join(PROFILES)}")
