"""A part's verdict from its seams': OK only if every expected seam is; NOK beats INDETERMINATE beats OK.

Where `[parts] false_alarm_budget` is set, a part of m seams has each judged at its m-th share (`edged.judge`). If the
goods of one of them do not suffice for that, the part is in shadow: INDETERMINATE(part_budget), and its label is its
`shadow_label`.

`part{part_id, seams}` opens a part, `end_part` ends it. Its verdict comes once every expected seam has one, or after
`end_part` as soon as no seam of it is open any more (what is missing then was not welded), or after
`PART_TIMEOUT_NS` without a word about it.

The verdict names welds that are *missing* (expected, not welded), *extra* (welded, not expected: under a reference
that the part does not have or once too often, or an arc that nobody announced while this was the only open part),
*too short* and *too long* (beyond the program's limits of length or arc time, or without an arc of `min_arc_s`). A
part with an extra weld is not what was ordered, so it is INDETERMINATE where no seam makes it NOK.
"""

import dataclasses
from collections import Counter

from edged.limits import is_too_long, is_too_short
from edged.messages import ControlError, Part
from edged.types import Label, PartSeam, PartVerdict, Verdict

__all__ = ["PART_TIMEOUT_NS", "PartTracker"]

PART_TIMEOUT_NS = 3_600_000_000_000
MAX_PARTS = 64
MAX_PART_VERDICTS = 1024


@dataclasses.dataclass(slots=True)
class _OpenPart:
    expected: tuple[str, ...]
    touched_ns: int
    ended: bool = False
    seams: list[PartSeam] = dataclasses.field(default_factory=list)
    too_short: list[str] = dataclasses.field(default_factory=list)
    too_long: list[str] = dataclasses.field(default_factory=list)
    shortfall: str = ""

    def missing(self) -> list[str]:
        """Expected references without a verdict; a reference listed twice needs two."""
        return sorted((Counter(self.expected) - Counter(seam.seam_ref or "" for seam in self.seams)).elements())

    def extra(self) -> list[str]:
        """References beyond the expected ones, ids of seams without one."""
        left = Counter(self.expected)
        extra = []
        for seam in self.seams:
            if seam.seam_ref is not None and left[seam.seam_ref] > 0:
                left[seam.seam_ref] -= 1
            else:
                extra.append(_name(seam))
        return extra


class PartTracker:
    """The parts being welded. Verdicts of seams go in, verdicts of parts come out of `advance`."""

    def __init__(self, cell: str, config_id: str, is_simulated: bool) -> None:
        self._cell = cell
        self._config_id = config_id
        self._is_simulated = is_simulated
        self._open: dict[str, _OpenPart] = {}
        self._judged: dict[str, str] = {}

    def begin(self, message: Part, now_ns: int) -> None:
        """Open a part. Raises ControlError when it is open already or too many are."""
        if message.part_id in self._open:
            raise ControlError(f"part_id: part {message.part_id!r} is open already; end_part it first")
        if len(self._open) >= MAX_PARTS:
            raise ControlError(f"{MAX_PARTS} parts are open; end_part some first")
        self._open[message.part_id] = _OpenPart(message.seams, now_ns)

    def end(self, part_id: str, now_ns: int) -> None:
        """No further seam will come. Raises ControlError when no such part is open."""
        if part_id not in self._open:
            raise ControlError(f"part_id: no part {part_id!r} is open")
        self._open[part_id].ended = True
        self._open[part_id].touched_ns = now_ns

    def verdict_of(self, part_id: str) -> str | None:
        """Label of a part that is judged already and not open again; the last `MAX_PARTS` are remembered.

        A part ends by itself with its last seam, so the PLC's `end_part` often comes after its verdict.
        """
        return None if part_id in self._open else self._judged.get(part_id)

    def size(self, part_id: str | None) -> int | None:
        """How many seams an open part has, by its announcement; None for no open part."""
        part = self._open.get(part_id or "")
        return None if part is None else len(part.expected)

    def add(self, verdict: Verdict, now_ns: int, shortfall: str = "") -> None:
        """Take a seam's verdict; seams without an open part are no part's. `shortfall`: see `edged.judge.Judged`."""
        part = self._part_of(verdict)
        if part is None:
            return
        part.touched_ns = now_ns
        part.shortfall = part.shortfall or shortfall
        if len(part.seams) >= MAX_PART_VERDICTS:
            return
        seam = PartSeam(
            verdict.seam.seam_ref, verdict.seam.seam_id, verdict.label, verdict.reason, verdict.shadow_label
        )
        part.seams.append(seam)
        if is_too_short(verdict.limits) or verdict.reason == "arc_too_short":
            part.too_short.append(_name(seam))
        if is_too_long(verdict.limits):
            part.too_long.append(_name(seam))

    def _part_of(self, verdict: Verdict) -> _OpenPart | None:
        seam = verdict.seam
        if seam.part_id is None and seam.seam_ref is None and len(self._open) == 1:
            return next(iter(self._open.values()))
        return self._open.get(seam.part_id or "")

    def advance(self, open_parts: set[str], now_ns: int, utc_ns: int) -> list[PartVerdict]:
        """Verdicts of parts that are complete; `open_parts` are the parts that still have open seams."""
        done = [
            part_id
            for part_id, part in self._open.items()
            if part_id not in open_parts
            and (part.ended or not part.missing() or now_ns - part.touched_ns > PART_TIMEOUT_NS)
        ]
        return [self._verdict(part_id, self._open.pop(part_id), utc_ns) for part_id in done]

    def interrupt(self, utc_ns: int) -> list[PartVerdict]:
        """Verdicts of all open parts, at shutdown."""
        return [self._verdict(part_id, self._open.pop(part_id), utc_ns) for part_id in list(self._open)]

    def __len__(self) -> int:
        return len(self._open)

    def _verdict(self, part_id: str, part: _OpenPart, utc_ns: int) -> PartVerdict:
        missing, extra = part.missing(), part.extra()
        seams = [*part.seams, *(PartSeam(ref, None, Label.INDETERMINATE, "seam_missing") for ref in missing)]
        label, reason, detail = _judge(seams, missing, extra)
        shadow_label = _shadow_label(seams, missing, extra)
        if part.shortfall:
            shadow_label = label if shadow_label is None else shadow_label
            label, reason, detail = Label.INDETERMINATE, "part_budget", part.shortfall
        self._judged.pop(part_id, None)
        self._judged[part_id] = label.name
        if len(self._judged) > MAX_PARTS:
            del self._judged[next(iter(self._judged))]
        return PartVerdict(
            cell=self._cell,
            part_id=part_id,
            label=label,
            reason=reason,
            detail=detail,
            seams=tuple(seams),
            config_id=self._config_id,
            is_simulated=self._is_simulated,
            decided_utc_ns=utc_ns,
            missing=tuple(missing),
            extra=tuple(extra),
            too_short=tuple(part.too_short),
            too_long=tuple(part.too_long),
            shadow_label=shadow_label,
        )


def _shadow_label(seams: list[PartSeam], missing: list[str], extra: list[str]) -> Label | None:
    """What the part would be if none of its seams' programs were in shadow; None where none is."""
    if all(seam.shadow_label is None for seam in seams):
        return None
    shown = [
        seam if seam.shadow_label is None else dataclasses.replace(seam, label=seam.shadow_label) for seam in seams
    ]
    return _judge(shown, missing, extra)[0]


def _name(seam: PartSeam) -> str:
    return seam.seam_ref or seam.seam_id or "?"


def _judge(seams: list[PartSeam], missing: list[str], extra: list[str]) -> tuple[Label, str, str]:
    named = {label: ", ".join(_name(seam) for seam in seams if seam.label is label) for label in Label}
    if named[Label.NOK]:
        return Label.NOK, "seam_nok", named[Label.NOK]
    if missing:
        return Label.INDETERMINATE, "seam_missing", ", ".join(missing)
    if extra:
        return Label.INDETERMINATE, "seam_extra", ", ".join(extra)
    if named[Label.INDETERMINATE] or not seams:
        return Label.INDETERMINATE, "seam_indeterminate", named[Label.INDETERMINATE]
    return Label.OK, "ok", f"{len(seams)} seams"
