"""docs/verdict.md as a specification: its numbers, words and lists are those of the code."""

import re
from pathlib import Path

import pytest

from edged import acknowledgements, journal_desk, publisher, router, wire
from edged.wire import HeartbeatMessage, PartMessage, VerdictMessage
from tests.unit.edged.test_journal_desk import CODES

DOC = (Path(__file__).parents[3] / "docs" / "verdict.md").read_text(encoding="utf-8")
FLAT = " ".join(DOC.split())
JOURNAL_SOCKET = DOC.split("## 5 The journal socket")[1].split("## 6 ")[0]


def test_its_first_words_are_about_quality_and_never_safety() -> None:
    assert DOC.split("\n\n")[1].startswith("**edged judges quality. It is never a safety device")


def test_every_code_of_the_journal_socket_is_documented_and_no_other() -> None:
    table = JOURNAL_SOCKET.split("| code |")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == CODES


def test_every_op_of_the_journal_socket_is_documented_and_no_other() -> None:
    table = JOURNAL_SOCKET.split("| op |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == ["snapshot", "range", "ack", "ping"]


@pytest.mark.parametrize(
    ("said", "is_"),
    [
        (r"published payload \| (\d+) bytes", wire.MAX_PAYLOAD_BYTES),
        (r"queue for a subscriber \| (\d+) messages", publisher.SEND_QUEUE_MESSAGES),
        (r"subscription \| (\d+) bytes", publisher.MAX_SUBSCRIPTION_BYTES),
        (r"journal socket \| (\d+) bytes; ", journal_desk.MAX_REQUEST_BYTES),
        (r"journal socket \| \d+ bytes; (\d+)", journal_desk.LIMITS.message_bytes),
        (r"connection \| (\d+) at once", journal_desk.LIMITS.burst),
        (r"at once, then (\d+) a second", router.PER_S),
        (r"requests of all \| (\d+) a turn", router.REQUESTS_PER_TURN),
        (r"wait in a queue of (\d+)", router.RECEIVE_QUEUE_MESSAGES),
        (r"wait for a peer \| (\d+) ", journal_desk.LIMITS.send_queue_messages),
        (r"`along` \| (\d+) points", wire.MAX_TIMELINE_POINTS),
        (r"`along` \| (\d+) points", wire.MAX_ALONG_POINTS),
        (r"map of at most (\d+) bytes that has `op`", journal_desk.MAX_REQUEST_BYTES),
        (r"or a text of at most (\d+) characters\) is optional", journal_desk.MAX_ID_CHARS),
        (r"newest first \(at most (\d+)\)", journal_desk.MAX_TOPICS),
        (r"oldest first; at most (\d+) and 1 MiB", journal_desk.MAX_ENTRIES),
        (r"`client` has 1 to (\d+) characters", journal_desk.MAX_CLIENT_CHARS),
        (r"Texts have at most (\d+) characters", wire.MAX_TEXT_CHARS),
    ],
)
def test_numbers_are_those_of_the_code(said: str, is_: int) -> None:
    found = re.search(said, FLAT)
    assert found, said
    assert int(found[1]) == is_


def test_an_answer_is_never_larger_than_said() -> None:
    found = re.search(r"An answer has at most 1\.25 MiB \((\d+) bytes\)", FLAT)
    assert found
    overhead = 4096 + journal_desk.MAX_CLIENT_CHARS
    assert journal_desk.MAX_ANSWER_BYTES + overhead <= int(found[1])
    longest_topic = 520 + journal_desk.ENTRY_OVERHEAD_BYTES
    room = journal_desk.MAX_ANSWER_BYTES - journal_desk.MAX_TOPICS * longest_topic
    assert room > wire.MAX_PAYLOAD_BYTES  # so that a first entry that is given in any case does not go beyond
    assert acknowledgements.MAX_CLIENTS == 64


def test_what_may_be_missing_is_what_has_a_default() -> None:
    rule = FLAT.split("**9.2**")[1].split("**9.3**")[0]
    of_verdict, of_part, of_heartbeat = (rule.split(f"of `{kind}`")[1] for kind in ("verdict", "part", "heartbeat"))

    def named(text: str) -> set[str]:
        return set(re.findall(r"`(\w+)`", text.split(";")[0]))

    def later(model: type[wire.Message]) -> list[str]:
        return [name for name, field in model.model_fields.items() if not field.is_required() and name != "kind"]

    assert named(of_verdict) == set(later(VerdictMessage))
    assert named(of_part) == set(later(PartMessage))
    assert "all after `utc_ns`" in of_heartbeat
    fields = list(HeartbeatMessage.model_fields)
    assert later(HeartbeatMessage) == fields[fields.index("utc_ns") + 1 :]


def test_rules_are_numbered_without_a_hole() -> None:
    numbers = [(int(a), int(b)) for a, b in re.findall(r"^- \*\*(\d+)\.(\d+)", DOC, re.M)]
    for section in {a for a, _ in numbers}:
        rules = [b for a, b in numbers if a == section]
        assert rules == list(range(1, len(rules) + 1)), section
