"""The drift tests of a cell: one per threshold, shown every seam that the threshold accepts.

Beside the data path. Its state is nothing but the journal's accepted scores since the program was last armed, shown
again in order: so it survives a restart, and arming again, once somebody has looked, begins anew.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import structlog

from edged.arming import ArmRecord
from edged.journal import Journal, accepted_score
from edged.types import Verdict
from pipelines.drift import ALARM, DriftTest
from pipelines.thresholds import Threshold

__all__ = ["DriftWatch"]

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class _Watched:
    """A threshold, below which raw score it accepts, after which verdict its test began, and the test."""

    threshold: Threshold
    limit: float
    since: int
    test: DriftTest


class DriftWatch:
    """Args: `journal` to begin from; `limit` gives the raw score below which a threshold accepts at its budget."""

    def __init__(self, journal: Journal, limit: Callable[[Threshold], float | None]) -> None:
        self._journal = journal
        self._limit = limit
        self._tests: dict[str, _Watched] = {}

    def watch(self, thresholds: Sequence[Threshold], records: Mapping[str, ArmRecord]) -> None:
        """Follow these thresholds, and no others, each from its program's last record on."""
        self._tests = {row.threshold_id: found for row in thresholds if (found := self._begin(row, records))}

    def _begin(self, threshold: Threshold, records: Mapping[str, ArmRecord]) -> _Watched | None:
        limit, record = self._limit(threshold), records.get(threshold.program)
        if limit is None:
            return None
        since = record.sequence if record is not None else 0
        known = self._tests.get(threshold.threshold_id)
        if known is not None and (known.limit, known.since) == (limit, since):
            return known
        test = DriftTest.of(threshold.scores, limit, threshold.session_correlation)
        for sequence, raw, session in self._journal.accepted(threshold.threshold_id, since):
            test.add(raw, str(sequence), session)
        return _Watched(threshold, limit, since, test)

    def add(self, verdict: Verdict, sequence: int) -> None:
        """Show a verdict that has just been journaled as `sequence`."""
        good = accepted_score(verdict)
        watched = self._tests.get(good[0]) if good is not None else None
        if good is not None and watched is not None and watched.test.add(good[1], str(sequence), good[2]):
            log.warning("good seams drift", program=watched.threshold.program, sequence=sequence, text=_text(watched))

    def evidence(self, program: str) -> float:
        """The strongest evidence of a program's tests as a share of what rings the alarm; 1 once it rang."""
        tests = [found.test for found in self._tests.values() if found.threshold.program == program]
        return max((1.0 if t.alarm_at is not None else t.evidence / ALARM for t in tests), default=0.0)

    def warnings(self) -> list[str]:
        """A sentence per threshold whose alarm rang."""
        return [_text(found) for found in self._tests.values() if found.test.alarm_at is not None]


def _text(watched: _Watched) -> str:
    program, streams = watched.threshold.program, "+".join(watched.threshold.streams)
    return (
        f"program {program}: good seams ({streams}) score higher than those that its limit was learned from (seen "
        f"after {watched.test.alarm_at} of them); false alarms will follow. Look at wire, gas, contact tip and "
        f"camera; then edged arm {program} if all is well, or edged learn {program}"
    )
