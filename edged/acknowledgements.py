"""Up to where clients have acted on what they received, by their own word; what waits for whom shows in health.

Beside the journal socket, which brings the words. They are written once a turn, however many there were: each write
waits for the disk, and the engine waits with it.
"""

from collections.abc import Sequence

from edged.journal import Journal, JournalFull
from edged.wire import AcknowledgementMessage

__all__ = ["MAX_CLIENTS", "Acknowledgements", "TooManyClients"]

MAX_CLIENTS = 64
"""Without keys a client may name itself as it likes; each name is a row for ever."""


class TooManyClients(ValueError):
    """A client that never acknowledged wants to, and there are `MAX_CLIENTS` already."""


class Acknowledgements:
    """Args: `expected` are the clients that health speaks of; it warns where one lets an entry wait for longer."""

    def __init__(self, journal: Journal, expected: Sequence[str] = (), within_s: float = 60.0) -> None:
        self._journal, self._expected, self._within_s = journal, expected, within_s
        self._written = journal.acknowledged()
        self._staged: dict[str, int] = {}

    def of(self, client: str) -> int:
        """Up to which sequence it has acted, 0 where it never said."""
        return self._staged.get(client, self._written.get(client, 0))

    def stage(self, client: str, sequence: int) -> int:
        """Note it for the next `write`; returns how far the client then is, for it never goes back.

        Raises TooManyClients.
        """
        known = self._written.keys() | self._staged.keys() | set(self._expected)
        if client not in known and len(known) >= MAX_CLIENTS:
            raise TooManyClients(
                f"client {client!r:.100}: {MAX_CLIENTS} others acknowledge already; use one of their names, "
                "or name it in net.acknowledge"
            )
        before = self.of(client)
        if sequence > before:
            self._staged[client] = sequence
        return max(before, sequence)

    def write(self) -> str | None:
        """Write what was staged; what went wrong, or None. What could not be written is forgotten."""
        staged, self._staged = self._staged, {}
        if not staged:
            return None
        try:
            self._journal.acknowledge(staged)
        except JournalFull as error:
            return str(error)
        self._written |= staged
        return None

    def health(self) -> dict[str, AcknowledgementMessage]:
        """How far each expected client is, and since when what it has not acknowledged waits."""
        last = self._journal.last_sequence
        return {
            client: AcknowledgementMessage(
                sequence=self.of(client),
                waiting=last - self.of(client),
                oldest_utc_ns=self._journal.oldest_after(self.of(client)),
            )
            for client in self._expected
        }

    def warnings(self, utc_ns: int) -> list[str]:
        """A sentence for each expected client that lets an entry wait too long."""
        found = []
        for client, state in self.health().items():
            waited_s = 0.0 if state.oldest_utc_ns is None else (utc_ns - state.oldest_utc_ns) / 1e9
            if waited_s > self._within_s:
                found.append(
                    f"{client} has not acknowledged verdict {state.sequence + 1} for {waited_s:.0f} s, "
                    f"{state.waiting} wait; look whether it runs and is connected"
                )
        return found
