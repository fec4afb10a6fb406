"""Recordings of the virtual cell's welder and microphone alone, with what a reference meter would have shown.

No images are rendered, so a seam takes a fraction of a second.
"""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationSet
from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import RecordingHeader, RecordingWriter
from drivers.sim import arc, sound
from drivers.sim.chunks import stream_specs
from drivers.sim.programs import program_named
from drivers.sim.seam import IMAGE_PRESETS
from drivers.sim.sessions import Session, session_named
from drivers.sim.variation import draw_latents
from edged.cell_calibration import CellCalibration
from tests.support.calibrations import VALUES, made

__all__ = ["ProcessSeam", "write_process"]

S = 1_000_000_000
UTC0 = 1_700_000_000
LEAD_S, TAIL_S = 0.6, 0.4


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ProcessSeam:
    """A recorded seam and the truth of its process."""

    path: Path
    seam_id: str
    session: Session
    arc_on_utc_s: float
    times_s: NDArray[np.float64]
    """From arc-on, of `current_a` and `voltage_v`: what no sensor has touched."""
    current_a: NDArray[np.float64]
    voltage_v: NDArray[np.float64]

    def meter_rows(self, average_s: float = 0.5) -> list[tuple[float, float, float]]:
        """(UTC of the end, A, V) of every `average_s` of the arc, as a meter logs them."""
        size = round(average_s / (self.times_s[1] - self.times_s[0]))
        return [
            (
                self.arc_on_utc_s + float(self.times_s[end - 1] + self.times_s[1] - self.times_s[0]),
                float(self.current_a[end - size : end].mean()),
                float(self.voltage_v[end - size : end].mean()),
            )
            for end in range(size, len(self.times_s), size)
        ]


def write_process(
    folder: Path, program_name: str, session_name: str, number: int, *, delay_ms: float = 0.0, noted: bool = True
) -> ProcessSeam:
    """Record one good seam's welder and microphone; `number` makes its seed, id and time.

    `delay_ms` was taken off the microphone's stamps as a calibration had measured it; `noted` in the recording.
    """
    program, session = program_named(program_name), session_named(session_name)
    state = draw_latents(program, session, number)
    trace = arc.simulate_arc(program, session, state, number)
    welder = arc.sample_welder(program, session, state, trace, number, LEAD_S, TAIL_S)
    audio = sound.render_sound(program, session, state, trace, number, LEAD_S, TAIL_S)
    specs = {spec.name: spec for spec in stream_specs(IMAGE_PRESETS["small"]) if spec.name in ("welder", "mic")}
    seam_id, start_ns = f"seam-{number:03d}", 100 * S + number * 60 * S
    on_ns = start_ns + round(LEAD_S * S)
    off_ns = on_ns + round(state.arc_s * S)
    seam = {
        "seam_id": seam_id, "cell": "c", "torch": "1", "program": program_name, "arc_on_ns": on_ns,
        "arcs": [[on_ns, off_ns]], "session": session_name,
    }  # fmt: skip
    header = RecordingHeader("boot", 0, UTC0 * S, "0", True, "c")
    path = folder / f"{seam_id}.mcap"
    with RecordingWriter(path, list(specs.values()), header) as writer:
        writer.metadata("seam", seam)
        if delay_ms:
            mic = {"driver": "microphone.portaudio", "kind": "audio", "latency_ms": 7.0}
            writer.metadata("config", {"streams": {"mic": mic}})
            measured = made("microphone", "mic", values={**VALUES["microphone"], "distance_m": 0.1})
            calibration = CellCalibration(CalibrationSet.of([measured]), {}, {"mic": delay_ms} if noted else {})
            writer.metadata("calibration", calibration.content())
        for name, data, early_ns in (("welder", welder, 0), ("mic", audio, round(delay_ms * 1e6))):
            _write(writer, specs[name], data, start_ns - early_ns)
        writer.finish()
    rate = arc.WELDER_HZ * (len(trace.current_a) / (state.arc_s * arc.WELDER_HZ))
    times = np.arange(len(trace.current_a)) / rate
    return ProcessSeam(path, seam_id, session, UTC0 + on_ns / S, times, trace.current_a, trace.voltage_v)


def _write(writer: RecordingWriter, spec: StreamSpec, data: NDArray[np.int16], start_ns: int) -> None:
    clock = ClockParams(0, start_ns, 1e9 / spec.rate_hz)
    block = round(0.1 * spec.rate_hz)
    for seq, first in enumerate(range(0, len(data), block)):
        piece = data[first : first + block]
        arrival_ns = clock.t_ns(first + len(piece))
        writer.chunk(Chunk(spec.name, seq, first, arrival_ns, 0, piece, clock))
