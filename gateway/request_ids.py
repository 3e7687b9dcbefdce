"""The ids by which logs, errors and the audit trail know requests, and the audit trail operations."""

import os
from collections.abc import MutableMapping
from typing import Any

from gateway.arrival import arrival

_ID_BYTES = 16
_AT_ONCE = 256
_drawn: list[str] = []
# Two processes must not give the same ones.
os.register_at_fork(after_in_child=_drawn.clear)


def new_id() -> str:
    """128 random bits as hexadecimal digits, which the system is asked for many at a time."""
    if not _drawn:
        _drawn.extend(os.urandom(_ID_BYTES * _AT_ONCE).hex(" ", _ID_BYTES).split())
    return _drawn.pop()


def merge_request_id(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog: a line of a request says which one."""
    if id_ := arrival.get().request_id:
        event.setdefault("request_id", id_)
    return event
