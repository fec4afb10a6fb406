"""The register map: docs/modbus.md prints it, numbers are for ever, values come back as they went in."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged import types
from edged.bridges import modbus_codes as codes
from edged.bridges.modbus_map import (
    HOLDING,
    HOLDING_COUNT,
    INPUT,
    INPUT_COUNT,
    RESULT_COUNT,
    Field,
    TextError,
    get,
    get_text,
    put,
    table,
)

DOC = (Path(__file__).parents[4] / "docs" / "modbus.md").read_text(encoding="utf-8")


def _rows(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


TABLES = {
    "input registers": table(INPUT),
    "holding registers": table(HOLDING),
    "status": "\n".join(_rows(bit, f"`{name}`", what) for name, (bit, what) in codes.STATUS.items()),
    "faults": "\n".join(
        _rows(bit, f"`{name}`", what, "FaultReset" if is_latched else "by itself")
        for name, (bit, what, is_latched) in codes.FAULTS.items()
    ),
    "reasons": "\n".join(_rows(number, f"`{word}`", types.REASONS[word]) for word, number in codes.REASONS.items()),
    "answers": "\n".join(_rows(number, what) for number, what in codes.ANSWERS.items()),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_prints_the_table_of_the_code(name: str) -> None:
    found = re.search(rf"<!-- begin {name} -->\n(.*?)\n<!-- end {name} -->", DOC, re.DOTALL)
    assert found is not None
    assert found[1] == TABLES[name]


def test_every_reason_has_a_number_of_its_own_and_none_has_moved() -> None:
    assert set(types.REASONS) <= set(codes.REASONS), "give the new reason the next number in modbus_codes"
    assert len(set(codes.REASONS.values())) == len(codes.REASONS)
    assert all(0 < number < codes.OTHER_REASON for number in codes.REASONS.values())
    first = "ok score_above_threshold limit limit_unknown sensor unknown_program collecting shadow no_arc no_result"
    then = "no_model no_threshold stream_missing stream_broken sync calibration arc_count arc_too_short worker_failed"
    last = "overload interrupted not_recorded seam_nok seam_indeterminate seam_missing seam_extra part_budget"
    assert list(codes.REASONS)[:27] == [*first.split(), *then.split(), *last.split()]
    assert [codes.REASONS[word] for word in list(codes.REASONS)[:27]] == list(range(1, 28))
    assert codes.reason_code("a word of a newer edged") == codes.reason_code(None) == 255


@pytest.mark.parametrize(("fields", "count"), [(INPUT, INPUT_COUNT), (HOLDING, HOLDING_COUNT)])
def test_fields_lie_in_the_map_and_do_not_overlap(fields: dict[str, Field], count: int) -> None:
    taken = [address for field in fields.values() for address in range(field.address, field.address + field.count)]
    assert len(taken) == len(set(taken))
    assert max(taken) < count


def test_status_and_result_fit_one_request_with_their_counters_at_both_ends() -> None:
    assert INPUT["block_end"].address + 1 == RESULT_COUNT <= 125
    assert HOLDING_COUNT <= 123


def test_the_order_of_registers_and_bytes() -> None:
    registers = [0] * INPUT_COUNT
    put(registers, INPUT["sequence"], 0x0001_0002_0003_0004)
    assert registers[8:12] == [1, 2, 3, 4]
    put(registers, INPUT["score_milli"], -2)
    assert registers[20:22] == [0xFFFF, 0xFFFE]
    put(registers, INPUT["part_id"], "AB1")
    assert registers[58:61] == [0x4142, 0x3100, 0]


NUMBERS = [field for field in INPUT.values() if field.kind != "text"]


@given(field=st.sampled_from(NUMBERS), value=st.integers(-(2**70), 2**70))
@settings(deadline=None)
def test_numbers_come_back_clamped_to_what_fits(field: Field, value: int) -> None:
    registers = [7] * INPUT_COUNT
    put(registers, field, value)
    bits = 16 * field.count
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if field.kind.startswith("i") else (0, 2**bits - 1)
    assert get(registers, field) == min(max(value, low), high)
    outside = registers[: field.address] + registers[field.address + field.count :]
    assert set(outside) == {7}


ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=70)


@given(field=st.sampled_from([HOLDING["program"], HOLDING["part_id"], HOLDING["torch"]]), text=ASCII)
@settings(deadline=None)
def test_texts_come_back_without_the_blanks_at_their_end(field: Field, text: str) -> None:
    registers = [0] * HOLDING_COUNT
    is_whole = put(registers, field, text)
    assert is_whole == (len(text) <= 2 * field.count)
    assert get_text(registers, field) == text[: 2 * field.count].rstrip(" ")


@given(raw=st.binary(min_size=2 * HOLDING_COUNT, max_size=2 * HOLDING_COUNT))
@settings(deadline=None)
def test_any_registers_are_a_text_or_say_that_they_are_none(raw: bytes) -> None:
    registers = [int.from_bytes(raw[place : place + 2], "big") for place in range(0, len(raw), 2)]
    for field in (HOLDING["program"], HOLDING["view"]):
        wanted = raw[2 * field.address : 2 * (field.address + field.count)].partition(b"\0")[0].rstrip(b" ")
        if all(0x20 <= character < 0x7F for character in wanted):
            assert get_text(registers, field) == wanted.decode()
        else:
            with pytest.raises(TextError, match=field.name):
                get_text(registers, field)
