"""What the PLC's control messages do, and what `status` shows of open seams.

Beside the engine's step and in the same thread: messages reach the tracker (expect), the view binder (view) and the
parts (part, end_part). Those that concern a seam are recorded with it, so that a replay binds the same images.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from edged.aligner import Aligner
from edged.config import Config
from edged.messages import ControlError, EndPart, Expect, Message, Part, Ping, View, parse_message
from edged.parts import PartTracker
from edged.recording_guard import RecordingGuard
from edged.tracker import OpenSeam, SeamState, SeamTracker
from edged.views import ViewBinder
from pipelines.window import Gap, Integrity, Seam, SeamWindow

__all__ = ["ControlDesk", "OpenSeamStatus", "Work"]

MAX_FINAL_REMEMBERED = 256

log = structlog.get_logger()


@dataclasses.dataclass(frozen=True, slots=True)
class OpenSeamStatus:
    """One line of `status`: a seam that has no verdict yet. `views` are the images and scans it has."""

    seam_id: str
    torch: str
    program: str
    part_id: str | None
    seam_ref: str | None
    state: str
    arc_on_ns: int | None
    views: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True, eq=False)
class Work:
    """What the engine holds for one open seam; `window` is set once the scorer has been asked."""

    open: OpenSeam
    aligner: Aligner
    scoring: bool
    window: SeamWindow | None = None
    asked_ns: int = 0
    integrity: tuple[dict[str, Integrity], tuple[Gap, ...]] | None = None
    """Of the process, once all of it is there."""
    prepared: tuple[int, frozenset[str]] | None = None
    """Pieces of the process and views that the scorer has had ahead of the last view."""

    @property
    def seam(self) -> Seam:
        """The seam as far as it is known by now."""
        return self.open.seam


class ControlDesk:
    """Follows control messages; shares the engine's parts and its table of open seams."""

    def __init__(
        self,
        config: Config,
        tracker: SeamTracker,
        views: ViewBinder,
        parts: PartTracker,
        guard: RecordingGuard,
        work: Mapping[str, Work],
        last_seq: Mapping[str, int],
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._views = views
        self._parts = parts
        self._guard = guard
        self._work = work
        self._last_seq = last_seq
        self._final: deque[tuple[str, str | None]] = deque(maxlen=MAX_FINAL_REMEMBERED)
        self._ops: dict[type[Message], Callable[[Any, Mapping[str, Any], int], dict[str, Any]]] = {
            Expect: self._expect,
            View: self._view,
            Part: self._part,
            EndPart: self._end_part,
            Ping: lambda _message, _raw, _now_ns: {"ok": True},
        }

    def handle(self, message: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        """The reply; never raises for what a message says."""
        try:
            parsed = parse_message(message)
            return self._ops[type(parsed)](parsed, message, now_ns)
        except ControlError as error:
            log.warning("control message refused", error=str(error))
            return {"ok": False, "error": str(error)}

    def open_seams(self) -> list[OpenSeamStatus]:
        """Every seam without a verdict, announced ones first."""
        announced = [_status(item.seam, SeamState.EXPECTED, None) for item in self._tracker.expected()]
        return announced + [
            _status(work.seam, work.open.state, work.seam.arc_on_ns, self._views.taken(seam_id))
            for seam_id, work in self._work.items()
        ]

    def remember_final(self, seam: Seam) -> None:
        """The seam has its verdict: messages about it get an answer that says so."""
        self._final.append((seam.seam_id, seam.seam_ref))

    def _expect(self, message: Expect, raw: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        expectation = self._tracker.expect(message, raw, now_ns)
        seam_id = expectation.seam.seam_id
        if expectation.program is not None:
            return {"ok": True, "seam_id": seam_id}
        known = ", ".join(sorted(self._config.programs)) or "none"
        error = f"program: {message.program!r} is not configured (known: {known}); the seam will be INDETERMINATE"
        return {"ok": False, "error": error, "seam_id": seam_id}

    def _view(self, message: View, raw: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        work = self._find(message)
        program = work.open.program
        if program is None or message.view not in program.views:
            known = ", ".join(program.views) if program is not None and program.views else "none"
            raise ControlError(f"view: program {work.seam.program!r} has no view {message.view!r}; it has {known}")
        if work.window is not None:
            raise ControlError(f"seam {work.seam.seam_id} is being judged already; its view comes too late")
        stream = self._config.views[message.view].stream
        seam_id = work.seam.seam_id
        taken = self._views.trigger(seam_id, message.view, now_ns, self._last_seq.get(stream, -1))
        self._guard.control(seam_id, now_ns, {**raw, "seam_id": seam_id})
        for chunk in taken:
            if not work.aligner.recorded(chunk.stream, chunk.seq):
                self._guard.chunk(seam_id, chunk)
        return {"ok": True, "seam_id": seam_id}

    def _find(self, message: View) -> Work:
        """The one open seam that is meant. Raises ControlError when there is none or more than one."""
        found = [work for work in self._work.values() if _is_meant(work.seam, message)]
        if len(found) == 1:
            return found[0]
        named = message.seam_id or message.seam_ref
        if found:
            ids = ", ".join(work.seam.seam_id for work in found)
            raise ControlError(f"seam_ref: {named!r} fits {len(found)} open seams; name one by seam_id: {ids}")
        if any(named in ids for ids in self._final):
            raise ControlError(f"seam {named!r} has its verdict already; its view comes too late")
        raise ControlError(f"no open seam {named!r}")

    def _part(self, message: Part, _raw: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        self._parts.begin(message, now_ns)
        return {"ok": True}

    def _end_part(self, message: EndPart, _raw: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        already = self._parts.verdict_of(message.part_id)
        if already is not None:
            return {"ok": True, "already": already}
        self._parts.end(message.part_id, now_ns)
        return {"ok": True}


def _is_meant(seam: Seam, message: View) -> bool:
    if message.seam_id is not None and seam.seam_id != message.seam_id:
        return False
    if message.seam_ref is not None and seam.seam_ref != message.seam_ref:
        return False
    return message.part_id is None or seam.part_id == message.part_id


def _status(seam: Seam, state: SeamState, arc_on_ns: int | None, views: tuple[str, ...] = ()) -> OpenSeamStatus:
    return OpenSeamStatus(
        seam.seam_id, seam.torch, seam.program, seam.part_id, seam.seam_ref, state.value, arc_on_ns, views
    )
