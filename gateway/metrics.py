"""GET /metrics: what an operator watches, in the form that Prometheus reads. Counted where it happens, put together when asked."""

from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.office import Office
from gateway.signin.refused import SignInRefused, challenge
from permissions.scopes import STAFF_SCOPES
from sources.ports.errors import SourceError
from sources.ports.violations import ViolationKind


class Metrics:
    """Of one running gateway. Nothing in them is anybody's: labels are words of ours and names of systems."""

    def __init__(self, office: Office) -> None:
        self._office = office
        # Of its own: two gateways in one process do not count each other's.
        self._registry = CollectorRegistry()
        self._collected = _OfOffice(office)
        self._registry.register(self._collected)

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
        try:
            self._collected.consents = await self._office.consents()
        except SourceError:
            self._collected.consents = {}  # the database is away: what is unknown is not said
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(
            encode(self._registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"}
        )


class _OfOffice(Collector):
    def __init__(self, office: Office) -> None:
        self._office = office
        self.consents: dict[str, bool] = {}
        """As the database said when it was last asked."""

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
        dropped = CounterMetricFamily(
            "records_dropped",
            "Records in sources' answers that did not fit their kind; each was left out alone and logged with its id.",
            labels=("source", "kind"),
        )
        for (source, kind), count in sorted(office.network.drops.counts.items()):
            dropped.add_metric((source, kind), count)
        yield dropped
        consents = GaugeMetricFamily(
            "source_consent_needed",
            "1 where a source's refresh token was refused and somebody must run `gateway connect`.",
            labels=("source",),
        )
        for source, needed in sorted(self.consents.items()):
            consents.add_metric((source,), needed)
        yield consents
        yield from _of_mirrors(office)
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
        if office.cache is not None:
            reads = CounterMetricFamily(
                "gateway_source_reads",
                "Records and lists given by source: live, cached, or stale as the source failed.",
                labels=("source", "verdict"),
            )
            for source, counts in sorted(office.cache.counts.items()):
                for verdict in ("live", "cached", "stale"):
                    reads.add_metric((source, verdict), getattr(counts, verdict))
            yield reads
            yield GaugeMetricFamily(
                "gateway_cache_bytes", "What is remembered in memory, as estimated.", value=office.cache.size
            )
        yield CounterMetricFamily(
            "gateway_audit_records_lost",
            "Records of reads that were dropped; 0 where [audit] reads are required.",
            value=office.audit.lost,
        )


def _of_mirrors(office: Office) -> Iterable[Metric]:
    """As this process last heard, which is after each of its turns."""
    labels = ("source", "stream")
    age = GaugeMetricFamily(
        "mirror_as_of_seconds", "Since 1970: what a vendor changed before is in the copy.", labels=labels
    )
    rows = GaugeMetricFamily("mirror_rows", "Records in the copy.", labels=labels)
    dropped = CounterMetricFamily(
        "mirror_records_dropped", "Records that did not fit and were left out of the copy.", labels=labels
    )
    for mirror in office.mirrors:
        for lag in mirror.lags:
            where = (mirror.source, lag.stream)
            if lag.as_of is not None:
                age.add_metric(where, lag.as_of.timestamp())
            rows.add_metric(where, lag.rows)
            dropped.add_metric(where, lag.dropped)
    return (age, rows, dropped)
