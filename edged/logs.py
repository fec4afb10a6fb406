"""Logging: one JSON object a line on stderr, for systemd's journal; seam_id is bound where a seam is meant."""

import logging
import sys
from typing import Any, TextIO

import structlog

__all__ = ["configure_logging", "seam_logging"]


def configure_logging(process: str, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's records of all threads to `stream` as JSON lines."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _named(process),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.dict_tracebacks,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # Not cached: a module's logger would keep this configuration for ever, and the saving is some µs a line.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    render = structlog.processors.JSONRenderer()
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[remove, render], foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)


def _named(process: str) -> structlog.types.Processor:
    """Puts the process into every line; a context variable would reach the main thread alone."""

    def add(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        return {**event, "process": process}

    return add


def seam_logging(seam_id: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose every line names the seam."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(seam_id=seam_id)
    return logger
