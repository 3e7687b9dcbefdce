"""A call to a vendor as a trace tells of it: never its path, its parameters or its answer."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sources.ports.errors import SourceError
from sources.ports.trace import UNSEEN, Span, here, span

if TYPE_CHECKING:
    from sources.transport.http import Answer, Request

    Send = Callable[[], Awaitable[Answer]]


class SeenCall:
    """All attempts of one call."""

    def __init__(self, source: str, base_url: str, route: str, endpoint: str, traced: bool) -> None:
        """``traced``: may the host be told of the trace?"""
        self._source, self._route, self._endpoint, self._traced = source, route, endpoint, traced
        self._host = urlsplit(base_url).hostname or ""
        self._attempts = 0
        self._last: Span = UNSEEN

    async def watched(self, request: "Request", send: "Send") -> "Answer":
        """What ``send`` gives. Its time begins here: before that it waited for its place."""
        self._attempts += 1
        if (at := here()) is not None:
            at.spent(self._source)
        call = self._last = span("call", f"{request.method} {self._route}".rstrip(), source=self._source)
        call.note(
            method=request.method,
            route=self._route,
            endpoint=self._endpoint,
            host=self._host,
            attempt=self._attempts,
            cost=1,
        )
        if self._traced and (named := call.traceparent_to(self._source)) is not None:
            request.headers["traceparent"] = named
        with call:
            answer = await send()
            call.note(status=answer.status, bytes=len(answer.body))
            return answer

    def failed(self, error: SourceError) -> None:
        """What the last answer meant."""
        self._last.failed(error)
