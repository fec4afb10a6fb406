"""Verdicts as OPC UA results: names, types, and that nothing but a well-formed label 1 is OK."""

import datetime
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.bridges.opcua_result import FIELDS, NOT_DECIDABLE, NOT_OK, OK, UNDEFINED, entities_of, result_of
from edged.types import Label
from tests.support.wire_maps import JOURNAL_ID, a_part_map, a_verdict_map

PYTHON = {
    "String": str, "DateTime": datetime.datetime, "Int32": int, "Int64": int, "UInt64": int, "Byte": int,
    "Boolean": bool, "Double": float,
}  # fmt: skip


def test_a_seam() -> None:
    found = result_of("verdict/T1", 7, JOURNAL_ID, a_verdict_map(7, Label.NOK))
    assert found["ResultId"] == "01J"
    assert found["CreationTime"] == datetime.datetime(2027, 1, 15, 8, tzinfo=datetime.UTC)
    assert (found["ResultEvaluation"], found["ResultEvaluationCode"], found["SequenceNumber"]) == (NOT_OK, 2, 7)
    assert (found["Classification"], found["ExternalRecipeId"], found["PartId"]) == (1, "T1", "p")
    assert (found["IsSimulated"], found["IsPartial"], found["Score"]) == (True, False, 0.5)
    assert entities_of(a_verdict_map()) == [("part", "p"), ("seam", "s"), ("program", "T1"), ("torch", "t1")]


def test_a_part() -> None:
    found = result_of("part", 8, JOURNAL_ID, a_part_map(8))
    assert (found["ResultId"], found["Classification"], found["ResultEvaluation"]) == (f"{JOURNAL_ID}-8", 4, OK)


@pytest.mark.parametrize(
    ("label", "mode", "evaluation"),
    [(1, "armed", OK), (2, "armed", NOT_OK), (0, "armed", NOT_DECIDABLE), (0, "shadow", UNDEFINED)],
)
def test_evaluations(label: int, mode: str, evaluation: int) -> None:
    assert result_of("verdict/T1", 1, "J", {"label": label, "mode": mode})["ResultEvaluation"] == evaluation


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just([])


@given(st.dictionaries(st.sampled_from(sorted(a_verdict_map())), anything))
def test_whatever_comes_every_field_has_its_type(message: dict[str, Any]) -> None:
    found = result_of("verdict/T1", 1, "J", message)
    assert list(found) == list(FIELDS)
    for name, value in found.items():
        assert type(value) is PYTHON[FIELDS[name]], name
    is_label = type(message.get("label")) is int and message["label"] == 1
    assert (found["ResultEvaluation"] == OK) is is_label
    assert found["Score"] == found["Score"] or math.isnan(found["Score"])
    found["ResultEvaluationDetails"].encode()
