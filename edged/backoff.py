"""How patient a stream is with its device: pauses between attempts, and limits on silence. See `edged.stream`."""

import dataclasses

__all__ = ["Backoff", "Timing"]


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
