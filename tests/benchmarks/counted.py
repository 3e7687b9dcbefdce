"""Requests one at a time, while something counts what they take in their server: what it counts does not drift with the machine."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from tests.benchmarks import load
from tests.benchmarks.contenders import Bench, Server

CONTENDERS = ("limit", "gateway")
VARIANTS = 16
"""Of each question, asked in turn: few, so that all have been asked before."""
WARM = 3 * VARIANTS
"""Requests before: tokens, links and plans are known by then."""
LEAVES = 50_000
"""Of the answers that are counted, about: counting makes a server some fifty times slower."""
FEWEST, MOST = 48, 320
"""Requests that are counted."""

T = TypeVar("T", covariant=True)


class Counter(Protocol[T]):
    """Of one server's work."""

    async def begin(self, server: Server) -> None: ...

    async def end(self, server: Server, requests: int) -> T:
        """What was counted since, per request."""


async def measured(
    contenders: AbstractAsyncContextManager[Bench], counter: Counter[T], say: Callable[[str], None]
) -> Mapping[str, Mapping[str, T]]:
    """By question and contender."""
    counts: dict[str, dict[str, T]] = {}
    async with contenders as bench:
        for question in bench.questions:
            requests = bench.requests(question, VARIANTS)
            count = min(MOST, max(FEWEST, LEAVES // question.leaves))
            counts[question.name] = {}
            for server in bench.servers.values():
                say(f"{question.title}: {count} requests to {server.name}")
                # One at a time: deadlines hold while somebody counts, too.
                await load.drive(server.port, requests, WARM, 1)
                await counter.begin(server)
                await load.drive(server.port, requests, count, 1)
                counts[question.name][server.name] = await counter.end(server, count)
    return counts
