"""The wire format stays what it was: golden bytes against today's encoder and decoder, and the schema."""

import copy
import json
from typing import Any

import jsonschema
import msgpack
import pytest

from edged.types import Label
from edged.wire import MESSAGES, PartMessage, VerdictMessage, WireError, as_map, decode
from edged.wire_schema import message_schema
from tests.support.golden import FOLDER, SCHEMA_FILE, exchanges, messages, readable, rendered_schema

MADE = messages()
VALIDATOR = jsonschema.Draft202012Validator(message_schema())


def golden(name: str) -> tuple[bytes, dict[str, Any]]:
    return (FOLDER / f"{name}.bin").read_bytes(), json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MADE)
def test_the_encoder_of_today_gives_the_golden_bytes(name: str) -> None:
    packed, beside = golden(f"message_{name}")
    topic, payload = MADE[name]
    assert payload == packed
    assert beside == {"topic": topic, "content": readable(packed)}


@pytest.mark.parametrize("name", MADE)
def test_the_decoder_of_today_reads_the_golden_bytes(name: str) -> None:
    packed, beside = golden(f"message_{name}")
    message = decode(beside["topic"], packed)
    assert type(message) is MESSAGES[beside["topic"].partition("/")[0]]
    given, read = beside["content"], readable(msgpack.packb(as_map(message)))
    if "newer" in name or "older" in name:
        common = given.keys() & read.keys() - {"integrity"}
        assert {key: given[key] for key in common} == {key: read[key] for key in common}
        assert len(common) > 45
    else:
        assert read == given


def test_the_labels_are_the_numbers_that_they_always_were() -> None:
    labels = {name: golden(f"message_verdict_{name}")[1]["content"]["label"] for name in ("ok", "nok", "shadow")}
    assert labels == {"ok": 1, "nok": 2, "shadow": 0}


def test_every_exchange_gives_the_golden_answer() -> None:
    found = list(exchanges())
    for name, request, answer in found:
        for what, packed in (("request", request), ("answer", answer)):
            kept, beside = golden(f"{what}_{name}")
            assert packed == kept, f"{what}_{name}"
            assert beside == {"content": readable(kept)}
    names = {f"{what}_{name}" for name, _, _ in found for what in ("request", "answer")}
    assert {path.stem for path in FOLDER.glob("*.*n")} == names | {f"message_{name}" for name in MADE}


def test_the_schema_in_the_docs_is_the_one_of_today() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == rendered_schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", MADE)
def test_golden_messages_are_as_the_schema_says(name: str) -> None:
    VALIDATOR.validate(golden(f"message_{name}")[1]["content"])


@pytest.mark.parametrize("name", ["answer_range", "answer_snapshot"])
def test_entries_of_answers_are_as_the_schema_says(name: str) -> None:
    entries = msgpack.unpackb(golden(name)[0])["entries"]
    assert len(entries) >= 2
    for sequence, topic, payload in entries:
        message = decode(topic, payload)
        assert isinstance(message, VerdictMessage | PartMessage)
        assert message.sequence == sequence
        VALIDATOR.validate(readable(payload))


@pytest.mark.parametrize(
    "change",
    [
        {"label": 3},
        {"label": "1"},
        {"label": True},
        {"shadow_label": "1"},
        {"label": None},
        {"schema": 2},
        {"kind": "weld"},
        {"sequence": -1},
        {"sequence": 1.5},
        {"seam_id": "x" * 1001},
        {"mode": "off"},
        {"timeline": [[0.1, None]]},
        {"integrity": {"welder": {"kind": "welder"}}},
    ],
)
def test_decoder_and_schema_refuse_the_same(change: dict[str, Any]) -> None:
    content = golden("message_verdict_ok")[1]["content"] | change
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(content)
    with pytest.raises(WireError):
        decode("verdict/T1", msgpack.packb(content))


def test_what_is_missing_is_refused_by_both() -> None:
    whole = golden("message_verdict_ok")[1]["content"]
    older = golden("message_verdict_of_an_older_daemon")[1]["content"]
    for key in older:
        content = copy.copy(whole)
        del content[key]
        assert not VALIDATOR.is_valid(content), key
        if key != "kind":
            with pytest.raises(WireError):
                decode("verdict/T1", msgpack.packb(content))


def test_every_label_is_in_the_schema() -> None:
    assert message_schema()["$defs"]["Label"]["enum"] == [label.value for label in Label]
