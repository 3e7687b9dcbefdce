"""GET /metrics: all families, for whoever may read them."""

import asyncio
from collections.abc import Iterable
from time import perf_counter

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.metrics.families import histogram
from gateway.metrics.of_gateway import of_build, of_ledger, of_requests
from gateway.metrics.of_sources import of_sources
from gateway.office import Office
from gateway.signin.refused import SignInRefused, challenge
from permissions.scopes import STAFF_SCOPES
from sources.ports.errors import SourceError
from sources.ports.histogram import Histogram
from sources.transport.deadline import deadline

DATABASE_SECONDS = 2.0
"""For what only the database knows: scrapers wait ten seconds as a rule, and the rest of the page is worth more."""

BEAT_SECONDS = 0.25


class Metrics:
    """Of one running gateway. Nothing in them is anybody's: labels are words of ours and names of systems."""

    def __init__(self, office: Office) -> None:
        self._office = office
        # Of its own: two gateways in one process do not count each other's.
        self._registry = CollectorRegistry()
        self._collected = _OfOffice(office)
        self._registry.register(self._collected)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def answer(self, request: Request) -> Response:
        """For the firm's own people and programs, unless it is open."""
        if self._office.settings.door.metrics != "open":
            try:
                principal = await self._office.signin.principal(
                    request.headers, route="/metrics", method=request.method
                )
            except SignInRefused as refused:
                body = {"message": str(refused), **refused.extensions}
                return JSONResponse(body, refused.status, challenge(refused))
            if not principal.scopes & STAFF_SCOPES:
                return JSONResponse({"message": "metrics are for the firm's staff", "code": "FORBIDDEN"}, 403)
        self._collected.watch_the_loop()
        try:
            with deadline(DATABASE_SECONDS):
                self._collected.consents = await self._office.consents()
        except SourceError:
            self._collected.consents = None  # what is unknown is not said
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(
            encode(self._registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"}
        )


class _OfOffice(Collector):
    def __init__(self, office: Office) -> None:
        self._office = office
        self._lateness = Histogram()
        self._watched = False
        self.consents: dict[str, bool] | None = None
        """As the database said when it was last asked; None: it did not answer."""

    def collect(self) -> Iterable[Metric]:
        office = self._office
        yield from of_requests(office)
        yield from of_sources(office)
        yield from of_ledger(office, self.consents)
        yield histogram(
            "event_loop_lag_seconds",
            "How much later than due the process comes to what waits for it, four times a second.",
            (),
            {(): self._lateness},
        )
        yield of_build()

    def watch_the_loop(self) -> None:
        """From the first time that somebody looks."""
        if not self._watched:
            self._watched = True
            self._office.alongside(self._beat(), "event-loop-lag")

    async def _beat(self) -> None:
        while True:
            due = perf_counter() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._lateness.observe(max(0.0, perf_counter() - due))
