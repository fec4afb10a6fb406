"""The MQTT bridge against a real broker, read by mosquitto's own client; verdicts come from a real journal."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edged.bridges.daemon_link import BridgeError, DaemonLink
from edged.bridges.mqtt import feeds_of, serve
from edged.bridges.mqtt_feed import Access
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.sparkplug_payload import Metric, decode, encode
from edged.bridges.state_file import read_state
from edged.client import journal_endpoint
from edged.service import ServiceNotifier
from edged.types import Label
from tests.support.certificates import make_authority, make_certificate
from tests.support.mosquitto import Broker, Listening, free_port, needs_mosquitto, subscribed
from tests.support.source import Source, free_endpoint

pytestmark = needs_mosquitto

PATIENCE_S = 15.0


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(tmp_path / "journal.db", free_endpoint()) as running:
        yield running


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (folder := tmp_path / "broker").mkdir()
    with Broker(folder) as running:
        yield running


def link_to(source: Source) -> DaemonLink:
    return DaemonLink("cell", source.verdicts, source.journal, "ipc:///nowhere")


def settings(broker: Broker, folder: Path, **changes: Any) -> MqttConfig:
    fields: dict[str, Any] = {
        "host": "127.0.0.1", "port": broker.port, "without_tls": "on_loopback", "start": "first",
        "stale_after_s": 2.0, "state_file": folder / "state.json",
    }  # fmt: skip
    return MqttConfig.model_validate(fields | changes)


@contextlib.asynccontextmanager
async def bridge(config: MqttConfig, source: Source) -> AsyncIterator[None]:
    with contextlib.closing(ServiceNotifier(None)) as notifier:
        task = asyncio.ensure_future(serve(config, link_to(source), notifier))
        try:
            yield
            assert not task.done(), task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def hear(listening: Listening, topic: str, payload: bytes | None = None) -> bytes:
    return await asyncio.to_thread(listening.until, topic, payload)


async def hear_verdict(listening: Listening, sequence: int) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = json.loads(await hear(listening, "edged/cell/verdict/T1"))
        if found["sequence"] == sequence:
            return found


def test_who_comes_late_finds_the_last_verdict_and_whether_edged_is_there(
    tmp_path: Path, source: Source, broker: Broker
) -> None:
    async def scene() -> None:
        async with bridge(settings(broker, tmp_path), source):
            source.add(3)
            with subscribed(broker, "edged/#") as before:
                await hear_verdict(before, 3)
                await hear(before, "edged/cell/availability", b"online")
            with subscribed(broker, "edged/#") as late:
                assert json.loads(await hear(late, "edged/cell/verdict/T1"))["sequence"] == 3
                assert all(retained for _, retained, _ in late.messages)
                source.beats = False  # a daemon that falls silent
                await hear(late, "edged/cell/availability", b"offline")
                assert json.loads(await hear(late, "edged/cell/state"))["daemon"] == "stale"
        with subscribed(broker, "edged/cell/availability") as after:
            assert await hear(after, "edged/cell/availability") == b"offline"

    asyncio.run(scene())


def test_a_broker_that_was_away_gets_everything_in_order(tmp_path: Path, source: Source, broker: Broker) -> None:
    session = ("-c", "-i", "reader")  # the broker keeps what comes while the reader is away

    async def scene() -> list[int]:
        async with bridge(settings(broker, tmp_path), source):
            with subscribed(broker, "edged/cell/verdict/#", *session) as reader:
                source.add(2)
                await hear_verdict(reader, 2)
            await asyncio.to_thread(broker.stop)
            source.add(20)
            await asyncio.to_thread(broker.start)
            source.add(1)
            with subscribed(broker, "edged/cell/verdict/#", *session) as reader:
                await hear_verdict(reader, 23)
                return [json.loads(payload)["sequence"] for _, _, payload in reader.messages]

    sequences = asyncio.run(scene())
    fresh = [number for number in sequences if number > 2]
    assert sorted(set(fresh)) == list(range(3, 24))
    assert fresh == sorted(fresh)


def test_a_restarted_bridge_goes_on_where_the_broker_confirmed(
    tmp_path: Path, source: Source, broker: Broker
) -> None:
    async def scene() -> list[int]:
        config = settings(broker, tmp_path)
        with subscribed(broker, "edged/cell/verdict/#") as reader:
            async with bridge(config, source):
                source.add(2)
                await hear_verdict(reader, 2)
                while read_state(config.state_file).get("sequence") != 2:
                    await asyncio.sleep(0.01)
            source.add(3)
            async with bridge(config, source):
                await hear_verdict(reader, 5)
            return [json.loads(payload)["sequence"] for _, _, payload in reader.messages]

    assert asyncio.run(scene()) == [1, 2, 3, 4, 5]


def _metrics(payload: bytes) -> dict[str, Metric]:
    return {metric.name: metric for metric in decode(payload)[0]}


def test_sparkplug_birth_data_rebirth_and_the_death_of_a_killed_bridge(
    tmp_path: Path, source: Source, broker: Broker
) -> None:
    section = settings(broker, tmp_path, sparkplug_group="plant").model_dump(mode="json", exclude_none=True)
    raw = {
        "cell": {"name": "cell"},
        "streams": {"welder": {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/ttyUSB0"}}},
        "net": {"verdicts": source.verdicts},
        "bridges": {"mqtt": section},
    }
    (config := tmp_path / "edged.toml").write_text(tomli_w.dumps(raw))
    source.add(2, label=Label.NOK, reason="limit")
    command = [sys.executable, "-m", "edged.cli", "bridge", "mqtt", "--config", str(config)]
    with subscribed(broker, "spBv1.0/#") as host:
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        ) as child:
            try:
                birth = decode(host.until("spBv1.0/plant/NBIRTH/edged"))
                assert (birth[0][0].name, birth[2]) == ("bdSeq", 0)
                host.until("spBv1.0/plant/DBIRTH/edged/cell")
                old = _metrics(host.until("spBv1.0/plant/DDATA/edged/cell"))
                assert old["verdict/sequence"].value == 1
                assert old["verdict/label"].is_historical
                current = _metrics(host.until("spBv1.0/plant/DBIRTH/edged/cell"))
                assert (current["verdict/sequence"].value, current["verdict/label"].value) == (2, 2)
                source.add(1)
                while (news := _metrics(host.until("spBv1.0/plant/DDATA/edged/cell"))).get(
                    "verdict/sequence"
                ) is None:
                    pass
                assert (news["verdict/sequence"].value, news["verdict/label"].is_historical) == (3, False)
                _command(broker, encode([Metric("Node Control/Rebirth", "Boolean", True)], 1, None))
                assert decode(host.until("spBv1.0/plant/NBIRTH/edged"))[2] == 0
                assert _metrics(host.until("spBv1.0/plant/DBIRTH/edged/cell"))["verdict/sequence"].value == 3
            finally:
                child.send_signal(signal.SIGKILL)
        death = _metrics(host.until("spBv1.0/plant/NDEATH/edged"))
        assert death["bdSeq"].value == birth[0][0].value
        assert not any(retained for _, retained, _ in host.messages)


def _command(broker: Broker, payload: bytes) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", "spBv1.0/plant/NCMD/edged", "-s"]
    subprocess.run(command, input=payload, check=True, timeout=10)


@pytest.mark.filterwarnings(  # paho leaves the socket of a failed handshake to the garbage collector
    "ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
def test_tls_and_a_password(tmp_path: Path, source: Source) -> None:
    authority = make_authority(tmp_path / "ca.pem")
    make_certificate(authority, tmp_path / "broker.pem", tmp_path / "broker.key", "127.0.0.1")
    make_authority(tmp_path / "stranger.pem")
    (folder := tmp_path / "broker").mkdir()
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(tmp_path / "users"), "box", "secret"], check=True)
    for name in ("users", "broker.key", "broker.pem"):
        (tmp_path / name).chmod(0o644)
    tls = (f"certfile {tmp_path}/broker.pem", f"keyfile {tmp_path}/broker.key", f"password_file {tmp_path}/users")
    (credentials := tmp_path / "credentials.toml").write_text('username = "box"\npassword = "secret"\n')
    credentials.chmod(0o600)
    options = {"without_tls": "never", "ca_file": tmp_path / "ca.pem", "credentials_file": credentials}

    async def connected(broker: Broker, **changes: Any) -> bool:
        (feed,) = feeds_of(settings(broker, tmp_path, **(options | changes)), link_to(source))
        task = asyncio.ensure_future(feed.run())
        end_s = time.monotonic() + 1.5
        while not feed.is_connected and time.monotonic() < end_s:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return time.monotonic() < end_s

    with Broker(folder, *tls, anonymous=False) as broker:
        assert asyncio.run(connected(broker))
        assert not asyncio.run(connected(broker, ca_file=tmp_path / "stranger.pem"))
        assert not asyncio.run(connected(broker, credentials_file=None))


def test_secrets_that_others_may_read_are_refused(tmp_path: Path) -> None:
    (path := tmp_path / "credentials.toml").write_text('username = "box"\npassword = "secret"\n')
    path.chmod(0o640)
    config = MqttConfig(host="b", credentials_file=path)
    with pytest.raises(BridgeError, match="chmod 600"):
        Access.of(config)
    path.chmod(0o600)
    assert Access.of(config).username == "box"
    path.write_text("username = 3")
    with pytest.raises(BridgeError, match="username and password are needed"):
        Access.of(config)
    with pytest.raises(BridgeError, match="no usable PEM"):
        Access.of(MqttConfig(host="b", ca_file=path))


def test_a_broker_that_is_not_there_is_said_and_tried_again(tmp_path: Path, source: Source) -> None:
    port = free_port()
    config = MqttConfig(host="127.0.0.1", port=port, without_tls="on_loopback", state_file=tmp_path / "state.json")

    async def scene() -> int:
        async with bridge(config, source):
            while read_state(config.state_file).get("connections", 0) < 1:
                await asyncio.sleep(0.05)
        return int(read_state(config.state_file)["connections"])

    assert asyncio.run(scene()) >= 1
    assert journal_endpoint(source.verdicts) == source.journal
