"""What others do with the same arrivals, for `edged bench sync`: pylsl's dejitter, nearest sample, approximate time.

Peers see what edged's clocks see: counters and arrivals of the same simulated devices, of the same run. None of them
knows a constant delay, so each is given those of the devices, as the configuration would state them.
"""

import contextlib
import os
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edged.bench.sync_run import Track
from edged.bench.sync_world import T0_NS, World

__all__ = ["NEAREST_MS", "approximate_time", "nearest", "nearest_within", "pair_errors_ms", "pylsl_errors_ms"]

NEAREST_MS = 50.0
LSL_CONFIG = "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n"
LSL_TIMEOUT_S = 60.0
LSL_PULL_S = 0.5

Array = NDArray[np.float64]
Pairs = list[tuple[int, int]]
"""Indices into the messages of the stream and of the reference that are taken to be of one time."""


def nearest(sorted_s: Array, at_s: float) -> int:
    """Index of the entry next to `at_s`."""
    i = bisect_left(sorted_s, at_s)
    return i - 1 if i and (i == len(sorted_s) or at_s - sorted_s[i - 1] <= sorted_s[i] - at_s) else i


def nearest_within(times_s: Array, reference_s: Array, tolerance_s: float = NEAREST_MS / 1e3) -> Pairs:
    """Each message with the reference's next one by arrival, where that lies within the tolerance."""
    pairs = ((i, nearest(reference_s, at_s)) for i, at_s in enumerate(times_s))
    return [(i, j) for i, j in pairs if abs(reference_s[j] - times_s[i]) <= tolerance_s]


def approximate_time(times_s: Array, reference_s: Array) -> Pairs:
    """ROS 2's `message_filters` ApproximateTime for two topics with unlimited queues, written as a comparison.

    Every set holds one message of each topic; none is used twice and sets do not cross. The pivot is the later of the
    two oldest messages; of the other topic the message next to it is taken, and what is older than the set dropped.
    """
    pairs, i, j = [], 0, 0
    while i < len(times_s) and j < len(reference_s):
        if times_s[i] >= reference_s[j]:
            while j + 1 < len(reference_s) and abs(reference_s[j + 1] - times_s[i]) <= abs(
                reference_s[j] - times_s[i]
            ):
                j += 1
        else:
            while i + 1 < len(times_s) and abs(times_s[i + 1] - reference_s[j]) <= abs(times_s[i] - reference_s[j]):
                i += 1
        pairs.append((i, j))
        i, j = i + 1, j + 1
    return pairs


def pair_errors_ms(world: World, tracks: Mapping[str, Track], kind: str, pairing: str) -> list[float]:
    """True time between what a peer takes for one time, ms, of the pair next to each strike; unmatched: left out."""
    track, current = (next(t for t in tracks.values() if t.device.spec.kind == k) for k in (kind, "welder"))
    times_s, reference_s = _arrivals_s(track), _arrivals_s(current)
    pairs = PAIRINGS[pairing](times_s, reference_s)
    # Where a message lies in truth: its last item.
    true_s, true_reference_s = _true_s(track), _true_s(current)
    firsts = true_s[[i for i, _ in pairs]]
    errors = []
    for index in range(len(world.seams)):
        at = nearest(firsts, world.strike_s(index))
        i, j = pairs[at]
        if abs(true_s[i] - world.strike_s(index)) <= 2 * track.device.block / track.device.spec.rate_hz:
            errors.append(float(true_s[i] - true_reference_s[j]) * 1e3)
    return errors


PAIRINGS = {"nearest_50ms": nearest_within, "approximate_time": approximate_time}


def pylsl_errors_ms(world: World, tracks: Mapping[str, Track], kind: str) -> list[float]:
    """Dejittered stamp less truth at each strike, against the current's, ms.

    The real library, fed with the simulated arrivals as time stamps: one sample a chunk. Raises ImportError.
    """
    track, current = (next(t for t in tracks.values() if t.device.spec.kind == k) for k in (kind, "welder"))
    offs = []
    for one in (track, current):
        stamps_s = _dejittered(_arrivals_s(one), one.device.spec.rate_hz / one.device.block)
        true_s = _true_s(one)
        at = [nearest(true_s, world.strike_s(index)) for index in range(len(world.seams))]
        offs.append(stamps_s[at] - true_s[at])
    return [float(error) * 1e3 for error in offs[0] - offs[1]]


def _arrivals_s(track: Track) -> Array:
    """Arrivals less the constant delay, s of the world."""
    delay_ms = track.device.latency_ms + track.device.known_ms
    return np.asarray((track.arrivals_ns - T0_NS) * 1e-9 - delay_ms * 1e-3)


def _true_s(track: Track) -> Array:
    """When each chunk's last item was taken, s of the world."""
    device = track.device
    count = len(track.arrivals_ns)
    last = np.arange(1, count + 1) * device.block - (1 if device.spec.encoded else 0)
    return np.asarray(last * device.item_ns * 1e-9 - device.known_ms * 1e-3)


@contextlib.contextmanager
def _only_loopback() -> Iterator[None]:
    """liblsl reads its configuration as it is loaded: nothing of this leaves the machine."""
    with tempfile.TemporaryDirectory(prefix="edged-lsl-") as folder:
        path = Path(folder) / "lsl_api.cfg"
        path.write_text(LSL_CONFIG, encoding="utf-8")
        before = os.environ.get("LSLAPICFG")
        os.environ["LSLAPICFG"] = str(path)
        try:
            yield
        finally:
            if before is None:
                del os.environ["LSLAPICFG"]
            else:
                os.environ["LSLAPICFG"] = before


def _dejittered(times_s: Sequence[float] | Array, rate_hz: float) -> Array:
    with _only_loopback():
        import pylsl

        name = f"edged-bench-{os.getpid()}-{rate_hz:g}"
        info = pylsl.StreamInfo(name, "bench", 1, rate_hz, pylsl.cf_int32, name)
        outlet = pylsl.StreamOutlet(info, max_buffered=3600)
        found = pylsl.resolve_byprop("source_id", name, timeout=LSL_TIMEOUT_S)
        if not found:
            raise RuntimeError("pylsl does not find its own stream on loopback")
        inlet = pylsl.StreamInlet(found[0], max_buflen=3600, processing_flags=pylsl.proc_dejitter)
        inlet.open_stream(timeout=LSL_TIMEOUT_S)
        if not outlet.wait_for_consumers(LSL_TIMEOUT_S):
            raise RuntimeError("pylsl's inlet does not connect on loopback")
        stamps: list[float] = []
        # Its time stamps are its own clock's; only differences count, so the world is laid at an hour of it.
        for at_s in times_s:
            outlet.push_sample([0], 3600.0 + float(at_s))
        deadline_s = time.monotonic() + LSL_TIMEOUT_S
        while len(stamps) < len(times_s):
            # Waits for as many as it may return, so it must not be asked for more than are there.
            _, pulled = inlet.pull_chunk(timeout=LSL_PULL_S, max_samples=min(4096, len(times_s) - len(stamps)))
            deadline_s = time.monotonic() + LSL_TIMEOUT_S if pulled else deadline_s
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"pylsl gave {len(stamps)} of {len(times_s)} samples")
            stamps += pulled
        inlet.close_stream()
    return np.asarray(stamps) - 3600.0
