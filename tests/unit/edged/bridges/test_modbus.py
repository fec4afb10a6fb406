"""The whole Modbus bridge against pymodbus' client, a real journal, publisher, journal socket and control socket."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from edged.bridges.daemon_link import BridgeError
from edged.bridges.modbus import ModbusBridge
from edged.bridges.modbus_map import RESULT_COUNT
from edged.bridges.settings_modbus import ModbusConfig
from edged.control import Control, ask
from edged.messages import ControlError
from edged.service import ServiceNotifier
from edged.types import Label
from tests.support.in_loop import in_loop
from tests.support.modbus_plc import Plc, a_bridge, link_to, values
from tests.support.source import Source, free_endpoint
from tests.support.verdicts import a_part, a_verdict


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(tmp_path / "journal.db", free_endpoint()) as made:
        yield made


@pytest.fixture
def control(tmp_path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A control socket, and what it was asked."""
    asked: list[dict[str, Any]] = []
    stop = threading.Event()

    def expect(raw: dict[str, Any]) -> dict[str, Any]:
        asked.append(raw)
        if raw["program"] != "T1":
            raise ControlError(f"program: {raw['program']!r} is none of T1")
        return {"ok": True, "seam_id": "01JSEAM"}

    endpoint = f"ipc://{tmp_path}/control.sock"
    with zmq.Context() as context:
        desk = Control(context, endpoint, {"expect": expect})

        def serve() -> None:
            while not stop.is_set():
                if desk.socket.poll(20):
                    desk.serve()

        thread = threading.Thread(target=serve)
        thread.start()
        yield endpoint, asked
        stop.set()
        thread.join()
        desk.close()


def _is_shown(fields: dict[str, Any]) -> bool:
    return bool(fields["status"] & 8)


@in_loop
async def test_results_come_one_after_the_other_and_only_when_acknowledged(source: Source, tmp_path: Path) -> None:
    async with a_bridge(link_to(source.verdicts), tmp_path, start="first") as bridge, Plc(bridge.server.port) as plc:
        first, second = source.add(2)
        fields = await plc.until(_is_shown)
        assert (fields["seam_id"], fields["sequence"], fields["label"]) == (first[:26], 1, 1)
        await plc.until(lambda found: _is_shown(found) and found["waiting"] == 1)
        await plc.acknowledge()
        fields = await plc.read()
        assert (fields["seam_id"], fields["sequence"]) == (second[:26], 2)
        source.append(a_part(Label.NOK, "seam_nok"))
        await plc.acknowledge()
        fields = await plc.until(lambda found: found["sequence"] == 3)
        assert (fields["kind"], fields["label"], fields["reason"], fields["part_id"]) == (2, 2, 23, "p")
        assert {"result_valid", "nok"} <= await plc.status()
        assert "ok" not in await plc.status()


@in_loop
async def test_a_silent_daemon_is_a_fault_and_takes_ok_back(source: Source, tmp_path: Path) -> None:
    async with (
        a_bridge(link_to(source.verdicts), tmp_path, stale_after_s=2) as bridge,
        Plc(bridge.server.port) as plc,
    ):
        source.add()
        before = await plc.until(_is_shown)
        assert before["heartbeat"] > 0
        source.beats = False
        fields = await plc.until(lambda found: not _is_shown(found))
        assert await plc.status() == {"fault"}
        assert (fields["faults"], fields["label"], fields["sequence"], fields["block_end"]) == (1, 0, 0, 0)
        source.beats = True
        fields = await plc.until(_is_shown)
        assert fields["sequence"] == before["sequence"]


@in_loop
async def test_without_a_daemon_there_is_nothing_but_fault(tmp_path: Path) -> None:
    async with a_bridge(link_to(free_endpoint()), tmp_path) as bridge, Plc(bridge.server.port) as plc:
        assert await plc.status() == {"fault"}
        assert (await plc.read())["label"] == 0


@in_loop
async def test_a_restart_neither_loses_a_result_nor_repeats_one_that_was_acknowledged(
    source: Source, tmp_path: Path
) -> None:
    link = link_to(source.verdicts)
    async with a_bridge(link, tmp_path, start="first") as bridge, Plc(bridge.server.port) as plc:
        source.add(3)
        await plc.until(lambda found: _is_shown(found) and found["waiting"] == 2)
        await plc.acknowledge()
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["sequence"], state["toggles"]) == (1, 2)
    source.add(2)
    async with a_bridge(link, tmp_path, start="first") as bridge, Plc(bridge.server.port) as plc:
        assert plc.control == 2  # what a PLC takes over at its own start
        for sequence in (2, 3, 4, 5):
            await plc.until(lambda found, wanted=sequence: found["sequence"] == wanted)
            await plc.acknowledge()
        assert not _is_shown(await plc.read())


@in_loop
async def test_what_comes_while_a_bridge_that_never_had_a_result_is_down_is_not_lost(
    source: Source, tmp_path: Path
) -> None:
    source.add()
    async with a_bridge(link_to(source.verdicts), tmp_path, start="now") as bridge, Plc(bridge.server.port) as plc:
        await plc.until(lambda found: found["status"] & 1)
    source.add(2)
    async with a_bridge(link_to(source.verdicts), tmp_path, start="now") as bridge, Plc(bridge.server.port) as plc:
        assert (await plc.until(_is_shown))["sequence"] == 2


@in_loop
async def test_overflow_waits_in_the_journal_until_a_reset(source: Source, tmp_path: Path) -> None:
    async with (
        a_bridge(link_to(source.verdicts), tmp_path, start="first", queue=2) as bridge,
        Plc(bridge.server.port) as plc,
    ):
        source.add(7)
        fields = await plc.until(lambda found: found["faults"] == 4)
        assert (fields["sequence"], fields["waiting"]) == (1, 2)
        noted = []
        async with asyncio.timeout(60):
            while len(noted) < 7:
                fields = await plc.read()
                if _is_shown(fields):
                    # A reset begins the link anew; an acknowledgement just then is for no result, which comes again.
                    if fields["sequence"] not in noted[-1:]:
                        noted.append(fields["sequence"])
                    await plc.acknowledge()
                elif fields["faults"]:
                    await plc.toggle("fault_reset")
        assert noted == [1, 2, 3, 4, 5, 6, 7]


@in_loop
async def test_expect_reaches_the_daemon_and_its_answer_the_plc(
    source: Source, control: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    endpoint, asked = control
    async with a_bridge(link_to(source.verdicts, endpoint), tmp_path) as bridge, Plc(bridge.server.port) as plc:
        await plc.until(lambda found: found["status"] & 1)
        answer = await plc.command(0, program="T1", part_id="P-7", seam_ref="2", pass_index=1)
        assert (answer["answer"], answer["answer_seam_id"]) == (1, "01JSEAM")
        assert asked == [{"op": "expect", "program": "T1", "part_id": "P-7", "seam_ref": "2", "pass_index": 1}]
        assert "busy" in await plc.status()
        source.append(a_verdict("01JSEAM"))
        await plc.until(_is_shown)
        assert "busy" not in await plc.status()
        answer = await plc.command(0, program="T9")
        assert (answer["answer"], answer["answer_text"]) == (2, "program: 'T9' is none of T1")


@in_loop
async def test_what_the_plc_acknowledged_the_daemon_hears(source: Source, tmp_path: Path) -> None:
    async with (
        a_bridge(link_to(source.verdicts), tmp_path, start="first", acknowledge_as="press-plc") as bridge,
        Plc(bridge.server.port) as plc,
    ):
        source.add(2)
        await plc.until(lambda found: _is_shown(found) and found["waiting"] == 1)
        await plc.acknowledge()
        asked = {"op": "snapshot", "client": "press-plc"}
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(ask, source.journal, asked))["acknowledged"] != 1:
                await asyncio.sleep(0.01)


@in_loop
async def test_a_control_socket_that_does_not_answer_is_said(source: Source, tmp_path: Path) -> None:
    link = link_to(source.verdicts, f"ipc://{tmp_path}/nobody.sock")
    async with a_bridge(link, tmp_path, expect_timeout_s=0.1) as bridge, Plc(bridge.server.port) as plc:
        await plc.until(lambda found: found["status"] & 1)
        assert (await plc.command(0, program="T1"))["answer"] == 3


@in_loop
async def test_a_reader_that_hammers_never_sees_half_a_result(source: Source, tmp_path: Path) -> None:
    """Two readers in one request each, while the PLC acknowledges as fast as it can."""
    count = 40
    halves: list[dict[str, Any]] = []
    seen: set[int] = set()

    async def hammer(plc: Plc, done: asyncio.Event) -> None:
        while not done.is_set():
            fields = values(await plc.registers())
            whole = fields["block_begin"] == fields["block_end"]
            alike = fields["sequence"] == 0 or fields["program"] == f"T{fields['sequence']}"
            if not whole or not alike:
                halves.append(fields)
            seen.add(fields["sequence"])

    async with (
        a_bridge(link_to(source.verdicts), tmp_path, start="first", queue=1000) as bridge,
        Plc(bridge.server.port) as one,
        Plc(bridge.server.port) as two,
        Plc(bridge.server.port) as plc,
    ):
        for sequence in range(1, count + 1):
            source.append(a_verdict(f"S{sequence}", f"T{sequence}"))
        done = asyncio.Event()
        readers = [asyncio.ensure_future(hammer(reader, done)) for reader in (one, two)]
        for sequence in range(1, count + 1):
            await plc.until(lambda found, wanted=sequence: found["sequence"] == wanted)
            await plc.acknowledge()
        done.set()
        await asyncio.gather(*readers)
    assert halves == []
    assert len(seen) > 2


@in_loop
async def test_who_reads_in_pieces_sees_by_the_counters_that_they_do_not_belong_together(
    source: Source, tmp_path: Path
) -> None:
    async with a_bridge(link_to(source.verdicts), tmp_path, start="first") as bridge, Plc(bridge.server.port) as plc:
        source.add(2)
        await plc.until(lambda found: _is_shown(found) and found["waiting"] == 1)
        first = (await plc.client.read_input_registers(0, count=40)).registers
        await plc.acknowledge()
        second = (await plc.client.read_input_registers(40, count=RESULT_COUNT - 40)).registers
        torn = values(first + second)
        assert (torn["block_begin"], torn["block_end"]) == (1, 2)


@in_loop
async def test_a_damaged_state_and_a_taken_port_are_named(source: Source, tmp_path: Path) -> None:
    link = link_to(source.verdicts)
    async with a_bridge(link, tmp_path) as bridge:
        with pytest.raises(BridgeError, match=r"cannot listen on 127\.0\.0\.1:"):
            async with a_bridge(link, tmp_path, port=bridge.server.port):
                pass
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(BridgeError, match="remove it"):
        async with a_bridge(link, tmp_path):
            pass


@in_loop
async def test_a_state_that_cannot_be_written_ends_the_bridge(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    bridge = ModbusBridge(ModbusConfig(port=0, state_file=folder / "state.json"), link_to(source.verdicts))
    await bridge.start()
    folder.write_text("")  # what should be a folder is none
    source.add()
    with contextlib.closing(ServiceNotifier(None)) as notifier, pytest.raises(BridgeError, match="cannot be written"):
        await asyncio.wait_for(bridge.run(notifier), 60)
    folder.unlink()
    await bridge.close()
