"""The handshake with a PLC as a pure state machine: verdicts, heartbeats and the PLC's writes in, registers out.

No sockets, no clock. Each result stays in the registers until ResultAck toggles; further ones wait behind it. The
whole image is replaced at once, so who reads it in one request never sees half a result.

What must survive a restart is the last result that the PLC acknowledged, and the toggles as it was then: the results
after it are read from the daemon's journal again, so none is lost, and one that was shown already has the same
`sequence` as before.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from edged.bridges.modbus_codes import COMMANDS, FAULTS, STATUS
from edged.bridges.modbus_commands import ACCEPTED, BAD_TEXT, STALE, UNKNOWN_COMMAND, Answer, Command
from edged.bridges.modbus_map import (
    CONTROL_BITS,
    HOLDING,
    HOLDING_COUNT,
    INPUT,
    INPUT_COUNT,
    LAYOUT,
    TextError,
    get,
    put,
)
from edged.bridges.modbus_result import put_result
from edged.client import Entry, Position

__all__ = ["Handshake"]

NOK = 2
MAX_ANNOUNCED = 256
TRIGGER, RESULT_ACK, FAULT_RESET = (1 << CONTROL_BITS[name] for name in ("trigger", "result_ack", "fault_reset"))
LATCHED = sum(1 << bit for bit, _, is_latched in FAULTS.values() if is_latched)


class Handshake:
    """See the module.

    Args:
        queue: how many results may wait behind the one shown.
        position: the entry that the PLC acknowledged last; None: none yet.
        toggles: the control bits as the PLC had left them.
        parts: whether verdicts of whole parts are shown.
        programs: of which verdicts come; None: of all.
        on_change: called when `position` or `toggles` have changed, to be written down.
        on_command: called with what the PLC wants; `answered` must follow.
        on_acknowledged: called with each entry that the PLC acknowledged.
    """

    def __init__(
        self,
        *,
        queue: int,
        position: Position | None = None,
        toggles: int = 0,
        parts: bool = True,
        programs: Collection[str] | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_command: Callable[[Command], None] = lambda command: None,
        on_acknowledged: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        self._limit, self._parts, self._programs = queue, parts, programs
        self._on_change, self._on_command, self._on_acknowledged = on_change, on_command, on_acknowledged
        self.position = position
        self._results: deque[Entry] = deque()  # the first is the one shown
        self._number = 0
        self._is_live = False
        self._beats = 0
        self._heartbeat: Mapping[str, Any] = {}
        self._faults = 0
        self._toggles = toggles & (TRIGGER | RESULT_ACK | FAULT_RESET)
        self._asking: int | None = None
        self._asked = ""
        self._answer = Answer(0)
        self._announced: dict[str, None] = {}
        self.read_again = False
        """Whether what did not fit is to be read from the journal now, after `last_taken`; set back by the reader."""
        self.ignored_acks = 0
        self.counters: Mapping[str, int] = {}
        """Of the server: `refused_connections`, `malformed_requests`."""
        self.holding = [0] * HOLDING_COUNT
        self.holding[HOLDING["control"].address] = self._toggles
        self.image = [0] * INPUT_COUNT
        self.render()

    @property
    def toggles(self) -> int:
        """The control bits that were acted on."""
        return self._toggles

    @property
    def last_taken(self) -> Position | None:
        """The last entry that is shown, waits or was acknowledged; who reads the journal again goes on behind it."""
        if not self._results:
            return self.position
        return Position(self._results[-1].journal_id, self._results[-1].sequence)

    # from the daemon

    def begin(self, position: Position) -> None:
        """Where a bridge that remembers nothing begins: what comes while it is down is then not lost."""
        if self.position is None:
            self.position = position
            self._on_change()

    def entry(self, entry: Entry) -> None:
        """A verdict of a seam or a part."""
        if isinstance(seam_id := entry.message.get("seam_id"), str):
            self._announced.pop(seam_id, None)
        if self.read_again or (entry.topic == "part" and not self._parts):
            pass
        elif self._has("overflow") or len(self._results) > self._limit:
            self._set("overflow")  # it stays in the journal, and everything behind it, until FaultReset
        else:
            self._take(entry)
        self.render()

    def heartbeat(self, message: Mapping[str, Any]) -> None:
        """A heartbeat of the daemon."""
        self._heartbeat = message
        self._beats = self._beats % 0xFFFF + 1
        self.render()

    def daemon_is(self, state: str) -> None:
        """The client's `state`; only "live" shows results."""
        if self._is_live == (state == "live"):
            return
        self._is_live = state == "live"
        if not self._is_live:
            self._announced.clear()
        self.render()

    def lost(self) -> None:
        """The journal no longer has entries that were due."""
        self._set("lost")
        self.render()

    def new_journal(self) -> None:
        """The daemon writes another journal; results that wait here are still shown."""
        self._set("new_journal")
        self.render()

    # from the PLC

    def written(self) -> None:
        """The PLC wrote holding registers: act on the bits of `control` that have changed."""
        control = get(self.holding, HOLDING["control"])
        changed = (control ^ self._toggles) & (TRIGGER | RESULT_ACK | FAULT_RESET)
        if self._asking is not None:
            changed &= ~TRIGGER
        if changed & ~TRIGGER:
            self._toggles ^= changed & ~TRIGGER
            if changed & FAULT_RESET:
                self.read_again |= self._has("overflow")
                self._faults &= ~LATCHED
            if changed & RESULT_ACK:
                self._acknowledge()
            self._on_change()
        if changed & TRIGGER:
            self._ask(control & TRIGGER)
        self.render()

    def answered(self, answer: Answer) -> None:
        """What became of the command that `on_command` told of."""
        if self._asking is None:
            raise RuntimeError("an answer without a command")
        if answer.code == ACCEPTED and self._asked == "expect" and answer.seam_id:
            self._announced[answer.seam_id] = None
            if len(self._announced) > MAX_ANNOUNCED:
                del self._announced[next(iter(self._announced))]
        self._answer = answer
        self._toggles = self._toggles & ~TRIGGER | self._asking
        self._asking = None
        self._on_change()
        self.written()  # another Trigger may have come meanwhile

    # out

    @property
    def _shown(self) -> Entry | None:
        return self._results[0] if self._is_live and self._results else None

    def render(self) -> None:
        """Make the registers anew and put them in place of the old ones."""
        image = [0] * INPUT_COUNT
        faults = self._all_faults()
        put(image, INPUT["layout"], LAYOUT)
        put(image, INPUT["status"], self._status(faults))
        put(image, INPUT["faults"], faults)
        put(image, INPUT["heartbeat"], self._beats)
        put(image, INPUT["waiting"], len(self._results) - (self._shown is not None))
        put(image, INPUT["seen"], self._toggles)
        put(image, INPUT["answer"], self._answer.code)
        put(image, INPUT["answer_seam_id"], self._answer.seam_id)
        put(image, INPUT["answer_text"], self._answer.text)
        for name in ("refused_connections", "malformed_requests"):
            put(image, INPUT[name], self.counters.get(name, 0) % 0x10000)
        put(image, INPUT["ignored_acks"], self.ignored_acks % 0x10000)
        if self._shown is not None:
            put(image, INPUT["block_begin"], self._number)
            put_result(image, self._shown)
            put(image, INPUT["block_end"], self._number)
        self.image = image

    def _status(self, faults: int) -> int:
        shown = self._shown
        bits = {
            "ready": not faults,
            "trigger": bool(self._toggles & TRIGGER),
            "busy": self._asking is not None or bool(self._announced),
            "result_valid": shown is not None,
            "ok": shown is not None and shown.is_ok,
            "nok": shown is not None and shown.message["label"] == NOK,
            "fault": bool(faults),
            "armed": self._is_live and self._is_armed(),
            "degraded": self._is_live and self._heartbeat.get("state") != "ok",
            "simulated": self._is_live and self._heartbeat.get("is_simulated") is not False,
        }
        return sum(1 << STATUS[name][0] for name, is_set in bits.items() if is_set)

    def _all_faults(self) -> int:
        faults = self._faults
        if not self._is_live:
            faults |= 1 << FAULTS["stale"][0]
        elif self._heartbeat.get("state") not in ("ok", "degraded"):
            faults |= 1 << FAULTS["daemon"][0]
        return faults

    def _take(self, entry: Entry) -> None:
        self.begin(Position(entry.journal_id, entry.sequence - 1))
        self._results.append(entry)
        if len(self._results) == 1:
            self._count_up()

    def _acknowledge(self) -> None:
        meant = get(self.holding, HOLDING["ack_sequence"])
        shown = self._shown
        if shown is None or (meant and meant != shown.sequence & 0xFFFFFFFF):
            self.ignored_acks += 1
            return
        self._results.popleft()
        self.position = Position(shown.journal_id, shown.sequence)
        if self._results:
            self._count_up()
        self._on_acknowledged(shown)

    def _ask(self, trigger: int) -> None:
        self._asking = trigger
        self._answer = Answer(0)
        self._asked = COMMANDS.get(get(self.holding, HOLDING["command"]), "")
        if not self._asked:
            self.answered(Answer(UNKNOWN_COMMAND))
        elif not self._is_live:
            self.answered(Answer(STALE))
        else:
            try:
                command = Command.read(self._asked, self.holding)
            except TextError as error:
                self.answered(Answer(BAD_TEXT, text=str(error)))
                return
            self._on_command(command)

    def _is_armed(self) -> bool:
        armed = self._heartbeat.get("armed")
        if not isinstance(armed, list | tuple):
            return False
        return any(self._programs is None or program in self._programs for program in armed)

    def _count_up(self) -> None:
        self._number = self._number % 0xFFFF + 1

    def _set(self, fault: str) -> None:
        self._faults |= 1 << FAULTS[fault][0]

    def _has(self, fault: str) -> bool:
        return bool(self._faults & 1 << FAULTS[fault][0])
