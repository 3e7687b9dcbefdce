"""What an operator is told of requests: counts and durations for the metrics, and a line in the log where one is worth it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import structlog

from gateway.arrival import Arrival, arrival
from gateway.audit import Done
from gateway.settings import Logging
from sources.ports.histogram import Histogram
from sources.transport.deadline import overrun

LATE_SECONDS = 0.1
"""So much after its deadline an answer may leave; what leaves later breaks a promise."""

ROUTES = (
    "/graphql",
    "/files",
    "/audit.jsonl",
    "/schema.graphql",
    "/scim",
    "/session",
    "/metrics",
    "/health",
    "/graphiql",
)
"""What requests are told apart by; everything else is ``other``, so that no client makes up a label."""

log = structlog.get_logger()


class Requests:
    """Of one process."""

    def __init__(self, settings: Logging) -> None:
        self._all, self._off = settings.requests == "all", settings.requests == "off"
        self._slow = settings.slow_seconds
        self.under_way = 0
        """Over HTTP, the open streams among them."""
        # No Counter, to which an addition takes ten times as long.
        self.responses: defaultdict[tuple[str, int], int] = defaultdict(int)
        """By route and status."""
        self.seconds: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        """Of operations, by kind and outcome; of a subscription, of each of its events."""
        self.deadlines: Counter[str] = Counter()
        """By kind, operations of whose answer something is missing as its time was over."""
        self.late = 0
        """Answers that were not ready ``LATE_SECONDS`` after their deadline."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """By source and code, operations of whose answer something is missing."""
        self.open: Counter[str] = Counter()
        """Connections that stay, by protocol."""

    def operation(
        self, kind: str, done: Done, body: Mapping[str, Any] | None, began: float | None = None
    ) -> None:
        """One has ended, within the block of its deadline. ``body``: its answer's, where there is one. ``began``: by
        ``perf_counter``, where it is not its request's arrival."""
        arrived, outcome = arrival.get(), done.outcome._value_
        seconds = perf_counter() - (arrived.began if began is None else began)
        self.seconds[kind, outcome].observe(seconds)
        arrived.kind = kind
        arrived.outcome = outcome
        arrived.codes = done.codes
        if done.codes:
            arrived.sources = ()
            if body is not None:
                self._failed(arrived, kind, body.get("errors", ()))
        if overrun() > LATE_SECONDS:
            self.late += 1
        if arrived.stays:
            self._say(arrived, seconds)

    def responded(self, arrived: Arrival, path: str) -> None:
        """A request over HTTP has ended; status 0: its client has left before it was answered."""
        route = path if path in ROUTES else _route(path)
        status = arrived.status
        self.responses[route, status] += 1
        if arrived.stays:
            return
        seconds = perf_counter() - arrived.began
        # Of most requests nothing is said.
        if arrived.codes or status >= 500 or seconds >= self._slow or self._all:
            self._say(arrived, seconds, route, status)

    @contextmanager
    def staying(self, protocol: str) -> Iterator[None]:
        """While a connection stays open."""
        self.open[protocol] += 1
        arrival.get().stays = True
        try:
            yield
        finally:
            self.open[protocol] -= 1

    def _failed(self, arrived: Arrival, kind: str, errors: Sequence[Mapping[str, Any]]) -> None:
        found = {(one.get("source"), str(one["code"])) for one in (error["extensions"] for error in errors)}
        failures = {(source, code) for source, code in found if source and code.startswith("SOURCE_")}
        self.failures.update(failures)
        arrived.sources = tuple(sorted({source for source, _ in failures}))
        if "SOURCE_TIMEOUT" in arrived.codes:
            self.deadlines[kind] += 1

    def _say(self, arrived: Arrival, seconds: float, route: str | None = None, status: int = 200) -> None:
        """Numbers and words of ours: the operation's own name, like who asked for what, is the audit trail's to say."""
        slow = seconds >= self._slow
        wrong = status >= 500 or any(_is_ours(code) for code in arrived.codes)
        if self._off or not (wrong or slow or self._all):
            return
        said: dict[str, Any] = {"milliseconds": round(seconds * 1000, 1)}
        if route is not None:
            said |= {"route": route, "status": status}
        if arrived.kind is not None:
            said |= {"kind": arrived.kind, "outcome": arrived.outcome}
        if arrived.codes:
            said |= {"codes": arrived.codes, "sources": arrived.sources}
        (log.warning if wrong or slow else log.info)("request", **said)


def _is_ours(code: str) -> bool:
    """Is it a source or the gateway that failed, rather than the caller?"""
    return code == "INTERNAL" or code.startswith("SOURCE_")


def _route(path: str) -> str:
    """Of what is below one of them, or nowhere."""
    beginning = "/" + path[1:].partition("/")[0]
    return beginning if beginning in ROUTES else "other"
