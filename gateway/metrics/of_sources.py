"""Of the connected systems: calls, retries, circuits, limits, what was read, dropped and copied."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from prometheus_client.core import Metric

from gateway.metrics.families import Labels, counter, gauge, histogram, joined
from gateway.office import Office
from sources.layers.cache.core import Cache
from sources.ports.violations import ViolationKind
from sources.transport.breaker import State
from sources.transport.caller import Urgency
from sources.transport.counts import OUTCOMES
from sources.transport.traffic import EndpointState, TrafficState

_STATES: tuple[State, ...] = ("closed", "half-open", "open")
"""The worst last."""
_WORDS = ("ok", *(word for _, word in OUTCOMES))


def of_sources(office: Office) -> Iterable[Metric]:
    """Of the other systems' own hosts and of those that a source's files lie on together."""
    states = office.network.states()
    endpoints = [
        ((source, one.endpoint or "default"), one)
        for source, accounts in states.items()
        for account in accounts
        for one in account.endpoints
    ]
    yield from _calls(endpoints)
    yield counter(
        "source_token_renewals",
        "Access tokens that were fetched anew, by how that ended.",
        ("source", "outcome"),
        office.network.renewals.counts,
    )
    yield from _circuits(endpoints)
    yield from _retries(states)
    yield from _limits(states)
    yield from _reads(office)
    yield from _rows(office)
    yield from _mirrors(office)


def _calls(endpoints: Sequence[tuple[Labels, EndpointState]]) -> Iterable[Metric]:
    calls: Counter[Labels] = Counter()
    for where, one in endpoints:
        # Also those that have not happened yet, so that the first one is a change that an alert sees.
        calls.update({(*where, word): one.calls.failed[word] for word in _WORDS})
        calls[*where, "ok"] += one.calls.answered
    yield counter(
        "source_calls",
        "Calls to a source's API by how they ended, each attempt by itself.",
        ("source", "endpoint", "outcome"),
        calls,
    )
    yield histogram(
        "source_call_duration_seconds",
        "From sending a call to the last byte of its answer.",
        ("source", "endpoint"),
        joined((where, one.calls.seconds) for where, one in endpoints),
    )


def _circuits(endpoints: Sequence[tuple[Labels, EndpointState]]) -> Iterable[Metric]:
    worst: dict[Labels, int] = defaultdict(int)
    opened: Counter[Labels] = Counter()
    kept_away: Counter[Labels] = Counter()
    for where, one in endpoints:
        worst[where] = max(worst[where], _STATES.index(one.breaker))
        opened[where] += one.opened
        kept_away[where] += one.kept_away
    yield gauge(
        "source_circuit_state",
        "1 for the state that the circuit breaker is in.",
        ("source", "endpoint", "state"),
        {
            (*where, state): float(number == index)
            for where, number in worst.items()
            for index, state in enumerate(_STATES)
        },
    )
    where = ("source", "endpoint")
    yield counter("source_circuit_openings", "How often a circuit breaker opened from closed.", where, opened)
    yield counter(
        "source_circuit_rejections", "Calls that were not made as the circuit was open.", where, kept_away
    )


def _retries(states: Mapping[str, Sequence[TrafficState]]) -> Iterable[Metric]:
    made = {(source,): sum(one.retried for one in each) for source, each in states.items()}
    refused = {(source,): sum(one.unretried for one in each) for source, each in states.items()}
    left = {(source,): min(one.retries_left for one in each) for source, each in states.items()}
    yield counter("source_retries", "Calls that were made once more.", ("source",), made)
    yield counter(
        "source_retries_refused",
        "Calls that were not made once more, as the retry budget was used up.",
        ("source",),
        refused,
    )
    yield gauge("source_retry_budget", "Retries that could be made now.", ("source",), left)


def _limits(states: Mapping[str, Sequence[TrafficState]]) -> Iterable[Metric]:
    size: Counter[Labels] = Counter()
    used: Counter[Labels] = Counter()
    paused: dict[Labels, float] = {}
    for source, accounts in states.items():
        for limit in (limit for account in accounts for limit in account.limits):
            where = (source, limit.limit)
            size[where] += limit.allowed
            used[where] += limit.used
            paused[where] = max(paused.get(where, 0.0), limit.paused_for)
    labels = ("source", "limit")
    yield gauge("source_budget_size", "Calls that a limit allows in its time, or at a time.", labels, size)
    yield gauge(
        "source_budget_remaining",
        "Calls that a limit leaves now, as far as this process knows.",
        labels,
        {where: max(0, size[where] - used[where]) for where in size},
    )
    yield gauge(
        "source_budget_paused_seconds", "Until the source takes calls again, by its own word.", labels, paused
    )
    queues = [
        ((source, urgency.name.lower()), account.queueing[urgency])
        for source, accounts in states.items()
        for account in accounts
        for urgency in Urgency
    ]
    refused: Counter[Labels] = Counter()
    for where, queueing in queues:
        refused[where] += queueing.refused
    labels = ("source", "urgency")
    yield histogram(
        "source_budget_wait_seconds",
        "How long calls waited for a place within the limits; most do not.",
        labels,
        joined((where, queueing.seconds) for where, queueing in queues),
    )
    yield counter(
        "source_budget_refusals",
        "Calls that were not made, as the limits left no place before their deadline.",
        labels,
        refused,
    )
    yield gauge(
        "source_budget_waiting",
        "Calls that wait for a place now.",
        ("source",),
        {(source,): sum(one.waiting for one in each) for source, each in states.items()},
    )


def _reads(office: Office) -> Iterable[Metric]:
    yield counter(
        "source_failures",
        "Operations of whose answer something is missing for the source's sake, by the code in the answer.",
        ("source", "code"),
        office.requests.failures,
    )
    cache = office.cache
    counts = sorted(cache.counts.items()) if cache is not None else ()
    yield counter(
        "source_reads",
        "Records and lists asked of a source: live, cached, stale as the source failed, or failed.",
        ("source", "verdict"),
        {
            (source, verdict): getattr(one, verdict)
            for source, one in counts
            for verdict in ("live", "cached", "stale", "failed")
        },
    )
    yield counter(
        "source_reads_joined",
        "Records and lists whose asker waited with a call that another had begun.",
        ("source",),
        {(source,): cache.joined.get(source, 0) for source, _ in counts} if cache is not None else {},
    )
    yield histogram(
        "source_stale_age_seconds",
        "How old what was shown was, as the source failed.",
        ("source",),
        {(source,): one.stale_ages for source, one in counts},
    )
    yield counter(
        "source_second_level_reads",
        "Records and lists looked for in what other processes have read.",
        ("source", "verdict"),
        {
            (source, verdict): number
            for source, one in counts
            for verdict, number in (("found", one.second_found), ("missed", one.second_missed))
        }
        if cache is not None and cache.has_second_level
        else {},
    )
    yield gauge(
        "source_answered_timestamp_seconds",
        "When a source last answered a read, in seconds since 1970.",
        ("source",),
        {(source,): one.answered_at for source, one in counts if one.answered_at is not None},
    )
    yield from _memory(cache)


def _memory(cache: Cache | None) -> Iterable[Metric]:
    """Without a value where nothing is remembered."""
    sizes = (
        (None, None, None) if cache is None else (cache.entries, cache.size, cache.lifetimes.megabytes << 20)
    )
    names = (
        ("cache_entries", "Records and lists remembered in memory."),
        ("cache_bytes", "What is remembered in memory, as estimated."),
        ("cache_max_bytes", "What may be remembered in memory."),
    )
    for (name, about), size in zip(names, sizes, strict=True):
        yield gauge(name, about, (), {} if size is None else {(): size})
    yield counter(
        "cache_evictions",
        "Records and lists that made room for others.",
        (),
        {} if cache is None else {(): cache.evicted},
    )


def _rows(office: Office) -> Iterable[Metric]:
    yield counter(
        "scope_violations",
        "Rows that a source returned for somebody else; they were dropped. Must be 0.",
        ("source", "kind"),
        {
            (port.name, kind): office.violations.counts[port.name, kind]
            for port in office.ports.values()
            for kind in get_args(ViolationKind)
        },
    )
    yield counter(
        "records_dropped",
        "Records in sources' answers that did not fit their kind; each was left out alone and logged with its id.",
        ("source", "kind"),
        office.network.drops.counts,
    )


def _mirrors(office: Office) -> Iterable[Metric]:
    """As this process last heard, which is after each of its turns."""
    lags = [((mirror.source, lag.stream), lag) for mirror in office.mirrors for lag in mirror.lags]
    labels = ("source", "stream")
    yield gauge(
        "mirror_as_of_timestamp_seconds",
        "In seconds since 1970: what a vendor changed before is in the copy.",
        labels,
        {where: lag.as_of.timestamp() for where, lag in lags if lag.as_of is not None},
    )
    yield gauge("mirror_rows", "Records in the copy.", labels, {where: lag.rows for where, lag in lags})
    yield counter(
        "mirror_records_dropped",
        "Records that did not fit and were left out of the copy.",
        labels,
        {where: lag.dropped for where, lag in lags},
    )
