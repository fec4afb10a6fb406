"""The configuration of the virtual cell: the same streams, views and programs for demo, simulate and training.

The demo opens these drivers on real transports; bulk simulation only uses their names and limits.
"""

import dataclasses
from pathlib import Path
from typing import Any

from edged.config import Config, parse_config
from edged.types import Mode

__all__ = ["CellEndpoints", "virtual_cell_config"]


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
) -> tuple[dict[str, Any], Config]:
    """The cell as a TOML-ready dict and as the validated `Config`; `profiler`: with a laser that scans every seam."""
    from drivers.sim.arc_camera import EXPOSURE_MS
    from drivers.sim.chunks import MOTION_OPTIONS, WELDER_OPTIONS
    from drivers.sim.programs import PROGRAMS, VIEW_NAMES
    from drivers.sim.scanner import PROFILER_OPTIONS, SCAN_S, SCAN_SETTLE_S, SCAN_VIEW

    programs = {
        name: {
            "mode": mode,
            "travel_speed_mm_s": program.travel_mm_s,
            "views": [*program.views, *((SCAN_VIEW,) if profiler else ())],
            "required": ["welder", "audio", "video"],
            "optional": ["motion"],
            "result_deadline_s": 8.0,
            **({"model": model} if model is not None else {}),
        }
        for name, program in PROGRAMS.items()
    }
    raw: dict[str, Any] = {
        "cell": {"name": "virtual-cell", "data_dir": str(data_dir), "is_simulated": True},
        "streams": {
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
                "options": {"source": endpoints.arc_url, "rate_hz": 30.0},
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
        },
        "views": {name: {"stream": "resultcam", "settle_ms": 150.0} for name in VIEW_NAMES},
        "programs": programs,
        "net": {"verdicts": verdicts},
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
