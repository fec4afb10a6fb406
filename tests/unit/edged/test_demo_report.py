"""The demo's report: what checks read, made from messages as a subscriber receives them."""

import json
from pathlib import Path
from typing import Any

from edged.demo_report import DemoReport
from edged.types import Label

ISSUE_KEYS = {
    "seed", "sim_version", "model_id", "recordings", "replay_command", "seams", "streams", "published", "received",
    "goods", "false_alarms", "faults_listed", "faults_flagged", "auroc", "latency_median_ms", "latency_worst_ms",
    "cpu_percent", "peak_mb",
}  # fmt: skip


def verdict(number: int, label: Label, score: float | None, residual_ms: float = 0.5) -> dict[str, Any]:
    return {
        "sequence": number,
        "seam_id": f"S{number}",
        "program": "P",
        "label": int(label),
        "reason": "ok",
        "mode": "armed",
        "score": score,
        "along": [],
        "p_value": 0.5,
        "model_id": "m",
        "latency_from_last_input_ms": 40.0,
        "decided_utc_ns": 1_000_000_000,
        "received_utc_ns": 1_010_000_000,
        "integrity": {"mic": {"sync_residual_ms": residual_ms}},
    }


def report_of(tmp_path: Path, messages: list[dict[str, Any]], families: list[str]) -> DemoReport:
    report = DemoReport(seed=1, model="demo", planned=len(messages), recordings=tmp_path)
    for message in messages:
        report.add("verdict/P", message)
    truth = tmp_path / "truth.jsonl"
    lines = [
        {
            "seam_id": message["seam_id"],
            "truth": {"family": family, "type": "oil", "severity": 5, "unit": "mm2", "value": 90.0},
        }
        for message, family in zip(messages, families, strict=True)
    ]
    truth.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report.add_truth(truth)
    return report


def test_flags_false_alarms_latency_and_auroc_are_counted_from_messages_and_truth(tmp_path: Path) -> None:
    messages = [
        verdict(1, Label.OK, 0.4, residual_ms=-1.5),
        verdict(2, Label.NOK, 1.2),
        verdict(3, Label.NOK, 2.0),
        verdict(4, Label.INDETERMINATE, None),
    ]
    result = report_of(tmp_path, messages, ["good", "good", "result", "both"]).as_json()

    assert set(result) >= ISSUE_KEYS
    assert (result["goods"], result["false_alarms"]) == (2, 1)
    assert (result["faults_listed"], result["faults_flagged"]) == (2, 1)
    assert result["auroc"] == 1.0
    assert result["latency_median_ms"] == 50.0
    assert result["seams"][0]["truth"] is None
    assert result["seams"][2]["truth"]["type"] == "oil"
    assert result["seams"][3]["label"] == "INDETERMINATE"


def test_streams_show_health_and_the_worst_residual_of_any_seam(tmp_path: Path) -> None:
    report = report_of(tmp_path, [verdict(1, Label.OK, 0.4, -1.5), verdict(2, Label.OK, 0.4, 0.5)], ["good", "good"])
    health = {"kind": "audio", "measured_hz": 48_000.0, "items": 10, "lost": 3}
    report.add("health", {"streams": {"mic": health}})
    stream = report.as_json()["streams"]["mic"]
    assert (stream["lost"], stream["samples"], stream["sync_residual_ms"]) == (3, 10, 1.5)


def test_the_run_ends_only_when_two_heartbeats_agree_after_the_last_seam(tmp_path: Path) -> None:
    report = DemoReport(seed=1, model="demo", planned=1, recordings=tmp_path)
    report.add("heartbeat", {"last_sequence": 0})
    report.add("verdict/P", verdict(1, Label.OK, 0.4))
    assert not report.complete
    report.add("heartbeat", {"last_sequence": 1})
    assert not report.complete  # the part's verdict may still be on its way
    report.add("part", {})
    report.add("heartbeat", {"last_sequence": 2})
    assert not report.complete
    report.add("heartbeat", {"last_sequence": 2})
    assert report.complete
    assert (report.published, report.received) == (2, 2)
