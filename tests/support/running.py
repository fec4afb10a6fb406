"""The real daemon in its own process, on a cell of files: one welder log, paced like a device."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from edged.control import ask
from tests.support.models import write_band_model

__all__ = ["PATIENCE_S", "RATE_HZ", "cell_config", "running_daemon", "wait_for_status", "write_weld"]

RATE_HZ = 1000
PATIENCE_S = 60.0


def write_weld(path: Path, lead_s: float, arcs_s: tuple[float, ...], tail_s: float, current_a: float = 150.0) -> None:
    """A log of arcs with 2 s between them; like every arc's, its current and voltage never stand still."""
    parts = [(lead_s, 0.0)]
    for arc_s in arcs_s:
        parts += [(arc_s, current_a), (2.0, 0.0)]
    parts.append((tail_s, 0.0))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["I", "U"])
        for seconds, current in parts:
            for k in range(round(seconds * RATE_HZ)):
                ripple = (0.5, -0.5)[k % 2] if current else 0.0
                writer.writerow([current + ripple, 20.0 + ripple if current else 0.0])


def cell_config(folder: Path, weld: Path, **program: Any) -> Path:
    """A config with an armed program T1 whose model knows 150 A; its sockets lie in `folder`: keep it short."""
    model = folder / "model"
    if not model.exists():
        write_band_model(model)
    raw = {
        "cell": {"name": "test", "data_dir": str(folder / "data"), "default_program": "T1", "is_simulated": True},
        "streams": {
            "welder": {
                "driver": "welder.file",
                "kind": "welder",
                "options": {
                    "path": str(weld),
                    "rate_hz": RATE_HZ,
                    "columns": ["I", "U"],
                    "channels": ["current", "voltage"],
                    "units": ["A", "V"],
                },
            }
        },
        "programs": {"T1": {"mode": "armed", "model": str(model), "required": ["welder"], **program}},
        "net": {"verdicts": f"ipc://{folder}/verdicts.sock", "control": f"ipc://{folder}/control.sock"},
    }
    config = folder / "edged.toml"
    config.write_text(tomli_w.dumps(raw))
    return config


@contextlib.contextmanager
def running_daemon(config: Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """`edged run`, killed at the end if it still runs; its log is `daemon.log` beside the config."""
    command = [sys.executable, "-m", "edged.cli", "run", "--config", str(config)]
    with (config.parent / "daemon.log").open("ab") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.wait()


def wait_for_status(config: Path) -> dict[str, Any]:
    """The first answer of a daemon that starts, once its worker is ready."""
    end = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(TimeoutError):
            answer = ask(f"ipc://{config.parent}/control.sock", {"op": "status"}, 1.0)
            if answer["health"]["worker"]["state"] == "ready":
                return answer
        assert time.monotonic() < end, (config.parent / "daemon.log").read_text()
