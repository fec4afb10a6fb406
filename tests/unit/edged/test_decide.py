"""Labels: OK is reachable only when nothing speaks against it."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import ProgramConfig
from edged.decide import Case, decide
from edged.scoring import ScoreReply
from edged.types import REASONS, Label
from pipelines.window import Integrity
from tests.support.cell import MS, S, make_score

PROGRAM = ProgramConfig(
    mode="armed", model="demo", views=("top",), required=("welder", "audio"), optional=("video",), expected_arcs=1
)


def integrity(stream: str, kind: str, state: str = "ok", residual_ms: float | None = 0.0) -> Integrity:
    return Integrity(stream, kind, 1.0, 100, 0, 0, 0.0, residual_ms, state)


STREAMS = {
    "welder": integrity("welder", "welder"),
    "mic": integrity("mic", "audio"),
    "camera": integrity("camera", "video"),
}
GOOD = Case(
    program=PROGRAM,
    program_name="fillet",
    arcs=((0, 2 * S),),
    integrity=STREAMS,
    views=frozenset({"top"}),
    max_blind_ms=200.0,
    reply=ScoreReply("seam", make_score(0.5)),
)


def test_good_case_is_ok() -> None:
    decision = decide(GOOD)
    assert (decision.label, decision.reason, decision.degraded, decision.shadow_label) == (
        Label.OK,
        "ok",
        False,
        None,
    )


def with_stream(name: str, **changes: object) -> Case:
    changed = dataclasses.replace(STREAMS[name], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(GOOD, integrity={**STREAMS, name: changed})


def without(name: str) -> Case:
    return dataclasses.replace(GOOD, integrity={k: v for k, v in STREAMS.items() if k != name})


def program(**changes: object) -> ProgramConfig:
    return ProgramConfig.model_validate({**PROGRAM.model_dump(), **changes})


CASES: list[tuple[str, Case]] = [
    ("interrupted", dataclasses.replace(GOOD, given=("interrupted", "stopped"))),
    ("unknown_program", dataclasses.replace(GOOD, program=None, program_name="unknown")),
    ("stream_missing", without("mic")),
    ("stream_missing", with_stream("mic", state="missing")),
    ("stream_broken", with_stream("mic", state="broken")),
    ("stream_broken", with_stream("welder", state="nonsense")),
    ("stream_broken", dataclasses.replace(GOOD, blind_ms=201.0)),
    ("arc_too_short", dataclasses.replace(GOOD, arcs=((0, 50 * MS),))),
    ("arc_count", dataclasses.replace(GOOD, arcs=((0, S), (S + 200 * MS, 2 * S)))),
    ("sync", with_stream("mic", sync_residual_ms=-60.0)),
    ("sync", with_stream("camera", sync_residual_ms=60.0)),
    ("sync", with_stream("mic", sync_residual_ms=math.nan)),
    ("no_result", dataclasses.replace(GOOD, views=frozenset())),
    ("no_result", dataclasses.replace(GOOD, program=program(views=(), required=("welder", "result")))),
    ("worker_failed", dataclasses.replace(GOOD, reply=None)),
    ("no_model", dataclasses.replace(GOOD, reply=None, program=program(mode="shadow", model=None))),
    ("overload", dataclasses.replace(GOOD, reply=ScoreReply("seam", make_score(0.1), "overload", "dropped"))),
    ("worker_failed", dataclasses.replace(GOOD, reply=ScoreReply("seam", None))),
    ("no_threshold", dataclasses.replace(GOOD, reply=ScoreReply("seam", make_score(None)))),
    ("worker_failed", dataclasses.replace(GOOD, reply=ScoreReply("seam", make_score(math.nan)))),
    ("collecting", dataclasses.replace(GOOD, program=program(mode="collecting", model=None), reply=None)),
    ("collecting", dataclasses.replace(GOOD, program=program(mode="collecting"))),
    ("shadow", dataclasses.replace(GOOD, program=program(mode="shadow"))),
]


@pytest.mark.parametrize(("reason", "case"), CASES)
def test_everything_else_is_indeterminate_with_a_reason(reason: str, case: Case) -> None:
    decision = decide(case)
    assert (decision.label, decision.reason) == (Label.INDETERMINATE, reason), decision.detail
    assert reason in REASONS
    assert decision.detail


def test_earlier_rows_of_the_table_win() -> None:
    order = [reason for reason, _ in CASES]
    both = dataclasses.replace(with_stream("mic", state="missing"), arcs=((0, 50 * MS),), views=frozenset())
    assert decide(both).reason == "stream_missing"
    assert order.index("stream_missing") < order.index("arc_too_short") < order.index("no_result")


def test_nok_is_not_hidden_by_a_missing_optional_stream() -> None:
    case = dataclasses.replace(with_stream("camera", state="missing"), reply=ScoreReply("seam", make_score(1.2)))
    decision = decide(case)
    assert (decision.label, decision.degraded) == (Label.NOK, True)


def test_absent_optional_stream_degrades_an_ok() -> None:
    decision = decide(without("camera"))
    assert (decision.label, decision.degraded) == (Label.OK, True)


def test_failed_ignitions_are_not_counted_as_arcs() -> None:
    decision = decide(dataclasses.replace(GOOD, arcs=((0, 50 * MS), (300 * MS, 2 * S))))
    assert decision.label is Label.OK


def test_shadow_says_what_it_would_publish() -> None:
    shadow = program(mode="shadow")
    labels = {
        score: decide(
            dataclasses.replace(GOOD, program=shadow, reply=ScoreReply("seam", make_score(score)))
        ).shadow_label
        for score in (0.5, 1.0)
    }
    assert labels == {0.5: Label.OK, 1.0: Label.NOK}
    assert decide(dataclasses.replace(without("mic"), program=shadow)).shadow_label is Label.INDETERMINATE


STATES = ("ok", "degraded", "broken", "missing", "gone")
RESIDUALS = (None, 0.0, 49.0, 51.0, -1e9, math.nan)


@given(
    mode=st.sampled_from(["collecting", "shadow", "armed"]),
    states=st.tuples(*[st.sampled_from(STATES)] * 3),
    residuals=st.tuples(*[st.sampled_from(RESIDUALS)] * 3),
    views=st.sampled_from([frozenset(), frozenset({"top"}), frozenset({"side"})]),
    arcs=st.lists(st.integers(1, 2000), max_size=3),
    blind_ms=st.sampled_from([0.0, 100.0, 5000.0]),
    score=st.one_of(st.none(), st.floats()),
    reason=st.sampled_from([None, "worker_failed", "overload"]),
    answered=st.booleans(),
    known=st.booleans(),
)
def test_ok_needs_everything(
    mode: str,
    states: tuple[str, str, str],
    residuals: tuple[float | None, float | None, float | None],
    views: frozenset[str],
    arcs: list[int],
    blind_ms: float,
    score: float | None,
    reason: str | None,
    answered: bool,
    known: bool,
) -> None:
    kinds = ("welder", "audio", "video")
    starts = [0, *itertools.accumulate(arcs)]
    case = Case(
        program=program(mode=mode) if known else None,
        program_name="fillet",
        arcs=tuple((a * MS, (a + n) * MS) for a, n in zip(starts, arcs, strict=False)),
        integrity={
            kind: integrity(kind, kind, state, residual)
            for kind, state, residual in zip(kinds, states, residuals, strict=True)
            if state != "gone"
        },
        views=views,
        blind_ms=blind_ms,
        max_blind_ms=200.0,
        reply=ScoreReply("seam", make_score(score), reason) if answered else None,
    )
    decision = decide(case)
    assert decision.reason in REASONS
    required = all(state in ("ok", "degraded") for state in states[:2])
    synced = all(
        abs(residual) <= 50
        for state, residual in zip(states, residuals, strict=True)
        if residual is not None and state != "gone"
    )
    sound = (
        known
        and mode == "armed"
        and required
        and synced
        and "top" in views
        and blind_ms <= 200
        and sum(n >= 300 for n in arcs) == 1
        and answered
        and reason is None
        and score is not None
        and math.isfinite(score * 2)
    )
    expected = Label.INDETERMINATE
    if sound and score is not None:
        expected = Label.OK if score < 1 else Label.NOK
    assert decision.label is expected
    if decision.label is Label.OK:
        assert decision.degraded == (states != ("ok", "ok", "ok"))
