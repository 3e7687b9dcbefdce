"""An OpenTelemetry collector on loopback: takes traces by OTLP over HTTP and takes them apart."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

PATIENCE = 30.0


class Span(msgspec.Struct, frozen=True):
    """One, as it came."""

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    began: int
    ended: int
    failed: bool
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...]
    """Trace and span."""


class Collector:
    """Running while its block lasts."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = asyncio.Event()
        self._news = asyncio.Condition()

    def forget(self) -> None:
        """What came so far."""
        self.spans.clear()
        self.bodies.clear()

    async def trace(self, complete: Callable[[list[Span]], bool] = bool) -> list[Span]:
        """All spans of the one trace of which there are some, once it is complete."""

        def found() -> list[Span]:
            for trace in dict.fromkeys(span.trace for span in self.spans):
                spans = [span for span in self.spans if span.trace == trace]
                if complete(spans):
                    return spans
            return []

        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: bool(found()))
        return found()

    async def until(self, fits: Callable[[list[Span]], Any]) -> None:
        """Of everything that came."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: fits(self.spans))

    async def take(self, request: web.Request) -> web.Response:
        """POST /v1/traces."""
        self.asked.set()
        body = await request.read()
        await self.answering.wait()
        if self.status != 200:
            return web.Response(status=self.status)
        message = ExportTraceServiceRequest.FromString(body)
        async with self._news:
            self.headers.append(request.headers.copy())
            self.bodies.append(body)
            for resource in message.resource_spans:
                self.resources.append(_values(resource.resource.attributes))
                for scope in resource.scope_spans:
                    self.spans += map(_span, scope.spans)
            self._news.notify_all()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    """On a free port."""
    collector = Collector()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        collector.answering.set()
        await runner.cleanup()


def _span(span: WireSpan) -> Span:
    return Span(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        failed=span.status.code == 2,
        attributes=_values(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
