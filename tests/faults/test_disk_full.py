"""The disk of the recordings is full: the running daemon says so in every verdict, and is well again with room."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.types import Label
from tests.support.running import cell_config, running_daemon, write_weld
from tests.support.welding import Subscriber, wait_for


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its recordings lie on a disk of one megabyte; socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        disk = Path(path) / "data" / "recordings"
        disk.mkdir(parents=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("mounting a tmpfs is not allowed here")
        yield Path(path)
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_full_disk_is_never_ok_and_ends_with_room(folder: Path) -> None:
    filler = folder / "data" / "recordings" / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    write_weld(folder / "weld.csv", 6.0, (1.0, 1.0, 1.0, 1.0), 2.0)
    subscriber = Subscriber(f"ipc://{folder}/verdicts.sock")
    subscriber.start()
    try:
        with running_daemon(cell_config(folder, folder / "weld.csv")):
            wait_for(lambda: subscriber.verdicts, "a verdict while the disk is full")
            filler.unlink()
            wait_for(lambda: len(subscriber.verdicts) == 4, "the other verdicts")
    finally:
        subscriber.close()
    first, last = subscriber.verdicts[0], subscriber.verdicts[-1]
    assert (first["label"], first["reason"], first["recording"]) == (Label.INDETERMINATE, "not_recorded", None)
    assert "No space left on device" in first["detail"]
    assert (last["label"], last["reason"]) == (Label.OK, "ok"), last["detail"]
    assert Path(last["recording"]).exists()
    assert subscriber.sequences == [1, 2, 3, 4]
