"""What a client said against what was due, and how its lines are read."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.plcsim.reports import Report, Reports, read_line
from edged.plcsim.stage import NOT_OK, Due, compare

DUE = [
    Due(1, "a", frozenset({1})),
    Due(2, "b", frozenset({2})),
    Due(3, "odd", NOT_OK),
    Due(4, "p", frozenset({1, None})),
    Due(5, "c", frozenset({0})),
]
ALL = [(1, 1, "a"), (2, 2, "b"), (3, 0, "odd"), (4, 1, "p"), (5, 0, "c")]


def test_everything_as_it_ought_to_be() -> None:
    assert compare(DUE, ALL) is None
    assert compare(DUE, [said for said in ALL if said[0] not in (3, 4)]) is None
    assert compare([], []) is None


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda said: said[:1] + said[2:], "1 of 5 were not accepted, the first of them 2"),
        (lambda said: said[:2] + said[1:], "sequence 2 was accepted twice"),
        (lambda said: [said[1], said[0], *said[2:]], "sequence 1 was accepted after 2"),
        (lambda said: [(1, 0, "a"), *said[1:]], "sequence 1 was accepted with label 0, not 1"),
        (lambda said: [*said[:2], (3, 1, "odd"), *said[3:]], "sequence 3 was accepted with label 1, not 0 or 2"),
        (lambda said: [(1, 1, "b"), *said[1:]], "sequence 1 was accepted as seam b, not a"),
        (lambda said: [*said, (6, 1, "x")], "sequence 6 was accepted with label 1, but must not be, or not again"),
    ],
)
def test_what_is_not(spoil: Callable[[Any], Any], problem: str) -> None:
    assert compare(DUE, spoil(ALL)) == problem


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("17 1 01J8\n", Report(17, 1, "01J8")),
        ("  17   0 x ", Report(17, 0, "x")),
        ("17 7 x", Report(17, 7, "x")),
        ("stale", "stale"),
        ("state stale\n", "stale"),
        ("state live", "live"),
        ("state of things", None),
        ("ok 1", None),
        ("journal 01J8", None),
        ("lost 3 4", None),
        ("17 1", None),
        ("17 -1 x", None),
        ("17 1 x y", None),
        ("²3 1 x", None),
        ("9" * 30 + " 1 x", None),
        ("", None),
    ],
)
def test_lines(line: str, found: object) -> None:
    assert read_line(line) == found


@given(st.text(max_size=200))
def test_no_line_is_an_error(line: str) -> None:
    assert isinstance(read_line(line), Report | str | None)


def test_reports_of_a_source_that_ends() -> None:
    reports = Reports(io.StringIO("hello\nstate live\n1 1 a\n2 0 b\nstale\n"))
    reports.close()
    assert reports.has_ended
    assert reports.accepted == [Report(1, 1, "a"), Report(2, 0, "b")]
    assert [state for _, state in reports.states] == ["live", "stale"]
    assert reports.is_stale
