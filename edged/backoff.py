"""How patient a stream is with its device: pauses between attempts, and limits on silence. See `edged.stream`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["Backoff", "Timing", "patient_with"]

STALL_MARGIN_S = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """How patient a stream is, seconds.

    A connection that held for `steady_s` is reopened after `backoff_s`; until then the pause doubles up to
    `backoff_limit_s`, which bounds the rate of restarts. A stream that is open but gives nothing for `silence_s`
    is reopened. The stall limits are for capture children: how long `open` and `read` may take until they are killed;
    `read_stall_s` is the driver's read time-out plus a margin.
    """

    backoff_s: float = 0.25
    backoff_limit_s: float = 10.0
    steady_s: float = 10.0
    silence_s: float = 30.0
    open_stall_s: float = 20.0
    read_stall_s: float = 5.0


class Backoff:
    """The pause before the next attempt."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._next_s = timing.backoff_s

    def pause_s(self, held_s: float) -> float:
        """Seconds to wait after a connection that delivered for `held_s`."""
        if held_s >= self._timing.steady_s:
            self._next_s = self._timing.backoff_s
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._timing.backoff_limit_s)
        return pause_s


_TIMEOUT_KEYS: Mapping[str, tuple[str, float]] = {
    "open_timeout_ms": ("open_stall_s", 1e-3),
    "open_timeout_s": ("open_stall_s", 1.0),
    "read_timeout_ms": ("read_stall_s", 1e-3),
    "read_timeout_s": ("read_stall_s", 1.0),
    "stall_timeout_s": ("read_stall_s", 1.0),
}


def patient_with(timing: Timing, options: Mapping[str, Any]) -> Timing:
    """`timing` with stall limits of at least STALL_MARGIN_S beyond the time-outs that a driver's options state.

    Without this, a camera allowed ten seconds between frames would be killed after five.
    """
    for key, (field, unit_s) in _TIMEOUT_KEYS.items():
        stated = options.get(key)
        if isinstance(stated, int | float):
            limit_s = max(getattr(timing, field), stated * unit_s + STALL_MARGIN_S)
            timing = dataclasses.replace(timing, **{field: limit_s})
    return timing
