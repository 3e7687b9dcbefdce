"""GET /metrics: what an operator watches, in the form that Prometheus reads. Counted where it happens, put together when asked."""

from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.office import Office
from gateway.signin.refused import SignInRefused, challenge
from permissions.scopes import STAFF_SCOPES
from sources.ports.violations import ViolationKind


class Metrics:
    """Of one running gateway. Nothing in them is anybody's: labels are words of ours and names of systems."""

    def __init__(self, office: Office) -> None:
        self._office = office
        # Of its own: two gateways in one process do not count each other's.
        self._registry = CollectorRegistry()
        self._registry.register(_OfOffice(office))

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
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(
            encode(self._registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"}
        )


class _OfOffice(Collector):
    def __init__(self, office: Office) -> None:
        self._office = office

    def collect(self) -> Iterable[Metric]:
        office = self._office
        violations = CounterMetricFamily(
            "scope_violations",
            "Rows that a source returned for somebody else; they were dropped. Must be 0.",
            labels=("source", "kind"),
        )
        for port in office.ports.values():
            for kind in get_args(ViolationKind):
                # Also where there are none, so that the first one is a change that an alert sees.
                violations.add_metric((port.name, kind), office.violations.counts[port.name, kind])
        yield violations
        operations = CounterMetricFamily(
            "gateway_operations",
            "Operations by what was done and how it ended, as the audit trail says; refusals are requests not let in.",
            labels=("kind", "outcome"),
        )
        for (done, outcome), count in sorted(office.audit.outcomes.items()):
            operations.add_metric((done, outcome), count)
        yield operations
        executions = CounterMetricFamily(
            "gateway_executions",
            "Operations by the way they ran: by columns, replayed, or why graphql-core ran them.",
            labels=("way",),
        )
        for way, count in sorted(office.engine.counts.items()):
            executions.add_metric((way,), count)
        yield executions
        yield CounterMetricFamily(
            "gateway_audit_records_lost",
            "Records of reads that were dropped; 0 where [audit] reads are required.",
            value=office.audit.lost,
        )
