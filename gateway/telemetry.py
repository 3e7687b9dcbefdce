"""Structured logs: one JSON line per event on standard error, without personal data."""

import logging
import sys

import structlog

from gateway.request_ids import merge_request_id


def configure(level: int = logging.INFO) -> None:
    """Called once by each command that serves."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            merge_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
