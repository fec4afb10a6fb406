"""Log lines are JSON, name the seam, and take in what libraries log."""

import io
import json
import logging

import pytest

from edged.logs import configure_logging, seam_logging


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("test", stream)
    return stream


def test_seam_id_is_in_every_line(lines: io.StringIO) -> None:
    log = seam_logging("01J")
    log.info("arc on", torch="t1")
    log.warning("late")
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert (first["seam_id"], first["event"], first["torch"], first["process"]) == ("01J", "arc on", "t1", "test")
    assert (second["seam_id"], second["level"]) == ("01J", "warning")


def test_a_librarys_record_and_a_traceback_are_json(lines: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("lib").exception("failed")
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert (line["event"], line["level"]) == ("failed", "error")
    assert line["exception"][0]["exc_value"] == "broken"
