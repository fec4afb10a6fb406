"""`edged calibrate microphone STREAM`: level, noise floor and distance, from recordings of good seams."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from calibration.files import CalibrationError, read_calibration
from calibration.kinds import MicrophoneValues
from calibration.microphone import (
    SOUND_M_S,
    Heard,
    MicrophoneFit,
    fit_microphone,
    level_db,
    quiet_level_db,
    sound_delay_ms,
)
from drivers.mcap_codec import RecordingError, RecordingReader
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
from edged.progress import progress_bars
from edged.recording import recorded_calibration, recorded_config
from edged.tracker import current_streams

__all__ = ["heard_in", "microphone"]

EDGE_NS = 200_000_000
"""Strike and crater belong to no level."""
ECHO_NS = 250_000_000
"""After an arc the hall still rings."""
LIMITS = {"level_spread": 4.0, "gain_interval": 2.0, "delay_spread": 0.2}
"""dB, dB, ms: beyond these the seams do not agree with each other, or are too few for a gain."""
FLOOR_BELOW_DB = 6.0
"""An arc that stands out by less is not heard."""
HALF_YEAR_DAYS = 180.0


def microphone(
    stream: Annotated[str, typer.Argument(help="Name of the audio stream in the config.")],
    recording: Annotated[list[Path], typer.Option(help="Recordings of good seams, or folders of them.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    reference: Annotated[
        Path | None, typer.Option(help="An earlier microphone calibration whose level and latency are to hold.")
    ] = None,
    measured_distance_m: Annotated[
        float | None, typer.Option(min=0.01, max=20, help="Distance from the arc by tape: tells the latency.")
    ] = None,
    valid_days: ValidOption = HALF_YEAR_DAYS,
    notes: Annotated[str, typer.Option(help="Where it hangs, its preamplifier's setting.")] = "",
    json_file: JsonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a microphone's level, noise floor and distance from recorded seams."""
    with bad_input():
        files = recording_files(recording)
        earlier = None if reference is None else _reference(reference, stream)
        with progress_bars(Console(stderr=True)) as bars:
            heard = list(bars.track(heard_in(files, stream), description="listening", total=len(files)))
        if not heard:
            raise CalibrationError(f"{files[0]} …: no arc in any of {len(files)} recordings; give good seams")
        fit = fit_microphone(heard, None if earlier is None else _levels(earlier))
        values = _values(fit, earlier, measured_distance_m)
        calibration = measured("microphone", stream, values, _residuals(fit), valid_days, notes)
    conclude(
        calibration,
        _residuals(fit),
        directory,
        dry_run=dry_run,
        json_file=json_file,
        more={"seams": [_line(item) for item in heard]},
        show=lambda console: _show(console, values),
    )


def heard_in(files: list[Path], stream: str) -> Iterator[Heard]:
    """What each seam tells. Raises RecordingError."""
    for path in files:
        reader = RecordingReader(path)
        welder = current_streams({spec.name: spec for spec in reader.specs})
        for item in recorded_streams([path], stream, "audio"):
            name = welder.get(item.seam.torch)
            power = None if name is None else next(recorded_streams([path], name, "welder"), None)
            yield _heard(item, power, _taken_off_ms(path, reader, stream))


def _taken_off_ms(path: Path, reader: RecordingReader, stream: str) -> float:
    """The delay that was taken off when the seam's sound was stamped."""
    config = recorded_config(reader)
    if config is None or stream not in config.streams:
        return 0.0
    section = config.streams[stream]
    if section.follow_strikes:
        raise RecordingError(
            f"{path}: streams.{stream}.follow_strikes was on, so what was taken off is not known; record without it"
        )
    # Recordings made before measured delays were taken off have none, whatever calibration they hold.
    measured_ms = recorded_calibration(reader).delays_ms.get(stream)
    return section.delay_ns / 1e6 if measured_ms is None else measured_ms


def _heard(item: RecordedStream, power: RecordedStream | None, taken_off_ms: float) -> Heard:
    spec, times = item.spec, item.times_ns
    samples = item.data.reshape(len(times), -1).mean(axis=1, dtype=np.float64)
    dtype = np.dtype(spec.dtype)
    full_scale = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
    on_ns, off_ns = item.seam.arc_on_ns, item.seam.arc_off_ns
    inside = item.burning & (times >= on_ns + EDGE_NS) & (times < off_ns - EDGE_NS)
    outside = (times < on_ns - 10_000_000) | (times > off_ns + ECHO_NS)
    delay_ms = None
    if power is not None and "voltage" in power.spec.channels:
        physical = power.physical.astype(np.float64)
        watts = physical[:, power.spec.channel("current")] * physical[:, power.spec.channel("voltage")]
        delay_ms = sound_delay_ms(watts, power.times_ns, samples[inside], times[inside])
    return Heard(
        seam_id=item.seam.seam_id,
        program=item.seam.program,
        level_db=level_db(samples[inside], full_scale),
        quiet_db=quiet_level_db(samples[outside], spec.rate_hz, full_scale),
        delay_ms=None if delay_ms is None else delay_ms + taken_off_ms,
    )


def _reference(path: Path, stream: str) -> MicrophoneValues:
    found = read_calibration(path)
    values = found.checked
    if not isinstance(values, MicrophoneValues) or found.device != stream:
        raise CalibrationError(f"{path}: is of {found.name}; --reference takes one of microphone:{stream}")
    return values


def _levels(earlier: MicrophoneValues) -> dict[str, float]:
    return {program: level + earlier.gain_db for program, level in earlier.levels_dbfs.items()}


def _values(fit: MicrophoneFit, earlier: MicrophoneValues | None, tape_m: float | None) -> dict[str, Any]:
    latency_ms = 0.0 if earlier is None else earlier.latency_ms
    distance = interval = None
    if fit.delay_ms is not None and fit.delay_interval_ms is not None:
        if tape_m is not None:
            latency_ms = fit.delay_ms - 1e3 * tape_m / SOUND_M_S
        low, middle, high = (
            max(1e-3 * (ms - latency_ms) * SOUND_M_S, 0.0)
            for ms in (fit.delay_interval_ms[0], fit.delay_ms, fit.delay_interval_ms[1])
        )
        distance, interval = middle, [low, high]
    return {
        "gain_db": fit.gain_db,
        "levels_dbfs": dict(fit.levels_db),
        "noise_floor_dbfs": fit.quiet_db,
        "delay_ms": fit.delay_ms,
        "latency_ms": latency_ms,
        "distance_m": distance,
        "distance_interval_m": interval,
    }


def _residuals(fit: MicrophoneFit) -> list[Residual]:
    above_db = min(fit.levels_db.values()) - fit.quiet_db
    return [
        Residual("level_spread_db", fit.level_spread_db, "dB within a program", LIMITS["level_spread"]),
        Residual("gain_interval_db", fit.gain_interval_db, "± dB; more seams", LIMITS["gain_interval"]),
        Residual("delay_spread_ms", fit.delay_spread_ms, "ms", LIMITS["delay_spread"]),
        Residual("floor_above_db", fit.quiet_db - min(fit.levels_db.values()), "dB of the arc", -FLOOR_BELOW_DB),
        Residual("arc_above_floor_db", above_db, "dB"),
        Residual("seams", fit.seams, ""),
        Residual("seams_heard", fit.heard, ""),
    ]


def _line(item: Heard) -> Mapping[str, Any]:
    return {
        "seam_id": item.seam_id,
        "program": item.program,
        "level_dbfs": item.level_db,
        "quiet_dbfs": item.quiet_db,
        "delay_ms": item.delay_ms,
    }


def _show(console: Console, values: Mapping[str, Any]) -> None:
    table = Table("quantity", "value")
    for program, level in values["levels_dbfs"].items():
        table.add_row(f"level of {program}", f"{level:.1f} dB of full scale")
    table.add_row("noise floor", f"{values['noise_floor_dbfs']:.1f} dB of full scale")
    table.add_row("gain to the reference", f"{values['gain_db']:+.2f} dB")
    if values["distance_m"] is None:
        table.add_row("distance", "the arc was not heard to follow its power")
    else:
        low, high = values["distance_interval_m"]
        table.add_row("distance", f"{values['distance_m']:.3f} m ({low:.3f} to {high:.3f})")
        table.add_row("of the delay no way in air", f"{values['latency_ms']:.3f} of {values['delay_ms']:.3f} ms")
    console.print(table)
