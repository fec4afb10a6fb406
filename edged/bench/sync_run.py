"""One run of `edged bench sync`: chunks through the real stamper, strikes through the real detectors.

Latencies are unknown at first; from each strike on the trend takes off what the strikes so far have shown, as the
daemon does where `follow_strikes` is set.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from calibration.clock import ClockModel
from calibration.latency import LatencyTrend
from drivers.base import Chunk
from edged.arc import ArcDetector
from edged.bench.sync_world import EVERY_S, SETTLE_S, Device, Noise, World
from edged.config import ArcConfig
from edged.stamping import Stamper
from edged.strike import ignition_ns, strike_residual_ms

__all__ = ["Strike", "Track", "follow", "rate_error_ppm", "tracks_of"]

BEFORE_S, AFTER_S = 0.6, 0.4
"""What of each stream is made with content, about a strike: the detectors look 0.3 s to either side."""


@dataclasses.dataclass(slots=True)
class Track:
    """One device's chunks, stamped in order of arrival."""

    device: Device
    arrivals_ns: NDArray[np.int64]
    stamper: Stamper
    trend: LatencyTrend
    next: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Strike:
    """One stream at one strike, ms: how far its stamps were off against the current's, and what the detector said."""

    index: int
    stream: str
    kind: str
    error_ms: float
    measured_ms: float | None
    strikes_before: int


def tracks_of(world: World, noise: Noise, rng: np.random.Generator, *, knows_latency: bool) -> dict[str, Track]:
    """Stampers for all devices; with `knows_latency` their configuration states the whole delay."""
    tracks = {}
    for name, device in world.devices.items():
        known_ms = device.known_ms + (device.latency_ms if knows_latency else 0.0)
        stamper = Stamper(device.spec, round(known_ms * 1e6))
        tracks[name] = Track(device, device.arrivals_ns(world.seconds, noise, rng), stamper, LatencyTrend())
    return tracks


def follow(world: World, tracks: dict[str, Track], *, follows: bool) -> Iterator[Strike]:
    """Every strike of every stream but the current's, in order. Raises ValueError where the current shows no arc."""
    current = next(track for track in tracks.values() if track.device.spec.kind == "welder")
    for index in range(len(world.seams)):
        strike_s = world.strike_s(index)
        near = {name: _advance(world, track, index, strike_s) for name, track in tracks.items()}
        arc_on_ns = _arc_on_ns(current, near[current.device.spec.name], index)
        light_ns = ignition_ns(current.device.spec, near[current.device.spec.name], arc_on_ns)
        reference_ns = _error_ns(current.device, near[current.device.spec.name], strike_s)
        for name, track in tracks.items():
            if track is current:
                continue
            error_ns = _error_ns(track.device, near[name], strike_s) - reference_ns
            struck_ns = light_ns if track.device.spec.kind == "video" else arc_on_ns
            found = strike_residual_ms(track.device.spec, near[name], struck_ns)
            kind, before = track.device.spec.kind, track.trend.strikes
            yield Strike(index, name, kind, error_ns / 1e6, found, before)
            if follows and found is not None:
                track.trend.add(round(found * 1e6), arc_on_ns)
                moved_ns = track.trend.apply(near[name][-1].end_ns)
                track.stamper.set_latency(round(track.device.known_ms * 1e6) + moved_ns)


def _advance(world: World, track: Track, index: int, strike_s: float) -> list[Chunk]:
    """Stamp everything until well after the strike; returns the chunks about it, with content."""
    device, near = track.device, []
    first, last = (device.counter_at(strike_s + at_s) // device.block for at_s in (-BEFORE_S, AFTER_S))
    end = device.counter_at(SETTLE_S + (index + 0.5) * EVERY_S) // device.block
    for number in range(track.next, min(end, len(track.arrivals_ns))):
        is_near = first <= number <= last
        chunk = world.chunk(device, number, int(track.arrivals_ns[number]), index if is_near else None)
        stamped = track.stamper.stamp(chunk)
        if is_near:
            near.append(stamped)
    track.next = end
    return near


def _arc_on_ns(current: Track, near: list[Chunk], index: int) -> int:
    detector = ArcDetector(current.device.spec, ArcConfig())
    for chunk in near:
        for event in detector.feed(chunk):
            if event.kind == "arc_on":
                return event.t_ns
    raise ValueError(f"seam {index} shows no arc in stream {current.device.spec.name}")


def _error_ns(device: Device, near: list[Chunk], strike_s: float) -> float:
    """Stamp less truth of the item that shows the strike."""
    counter = device.counter_at(strike_s)
    chunk = next(c for c in near if c.counter <= counter < c.counter + c.n)
    assert chunk.clock is not None
    return chunk.clock.t_ns(counter) - device.true_ns(counter)


def rate_error_ppm(device: Device, noise: Noise, seconds: float, rng: np.random.Generator) -> float:
    """How far the fitted rate is off after so many seconds of a device's arrivals."""
    model = ClockModel(device.spec.rate_hz)
    for number, arrival_ns in enumerate(device.arrivals_ns(seconds, noise, rng).tolist(), 1):
        model.update(number * device.block, arrival_ns, device.block)
    assert model.drift_ppm is not None
    return model.drift_ppm - device.ppm
