"""Of the gateway itself: requests and operations, plans, the ledger, Redis, the audit trail, the process."""

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import Metric

from gateway.metrics.families import counter, gauge, histogram, single
from gateway.office import Office


def of_requests(office: Office) -> Iterable[Metric]:
    """Nothing in a label is a client's to choose."""
    requests = office.requests
    yield counter(
        "http_responses",
        "Answers over HTTP by route and status; 0 where the client left before.",
        ("route", "status"),
        {(route, str(status)): count for (route, status), count in requests.responses.items()},
    )
    yield gauge(
        "http_requests_in_flight",
        "Requests over HTTP that are being answered, this one too; event streams are not among them.",
        (),
        single(max(0, requests.under_way - requests.open["event-stream"])),
    )
    yield gauge(
        "open_connections",
        "Connections that stay open.",
        ("protocol",),
        {(protocol,): requests.open[protocol] for protocol in ("event-stream", "websocket")},
    )
    yield histogram(
        "operation_duration_seconds",
        "From an operation's arrival to its answer; of a subscription, of each of its events.",
        ("kind", "outcome"),
        requests.seconds,
    )
    kinds = ("mutation", "query", "subscription")
    yield counter(
        "operations_incomplete",
        "Operations of whose answer something is missing, as their time was over.",
        ("kind",),
        {(kind,): requests.deadlines[kind] for kind in kinds},
    )
    yield counter(
        "operations_late",
        "Operations that were answered more than 0.1 s after their deadline. Must be 0.",
        (),
        single(requests.late),
    )
    yield counter(
        "operations",
        "Whatever is recorded, by what was done and how it ended, as the audit trail says; refusals are requests not let in.",
        ("kind", "outcome"),
        office.audit.outcomes,
    )
    engine = office.engine
    yield counter(
        "executions",
        "Operations by the way they ran: by columns, replayed, or why graphql-core ran them.",
        ("way",),
        {(way,): count for way, count in engine.counts.items()},
    )
    yield gauge("planned_documents", "Documents whose plans are kept.", (), single(engine.documents))
    yield gauge("plan_bytes", "Bytes of all plans that are kept, as estimated.", (), single(engine.bytes))
    yield counter(
        "trace_spans",
        "Spans of traces: taken by the collector, or dropped as it was away or too slow.",
        ("outcome",),
        office.tracing.outcomes,
    )


def of_ledger(office: Office, consents: Mapping[str, bool] | None) -> Iterable[Metric]:
    """``consents``: by source, is one needed? None: the database did not answer."""
    yield gauge(
        "database_up",
        "1 where the gateway's own database answered this scrape.",
        (),
        single(consents is not None),
    )
    yield gauge(
        "source_consent_needed",
        "1 where a source's refresh token was refused and somebody must run `gateway connect`.",
        ("source",),
        {(source,): float(needed) for source, needed in (consents or {}).items()},
    )
    used = office.ledger.connections
    yield gauge(
        "database_connections",
        "Connections of the pool to the gateway's own database.",
        ("state",),
        {("busy",): used.busy, ("idle",): used.idle},
    )
    yield gauge(
        "audit_records_waiting", "Records that are not in the database yet.", (), single(office.audit.waiting)
    )
    yield counter(
        "audit_records_lost",
        "Records of reads that were dropped; 0 where [audit] reads are required.",
        (),
        single(office.audit.lost),
    )
    yield gauge(
        "redis_up",
        "0 while vendors' limits are not shared, as Redis does not answer.",
        (),
        {} if office.settings.redis is None else single(not office.network.redis_away),
    )


def of_build() -> Metric:
    """So that a change of behaviour can be laid to a change of version."""
    try:
        built = version("backoffice-gateway")
    except PackageNotFoundError:
        built = "unknown"
    return gauge("build_info", "1, with the version that runs.", ("version",), {(built,): 1.0})
