"""`edged calibrate welder STREAM`: gain and offset of current and voltage against a reference meter."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.files import CalibrationError
from calibration.meter_file import Meter, read_meter
from calibration.welder import LIMIT_SHARE, ChannelFit, check_pairs, fit_channel
from drivers.mcap_codec import RecordingReader
from edged.calibrate.readings import RecordedStream, recorded_streams, recording_files
from edged.calibrate.report import (
    DEFAULT_DIRECTORY,
    DirectoryOption,
    DryRunOption,
    JsonOption,
    Residual,
    ValidOption,
    bad_input,
    conclude,
    measured,
)

__all__ = ["welder"]

Array = NDArray[np.float64]

EDGE_S = 0.3
"""Of an arc's begin and end no row with a time is used: meters average over them."""
YEAR_DAYS = 365.0


def welder(
    stream: Annotated[str, typer.Argument(help="Name of the welder stream in the config.")],
    meter: Annotated[Path, typer.Option(help="Log of the reference meter, CSV; docs/calibration.md.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    recording: Annotated[
        list[Path] | None, typer.Option(help="Recordings of the same welds, or folders of them.")
    ] = None,
    gain_only: Annotated[bool, typer.Option("--gain-only", help="No offset: for a narrow range.")] = False,
    average_s: Annotated[
        float, typer.Option(min=0.001, help="Time over which a row with a time is the mean; its time is the end.")
    ] = 0.5,
    clock_offset_s: Annotated[float, typer.Option(help="Added to the meter's times.")] = 0.0,
    valid_days: ValidOption = YEAR_DAYS,
    notes: Annotated[str, typer.Option(help="Which meter, its certificate, who measured.")] = "",
    json_file: JsonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Compare a welder stream with a reference meter; write its gain and offset."""
    with bad_input():
        reference, readings, units, lines = _pairs(stream, meter, recording, average_s, clock_offset_s)
        check_pairs(str(meter), reference, readings, units, with_offset=not gain_only)
        fits = [
            fit_channel(name, units[name], reference[name], readings[name], with_offset=not gain_only)
            for name in reference
        ]
        residuals = [item for fit in fits for item in _residuals(fit)]
        calibration = measured("welder", stream, _values(fits), residuals, valid_days, notes)
    conclude(
        calibration,
        residuals,
        directory,
        dry_run=dry_run,
        json_file=json_file,
        more={"points": _points(fits, reference, readings, lines)},
        show=lambda console: _show(console, fits, lines),
    )


_Pairs = tuple[dict[str, Array], dict[str, Array], Mapping[str, str], list[str]]
"""Reference and reading by channel, units, and where each pair comes from."""


def _pairs(stream: str, path: Path, recording: list[Path] | None, average_s: float, clock_offset_s: float) -> _Pairs:
    if recording is None:
        meter = read_meter(path, ("current", "voltage", "wire_feed_speed"))
        if not meter.readings:
            raise CalibrationError(
                f"{path}: has no reading_… columns: give the recordings of the same welds, --recording"
            )
        return dict(meter.values), dict(meter.readings), meter.units, [f"line {line}" for line in meter.lines]
    files = recording_files(recording)
    specs = {spec.name: spec for spec in RecordingReader(files[0]).specs}
    channels = specs[stream].channels if stream in specs else ("current", "voltage")
    meter = read_meter(path, channels)
    if meter.readings:
        raise CalibrationError(f"{path}: has reading_… columns of its own; leave --recording out")
    found = recorded_streams(files, stream, "welder")
    if meter.seam_id is not None:
        rows = list(_by_seam(meter, meter.seam_id, found))
    else:
        rows = list(_by_time(meter, found, average_s, clock_offset_s))
    if not rows:
        raise CalibrationError(_nothing_fits(meter, files, clock_offset_s))
    index = [row for row, _, _ in rows]
    reference = {name: values[index] for name, values in meter.values.items()}
    means = np.stack([mean for _, mean, _ in rows])
    readings = {name: means[:, i] for i, name in enumerate(channels)}
    return reference, readings, meter.units, [where for _, _, where in rows]


_Row = tuple[int, Array, str]
"""Row of the meter's log, the stream's means at that time, and where it is."""


def _by_seam(meter: Meter, seam_id: tuple[str, ...], found: Iterator[RecordedStream]) -> Iterator[_Row]:
    """The mean over all arcs of the seam that a row names."""
    rows = {name: row for row, name in enumerate(seam_id)}
    for item in found:
        row = rows.get(item.seam.seam_id)
        burning = item.burning
        if row is not None and burning.any():
            where = f"line {meter.lines[row]}, seam {item.seam.seam_id}"
            yield row, item.physical[burning].mean(0, dtype=np.float64), where


def _by_time(meter: Meter, found: Iterator[RecordedStream], average_s: float, offset_s: float) -> Iterator[_Row]:
    """The mean over the `average_s` before each row's time, where all of it lies inside an arc."""
    assert meter.utc_s is not None
    span_ns, edge_ns = round(average_s * 1e9), round(EDGE_S * 1e9)
    for item in found:
        ends_ns = np.rint((meter.utc_s + offset_s) * 1e9).astype(np.int64) - item.utc_offset_ns
        physical = item.physical.astype(np.float64)
        sums = np.concatenate([np.zeros((1, physical.shape[1])), np.cumsum(physical, axis=0)])
        for on_ns, off_ns in item.seam.arcs:
            inside = (ends_ns - span_ns >= on_ns + edge_ns) & (ends_ns <= off_ns - edge_ns)
            for row in np.flatnonzero(inside).tolist():
                first, last = np.searchsorted(item.times_ns, [ends_ns[row] - span_ns, ends_ns[row]]).tolist()
                if last > first:
                    where = f"line {meter.lines[row]}, seam {item.seam.seam_id}"
                    yield row, (sums[last] - sums[first]) / (last - first), where


def _nothing_fits(meter: Meter, files: list[Path], offset_s: float) -> str:
    if meter.seam_id is not None:
        return (
            f"{meter.path}: seam_id: none of {meter.seam_id[0]!r} … is among the {len(files)} recordings; files "
            f"are named by it, as {files[0].stem}"
        )
    assert meter.utc_s is not None
    begin, end = (_utc(float(t) + offset_s) for t in (meter.utc_s.min(), meter.utc_s.max()))
    header = RecordingReader(files[0]).header
    first = _utc(header.utc_ns / 1e9)
    return (
        f"{meter.path}: utc: no row from {begin} to {end} lies inside an arc of the recordings (the first is of "
        f"{first}): set the meter's clock, or give --clock-offset-s"
    )


def _utc(seconds: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


def _values(fits: list[ChannelFit]) -> dict[str, Any]:
    return {
        "channels": {
            fit.channel: {"gain": fit.gain, "offset": fit.offset, "unit": fit.unit, "range": list(fit.range)}
            for fit in fits
        }
    }


def _residuals(fit: ChannelFit) -> list[Residual]:
    worst_before = max(map(abs, fit.before)) / max(map(abs, fit.range))
    return [
        Residual(f"{fit.channel}_rms", fit.rms, fit.unit),
        Residual(f"{fit.channel}_worst_percent", 100 * fit.worst, "% of largest", 100 * LIMIT_SHARE),
        Residual(f"{fit.channel}_worst_before_percent", 100 * worst_before, "% of largest"),
        Residual(f"{fit.channel}_gain_interval", fit.gain_interval, "±"),
        Residual(f"{fit.channel}_offset_interval", fit.offset_interval, f"± {fit.unit}"),
        Residual(f"{fit.channel}_points", len(fit.residuals), ""),
    ]


def _points(
    fits: list[ChannelFit], reference: Mapping[str, Array], readings: Mapping[str, Array], lines: list[str]
) -> dict[str, list[dict[str, Any]]]:
    return {
        fit.channel: [
            {"where": where, "reference": ref, "reading": read, "residual": residual}
            for where, ref, read, residual in zip(
                lines, reference[fit.channel].tolist(), readings[fit.channel].tolist(), fit.residuals, strict=True
            )
        ]
        for fit in fits
    }


def _show(console: Console, fits: list[ChannelFit], lines: list[str]) -> None:
    table = Table("channel", "gain", "offset", "compared", "worst at")
    for fit in fits:
        worst = int(np.argmax(np.abs(fit.residuals)))
        table.add_row(
            fit.channel,
            f"{fit.gain:.5f} ± {fit.gain_interval:.5f}",
            f"{fit.offset:+.3f} ± {fit.offset_interval:.3f} {fit.unit}",
            f"{fit.range[0]:.4g} to {fit.range[1]:.4g} {fit.unit}, {len(fit.residuals)} points",
            f"{lines[worst]}: {fit.residuals[worst]:+.3g} {fit.unit}",
        )
    console.print(table)
