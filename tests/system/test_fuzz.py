"""The fuzzer for some seconds: it reaches every socket, and would tell of one who ends, grows or keeps quiet."""

import tempfile
from pathlib import Path

import pytest

from tests.fuzz.__main__ import Found, fuzz, markdown
from tests.fuzz.attacks import ATTACKS
from tests.fuzz.world import World


@pytest.mark.slow
def test_nobody_ends_or_grows_and_it_is_counted() -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, World(Path(folder)) as world:
        found = fuzz(world, 1.0, first_seed=20_261_201, examples=12)
        assert found.problems() == []
        assert set(found.sent) == set(ATTACKS)
        assert found.counters["daemon with keys"]
        assert "| daemon with keys |" in markdown(found, "x")
        world.processes["modbus"].kill()
        world.processes["modbus"].wait(10)
        with pytest.raises(AssertionError, match="modbus has ended"):
            world.rss_mb()


def test_growth_and_silence_are_problems() -> None:
    found = Found(rss_mb=[{"a": 10.0, "b": 10.0}, {"a": 20.0, "b": 20.0}, {"a": 20.0, "b": 36.5}])
    found.counters = {"a": {"refused": 1}, "b": {}}
    assert found.problems() == ["b grew from 20.0 to 36.5 MB", "b counted nothing"]
