"""Which image is the result of which seam: bound by trigger, never by time alone.

`view{seam_ref, view}` from the PLC says that the camera stands where it should; the seam gets the first frame of that
view's stream at or after the trigger plus `settle_ms`. A trigger given before the seam's last arc-off shows no result
and is void. Frames are copied at once, because the ring goes on.
"""

import dataclasses
from collections.abc import Mapping

from drivers.base import Chunk
from edged.config import ViewConfig
from edged.messages import ControlError
from edged.ring import Ring
from pipelines.window import ResultView

__all__ = ["Bound", "ViewBinder"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A frame that became a seam's result; `chunk` is what the recorder gets."""

    seam_id: str
    view: ResultView
    chunk: Chunk
    trigger_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Trigger:
    t_ns: int
    from_ns: int
    stream: str


class ViewBinder:
    """Triggers that wait for their frame, and the frames of seams that are still open."""

    def __init__(self, views: Mapping[str, ViewConfig], rings: Mapping[str, Ring]) -> None:
        self._views = views
        self._rings = rings
        self._waiting: dict[tuple[str, str], _Trigger] = {}
        self._bound: dict[tuple[str, str], Bound] = {}
        self._deadline_ns: dict[str, int] = {}

    def trigger(self, seam_id: str, view: str, t_ns: int, last_seq: int) -> Bound | None:
        """Wait for the frame of `view`; at once where the engine has it already (its `seq` ≤ `last_seq`).

        Raises ControlError when this view of the seam has been triggered before.
        """
        key = (seam_id, view)
        if key in self._waiting or key in self._bound:
            raise ControlError(f"view: {view!r} of seam {seam_id} has been triggered already")
        config = self._views[view]
        trigger = _Trigger(t_ns, t_ns + round(config.settle_ms * 1e6), config.stream)
        self._waiting[key] = trigger
        for chunk in self._rings[config.stream].slice(trigger.from_ns, 2**62):
            if chunk.seq <= last_seq:
                return self._bind(key, trigger, chunk)
        return None

    def offer(self, chunk: Chunk) -> list[Bound]:
        """Bind a frame to every trigger that waits for one of this stream."""
        if not self._waiting:
            return []
        waiting = [
            (key, trigger)
            for key, trigger in self._waiting.items()
            if trigger.stream == chunk.stream and chunk.t_ns >= trigger.from_ns
        ]
        return [bound for key, trigger in waiting if (bound := self._bind(key, trigger, chunk)) is not None]

    def close(self, seam_id: str, arc_off_ns: int, deadline_ns: int) -> list[str]:
        """The seam's arcs are complete: views whose trigger or frame is void, being too early or too late."""
        self._deadline_ns[seam_id] = deadline_ns
        early = [key for key, trigger in self._waiting.items() if key[0] == seam_id and trigger.t_ns < arc_off_ns]
        outside = [
            key
            for key, bound in self._bound.items()
            if key[0] == seam_id and (bound.trigger_ns < arc_off_ns or bound.view.t_ns > deadline_ns)
        ]
        for key in early:
            del self._waiting[key]
        for key in outside:
            del self._bound[key]
        return sorted(view for _, view in early + outside)

    def views(self, seam_id: str) -> dict[str, ResultView]:
        """View name → image, of what has been bound so far."""
        return {view: bound.view for (seam, view), bound in self._bound.items() if seam == seam_id}

    def last_arrival_ns(self, seam_id: str) -> int | None:
        """Arrival of the seam's last bound frame."""
        return max((b.chunk.arrival_ns for (seam, _), b in self._bound.items() if seam == seam_id), default=None)

    def forget(self, seam_id: str) -> list[str]:
        """Drop all that belongs to a seam; the views that still waited for their frame."""
        waiting = [key for key in self._waiting if key[0] == seam_id]
        for key in waiting:
            del self._waiting[key]
        for key in [key for key in self._bound if key[0] == seam_id]:
            del self._bound[key]
        self._deadline_ns.pop(seam_id, None)
        return sorted(view for _, view in waiting)

    def _bind(self, key: tuple[str, str], trigger: _Trigger, chunk: Chunk) -> Bound | None:
        seam_id, view = key
        deadline_ns = self._deadline_ns.get(seam_id)
        if deadline_ns is not None and chunk.t_ns > deadline_ns:
            return None
        kept = dataclasses.replace(chunk, data=chunk.data.copy())
        if not self._rings[chunk.stream].valid(chunk):
            return None  # overwritten while it was copied: the next frame will do
        del self._waiting[key]
        bound = Bound(seam_id, ResultView(view, chunk.stream, chunk.t_ns, kept.data), kept, trigger.t_ns)
        self._bound[key] = bound
        return bound
