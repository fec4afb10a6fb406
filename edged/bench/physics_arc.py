"""Figures of arc, drops and sound, measured on simulated good seams; `physics.py` makes rows of them.

Everything is read from what the simulation gave (traces, sound), never from its settings.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ARC_HZ, ArcTrace, simulate_arc
from drivers.sim.programs import WIRE_AREA_MM2, Program
from drivers.sim.sessions import Session, session_named
from drivers.sim.sound import AUDIO_HZ, SPEED_OF_SOUND_M_S, arc_pressure, render_sound
from drivers.sim.variation import Latents, draw_latents

__all__ = [
    "WIRE_MM",
    "GoodSeam",
    "Pulses",
    "Shorts",
    "bridges",
    "current_per_mm",
    "drop_diameter_mm",
    "feed_at_current",
    "good_seams",
    "hiss_exponent",
    "pressure_rms",
    "pulses",
    "sound_delay_error_ms",
    "steady",
    "transition_current_a",
    "with_ctwd",
]

WIRE_MM = 2 * float(np.sqrt(WIRE_AREA_MM2 / np.pi))
START_S, END_S = 0.5, 0.4
"""Left out at either end: striking and crater fill."""
LEAD_S, TAIL_S = 0.8, 0.5

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GoodSeam:
    """One simulated good seam with its causes."""

    program: Program
    session: Session
    seed: int
    state: Latents
    trace: ArcTrace

    @property
    def steady_s(self) -> float:
        """Seconds that `steady` covers."""
        return len(self.trace.current_a) / ARC_HZ - START_S - END_S


@dataclasses.dataclass(frozen=True, slots=True)
class Shorts:
    """Short circuits of one seam: how often, and per short how long, at what voltage, up to what current."""

    per_s: float
    duration_ms: Array
    voltage_v: Array
    peak_a: Array


@dataclasses.dataclass(frozen=True, slots=True)
class Pulses:
    """Current pulses of one seam: rate, drops for each, and the medians at the top and bottom."""

    hz: float
    drops_each: float
    peak_a: float
    background_a: float


def good_seams(program: Program, count: int, first_seed: int = 4100) -> list[GoodSeam]:
    """`count` good seams of a program, each of another session."""
    seams = []
    for seed in range(first_seed, first_seed + count):
        session = session_named(f"session-{seed % 48:02d}")
        state = draw_latents(program, session, seed)
        seams.append(GoodSeam(program, session, seed, state, simulate_arc(program, session, state, seed)))
    return seams


def steady(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of an array at `ARC_HZ` between striking and crater fill."""
    return values[round(START_S * ARC_HZ) : -round(END_S * ARC_HZ)]


def bridges(seam: GoodSeam) -> Shorts:
    """Whole short circuits between striking and crater fill."""
    shorted = steady(seam.trace.shorted.astype(float))
    current, voltage = steady(seam.trace.current_a), steady(seam.trace.voltage_v)
    edges = np.diff(shorted)
    begins, ends = np.flatnonzero(edges > 0) + 1, np.flatnonzero(edges < 0) + 1
    ends = ends[ends > begins[0]] if len(begins) else ends[:0]
    spans = [slice(a, b) for a, b in zip(begins, ends, strict=False)]
    return Shorts(
        per_s=len(spans) / seam.steady_s,
        duration_ms=np.array([(s.stop - s.start) / ARC_HZ * 1e3 for s in spans]),
        voltage_v=np.array([float(np.median(voltage[s])) for s in spans]),
        peak_a=np.array([float(current[s].max()) for s in spans]),
    )


def _drops_per_s(seam: GoodSeam) -> float:
    times = seam.trace.detachments_s
    end = len(seam.trace.current_a) / ARC_HZ - END_S
    return float(((times > START_S) & (times < end)).sum() / seam.steady_s)


def drop_diameter_mm(seam: GoodSeam) -> tuple[float, float]:
    """Free drops per second, and the diameter of the ball that one carries; all metal crosses in drops and shorts."""
    free = _drops_per_s(seam)
    transfers = free + bridges(seam).per_s
    if transfers == 0:
        raise ValueError(f"{seam.program.name}, seed {seam.seed}: no drop crossed the arc; the transfer has stopped")
    inner = slice(round(START_S * 1000), -round(END_S * 1000))
    volume = float(seam.state.wire_mm_s[inner].mean()) * WIRE_AREA_MM2 / transfers
    return free, float((6 * volume / np.pi) ** (1 / 3))


def pulses(seam: GoodSeam) -> Pulses:
    """Pulses of a pulsed seam: crossings of the middle between its low and high current."""
    current = steady(seam.trace.current_a)
    low, high = np.percentile(current, (5, 95))
    up = current > (low + high) / 2
    count = int((np.diff(up.astype(int)) > 0).sum())
    return Pulses(
        hz=count / seam.steady_s,
        drops_each=_drops_per_s(seam) * seam.steady_s / max(count, 1),
        peak_a=float(np.median(current[up])),
        background_a=float(np.median(current[~up])),
    )


def with_ctwd(program: Program, ctwd_mm: float) -> Program:
    """The program at another distance of the contact tip."""
    return dataclasses.replace(program, ctwd_mm=ctwd_mm)


def _mean_current(program: Program, seed: int, ctwd_extra_mm: float = 0.0, feed: float = 1.0) -> float:
    session = session_named("session-00")
    state = draw_latents(program, session, seed)
    state.ctwd_mm = state.ctwd_mm + ctwd_extra_mm
    state.wire_mm_s = state.wire_mm_s * feed
    return float(steady(simulate_arc(program, session, state, seed).current_a).mean())


def current_per_mm(program: Program, seed: int = 4190) -> float:
    """Change of the mean current per mm of contact-tip distance, A/mm."""
    return (_mean_current(program, seed, 2.0) - _mean_current(program, seed, -2.0)) / 4.0


def feed_at_current(program: Program, current_a: float, seed: int = 4191) -> float:
    """Wire feed in m/min at which the simulated arc draws that mean current, between two feeds 10 % apart."""
    state = draw_latents(program, session_named("session-00"), seed)
    inner = slice(round(START_S * 1000), -round(END_S * 1000))
    nominal = float(state.wire_mm_s[inner].mean()) * 0.06
    guess = current_a / program.current_a
    factors = (0.95 * guess, 1.05 * guess)
    drawn = [_mean_current(program, seed, 0.0, factor) for factor in factors]
    slope = (factors[1] - factors[0]) / (drawn[1] - drawn[0])
    return nominal * (factors[0] + slope * (current_a - drawn[0]))


def transition_current_a(program: Program, seed: int = 4192) -> float:
    """Mean current at which the drops of a spray program grow as large as the wire, its feed turned down in steps.

    Raises ValueError when no such current is met between half and all of the program's feed.
    """
    session = session_named("session-00")
    last: tuple[float, float] | None = None
    for factor in np.arange(1.0, 0.49, -0.06):
        state = draw_latents(program, session, seed)
        state.wire_mm_s = state.wire_mm_s * factor
        seam = GoodSeam(program, session, seed, state, simulate_arc(program, session, state, seed))
        current, diameter = float(steady(seam.trace.current_a).mean()), drop_diameter_mm(seam)[1]
        if diameter > WIRE_MM and last is not None:
            share = (WIRE_MM - last[1]) / (diameter - last[1])
            return last[0] + share * (current - last[0])
        last = (current, diameter)
    raise ValueError(f"{program.name}: drops stay below {WIRE_MM:.2f} mm down to half the feed; no transition found")


def pressure_rms(seam: GoodSeam) -> float:
    """RMS of the arc's own sound pressure, counts."""
    pressure = arc_pressure(seam.program, seam.trace)
    return float(pressure[round(START_S * AUDIO_HZ) : -round(END_S * AUDIO_HZ)].std())


def sound_delay_error_ms(seam: GoodSeam) -> float:
    """Delay of the microphone's sound behind the arc's, by cross-correlation, less distance over speed of sound."""
    arc = arc_pressure(seam.program, seam.trace)
    heard = render_sound(seam.program, seam.session, seam.state, seam.trace, seam.seed, LEAD_S, TAIL_S)[:, 0]
    window = round(1.0 * AUDIO_HZ)
    begin, longest = round(1.0 * AUDIO_HZ), round(0.004 * AUDIO_HZ)
    lead = round(LEAD_S * AUDIO_HZ)
    piece = arc[begin : begin + window]
    match = [float(np.dot(piece, heard[lead + begin + k : lead + begin + k + window])) for k in range(longest)]
    return int(np.argmax(match)) / AUDIO_HZ * 1e3 - seam.session.mic_distance_m / SPEED_OF_SOUND_M_S * 1e3


def hiss_exponent(seam: GoodSeam) -> float:
    """Power of the flow with which the RMS of the gas's hiss before the arc grows, from full and half flow."""
    from scipy.signal import butter, sosfilt

    band = butter(4, (3000, 11000), "bandpass", fs=AUDIO_HZ, output="sos")
    quiet = dataclasses.replace(seam.session, neighbour_level=0.0)
    loud = []
    for share in (1.0, 0.5, 0.0):
        state = dataclasses.replace(seam.state, nozzle_l_min=seam.state.nozzle_l_min * share)
        heard = render_sound(seam.program, quiet, state, seam.trace, seam.seed, LEAD_S, TAIL_S)[:, 0]
        before = sosfilt(band, heard.astype(float))[round((LEAD_S - 0.35) * AUDIO_HZ) : round(LEAD_S * AUDIO_HZ)]
        loud.append(float(before.var()))
    full, half = max(loud[0] - loud[2], 1e-9), max(loud[1] - loud[2], 1e-9)
    return float(np.log2(full / half) / 2)
