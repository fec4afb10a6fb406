"""Where the journal socket stands, given where verdicts are published."""

import pytest

from edged.client.endpoints import journal_endpoint


@pytest.mark.parametrize(
    ("verdicts", "journal"),
    [
        ("tcp://127.0.0.1:5560", "tcp://127.0.0.1:5561"),
        ("tcp://[::1]:5560", "tcp://[::1]:5561"),
        ("tcp://cell-3.plant:65534", "tcp://cell-3.plant:65535"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("ipc:///run/edged/verdicts.sock", "ipc:///run/edged/verdicts.sock.journal"),
    ],
)
def test_it_is_the_next_port_or_the_file_beside(verdicts: str, journal: str) -> None:
    assert journal_endpoint(verdicts) == journal


@pytest.mark.parametrize(
    "verdicts",
    ["tcp://127.0.0.1:65535", "tcp://127.0.0.1:0", "tcp://127.0.0.1:²", "tcp://:5560", "ipc://", "inproc://x", ""],
)
def test_what_has_no_place_beside_it_is_refused_by_name(verdicts: str) -> None:
    with pytest.raises(ValueError, match="journal socket"):
        journal_endpoint(verdicts)
