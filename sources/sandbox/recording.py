"""What a sandbox was asked and what it answered, so that tests can count calls and check them against a spec."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.types import Scope

MOST_BODY_BYTES = 1_000_000
"""Of each body; what is longer is cut, and `truncated` says so."""

MOST_CALLS = 100_000
"""The oldest are forgotten beyond that, so that a benchmark does not fill the memory."""

_SECRET_HEADERS = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"})
_HIDDEN = "[hidden]"


@dataclass(slots=True)
class Call:
    """One request of the vendor's API. `status` and `seconds` are None while it runs; status stays None if dropped."""

    order: int
    """Counts up in the order in which requests arrived."""
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    """In the order sent, repeated names kept, blank values too."""
    status: int | None = None
    seconds: float | None = None
    request_headers: tuple[tuple[str, str], ...] = ()
    """Lower-case names; secrets read "[hidden]". Like the bodies, only kept where bodies are recorded."""
    request_body: bytes = b""
    response_headers: tuple[tuple[str, str], ...] = ()
    response_body: bytes = b""
    truncated: bool = False
    _started: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def params(self) -> dict[str, str]:
        """The query as a dict; the last one wins where a name is repeated."""
        return dict(self.query)

    def finish(self) -> None:
        self.seconds = time.perf_counter() - self._started


class RequestLog:
    """Calls in the order in which they arrived; control calls are not in it. Safe to read from another thread."""

    def __init__(self, record_bodies: bool = False) -> None:
        self.record_bodies = record_bodies
        self._calls: deque[Call] = deque(maxlen=MOST_CALLS)
        self._order = 0

    def calls(self, method: str | None = None, path_prefix: str | None = None) -> list[Call]:
        return [
            call
            for call in self._calls.copy()
            if (method is None or call.method == method.upper())
            and (path_prefix is None or call.path.startswith(path_prefix))
        ]

    def count(self, method: str | None = None, path_prefix: str | None = None) -> int:
        return len(self.calls(method, path_prefix))

    def clear(self) -> None:
        self._calls.clear()

    def start(self, scope: Scope) -> Call:
        self._order += 1
        query = tuple(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        call = Call(self._order, scope["method"], scope["path"], query)
        if self.record_bodies:
            call.request_headers = _shown(scope["headers"])
        self._calls.append(call)
        return call

    def request_body(self, call: Call, body: bytes) -> None:
        if self.record_bodies:
            call.request_body, call.truncated = body[:MOST_BODY_BYTES], len(body) > MOST_BODY_BYTES

    def response_start(self, call: Call, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        call.status = status
        if self.record_bodies:
            call.response_headers = _shown(headers)

    def response_body(self, call: Call, body: bytes) -> None:
        if self.record_bodies and body:
            room = MOST_BODY_BYTES - len(call.response_body)
            call.response_body += body[:room]
            call.truncated = call.truncated or len(body) > room


def _shown(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    named = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)
    return tuple((name, _HIDDEN if name in _SECRET_HEADERS else value) for name, value in named)
