"""Seams of one session of the virtual cell, recorded once for all tests of the verbs."""

from pathlib import Path

import pytest

from tests.support.process_recordings import ProcessSeam, write_process

PROGRAMS = ("short-butt-3", "globular-fillet-6", "spray-lap-5", "pulsed-lap-4", "short-lap-3")


@pytest.fixture(scope="session")
def process_seams(tmp_path_factory: pytest.TempPathFactory) -> list[ProcessSeam]:
    """One seam of each of five programs; their folder is `[0].path.parent`."""
    folder = tmp_path_factory.mktemp("process")
    return [write_process(folder, program, "calibration-a", 10 + k) for k, program in enumerate(PROGRAMS)]


@pytest.fixture(scope="session")
def moved_seams(tmp_path_factory: pytest.TempPathFactory) -> list[ProcessSeam]:
    """Two of them in another session: another microphone's place and gain."""
    folder: Path = tmp_path_factory.mktemp("moved")
    return [write_process(folder, program, "calibration-b", 30 + k) for k, program in enumerate(PROGRAMS[:2])]
