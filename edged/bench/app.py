"""`edged bench …`: the verbs that measure edged itself and the cell that it is measured on."""

import typer

from edged.bench.align import bench_align
from edged.bench.battery import bench_battery
from edged.bench.calibrate import bench_calibrate
from edged.bench.cell import cell
from edged.bench.corruption import bench_corruption
from edged.bench.degraded import bench_degraded
from edged.bench.delivery import bench_delivery
from edged.bench.detect import bench_detect
from edged.bench.drift import bench_drift
from edged.bench.far import bench_far
from edged.bench.incremental import bench_incremental
from edged.bench.latency import bench_latency
from edged.bench.live import bench_live
from edged.bench.real import bench_real
from edged.bench.scan import bench_scan
from edged.bench.sensors import bench_sensors
from edged.bench.sync import bench_sync

__all__ = ["bench_app"]

bench_app = typer.Typer(name="bench", no_args_is_help=True, help="Measure edged itself, and the virtual cell.")
bench_app.command("align")(bench_align)
bench_app.command("battery")(bench_battery)
bench_app.command("calibrate")(bench_calibrate)
bench_app.command("cell")(cell)
bench_app.command("corruption")(bench_corruption)
bench_app.command("degraded")(bench_degraded)
bench_app.command("detect")(bench_detect)
bench_app.command("delivery")(bench_delivery)
bench_app.command("latency")(bench_latency)
bench_app.command("live")(bench_live)
bench_app.command("real")(bench_real)
bench_app.command("incremental")(bench_incremental)
bench_app.command("scan")(bench_scan)
bench_app.command("drift")(bench_drift)
bench_app.command("sync")(bench_sync)
bench_app.command("sensors")(bench_sensors)
bench_app.command("far")(bench_far)
