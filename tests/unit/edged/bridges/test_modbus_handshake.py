"""The handshake with a PLC, without sockets: what stands in the registers after what."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.bridges.modbus_codes import FAULTS, STATUS
from edged.bridges.modbus_commands import ACCEPTED, BAD_TEXT, REFUSED, STALE, UNKNOWN_COMMAND, Answer, Command
from edged.bridges.modbus_handshake import Handshake
from edged.bridges.modbus_map import HOLDING, INPUT, put
from edged.client import Entry, Position
from tests.support.modbus_plc import values

BEAT = {"state": "ok", "armed": ["T1"], "is_simulated": False}
TRIGGER, ACK, RESET = 1, 2, 4


def _entry(sequence: int, label: int = 1, topic: str = "verdict/T1", journal: str = "J", **more: Any) -> Entry:
    message = {
        "label": label,
        "sequence": sequence,
        "seam_id": f"S{sequence}",
        "program": "T1",
        "reason": "ok",
        "is_simulated": False,
        "degraded": False,
        **more,
    }
    return Entry(journal, sequence, topic, message, b"")


class _Cell:
    """A handshake and everything it told."""

    def __init__(self, queue: int = 2, live: bool = True, **options: Any) -> None:
        self.changes = 0
        self.commands: list[Command] = []
        self.acknowledged: list[int] = []
        self.shake = Handshake(
            queue=queue,
            on_change=self._changed,
            on_command=self.commands.append,
            on_acknowledged=lambda entry: self.acknowledged.append(entry.sequence),
            **options,
        )
        if live:
            self.shake.heartbeat(BEAT)
            self.shake.daemon_is("live")

    def _changed(self) -> None:
        self.changes += 1

    def toggle(self, bit: int, **fields: int | str) -> None:
        """The PLC's one write."""
        for name, value in fields.items():
            put(self.shake.holding, HOLDING[name], value)
        self.shake.holding[0] ^= bit
        self.shake.written()

    @property
    def fields(self) -> dict[str, Any]:
        return values(self.shake.image)

    @property
    def status(self) -> set[str]:
        return {name for name, (bit, _) in STATUS.items() if self.fields["status"] >> bit & 1}

    @property
    def faults(self) -> set[str]:
        return {name for name, (bit, _, _) in FAULTS.items() if self.fields["faults"] >> bit & 1}


def test_before_the_daemon_is_heard_nothing_is_ok() -> None:
    cell = _Cell(live=False)
    assert cell.status == {"fault"}
    assert cell.faults == {"stale"}
    assert sum(cell.shake.image[3:]) == 0


@pytest.mark.parametrize(("label", "bits"), [(0, set()), (1, {"ok"}), (2, {"nok"})])
def test_a_result_is_shown_with_its_bits(label: int, bits: set[str]) -> None:
    cell = _Cell()
    assert cell.status == {"ready", "armed"}
    cell.shake.entry(_entry(7, label, score=1.25, part_id="P-1", seam_ref="2", reason="limit", mode="armed"))
    assert cell.status == {"ready", "armed", "result_valid"} | bits
    fields = cell.fields
    assert fields["block_begin"] == fields["block_end"] == 1
    assert (fields["sequence"], fields["label"], fields["score_milli"]) == (7, label, 1250)
    assert (fields["part_id"], fields["seam_ref"], fields["seam_id"]) == ("P-1", "2", "S7")
    assert (fields["reason"], fields["mode"], fields["flags"]) == (3, 3, 4)


def test_a_result_is_held_until_its_acknowledgement_toggles() -> None:
    cell = _Cell()
    for sequence in (1, 2, 3):
        cell.shake.entry(_entry(sequence))
    assert (cell.fields["sequence"], cell.fields["waiting"]) == (1, 2)
    cell.shake.written()  # a write that toggles nothing
    assert cell.fields["sequence"] == 1
    cell.toggle(ACK)
    assert (cell.fields["sequence"], cell.fields["waiting"], cell.fields["seen"]) == (2, 1, ACK)
    cell.toggle(ACK)
    cell.toggle(ACK)
    assert cell.status == {"ready", "armed"}
    assert cell.fields["block_begin"] == cell.fields["label"] == cell.fields["sequence"] == 0
    assert cell.acknowledged == [1, 2, 3]
    assert cell.shake.position == Position("J", 3)


def test_an_acknowledgement_without_a_result_or_for_another_one_does_nothing() -> None:
    cell = _Cell()
    cell.toggle(ACK)
    cell.shake.entry(_entry(2**33 + 5))
    cell.toggle(ACK, ack_sequence=4)
    assert cell.fields["sequence"] == 2**33 + 5
    assert cell.fields["ignored_acks"] == 2
    cell.toggle(ACK, ack_sequence=5)
    assert cell.acknowledged == [2**33 + 5]


def test_a_stale_daemon_takes_everything_back_and_the_result_returns_with_it() -> None:
    cell = _Cell()
    cell.shake.entry(_entry(4))
    cell.shake.daemon_is("stale")
    assert cell.status == {"fault"}
    assert cell.fields["block_begin"] == cell.fields["label"] == 0
    cell.toggle(ACK)  # of something that is not shown
    cell.shake.daemon_is("live")
    assert cell.status == {"ready", "armed", "result_valid", "ok"}
    assert cell.fields["sequence"] == 4


def test_a_daemon_in_fault_is_a_fault_that_goes_with_its_cause() -> None:
    cell = _Cell()
    cell.shake.heartbeat({**BEAT, "state": "fault"})
    assert cell.status == {"fault", "armed", "degraded"}
    assert cell.faults == {"daemon"}
    cell.shake.heartbeat({**BEAT, "state": "degraded"})
    assert cell.status == {"ready", "armed", "degraded"}


def test_overflow_is_a_fault_and_what_did_not_fit_is_read_again_after_a_reset() -> None:
    cell = _Cell(queue=1)
    for sequence in (1, 2, 3, 4):
        cell.shake.entry(_entry(sequence))
    assert cell.faults == {"overflow"}
    cell.toggle(ACK)
    cell.shake.entry(_entry(5))  # behind a hole: it must not be taken
    assert (cell.fields["sequence"], cell.fields["waiting"]) == (2, 0)
    assert not cell.shake.read_again
    cell.toggle(RESET)
    assert cell.faults == set()
    assert cell.shake.read_again
    assert cell.shake.last_taken == Position("J", 2)
    cell.shake.entry(_entry(6))  # still of the client that is being left
    assert cell.fields["waiting"] == 0
    cell.shake.read_again = False
    cell.shake.entry(_entry(3))
    assert cell.fields["waiting"] == 1


def test_lost_results_and_another_journal_are_faults_until_reset() -> None:
    cell = _Cell()
    cell.shake.lost()
    cell.shake.new_journal()
    assert cell.faults == {"lost", "new_journal"}
    assert "ready" not in cell.status
    cell.shake.entry(_entry(1))
    assert "result_valid" in cell.status
    cell.toggle(RESET)
    assert cell.faults == set()
    assert not cell.shake.read_again


def test_an_expect_is_asked_once_and_busy_until_its_verdict() -> None:
    cell = _Cell()
    cell.toggle(TRIGGER, program="T1", part_id="P 1  ", seam_ref="3", pass_index=2)
    assert cell.commands == [
        Command("expect", {"program": "T1", "part_id": "P 1", "seam_ref": "3", "pass_index": 2}),
    ]
    assert "busy" in cell.status
    assert cell.fields["seen"] == 0
    cell.shake.written()
    assert len(cell.commands) == 1
    cell.shake.answered(Answer(ACCEPTED, "S9"))
    assert (cell.fields["answer"], cell.fields["answer_seam_id"], cell.fields["seen"]) == (ACCEPTED, "S9", TRIGGER)
    assert {"busy", "trigger"} <= cell.status
    cell.shake.entry(_entry(8))
    assert "busy" in cell.status
    cell.shake.entry(_entry(9))
    assert "busy" not in cell.status


def test_a_refusal_and_a_second_trigger_meanwhile() -> None:
    cell = _Cell()
    cell.toggle(TRIGGER, program="T1")
    cell.toggle(TRIGGER)  # before there is an answer
    assert len(cell.commands) == 1
    cell.shake.answered(Answer(REFUSED, text="program: none of T1"))
    assert len(cell.commands) == 2
    assert cell.fields["answer"] == 0
    cell.shake.answered(Answer(REFUSED, text="program: none of T1"))
    assert cell.fields["answer_text"] == "program: none of T1"
    assert "busy" not in cell.status


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({}, BAD_TEXT, "program: is empty; expect needs it"),
        ({"command": 3, "program": "T1"}, UNKNOWN_COMMAND, ""),
        ({"command": 1, "program": "T1"}, BAD_TEXT, "view: is empty; view needs it"),
        ({"command": 2}, BAD_TEXT, "part_id: is empty; end_part needs it"),
    ],
)
def test_a_command_that_makes_no_sense_is_answered_and_not_asked(
    fields: dict[str, Any], code: int, said: str
) -> None:
    cell = _Cell()
    cell.toggle(TRIGGER, **fields)
    assert (cell.fields["answer"], cell.fields["answer_text"]) == (code, said)
    assert cell.commands == []
    assert "busy" not in cell.status


def test_a_text_that_is_no_ascii_is_named() -> None:
    cell = _Cell()
    cell.shake.holding[HOLDING["program"].address] = 0x01FF
    cell.toggle(TRIGGER)
    assert cell.fields["answer"] == BAD_TEXT
    assert "program" in cell.fields["answer_text"]


def test_nothing_is_asked_of_a_daemon_that_is_not_there() -> None:
    cell = _Cell(live=False)
    cell.toggle(TRIGGER, program="T1")
    assert cell.fields["answer"] == STALE
    assert cell.commands == []


def test_after_a_restart_toggles_are_where_the_plc_left_them() -> None:
    cell = _Cell(position=Position("J", 3), toggles=ACK | TRIGGER)
    cell.shake.entry(_entry(4))
    assert cell.shake.holding[0] == ACK | TRIGGER
    cell.shake.holding[0] = ACK | TRIGGER  # the PLC's cyclic write
    cell.shake.written()
    assert cell.fields["sequence"] == 4
    cell.toggle(ACK)
    assert cell.acknowledged == [4]


def test_a_first_result_is_remembered_before_it_is_acknowledged() -> None:
    cell = _Cell()
    cell.shake.entry(_entry(12))
    assert cell.shake.position == Position("J", 11)
    assert cell.changes == 1


def test_parts_are_shown_unless_the_section_says_otherwise() -> None:
    part = _entry(5, topic="part", reason="seam_missing", label=0)
    cell = _Cell()
    cell.shake.entry(part)
    assert (cell.fields["kind"], cell.fields["reason"]) == (2, 25)
    without = _Cell(parts=False)
    without.shake.entry(part)
    assert "result_valid" not in without.status


def test_armed_is_said_of_the_programs_that_are_shown() -> None:
    assert "armed" not in _Cell(programs=("T2",)).status
    assert "armed" in _Cell(programs=("T2", "T1")).status


def test_simulated_and_degraded_are_told_and_doubt_counts_as_both() -> None:
    cell = _Cell()
    cell.shake.entry(_entry(1, is_simulated=None, degraded=None))
    assert cell.fields["flags"] & 0b11 == 0b11


def test_a_text_too_long_is_cut_and_said_to_be() -> None:
    cell = _Cell()
    cell.shake.entry(_entry(1, part_id="P" * 65))
    assert cell.fields["part_id"] == "P" * 64
    assert cell.fields["flags"] & 8
    cell.toggle(ACK)
    cell.shake.entry(_entry(2, part_id="Größe"))
    assert cell.fields["part_id"] == "Gr??e"
    assert cell.fields["flags"] & 8


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(message=st.dictionaries(st.sampled_from([*INPUT, "score", "decided_utc_ns", "degraded"]), JUNK, max_size=9))
@settings(max_examples=100, deadline=None)
def test_whatever_a_message_holds_the_registers_are_registers(message: dict[str, Any]) -> None:
    cell = _Cell()
    cell.shake.entry(Entry("J", 1, "verdict/T1", {**message, "label": 0}, b""))
    assert all(0 <= register < 2**16 for register in cell.shake.image)
    assert len(cell.shake.image) == 208
    assert cell.fields["label"] == 0
    assert "ok" not in cell.status


STEPS = st.lists(
    st.sampled_from(["entry", "ack", "stale", "live", "reset", "lost", "restart", "beat"]), min_size=1, max_size=60
)


@given(steps=STEPS, queue=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_no_result_is_lost_or_passed_over_whatever_happens(steps: list[str], queue: int) -> None:
    """A journal, a client that reads on behind `last_taken`, restarts, and a PLC that notes what it acknowledges."""
    cell = _Cell(queue=queue)
    written, handed, noted = 0, 0, []

    def feed() -> None:
        nonlocal handed
        if cell.shake.read_again:
            last = cell.shake.last_taken
            cell.shake.read_again, handed = False, 0 if last is None else last.sequence
        while handed < written:
            handed += 1
            cell.shake.entry(_entry(handed))

    for step in steps:
        if step == "entry":
            written += 1
        elif step == "ack":
            if "result_valid" in cell.status:
                noted.append(cell.fields["sequence"])
            cell.toggle(ACK)
        elif step == "restart":
            position, toggles = cell.shake.position, cell.shake.toggles
            cell = _Cell(queue=queue, position=position, toggles=toggles)
            handed = 0 if position is None else position.sequence
        elif step == "reset":
            cell.toggle(RESET)
        elif step == "lost":
            cell.shake.lost()
        elif step == "beat":
            cell.shake.heartbeat(BEAT)
        else:
            cell.shake.daemon_is(step)
        feed()
        if "ok" in cell.status:
            assert {"result_valid"} <= cell.status
            assert cell.faults.isdisjoint({"stale"})
    cell.shake.daemon_is("live")
    for _ in range(3 * written + 3):
        cell.toggle(RESET)
        feed()
        if "result_valid" in cell.status:
            noted.append(cell.fields["sequence"])
        cell.toggle(ACK)
        feed()
    assert noted == list(range(1, written + 1))
