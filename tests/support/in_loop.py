"""Coroutines as tests, without a plugin."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["in_loop"]


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs the test in an event loop of its own; pytest still sees its fixtures."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(test(*args, **fixtures))

    return run
