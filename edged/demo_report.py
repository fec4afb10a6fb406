"""What a demo run shows: the live table, the summary and the JSON report, built from received messages only."""

import dataclasses
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edged.live_view import LiveView
from edged.types import Label
from edged.usage import ProcessTree
from edged.watch import worst_place

__all__ = ["DemoReport", "latency_ms", "verdict_table"]

STYLES = {Label.OK: "bold green", Label.NOK: "bold red", Label.INDETERMINATE: "bold yellow"}


@dataclasses.dataclass
class DemoReport:
    """Collects messages; `complete` once every planned seam is in and two heartbeats agree on the last sequence."""

    seed: int
    model: str
    planned: int
    recordings: Path
    seams: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    health: dict[str, Any] = dataclasses.field(default_factory=dict)
    published: int = 0
    received: int = 0
    complete: bool = False
    truth: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    usage: ProcessTree | None = None
    cpu_s: list[float] = dataclasses.field(default_factory=list)
    """Of the daemon and its children, at each verdict."""
    burning: LiveView = dataclasses.field(default_factory=LiveView)
    live_ms: list[float] = dataclasses.field(default_factory=list)
    """How late each point of the live score came, from the end of its 100 ms."""

    def add(self, topic: str, message: dict[str, Any]) -> None:
        """Take one received message."""
        if topic.startswith("verdict/"):
            self.received += 1
            self.seams.append(message)
            self.burning.end(message["seam_id"])
        elif topic == "part":
            self.received += 1
        elif topic == "live":
            self.live_ms.append((message["received_utc_ns"] - message["until_utc_ns"]) / 1e6)
            self.burning.add(message)
        elif topic == "health":
            self.health = message
        elif topic == "heartbeat" and len(self.seams) >= self.planned:
            self.complete = self.published == message["last_sequence"]
            self.published = message["last_sequence"]

    def add_truth(self, path: Path) -> None:
        """Read what the cell knows about its seams; only now, after every verdict is in."""
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            self.truth[entry["seam_id"]] = entry["truth"]

    def as_json(self) -> dict[str, Any]:
        """The report with the keys that checks read."""
        rows = [self._row(message) for message in self.seams]
        goods = [row for row in rows if row["truth"] is None]
        faults = [row for row in rows if row["truth"] is not None]
        latencies = [row["latency_ms"] for row in rows if row["latency_ms"] is not None]
        return {
            "seed": self.seed,
            "sim_version": _sim_version(),
            "model_id": next((m["model_id"] for m in self.seams if m["model_id"]), None),
            "recordings": str(self.recordings),
            "replay_command": f"edged replay {self.recordings}",
            "seams": rows,
            "streams": self._streams(),
            "published": self.published,
            "received": self.received,
            "goods": len(goods),
            "false_alarms": sum(row["label"] == Label.NOK.name for row in goods),
            "faults_listed": len(faults),
            "faults_flagged": sum(row["label"] == Label.NOK.name for row in faults),
            "auroc": _auroc(goods, faults),
            "latency_median_ms": statistics.median(latencies) if latencies else None,
            "latency_worst_ms": max(latencies) if latencies else None,
            "live_points": len(self.live_ms),
            "live_median_ms": statistics.median(self.live_ms) if self.live_ms else None,
            "live_worst_ms": max(self.live_ms, default=None),
            "cpu_seconds_per_seam": (self.cpu_s[-1] - self.cpu_s[0]) / (len(self.cpu_s) - 1)
            if self.cpu_s[1:]
            else None,
            "cpu_percent": self.usage.cpu_percent if self.usage else None,
            "peak_mb": self.usage.peak_mb if self.usage else None,
        }

    def _row(self, message: dict[str, Any]) -> dict[str, Any]:
        truth = self.truth.get(message["seam_id"])
        listed = None
        if truth is not None and truth["family"] != "good":
            listed = {key: truth[key] for key in ("family", "type", "severity", "unit", "value")}
        return {
            "seam_id": message["seam_id"],
            "program": message["program"],
            "truth": listed,
            "label": Label(message["label"]).name,
            "reason": message["reason"],
            "mode": message["mode"],
            "score": message["score"],
            "p_value": message["p_value"],
            "along": message["along"],
            "latency_ms": latency_ms(message),
        }

    def _streams(self) -> dict[str, dict[str, Any]]:
        """Health of every stream, with the worst strike residual of all seams."""
        streams: dict[str, dict[str, Any]] = {}
        for name, health in self.health.get("streams", {}).items():
            residuals = [
                abs(residual)
                for message in self.seams
                if (residual := message["integrity"].get(name, {}).get("sync_residual_ms")) is not None
            ]
            streams[name] = {
                "kind": health["kind"],
                "measured_hz": health["measured_hz"],
                "samples": health["items"],
                "lost": health["lost"],
                "sync_residual_ms": max(residuals) if residuals else None,
                "sync_residual_median_ms": statistics.median(residuals) if residuals else None,
            }
        return streams

    def print_summary(self, console: Console, result: dict[str, Any]) -> None:
        """The last lines a user reads."""
        table = Table(title="Streams", title_justify="left")
        for column in ("stream", "kind", "Hz", "samples", "lost", "strike residual, ms (median / worst)"):
            table.add_column(column, justify="left" if column in ("stream", "kind") else "right")
        for name, stream in result["streams"].items():
            median, worst = stream["sync_residual_median_ms"], stream["sync_residual_ms"]
            residual = "–" if worst is None else f"{median:.2f} / {worst:.2f}"
            hz = "–" if stream["measured_hz"] is None else f"{stream['measured_hz']:.1f}"
            table.add_row(name, stream["kind"], hz, f"{stream['samples']:,}", str(stream["lost"]), residual)
        console.print(table)
        latency = result["latency_median_ms"]
        console.print(
            f"{result['faults_flagged']} of {result['faults_listed']} faults flagged, "
            f"{result['false_alarms']} false alarms in {result['goods']} good welds, "
            f"{result['received']} of {result['published']} verdicts received"
        )
        if latency is not None:
            console.print(
                f"verdict after the last view: median {latency:.0f} ms, worst {result['latency_worst_ms']:.0f} ms"
            )
        if result["live_points"]:
            console.print(
                f"live score after each 100 ms of arc: {result['live_points']} points, median "
                f"{result['live_median_ms']:.0f} ms behind the signal, worst {result['live_worst_ms']:.0f} ms"
            )
        if result["cpu_percent"] is not None:
            console.print(f"edged used {result['cpu_percent']:.0f} % of one core and {result['peak_mb']:.0f} MB")
        console.print(f"recordings: {result['recordings']}")
        if self.seams:
            console.print(f"replay one: [bold]edged replay {self.recordings / self.seams[-1]['seam_id']}.mcap[/bold]")


def verdict_table(report: DemoReport) -> Table:
    """The verdicts as a subscriber receives them."""
    done = len(report.seams)
    table = Table(title=f"edged demo: {done} of {report.planned} seams", title_justify="left")
    for column, justify in (
        ("#", "right"), ("program", "left"), ("arc s", "right"), ("A", "right"), ("V", "right"),
        ("score", "right"), ("p", "right"), ("worst at", "right"), ("verdict", "left"),
        ("reason", "left"), ("ms", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for message in report.seams:
        label = Label(message["label"])
        table.add_row(
            str(message["sequence"]),
            message["program"],
            _number(message["arc_s"], ".1f"),
            _number(message["mean_current_a"], ".0f"),
            _number(message["mean_voltage_v"], ".1f"),
            _number(message["score"], ".2f"),
            _number(message["p_value"], ".3f"),
            worst_place(message["along"], message["score"]),
            f"[{STYLES[label]}]{label.name}[/]",
            message["reason"],
            _number(latency_ms(message), ".0f"),
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def latency_ms(message: Mapping[str, Any]) -> float | None:
    """Arrival of the last view at the driver → this subscriber, both on this host's clock."""
    inside_ms = message["latency_from_last_input_ms"]
    if inside_ms is None:
        return None
    return float(inside_ms + (message["received_utc_ns"] - message["decided_utc_ns"]) / 1e6)


def _auroc(goods: list[dict[str, Any]], faults: list[dict[str, Any]]) -> float | None:
    """Share of (good, fault) pairs in which the fault scores higher; None without both."""
    good = [row["score"] for row in goods if row["score"] is not None]
    bad = [row["score"] for row in faults if row["score"] is not None]
    if not good or not bad:
        return None
    wins = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    return float(wins / (len(good) * len(bad)))


def _sim_version() -> str:
    from drivers.sim.render import SIM_VERSION

    return SIM_VERSION
