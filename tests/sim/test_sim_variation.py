"""Normal variation: the spreads that good seams are promised to have, and shifts that differ."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy.stats import kstest

from drivers.sim.programs import PROGRAMS
from drivers.sim.sessions import session_named, session_names
from drivers.sim.variation import CRATER_FILL_S, LATENT_HZ, arc_time_s, draw_latents

PROGRAM = PROGRAMS["spray-lap-5"]
SEAMS = 400


@functools.cache
def samples(name: str) -> np.ndarray:
    """(seams, 8): the quantity at eight places along the middle of each seam."""
    out = []
    for seed in range(SEAMS):
        values = getattr(draw_latents(PROGRAM, session_named("session-01"), seed), name)
        moving = len(values) - round(CRATER_FILL_S * LATENT_HZ)
        out.append(values[np.linspace(0, moving - 1, 8).astype(int)])
    return np.array(out)


@pytest.mark.parametrize(
    ("name", "centre", "sigma"),
    [
        ("wire_mm_s", PROGRAM.wire_feed_m_min / 0.06, 0.03 * PROGRAM.wire_feed_m_min / 0.06),
        ("travel_mm_s", PROGRAM.travel_mm_s, 0.03 * PROGRAM.travel_mm_s),
        ("ctwd_mm", PROGRAM.ctwd_mm, 1.5),
        ("lateral_mm", 0.0, 0.3),
    ],
)
def test_seams_vary_by_the_promised_standard_deviation_in_all(name: str, centre: float, sigma: float) -> None:
    values = samples(name)
    assert values.std() == pytest.approx(sigma, rel=0.1)
    assert values.mean() == pytest.approx(centre, abs=0.15 * sigma)
    # From seam to seam and along each: neither part is all of it.
    assert 0.6 * sigma < values.mean(axis=1).std() < 0.97 * sigma
    assert 0.2 * sigma < values.std(axis=1).mean() < 0.6 * sigma


def test_gaps_are_uniform_from_none_to_the_widest_allowed() -> None:
    gaps = samples("gap_mm")
    assert gaps.min() >= 0
    assert gaps.max() <= PROGRAM.gap_max_mm
    assert all(kstest(column / PROGRAM.gap_max_mm, "uniform").pvalue > 1e-3 for column in gaps.T)
    assert 0.005 < gaps.std(axis=1).mean() < 0.1


def test_plates_are_from_cold_to_preheated_by_the_seam_before() -> None:
    plates = [draw_latents(PROGRAM, session_named("session-01"), seed).plate_c for seed in range(SEAMS)]
    assert kstest((np.array(plates) - 20) / 130, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("program", PROGRAMS)
def test_arc_time_is_known_before_the_seam_is_drawn(program: str) -> None:
    state = draw_latents(PROGRAMS[program], session_named("session-01"), 17)
    assert arc_time_s(PROGRAMS[program], 17) == state.arc_s


def test_shifts_differ_in_tip_glass_microphone_gas_and_light_and_keep_their_sensors_calibrated() -> None:
    sessions = [session_named(name) for name in session_names(48)]
    for quantity in ("tip_mohm", "tip_noise_mohm", "lens_spots", "mic_distance_m", "co2_percent", "light_gain"):
        assert len({getattr(session, quantity) for session in sessions}) > 8, quantity
    assert all(abs(session.current_gain - 1) <= 0.03 for session in sessions)
    assert all(abs(session.voltage_gain - 1) <= 0.03 for session in sessions)
    assert session_named("session-03") == sessions[3]
    assert len({dataclasses.replace(session, name="") for session in sessions}) == 48
