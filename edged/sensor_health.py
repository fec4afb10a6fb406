"""Are the sensors sound? Judged per seam and stream, and apart from whether the weld is.

It stands beside the scorer and gets the very chunks that the scorer gets, so a replay measures the same; in the
daemon's own process, without a model: plain physics, and the cell's own accepted seams (`edged.sensor_baseline`).

A *problem* that physics alone tells (a channel that does not move, a microphone that hears no arc) may be a fault; a
*change* against accepted seams (spatter, a camera or microphone that was moved, a gain that drifts) is a warning and
never touches a label. `decide` makes a fault of a required stream INDETERMINATE(sensor). docs/sensor-health.md says
what each code means and what to do.
"""

from collections.abc import Callable, Mapping
from typing import Any

from drivers.base import Chunk, StreamSpec
from edged.sensor_audio import AudioMeter
from edged.sensor_baseline import SensorBaseline
from edged.sensor_report import ArcSpan, Problem, SensorMeter, SensorReport
from edged.sensor_video import VideoMeter
from edged.sensor_views import view_reports
from edged.sensor_welder import WelderMeter
from edged.types import Label, SensorFinding, Verdict
from pipelines.window import ResultView

__all__ = ["SeamSensors", "SensorHealth", "is_accepted"]

Findings = dict[str, tuple[SensorFinding, ...]]

METERS: Mapping[str, Callable[[StreamSpec, int, float, int], SensorMeter]] = {
    "welder": WelderMeter,
    "audio": lambda spec, arc_on_ns, _, pre_roll_ns: AudioMeter(spec, arc_on_ns, pre_roll_ns),
    "video": lambda spec, arc_on_ns, *_: VideoMeter(spec, arc_on_ns),
}
"""Stream kind → its meter; what other kinds measure is their integrity's business."""


class SeamSensors:
    """The sensors of one open seam.

    `off_current_a`: below it no arc burns. `pre_roll_ns`: how long before the arc its streams begin at most.
    """

    def __init__(
        self, specs: tuple[StreamSpec, ...], arc_on_ns: int, off_current_a: float, pre_roll_ns: int = 0
    ) -> None:
        self._meters = {
            spec.name: METERS[spec.kind](spec, arc_on_ns, off_current_a, pre_roll_ns)
            for spec in specs
            if spec.kind in METERS
        }
        self._reports: dict[str, SensorReport] = {}

    def add(self, chunk: Chunk) -> None:
        """Take a chunk that goes to the scorer."""
        meter = self._meters.get(chunk.stream)
        if meter is not None:
            meter.add(chunk)

    def close(self, arcs: tuple[ArcSpan, ...], views: Mapping[str, ResultView]) -> None:
        """The seam's inputs are complete: measure. Done while the worker scores, so it costs the verdict no time."""
        self._reports = {name: meter.report(arcs) for name, meter in self._meters.items()}
        self._reports |= view_reports(views)

    @property
    def reports(self) -> Mapping[str, SensorReport]:
        """Stream → what was measured, after `close`."""
        return self._reports


class SensorHealth:
    """Findings of a cell's seams against its baselines."""

    def __init__(self, baseline: SensorBaseline | None = None) -> None:
        self.baseline = baseline or SensorBaseline()
        self._standing: dict[str, tuple[SensorFinding, ...]] = {}

    def judge(self, program: str, reports: Mapping[str, SensorReport], arc_on_utc_ns: int) -> Findings:
        """What is wrong with the sensors of a seam; notes it, so that the next seams know since when."""
        findings: Findings = {}
        for name, report in sorted(reports.items()):
            known = self.baseline.stream(name)
            # A faulty sensor's figures say nothing of a slow change.
            changes = [] if _is_faulty(report) else known.judge(program, report)
            found = _worst_of_each([*report.problems, *changes])
            since = {item.code: known.since_utc_ns.get(item.code, arc_on_utc_ns) for item in found}
            known.since_utc_ns = since
            found_here = tuple(
                SensorFinding(i.code, i.state, i.value, i.limit, i.unit, since[i.code], i.detail) for i in found
            )
            if found_here:
                findings[name] = found_here
            self._standing[name] = found_here
        return findings

    def learn(self, verdict: Verdict, reports: Mapping[str, SensorReport]) -> None:
        """Let an accepted seam teach what is normal, and keep what is known; after its verdict is out."""
        if is_accepted(verdict):
            for name, report in reports.items():
                if not _is_faulty(report):
                    self.baseline.stream(name).learn(verdict.seam.program, report)
        self.baseline.save()

    def warnings(self) -> list[str]:
        """What the last seam of each stream showed, in sentences for health."""
        lines = [
            f"sensor {name}: {finding.code} ({finding.state}): {finding.detail}"
            for name, found in self._standing.items()
            for finding in found
        ]
        return lines + ([self.baseline.error] if self.baseline.error else [])

    def snapshot(self, program: str, reports: Mapping[str, SensorReport]) -> dict[str, Any]:
        """What is about to judge a seam, for its recording."""
        return self.baseline.snapshot(program, list(reports))


def is_accepted(verdict: Verdict) -> bool:
    """Whether a seam counts as good: OK, OK in shadow, or complete and within its limits while collecting."""
    if Label.OK in (verdict.label, verdict.shadow_label):
        return True
    return verdict.reason == "collecting" and all(check.state != "violated" for check in verdict.limits)


def _is_faulty(report: SensorReport) -> bool:
    return any(item.state == "fault" for item in report.problems)


def _worst_of_each(problems: list[Problem]) -> list[Problem]:
    """One problem a code: a fault before a warning, and what lies furthest beyond its limit."""
    worst: dict[str, Problem] = {}
    for item in problems:
        had = worst.get(item.code)
        if had is None or _weight(item) > _weight(had):
            worst[item.code] = item
    return [worst[code] for code in sorted(worst)]


def _weight(item: Problem) -> tuple[bool, float]:
    return item.state == "fault", abs(item.value) - abs(item.limit)
