"""The wire format: round trip, limits, and that docs/verdict.md tells the truth."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from edged import wire, wire_encode
from edged.types import REASONS, Health, Label
from edged.watch import worst_place
from pipelines.window import AlongPoint, TimelinePoint
from tests.support.verdicts import a_part, a_point, a_score, a_verdict

PAIR = wire.TimePair(monotonic_ns=0, utc_ns=1_800_000_000_000_000_000)
DOC = Path(__file__).parents[3] / "docs" / "verdict.md"

anything = st.floats() | st.none()
texts = st.text(max_size=2000)
labels = st.sampled_from(list(Label))


@given(
    label=labels,
    score=anything,
    p_value=anything,
    current=anything,
    value=st.floats(),
    detail=texts,
    part=texts | st.none(),
)
def test_round_trip_and_no_nan(
    label: Label, score: Any, p_value: Any, current: Any, value: float, detail: str, part: str | None
) -> None:
    verdict = a_verdict(
        label=label,
        detail=detail,
        mean_current_a=current,
        score=a_score(
            score=score,
            p_value=p_value,
            explain={"x": value},
            timeline=(TimelinePoint(1.0, value, value),),
            along=(AlongPoint(0.5, value), AlongPoint(1.5, 0.25)),
        ),
    )
    verdict = dataclasses.replace(verdict, seam=dataclasses.replace(verdict.seam, part_id=part))
    if label != Label.INDETERMINATE and (score is None or not math.isfinite(score)):
        with pytest.raises(wire.WireError, match="finite score"):
            wire_encode.encode_verdict(verdict, "j", 7, PAIR)
        return
    payload = wire.pack(sent := wire_encode.encode_verdict(verdict, "j", 7, PAIR))
    message = wire.decode("verdict/T1", payload)
    assert isinstance(message, wire.VerdictMessage)
    assert msgpack.unpackb(payload, use_list=False) == msgpack.unpackb(
        wire.pack(wire.as_map(message)), use_list=False
    )
    assert all(math.isfinite(number) for number in _floats(msgpack.unpackb(payload)))
    assert message.label == sent["label"] == label
    assert message.explain == {"x": value if math.isfinite(value) else None}
    assert message.along == [(0.5, value), (1.5, 0.25)][not math.isfinite(value) :]
    assert len(message.detail) <= wire.MAX_TEXT_CHARS
    assert message.arc_on_utc_ns == PAIR.utc_ns + 10_000_000_000


def test_part_round_trip() -> None:
    message = wire.decode(b"part", wire.pack(wire_encode.encode_part(a_part(Label.NOK, "seam_nok"), "j", 3)))
    assert isinstance(message, wire.PartMessage)
    assert (message.label, message.sequence, message.seams[0].label) == (Label.NOK, 3, Label.NOK)


def test_live_round_trip_keeps_monotonic_time_inside() -> None:
    seam = a_verdict().seam
    sent = wire_encode.encode_live(seam, a_point(mm=math.nan, without=("audio",)), PAIR, is_simulated=True)
    message = wire.decode(b"live", wire.pack(wire.as_map(sent)))
    assert message == sent
    assert isinstance(message, wire.LiveMessage)
    assert (message.mm, message.score, message.raw_score, message.without) == (None, 0.4, 1.2, ["audio"])
    assert message.until_utc_ns == PAIR.utc(seam.arc_on_ns) + 300_000_000
    assert "label" not in wire.as_map(sent)


def test_health_keeps_monotonic_time_inside() -> None:
    health = Health("w", "welder", "ok", math.nan, 10_000.0, 5, 0, 0, 0, 0, 2_000_000_000, None, None, None)
    entry = wire_encode.encode_health(health, PAIR)
    assert entry.last_utc_ns == PAIR.utc_ns + 2_000_000_000
    assert entry.measured_hz is None


def test_unknown_fields_are_ignored_and_other_schemas_refused() -> None:
    sent = wire_encode.encode_verdict(a_verdict(), "j", 1, PAIR) | {"colour": "blue"}
    assert isinstance(wire.decode("verdict/x", wire.pack(sent)), wire.VerdictMessage)
    with pytest.raises(wire.WireError, match="schema 2"):
        wire.decode("verdict/x", wire.pack(sent | {"schema": 2}))


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("verdict/x", b""),
        ("verdict/x", b"\xc1"),
        ("verdict/x", msgpack.packb([1])),
        ("verdict/x", msgpack.packb({1: 1})),
        ("verdict/x", msgpack.packb({"schema": 1})),
        ("verdict/x", b"\x91" * 2000),
        ("verdict/x", b"\x00" * (wire.MAX_PAYLOAD_BYTES + 1)),
        ("weather", msgpack.packb({"schema": 1})),
    ],
)
def test_bad_bytes_are_refused(topic: str, payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(topic, payload)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(payload: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode("part", payload)


def test_a_long_timeline_keeps_its_peak() -> None:
    points = tuple(TimelinePoint(i / 100, None, 9.0 if i == 1234 else 0.1) for i in range(60_000))
    sent = wire_encode.encode_verdict(a_verdict(score=a_score(timeline=points)), "j", 1, PAIR)
    assert len(sent["timeline"]) <= wire.MAX_TIMELINE_POINTS
    assert max(sent["timeline"], key=lambda p: p[2])[0] == pytest.approx(12.34)


def test_places_are_bounded_and_older_messages_have_none() -> None:
    points = tuple(AlongPoint(float(i), 0.5) for i in range(5000))
    sent = wire_encode.encode_verdict(a_verdict(score=a_score(along=points)), "j", 1, PAIR)
    assert len(sent["along"]) == wire.MAX_ALONG_POINTS
    older = {name: value for name, value in sent.items() if name != "along"}
    found = wire.decode("verdict/x", wire.pack(older))
    assert isinstance(found, wire.VerdictMessage)
    assert found.along == []
    assert wire_encode.encode_verdict(a_verdict(label=Label.INDETERMINATE, score=None), "j", 1, PAIR)["along"] == []


@pytest.mark.parametrize(
    ("score", "along", "shown"),
    [
        (1.4, [(2.5, 0.3), (12.4, 1.3), (20.0, 0.9)], "12 mm"),
        (0.9, [(2.5, 0.3), (12.4, 0.8)], ""),  # a good seam has a worst place too, and it means nothing
        (1.4, [(2.5, 0.3)], ""),  # the process gave the verdict, or the seam as a whole
        (1.4, [], ""),
        (None, [(2.5, 3.0)], ""),
    ],
)
def test_a_person_is_told_where_a_bad_seam_looks_worst(
    score: float | None, along: list[tuple[float, float]], shown: str
) -> None:
    assert worst_place(along, score) == shown


def test_too_big_is_refused() -> None:
    with pytest.raises(wire.WireError, match="limit"):
        wire.pack({"kind": "x", "blob": b"x" * wire.MAX_PAYLOAD_BYTES})


def test_time_pair_converts() -> None:
    pair = wire.TimePair.now()
    assert pair.utc(pair.monotonic_ns + 5) == pair.utc_ns + 5
    assert wire.TimePair(10**18, 0).utc(0) == 0


@pytest.mark.parametrize(
    ("heading", "model", "also"),
    [
        ("## `verdict/<program>`", wire.VerdictMessage, {"schema"}),
        ("Each value of `integrity`", wire.IntegrityMessage, set()),
        ("`arc`, over arc time", wire.ArcMessage, set()),
        ("Each entry of `limits`", wire.LimitMessage, set()),
        ("Each entry of a stream in `sensor_health`", wire.FindingMessage, set()),
        ("## `part`", wire.PartMessage, {"schema"}),
        ("## `health`", wire.HealthMessage, {"schema"}),
        ("Each value of `streams`", wire.StreamHealthMessage, set()),
        ("Each value of `programs`", wire.ProgramHealthMessage, set()),
        ("Each value of `acknowledgements`", wire.AcknowledgementMessage, set()),
        ("## `heartbeat`", wire.HeartbeatMessage, {"schema"}),
        ("## `live`", wire.LiveMessage, {"schema"}),
    ],
)
def test_every_field_is_documented(heading: str, model: type[BaseModel], also: set[str]) -> None:
    section = DOC.read_text(encoding="utf-8").split(f"\n{heading}")[1]
    table = re.search(r"\n\| field .*?\n\n", section, re.DOTALL)
    assert table
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", table[0], re.MULTILINE)
    assert {name for name, _, _ in rows} == set(model.model_fields) | also


def test_every_reason_is_documented() -> None:
    table = DOC.read_text(encoding="utf-8").split("## Reasons")[1]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)) == REASONS


def _floats(value: Any) -> list[float]:
    if isinstance(value, float):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for item in inner for number in _floats(item)]
