"""The virtual cell's renderer: a child process of low priority that renders seams before their arc-on.

Apart from the cell, so that rendering never makes its pacing stutter. Speaks lines: `N` in, the path of the
rendered seam out; ends when its input ends.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from drivers.sim.rendered_file import load_rendered, plans_from_json, save_rendered
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam

__all__ = ["RendererProcess"]

NICENESS = 10
LOOK_AHEAD = 2
"""Seams rendered before they are asked for."""


class RendererProcess:
    """The cell's side: `next()` gives the plans' seams in their order."""

    def __init__(self, plan_path: Path, workdir: Path, preset: str, seams: int) -> None:
        self._asked = 0
        self._seams = seams
        command = [sys.executable, "-m", "drivers.sim.renderer", str(plan_path), str(workdir), preset]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=env
        )
        self._closing = threading.Event()
        for _ in range(LOOK_AHEAD):
            self._ask()

    def next(self) -> RenderedSeam | None:
        """The next seam, waiting for it; None after `close`. Raises RuntimeError when the renderer died."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            if self._closing.is_set():
                return None
            raise RuntimeError(f"the renderer ended with exit code {self._child.wait()}; its error is above")
        path = Path(line.strip())
        rendered = load_rendered(path)
        path.unlink()
        self._ask()
        return rendered

    def close(self) -> None:
        """End the renderer at once."""
        self._closing.set()
        self._child.kill()
        self._child.wait()

    def _ask(self) -> None:
        assert self._child.stdin is not None
        if self._asked < self._seams:
            self._child.stdin.write(f"{self._asked}\n")
            self._child.stdin.flush()
            self._asked += 1


def main(plan_path: str, workdir: str, preset: str) -> None:
    """Render the plans whose numbers come on stdin."""
    from drivers.sim.process import die_with_parent
    from drivers.sim.render import render_seam

    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the cell ends its renderer
    os.nice(NICENESS)
    plans = plans_from_json(Path(plan_path).read_text(encoding="utf-8"))
    for line in sys.stdin:
        number = int(line)
        path = Path(workdir) / f"rendered-{number:06d}.npz"
        save_rendered(path, render_seam(plans[number], IMAGE_PRESETS[preset]))
        print(path, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
