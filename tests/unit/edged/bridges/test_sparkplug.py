"""Sparkplug B: bytes that others read, birth and death, sequence numbers, and what is told of the past."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.bridges.mqtt_messages import Outgoing
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.sparkplug import DEVICE_METRICS, SparkplugSession
from edged.bridges.sparkplug_payload import KINDS, Metric, PayloadError, decode, encode
from edged.types import Label
from tests.support.wire_maps import JOURNAL_ID, a_heartbeat_map, a_part_map, a_verdict_map

CONFIG = MqttConfig(host="127.0.0.1", without_tls="on_loopback", sparkplug_group="plant", sparkplug_node="box")
NOW_MS = 1_800_000_000_500


def a_session(bd_seq: int = 7) -> SparkplugSession:
    return SparkplugSession(CONFIG, "cell/1", bd_seq, lambda: NOW_MS)


def live(session: SparkplugSession, last_sequence: int = 0) -> list[Outgoing]:
    out = session.opened() + session.state("live")
    return out + session.told("heartbeat", a_heartbeat_map(last_sequence))


def verdict(session: SparkplugSession, sequence: int, **changes: Any) -> list[Outgoing]:
    return session.entry("verdict/T1", sequence, JOURNAL_ID, a_verdict_map(sequence, **changes))


def kinds(messages: Iterable[Outgoing]) -> list[str]:
    return [message.topic.split("/")[2] for message in messages]


def seqs(messages: Iterable[Outgoing]) -> list[int | None]:
    return [decode(message.payload)[2] for message in messages]


def values(message: Outgoing) -> dict[str, Any]:
    return {metric.name: metric.value for metric in decode(message.payload)[0]}


def test_bytes_are_those_of_the_specification() -> None:
    # By hand: timestamp is field 1, metrics 2, seq 3; of a metric name 1, timestamp 3, datatype 4, long_value 11.
    metric = b"\x0a\x05bdSeq" + b"\x18\x02" + b"\x20\x04" + b"\x58\x07"
    assert (
        encode([Metric("bdSeq", "Int64", 7)], 2, 0)
        == b"\x08\x02" + b"\x12" + bytes([len(metric)]) + metric + b"\x18\x00"
    )


scalars = st.one_of(
    st.tuples(st.just("Int64"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("UInt8"), st.integers(0, 255)),
    st.tuples(st.just("UInt64"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("Double"), st.floats(allow_nan=False)),
    st.tuples(st.just("Boolean"), st.booleans()),
    st.tuples(st.just("String"), st.text()),
    st.tuples(st.sampled_from(sorted(KINDS)), st.none()),
)
metrics = st.builds(
    lambda name, scalar, at, old: Metric(name, scalar[0], scalar[1], at, old),
    st.text(), scalars, st.integers(0, 2**64 - 1), st.booleans(),
)  # fmt: skip


@given(st.lists(metrics, max_size=8), st.integers(0, 2**64 - 1), st.integers(0, 255) | st.none())
def test_round_trip(sent: list[Metric], timestamp_ms: int, seq: int | None) -> None:
    assert decode(encode(sent, timestamp_ms, seq)) == (sent, timestamp_ms, seq)


@given(st.binary(max_size=300))
def test_nothing_that_a_host_sends_breaks_it(payload: bytes) -> None:
    session = a_session()
    live(session)
    out = session.command("spBv1.0/plant/NCMD/box", payload)
    assert out == [] or kinds(out) == ["NBIRTH", "DBIRTH"]


def test_birth_certificates() -> None:
    session = a_session(bd_seq=7)
    will, out = session.will, live(session)
    assert will.topic == "spBv1.0/plant/NDEATH/box"
    assert (will.qos, will.retain) == (1, False)
    assert decode(will.payload)[2] is None
    assert values(will) == {"bdSeq": 7}
    assert [message.topic for message in out[:2]] == ["spBv1.0/plant/NBIRTH/box", "spBv1.0/plant/DBIRTH/box/cell%2F1"]
    assert all((message.qos, message.retain) == (0, False) for message in out)
    assert values(out[0]) == {"bdSeq": 7, "Node Control/Rebirth": False}
    assert seqs(out) == [0, 1, 2]
    names = {f"{group}/{field}" for group, fields in DEVICE_METRICS.items() for field in fields}
    assert set(values(out[1])) == names
    assert values(out[1])["verdict/label"] is None


def test_nothing_of_the_device_before_its_birth() -> None:
    session = a_session()
    assert kinds(session.opened()) == ["NBIRTH"]
    assert kinds(verdict(session, 1)) == ["DBIRTH", "DDATA"]


def test_a_verdict_is_data_with_its_own_time() -> None:
    session = a_session()
    live(session)
    (data,) = verdict(session, 1, label=Label.NOK)
    found = values(data)
    assert (found["verdict/label"], found["verdict/sequence"], found["verdict/seam_id"]) == (2, 1, "01J")
    assert found["verdict/decided_utc"] == 1_800_000_000_000
    assert all(metric.timestamp_ms == 1_800_000_000_000 for metric in decode(data.payload)[0])
    (part,) = session.entry("part", 2, JOURNAL_ID, a_part_map(2))
    assert values(part)["part/part_id"] == "p"


@pytest.mark.parametrize("label", [3, -1, True, "1", None, 1.0, [1]])
def test_only_a_well_formed_label_is_ever_ok(label: Any) -> None:
    session = a_session()
    live(session)
    (data,) = session.entry("verdict/T1", 1, JOURNAL_ID, {**a_verdict_map(), "label": label})
    assert values(data)["verdict/label"] == 0


def test_fields_of_a_wrong_type_are_unknown() -> None:
    session = a_session()
    live(session)
    wrong = {"score": float("nan"), "program": 5, "seam_id": "\ud800", "decided_utc_ns": "x", "is_simulated": 1}
    (data,) = session.entry("verdict/T1", 2**70, JOURNAL_ID, {**a_verdict_map(), **wrong})
    found = values(data)
    assert [found[f"verdict/{name}"] for name in ("score", "program", "seam_id", "is_simulated", "sequence")] == [
        None
    ] * 5
    assert found["verdict/decided_utc"] == NOW_MS


def test_sequence_numbers_wrap_after_255() -> None:
    session = a_session()
    out = live(session)
    for sequence in range(1, 300):
        out += verdict(session, sequence)
    assert seqs(out) == [number % 256 for number in range(len(out))]


def test_backlog_is_historical_and_a_birth_makes_its_end_current() -> None:
    session = a_session()
    out = live(session, last_sequence=3)
    assert not any(metric.is_historical for message in out for metric in decode(message.payload)[0])
    first, second = verdict(session, 1), verdict(session, 2)
    for message in first + second:
        assert all(metric.is_historical for metric in decode(message.payload)[0])
    data, birth = verdict(session, 3, label=Label.NOK)
    assert kinds([data, birth]) == ["DDATA", "DBIRTH"]
    assert (values(birth)["verdict/sequence"], values(birth)["verdict/label"]) == (3, 2)
    (news,) = verdict(session, 4)
    assert not any(metric.is_historical for metric in decode(news.payload)[0])
    assert not any(metric.is_historical for metric in decode(birth.payload)[0])


def test_entries_before_the_first_heartbeat_are_historical() -> None:
    session = a_session()
    session.opened()
    _, data = verdict(session, 4)
    assert all(metric.is_historical for metric in decode(data.payload)[0])
    assert kinds(session.told("heartbeat", a_heartbeat_map(4)))[-1] == "DBIRTH"


def test_a_silent_daemon_is_a_dead_device() -> None:
    session = a_session()
    live(session)
    (death,) = session.state("stale")
    assert death.topic == "spBv1.0/plant/DDEATH/box/cell%2F1"
    assert session.state("stale") == []
    assert kinds(session.state("live")) == ["DBIRTH"]
    session.told("heartbeat", a_heartbeat_map(9))
    (late,) = verdict(session, 8)
    assert all(metric.is_historical for metric in decode(late.payload)[0])


def test_rebirth_on_command_only() -> None:
    session = a_session(bd_seq=3)
    live(session)
    verdict(session, 1)
    topic = session.subscriptions[0]
    assert topic == "spBv1.0/plant/NCMD/box"
    out = session.command(topic, encode([Metric("Node Control/Rebirth", "Boolean", True)], 1, None))
    assert kinds(out) == ["NBIRTH", "DBIRTH"]
    assert seqs(out) == [0, 1]
    assert values(out[0])["bdSeq"] == 3
    assert values(out[1])["verdict/sequence"] == 1
    for ignored in (b"nonsense", encode([Metric("Node Control/Rebirth", "Boolean", False)], 1, None), b"x" * 70_000):
        assert session.command(topic, ignored) == []
    assert session.rejected_commands == 3


def test_a_node_that_leaves_says_so() -> None:
    session = a_session(bd_seq=258)
    assert session.closing() == [session.will]
    assert values(session.will) == {"bdSeq": 2}


def test_heartbeats_say_what_changed() -> None:
    session = a_session()
    live(session)
    assert session.told("heartbeat", a_heartbeat_map(0)) == []
    (data,) = session.told("heartbeat", a_heartbeat_map(0, armed=["T1", "T2"], state="degraded"))
    assert values(data) == {"daemon/armed": "T1,T2", "daemon/state": "degraded"}
    assert session.told("health", {"state": "ok"}) == []


def test_kinds_are_checked() -> None:
    with pytest.raises(PayloadError, match="'Int8' is none of"):
        encode([Metric("x", "Int8", 1)], 0, 0)
