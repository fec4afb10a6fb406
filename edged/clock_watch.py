"""What the daemon makes of its streams' clocks: strikes go to the trends, trends to the stamps, drift to health.

Beside the data path, in the engine's thread. Every live verdict brings each stream's strike residual; where a stream
is told to (`follow_strikes`) the trend is taken off its stamps, between seams only, so that no seam is bent. Stamps
are recorded, hence a replay does not ask for the trend again.
"""

from collections.abc import Mapping
from typing import Protocol

from calibration.latency import LatencyTrend
from edged.config import Config, StreamConfig
from edged.strike_file import KeptTrend, StrikeFile
from edged.types import Health, Verdict

__all__ = ["ClockWatch", "Follower", "clock_warnings"]

MIN_STRIKES = 5
"""Fewer strikes are no trend to warn of."""
WARN_SHARE = 0.5
"""Of the limit beyond which a seam is INDETERMINATE(sync): said while there is time to do something."""


class Follower(Protocol):
    """A stream whose stamps can be moved."""

    trend: LatencyTrend

    @property
    def delay_ns(self) -> int:
        """What is taken off beside the trend."""
        ...

    def follow_trend(self) -> None:
        """Take what the trend says off the stamps from the next chunk on."""
        ...


class ClockWatch:
    """Trends and warnings of all streams of a cell; the trends go on from those that `kept` has, and into it."""

    def __init__(self, config: Config, streams: Mapping[str, Follower], kept: StrikeFile | None = None) -> None:
        self._configs = config.streams
        self._streams = streams
        limits = [program.max_sync_residual_ms for program in config.programs.values()]
        self._strike_limit_ms = WARN_SHARE * min(limits, default=50.0)
        self._kept = kept or StrikeFile(None)
        for name, trend in self._kept.read().items():
            stream = streams.get(name)
            # Strikes against another delay say nothing of this one.
            if stream is not None and stream.delay_ns == trend.delay_ns:
                stream.trend.restore(trend.strikes_ns)

    def note(self, verdict: Verdict) -> None:
        """Take a live verdict's strikes; a stream whose strike was not seen keeps its trend.

        Writes to disk, so it comes after the verdict is out.
        """
        for name, found in verdict.integrity.items():
            stream = self._streams.get(name)
            # The stream on which the arc is detected is the reference, and has no trend of its own.
            if stream is not None and found.kind in ("audio", "video") and found.sync_residual_ms is not None:
                stream.trend.add(round(found.sync_residual_ms * 1e6), verdict.seam.arc_on_ns)
        trends = {name: stream for name, stream in self._streams.items() if stream.trend.strikes}
        self._kept.write(
            {name: KeptTrend(delay_ns=s.delay_ns, strikes_ns=s.trend.kept_ns) for name, s in trends.items()}
        )

    def follow(self) -> None:
        """Let the streams that are told to follow their trends; call it while no arc burns."""
        for name, stream in self._streams.items():
            if self._configs[name].follow_strikes:
                stream.follow_trend()

    def warnings(self, health: Mapping[str, Health]) -> list[str]:
        """One sentence per stream and trouble, for health."""
        lines = [
            line
            for name, found in health.items()
            for line in clock_warnings(found, self._configs[name], self._strike_limit_ms)
        ]
        return [*lines, self._kept.error] if self._kept.error else lines


def clock_warnings(health: Health, config: StreamConfig, strike_limit_ms: float) -> list[str]:
    """What is wrong with a stream's clock: stream, value, limit and what to do."""
    lines = []
    if health.drift_ppm is not None and abs(health.drift_ppm) > config.max_drift_ppm:
        lines.append(
            f"stream {health.stream}: its clock is off by {health.drift_ppm:+.0f} ppm, limit "
            f"{config.max_drift_ppm:g}; check its nominal rate, or replace the device before its clock fails"
        )
    if health.strike_ms is not None and health.strikes >= MIN_STRIKES and abs(health.strike_ms) > strike_limit_ms:
        lines.append(
            f"stream {health.stream}: arc strikes come {health.strike_ms:+.1f} ms against the current (mean of "
            f"{health.strikes} seams), limit {strike_limit_ms:g}; correct its latency_ms or set follow_strikes"
        )
    return lines
