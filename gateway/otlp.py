"""Traces as OpenTelemetry spans, sent by OTLP over HTTP. A collector that is slow or away costs requests nothing: what
waits is bounded, and everything is done in a thread of its own.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.settings import Telemetry
from sources.ports.trace import Span, Trace

WAITING_SPANS: Final = 50_000
"""Of traces that have not left, some 30 MB. Whole traces beyond that are dropped and counted."""
WAITING_TRACES: Final = 5_000
TRACES_AT_ONCE: Final = 50
EVERY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0
"""For what is left at the end."""

log = structlog.get_logger()

_RECORDED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("backoffice-gateway", version("backoffice-gateway"))

_KINDS = {
    "request": SpanKind.SERVER,
    "operation": SpanKind.SERVER,
    "call": SpanKind.CLIENT,
    "ledger": SpanKind.CLIENT,
    "oauth": SpanKind.CLIENT,
    "redis": SpanKind.CLIENT,
}

_SYSTEMS = {"ledger": "postgresql", "redis": "redis"}

_NAMES = {
    "ageSeconds": "gateway.cache.age",
    "bytes": "http.response.body.size",
    "cached": "gateway.cache.cached",
    "class": "gateway.wait.class",
    "cost": "gateway.cost",
    "endpoint": "gateway.endpoint",
    "failed": "gateway.cache.failed",
    "fields": "gateway.plan.fields",
    "host": "server.address",
    "keys": "gateway.batch.keys",
    "known": "gateway.plan.known",
    "limit": "gateway.wait.limit",
    "live": "gateway.cache.live",
    "method": "http.request.method",
    "operationName": "graphql.operation.name",
    "operationType": "graphql.operation.type",
    "requestId": "gateway.request.id",
    "route": "http.route",
    "shared": "gateway.cache.shared",
    "source": "gateway.source",
    "stale": "gateway.cache.stale",
    "status": "http.response.status_code",
    "type": "gateway.type",
    "way": "gateway.plan.way",
}
"""What leaves, and as what: OpenTelemetry's own names where its semantic conventions have one. What is not here stays."""


class OtlpExport:
    """Of one process, from the moment it is made until ``close``."""

    def __init__(self, settings: Telemetry) -> None:
        resource = Resource(
            {
                "service.name": settings.service_name,
                "service.version": version("backoffice-gateway"),
                "service.instance.id": str(uuid4()),
                **settings.attributes,
            }
        )
        self._spans = _Spans(settings, resource)
        # Its queue holds whole traces: their spans are made where they are sent, not while requests wait.
        self._queue = BatchSpanProcessor(
            self._spans,
            max_queue_size=WAITING_TRACES,
            schedule_delay_millis=EVERY_SECONDS * 1000,
            max_export_batch_size=TRACES_AT_ONCE,
            export_timeout_millis=settings.timeout * 1000,
        )

    @property
    def outcomes(self) -> Mapping[tuple[str], int]:
        """Spans that the collector has taken, and those it has not, or for which there was no room."""
        return {("sent",): self._spans.sent, ("dropped",): self._spans.dropped}

    def put(self, trace: Trace, spans: Sequence[Span]) -> None:
        if self._spans.expect(len(spans)):
            self._queue.on_end(_WholeTrace(trace, spans))

    async def close(self) -> None:
        """Of what the collector does not take in time nothing is kept, and nobody waits for it."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._queue.shutdown()  # type: ignore[no-untyped-call]
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=flush, name="telemetry-end", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await over.wait()
        except TimeoutError:
            self._spans.shutdown()
            log.warning("telemetry_lost_at_the_end", spans=self._spans.waiting)


class _WholeTrace(ReadableSpan):
    """In a span's place in the queue."""

    def __init__(self, trace: Trace, spans: Sequence[Span]) -> None:
        assert trace.trace_id is not None
        super().__init__(
            "", SpanContext(trace.trace_id, trace.seed or 1, False, _RECORDED), resource=_NO_RESOURCE
        )
        self.trace, self.spans = trace, spans


_NO_RESOURCE = Resource({})


class _LastSaid(logging.Handler):
    """What the exporter said last: why a collector did not take something."""

    words = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage()


_SDK_LOG = logging.getLogger("opentelemetry.exporter")
_SDK_LOG.propagate = False  # it says the same every second; here it is said once


class _Spans(SpanExporter):
    """In the thread of the queue."""

    def __init__(self, settings: Telemetry, resource: Resource) -> None:
        self._exporter = _exporter(settings)
        self._resource = resource
        self._lock = threading.Lock()
        self._said = _LastSaid()
        _SDK_LOG.addHandler(self._said)
        self._failing = False
        self._traces = 0
        self.waiting = 0
        self.dropped = 0
        self.sent = 0

    def expect(self, spans: int) -> bool:
        """Is there room for a trace of so many?"""
        with self._lock:
            if self.waiting + spans > WAITING_SPANS or self._traces >= WAITING_TRACES:
                self.dropped += spans
                return False
            self.waiting += spans
            self._traces += 1
            return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        traces = [one for one in spans if isinstance(one, _WholeTrace)]
        count = sum(len(one.spans) for one in traces)
        result = SpanExportResult.FAILURE
        try:
            made = [span for one in traces for span in self._made(one)]
            result = self._exporter.export(made)
        finally:
            with self._lock:
                self.waiting -= count
                self._traces -= len(traces)
                if result is SpanExportResult.SUCCESS:
                    self.sent += count
                else:
                    self.dropped += count
        self._tell(result is not SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        _SDK_LOG.removeHandler(self._said)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def _tell(self, failing: bool) -> None:
        """Once when it begins, once when it is over."""
        if failing != self._failing:
            self._failing = failing
            if failing:
                log.warning("telemetry_not_taken", reason=self._said.words)
            else:
                log.info("telemetry_taken_again")

    def _made(self, whole: _WholeTrace) -> list[ReadableSpan]:
        trace = whole.trace
        by_id = {span.id: span for span in whole.spans}
        ends = max((span.ended or span.began for span in whole.spans), default=0.0)
        return [_span(trace, span, by_id.get(span.parent or 0), ends, self._resource) for span in whole.spans]


def _exporter(settings: Telemetry) -> OTLPSpanExporter:
    session = requests.Session()
    session.trust_env = False  # no proxy and no password file that gateway.toml does not know
    return OTLPSpanExporter(
        endpoint=address(settings.endpoint),
        headers=settings.headers,
        timeout=settings.timeout,
        compression=Compression.Gzip,
        certificate_file=settings.certificates,
        session=session,
    )


async def refusal(settings: Telemetry) -> str | None:
    """Why the collector takes nothing, for an operator to read; None: it does. It is sent an empty batch."""
    said = _LastSaid()
    _SDK_LOG.addHandler(said)
    exporter = _exporter(settings)
    try:
        result = await asyncio.to_thread(exporter.export, [])
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
        _SDK_LOG.removeHandler(said)
    return None if result is SpanExportResult.SUCCESS else said.words


def address(endpoint: str) -> str:
    """Where traces go: a collector's own address stands for its usual path."""
    return endpoint.rstrip("/") + "/v1/traces" if urlsplit(endpoint).path in ("", "/") else endpoint


def _span(trace: Trace, span: Span, parent: Span | None, ends: float, resource: Resource) -> ReadableSpan:
    assert trace.trace_id is not None
    above = parent.external_id if parent is not None else trace.outer
    links = []
    if span.link is not None:
        links.append(Link(SpanContext(span.link.trace_id, span.link.span_id, True, _RECORDED)))
    return ReadableSpan(
        _name(span),
        SpanContext(trace.trace_id, span.external_id, False, _RECORDED),
        parent=None if above is None else SpanContext(trace.trace_id, above, parent is None, _RECORDED),
        resource=resource,
        attributes=_attributes(span),
        links=links,
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        status=Status(StatusCode.ERROR) if _failed(span) else Status(StatusCode.UNSET),
        start_time=_nanoseconds(trace, span.began),
        end_time=_nanoseconds(trace, ends if span.ended is None else span.ended),
        instrumentation_scope=_SCOPE,
    )


def _name(span: Span) -> str:
    if span.kind == "operation":
        # The operation's own name is the client's to choose: as a span's name it could be anything.
        return str(span.numbers.get("operationType") or "GraphQL Operation")
    return span.name if span.kind in ("request", "call") else f"{span.kind} {span.name}".strip()


def _attributes(span: Span) -> dict[str, Any]:
    numbers = span.numbers
    attributes: dict[str, Any] = {
        _NAMES[key]: value for key, value in numbers.items() if key in _NAMES and value not in (None, "")
    }
    if span.kind == "call":
        if template := attributes.pop("http.route", None):
            attributes["url.template"] = template
        if (attempt := numbers.get("attempt")) and int(attempt) > 1:
            attributes["http.request.resend_count"] = int(attempt) - 1
    if system := _SYSTEMS.get(span.kind):
        attributes["db.system.name"] = system
    if span.error is not None:
        attributes["gateway.error.code"] = span.error
    if _failed(span):
        status = numbers.get("status")
        attributes["error.type"] = str(status) if status and int(status) >= 400 else span.error
    if span.ended is None:
        attributes["gateway.unfinished"] = True
    return attributes


def _failed(span: Span) -> bool:
    status = span.numbers.get("status")
    return span.error is not None or (span.kind == "request" and status is not None and int(status) >= 500)


def _nanoseconds(trace: Trace, moment: float) -> int:
    return int((trace.began_at + moment) * 1e9)
