"""Processes for work on hundreds of seams: simulation, feature extraction.

They log errors only, so that progress can be read, and end with their parent however it ends: after a kill -9 nobody
is left who would go on writing into the folder that the next run resumes.
"""

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog

__all__ = ["bulk_pool", "quiet"]


@contextlib.contextmanager
def bulk_pool(
    jobs: int, begin: Callable[..., None] | None = None, *args: Any
) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """A pool of `jobs` processes, each of which first calls `begin(*args)`.

    When the block is left by an error, work that has not begun is given up.
    """
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(begin, args)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def quiet() -> None:
    """Let a process that replays hundreds of seams log errors only, so that its progress can be read."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _begin(begin: Callable[..., None] | None, args: tuple[Any, ...]) -> None:
    quiet()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if begin is not None:
        begin(*args)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
