"""Which requests are traced for the firm's OpenTelemetry collector, under which ids, and when their traces leave."""

import random
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.arrival import arrival
from gateway.settings import Telemetry
from sources.ports.trace import Span, Trace, here, unseen

if TYPE_CHECKING:
    from gateway.office import Office

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Export(Protocol):
    """Where finished traces go."""

    def put(self, trace: Trace, spans: Sequence[Span]) -> None:
        """Costs its caller next to nothing, whatever becomes of the trace."""

    @property
    def outcomes(self) -> Mapping[tuple[str], int]:
        """How many spans were ``sent`` and ``dropped``."""

    async def close(self) -> None:
        """What waits leaves, within a few seconds."""


class Tracing:
    """Of one process."""

    def __init__(self, settings: Telemetry, trusted_proxies: Sequence[str], export: Export | None) -> None:
        """``export``: None where no trace leaves the process."""
        callers = settings.trusted_callers
        self._trusted = [ip_network(one) for one in (trusted_proxies if callers is None else callers)]
        self._ratio = settings.sample_ratio
        self._told_to = frozenset(settings.traceparent_to)
        self._export = export

    @property
    def outcomes(self) -> Mapping[tuple[str], int]:
        """How many spans the collector was ``sent``, and how many were ``dropped``; empty where none leave."""
        return {} if self._export is None else self._export.outcomes

    def arriving(self, scope: Scope) -> Trace | None:
        """For a request over HTTP; None: it is not traced. Of a caller who is trusted the trace goes on, and whether it is
        one is theirs to say; whoever else sends a traceparent begins a trace of ours, or none."""
        if self._export is None:
            return None
        outer = self._outer(scope)
        if outer is not None:
            trace_id, span_id, sampled = outer
            return Trace(trace_id, span_id, self._told_to) if sampled else None
        return self._sampled()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """One operation of a connection that stays open has a trace of its own, where it has one."""
        if self._export is None:
            with unseen():
                yield
            return
        around = here()
        if around is not None and around.trace.closed:
            around = None
        trace = self._sampled() if around is None else self._begun()
        if trace is None:
            with unseen():
                yield
            return
        request = trace.begin("stream", "operation")
        request.link = around.outside if around is not None else None
        try:
            with request:
                yield
        finally:
            self.finished(trace)

    def finished(self, trace: Trace) -> None:
        """Nothing of it goes on."""
        spans = trace.close()
        if self._export is not None:
            self._export.put(trace, spans)

    async def close(self) -> None:
        if self._export is not None:
            await self._export.close()

    def _sampled(self) -> Trace | None:
        return self._begun() if random.random() < self._ratio else None  # noqa: S311

    def _begun(self) -> Trace:
        return Trace(random.getrandbits(128) or 1, None, self._told_to)

    def _outer(self, scope: Scope) -> tuple[int, int, bool] | None:
        """The trace, the span and whether it is recorded, by W3C Trace Context; None where nobody who is trusted says."""
        peer: str = scope["client"][0] if scope.get("client") else ""
        if not self._trusted or not self._trusts(peer):
            return None
        said = Headers(scope=scope).getlist("traceparent")
        found = _TRACEPARENT.fullmatch(said[0]) if len(said) == 1 else None
        if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
            return None
        trace_id, span_id = int(found[2], 16), int(found[3], 16)
        return (trace_id, span_id, bool(int(found[4], 16) & 1)) if trace_id and span_id else None

    def _trusts(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


class Traced:
    """ASGI middleware: operations and files over HTTP, from their arrival to the last byte of the answer."""

    def __init__(self, app: ASGIApp, office: "Office") -> None:
        """``office`` is open by the time that requests come."""
        self._app, self._office = app, office

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _route(scope["path"]) if scope["type"] == "http" else None
        trace = self._office.tracing.arriving(scope) if route is not None else None
        if route is None or trace is None:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        request = trace.begin("request", f"{method} {route}")
        request.note(method=method, route=route)
        request.began = arrival.get().began

        async def noting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                request.note(status=message["status"])
            await send(message)

        try:
            with request:
                await self._app(scope, receive, noting)
        finally:
            self._office.tracing.finished(trace)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _route(path: str) -> str | None:
    """As it may be told: a file's address is a secret."""
    if path == "/graphql":
        return path
    return "/files/{token}" if path.startswith("/files/") else None
