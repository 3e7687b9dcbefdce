"""How an operation ran, for who may know: ``extensions.xray``. And how the same looks as a part of a trace.

It tells of counts, times and words of ours. That still tells what others read: a record that was remembered, or whose
call was shared, was read by somebody just now. Hence the scope, which no customer may hold.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import msgspec

from gateway.arrival import arrival
from gateway.audit import NAME_LENGTH
from gateway.coordinates import Asked
from permissions.principal import Principal
from sources.ports.trace import Span, Trace, here, unseen
from sources.transport.deadline import remaining

SCOPE = "xray:read"
_REFUSED = {"refused": f"needs {SCOPE}"}

_SHOWN: Mapping[str, tuple[str, ...]] = {
    "batch": ("type", "keys"),
    "breaker": ("source",),
    "cache": ("source", "type", "live", "cached", "stale", "failed", "shared", "ageSeconds"),
    "call": ("source", "endpoint", "method", "attempt", "status", "bytes", "cost"),
    "encode": ("bytes",),
    "oauth": ("source",),
    "redis": ("source",),
    "retry": ("source",),
    "wait": ("source", "limit", "class"),
}
"""What is told of a kind of span beside its name and its times. Of a kind that is not here nothing is."""


def asked_for(extensions: Mapping[str, Any] | None) -> bool:
    """By the request's own ``extensions``."""
    return extensions is not None and extensions.get("xray") is True


async def watched(
    run: Callable[[], Awaitable[Any]],
    encoded: Callable[[Any], bytes],
    principal: Principal,
    request_id: str,
    *,
    asked: bool,
) -> Any:
    """What ``run`` answers, with what is to be told of it; it runs as a part of the trace that is under way, or of one that
    is made for it alone."""
    at, told = here(), asked and SCOPE in principal.scopes
    if at is not None and at.trace.closed:
        at = None  # a connection's next request may run in the context of the one before
    if at is None and not told:
        with unseen():
            answer = await run()
    else:
        trace = Trace() if at is None else at.trace
        operation = trace.begin("operation", "operation", at)
        if at is None or at.kind == "request":
            operation.began = arrival.get().began
            before = trace.begin("arrival", "sign-in and request", operation)
            before.began, before.ended = operation.began, before.began
        try:
            with operation:
                operation.note(requestId=request_id)
                answer = await run()
                tell_outcome(operation, answer.body)
                if "data" in answer.body:
                    with trace.begin("encode", "answer", operation) as encoding:
                        data = encoded(answer.body["data"])
                        encoding.note(bytes=len(data))
                    answer.body["data"] = msgspec.Raw(data)
            if told:
                answer = _with(answer, _xray(trace, operation, request_id))
        finally:
            if at is None:
                trace.close()
    return refused(answer) if asked and not told else answer


def refused(answer: Any) -> Any:
    """For who may not know."""
    return _with(answer, _REFUSED)


def tell_of(operation: Span, asked: Asked | None) -> None:
    """What is known of it before it runs, within its deadline."""
    said = operation.trace.said
    said["deadlineMs"] = round((perf_counter() - operation.began + remaining()) * 1000)
    if asked is not None:
        name = asked.name and asked.name[:NAME_LENGTH]
        operation.name = name or "anonymous"
        operation.note(operationName=name, operationType=asked.type.value)
        said["fields"], said["denied"] = len(asked.coordinates), list(asked.denied)
    else:
        operation.name = "anonymous"


def tell_outcome(operation: Span, body: Mapping[str, Any]) -> None:
    """A field that the caller may not read is an answer; what a source or the gateway itself failed at is a failure."""
    codes = [str(error["extensions"]["code"]) for error in body.get("errors", ())]
    failed = [
        code for code in codes if code.startswith("SOURCE_") or code == "INTERNAL" or "data" not in body
    ]
    if failed:
        operation.failed(failed[0])


def _with(answer: Any, xray: Any) -> Any:
    answer.body["extensions"] = {**answer.body.get("extensions", {}), "xray": xray}
    # It is told once: what a cache keeps would be told again.
    return msgspec.structs.replace(answer, kept=None)


def _xray(trace: Trace, operation: Span, request_id: str) -> dict[str, Any]:
    """Of this operation alone, whatever else the trace has."""
    now, first = perf_counter(), operation.id
    said = trace.said
    spans = [_span(span, operation, now) for span in trace.spans[first - 1 :]]
    return {
        "requestId": request_id,
        "traceId": None if trace.trace_id is None else f"{trace.trace_id:032x}",
        "startedAt": datetime.fromtimestamp(trace.began_at + operation.began, UTC),
        "durationMs": _milliseconds((operation.ended or now) - operation.began),
        "deadlineMs": said.get("deadlineMs"),
        "plan": {
            "way": said.get("way"),
            "known": said.get("known", False),
            "fields": said.get("fields", 0),
            "denied": said.get("denied", []),
        },
        "spans": spans,
        "cost": dict(sorted(trace.cost.items())),
        "dropped": trace.dropped,
    }


def _span(span: Span, operation: Span, now: float) -> dict[str, Any]:
    shift = operation.id - 1
    shown: dict[str, Any] = {
        "id": span.id - shift,
        "parent": None if span is operation or span.parent is None else max(1, span.parent - shift),
        "kind": span.kind,
        "name": span.name,
        "startMs": _milliseconds(span.began - operation.began),
        "durationMs": _milliseconds((now if span.ended is None else span.ended) - span.began),
    }
    for key in _SHOWN.get(span.kind, ()):
        if key in span.numbers:
            shown[key] = span.numbers[key]
    if span.kind == "call":
        shown["endpoint"] = span.numbers.get("route")
        shown["error"] = None
    if span.error is not None:
        shown["error"] = span.error
    if span.ended is None:
        shown["unfinished"] = True
    return shown


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
