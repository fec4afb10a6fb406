"""A seam as a whole: same plan, same bytes; a fault changes only what it causes; impossible plans are refused."""

import dataclasses
import json

import numpy as np
import pytest

from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.plan import good_twin
from drivers.sim.programs import PROGRAMS
from drivers.sim.render import SIM_VERSION, render_seam
from drivers.sim.seam import Fault, ImagePreset, RenderedSeam, SeamPlan

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


def test_the_same_plan_gives_the_same_bytes() -> None:
    plan = plan_for("gas_loss")
    first, second = render_seam(plan, TINY), render_seam(plan, TINY)
    assert all(same(first, second, name) for name in (*PROCESS_STREAMS, *RESULT, "truth", "lead_s"))


def test_another_seed_is_another_seam() -> None:
    first = render_seam(SeamPlan(0, "short-butt-3", "session-04", 1), TINY)
    second = render_seam(SeamPlan(0, "short-butt-3", "session-04", 2), TINY)
    assert not any(same(first, second, name) for name in (*PROCESS_STREAMS, *RESULT))


@pytest.mark.parametrize("fault", [name for name, row in FAULTS.items() if row.family == "result"])
def test_what_happens_to_the_part_leaves_the_process_bit_identical_to_its_twin(fault: str) -> None:
    bad = render_seam(plan_for(fault), TINY)
    good = render_seam(good_twin(bad.plan), TINY)
    assert all(same(bad, good, name) for name in PROCESS_STREAMS)
    assert not same(bad, good, "views")


@pytest.mark.parametrize("fault", [name for name, row in FAULTS.items() if row.family == "process"])
def test_what_stays_hidden_leaves_the_result_bit_identical_to_its_twin(fault: str) -> None:
    bad = render_seam(plan_for(fault), TINY)
    good = render_seam(good_twin(bad.plan), TINY)
    assert all(same(bad, good, name) for name in RESULT)
    assert not same(bad, good, "welder")


@pytest.mark.parametrize("fault", [name for name, row in FAULTS.items() if row.family in ("process", "both")])
def test_a_twin_is_identical_until_the_fault_sets_in(fault: str) -> None:
    bad = render_seam(plan_for(fault), TINY)
    good = render_seam(good_twin(bad.plan), TINY)
    onset = int((bad.lead_s + 0.99) * bad.welder_hz)
    assert bad.lead_s == good.lead_s
    assert bad.welder.shape == good.welder.shape
    np.testing.assert_array_equal(bad.welder[:onset], good.welder[:onset])
    assert np.abs(bad.welder[onset:].astype(int) - good.welder[onset:]).max() > 0


def test_sensors_upstream_of_a_fault_do_not_see_it() -> None:
    slip, draught = render_seam(plan_for("wire_slip", 5), TINY), render_seam(plan_for("gas_loss", 5), TINY)
    good = render_seam(good_twin(slip.plan), TINY)
    np.testing.assert_array_equal(slip.welder[:, 2], good.welder[:, 2])
    np.testing.assert_array_equal(draught.motion, good.motion)
    burning = slice(int((good.lead_s + 2) * good.welder_hz), int((good.lead_s + 4) * good.welder_hz))
    assert slip.welder[burning, 0].mean() < 0.97 * good.welder[burning, 0].mean()


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


def test_truth_is_json_and_gives_extent_in_seconds_and_millimetres() -> None:
    truth = render_seam(plan_for("gas_loss", 2), TINY).truth
    assert json.loads(json.dumps(truth)) == truth
    assert truth["sim_version"] == SIM_VERSION
    assert (truth["family"], truth["type"], truth["severity"], truth["unit"]) == ("both", "gas_loss", 2, "L/min")
    assert truth["onset_s"] == 1.0
    assert truth["onset_mm"] == pytest.approx(5.0, rel=0.15)
    assert truth["end_s"] == truth["arc_s"]
    assert truth["end_mm"] == pytest.approx(25.0, abs=0.1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("burn_through", 5, 3.5, "mm", 0, 9), r"burn_through is 3.5 mm; it must lie in 0–3.0 mm"),
        (Fault("gas_loss", 5, 15.0, "L/min", 0, 9), r"gas_loss is 15.0 L/min; it must lie in 0–14.0 L/min"),
        (Fault("wire_slip", 1, -4.0, "%", 0, 9), r"wire_slip is -4.0 %; it must lie in 0–60 %"),
        (Fault("wire_slip", 1, 4.0, "%", 3, 2), r"lasts 3–2 s; need 0 ≤ onset ≤ end"),
        (Fault("gremlins", 1, 4.0, "%", 0, 2), r"fault type 'gremlins' is not known; known: gas_loss"),
    ],
)
def test_impossible_faults_are_refused_with_quantity_value_and_range(fault: Fault, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_seam(SeamPlan(0, "short-butt-3", "session-00", 1, "both", fault), TINY)


def test_plans_that_contradict_themselves_are_refused() -> None:
    good = SeamPlan(0, "short-butt-3", "session-00", 1)
    for wrong, message in (
        (dataclasses.replace(good, program="tig"), "program 'tig' is not known"),
        (dataclasses.replace(good, family="pair"), "only pairs have one"),
        (dataclasses.replace(good, family="process"), "needs a fault"),
        (dataclasses.replace(plan_for("oil"), family="both"), "oil belongs to family 'result'"),
        (dataclasses.replace(good, seed=-1), "seed is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            render_seam(wrong, TINY)
