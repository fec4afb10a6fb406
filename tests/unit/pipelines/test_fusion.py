"""From error maps to a seam's score: the published way by hand, and the cell's on goods of a known law."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage, signal
from sklearn.metrics import roc_auc_score

from pipelines.fusion import RULES, UNMEASURED_Z, FusedScore, Fusion, Rule, blur, compat_scores, fit_fusion

H, W, PROGRAMS = 8, 12, 2
Maps = dict[str, np.ndarray]


def goods(n: int, seed: int, noise: float = 0.3, modalities: tuple[str, ...] = ("geo", "proc")) -> Maps:
    """Log-normal errors; the place, the modality, the program and the seam each set a level of their own."""
    rng, law = np.random.default_rng(seed), np.random.default_rng(7)
    program = np.arange(n) % PROGRAMS
    found = {}
    for k, name in enumerate(modalities):
        level = law.normal(3.0 * k, 0.5, (H, W)) + law.normal(0, 1.0, PROGRAMS)[program][:, None, None]
        logs = level + rng.normal(0, 0.1, (n, 1, 1)) + rng.normal(0, noise, (n, H, W))
        found[name] = np.exp(logs).astype(np.float32)
    return found


def programs_of(maps: Maps) -> np.ndarray:
    return np.arange(len(next(iter(maps.values())))) % PROGRAMS


def whole(maps: Maps) -> np.ndarray:
    return np.ones((len(next(iter(maps.values()))), H, W), bool)


def fitted(n: int = 160, rule: str = "minp") -> Fusion:
    maps = goods(n, 1)
    return fit_fusion(maps, whole(maps), programs_of(maps), PROGRAMS, np.arange(n) // 8, rule)


def one(fusion: Fusion, maps: Maps, program: int, valid: np.ndarray | None = None) -> FusedScore:
    return fusion.score(maps, valid, program)


def scores(fusion: Fusion, maps: Maps) -> np.ndarray:
    program = programs_of(maps)
    return np.array(
        [one(fusion, {k: m[i] for k, m in maps.items()}, int(p)).raw for i, p in enumerate(program.tolist())]
    )


def marked(maps: Maps, factors: dict[str, float]) -> Maps:
    """A patch of 2 × 2 cells that many times worse."""
    found = {name: m.copy() for name, m in maps.items()}
    for name, factor in factors.items():
        found[name][:, 3:5, 6:8] *= factor
    return found


def auroc(fusion: Fusion, good: Maps, bad: Maps) -> float:
    found = [scores(fusion, good), scores(fusion, bad)]
    return float(roc_auc_score(np.repeat([0, 1], [len(f) for f in found]), np.concatenate(found)))


def test_blur_is_scipys_box_filter_repeated() -> None:
    maps = np.random.default_rng(0).random((3, 20, 31))
    expected = maps
    for size in (5, 5, 5, 5, 5, 7, 7, 7):
        expected = np.stack([ndimage.uniform_filter(m, size, mode="constant") for m in expected])
    np.testing.assert_allclose(blur(maps), expected, rtol=1e-10)


def test_blur_is_one_kernel_with_zero_padding_and_exact_zeros() -> None:
    point = np.zeros((61, 61))
    point[30, 30] = 1.0
    kernel = np.ones((1, 1))
    for size in (5,) * 5 + (7,) * 3:
        kernel = signal.convolve2d(kernel, np.full((size, size), 1 / size**2))
    found = blur(point)
    np.testing.assert_allclose(found[11:50, 11:50], kernel, rtol=1e-9)
    assert kernel.shape == (39, 39)
    assert np.count_nonzero(found) == kernel.size
    assert blur(point).sum() == pytest.approx(1.0)
    assert blur(np.ones((9, 9)))[0, 0] < 0.5  # what lies off the grid is 0


@pytest.mark.parametrize(("rule", "fuse"), [("mul", np.multiply), ("add", np.add), ("max", np.maximum)])
def test_compat_scores_by_hand(rule: str, fuse: np.ufunc) -> None:
    maps = {name: m.astype(float) for name, m in goods(3, 5).items()}
    for m in maps.values():
        m[:, :, 6:] = 0.0
    found = compat_scores(maps, rule)  # type: ignore[arg-type]
    for i in range(3):
        psi = blur(fuse(maps["geo"][i], maps["proc"][i]))
        inside = psi[psi != 0].mean()
        assert found.image[i] == pytest.approx((psi / np.sqrt(inside)).max())
        np.testing.assert_allclose(found.aupro_map[i], psi / inside)
        np.testing.assert_allclose(found.pixel_map[i], psi / np.sqrt(psi.mean()))


def test_compat_scores_hold_no_absolute_scale_of_a_map() -> None:
    maps = goods(2, 5)
    found, louder = compat_scores(maps), compat_scores({name: 100 * m for name, m in maps.items()})
    np.testing.assert_allclose(found.aupro_map, louder.aupro_map)


def test_compat_scores_refuse_a_seam_that_was_not_measured() -> None:
    maps = goods(3, 5)
    maps["geo"][1] = 0.0
    assert compat_scores(maps, "add").image[1] > 0
    with pytest.raises(ValueError, match="seam 1"):
        compat_scores(maps, "mul")


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_a_defect_in_both_modalities(rule: Rule) -> None:
    bad = marked(goods(80, 3), {"geo": 3.0, "proc": 3.0})
    assert auroc(fitted(rule=rule), goods(80, 2), bad) > 0.98


def test_mul_loses_to_max_on_a_defect_of_one_modality_and_minp_does_not() -> None:
    good, fusion = goods(300, 2), fitted()
    for name in ("geo", "proc"):
        bad = marked(goods(300, 3), {name: 2.6})
        found = {rule: auroc(dataclasses.replace(fusion, rule=rule), good, bad) for rule in RULES}
        assert 0.7 < found["max"] < 0.99, found
        assert found["mul"] < found["max"] - 0.02, found
        assert found["minp"] > found["mul"] + 0.01, found
        assert found["minp"] > found["max"] - 0.015, found


def test_mul_and_add_win_where_both_modalities_show_a_little() -> None:
    good, fusion = goods(300, 2), fitted()
    bad = marked(goods(300, 3), {"geo": 1.7, "proc": 1.7})
    found = {rule: auroc(dataclasses.replace(fusion, rule=rule), good, bad) for rule in RULES}
    assert found["mul"] > found["max"] + 0.01, found
    assert found["add"] > found["max"], found


def test_minp_is_not_ruled_by_the_modality_whose_goods_vary_most() -> None:
    """The other modality's goods differ twenty times more from seam to seam: max follows it, min-p does not."""

    def wild(n: int, seed: int) -> Maps:
        maps = goods(n, seed)
        maps["proc"] *= np.exp(np.random.default_rng(seed + 50).normal(0, 2.0, (n, 1, 1))).astype(np.float32)
        return maps

    train = wild(160, 1)
    fusion = fit_fusion(train, whole(train), programs_of(train), PROGRAMS, np.arange(160) // 8)
    good, bad = wild(200, 2), marked(wild(200, 3), {"geo": 2.6})
    assert auroc(fusion, good, bad) > auroc(dataclasses.replace(fusion, rule="max"), good, bad) + 0.05


def test_about_one_good_in_a_hundred_has_a_p_below_one_percent() -> None:
    fusion, good = fitted(240), goods(1000, 9)
    limit = np.log1p(np.exp(-np.log(0.01)))  # the raw score of k · min p = 1 %
    assert 0.001 <= (scores(fusion, good) > limit).mean() <= 0.04
    assert (abs(np.median(_z(fusion, good), axis=0)) < 0.35).all()


def test_standards_are_fitted_out_of_fold() -> None:
    """With few goods, cells measured against themselves look calm; the standards must not be taken from those."""
    maps = goods(24, 1)
    few = fit_fusion(maps, whole(maps), programs_of(maps), PROGRAMS, np.arange(24) // 3)
    z = _z(few, goods(400, 11))
    assert (z > 1.6449).mean() < 0.15  # 5 % of very many goods; a fit on the cells' own goods gives 30 %


def _z(fusion: Fusion, maps: Maps) -> np.ndarray:
    """(seams, modalities)"""
    program = programs_of(maps).tolist()
    found = [one(fusion, {k: m[i] for k, m in maps.items()}, p).by_modality for i, p in enumerate(program)]
    return np.array([list(z.values()) for z in found])


def test_programs_that_differ_at_every_place_lend_each_other_little() -> None:
    def patterned(n: int, seed: int) -> Maps:
        pattern = np.random.default_rng(3).normal(0, 1.5, (PROGRAMS, H, W))[np.arange(n) % PROGRAMS]
        return {name: (m * np.exp(pattern)).astype(np.float32) for name, m in goods(n, seed).items()}

    maps = patterned(48, 1)
    fusion = fit_fusion(maps, whole(maps), programs_of(maps), PROGRAMS, np.arange(48) // 3)
    assert (_z(fusion, patterned(400, 11)) > 1.6449).mean() < 0.08
    # A bad cell is as far from its program's goods as if there were no other program.
    marks = one(fusion, {k: m[0] for k, m in marked(patterned(2, 12), {"geo": 6.0}).items()}, 0).map
    assert marks[3:5, 6:8].min() > 2.5


def test_the_map_shows_the_place() -> None:
    for rule in RULES:
        fusion = dataclasses.replace(fitted(), rule=rule)
        bad = marked(goods(2, 3), {"geo": 6.0})
        found = one(fusion, {k: m[0] for k, m in bad.items()}, 0)
        assert found.map.shape == (H, W)
        assert found.map[3:5, 6:8].min() > np.delete(found.map.ravel(), _patch()).mean() + 1.0
        i, j = np.unravel_index(found.map.argmax(), (H, W))
        assert (i in (3, 4), j in (6, 7)) == (True, True)


def _patch() -> list[int]:
    return [i * W + j for i in (3, 4) for j in (6, 7)]


@pytest.mark.parametrize("rule", RULES)
def test_raw_is_positive_finite_and_grows_with_the_error(rule: Rule) -> None:
    fusion, maps = fitted(rule=rule), goods(1, 4)
    factors = (1e-12, 0.3, 1.0, 3.0, 30.0, 1e6, 1e12, 1e30)
    raw = [one(fusion, {k: m[0].astype(np.float64) * by for k, m in maps.items()}, 0).raw for by in factors]
    assert raw[0] > 0.0
    assert np.isfinite(raw).all()
    assert (np.diff(raw[1:]) > 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_missing_modality_leaves_the_decision_to_the_other(rule: Rule) -> None:
    fusion = fitted(rule=rule)
    good, bad = goods(80, 2), marked(goods(80, 3), {"geo": 4.0})
    only = [{"geo": m["geo"]} for m in (good, bad)]
    assert auroc(fusion, *only) > 0.98
    absent = one(fusion, {"geo": bad["geo"][0], "proc": np.zeros((H, W), np.float32)}, 0)
    alone = one(fusion, {"geo": bad["geo"][0]}, 0)
    assert absent.raw == alone.raw
    assert list(absent.by_modality) == ["geo"]
    np.testing.assert_array_equal(absent.map, alone.map)


def test_nothing_measured_is_no_good_seam() -> None:
    fusion, nothing = fitted(), np.zeros((H, W), np.float32)
    with pytest.raises(ValueError, match="cannot be scored"):
        one(fusion, {"geo": nothing, "proc": nothing}, 0)
    with pytest.raises(ValueError, match="cannot be scored"):
        one(fusion, {}, 0)
    maps = {k: m[0] for k, m in goods(1, 4).items()}
    with pytest.raises(ValueError, match="cannot be scored"):
        one(fusion, maps, 0, np.zeros((H, W), bool))


def test_what_was_not_measured_has_no_part() -> None:
    maps = goods(160, 1)
    valid = whole(maps)
    valid[:, 0] = False
    valid[::3, :, :2] = False
    hidden = {k: np.where(valid, m, 0.0) for k, m in maps.items()}
    absurd = {k: np.where(valid, m, 1e4) for k, m in maps.items()}
    fits = [fit_fusion(m, valid, programs_of(m), PROGRAMS, np.arange(160) // 8) for m in (hidden, absurd)]
    found = [
        one(f, {k: m[0] for k, m in which.items()}, 0, valid[0])
        for f, which in zip(fits, (hidden, absurd), strict=True)
    ]
    assert found[0].raw == pytest.approx(found[1].raw, rel=1e-6)
    np.testing.assert_allclose(found[0].map, found[1].map, rtol=1e-5)
    assert (found[0].map[~valid[0]] == UNMEASURED_Z).all()
    assert (found[0].map[valid[0]] > UNMEASURED_Z).all()
    # Without `valid`, 0 says that a cell was not measured.
    assert one(fits[0], {k: m[0] for k, m in hidden.items()}, 0).raw == found[0].raw


def test_a_program_without_goods_is_measured_against_all_programs() -> None:
    maps = goods(80, 1)
    fusion = fit_fusion(maps, whole(maps), programs_of(maps), PROGRAMS + 1, np.arange(80) // 8)
    z = one(fusion, {k: m[0] for k, m in goods(1, 4).items()}, PROGRAMS).by_modality
    assert all(np.isfinite(v) for v in z.values())


def test_programs_are_measured_against_their_own_goods() -> None:
    fusion, maps = fitted(), goods(40, 6)
    own = [one(fusion, {k: m[i] for k, m in maps.items()}, i % 2).by_modality["geo"] for i in range(40)]
    swapped = [one(fusion, {k: m[i] for k, m in maps.items()}, 1 - i % 2).by_modality["geo"] for i in range(40)]
    assert np.ptp([np.median(own[::2]), np.median(own[1::2])]) < 1.5
    assert np.ptp([np.median(swapped[::2]), np.median(swapped[1::2])]) > 3.0


def test_tensors_give_the_same_fusion_again() -> None:
    fusion, maps = fitted(rule="add"), goods(3, 4)
    again = Fusion.from_tensors(fusion.rule, fusion.tensors())
    assert again.rule == "add"
    np.testing.assert_array_equal(scores(again, maps), scores(fusion, maps))
    with pytest.raises(ValueError, match="'sum', expected one of mul"):
        Fusion.from_tensors("sum", fusion.tensors())


def test_refusals_name_what_is_wrong() -> None:
    fusion, maps = fitted(), {k: m[0] for k, m in goods(1, 4).items()}
    with pytest.raises(ValueError, match="rgb: fitted on geo, proc"):
        one(fusion, maps | {"rgb": maps["geo"]}, 0)
    with pytest.raises(ValueError, match=r"program 2: fitted on programs 0\.\.1"):
        one(fusion, maps, 2)
    with pytest.raises(ValueError, match=r"geo: error map \(4, 12\), fitted on \(8, 12\)"):
        one(fusion, {"geo": maps["geo"][:4]}, 0)
    with pytest.raises(ValueError, match="geo: the error map has cells that are not finite"):
        one(fusion, {"geo": maps["geo"] * np.nan}, 0)
    every = goods(20, 1)
    with pytest.raises(ValueError, match="at least 2 sessions"):
        fit_fusion(every, whole(every), programs_of(every), PROGRAMS, np.zeros(20, np.int64))
    every["proc"][3, 0, 0] = np.inf
    with pytest.raises(ValueError, match="proc: error maps of goods"):
        fit_fusion(every, whole(every), programs_of(every), PROGRAMS, np.arange(20) // 4)
