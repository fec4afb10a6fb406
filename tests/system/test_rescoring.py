"""`kill -9` between a seam's last input and its verdict: the restarted daemon scores it with the real worker."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.recording import is_complete, open_recordings
from edged.types import Label
from edged.watch import received
from edged.wire import VerdictMessage
from tests.support.running import PATIENCE_S, cell_config, running_daemon, wait_for_status, write_weld


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


def _verdicts(folder: Path, count: int) -> list[Any]:
    found: list[VerdictMessage] = []
    for _, message in received(f"ipc://{folder}/verdicts.sock", PATIENCE_S):
        if isinstance(message, VerdictMessage) and message not in found:
            found.append(message)
        if len(found) == count:
            return found
    raise AssertionError((folder / "daemon.log").read_text())


def test_a_seam_that_only_lacked_its_score_gets_it_after_the_restart(folder: Path) -> None:
    write_weld(folder / "weld.csv", 4.0, (1.5,), 60.0)
    config = cell_config(folder, folder / "weld.csv")
    recordings = folder / "data" / "recordings"
    with running_daemon(config) as daemon:
        worker = wait_for_status(config)["health"]["worker"]["pid"]
        os.kill(worker, signal.SIGSTOP)  # it will not answer
        while not (found := open_recordings(recordings)) or not is_complete(found[0]):
            assert daemon.poll() is None
        daemon.kill()
        daemon.wait()
    (left,) = found
    write_weld(folder / "weld.csv", 3.0, (1.0,), 60.0, current_a=180.0)
    with running_daemon(config):
        old, new = sorted(_verdicts(folder, 2), key=lambda verdict: verdict.seam_id)
    assert (old.seam_id, old.label, old.reason) == (left.stem, Label.OK, "ok")
    assert old.detail.endswith("scored from its recording after a restart")
    assert old.arc_s == pytest.approx(1.5, abs=0.1)
    assert old.stage_ms["worker_finish"] > 0
    assert (recordings / f"{left.stem}.mcap").exists()
    assert open_recordings(recordings) in ([], [recordings / f"{new.seam_id}.open"])
    assert (new.label, new.reason) == (Label.NOK, "score_above_threshold")
    assert {old.sequence, new.sequence} == {1, 2}
