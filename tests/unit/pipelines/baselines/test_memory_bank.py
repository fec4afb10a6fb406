"""The memory bank: what each of its banks can see, and how they are weighed."""

import dataclasses
import json

import numpy as np
import pytest

from pipelines.baselines.memory_bank import MemoryBank, MemoryBankConfig, fit_memory_bank, plateau
from pipelines.baselines.table import BASELINES
from pipelines.grids import GridData
from pipelines.loop import LoopConfig
from tests.unit.pipelines.baselines import law

CONFIG = MemoryBankConfig(share=0.1)


def _fit(config: MemoryBankConfig = CONFIG, pair: bool = True) -> MemoryBank:
    train, held_out = law.grids(100, 1, pair=pair), law.grids(30, 2, pair=pair)
    return fit_memory_bank(train, held_out, config, LoopConfig(), law.quiet)


@pytest.fixture(scope="module")
def fitted() -> MemoryBank:
    return _fit()


def _areas(method: MemoryBank) -> dict[str, float]:
    good = method.error_maps(law.grids(40, 3, pair=True))
    bad = method.error_maps(law.grids(40, 4, bad=True, pair=True))
    return {name: law.area(good[name], bad[name]) for name in good}


def test_only_the_joint_bank_sees_a_pair_that_does_not_match(fitted: MemoryBank) -> None:
    areas = _areas(fitted)
    assert areas["concat"] > 0.95
    assert areas["joint"] > 0.95
    assert 0.3 < areas["rgb"] < 0.7
    assert 0.3 < areas["geo"] < 0.7


def test_without_it_their_fusion_is_blind_too() -> None:
    areas = _areas(_fit(MemoryBankConfig(share=0.1, joint=False)))
    assert set(areas) == {"rgb", "geo", "joint"}
    assert 0.3 < areas["joint"] < 0.7


def test_each_bank_sees_its_own_modality(fitted: MemoryBank) -> None:
    good, odd = law.grids(20, 3, pair=True), law.grids(20, 5, pair=True)
    odd.cells["geo"][:, 2, 4] += 3.0
    before, after = fitted.error_maps(good), fitted.error_maps(odd)
    assert law.area(before["geo"], after["geo"]) > 0.95
    assert law.area(before["joint"], after["joint"]) > 0.95
    assert 0.2 < law.area(before["rgb"], after["rgb"]) < 0.8


def test_the_two_rows_differ_in_what_they_can_see() -> None:
    """M3DM's form weighs each modality's own banks; a pair that does not match is for the concatenated bank alone."""
    found = {}
    for name in ("memory_bank", "memory_bank_concat"):
        config = dataclasses.replace(BASELINES[name].config("cell"), share=0.1)
        found[name] = _areas(_fit(config))
    assert set(found["memory_bank"]) == {"rgb", "geo", "joint"}
    assert set(found["memory_bank_concat"]) == {"concat"}
    assert 0.3 < found["memory_bank"]["joint"] < 0.7
    assert found["memory_bank_concat"]["concat"] > 0.95


def test_a_bank_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="neither each nor joint"):
        _fit(MemoryBankConfig(each=False, joint=False))


def test_fused_is_the_weighted_sum(fitted: MemoryBank) -> None:
    maps = fitted.error_maps(law.grids(4, 3, pair=True))
    assert (fitted.weights > 0).all()
    wanted = sum(w * maps[name] for w, name in zip(fitted.weights, fitted.banks, strict=True))
    np.testing.assert_allclose(maps["joint"], wanted, rtol=1e-5)


def test_scaled_fusion_does_not_care_for_units() -> None:
    def share(scaled: bool) -> float:
        data = [law.grids(60, 1, pair=True), law.grids(30, 2, pair=True)]
        loud = [GridData({**d.cells, "geo": d.cells["geo"] * 50}, d.valid, d.program, d.programs) for d in data]
        config = MemoryBankConfig(share=0.1, joint=False, scaled_fusion=scaled)
        method = fit_memory_bank(*loud, config, LoopConfig(), law.quiet)
        maps = method.error_maps(loud[1])
        parts = [float(w * np.median(maps[k])) for w, k in zip(method.weights, method.banks, strict=True)]
        return parts[1] / sum(parts)

    assert share(True) < 0.7
    assert share(False) > 0.95


def test_one_modality_has_no_fusion() -> None:
    method = _fit(pair=False)
    assert list(method.error_maps(law.grids(2, 3))) == ["rgb"]


def test_zero_where_not_valid_and_the_same_when_restored(fitted: MemoryBank) -> None:
    data = law.grids(5, 6, pair=True)
    data.valid[1] = False
    maps = fitted.error_maps(data)
    again = MemoryBank.restore(json.loads(json.dumps(fitted.about())), fitted.tensors()).error_maps(data)
    assert set(maps) == {"rgb", "geo", "concat", "joint"}
    for name, found in maps.items():
        assert np.isfinite(found).all()
        assert (found[~data.valid] == 0).all()
        assert (found[data.valid] > 0).all()
        np.testing.assert_array_equal(found, again[name])


def test_smaller_banks_hold_less_and_lie_farther(fitted: MemoryBank) -> None:
    small = fitted.truncated(0.02)
    data = law.grids(5, 6, pair=True)
    assert small.state_mb < 0.3 * fitted.state_mb
    assert small.error_maps(data)["rgb"].mean() > fitted.error_maps(data)["rgb"].mean()
    with pytest.raises(ValueError, match=r"share 0\.1 have no part of share 0\.2"):
        fitted.truncated(0.2)


def test_banks_of_a_program_know_that_program_only() -> None:
    train = law.grids(60, 1)
    train.cells["rgb"][train.program == 1] += 5.0
    swapped = law.grids(20, 3)  # program 1 without what sets it apart: a weld of program 0
    means = {}
    for per_program in (True, False):
        config = MemoryBankConfig(share=0.1, per_program=per_program)
        found = fit_memory_bank(train, train.take(np.arange(20)), config, LoopConfig(), law.quiet).error_maps(swapped)
        means[per_program] = found["rgb"][swapped.program == 1].mean()
    assert means[True] > 3 * means[False]


def test_the_published_preset_differs_in_what_it_should() -> None:
    compat, cell = MemoryBankConfig.preset("compat"), MemoryBankConfig.preset("cell")
    assert (compat.neighbours, compat.scaled_fusion, compat.share) == (1, False, 0.1)
    assert (cell.neighbours, cell.scaled_fusion) == (3, True)


def test_plateau_is_the_smallest_that_is_as_good() -> None:
    assert plateau({0.01: 0.8, 0.02: 0.899, 0.05: 0.9, 0.1: 0.897}) == 0.02


def test_held_out_goods_without_a_cell_are_refused() -> None:
    held_out = law.grids(3, 2, pair=True)
    held_out.valid[:] = False
    with pytest.raises(ValueError, match="no valid cell"):
        fit_memory_bank(law.grids(20, 1, pair=True), held_out, CONFIG, LoopConfig(), law.quiet)
