"""Retained JSON: topics, availability, what is told when, and nothing that JSON cannot hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edged.bridges.mqtt_json import JsonSession
from edged.bridges.mqtt_messages import Outgoing, to_json, topic_level
from edged.bridges.settings_mqtt import MqttConfig
from edged.types import Label
from tests.support.wire_maps import JOURNAL_ID, a_heartbeat_map, a_part_map, a_verdict_map

CONFIG = MqttConfig(host="127.0.0.1", without_tls="on_loopback", state_every_s=10.0)


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(clock: Clock) -> JsonSession:
    return JsonSession(CONFIG, "cell 1", clock)


def by_topic(messages: list[Outgoing]) -> dict[str, Any]:
    assert all(message.retain and message.qos == 1 for message in messages)
    found = {message.topic.removeprefix("edged/cell 1/"): message.payload for message in messages}
    return {
        name: payload.decode() if name == "availability" else json.loads(payload) for name, payload in found.items()
    }


def test_available_only_while_the_daemon_is_heard(session: JsonSession) -> None:
    assert session.will == Outgoing("edged/cell 1/availability", b"offline", 1, retain=True)
    assert by_topic(session.opened())["availability"] == "offline"
    session.told("heartbeat", a_heartbeat_map(5))
    live = by_topic(session.state("live"))
    assert (live["availability"], live["state"]["state"], live["state"]["last_sequence"]) == ("online", "ok", 5)
    stale = by_topic(session.state("stale"))
    assert (stale["availability"], stale["state"]["state"], stale["state"]["daemon"]) == ("offline", "fault", "stale")
    assert by_topic(session.closing()) == {"availability": "offline"}


def test_verdicts_and_parts_under_their_topics(session: JsonSession) -> None:
    found = by_topic(session.entry("verdict/T1", 7, JOURNAL_ID, a_verdict_map(7, Label.NOK)))
    assert found["verdict/T1"]["label"] == 2
    assert found["verdict/T1"]["sequence"] == 7
    assert found["verdict/T1"]["timeline"] == a_verdict_map(7)["timeline"]
    part = by_topic(session.entry("part", 8, JOURNAL_ID, a_part_map(8)))
    assert part["part"]["seams"][0]["seam_id"] == "01J"
    odd = session.entry("verdict/a/b+#", 9, JOURNAL_ID, a_verdict_map(9))
    assert [message.topic for message in odd] == ["edged/cell 1/verdict/a%2Fb%2B%23"]


@pytest.mark.parametrize("label", [3, True, "1", None, 1.0])
def test_only_a_well_formed_label_is_ever_ok(session: JsonSession, label: Any) -> None:
    found = by_topic(session.entry("verdict/T1", 7, JOURNAL_ID, {**a_verdict_map(7), "label": label}))
    assert found["verdict/T1"]["label"] == 0


def test_state_and_health_on_change_and_every_so_often(session: JsonSession, clock: Clock) -> None:
    health = {"kind": "health", "state": "ok", "warnings": [], "worker": {"busy_s": 1.0}}
    assert len(session.told("heartbeat", a_heartbeat_map(1))) == 1
    assert len(session.told("health", health)) == 1
    clock.ns = 9_000_000_000
    assert session.told("heartbeat", a_heartbeat_map(2)) == []
    assert session.told("health", {**health, "worker": {"busy_s": 2.0}}) == []
    assert by_topic(session.told("heartbeat", a_heartbeat_map(2, state="degraded")))["state"]["last_sequence"] == 2
    assert by_topic(session.told("health", {**health, "warnings": ["x"]}))["health"]["warnings"] == ["x"]
    clock.ns = 19_000_000_000
    assert len(session.told("heartbeat", a_heartbeat_map(2, state="degraded"))) == 1
    assert len(session.told("health", {**health, "warnings": ["x"]})) == 1


def test_lost_entries_are_counted(session: JsonSession) -> None:
    assert by_topic(session.lost(3, 5))["state"]["lost_entries"] == 3


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), anything, max_size=5))
def test_json_whatever_msgpack_held(message: dict[str, Any]) -> None:
    found = json.loads(to_json(message), parse_constant=pytest.fail)
    assert len(found) == len({str(key) for key in message})


def test_endless_nesting_ends_no_process() -> None:
    nested: Any = 1
    for _ in range(600):
        nested = [nested]
    assert json.loads(to_json({"x": nested, "y": 1}))["y"] == 1


@given(st.text())
def test_one_level_and_reversible(name: str) -> None:
    level = topic_level(name)
    assert level
    assert not set("/+#\0$") & set(level)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"host": "broker.local", "without_tls": "on_loopback"}, "is not this machine"),
        ({"host": "127.0.0.1", "without_tls": "on_loopback", "ca_file": "x.pem"}, "contradict each other"),
        ({"host": "b", "cert_file": "x.pem"}, "belong together"),
        ({"host": "b", "prefix": "a/b"}, "prefix"),
        ({"host": "b", "sparkplug_group": "#"}, "sparkplug_group"),
        ({"host": "b", "passwort": "x"}, "passwort"),
    ],
)
def test_settings_say_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MqttConfig.model_validate(wrong)


def test_ports() -> None:
    assert MqttConfig(host="b").broker_port == 8883
    assert CONFIG.broker_port == 1883
    assert MqttConfig(host="b", port=1).broker_port == 1
