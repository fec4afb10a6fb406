"""The fuzzer for some seconds: it reaches every socket, and would tell of one who ends, grows or keeps quiet."""

import tempfile
from pathlib import Path

import pytest

from tests.fuzz.__main__ import Found, fuzz, markdown
from tests.fuzz.attacks import ATTACKS
from tests.fuzz.world import WITNESS, World


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
    """A daemon may grow as one does that nobody attacks, a bridge may not."""
    start = {"daemon": 10.0, "daemon with keys": 10.0, WITNESS: 10.0, "modbus": 10.0}
    end = {"daemon": 23.0, "daemon with keys": 25.0, WITNESS: 20.0, "modbus": 14.5}
    found = Found(rss_mb=[start, start, end], counters={"daemon": {"refused": 1}, "daemon with keys": {}})
    assert found.problems() == [
        f"daemon with keys grew from 10.0 to 25.0 MB, {WITNESS} by 10.0",
        f"modbus grew from 10.0 to 14.5 MB, {WITNESS} by 10.0",
        "daemon with keys counted nothing",
    ]
