"""Contrasts: paired intervals, Holm by hand, selection on one corpus and the test on the other, what is missing."""

import numpy as np
import pytest

from edged.bench.detection.contrasts import CONTRASTS, contrast_rows, holm
from edged.bench.detection.paired import combine, points_of
from edged.bench.detection.scored import Run
from tests.support.synthetic_runs import a_run, row, seams


def named(rows: list[dict], begin: str) -> dict:
    (only,) = [r for r in rows if r["name"].startswith(begin + " ")]
    return only


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, None, 0.5]) == [pytest.approx(0.06), None, pytest.approx(1.0)]
    assert holm([]) == []


def test_a_difference_of_paired_scores_is_known_more_closely() -> None:
    tested = seams(300, 20)
    first = a_run(row(pipeline="a"), {"both": 0.8}, tested, seed=1)
    moved = np.array([0.15 if s.family == "both" else 0.0 for s in tested])
    twin = Run(row(pipeline="b"), tested, first.score * np.exp(moved))
    stranger = a_run(row(pipeline="c"), {"both": 0.83}, tested, seed=2)
    paired = combine(points_of([[twin], [first]]), [1, -1])
    apart = combine(points_of([[stranger], [first]]), [1, -1])
    assert paired.value > 0
    assert paired.ci[0] > 0
    assert paired.p < 0.01
    assert paired.ci[1] - paired.ci[0] < 0.5 * (apart.ci[1] - apart.ci[0])


def test_points_join_corpora_and_seeds_and_a_deterministic_run_stands_beside_each() -> None:
    trained = [a_run(row(pipeline="a", corpus=c, seed=s), {}, seed=s) for c in (1, 2) for s in (0, 1)]
    fixed = [a_run(row(pipeline="b", corpus=1, seed=None), {}, seed=9)]
    assert [(p.corpus, p.seed) for p in points_of([trained, fixed])] == [("1", 0), ("1", 1)]
    assert [(p.corpus, p.seed) for p in points_of([trained])] == [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    odd = [a_run(row(pipeline="c", corpus=1, seed=7), {}, seed=9)]
    assert points_of([trained, odd]) == []


def test_seams_that_one_run_lacks_are_left_out_of_both() -> None:
    tested = seams(200, 10)
    whole = a_run(row(pipeline="a"), {}, tested)
    half = Run(row(pipeline="b"), tested[::2], whole.score[::2])
    found = combine(points_of([[whole], [half]]), [1, -1])
    assert found.value == 0.0
    assert found.n_good + found.n_bad == len(tested[::2])


def product_runs(corpora: tuple[int, ...]) -> list[Run]:
    """Marginals: `patchcore` leads on corpus 1, `memae` on corpus 2."""
    out = []
    for corpus in corpora:
        lead = {"patchcore": 0.8 if corpus == 1 else 0.6, "memae": 0.7 if corpus == 1 else 0.9}
        for k, (name, level) in enumerate({"causal_hm_full": 0.85, **lead}.items()):
            families = dict.fromkeys(("process", "result", "pair", "both"), level)
            pair = ["geo", "proc"] if name == "causal_hm_full" else None
            out.append(a_run(row(pipeline=name, corpus=corpus, pair=pair), families, seed=10 * corpus + k))
    return out


def test_the_best_marginal_is_picked_on_the_first_corpus_and_tested_on_the_second() -> None:
    found = named(contrast_rows(product_runs((1, 2)), 300), "1")
    assert found["arms"] == ["causal_hm_full (geo,proc)", "patchcore"]
    assert (found["selected_on"], found["corpora"]) == ("corpus 1", ["2"])
    assert found["difference"] == pytest.approx(0.25, abs=0.04)
    assert found["ci"][0] > 0.15
    assert found["n_good"] == 600
    assert found["p_holm"] == pytest.approx(min(1.0, 8 * found["p"]))


def test_with_one_corpus_the_row_says_that_it_was_picked_and_tested_on_the_same() -> None:
    found = named(contrast_rows(product_runs((1,)), 300), "1")
    assert found["selected_on"] == "corpus 1, the only one, and tested on it too"
    assert found["difference"] == pytest.approx(0.05, abs=0.04)


def test_a_baseline_of_one_corpus_cannot_be_the_one_tested_and_the_row_says_so() -> None:
    runs = [r for r in product_runs((1, 2)) if (r.row["pipeline"], r.row["corpus"]) != ("patchcore", 2)]
    found = named(contrast_rows(runs, 300), "1")
    assert found["arms"][1] == "memae"
    assert found["selected_on"] == "corpus 1; patchcore was higher there but did not run on corpus 2"


def test_missing_runs_leave_a_row_with_a_reason_that_spares_the_others_nothing() -> None:
    rows = contrast_rows(product_runs((1, 2)), 300)
    assert [r["name"] for r in rows] == [c.name for c in CONTRASTS]
    assert named(rows, "4")["reason"] == "no run of causal_hm_full [anti_generalisation:off]"
    assert named(rows, "3")["reason"].startswith(
        "no run of causal_hm [direction:p_to_r], causal_hm [direction:r_to_p]"
    )
    assert [r["difference"] for r in rows if r["reason"]] == [None] * (len(rows) - 1)
    assert all(r["p_holm"] is None for r in rows if not r["primary"])


def test_each_family_and_the_sum_of_four_arms() -> None:
    level = {"process": 0.9, "both": 0.9, "result": 0.9, "pair": 0.9}
    noisy = dict.fromkeys(level, 0.85)
    blind = level | {"process": 0.6, "both": 0.8}
    runs = [
        a_run(row(pipeline="causal_hm_full"), level, seed=1),
        a_run(row(pipeline="causal_hm_full", ablation="sensor:off"), blind, seed=2),
        a_run(row(pipeline="causal_hm_full", ablation="sensor_noise:0.3"), noisy, seed=3),
        a_run(row(pipeline="memory_bank"), dict.fromkeys(level, 0.9), seed=4),
        a_run(row(pipeline="memory_bank", ablation="sensor_noise:0.3"), dict.fromkeys(level, 0.7), seed=5),
    ]
    rows = contrast_rows(runs, 300)
    assert named(rows, "5a")["difference"] == pytest.approx(0.3, abs=0.06)
    assert named(rows, "5b")["difference"] == pytest.approx(0.1, abs=0.05)
    assert named(rows, "6")["difference"] == pytest.approx(0.2 - 0.05, abs=0.05)
    assert named(rows, "5a")["n_bad"] == 150


def test_the_mismatch_on_pair_is_held_against_chance_and_the_best_joint_baseline_of_the_right_pair() -> None:
    runs = [
        a_run(row(pipeline="causal_hm_mismatch", pair="geo,proc"), {"pair": 0.8}, seed=1),
        a_run(row(pipeline="cfm", pair="geo,proc"), {"pair": 0.6, "result": 0.99}, seed=2),
        a_run(row(pipeline="uni_rcm", pair="rgb,proc"), {"pair": 0.99}, seed=3),
        a_run(row(pipeline="memory_bank", pair="rgb,geo"), {"pair": 0.99}, seed=4),
    ]
    rows = contrast_rows(runs, 300)
    assert named(rows, "2a")["difference"] == pytest.approx(0.3, abs=0.05)
    assert (
        named(rows, "2b")["arms"][1] == "cfm (geo,proc)"
    )  # uni_rcm over (geo,proc) only, (rgb,geo) is no joint pair


def test_the_product_is_its_run_over_the_protocols_pair_at_the_fast_sensor() -> None:
    def of(pair: str, rate: int, seed: int, level: float) -> Run:
        about = row(pipeline="causal_hm_mismatch", pair=pair, sensor_rate=rate)
        return a_run(about, {"pair": level}, seed=seed)

    runs = [of("rgb,proc", 10_000, 1, 0.5), of("geo,proc", 9, 2, 0.6), of("geo,proc", 10_000, 3, 0.9)]
    found = named(contrast_rows(runs, 100), "2a")
    assert found["arms"] == ["causal_hm_mismatch (geo,proc, 10000 Hz)"]
