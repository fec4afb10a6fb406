"""What a PLC's program needs of edged: every verdict once, in order, without a gap; and the control socket.

    with Client("tcp://127.0.0.1:5560", keys=Keys.read("plc.toml")) as client:
        for entry in client:
            print(entry.topic, entry.sequence, entry.message["label"])

Needs pyzmq and msgpack only; also built as a package of its own, `edged_client`.
"""

from .async_client import AsyncClient
from .client import Client
from .control import Control, Refused
from .endpoints import journal_endpoint
from .events import Entry, Event, Lost, NewJournal, Position, StateChange, Told
from .keys import Keys, KeysError

__all__ = [
    "AsyncClient",
    "Client",
    "Control",
    "Entry",
    "Event",
    "Keys",
    "KeysError",
    "Lost",
    "NewJournal",
    "Position",
    "Refused",
    "StateChange",
    "Told",
    "journal_endpoint",
]
