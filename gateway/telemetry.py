"""Structured logs: one JSON object per line on standard error, whoever writes it, without personal data.

What is logged are words of ours, numbers, names of systems and ids of requests. Of an exception only its type and where it
happened: what it says may be somebody's.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from traceback import extract_tb
from typing import Any

import msgspec
import structlog

from gateway.request_ids import merge_request_id
from gateway.settings import Logging
from sources.ports.trace import here

MOST_FRAMES = 30
"""Of one exception's traceback, the innermost."""
LONGEST_WORDS = 300
"""Of a line that a library writes."""

_ROOT = Path(__file__).parents[1]

Event = MutableMapping[str, Any]


def configure(settings: Logging | None = None) -> None:
    """Called once by each command. What libraries log goes the same way."""
    level = logging.getLevelNamesMapping()[(settings or Logging()).level.upper()]
    shared: list[Any] = [
        merge_request_id,
        merge_trace_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_words,
    ]
    last = structlog.processors.JSONRenderer(serializer=_text)
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_first_line, structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_is_no_socket)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def merge_trace_id(logger: Any, name: str, event: Event) -> Event:
    """A line of a request whose trace leaves the process says which one."""
    at = here()
    if at is not None and at.trace.trace_id is not None:
        event.setdefault("trace_id", f"{at.trace.trace_id:032x}")
    return event


def _text(event: Event, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=lambda value: type(value).__name__).decode()


def _without_words(logger: Any, name: str, event: Event) -> Event:
    """For an exception: what it is, what led to it, and where."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = [
            {"type": f"{type(one).__module__}.{type(one).__qualname__}", "at": list(_frames(one))}
            for one in _chain(error)
        ]
    return event


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(error: BaseException) -> Iterator[str]:
    for frame in extract_tb(error.__traceback__)[-MOST_FRAMES:]:
        path = Path(frame.filename)
        shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else Path(*path.parts[-3:])
        yield f"{shown}:{frame.lineno} {frame.name}"


def _first_line(logger: Any, name: str, event: Event) -> Event:
    """What asyncio says after it shows an object."""
    event["event"] = str(event["event"]).partition("\n")[0][:LONGEST_WORDS]
    return event


def _is_no_socket(record: logging.LogRecord) -> bool:
    """uvicorn writes a line for each WebSocket, with its client's address and what stands in its query."""
    return '"WebSocket' not in str(record.msg)
