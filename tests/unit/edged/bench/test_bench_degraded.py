"""Rows of `edged bench degraded`: what is counted, and that a refusal is neither an alarm nor an OK."""

import dataclasses
import types
from typing import Any

import pytest

from edged.bench.degraded import Judged, degraded_rows, judged_row
from edged.bench.detection.scored import TestSeam

SEAMS = tuple(
    TestSeam(f"s{k}", "p", f"day-{k % 4}", family, None if family == "good" else "t", None, None, None)
    for k, family in enumerate(["good"] * 8 + ["both"] * 4 + ["drift"] * 2)
)


def scored(raws: list[float | None]) -> list[Judged]:
    return [Judged(raw, None if raw is None else raw >= 2.0) for raw in raws]


def test_drift_is_no_fault_of_the_weld_and_alarms_are_of_goods_only() -> None:
    row = judged_row("x", SEAMS, scored([1.0] * 7 + [3.0] + [4.0] * 4 + [0.5] * 2))
    assert (row["auroc"], row["bads"], row["goods"]) == (1.0, 4, 8)
    assert row["false_alarms"] == pytest.approx(1 / 8)
    assert row["indeterminate"] == 0


def test_a_refused_seam_is_indeterminate_and_no_false_alarm() -> None:
    row = judged_row("x", SEAMS, scored([None] * 2 + [1.0] * 6 + [4.0] * 4 + [0.5] * 2))
    assert (row["indeterminate"], row["goods"], row["false_alarms"]) == (2, 6, 0.0)


def test_nothing_scored_has_no_figure() -> None:
    row = judged_row("x", SEAMS, scored([None] * len(SEAMS)))
    assert (row["auroc"], row["false_alarms"], row["indeterminate"]) == (None, None, len(SEAMS))


@dataclasses.dataclass(frozen=True)
class Features(types.SimpleNamespace):
    """Knows only what it has lost."""

    lost: frozenset[str] = frozenset()

    def without(self, kinds: frozenset[str]) -> Any:
        return Features(kinds)


def test_every_set_of_optional_streams_is_asked_and_the_current_cannot_be_missed() -> None:
    def judge(features: Any) -> Judged:
        return Judged(None, None) if "welder" in features.lost else Judged(1.0 + len(features.lost), False)

    rows = list(degraded_rows([Features()] * len(SEAMS), SEAMS, judge))
    assert [row["case"] for row in rows[:3]] == ["all streams", "missing: audio", "missing: video"]
    assert len(rows) == 9
    assert rows[-1]["indeterminate"] == len(SEAMS)
    assert all(row["indeterminate"] == 0 for row in rows[:-1])
