"""A seam as a whole: same plan, same bytes; a fault changes only what it causes; impossible plans are refused."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.plan import good_twin
from drivers.sim.programs import PROGRAMS
from drivers.sim.render import SIM_VERSION, check_plan, render_process, render_result, render_seam
from drivers.sim.seam import Fault, ImagePreset, RenderedSeam, SeamPlan
from drivers.sim.sessions import session_named

TINY = ImagePreset(arc_px=(60, 96), view_px=(160, 480), arc_fps=30.0, jpeg_quality=80)
PROCESS_STREAMS = ("welder", "audio", "frames", "motion")
RESULT = ("views", "profile")


def plan_for(fault: str, severity: int = 3, program: str = "short-butt-3", seed: int = 41) -> SeamPlan:
    row = FAULTS[fault]
    made = fault_of(fault, severity, 1.0, 1.0 + (row.extent_s or 20.0))
    return SeamPlan(0, program, "session-04", seed, row.family, made)


def same(a: RenderedSeam, b: RenderedSeam, name: str) -> bool:
    left, right = getattr(a, name), getattr(b, name)
    return np.array_equal(left, right) if isinstance(left, np.ndarray) else bool(left == right)


@functools.cache
def seen(plan: SeamPlan) -> RenderedSeam:
    """Rendered once for all tests of this file."""
    return render_seam(plan, TINY)


def bad_and_good(fault: str, severity: int = 3) -> tuple[RenderedSeam, RenderedSeam]:
    plan = plan_for(fault, severity)
    return seen(plan), seen(good_twin(plan))


def of_family(*families: str) -> list[str]:
    return [name for name, row in FAULTS.items() if row.family in families]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_plan_gives_the_same_bytes(fault: str) -> None:
    plan = plan_for(fault)
    first, second = seen(plan), render_seam(plan, TINY)
    assert all(same(first, second, name) for name in (*PROCESS_STREAMS, *RESULT, "truth", "lead_s"))


def test_the_two_halves_are_those_of_the_whole() -> None:
    whole = seen(plan_for("gas_loss"))
    half = render_process(whole.plan, TINY)
    views, heights = render_result(whole.plan, TINY)
    assert all(same(half, whole, name) for name in (*PROCESS_STREAMS, "truth"))
    assert (views, heights.tolist()) == (whole.views, whole.profile.tolist())


def test_another_seed_is_another_seam() -> None:
    first = render_seam(SeamPlan(0, "short-butt-3", "session-04", 1), TINY)
    second = render_seam(SeamPlan(0, "short-butt-3", "session-04", 2), TINY)
    assert not any(same(first, second, name) for name in (*PROCESS_STREAMS, *RESULT))


@pytest.mark.parametrize("fault", of_family("result"))
def test_what_happens_to_the_part_leaves_the_process_bit_identical_to_its_twin(fault: str) -> None:
    bad, good = bad_and_good(fault)
    assert all(same(bad, good, name) for name in PROCESS_STREAMS)
    assert not same(bad, good, "views")


@pytest.mark.parametrize("fault", of_family("process"))
def test_what_stays_hidden_leaves_the_result_bit_identical_to_its_twin(fault: str) -> None:
    bad, good = bad_and_good(fault)
    assert all(same(bad, good, name) for name in RESULT)
    assert not same(bad, good, "welder")


@pytest.mark.parametrize("fault", of_family("both"))
def test_what_shows_in_both_changes_process_and_result(fault: str) -> None:
    bad, good = bad_and_good(fault)
    assert not any(same(bad, good, name) for name in ("welder", "audio", "views", "profile"))


DRIFTS = {"current_gain": "welder", "lens_spatter": "frames", "microphone_moved": "audio"}


def test_every_drift_has_the_stream_that_it_spoils() -> None:
    assert set(DRIFTS) == set(of_family("drift"))


@pytest.mark.parametrize("fault", DRIFTS)
def test_a_drifting_sensor_spoils_its_own_stream_and_leaves_the_weld_as_it_was(fault: str) -> None:
    bad, good = bad_and_good(fault)
    spoilt = {name for name in (*PROCESS_STREAMS, *RESULT) if not same(bad, good, name)}
    assert spoilt == {DRIFTS[fault]}
    for name in ("latents", "part_latents", "process", "bead", "arc_s"):
        assert bad.truth[name] == good.truth[name]
    assert bad.truth["sensors"] != good.truth["sensors"]


def test_current_drifts_by_its_percentage_and_sound_falls_with_distance() -> None:
    bad, good = bad_and_good("current_gain", 5)
    burning = slice(int((good.lead_s + 1) * good.welder_hz), int((good.lead_s + 4) * good.welder_hz))
    ratio = bad.welder[burning, 0].mean() / good.welder[burning, 0].mean()
    assert abs(ratio - 1) == pytest.approx(0.15, abs=0.005)
    np.testing.assert_array_equal(bad.welder[:, 1:], good.welder[:, 1:])


@pytest.mark.parametrize("fault", of_family("process", "both"))
def test_a_twin_is_identical_until_the_fault_sets_in(fault: str) -> None:
    bad, good = bad_and_good(fault)
    # Filters of a few milliseconds look ahead.
    onset_s = bad.lead_s + bad.truth["onset_s"] - 0.01
    assert bad.lead_s == good.lead_s
    for name, rate_hz in (
        ("welder", bad.welder_hz), ("audio", bad.audio_hz), ("motion", bad.motion_hz), ("frames", bad.arc_fps - 1)
    ):  # fmt: skip
        before, left, right = int(onset_s * rate_hz), getattr(bad, name), getattr(good, name)
        assert len(left) == len(right)
        assert np.array_equal(left[:before], right[:before]), name
    onset = int(onset_s * bad.welder_hz)
    assert np.abs(bad.welder[onset:].astype(int) - good.welder[onset:]).max() > 0


@pytest.mark.parametrize("fault", [*of_family("process", "result", "drift"), "gas_loss", "wire_slip", "convexity"])
def test_the_robots_own_sensors_see_no_fault_downstream_of_them(fault: str) -> None:
    bad, good = bad_and_good(fault, 5)
    np.testing.assert_array_equal(bad.motion, good.motion)
    np.testing.assert_array_equal(bad.welder[:, 2], good.welder[:, 2])


@pytest.mark.parametrize(
    ("fault", "quantity", "sign"),
    [("wire_slip", "current_a", -1), ("overlap", "voltage_v", -1), ("convexity", "voltage_v", -1),
     ("undercut", "voltage_v", 1)],
)  # fmt: skip
def test_current_and_voltage_truly_move_as_the_fault_says(fault: str, quantity: str, sign: int) -> None:
    bad, good = bad_and_good(fault, 5)
    assert sign * (bad.truth["process"][quantity] - good.truth["process"][quantity]) > 0


def test_a_pair_shows_the_whole_part_of_its_partner() -> None:
    pair = render_seam(SeamPlan(0, "spray-lap-5", "session-04", 51, "pair", None, 52), TINY)
    own = render_seam(SeamPlan(0, "spray-lap-5", "session-04", 51), TINY)
    partner = render_seam(SeamPlan(1, "spray-lap-5", "session-04", 52), TINY)
    assert all(same(pair, own, name) for name in PROCESS_STREAMS)
    assert all(same(pair, partner, name) for name in RESULT)
    assert pair.truth["family"] == "pair"
    assert pair.truth["value"] > 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_streams_cover_lead_arc_and_tail_at_their_rates(program: str) -> None:
    seam = render_seam(SeamPlan(0, program, "session-05", 61), TINY)
    seconds = seam.lead_s + seam.arc_s + seam.tail_s
    assert 4 <= seam.arc_s <= 6.5
    assert 0.6 <= seam.lead_s <= 1.0
    assert len(seam.welder) == pytest.approx(seconds * seam.welder_hz, abs=2)
    assert len(seam.audio) == pytest.approx(seconds * seam.audio_hz, abs=2)
    assert len(seam.frames) == pytest.approx(seconds * seam.arc_fps, abs=1)
    assert len(seam.motion) == pytest.approx(seconds * seam.motion_hz, abs=1)
    assert (seam.welder.dtype, seam.audio.dtype, seam.motion.dtype) == (np.int16, np.int16, np.float32)
    assert seam.audio.shape[1] == 1
    assert seam.profile.dtype == np.float32


def test_current_and_sound_strike_within_two_milliseconds() -> None:
    seam = render_seam(SeamPlan(0, "spray-lap-5", "session-05", 62), TINY)
    current_s = np.flatnonzero(seam.welder[:, 0] * seam.welder_scale[0] > 30)[0] / seam.welder_hz
    loud = np.abs(seam.audio[:, 0].astype(float))
    floor = loud[: int((seam.lead_s - 0.02) * seam.audio_hz)].max()
    sound_s = np.flatnonzero(loud > 4 * floor)[0] / seam.audio_hz
    assert current_s == pytest.approx(seam.lead_s, abs=1e-3)
    assert 0 < sound_s - current_s < 2e-3


@pytest.mark.parametrize("fault", FAULTS)
def test_truth_is_json_and_gives_extent_in_seconds_and_millimetres(fault: str) -> None:
    seam = seen(plan_for(fault))
    truth, row = seam.truth, FAULTS[fault]
    assert json.loads(json.dumps(truth)) == truth
    assert truth["sim_version"] == SIM_VERSION
    assert (truth["family"], truth["type"], truth["severity"], truth["unit"]) == (row.family, fault, 3, row.unit)
    assert 0 <= truth["onset_s"] < truth["end_s"] <= truth["arc_s"] == seam.arc_s
    assert 0 <= truth["onset_mm"] <= truth["end_mm"] <= 25.0
    if row.extent_s is None:
        assert truth["end_s"] == truth["arc_s"]
        assert truth["end_mm"] == pytest.approx(25.0, abs=0.1)


@pytest.mark.parametrize(
    ("fault", "onset_s", "onset_mm"), [("gas_loss", 1.0, 5.0), ("lens_spatter", 0.0, 0.0), ("wrong_part", 0.0, 0.0)]
)
def test_truth_gives_the_onset(fault: str, onset_s: float, onset_mm: float) -> None:
    truth = seen(plan_for(fault)).truth
    assert truth["onset_s"] == onset_s
    assert truth["onset_mm"] == pytest.approx(onset_mm, rel=0.15)


def test_the_crater_cracks_at_the_seams_end_whatever_the_plan_says() -> None:
    truth = seen(plan_for("crater_crack", 2)).truth
    assert truth["arc_s"] - truth["onset_s"] == pytest.approx(0.070)
    assert truth["onset_mm"] == pytest.approx(25.0, abs=0.1)


def test_truth_tells_what_process_and_part_were() -> None:
    pair = seen(SeamPlan(0, "spray-lap-5", "session-04", 51, "pair", None, 52)).truth
    own = seen(SeamPlan(0, "spray-lap-5", "session-04", 51)).truth
    partner = seen(SeamPlan(1, "spray-lap-5", "session-04", 52)).truth
    assert own["latents"] == own["part_latents"]
    assert (pair["latents"], pair["process"]) == (own["latents"], own["process"])
    assert (pair["part_latents"], pair["bead"]) == (partner["latents"], partner["bead"])
    assert own["latents"]["travel_speed_mm_s"] == pytest.approx(8.0, rel=0.15)
    assert own["process"]["current_a"] == pytest.approx(275, rel=0.2)
    assert {key: own[key] for key in ("type", "severity", "onset_s", "end_mm")} == dict.fromkeys(
        ("type", "severity", "onset_s", "end_mm")
    )


def impossible_fault(*fields: Any) -> Callable[[], object]:
    def make() -> object:
        fault = Fault(*fields)
        family = FAULTS[fault.type].family if fault.type in FAULTS else "both"
        return render_seam(SeamPlan(0, "short-butt-3", "session-00", 1, family, fault), TINY)

    return make


def impossible_program(**change: Any) -> Callable[[], object]:
    return lambda: dataclasses.replace(PROGRAMS["short-butt-3"], **change)


def impossible_session(**change: Any) -> Callable[[], object]:
    return lambda: dataclasses.replace(session_named("session-00"), **change)


def impossible_plan(**change: Any) -> Callable[[], object]:
    return lambda: check_plan(dataclasses.replace(SeamPlan(0, "short-butt-3", "session-00", 1), **change))


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (impossible_program(gap_max_mm=4.0), r"gap_max_mm is 4.0; it must lie in 0–3.0"),
        (impossible_program(gas_l_min=-1.0), r"gas_l_min is -1.0; it must lie in 0.0–40.0"),
        (impossible_program(wire_feed_m_min=60.0), r"wire_feed_m_min is 60.0; it must lie in 1.0–25.0"),
        (impossible_program(wire_feed_m_min=0.0), r"wire_feed_m_min is 0.0; it must lie in 1.0–25.0"),
        (impossible_program(travel_mm_s=-5.0), r"travel_mm_s is -5.0; it must lie in 1.0–50.0"),
        (impossible_program(voltage_v=NAN), r"voltage_v is nan; it must lie in 12.0–45.0"),
        (impossible_fault("burn_through", 5, 3.5, "mm", 0, 9), r"burn_through is 3.5 mm; it must lie in 0–3.0 mm"),
        (
            impossible_fault("gas_loss", 5, 15.0, "L/min", 0, 9),
            r"gas_loss is 15.0 L/min; it must lie in 0–14.0 L/min",
        ),
        (
            impossible_fault("gas_loss", 5, -2.0, "L/min", 0, 9),
            r"gas_loss is -2.0 L/min; it must lie in 0–14.0 L/min",
        ),
        (impossible_fault("wire_slip", 5, 100.0, "%", 0, 9), r"wire_slip is 100.0 %; it must lie in 0–60 %"),
        (impossible_fault("wire_slip", 1, -4.0, "%", 0, 9), r"wire_slip is -4.0 %; it must lie in 0–60 %"),
        (
            impossible_fault("crater_crack", 5, 300.0, "ms", 0, 9),
            r"crater_crack is 300.0 ms; it must lie in 0–250 ms",
        ),
        (impossible_fault("microphone_moved", 5, 300.0, "cm", 0, 9), r"is 300.0 cm; it must lie in 0–150 cm"),
        (impossible_fault("lens_spatter", 5, NAN, "spots", 0, 9), r"lens_spatter is nan spots; it must lie in 0–200"),
        (impossible_fault("wire_slip", 1, 4.0, "m/min", 0, 9), r"wire_slip is given in 'm/min'; its unit is '%'"),
        (impossible_fault("wire_slip", 1, 4.0, "%", 3, 2), r"lasts 3–2 s; need 0 ≤ onset ≤ end"),
        (impossible_fault("wire_slip", 1, 4.0, "%", -1, 2), r"lasts -1–2 s; need 0 ≤ onset ≤ end"),
        (impossible_fault("wire_slip", 6, 4.0, "%", 0, 2), r"severity of wire_slip is 6; it must be 1 to 5"),
        (impossible_fault("gremlins", 1, 4.0, "%", 0, 2), r"fault type 'gremlins' is not known; known: gas_loss"),
        (impossible_session(mic_distance_m=3.0), r"session session-00: mic_distance_m is 3.0; it must lie in 0.05–2"),
        (impossible_session(lens_spots=-1), r"lens_spots is -1; it must lie in 0–500"),
        (impossible_session(current_gain=0.0), r"current_gain is 0.0; it must lie in 0.5–1.5"),
        (impossible_session(co2_percent=120.0), r"co2_percent is 120.0; it must lie in 0–100"),
        (impossible_session(tip_mohm=NAN), r"tip_mohm is nan; it must lie in 0–50"),
        (impossible_plan(seed=-1), r"seed of a seam is -1; it must be 0 or more"),
        (impossible_plan(index=-1), r"index of a seam is -1; it must be 0 or more"),
        (impossible_plan(pair_seed=-1, family="pair"), r"pair_seed of a seam is -1; it must be 0 or more"),
        (impossible_plan(program="tig"), r"program 'tig' is not known"),
        (impossible_plan(family="pair"), r"only pairs have one"),
        (impossible_plan(family="process"), r"needs a fault"),
        (impossible_plan(family="both", fault=plan_for("oil").fault), r"oil belongs to family 'result', not 'both'"),
    ],
)
def test_what_cannot_be_is_refused_with_quantity_value_and_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
