"""The clients against a real journal, publisher and journal socket."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from edged.client import AsyncClient, Client, Entry, Lost, NewJournal, Position, StateChange, Told, link
from edged.client.events import Event
from edged.types import Label
from pipelines.window import TimelinePoint
from tests.support.source import Source, free_endpoint
from tests.support.verdicts import a_part, a_score, a_verdict


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(tmp_path / "journal.db", free_endpoint()) as source:
        yield source


def entries(client: Client, count: int) -> list[Entry]:
    """The next entries; fails where something was lost."""
    found: list[Entry] = []
    while len(found) < count:
        event = client.receive(10)
        assert event is not None, f"{len(found)} of {count} came"
        assert not isinstance(event, Lost), event
        found += [event] if isinstance(event, Entry) else []
    return found


def until(client: Client, kind: type[Event]) -> list[Event]:
    """Events up to and with the first of a kind."""
    found: list[Event] = []
    while not found or not isinstance(found[-1], kind):
        event = client.receive(10)
        assert event is not None, f"no {kind.__name__} after {found}"
        found.append(event)
    return found


def until_state(client: Client, state: str) -> StateChange:
    """The next change to a state."""
    while True:
        change = until(client, StateChange)[-1]
        assert isinstance(change, StateChange)
        if change.state == state:
            return change


def test_late_joiner_gets_the_last_of_each_program_then_everything(source: Source) -> None:
    source.add(3, "T1")
    source.add(1, "T2")
    with Client(source.verdicts) as client:
        assert [entry.sequence for entry in entries(client, 2)] == [3, 4]
        assert client.position is not None
        assert client.position.sequence == 4
        source.append(a_part())
        (part,) = entries(client, 1)
        assert (part.topic, part.sequence, part.is_ok) == ("part", 5, True)


def test_first_hands_out_the_journal_byte_for_byte(source: Source) -> None:
    points = tuple(TimelinePoint(0.1 * number, 1.0 * number, 0.5) for number in range(1000))
    source.add(60, score=a_score(timeline=points))  # more than one answer of the journal holds
    with Client(source.verdicts, start="first") as client:
        assert [(entry.sequence, entry.payload) for entry in entries(client, 60)] == source.entries()
        assert not isinstance(client.receive(0.3), Entry)


def test_what_is_not_published_is_read_from_the_journal(source: Source) -> None:
    with Client(source.verdicts, start="now") as client:
        until(client, StateChange)
        with source.unpublished():
            source.add(5)
        source.add(1)
        assert [entry.sequence for entry in entries(client, 6)] == [1, 2, 3, 4, 5, 6]
        with source.unpublished():
            source.add(1)  # nothing follows it: only the heartbeat tells
        assert entries(client, 1)[0].sequence == 7


def test_a_client_goes_on_from_its_position(source: Source, tmp_path: Path) -> None:
    source.add(2)
    with Client(source.verdicts, start="first") as client:
        entries(client, 1)
        assert client.position is not None
        client.position.save(tmp_path / "position")
    source.add(2)
    position = Position.load(tmp_path / "position")
    assert position is not None
    with Client(source.verdicts, start=position) as client:
        assert [entry.sequence for entry in entries(client, 3)] == [2, 3, 4]


def test_the_daemon_restarts_and_nothing_is_missing_or_twice(source: Source) -> None:
    with Client(source.verdicts, start="first", stale_after_s=0.5) as client:
        source.add(3)
        entries(client, 3)
        source.stop()
        until_state(client, "stale")
        assert client.state == "stale"
        source.start()
        source.add(3)
        assert [entry.sequence for entry in entries(client, 3)] == [4, 5, 6]


def test_another_journal_is_told_and_read_from_its_beginning(source: Source) -> None:
    with Client(source.verdicts, start="first") as client:
        source.add(2)
        before = entries(client, 2)[-1]
        source.stop()
        shutil.move(source.path, source.path.with_suffix(".old"))
        source.start()
        source.add(3)
        told = until(client, NewJournal)[-1]
        assert isinstance(told, NewJournal)
        assert told.old == before.journal_id
        assert [(entry.journal_id, entry.sequence) for entry in entries(client, 3)] == [
            (told.new, n) for n in (1, 2, 3)
        ]


def test_programs_choose_what_is_handed_out_not_what_is_followed(source: Source) -> None:
    with Client(source.verdicts, start="first", programs=["T2"]) as client:
        source.add(2, "T1")
        source.add(1, "T2")
        source.add(1, "T1")
        source.append(a_part())
        assert [entry.sequence for entry in entries(client, 2)] == [3, 5]


def test_messages_of_the_moment_come_only_when_asked_for(source: Source) -> None:
    with Client(source.verdicts, topics=("heartbeat",)) as client:
        beat = until(client, Told)[-1]
        assert isinstance(beat, Told)
        assert beat.message["cell"] == "cell"
    with Client(source.verdicts) as client:
        end_s = time.monotonic() + 0.5
        while (left_s := end_s - time.monotonic()) > 0:
            assert not isinstance(client.receive(left_s), Told)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"label": 7},
        {"label": True},
        {"label": "1"},
        {"label": None},
        {"schema": 2},
        {"kind": "part"},
        {"program": "X"},
    ],
)
def test_only_a_well_formed_one_is_ok(source: Source, spoilt: dict[str, object]) -> None:
    source.add(1, label=Label.OK)
    with Client(source.verdicts, start="first") as client:
        (good,) = entries(client, 1)
        assert good.is_ok
        bad = msgpack.packb(msgpack.unpackb(good.payload) | {"sequence": 2} | spoilt)
        source.send(b"verdict/T1", bad)
        (entry,) = entries(client, 1)
        assert (entry.sequence, entry.is_ok, entry.message["label"]) == (2, False, 0)


def test_nonsense_is_counted_and_harms_nothing(source: Source) -> None:
    with Client(source.verdicts, start="first") as client:
        until(client, StateChange)
        for topic, payload in (
            (b"part", b"\xc1"),
            (b"verdict/\xff", b"\x80"),
            (b"heartbeat", b"\x90"),
            (b"part", b""),
        ):
            source.send(topic, payload)
        source.send(b"part")
        source.send(b"verdict/T1", b"x" * 300_000)
        source.send(b"verdict/T1", b"x" * 600_000)  # beyond the socket's limit: the link is made anew
        source.add(2)
        assert [entry.sequence for entry in entries(client, 2)] == [1, 2]
        assert client.rejected >= 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_connection_that_libzmq_gave_up_is_made_anew(
    source: Source, kind: type[Client | AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RENEW_AFTER_S", 0.6)

    async def follow() -> None:
        client = kind(source.verdicts, stale_after_s=0.5)
        states: list[str] = []
        try:
            while "stale" not in states or states[-1] != "live":
                found = client.receive(30)
                event = found if found is None or isinstance(found, Event) else await found
                assert event is not None, states
                if isinstance(event, StateChange):
                    states.append(event.state)
                    if states == ["live"]:
                        source.send(b"verdict/T1", b"x" * 600_000)
        finally:
            if (closing := client.close()) is not None:
                await closing

    asyncio.run(asyncio.wait_for(follow(), 60))


def test_a_daemon_without_heartbeats_is_stale(source: Source) -> None:
    with Client(source.verdicts, stale_after_s=0.5) as client:
        source.add(1)
        entries(client, 1)
        until_state(client, "live")
        source.beats = False
        assert "no heartbeat" in until_state(client, "stale").detail
        source.beats = True
        assert until_state(client, "live") == StateChange("live", "")


def test_heartbeats_that_lay_in_the_queue_prove_nothing(source: Source) -> None:
    with Client(source.verdicts, stale_after_s=0.4) as client:
        until(client, StateChange)
        assert client.state == "live"
        end_s = time.monotonic() + 0.8  # the program does something else, and heartbeats go on coming
        while time.monotonic() < end_s:
            source.entries()
        assert client.state == "stale"


def test_asyncio(source: Source) -> None:
    source.add(2)

    async def follow() -> list[int]:
        async with AsyncClient(source.verdicts, start="first") as client:
            found = []
            assert isinstance(await client.receive(10), StateChange | Entry)
            task = asyncio.create_task(client.receive())
            await asyncio.sleep(0)
            task.cancel()  # a cancelled receive loses nothing
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.to_thread(source.add, 3)
            async for entry in client:
                found.append(entry.sequence)
                if entry.sequence == 5:
                    return found
        return found

    found = asyncio.run(asyncio.wait_for(follow(), 20))
    assert found[-3:] == [3, 4, 5]


def test_a_verdict_that_is_not_wanted_moves_the_position(source: Source) -> None:
    source.append(a_verdict("01J", "T1"))
    with Client(source.verdicts, start="first", programs=["T2"], topics=["heartbeat"]) as client:
        while client.position is None:
            assert client.receive(10) is not None
        assert client.position.sequence == 1
