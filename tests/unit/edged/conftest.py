"""What several of these tests need: a ZeroMQ context that leaves nothing behind, and a real journal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from edged.journal import Journal


@pytest.fixture
def context() -> Iterator[Any]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db", reserve_bytes=65536)
    yield journal
    journal.close()
