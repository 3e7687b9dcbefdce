"""What operators are told of a connected system, put together from what calls it and what remembers it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from sources.layers.cache.core import Cache, SourceCounts
from sources.layers.mirror import Mirror
from sources.ports.health import SourceHealth, SourceState
from sources.transport.traffic import TrafficState


def health_of(
    name: str, kind: str, states: Sequence[TrafficState], cache: Cache | None, mirror: Mirror | None
) -> SourceHealth:
    """``cache`` None: it is off, and nobody notes when a source has answered. ``mirror``: what is shown of the source is
    its copy."""
    counts = (cache.counts.get(name) if cache is not None else None) or SourceCounts()
    breakers = {endpoint.breaker for state in states for endpoint in state.endpoints}
    waits = [endpoint.retry_after for state in states for endpoint in state.endpoints]
    paused = [limit.paused_for for state in states for limit in state.limits if limit.paused_for > 0]
    if "open" in breakers:
        found = SourceState.FAILING
    elif breakers - {"closed"}:
        found = SourceState.RECOVERING
    else:
        found = SourceState.LIMITED if paused else SourceState.HEALTHY
    answered, lag = counts.answered_at, None
    if mirror is not None:
        # That the copy answers says nothing of its source.
        lag = mirror.age
        answered = None if lag is None else time.time() - lag
    elif answered is not None and cache is not None:
        lag = max(0.0, cache.clock() - answered)
    return SourceHealth(
        name,
        kind,
        found,
        trouble=next(
            (state.trouble for state in states if state.trouble), mirror.trouble if mirror else None
        ),
        retry_after=max([*(wait for wait in waits if wait), *paused], default=None),
        waiting=sum(state.waiting for state in states),
        answered_at=None if answered is None else datetime.fromtimestamp(answered, UTC),
        lag_seconds=lag,
        live=counts.live,
        cached=counts.cached,
        stale=counts.stale,
    )
