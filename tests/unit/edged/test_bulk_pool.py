"""The pool for bulk work: an error ends the work that has not begun instead of waiting for all of it."""

import threading
from pathlib import Path

import pytest

from edged.bulk_pool import bulk_pool


def _leave(mark: Path) -> None:
    if mark.name == "0":
        raise ValueError("no mark 0")
    threading.Event().wait(0.02)  # work of some length
    mark.touch()


def test_after_an_error_no_new_work_is_begun(tmp_path: Path) -> None:
    marks = [tmp_path / str(number) for number in range(200)]
    with pytest.raises(ValueError, match="no mark 0"), bulk_pool(1) as pool:
        list(pool.map(_leave, marks))
    assert len(list(tmp_path.iterdir())) < len(marks) / 2
