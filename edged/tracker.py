"""Seams from arcs and announcements: expected → BURNING → AWAITING_RESULT → FINAL.

One `SeamTracker` for the cell; each torch has its arc detector, its queue of announced seams and at most one burning
seam, so two torches burn at once and any number of seams waits for results. Everything here is decided on the times
stamped on the current's samples and on the times of the control messages. `now_ns` matters only where a current has
stopped coming, and then the seam is marked as broken.

Rules: an announced seam takes the first arc at or after the announcement, in order; a restrike within `merge_gap_s`
belongs to the seam before, whatever was announced meanwhile; where the current was away for so long that an arc may
have been missed, what was announced before is given up, because nobody can tell which arc it names.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from drivers.base import Chunk, StreamSpec
from edged.arc import MAX_BRIDGE_NS, ArcDetector, ArcEvent
from edged.arc_stats import ArcStats
from edged.config import Config, ProgramConfig
from edged.messages import ControlError, Expect
from pipelines.window import Seam

__all__ = ["UNKNOWN_PROGRAM", "Change", "Expectation", "OpenSeam", "SeamState", "SeamTracker", "current_streams"]

UNKNOWN_PROGRAM = "unknown"
MAX_EXPECTED = 64
STALL_NS = 1_000_000_000
"""How much later than due the current may come before a deadline passes without it."""
DEFAULT_TORCH = "1"


class SeamState(StrEnum):
    """Where an open seam stands."""

    EXPECTED = "expected"
    BURNING = "burning"
    AWAITING_RESULT = "awaiting_result"
    FINAL = "final"


@dataclasses.dataclass(frozen=True, slots=True)
class Expectation:
    """A seam the PLC has announced, with the id it will have."""

    seam: Seam
    program: ProgramConfig | None
    t_ns: int
    message: Mapping[str, Any]


@dataclasses.dataclass(slots=True, eq=False)
class OpenSeam:
    """A seam from its first arc on. `program` is None where it is not configured or was never named."""

    seam: Seam
    program: ProgramConfig | None
    state: SeamState = SeamState.BURNING
    burning: bool = True
    arc_began_ns: int = 0
    stats: ArcStats = dataclasses.field(default_factory=ArcStats)
    blind_ns: int = 0
    """Longest stretch without current data at an edge of one of its arcs."""
    not_before_ns: int = 0
    """End of the torch's arc before."""
    message: tuple[int, Mapping[str, Any]] | None = None
    """The announcement and its time, as it is recorded."""

    @property
    def settings(self) -> ProgramConfig:
        """The program's settings, defaults where it is unknown."""
        return self.program or ProgramConfig()


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What happened: a seam was "opened", "closed" (its arcs are complete), or an announcement "expired"."""

    kind: str
    seam: OpenSeam | None = None
    expectation: Expectation | None = None
    reason: str = ""
    detail: str = ""


@dataclasses.dataclass(slots=True, eq=False)
class _Torch:
    name: str
    detector: ArcDetector
    expected: deque[Expectation] = dataclasses.field(default_factory=deque)
    seam: OpenSeam | None = None
    idle_since_ns: int = 0
    last_off_ns: int = 0


def current_streams(specs: Mapping[str, StreamSpec]) -> dict[str, str]:
    """Torch → the stream with its current: the first welder stream of the torch with a channel `current`."""
    found: dict[str, str] = {}
    for spec in specs.values():
        if spec.kind == "welder" and "current" in spec.channels:
            found.setdefault(spec.torch or DEFAULT_TORCH, spec.name)
    return found


class SeamTracker:
    """Seams of a cell. Raises ValueError where no welder stream has a channel `current`."""

    def __init__(self, config: Config, specs: Mapping[str, StreamSpec], new_id: Callable[[], str]) -> None:
        self.streams = current_streams(specs)
        if not self.streams:
            raise ValueError("no welder stream has a channel 'current', so no arc can be seen")
        self._config = config
        self._new_id = new_id
        self._torches = {
            torch: _Torch(torch, ArcDetector(specs[stream], config.arc)) for torch, stream in self.streams.items()
        }
        self._of_stream = {stream: torch for torch, stream in self.streams.items()}

    def expect(self, message: Expect, raw: Mapping[str, Any], t_ns: int) -> Expectation:
        """Queue an announced seam. Raises ControlError for an unknown torch or a full queue.

        A program that is not configured is queued all the same: the arc must not become another program's seam.
        """
        torch = self._torch(message.torch)
        if len(torch.expected) >= MAX_EXPECTED:
            raise ControlError(f"torch {torch.name} has {MAX_EXPECTED} announced seams waiting; weld or restart")
        program = self._config.programs.get(message.program)
        seam = self._seam(self._new_id(), torch.name, message.program, t_ns)
        seam = dataclasses.replace(
            seam,
            part_id=message.part_id,
            seam_ref=message.seam_ref,
            pass_index=message.pass_index,
            session=message.session or seam.session,
        )
        expectation = Expectation(seam, program, t_ns, raw)
        torch.expected.append(expectation)
        return expectation

    def expected(self) -> list[Expectation]:
        """All announced seams without an arc yet."""
        return [expectation for torch in self._torches.values() for expectation in torch.expected]

    def give_up_expected(self) -> list[Expectation]:
        """Empty the queues, at shutdown."""
        given_up = self.expected()
        for torch in self._torches.values():
            torch.expected.clear()
        return given_up

    def last_high_end_ns(self, seam: OpenSeam) -> int:
        """End of the last sample known to belong to the seam's arcs."""
        return self._torches[seam.seam.torch].detector.last_high_end_ns if seam.burning else seam.seam.arc_off_ns

    def feed(self, chunk: Chunk) -> list[Change]:
        """Take the next chunk; does nothing for streams without a torch's current."""
        name = self._of_stream.get(chunk.stream)
        if name is None or chunk.n == 0:
            return []
        torch = self._torches[name]
        changes: list[Change] = []
        head_ns = torch.detector.head_ns
        if head_ns is not None and chunk.t_ns - head_ns > MAX_BRIDGE_NS:
            changes += self._give_up(
                torch, chunk.t_ns, f"the current was away for {(chunk.t_ns - head_ns) / 1e9:.1f} s"
            )
        for event in torch.detector.feed(chunk):
            changes += self._event(torch, event)
        changes += self._after(torch, chunk.end_ns, stalled=False)
        return changes

    def advance(self, now_ns: int) -> list[Change]:
        """Let deadlines pass where a current has stopped coming."""
        changes: list[Change] = []
        for torch in self._torches.values():
            head_ns = torch.detector.head_ns
            if head_ns is not None and now_ns - head_ns > MAX_BRIDGE_NS + STALL_NS:
                for event in torch.detector.lose():
                    changes += self._event(torch, event)
            if head_ns is None or now_ns - head_ns > STALL_NS:
                changes += self._after(torch, now_ns - STALL_NS, stalled=True)
        return changes

    def _torch(self, name: str | None) -> _Torch:
        if name is None and len(self._torches) == 1:
            return next(iter(self._torches.values()))
        if name not in self._torches:
            shown = "missing" if name is None else f"{name!r} is not known"
            raise ControlError(f"torch: {shown}; this cell has {', '.join(sorted(self._torches))}")
        return self._torches[name]

    def _seam(self, seam_id: str, torch: str, program: str, arc_on_ns: int) -> Seam:
        known = self._config.programs.get(program)
        return Seam(
            seam_id=seam_id,
            cell=self._config.cell.name,
            torch=torch,
            program=program,
            arc_on_ns=arc_on_ns,
            travel_speed_mm_s=known.travel_speed_mm_s if known else None,
            session=self._config.cell.session,
        )

    def _event(self, torch: _Torch, event: ArcEvent) -> list[Change]:
        return self._arc_on(torch, event) if event.kind == "arc_on" else self._arc_off(torch, event)

    def _arc_on(self, torch: _Torch, event: ArcEvent) -> list[Change]:
        changes: list[Change] = []
        seam = torch.seam
        if seam is not None and event.t_ns - seam.seam.arc_off_ns <= round(seam.settings.merge_gap_s * 1e9):
            seam.burning = True
            seam.arc_began_ns = event.t_ns
            seam.blind_ns = max(seam.blind_ns, event.edge_gap_ns)
            return changes
        if seam is not None:
            changes.append(self._close(torch, seam))
        changes += self._expire(torch, event.t_ns, stalled=False)
        if event.edge_gap_ns >= MAX_BRIDGE_NS:
            changes += self._give_up(torch, event.t_ns, "the arc was already burning when the current came back")
        torch.seam = self._open(torch, event)
        torch.seam.not_before_ns = torch.last_off_ns
        changes.append(Change("opened", torch.seam))
        return changes

    def _arc_off(self, torch: _Torch, event: ArcEvent) -> list[Change]:
        seam = torch.seam
        if seam is None:
            raise RuntimeError(f"torch {torch.name}: an arc ended at {event.t_ns} that never began")
        arc = (seam.arc_began_ns, event.t_ns)
        seam.seam = dataclasses.replace(seam.seam, arcs=(*seam.seam.arcs, arc))
        seam.burning = False
        seam.blind_ns = max(seam.blind_ns, event.edge_gap_ns)
        if event.stats is not None:
            seam.stats = seam.stats + event.stats
        return [self._close(torch, seam)] if event.lost else []

    def _open(self, torch: _Torch, event: ArcEvent) -> OpenSeam:
        if torch.expected and torch.expected[0].t_ns <= event.t_ns:
            expectation = torch.expected.popleft()
            seam = dataclasses.replace(expectation.seam, arc_on_ns=event.t_ns)
            # Recorded at the time from which its deadline counted, so that a replay without the seam before agrees.
            message = (max(expectation.t_ns, min(torch.idle_since_ns, event.t_ns)), expectation.message)
            return OpenSeam(
                seam, expectation.program, arc_began_ns=event.t_ns, blind_ns=event.edge_gap_ns, message=message
            )
        name = self._config.cell.default_program
        seam = self._seam(self._new_id(), torch.name, name or UNKNOWN_PROGRAM, event.t_ns)
        implied = (event.t_ns, {"op": "expect", "program": name, "torch": torch.name}) if name else None
        program = self._config.programs.get(name) if name else None
        return OpenSeam(seam, program, arc_began_ns=event.t_ns, blind_ns=event.edge_gap_ns, message=implied)

    def _close(self, torch: _Torch, seam: OpenSeam) -> Change:
        torch.seam = None
        torch.idle_since_ns = torch.last_off_ns = seam.seam.arc_off_ns
        seam.state = SeamState.AWAITING_RESULT
        return Change("closed", seam)

    def _after(self, torch: _Torch, seen_ns: int, stalled: bool) -> list[Change]:
        """What follows from the current having been watched until `seen_ns`, or from it not coming any more."""
        changes: list[Change] = []
        seam = torch.seam
        if seam is not None and not seam.burning:
            end_ns = seam.seam.arc_off_ns + round(seam.settings.merge_gap_s * 1e9)
            if seen_ns > end_ns:
                if stalled:
                    seam.blind_ns = MAX_BRIDGE_NS
                changes.append(self._close(torch, seam))
        if torch.seam is None:
            changes += self._expire(torch, seen_ns, stalled)
        return changes

    def _expire(self, torch: _Torch, seen_ns: int, stalled: bool) -> list[Change]:
        changes = []
        while torch.expected:
            first = torch.expected[0]
            deadline_s = (first.program or ProgramConfig()).arc_deadline_s
            deadline_ns = max(first.t_ns, torch.idle_since_ns) + round(deadline_s * 1e9)
            if seen_ns <= deadline_ns:
                break
            torch.expected.popleft()
            torch.idle_since_ns = deadline_ns
            if stalled:
                detail = f"no current came from stream {self.streams[torch.name]}, so no arc could be seen"
                changes.append(Change("expired", expectation=first, reason="stream_missing", detail=detail))
            else:
                detail = f"no arc within {deadline_s:g} s"
                changes.append(Change("expired", expectation=first, reason="no_arc", detail=detail))
        return changes

    def _give_up(self, torch: _Torch, before_ns: int, why: str) -> list[Change]:
        detail = f"{why}: which arc this seam was cannot be told"
        changes = []
        while torch.expected and torch.expected[0].t_ns < before_ns:
            first = torch.expected.popleft()
            changes.append(Change("expired", expectation=first, reason="stream_missing", detail=detail))
        return changes
