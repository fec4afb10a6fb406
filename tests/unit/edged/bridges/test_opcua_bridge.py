"""The OPC UA bridge against asyncua's client as a PLC; verdicts come from a real journal."""

import asyncio
import contextlib
import json
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import zmq
from asyncua import Client, ua
from asyncua.crypto import uacrypto
from structlog.testing import capture_logs

from edged.bridges.daemon_link import BridgeError, DaemonLink
from edged.bridges.opcua import OpcuaBridge
from edged.bridges.opcua_limits import MAX_UNPARSED_BYTES, BoundedServer
from edged.bridges.opcua_result import FIELDS
from edged.bridges.opcua_space import NAMESPACE, Space
from edged.bridges.opcua_trust import Trust, own_certificate
from edged.bridges.passwords import hash_password
from edged.bridges.private_file import write_private
from edged.bridges.settings_opcua import OpcuaConfig
from edged.control import Control
from edged.service import ServiceNotifier
from edged.types import Label
from tests.support.opcua_client import Events, Identity, make_identity, secure_client
from tests.support.source import Source, free_endpoint
from tests.support.wire_maps import a_verdict_map

PLC, VIEWER = ("plc", "secret"), ("viewer", "other")
PATIENCE_S = 15.0


@pytest.fixture(autouse=True)
def structlog_as_it_is() -> Iterator[None]:
    """Other tests configure structlog; logs are captured here."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(tmp_path / "journal.db", free_endpoint()) as running:
        yield running


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("clients")
    return {name: make_identity(folder, name) for name in ("plc", "stranger")}


@pytest.fixture
def folder(tmp_path: Path, identities: dict[str, Identity]) -> Path:
    (trusted := tmp_path / "ua" / "trusted").mkdir(parents=True)
    shutil.copy(identities["plc"].certificate, trusted)
    users = "".join(
        f'[{name}]\npassword = "{hash_password(password)}"\nrights = {json.dumps(rights)}\n'
        for (name, password), rights in ((PLC, ["verdict", "control"]), (VIEWER, ["verdict"]))
    )
    write_private(tmp_path / "ua" / "users.toml", users.encode())
    for made in own_certificate(identities["plc"].key.parent, "urn:edged:bridge"):  # RSA keys take a second to make
        shutil.copy2(made, tmp_path / "ua")
    return tmp_path / "ua"


class Running:
    """A bridge, and clients of it."""

    def __init__(self, bridge: OpcuaBridge, folder: Path, identity: Identity) -> None:
        self.bridge, self._folder, self._identity = bridge, folder, identity

    async def client(self, user: tuple[str, str] | None = PLC, identity: Identity | None = None) -> Client:
        return await secure_client(self.bridge.url, identity or self._identity, self._folder / "own.der", user)


@contextlib.asynccontextmanager
async def running(
    folder: Path, source: Source, identities: dict[str, Identity], control: str = "ipc:///nowhere", **changes: Any
) -> AsyncIterator[Running]:
    config = OpcuaConfig.model_validate(
        {"port": 0, "folder": folder, "stale_after_s": 2.0, "expect_timeout_s": 0.3, **changes}
    )
    bridge = OpcuaBridge(config, DaemonLink("cell", source.verdicts, source.journal, control))
    await bridge.start()
    with contextlib.closing(ServiceNotifier(None)) as notifier:
        task = asyncio.ensure_future(bridge.run(notifier))
        try:
            yield Running(bridge, folder, identities["plc"])
            assert not task.done(), task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await bridge.close()


async def node(client: Client, path: str) -> Any:
    return client.get_node(ua.NodeId(f"edged/{path}", await client.get_namespace_index(NAMESPACE)))


async def until(client: Client, path: str, value: Any) -> None:
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while (found := await (await node(client, path)).read_data_value(raise_on_bad_status=False)).Value.Value != value:
        assert asyncio.get_running_loop().time() < end_s, found
        await asyncio.sleep(0.01)


def test_results_as_structure_variables_event_and_history(
    folder: Path, source: Source, identities: dict[str, Identity]
) -> None:
    async def scene() -> None:
        source.add(3)
        async with running(folder, source, identities, history=4) as it, await it.client() as plc:
            await until(plc, "LastResult/SequenceNumber", 3)
            await plc.load_data_type_definitions()
            subscription = await plc.create_subscription(10, events := Events())
            kind = ua.NodeId("EdgedResultEventType", await plc.get_namespace_index(NAMESPACE))
            await subscription.subscribe_events(plc.nodes.server, kind)
            source.add(2, label=Label.NOK, reason="limit")
            told = [await asyncio.wait_for(events.queue.get(), PATIENCE_S) for _ in range(2)]
            assert [(event.SequenceNumber, event.ResultEvaluation, event.Reason) for event in told] == [
                (4, 2, "limit"), (5, 2, "limit"),
            ]  # fmt: skip
            last = await node(plc, "LastResult")
            value = await last.read_data_value()
            assert (value.Value.Value.SequenceNumber, value.Value.Value.ResultEvaluation) == (5, 2)
            assert value.SourceTimestamp == value.Value.Value.CreationTime
            assert [entity.EntityId for entity in value.Value.Value.AssociatedEntities] == ["p", "s", "T1", "t1"]
            assert (await (await node(plc, "Programs/T1")).read_value()).SequenceNumber == 5
            history = await last.read_raw_history()
            assert sorted(value.Value.Value.SequenceNumber for value in history) == [2, 3, 4, 5]
            for path, wanted in (("Ready", True), ("Fault", False), ("LastSequenceNumber", 5), ("Cell", "cell")):
                await until(plc, path, wanted)

    asyncio.run(scene())


def test_results_are_coherent_and_bad_when_the_daemon_is_silent(
    folder: Path, source: Source, identities: dict[str, Identity]
) -> None:
    async def scene() -> None:
        source.add(1)
        async with running(folder, source, identities) as it, await it.client() as plc:
            await until(plc, "LastResult/SequenceNumber", 1)
            await plc.load_data_type_definitions()
            assert len(await _read_during_a_burst(plc, source)) > 2
            source.beats = False
            await until(plc, "Fault", True)
            for path in ("LastResult", "LastResult/ResultEvaluation", "LastResult/ResultId", "Programs/T1"):
                value = await (await node(plc, path)).read_data_value(raise_on_bad_status=False)
                assert value.StatusCode.value == ua.StatusCodes.BadNoCommunication, path
                assert value.Value.Value is None
            assert not await (await node(plc, "Ready")).read_value()
            source.add(1, label=Label.NOK, reason="limit")
            source.beats = True
            await until(plc, "LastResult/ResultEvaluation", 2)

    async def _read_during_a_burst(plc: Client, source: Source) -> set[int]:
        seen: set[int] = set()
        names = [name for name in FIELDS if name != "Score"]
        nodes = [*[await node(plc, f"LastResult/{name}") for name in names], await node(plc, "LastResult")]
        (burst := threading.Thread(target=source.add, args=(200,))).start()
        while max(seen, default=0) < 201:
            *values, whole = await plc.read_values(nodes)
            assert values == [getattr(whole, name) for name in names]
            seen.add(whole.SequenceNumber)
        burst.join()
        return seen

    asyncio.run(scene())


def test_before_the_daemon_is_heard_nothing_is_known(tmp_path: Path) -> None:
    async def scene() -> None:
        server = BoundedServer(None, 1)
        await server.init()
        await (space := Space(server, "cell", 1, _never)).build()
        await space.show("verdict/T1", 1, "J", a_verdict_map())
        value = server.read_attribute_value(ua.NodeId("edged/LastResult/ResultEvaluation", space.index))
        assert value.StatusCode.value == ua.StatusCodes.BadWaitingForInitialData  # type: ignore[union-attr]
        await space.usable()
        value = server.read_attribute_value(ua.NodeId("edged/LastResult/ResultEvaluation", space.index))
        assert value.Value.Value == 1  # type: ignore[union-attr]

    asyncio.run(scene())


async def _never(program: str, part_id: str, seam_ref: str) -> tuple[bool, str, str]:
    raise TimeoutError


@contextlib.contextmanager
def control_socket(path: Path) -> Iterator[str]:
    """edged's real control socket with an `expect` that only knows T1."""

    def expect(request: dict[str, Any]) -> dict[str, Any]:
        if request["program"] == "slow":
            stop.wait(1)
        if request["program"] != "T1":
            return {"ok": False, "error": f"program {request['program']!r} is not configured"}
        return {"ok": True, "seam_id": f"seam of {request['part_id']}"}

    stop = threading.Event()
    with zmq.Context() as context:
        control = Control(context, f"ipc://{path}", {"expect": expect})

        def serve() -> None:
            while not stop.is_set():
                if control.socket.poll(20):
                    control.serve()

        (thread := threading.Thread(target=serve)).start()
        try:
            yield f"ipc://{path}"
        finally:
            stop.set()
            thread.join()
            control.close()


async def _expect_id(client: Client) -> ua.NodeId:
    return ua.NodeId("edged/Expect", await client.get_namespace_index(NAMESPACE))


def test_expect_comes_back_and_only_for_those_with_the_right(
    tmp_path: Path, folder: Path, source: Source, identities: dict[str, Identity]
) -> None:
    async def scene(control: str) -> None:
        async with running(folder, source, identities, control) as it:
            async with await it.client() as plc:
                root = plc.get_node(ua.NodeId("edged", await plc.get_namespace_index(NAMESPACE)))
                expect = plc.get_node(await _expect_id(plc))
                assert await root.call_method(expect, "T1", "P-1", "1") == [True, "seam of P-1", ""]
                accepted, _, error = await root.call_method(expect, "T9", "", "")
                assert (accepted, error) == (False, "program 'T9' is not configured")
                accepted, _, error = await root.call_method(expect, "T" * 129, "", "")
                assert (accepted, error) == (False, "a text has more than 128 characters")
                with pytest.raises(ua.UaStatusCodeError, match="BadInvalidArgument"):
                    await root.call_method(expect, "T1", 3, "1")
                with pytest.raises(ua.UaStatusCodeError, match="BadTimeout"):
                    await root.call_method(expect, "slow", "P-1", "1")
                methods = {(await method.read_browse_name()).Name for method in await root.get_methods()}
                assert methods == {"Expect"}  # arming is not among them
                with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
                    await (await node(plc, "Armed")).write_value(True)
            async with await it.client(VIEWER) as viewer:
                root = viewer.get_node(ua.NodeId("edged", await viewer.get_namespace_index(NAMESPACE)))
                await (await node(viewer, "Ready")).read_value()
                with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
                    await root.call_method(viewer.get_node(await _expect_id(viewer)), "T1", "P-1", "1")

    with control_socket(tmp_path / "c") as control:
        asyncio.run(scene(control))


async def refused(client: Client) -> str:
    """Name of the status with which a connection was refused."""
    try:
        async with client:
            return "connected"
    except ua.UaStatusCodeError as error:
        return ua.StatusCode(error.code).name
    except (ConnectionError, TimeoutError) as error:
        return type(error).__name__


def test_only_who_is_trusted_gets_in(
    folder: Path, source: Source, identities: dict[str, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with running(folder, source, identities, max_connections=3) as it:
            await _untrusted(it, folder, identities["stranger"])
            await _unproven(it, identities)
            await _unknown(it, monkeypatch)
            for _ in range(4):  # sessions that were left open make room
                assert await refused(await it.client()) == "connected"
            port = it.bridge.server.bserver.port  # type: ignore[union-attr]
            for head in (b"MSGF" + (2**31).to_bytes(4, "little"), b"\xff" * 8, b"HELF\0\0\0\0"):
                assert await asyncio.to_thread(_closed_after, port, head) < 2**22  # the kernel buffers some
            assert await refused(await it.client()) == "connected"

    asyncio.run(scene())


async def _untrusted(it: Running, folder: Path, stranger: Identity) -> None:
    """Refused and logged; moved to `trusted/` by a person, let in; taken out again, refused."""
    with capture_logs() as logs:
        assert await refused(await it.client(identity=stranger)) == "BadCertificateUntrusted"
    (said,) = [line for line in logs if line["event"] == "refused"]
    assert (said["why"], said["certificate"], said["who"]) == (
        "untrusted_certificate", "CN=stranger", "urn:test:stranger",
    )  # fmt: skip
    (kept,) = (folder / "rejected").iterdir()
    kept.rename(folder / "trusted" / "stranger.der")
    assert await refused(await it.client(identity=stranger)) == "connected"
    (folder / "trusted" / "stranger.der").unlink()
    assert await refused(await it.client(identity=stranger)) == "BadCertificateUntrusted"


async def _unproven(it: Running, identities: dict[str, Identity]) -> None:
    """A stranger shows the PLC's certificate, which is no secret, when it creates its session; or none at all."""
    before = it.bridge.trust.refused["untrusted_certificate"]
    shown = uacrypto.der_from_x509(await uacrypto.load_certificate(identities["plc"].certificate))
    for pretended in (shown, None):
        client = await it.client(identity=identities["stranger"])
        original = client.uaclient.create_session

        async def create(params: Any, of: Any = original, certificate: Any = pretended) -> Any:
            params.ClientCertificate = certificate
            params.ClientDescription.ApplicationUri = "urn:test:plc"
            return await of(params)

        client.uaclient.create_session = create  # type: ignore[method-assign]
        assert await refused(client) == "BadUserAccessDenied"
    assert it.bridge.trust.refused["untrusted_certificate"] == before + 2


async def _unknown(it: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificate, no user, a wrong password."""
    with monkeypatch.context() as patched:
        patched.setattr(Client, "find_endpoint", staticmethod(lambda endpoints, mode, policy: endpoints[0]))
        plain = Client(it.bridge.url, timeout=5)
        plain.set_user(PLC[0])
        plain.set_password(PLC[1])
        assert await refused(plain) == "BadUserAccessDenied"  # asyncua itself would let it in
    assert it.bridge.trust.refused["no_certificate"] == 1
    assert await refused(await it.client(None)) == "BadIdentityTokenRejected"
    assert await refused(await it.client((PLC[0], "wrong"))) == "BadUserAccessDenied"
    assert await refused(await it.client(("nobody", ""))) == "BadUserAccessDenied"
    assert it.bridge.trust.refused["wrong_user_or_password"] == 2


def test_without_security_anybody_reads_and_nobody_commands(
    folder: Path, source: Source, identities: dict[str, Identity]
) -> None:
    async def scene() -> None:
        open_to_all = running(folder, source, identities, without_security="on_loopback", anonymous=True)
        async with open_to_all as it, Client(it.bridge.url, timeout=5) as reader:
            await (await node(reader, "Ready")).read_value()
            root = reader.get_node(ua.NodeId("edged", await reader.get_namespace_index(NAMESPACE)))
            with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
                await root.call_method(reader.get_node(await _expect_id(reader)), "T1", "P-1", "1")

    asyncio.run(scene())


def _closed_after(port: int, head: bytes) -> int:
    """Bytes that the server took of an endless message before it closed the connection."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        sent = connection.send(head)
        with contextlib.suppress(ConnectionError):
            while sent < 64 * MAX_UNPARSED_BYTES:
                sent += connection.send(b"\0" * 4096)
    return sent


def test_own_key_is_private_and_stays(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path, "urn:x:y")
    assert key.stat().st_mode & 0o777 == 0o600
    before = certificate.read_bytes()
    assert own_certificate(tmp_path, "urn:x:y") == (certificate, key)
    assert certificate.read_bytes() == before
    with pytest.raises(BridgeError, match=r"is for \['urn:x:y'\]"):
        own_certificate(tmp_path, "urn:other")
    key.chmod(0o644)
    with pytest.raises(BridgeError, match="chmod 600"):
        own_certificate(tmp_path, "urn:x:y")


@pytest.mark.parametrize("text", ["x", "[plc]\npassword = 3\nrights = []", '[plc]\npassword = "a$b"\nrights = []'])
def test_a_wrong_users_file_is_named(folder: Path, text: str) -> None:
    (folder / "users.toml").write_text(text)
    with pytest.raises(BridgeError, match=r"users\.toml"):
        Trust(folder, anonymous=False, without_security=False)


def test_settings_want_words() -> None:
    with pytest.raises(ValueError, match="is not loopback"):
        OpcuaConfig(host="192.168.1.5", without_security="on_loopback")
    assert OpcuaConfig(host="192.168.1.5", without_security="everywhere").offers_no_security
