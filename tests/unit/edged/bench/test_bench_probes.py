"""Probes and oracle on rows whose separability is known."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from edged.bench.delay import FALSE_ALARMS, causal_rows, delays_of, first_alarms
from edged.bench.oracle import oracle_rows, oracle_scores
from edged.bench.probes import folds, judge, probe_rows, probe_scores
from edged.bench.tables import Side, Tables, Windows, within_program
from pipelines.metrics import auroc

SEAMS, SESSIONS = 240, 24
RNG = np.random.default_rng(5)
PROGRAM = np.array(["a", "b"])[np.arange(SEAMS) % 2]
SESSION = np.array([f"s{k * SESSIONS // SEAMS:02d}" for k in range(SEAMS)])
NUISANCE = 50.0 * (PROGRAM == "b") + RNG.normal(size=SEAMS)


def side(family: str, process: np.ndarray, result: np.ndarray, type_name: str = "") -> Side:
    severity = np.zeros(SEAMS, int) if family == "good" else 1 + np.arange(SEAMS) // 2 % 5
    empty = np.full((SEAMS, 2), np.nan)
    constant = np.column_stack([PROGRAM == "b", np.ones(SEAMS)]).astype(float)
    return Side(family, np.full(SEAMS, type_name), severity, process, result, constant, constant, empty, None)


def tables(**sides: Side) -> Tables:
    names = ("p0", "p1"), ("r0", "r1"), ("w",)
    return Tables(dict(sides), PROGRAM, SESSION, np.ones((SEAMS, 3)), *names)


def good() -> Side:
    process = np.column_stack([NUISANCE, RNG.normal(size=SEAMS)])
    return side("good", process, np.column_stack([NUISANCE, RNG.normal(size=SEAMS)]))


def test_equal_rows_give_exactly_half_and_hold() -> None:
    base = good()
    rows = probe_rows(tables(good=base, process=dataclasses.replace(base, family="process")), [("process", "result")])
    assert (rows[0].auroc, rows[0].ci, rows[0].ok) == (0.5, (0.5, 0.5), True)


@pytest.mark.parametrize("part", ["result", "setpoints", "metadata"])
def test_a_leak_is_found_and_fails(part: str) -> None:
    base = good()
    leak = getattr(base, part) + np.array([0.0, 2.0])
    bad = dataclasses.replace(base, family="process", **{part: leak})
    (row,) = probe_rows(tables(good=base, process=bad), [("process", part)])
    assert row.auroc > 0.85
    assert row.ok is False


def test_a_known_shift_gives_about_its_auroc() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (SEAMS, 1)), rng.normal(1.2, 1, (SEAMS, 1))
    scores = probe_scores(a, b, PROGRAM, SESSION)
    found = auroc([False] * SEAMS + [True] * SEAMS, scores.tolist(), np.tile(SESSION, 2).tolist())
    assert found.value == pytest.approx(norm.cdf(1.2 / np.sqrt(2)), abs=0.07)


def test_noise_is_told_by_nobody() -> None:
    rng = np.random.default_rng(2)
    scores = probe_scores(rng.normal(size=(SEAMS, 8)), rng.normal(size=(SEAMS, 8)), PROGRAM, SESSION)
    found = auroc([False] * SEAMS + [True] * SEAMS, scores.tolist(), np.tile(SESSION, 2).tolist())
    assert found.ci is not None
    assert found.ci[0] < 0.5 < found.ci[1]


def test_rules() -> None:
    assert judge("process", "result", 0.52, (0.48, 0.56)) is False
    assert judge("result", "process", 0.5, (0.5, 0.5)) is True
    assert judge("pair", "result", 0.55, (0.52, 0.58)) is False
    assert judge("both", "result", 0.9, (0.8, 1.0)) is None
    assert judge("both", "setpoints", 0.6, (0.56, 0.64)) is False
    assert judge("drift", "metadata", 0.6, (0.56, 0.64)) is False


def test_folds_never_divide_a_session_and_test_each_seam_once() -> None:
    tested = np.zeros(SEAMS, int)
    for train, test in folds(SESSION):
        assert not set(SESSION[train]) & set(SESSION[test])
        tested += test
    assert (tested == 1).all()
    with pytest.raises(ValueError, match="1 session"):
        list(folds(np.array(["one", "one"])))


def test_scale_is_of_the_program_and_leaves_absent_columns_absent() -> None:
    rows = np.column_stack([NUISANCE, np.where(PROGRAM == "a", np.nan, NUISANCE), np.ones(SEAMS)])
    scaled = within_program(rows, PROGRAM)(rows, PROGRAM)
    assert abs(np.median(scaled[PROGRAM == "b", 0])) < 1e-9
    assert np.isnan(scaled[PROGRAM == "a", 1]).all()
    assert (scaled[:, 2] == 0).all()


def test_oracle_grows_with_severity_and_finds_broken_pairs() -> None:
    rng = np.random.default_rng(3)
    base = good()
    severity = 1 + np.arange(SEAMS) // 2 % 5
    moved = base.process + np.outer(severity - 1.0, [0.0, 1.2])
    bad = dataclasses.replace(side("process", moved, base.result, "drop"))
    rows = oracle_rows(tables(good=base, process=bad), lambda _: {5: 0.4}, [("process", "drop")])
    assert [row.severity for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].auroc is not None
    assert rows[0].auroc < 0.65
    assert rows[4].auroc is not None
    assert rows[4].auroc > 0.95
    assert [row.delay_s_p50 for row in rows] == [None, None, None, None, 0.4]
    # Process and result are one number in goods; a pair takes another seam's result of the same program.
    own = np.column_stack([NUISANCE, NUISANCE]) + 0.1 * rng.normal(size=(SEAMS, 2))
    whole = side("good", own, own + 0.1 * rng.normal(size=(SEAMS, 2)))
    pair = dataclasses.replace(
        whole, family="pair", type=np.full(SEAMS, "pair"), result=np.roll(whole.result, 2, axis=0)
    )
    scores = oracle_scores(tables(good=whole, pair=pair), pair, "pair")
    found = auroc([False] * SEAMS + [True] * SEAMS, scores.tolist(), np.tile(SESSION, 2).tolist())
    assert found.value is not None
    assert found.value > 0.8


def windows(rows: np.ndarray) -> Windows:
    """(seams, count, k) → windows."""
    seams, count, k = rows.shape
    return Windows(
        rows.reshape(-1, k).astype(np.float32), np.repeat(np.arange(seams), count), np.tile(np.arange(count), seams)
    )


def test_delay_of_a_step_at_a_known_time() -> None:
    rng = np.random.default_rng(4)
    count, onset_s = 30, 1.15
    base, step = (rng.normal(size=(SEAMS, count, 1)) for _ in range(2))
    step[:, 12:] += 8.0
    table = tables(good=dataclasses.replace(good(), windows=windows(base)))
    bad = dataclasses.replace(
        side("process", good().process, good().result, "step"),
        extent=np.tile([onset_s, 3.0], (SEAMS, 1)),
        windows=windows(step),
    )
    table.sides["process"] = bad
    # The first window that holds the step is the 13th: it ends 1.3 s after arc-on.
    assert delays_of(table, "step")[3] == pytest.approx(0.15, abs=0.101)
    hidden = dataclasses.replace(bad, windows=windows(rng.normal(size=(SEAMS, count, 1))))
    table.sides["process"] = hidden
    assert delays_of(table, "step")[3] is None
    assert FALSE_ALARMS == 0.01


def test_alarms_before_the_onset_do_not_count() -> None:
    some = windows(np.zeros((2, 10, 1)))
    alarm = np.zeros(20, bool)
    alarm[[1, 6, 8]] = True
    extent = np.array([[0.45, 1.0], [0.2, 1.0]])
    late = first_alarms(alarm, some, extent)
    assert late[0] == pytest.approx(0.25)
    assert late[1] == float("inf")


def test_causal_rows_never_look_ahead() -> None:
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(2, 12, 3))
    whole, changed = windows(rows), rows.copy()
    changed[:, 8:] += 100.0
    a, b = causal_rows(whole), causal_rows(windows(changed))
    before = whole.number < 8
    np.testing.assert_array_equal(a[before], b[before])
    assert not np.allclose(a[~before], b[~before])
