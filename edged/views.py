"""Which image and which scan is the result of which seam: bound by trigger, never by time alone.

`view{seam_ref, view}` from the PLC says that the camera stands where it should; the seam gets the first frame of
that view's stream at or after the trigger plus `settle_ms`. On a profile stream it says that the scan begins; the
seam gets the rows of the `scan_s` from then on (`edged/scans.py`). A trigger given before the seam's last arc-off
shows no result and is void; so are a frame or a scan's end after the result deadline. Data is copied at once, because
the ring goes on.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from drivers.base import Chunk, StreamSpec
from edged.config import StreamConfig, ViewConfig
from edged.messages import ControlError
from edged.ring import Ring
from edged.scans import Scan, ScanResult, no_scan
from pipelines.window import ResultView

__all__ = ["ViewBinder"]

Key = tuple[str, str]
"""A seam's id and the name of a view."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    view: ResultView
    arrival_ns: int
    trigger_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Trigger:
    t_ns: int
    from_ns: int
    stream: str


class ViewBinder:
    """Triggers that wait for their frame, and frames and scans of seams that are still open.

    `specs` are the streams' calibrated ones.
    """

    def __init__(
        self,
        views: Mapping[str, ViewConfig],
        streams: Mapping[str, StreamConfig],
        rings: Mapping[str, Ring],
        specs: Mapping[str, StreamSpec],
    ) -> None:
        self._specs = specs
        self._views = views
        self._streams = streams
        self._rings = rings
        self._waiting: dict[Key, _Trigger] = {}
        self._bound: dict[Key, _Bound] = {}
        self._scans: dict[Key, Scan] = {}
        self._recorded: dict[str, set[tuple[str, int]]] = {}
        self._deadline_ns: dict[str, int] = {}

    def trigger(self, seam_id: str, view: str, t_ns: int, last_seq: int) -> list[Chunk]:
        """Wait for the frame or the rows of `view`; returns those the engine has already (their `seq` ≤ `last_seq`).

        What is returned here and by `offer` is to be recorded. Raises ControlError when this view of the seam has
        been triggered before.
        """
        key = (seam_id, view)
        if key in self._waiting or key in self._bound or key in self._scans:
            raise ControlError(f"view: {view!r} of seam {seam_id} has been triggered already")
        config = self._views[view]
        from_ns = t_ns + round(config.settle_ms * 1e6)
        if config.scan_s is None:
            self._waiting[key] = _Trigger(t_ns, from_ns, config.stream)
        else:
            to_ns = from_ns + round(config.scan_s * 1e9)
            ring, limits = self._rings[config.stream], self._streams[config.stream]
            self._scans[key] = Scan(self._specs[config.stream], ring, limits, t_ns, from_ns, to_ns)
        held = [chunk for chunk in self._rings[config.stream].slice(from_ns, 2**62) if chunk.seq <= last_seq]
        return [taken for chunk in held if (taken := self._give(key, chunk)) is not None]

    def offer(self, chunk: Chunk) -> list[tuple[str, Chunk]]:
        """Bind a frame to every trigger that waits for one of this stream, a row to every scan: (seam, chunk)."""
        waiting = [
            key
            for key, trigger in self._waiting.items()
            if trigger.stream == chunk.stream and chunk.t_ns >= trigger.from_ns
        ]
        waiting += [key for key, scan in self._scans.items() if scan.stream == chunk.stream]
        return [(key[0], taken) for key in waiting if (taken := self._give(key, chunk)) is not None]

    def close(self, seam_id: str, arc_off_ns: int, deadline_ns: int) -> list[str]:
        """The seam's arcs are complete: views whose trigger, frame or scan is void, being too early or too late."""
        self._deadline_ns[seam_id] = deadline_ns
        early = [key for key, trigger in self._waiting.items() if key[0] == seam_id and trigger.t_ns < arc_off_ns]
        outside = [
            key
            for key, bound in self._bound.items()
            if key[0] == seam_id and (bound.trigger_ns < arc_off_ns or bound.view.t_ns > deadline_ns)
        ]
        scans = [
            key
            for key, scan in self._scans.items()
            if key[0] == seam_id and (scan.trigger_ns < arc_off_ns or scan.to_ns > deadline_ns)
        ]
        for key in early:
            del self._waiting[key]
        for key in outside:
            del self._bound[key]
        for key in scans:
            del self._scans[key]
        return sorted(view for _, view in early + outside + scans)

    def images(self, seam_id: str) -> dict[str, ResultView]:
        """View name → image, of what has been bound so far."""
        return {view: bound.view for (seam, view), bound in self._bound.items() if seam == seam_id}

    def scan(self, seam_id: str, views: Iterable[str]) -> ScanResult | None:
        """What came of the scan among the program's `views`; None where they hold none."""
        for view in views:
            if (config := self._views[view]).is_scan:
                scan = self._scans.get((seam_id, view))
                return no_scan(config.stream) if scan is None or self._late(seam_id, scan) else scan.result()
        return None

    def done(self, seam_id: str, now_ns: int) -> set[str]:
        """Views that need not be waited for: images that are bound, scans that have ended, well or not."""
        ended = {view for (seam, view), scan in self._scans.items() if seam == seam_id and scan.ended(now_ns)}
        late = {view for (seam, view), scan in self._scans.items() if seam == seam_id and self._late(seam, scan)}
        return set(self.images(seam_id)) | (ended - late)

    def taken(self, seam_id: str) -> tuple[str, ...]:
        """Names of the images bound and of the scans whose last row has come, for people."""
        scans = [view for (seam, view), scan in self._scans.items() if seam == seam_id and scan.is_complete]
        return tuple(sorted([*self.images(seam_id), *scans]))

    def last_arrival_ns(self, seam_id: str) -> int | None:
        """Arrival of the seam's last frame or row."""
        images = [bound.arrival_ns for (seam, _), bound in self._bound.items() if seam == seam_id]
        rows = [scan.last_arrival_ns for (seam, _), scan in self._scans.items() if seam == seam_id]
        return max([*images, *(t_ns for t_ns in rows if t_ns is not None)], default=None)

    def forget(self, seam_id: str) -> list[str]:
        """Drop all that belongs to a seam; the views that still waited for their frame or rows."""
        waiting = [key for key in self._waiting if key[0] == seam_id]
        waiting += [key for key, scan in self._scans.items() if key[0] == seam_id and not scan.is_complete]
        tables: tuple[dict[Key, _Trigger] | dict[Key, _Bound] | dict[Key, Scan], ...]
        tables = (self._waiting, self._bound, self._scans)
        for table in tables:
            for key in [key for key in table if key[0] == seam_id]:
                del table[key]
        self._recorded.pop(seam_id, None)
        self._deadline_ns.pop(seam_id, None)
        return sorted(view for _, view in waiting)

    def _late(self, seam_id: str, scan: Scan) -> bool:
        """Whether a scan ends after the seam's deadline: a late result never changes a verdict."""
        deadline_ns = self._deadline_ns.get(seam_id)
        return deadline_ns is not None and scan.to_ns > deadline_ns

    def _give(self, key: Key, chunk: Chunk) -> Chunk | None:
        """The copy of a chunk that the view `key` takes, None where it takes none or the seam has recorded it."""
        scan, trigger = self._scans.get(key), self._waiting.get(key)
        taken = None
        if scan is not None:
            taken = scan.add(chunk)
        elif trigger is not None:
            taken = self._bind(key, trigger, chunk)
        recorded = self._recorded.setdefault(key[0], set())
        if taken is None or (taken.stream, taken.seq) in recorded:
            return None
        recorded.add((taken.stream, taken.seq))
        return taken

    def _bind(self, key: Key, trigger: _Trigger, chunk: Chunk) -> Chunk | None:
        seam_id, view = key
        deadline_ns = self._deadline_ns.get(seam_id)
        if deadline_ns is not None and chunk.t_ns > deadline_ns:
            return None
        kept = dataclasses.replace(chunk, data=chunk.data.copy())
        if not self._rings[chunk.stream].valid(chunk):
            return None  # overwritten while it was copied: the next frame will do
        del self._waiting[key]
        image = ResultView(view, chunk.stream, chunk.t_ns, kept.data)
        self._bound[key] = _Bound(image, kept.arrival_ns, trigger.t_ns)
        return kept
