"""Stages of learning: order, scores, forgetting by hand, and a whole small run."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pipelines.forgetting import areas_after_stages, contrast, forgetting, interval, mean_auroc
from pipelines.grids import GridData
from pipelines.ib_iumad import IbIumad, IbIumadConfig
from pipelines.incremental import (
    IncrementalData,
    MethodScores,
    Schedule,
    learners,
    run_learner,
    seam_figures,
    stages_of,
    summarise,
)
from pipelines.loop import LoopConfig

H, W, C = 4, 4, 3
NAMES = ("c", "a", "b")
TINY = IbIumadConfig.preset(d=8, feed_forward=8, levels=1, heads=2, bottleneck=4, d_state=2, max_tokens=4)
LOOP = LoopConfig(epochs=1, batch=8)
SCHEDULE = Schedule(base=2, base_loop=LOOP, step_loop=LOOP)


def quiet(stage: str, done: int, total: int, loss: float) -> None:
    """Says nothing."""


def grids(seed: int, each: int, shift: float = 0.0) -> GridData:
    rng = np.random.default_rng(seed)
    n = each * len(NAMES)
    program = np.arange(n, dtype=np.int64) % len(NAMES)
    cells = {name: rng.standard_normal((n, H, W, C)).astype(np.float32) for name in ("geo", "proc")}
    cells["geo"] += shift
    return GridData(cells, np.ones((n, H, W), np.bool_), program, len(NAMES))


@pytest.fixture
def data() -> IncrementalData:
    torch.set_num_threads(1)
    good, bad = grids(3, 6), grids(4, 6, shift=9.0)
    cells = {name: np.concatenate([good.cells[name], bad.cells[name]]) for name in good.cells}
    test = GridData(
        cells, np.concatenate([good.valid, bad.valid]), np.concatenate([good.program, bad.program]), len(NAMES)
    )
    session = tuple(f"s{i % 5}" for i in range(36))
    return IncrementalData(NAMES, grids(1, 6), grids(2, 4), test, np.arange(36) >= 18, session)


def test_stages_are_alphabetical() -> None:
    assert stages_of(["d", "b", "a", "c"], 2) == (("a", "b"), ("c",), ("d",))
    with pytest.raises(ValueError, match="more than 2"):
        stages_of(["a", "b"], 2)


def test_forgetting_by_hand() -> None:
    """Program 0: 1 → .5 → .75; program 1, learnt at stage 1: 0 → 1. FM_2 = ((1 − .75) + (0 − 1)) / 2."""
    bad = np.array([0, 0, 1, 1] * 2, np.bool_)
    program = np.array([0] * 4 + [1] * 4, np.int64)
    session = ["s", "t"] * 4
    nan = [np.nan] * 4
    scores = [
        np.array([0, 1, 2, 3, *nan], np.float64),
        np.array([0, 2, 1, 1, 3, 2, 1, 0], np.float64),
        np.array([0, 2, 1, 3, 0, 1, 2, 3], np.float64),
    ]
    areas = areas_after_stages(scores, bad, program, session, [0, 1])
    np.testing.assert_allclose(areas.areas[0], [[1, np.nan], [0.5, 0], [0.75, 1]])
    assert forgetting(areas, 1)[0] == pytest.approx(0.5)
    assert forgetting(areas, 2)[0] == pytest.approx(((1 - 0.75) + (0 - 1)) / 2)
    assert mean_auroc(areas, 2)[0] == pytest.approx(0.875)
    found = interval(forgetting(areas, 2))
    assert found.ci is not None
    assert found.ci[0] <= found.ci[1]
    assert contrast(forgetting(areas, 2), forgetting(areas, 2)) == dataclasses.replace(
        found, value=0.0, ci=(0.0, 0.0)
    )
    with pytest.raises(ValueError, match="nothing to forget"):
        forgetting(areas, 0)
    with pytest.raises(ValueError, match="not finite"):
        areas_after_stages([scores[0]], bad, program, session, [0, 0])
    with pytest.raises(ValueError, match="2 good and 0 bad"):
        areas_after_stages([scores[1][:2]], bad[:2], program[:2], session[:2], [0])


def test_a_seams_figure_is_the_worst_share_of_its_standardised_cells() -> None:
    rng = np.random.default_rng(0)
    held = dataclasses.replace(grids(2, 40), programs=3)
    scale = np.array([1.0, 10.0, 100.0])
    held_maps = {"geo": (1 + 0.1 * rng.standard_normal((120, H, W))) * scale[held.program, None, None]}
    test = grids(3, 1)
    maps = {"geo": np.ones((3, H, W)) * scale[:, None, None]}
    maps["geo"][:, 1, 2] *= 1.5  # 5 spreads of a good seam, in each program's own units
    test.valid[2, 1, 2] = False
    maps["geo"][2, 1, 2] = 0.0
    found = seam_figures({n: m.astype(np.float32) for n, m in held_maps.items()}, held, maps, test)  # type: ignore[arg-type]
    assert found[:2] == pytest.approx([5.0, 5.0], abs=1.2)
    assert abs(found[2]) < 1.0  # its cell is not valid
    test.valid[2] = False
    with pytest.raises(ValueError, match="1 of 3 seams have no valid cell"):
        seam_figures(held_maps, held, maps, test)  # type: ignore[arg-type]
    first = held.program == 0
    with pytest.raises(ValueError, match="program 1 has no held-out goods"):
        seam_figures({"geo": held_maps["geo"][first]}, held.take(first), maps, grids(3, 1))  # type: ignore[dict-item]


def test_every_learner_runs_over_all_stages(data: IncrementalData) -> None:
    bases: dict[IbIumadConfig, IbIumad] = {}
    runs = [run_learner(data, way, SCHEDULE, quiet, bases) for way in learners(TINY)]
    result = summarise(data, runs, SCHEDULE)
    assert result.stages == (("a", "b"), ("c",))
    by_name = {m.name: m for m in result.methods}
    assert list(by_name) == ["ib_iumad", "naive", "naive_with_modules", "iuf_like", "replay_20", "per_program"]
    for method in result.methods:
        assert [[a is None for a in row] for row in method.matrix] == [[False, False, True], [False] * 3]
        assert min(a for row in method.matrix for a in row if a is not None) > 0.9  # bads are 9 σ off
    assert by_name["per_program"].forgetting[0].value == 0.0
    assert by_name["ib_iumad"].matrix[0] == by_name["naive_with_modules"].matrix[0]  # one base model
    assert {c.method for c in result.contrasts} == set(by_name) - {"naive"}
    assert json.loads(json.dumps(result.to_json()))["stages"] == [["a", "b"], ["c"]]


def test_scores_belong_to_the_right_program_whatever_the_order(data: IncrementalData) -> None:
    """Programs are given as c, a, b; c is learnt last, so only its seams have no score at first."""
    first = np.where(data.test.program == 0, np.nan, data.bad.astype(np.float64))
    last = np.where(data.test.program == 1, ~data.bad, data.bad).astype(np.float64)  # a is forgotten wholly
    result = summarise(data, [MethodScores("naive", (first, last), 0.0)], SCHEDULE)
    assert result.methods[0].matrix == ((1.0, 1.0, None), (0.0, 1.0, 1.0))
    assert result.methods[0].forgetting[0].value == 0.5
