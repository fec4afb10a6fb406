"""The bead follows its process: volume, widths, what the sensors can and cannot explain."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from drivers.sim.bead import (
    BEAD_STEP_MM,
    DEPOSITION,
    Bead,
    contact_angle_deg,
    form_bead,
    pool_length_mm,
    quasi_static_current,
)
from drivers.sim.faults import apply_fault, fault_of
from drivers.sim.programs import PROGRAMS
from drivers.sim.sessions import session_named, session_names
from drivers.sim.surface import height_map
from drivers.sim.variation import CRATER_FILL_S, LATENT_HZ, Latents, draw_latents


def _rolled(state: Latents) -> None:
    state.overlap_mm[1500:3500] += 1.0


def _crater_unfilled(state: Latents, missing_s: float = 0.2) -> None:
    last = len(state.position_mm) - int(missing_s * LATENT_HZ)
    state.source_v[last:] = 0.0
    state.wire_mm_s[last:] = 0.0
    state.crater_fill_missing_s = missing_s


CHANGES: dict[str, Callable[[Latents], None]] = {"rolled": _rolled, "unfilled": _crater_unfilled}
"""States that a fault leads to, set directly."""


def bead_of(name: str, seed: int, change: str | Callable[[Latents], None] | None = None, severity: int = 4) -> Bead:
    program, session = PROGRAMS[name], session_named("session-02")
    state = draw_latents(program, session, seed)
    if isinstance(change, str) and change not in CHANGES:
        apply_fault(state, fault_of(change, severity, 1.5, 3.5), program)
    elif change is not None:
        (CHANGES[change] if isinstance(change, str) else change)(state)
    return form_bead(program, session, state, seed)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("fault", [None, "burn_through", "wire_slip", "undercut", "rolled", "unfilled"])
def test_every_cubic_millimetre_of_wire_is_accounted_for(name: str, fault: str | None) -> None:
    bead = bead_of(name, 21, fault)
    solid = (bead.area_mm2 + bead.filled_mm2 + bead.below_mm2).sum() * BEAD_STEP_MM
    assert solid == pytest.approx(DEPOSITION * bead.fed_mm3, rel=0.005)
    assert (bead.area_mm2 > 0).all()
    assert (bead.below_mm2.sum() > 0) == (fault == "burn_through")


def test_height_map_holds_the_bead_area_above_the_plate() -> None:
    bead = bead_of("spray-lap-5", 22)
    y = np.linspace(-12, 12, 601)
    z = height_map(bead, np.array([15.0, 20.0, 25.0]), y, 22)
    area = np.clip(z, 0, None).sum(axis=0) * (y[1] - y[0])
    np.testing.assert_allclose(area, np.interp([15.0, 20.0, 25.0], bead.x_mm, bead.area_mm2), rtol=0.06)


@pytest.mark.parametrize("change", [None, "rolled", "unfilled", "undercut"])
def test_the_surface_holds_the_volume_that_stands_above_the_plate(change: str | None) -> None:
    bead = bead_of("spray-lap-5", 24, change)
    x, y = np.arange(-6, 46, 0.1), np.arange(-12, 12, 0.05)
    volume = float(height_map(bead, x, y, 24).sum() * 0.1 * 0.05)
    assert volume == pytest.approx(float(bead.area_mm2.sum()) * BEAD_STEP_MM, rel=0.06)


def _raise(quantity: str, by: float) -> Callable[[Latents], None]:
    def change(state: Latents) -> None:
        setattr(state, quantity, getattr(state, quantity) + by)

    return change


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("quantity", "by", "grows", "shrinks"),
    [
        ("source_v", 1.0, "width_mm", "height_mm"),
        ("wire_mm_s", 5.0, "penetration_mm", None),
        ("wire_mm_s", 5.0, "area_mm2", None),
        ("ctwd_mm", 3.0, None, "penetration_mm"),
        ("lead_mohm", 10.0, "height_mm", "width_mm"),
        ("lead_mohm", 10.0, "contact_angle_deg", None),
        ("travel_mm_s", 1.0, None, "width_mm"),
        ("plate_c", 60.0, "width_mm", "height_mm"),
        ("gap_mm", 0.3, None, "area_mm2"),
    ],
)
def test_the_bead_follows_its_causes(name: str, quantity: str, by: float, grows: str, shrinks: str) -> None:
    before, after = (bead_of(name, 25, c).summary() for c in (None, _raise(quantity, by)))
    assert grows is None or after[grows] > 1.005 * before[grows]
    assert shrinks is None or after[shrinks] < 0.995 * before[shrinks]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_bead_lags_the_arc_by_the_length_of_its_pool(name: str) -> None:
    program = PROGRAMS[name]
    arc_at_mm = []

    def step(state: Latents) -> None:
        at = len(state.position_mm) * 3 // 4
        arc_at_mm.append(state.position_mm[at])
        state.source_v[at:] += 3.0

    changed = bead_of(name, 26, step).width_mm != bead_of(name, 26).width_mm
    first_mm = np.flatnonzero(changed)[0] * BEAD_STEP_MM
    assert arc_at_mm[0] - first_mm == pytest.approx(pool_length_mm(program), abs=0.25)


def test_unfilled_craters_are_deeper_and_crack_the_longer_the_more_is_missing() -> None:
    lengths = [
        np.mean([bead_of("short-butt-3", k, lambda s, m=m: _crater_unfilled(s, m)).crack_mm for k in range(6)])
        for m in (0.05, 0.1, 0.15, 0.2, 0.25)
    ]
    assert (np.diff(lengths) > 0.2).all()
    assert 0.5 < lengths[0] < lengths[-1] < 5
    good, bad = bead_of("short-butt-3", 27), bead_of("short-butt-3", 27, "unfilled")
    assert good.crack_mm == 0
    x, y = np.array([good.x_mm[-1] - 1.0]), np.linspace(-2, 2, 41)
    assert height_map(bad, x, y, 27).mean() < height_map(good, x, y, 27).mean() - 0.3


def test_undercut_digs_a_fifth_of_a_millimetre_to_one() -> None:
    depths = [bead_of("spray-lap-5", 28, "undercut", s).summary()["undercut_mm"] for s in (1, 2, 3, 4, 5)]
    assert (np.diff(depths) > 0).all()
    assert 0.18 < depths[0] < 0.32
    assert 0.85 < depths[-1] < 1.35


def test_rolled_metal_stands_over_the_plate_and_wetted_metal_does_not() -> None:
    good, bad = bead_of("spray-lap-5", 29), bead_of("spray-lap-5", 29, "rolled")
    assert contact_angle_deg(good).max() < 85
    rolled = bad.overlap_mm > 0.5
    assert rolled.any()
    assert contact_angle_deg(bad)[rolled].min() > 90
    assert (bad.height_mm[rolled] < good.height_mm[rolled]).all()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("hidden", ["lack_of_fusion", "subsurface_pores", "tip_wear"])
def test_what_stays_below_the_surface_leaves_the_bead_as_it_was(name: str, hidden: str) -> None:
    good, bad = bead_of(name, 30), bead_of(name, 30, hidden, 5)
    for field in dataclasses.fields(Bead):
        np.testing.assert_array_equal(getattr(bad, field.name), getattr(good, field.name))


def test_slipping_wire_leaves_less_metal_and_a_lower_bead() -> None:
    good, slipped = bead_of("spray-lap-5", 23), bead_of("spray-lap-5", 23, "wire_slip")
    here = int(20 / BEAD_STEP_MM)
    assert slipped.area_mm2[here] < 0.9 * good.area_mm2[here]
    assert slipped.height_mm[here] < good.height_mm[here]


def r2_of_bead_from_streams(name: str, count: int) -> dict[str, float]:
    """Held-out R² of the bead's means from what the sensors average, linear, five folds."""
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import cross_val_predict

    program, sessions = PROGRAMS[name], [session_named(s) for s in session_names(48)]
    seen, formed = [], []
    for seed in range(count):
        session = sessions[seed % 48]
        state = draw_latents(program, session, seed)
        moving = slice(0, -int(CRATER_FILL_S * LATENT_HZ))
        seen.append([
            quasi_static_current(state)[moving].mean(),
            state.source_v[moving].mean(),
            state.motor_mm_s[moving].mean(),
            state.travel_mm_s[moving].mean(),
        ])  # fmt: skip
        formed.append(form_bead(program, session, state, seed).summary())
    noise = np.random.default_rng(0).standard_normal((count, 4)) * 0.003
    x = np.array(seen) * (1 + noise)
    y = np.array([[row[k] for k in ("width_mm", "height_mm", "area_mm2")] for row in formed])
    rest = y - cross_val_predict(LinearRegression(), x, y, cv=5)
    return dict(zip(("width_mm", "height_mm", "area_mm2"), 1 - (rest**2).mean(0) / y.var(0), strict=True))


@pytest.mark.parametrize("name", PROGRAMS)
def test_streams_explain_part_of_the_bead_and_leave_part_to_gap_and_plate(name: str) -> None:
    for quantity, r2 in r2_of_bead_from_streams(name, 240).items():
        # Means of a few streams alone; `edged bench cell` asks 0.4 to 0.8 of all that is observed.
        assert 0.3 <= r2 <= 0.8, f"{name} {quantity}: {r2:.2f}"
