"""The Python of README.md and docs/integrators.md runs as it stands, but for the endpoints."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq

from edged.control import Control
from tests.support.source import Source, free_endpoint

ROOT = Path(__file__).parents[4]
PATIENCE_S = 30


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def lines_of(program: str, count: int, folder: Path) -> list[str]:
    """The first lines that a program prints, which is then ended."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)}
    ) as run:
        assert run.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, run.kill)
        watchdog.start()
        found = [run.stdout.readline().rstrip("\n") for _ in range(count)]
        watchdog.cancel()
        run.kill()
    return found


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (next(block for block in blocks("README.md") if "edged.client" in block), r"[12] s (True|False)"),
        (blocks("docs/integrators.md")[0], r"[12] S\S+ (not OK|OK)"),
        (blocks("docs/integrators.md")[1].replace("Client(", 'Client("tcp://127.0.0.1:5560", '), r"[12] True"),
    ],
)
def test_clients_of_the_docs(program: str, printed: str, tmp_path: Path) -> None:
    with Source(tmp_path / "journal.db", free_endpoint()) as source:
        source.add(1, "T1")
        source.add(1, "T2")
        assert "tcp://127.0.0.1:5560" in program
        for line in lines_of(program.replace("tcp://127.0.0.1:5560", source.verdicts), 2, tmp_path):
            assert re.fullmatch(printed, line), line


def test_expect_of_the_docs(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def expect(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"ok": True, "seam_id": "01J"}

    program = blocks("docs/integrators.md")[2] + "print(seam_id, flush=True)\n"
    with zmq.Context() as context:
        control = Control(context, f"ipc://{tmp_path}/control.sock", {"expect": expect})
        program = program.replace("ipc:///var/lib/edged/run/control.sock", control.endpoint)
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.extend(lines_of(program, 1, tmp_path)))
        reader.start()
        while reader.is_alive():
            control.socket.poll(20)
            control.serve()
        control.close()
    assert found == ["01J"]
    assert asked == [{"op": "expect", "program": "bracket", "part_id": "P-1", "seam_ref": "1"}]
