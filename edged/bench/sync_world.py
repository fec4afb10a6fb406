"""Devices whose true times are known, for `edged bench sync`: the virtual cell's strikes behind made-up clocks.

Every item has a counter, and the world says when it was taken; what the host gets is its arrival. A device runs fast
or slow by `ppm`, is `latency_ms` late always, and late by chance besides. So the residual is not estimated but known:
stamp minus the true time of the counter.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from drivers.sim.seam import RenderedSeam

__all__ = ["EVERY_S", "NOISES", "SETTLE_S", "T0_NS", "Device", "Noise", "World", "devices_of"]

T0_NS = 5_000_000_000_000
SETTLE_S = 12.0
"""Before the first seam, as a cell that has just been switched on."""
EVERY_S = 10.0
"""From one arc to the next."""
UNKNOWN_MS = {"welder": (0.0, 0.0), "audio": (2.0, 30.0), "video": (5.0, 45.0)}


@dataclasses.dataclass(frozen=True, slots=True)
class Noise:
    """How arrivals are late by chance: the usual exponential, a rare second one, a uniform one, and a stall.

    From `stall_at_s` on nothing arrives for `stall_s`, then all of it at once.
    """

    usual_s: float = 0.0005
    rare_share: float = 0.01
    rare_s: float = 0.005
    uniform_s: float = 0.0
    stall_at_s: float = 0.0
    stall_s: float = 0.0


NOISES: Mapping[str, Noise] = {
    "usual": Noise(),
    # Over the seventh arc: its strike lies in the stall.
    "faulted": Noise(uniform_s=0.020, stall_at_s=SETTLE_S + 6 * EVERY_S - 2.5, stall_s=5.0),
}
"""The virtual cell's own jitter, and what the bar for a faulted cell names."""


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """One stream: its spec, items a chunk, its clock's error, its constant delay, and what is known of that.

    `known_ms` is what a configuration can state: sound's way through the air, a frame's exposure and read-out.
    """

    spec: StreamSpec
    block: int
    ppm: float
    latency_ms: float
    known_ms: float

    @property
    def item_ns(self) -> float:
        """True length of a count."""
        return self.spec.dt_ns / (1 + self.ppm * 1e-6)

    def true_ns(self, counter: float) -> float:
        """When what the item shows happened at the arc."""
        return T0_NS + counter * self.item_ns - self.known_ms * 1e6

    def counter_at(self, t_s: float) -> int:
        """The item that shows best what happened at `t_s` of the world."""
        return round((t_s * 1e3 + self.known_ms) * 1e6 / self.item_ns)

    def arrivals_ns(self, seconds: float, noise: Noise, rng: np.random.Generator) -> NDArray[np.int64]:
        """Arrival of every chunk, in order; an image comes when it was taken, samples after the last of them."""
        count = int(seconds * self.spec.rate_hz / self.block)
        last = np.arange(1, count + 1) * self.block - (1 if self.spec.encoded else 0)
        due_s = last * self.item_ns * 1e-9
        late_s = rng.exponential(noise.usual_s, count) + noise.uniform_s * rng.random(count)
        late_s += (rng.random(count) < noise.rare_share) * rng.exponential(noise.rare_s, count)
        at_s = due_s + self.latency_ms * 1e-3 + late_s
        stalled = (at_s >= noise.stall_at_s) & (at_s < noise.stall_at_s + noise.stall_s)
        at_s[stalled] = noise.stall_at_s + noise.stall_s
        arrivals: NDArray[np.int64] = np.maximum.accumulate(T0_NS + np.rint(at_s * 1e9).astype(np.int64))
        return arrivals


def devices_of(
    specs: Sequence[StreamSpec], blocks: Mapping[str, int], known_ms: Mapping[str, float], rng: np.random.Generator
) -> dict[str, Device]:
    """Welder, microphone and arc camera with clocks and delays drawn anew.

    Only differences to the current can be seen, so its own delay is nought. The delays of the others are unknown to
    the configuration, and within the ±50 ms beyond which a seam is INDETERMINATE(sync).
    """
    found = {}
    for spec in specs:
        if spec.kind in UNKNOWN_MS:
            ppm, latency_ms = float(rng.uniform(-60, 60)), float(rng.uniform(*UNKNOWN_MS[spec.kind]))
            found[spec.name] = Device(spec, blocks.get(spec.name, 1), ppm, latency_ms, known_ms.get(spec.kind, 0.0))
    return found


class World:
    """Seams that follow each other every EVERY_S, seen by devices."""

    def __init__(self, seams: Sequence[RenderedSeam], devices: Mapping[str, Device]) -> None:
        self.seams = seams
        self.devices = devices
        # A seam begins with a frame of its own, or what a frame shows would not be what happened then.
        camera = next(device for device in devices.values() if device.spec.encoded)
        self._starts_ns = [
            math.ceil((SETTLE_S + k * EVERY_S) * 1e9 / camera.item_ns) * camera.item_ns for k in range(len(seams))
        ]

    @property
    def seconds(self) -> float:
        """Length of it all."""
        return SETTLE_S + len(self.seams) * EVERY_S

    def strike_s(self, index: int) -> float:
        """When seam `index` is struck, seconds of the world."""
        return self._starts_ns[index] * 1e-9 + self.seams[index].lead_s

    def chunk(self, device: Device, number: int, arrival_ns: int, near: int | None) -> Chunk:
        """Chunk `number` of a device; `near` a seam with what its sensor shows, else zeros (their times count)."""
        first = number * device.block
        data = self._data(device, first, near)
        return Chunk(device.spec.name, number, first, arrival_ns, 0, data)

    def _data(self, device: Device, first: int, near: int | None) -> NDArray[Any]:
        spec = device.spec
        if near is None:
            return np.zeros(1, np.uint8) if spec.encoded else np.zeros((device.block, *spec.shape), spec.dtype)
        seam = self.seams[near]
        at = first - round(self._starts_ns[near] / device.item_ns)
        if spec.encoded:
            return np.frombuffer(seam.frames[min(max(at, 0), len(seam.frames) - 1)], np.uint8)
        items = seam.welder if spec.kind == "welder" else seam.audio
        return items[np.clip(np.arange(at, at + device.block), 0, len(items) - 1)]
