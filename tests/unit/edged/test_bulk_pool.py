"""The pool for bulk work: an error ends the work that has not begun instead of waiting for all of it."""

import threading
from pathlib import Path

import pytest

from edged.bulk_pool import bulk_pool


def _leave(mark: Path) -> None:
    threading.Event().wait(0.02)  # work of some length
    mark.touch()


def _work_until_an_error(marks: list[Path]) -> None:
    with bulk_pool(1) as pool:
        results = pool.map(_leave, marks)
        next(results)
        # `results` is still there: an iterator that is dropped would give up the rest by itself.
        raise OSError(f"disk full, {results}")


def test_after_an_error_no_new_work_is_begun(tmp_path: Path) -> None:
    marks = [tmp_path / str(number) for number in range(200)]
    with pytest.raises(OSError, match="disk full"):
        _work_until_an_error(marks)
    assert 0 < len(list(tmp_path.iterdir())) < len(marks) / 2
