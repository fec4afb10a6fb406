"""One configured stream: a thread that opens its device, reads, stamps, fills the ring and hands the chunk on.

Data path: Driver (in this thread, or in a capture child where it can hang) → **Stream** → Ring → sink. Here, and only
here, `DeviceError` is caught: the device is closed and opened again after a growing pause, what was missed meanwhile
is the next chunk's `lost_before`, and nothing else in the daemon stops. Anything unexpected ends the process.
"""

import dataclasses
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import structlog

from calibration.latency import LatencyTrend
from drivers.base import MONOTONIC, Chunk, DeviceError, Driver, HostClock, StreamEnded, StreamSpec
from drivers.table import create_driver
from edged.backoff import Backoff, Timing, patient_with
from edged.capture_client import CaptureClient
from edged.capture_wire import ChildTask
from edged.config import StreamConfig
from edged.ring import Ring, make_ring
from edged.stamping import EVENT_KINDS, Stamper
from edged.stream_health import RateMeter, stream_state
from edged.types import Health

__all__ = ["Stream", "Timing", "end_process"]

_log = structlog.get_logger()

OTHER_EPOCH_NS = 86_400_000_000_000
"""A chunk that arrived a day from now was stamped by another clock; file-backed drivers may run ahead by hours."""
BACKWARDS_NS = 1_000_000_000
"""Host time does not go back; chunks of one connection may be handed over a little out of order."""


class _Source(Protocol):
    """An opened device as `Stream` reads it: a chunk, and its offset where it already lies in the ring."""

    ring: Ring

    @property
    def is_open(self) -> bool: ...

    def open(self) -> None: ...

    def read(self) -> tuple[Chunk, int | None] | None: ...

    def close(self) -> None: ...

    def release(self) -> None: ...


class _ThreadSource:
    """A driver read in the stream's own thread."""

    def __init__(self, driver: Driver, ring: Ring) -> None:
        self.ring = ring
        self.is_open = False
        self._driver = driver

    def open(self) -> None:
        self._driver.open()
        self.is_open = True

    def read(self) -> tuple[Chunk, int | None] | None:
        chunk = self._driver.read()
        return None if chunk is None else (chunk, None)

    def close(self) -> None:
        self.is_open = False
        self._driver.close()

    def release(self) -> None:
        self.close()


def end_process(stream: str, error: BaseException | None) -> None:
    """What an unexpected exception in a stream's thread comes to: systemd starts the daemon anew."""
    _log.critical("stream thread died", stream=stream, error=repr(error))
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


class Stream:
    """Owns the thread or capture child of one `[streams.NAME]`.

    Args:
        name: the stream.
        config: its section; `ring_s` sizes the ring, `delay_ns` is subtracted when stamping.
        sink: called in the stream's thread with every chunk (a view into the ring); must not block.
        driver: by default made from the config. Raises DeviceError and ValidationError.
        clock: host time. A driver that wants a process gets one only on MONOTONIC: a child has no other clock.
        child_env: `[children] env` of the config.
        on_fatal: called with the stream's name and the exception when the thread dies of anything unexpected.
        timing: patience.
    """

    def __init__(
        self,
        name: str,
        config: StreamConfig,
        sink: Callable[[Chunk], None],
        *,
        driver: Driver | None = None,
        clock: HostClock = MONOTONIC,
        child_env: Mapping[str, str] = MappingProxyType({}),
        on_fatal: Callable[[str, BaseException | None], None] = end_process,
        timing: Timing | None = None,
    ) -> None:
        self.name = name
        self._timing = timing or Timing()
        self._sink = sink
        self._clock = clock
        self._on_fatal = on_fatal
        driver = driver or create_driver(config.driver, name, config.options, clock)
        self.spec = _configured(driver.spec, name, config)
        self._source = _make_source(driver, self.spec, config, clock, child_env, self._timing)
        self.ring: Ring = self._source.ring
        self.trend = LatencyTrend()
        self._delay_ns = config.delay_ns
        self._stamper = Stamper(self.spec, self._delay_ns)
        self._meter = RateMeter()
        self._thread = threading.Thread(target=self._main, name=f"stream-{name}", daemon=True)
        self._stop = threading.Event()
        self._has_ended = False
        self._opens = 0
        self._connection_arrival_ns: int | None = None
        self._last_arrival_ns: int | None = None
        self._last_lost_ns: int | None = None
        self._error: str | None = None
        self._log = _log.bind(stream=name)

    def start(self) -> None:
        """Start the thread; returns at once, whether or not the device is there."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop reading and close the device; False when the thread hangs in the driver beyond `timeout_s`."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._log.error("stream does not stop", timeout_s=timeout_s)
            return False
        self._source.release()
        return True

    @property
    def has_ended(self) -> bool:
        """Whether a file-backed source has delivered everything."""
        return self._has_ended

    @property
    def child_pid(self) -> int | None:
        """Process id of the capture child, None where the driver runs in the thread or the child is down."""
        return self._source.pid if isinstance(self._source, CaptureClient) else None

    @property
    def delay_ns(self) -> int:
        """The constant delay that is taken off the stamps, beside what strikes show."""
        return self._delay_ns

    def use_delay(self, delay_ns: int) -> None:
        """Take this measured delay off the stamps instead of the configured one.

        Raises RuntimeError once the stream has begun: the stamps of a seam are never bent.
        """
        if self._thread.ident is not None:
            raise RuntimeError(f"stream {self.name} has begun; its delay can only be set before")
        self._delay_ns = delay_ns
        self._stamper = Stamper(self.spec, delay_ns)

    def follow_trend(self) -> None:
        """Take what the strikes of earlier seams say off the stamps, from the next chunk on; from any thread."""
        before_ns = self.trend.applied_ns
        if self.trend.apply(self._clock.now_ns()) != before_ns:
            self._stamper.set_latency(self._delay_ns + self.trend.applied_ns)

    def health(self) -> Health:
        """State now; may be called from any thread."""
        now_ns, stamper, model = self._clock.now_ns(), self._stamper, self._stamper.clock
        rate_hz = self._meter.rate_hz(now_ns)
        since = (self._last_arrival_ns, self._last_lost_ns)
        silent_ns, since_lost_ns = (None if t_ns is None else now_ns - t_ns for t_ns in since)
        state = stream_state(self.spec, self._source.is_open, rate_hz, silent_ns, since_lost_ns)
        if self._has_ended:
            state = "ended"
        elif self._opens == 0 and self._error is None:
            state = "starting"
        residual_ns = model.residual_ns if stamper.items else None
        strike_ns = self.trend.remaining_ns
        return Health(
            stream=self.name,
            kind=self.spec.kind,
            state=state,
            measured_hz=rate_hz or 0.0,
            nominal_hz=self.spec.rate_hz,
            items=stamper.items,
            lost=stamper.lost,
            gaps=stamper.gaps,
            reconnects=max(0, self._opens - 1),
            overwritten=self.ring.overwritten,
            last_t_ns=self.ring.head_ns,
            drift_ppm=model.drift_ppm,
            clock_residual_ms=None if residual_ns is None else residual_ns / 1e6,
            error=self._error,
            clock_steps=model.steps,
            latency_ms=(self._delay_ns + self.trend.applied_ns) / 1e6,
            strike_ms=None if strike_ns is None else strike_ns / 1e6,
            strikes=self.trend.strikes,
        )

    def _main(self) -> None:
        is_expected = False
        try:
            self._run()
            is_expected = True
        finally:
            if not is_expected:
                self._error = repr(sys.exception())
                self._on_fatal(self.name, sys.exception())

    def _run(self) -> None:
        backoff = Backoff(self._timing)
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._connection()
            except StreamEnded as ended:
                self._has_ended = True
                self._log.info("stream ended", reason=str(ended))
                return
            except DeviceError as error:
                self._error = str(error)
                self._log.warning("device failed", error=str(error))
            finally:
                held_s = time.monotonic() - began_s if self._source.is_open else 0.0
                self._close()
            if not self._stop.is_set():
                self._stop.wait(backoff.pause_s(held_s))

    def _connection(self) -> None:
        """From open to the first failure, or until stopped."""
        self._source.open()
        opened_ns: int | None = None
        while not self._stop.is_set():
            if opened_ns is None and self._source.is_open:
                opened_ns = self._connected()
            found = self._source.read()
            if found is not None:
                self._take(*found)
            elif opened_ns is not None:
                self._check_silence(opened_ns)

    def _connected(self) -> int:
        self._opens += 1
        self._connection_arrival_ns = None
        self._stamper.reopened()
        self._meter.reset()
        self._log.info("device open", reconnects=self._opens - 1)
        return self._clock.now_ns()

    def _take(self, raw: Chunk, offset: int | None) -> None:
        self._check_arrival(raw)
        chunk = self._stamper.stamp(raw)
        chunk = self.ring.append(chunk) if offset is None else self.ring.adopt(chunk, offset)
        self._last_arrival_ns = chunk.arrival_ns
        self._meter.add(chunk.arrival_ns, self._stamper.items)
        self._error = None
        if chunk.lost_before:
            self._last_lost_ns = chunk.arrival_ns
            self._log.warning("items lost", lost=chunk.lost_before, counter=chunk.counter)
        self._sink(chunk)

    def _check_arrival(self, raw: Chunk) -> None:
        """Raises DeviceError where a chunk's arrival cannot be this host's time; recorded stamps are left alone."""
        if raw.clock is not None:
            return
        ahead_s = (raw.arrival_ns - self._clock.now_ns()) / 1e9
        if abs(ahead_s) > OTHER_EPOCH_NS / 1e9:
            raise DeviceError(
                f"stream {self.name}: a chunk arrived {abs(ahead_s):.0f} s {'from now' if ahead_s > 0 else 'ago'}; "
                "its driver uses another clock than the host's monotonic one"
            )
        before_ns, self._connection_arrival_ns = self._connection_arrival_ns, raw.arrival_ns
        if before_ns is not None and raw.arrival_ns < before_ns - BACKWARDS_NS:
            raise DeviceError(
                f"stream {self.name}: its arrival times went back by {(before_ns - raw.arrival_ns) / 1e9:.1f} s; "
                "its driver uses a clock that was set, it must be the host's monotonic one"
            )

    def _check_silence(self, opened_ns: int) -> None:
        silent_s = (self._clock.now_ns() - max(opened_ns, self._last_arrival_ns or 0)) / 1e9
        if self.spec.kind not in EVENT_KINDS and silent_s > self._timing.silence_s:
            raise DeviceError(f"stream {self.name}: open, but silent for {silent_s:.0f} s; it is opened again")

    def _close(self) -> None:
        try:
            self._source.close()
        except DeviceError as error:
            self._error = str(error)
            self._log.warning("device does not close", error=str(error))


def _configured(spec: StreamSpec, name: str, config: StreamConfig) -> StreamSpec:
    found = dataclasses.replace(
        spec,
        name=name,
        kind=config.kind,
        torch=config.torch or spec.torch,
        exposure_ms=config.exposure_ms,
        readout_ms=config.readout_ms,
    )
    if found.encoded != spec.encoded:
        raise ValueError(f"streams.{name}.kind: {config.driver} delivers {spec.kind}, which cannot be {config.kind}")
    return found


def _make_source(
    driver: Driver,
    spec: StreamSpec,
    config: StreamConfig,
    clock: HostClock,
    child_env: Mapping[str, str],
    timing: Timing,
) -> _Source:
    if driver.isolation == "process" and clock is MONOTONIC:
        task = ChildTask(driver=config.driver, name=spec.name, options=config.options)
        return CaptureClient(task, spec, config.ring_s, child_env, patient_with(timing, config.options))
    return _ThreadSource(driver, make_ring(spec, config.ring_s))
