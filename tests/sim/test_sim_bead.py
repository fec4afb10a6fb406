"""The bead follows its process: volume, widths, what the sensors can and cannot explain."""

import numpy as np
import pytest

from drivers.sim.bead import BEAD_STEP_MM, DEPOSITION, Bead, form_bead, height_map, quasi_static_current
from drivers.sim.faults import apply_fault, fault_of
from drivers.sim.programs import PROGRAMS
from drivers.sim.sessions import session_named, session_names
from drivers.sim.variation import CRATER_FILL_S, LATENT_HZ, draw_latents


def bead_of(name: str, seed: int, fault: str | None = None) -> Bead:
    program, session = PROGRAMS[name], session_named("session-02")
    state = draw_latents(program, session, seed)
    if fault:
        apply_fault(state, fault_of(fault, 4, 1.5, 3.5), program)
    return form_bead(program, session, state, seed)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("fault", [None, "burn_through", "wire_slip", "undercut"])
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
        assert 0.4 <= r2 <= 0.8, f"{name} {quantity}: {r2:.2f}"
