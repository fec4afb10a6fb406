"""Findings, what they do to a label, what is learned, and that a replay finds the same."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.config import ProgramConfig
from edged.decide import Case, decide
from edged.scoring import ScoreReply
from edged.sensor_baseline import LEARNED, LEARNED_STILLS, RECENT, SensorBaseline
from edged.sensor_health import SensorHealth, is_accepted
from edged.sensor_report import Figure, Problem, SensorReport
from edged.sensor_video import STILL_PX
from edged.types import Label, LimitCheck, SensorFinding
from pipelines.window import Integrity
from tests.support.cell import Cell, S, make_score
from tests.support.verdicts import a_verdict

STUCK = Problem("current_stuck", "fault", 0.5, 0.25, "s", "stood still")


def level(value: float, *, rises_only: bool = False) -> SensorReport:
    return SensorReport(figures={"level": Figure("level", value, 2.0, "dB", "heard", rises_only)})


def learned(program: str = "P", spread: float = 0.2, path: Path | None = None) -> SensorHealth:
    """A microphone that is heard at −30 dB."""
    health = SensorHealth(SensorBaseline(path))
    rng = np.random.default_rng(5)
    for _ in range(LEARNED):
        report = level(-30 + spread * float(rng.standard_normal()))
        health.judge(program, {"mic": report}, 0)
        health.learn(a_verdict(program=program), {"mic": report})
    return health


def judged(health: SensorHealth, value: float, times: int, program: str = "P", utc_ns: int = 0) -> list[str]:
    """The findings after each of `times` seams."""
    return [
        ", ".join(item.code for item in health.judge(program, {"mic": level(value)}, utc_ns + k).get("mic", ()))
        for k in range(times)
    ]


def test_a_change_that_lasts_is_a_warning_and_one_odd_seam_is_none() -> None:
    health = learned()
    assert judged(health, -30.0, RECENT) == [""] * RECENT
    assert judged(health, -40.0, 1) == [""]
    assert judged(health, -30.0, 4) == [""] * 4
    assert judged(health, -36.0, 5) == ["", "", "level", "level", "level"]
    (finding,) = health.judge("P", {"mic": level(-36.0)}, 99)["mic"]
    assert finding.state == "warning"
    assert finding.value == pytest.approx(-6.0, abs=0.3)
    assert finding.limit == pytest.approx(-2.0)


def test_since_is_the_first_seam_in_a_row() -> None:
    health = learned()
    judged(health, -30.0, RECENT)
    judged(health, -36.0, 5, utc_ns=1000)
    (finding,) = health.judge("P", {"mic": level(-36.0)}, 5000)["mic"]
    assert finding.since_utc_ns == 1002
    assert health.warnings() == [f"sensor mic: level (warning): {finding.detail}"]
    judged(health, -30.0, RECENT, utc_ns=6000)
    assert health.warnings() == []


def test_a_reference_does_not_drift_along() -> None:
    health = learned()
    for k in range(60):
        report = level(-30 - 0.1 * k)
        findings = health.judge("P", {"mic": report}, k)
        health.learn(a_verdict(program="P"), {"mic": report})
    assert [item.code for item in findings["mic"]] == ["level"]


def test_what_only_matters_upwards() -> None:
    health = SensorHealth()
    for value in np.linspace(-0.1, 0.1, LEARNED):
        health.baseline.stream("mic").learn("P", level(float(value), rises_only=True))
    assert not any(health.judge("P", {"mic": level(-20.0, rises_only=True)}, 0) for _ in range(RECENT))
    assert [bool(health.judge("P", {"mic": level(20.0, rises_only=True)}, 0)) for _ in range(RECENT)][-1]


def test_changes_of_several_programs_count_together() -> None:
    health = learned("P")
    for _ in range(LEARNED):
        health.baseline.stream("mic").learn("Q", level(-20.0))
    judged(health, -30.0, RECENT)
    found = [judged(health, value, 1, program)[0] for program, value in [("P", -36.0), ("Q", -26.0), ("P", -36.0)]]
    assert found == ["", "", "level"]


def test_only_accepted_seams_with_sound_sensors_teach() -> None:
    health = SensorHealth()
    health.learn(a_verdict(label=Label.NOK, reason="score_above_threshold"), {"mic": level(-30.0)})
    health.learn(a_verdict(), {"mic": dataclasses.replace(level(-30.0), problems=(STUCK,))})
    assert health.baseline.streams.get("mic") is None
    health.learn(a_verdict(), {"mic": level(-30.0)})
    assert health.baseline.stream("mic").figures["T1"]["level"].values == [-30.0]


def test_which_seams_are_accepted() -> None:
    unscored: dict[str, Any] = {"label": Label.INDETERMINATE, "score": None}
    beyond = LimitCheck("arc_s", "violated", 5.0, 1.0, 2.0, "s")
    assert is_accepted(a_verdict())
    assert is_accepted(a_verdict(**unscored, reason="shadow", shadow_label=Label.OK))
    assert is_accepted(a_verdict(**unscored, reason="collecting"))
    assert not is_accepted(a_verdict(**unscored, reason="collecting", limits=(beyond,)))
    assert not is_accepted(a_verdict(**unscored, reason="shadow", shadow_label=Label.NOK))
    assert not is_accepted(a_verdict(**unscored, reason="no_result"))


def still(spots: bool, seed: int) -> SensorReport:
    image = np.random.default_rng(seed).normal(60, 1, (STILL_PX[1], STILL_PX[0]))
    if spots:
        image[10:13, 20:23] = image[30:33, 60:63] = image[40:43, 30:33] = image[20:23, 80:83] = 25
        image[50:53, 50:53] = image[45:48, 10:13] = image[15:18, 40:43] = image[35:38, 85:88] = 25
    return SensorReport(still=np.clip(image, 0, 255).astype(np.uint8))


def test_spatter_is_told_after_some_seams() -> None:
    health = SensorHealth()
    for seed in range(LEARNED_STILLS):
        health.baseline.stream("cam").learn("P", still(False, seed))
    assert not any(health.judge("P", {"cam": still(False, 50 + k)}, 0) for k in range(RECENT))
    found = [bool(health.judge("P", {"cam": still(True, 90 + k)}, 0)) for k in range(RECENT)]
    assert found == [False, False, True, True, True]


def test_the_baseline_survives_a_restart_and_a_snapshot_judges_the_same(tmp_path: Path) -> None:
    path = tmp_path / "sensor-baseline.json"
    health = learned(path=path)
    judged(health, -30.0, 2)
    judged(health, -36.0, 2)
    health.baseline.save()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    snapshot = json.loads(json.dumps(health.snapshot("P", {"mic": level(-36.0)})))
    now = health.judge("P", {"mic": level(-36.0)}, 77)
    again = SensorHealth(SensorBaseline(path)).judge("P", {"mic": level(-36.0)}, 77)
    replayed = SensorHealth(SensorBaseline.of_recording(snapshot)).judge("P", {"mic": level(-36.0)}, 77)
    assert now == again == replayed
    assert now["mic"][0].code == "level"


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"version": 1, "streams": {"cam": {"stills": {"P": {"reference": "AAAA"}}}}}', '{"streams": 3}'],
)
def test_a_broken_file_is_told_and_learned_anew(text: str, tmp_path: Path) -> None:
    path = tmp_path / "sensor-baseline.json"
    path.write_text(text)
    baseline = SensorBaseline(path)
    assert baseline.streams == {}
    assert baseline.error is not None
    assert any("learned anew" in line for line in SensorHealth(baseline).warnings())
    assert SensorBaseline.of_recording("nonsense").streams == {}


def test_a_disk_that_refuses_is_told_and_stops_nobody(tmp_path: Path) -> None:
    health = learned(path=tmp_path / "gone" / "sensor-baseline.json")
    assert "cannot be written" in health.warnings()[-1]


PROGRAM = ProgramConfig(mode="armed", model="demo", required=("welder", "audio"), optional=("video",))
FAULT = SensorFinding("frozen", "fault", 1.0, 0.5, "share", 0, "one picture")
CASE = Case(
    program=PROGRAM,
    program_name="fillet",
    arcs=((0, 2 * S),),
    integrity={
        name: Integrity(name, kind, 1.0, 100, 0, 0, 0.0, 0.0, "ok")
        for name, kind in (("welder", "welder"), ("mic", "audio"), ("cam", "video"))
    },
    max_blind_ms=200.0,
    reply=ScoreReply("seam", make_score(3.0)),
    current="welder",
    kinds={"welder": "welder", "mic": "audio", "cam": "video", "resultcam": "result"},
)


def with_fault(stream: str, state: Any = "fault", **program: Any) -> Case:
    finding = dataclasses.replace(FAULT, state=state)
    return dataclasses.replace(CASE, sensor_health={stream: (finding,)}, program=PROGRAM.model_copy(update=program))


def test_a_faulty_required_sensor_makes_even_a_high_score_indeterminate() -> None:
    assert decide(CASE).label is Label.NOK
    decision = decide(with_fault("mic"))
    assert (decision.label, decision.reason, decision.detail) == (
        Label.INDETERMINATE,
        "sensor",
        "mic: frozen (one picture)",
    )


def test_an_optional_one_degrades_and_a_warning_does_nothing() -> None:
    decision = decide(with_fault("cam"))
    assert (decision.label, decision.degraded) == (Label.NOK, True)
    decision = decide(with_fault("mic", "warning"))
    assert (decision.label, decision.degraded) == (Label.NOK, False)


def test_a_program_may_only_want_to_be_told() -> None:
    decision = decide(with_fault("mic", sensor_faults="report"))
    assert (decision.label, decision.degraded) == (Label.NOK, True)


def test_the_camera_of_a_listed_view_is_needed_unless_it_is_optional() -> None:
    case = dataclasses.replace(with_fault("resultcam", views=("top",)), views=frozenset({"top"}))
    assert decide(case).reason == "sensor"
    optional = PROGRAM.model_copy(update={"views": ("top",), "optional": ("result",)})
    assert decide(dataclasses.replace(case, program=optional)).reason == "score_above_threshold"


def test_no_limit_is_judged_by_a_faulty_current_sensor() -> None:
    beyond = (LimitCheck("mean_current_a", "violated", 250.0, 100.0, 200.0, "A"),)
    assert decide(dataclasses.replace(CASE, limits=beyond)).reason == "limit"
    assert decide(dataclasses.replace(with_fault("welder"), limits=beyond)).reason == "sensor"


def test_through_the_engine() -> None:
    """A current that stands still is told in the verdict, recorded with what judged it, and teaches nothing."""
    cell = Cell()

    def stick(chunk: Any) -> bool:
        if chunk.stream == "welder":
            chunk.data[:, 0] = np.where(chunk.data[:, 0] > 300, 1800, chunk.data[:, 0])
        return True

    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.weld([(2.0, 4.0)], to_s=8.0, keep=stick)
    cell.say(5.0, "view", seam_ref="A", view="top")
    cell.run(8.0)
    verdict = cell.verdict
    assert (verdict.label, verdict.reason) == (Label.INDETERMINATE, "sensor"), verdict.detail
    (finding,) = verdict.sensor_health["welder"]
    assert (finding.code, finding.state) == ("current_stuck", "fault")
    assert finding.value == pytest.approx(2.0, abs=0.01)
    assert verdict.score is not None
    (recorded,) = cell.recorder.finished.values()
    assert recorded["sensor_baseline"] == {"version": 1, "streams": {}}
    assert "current_stuck" in " ".join(cell.engine.sensor_warnings())
