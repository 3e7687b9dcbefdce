"""Calls under way that several requests wait for: shared, outliving whoever leaves, ended when nobody waits."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Any

from sources.layers.cache.memory import Memory, Place, Shelf
from sources.ports.errors import SourceError
from sources.ports.trace import here

FULL = 200
"""Keys of one batch that was waited with."""

Lane = tuple[int, Hashable]
"""How urgent a call is, the smaller the sooner, and for whom it is made."""


class Given:
    """What a flight brought for one key: a value and when it was read, or an error in its place."""

    __slots__ = ("live", "read_at", "value")

    def __init__(self, value: Any, read_at: float, live: bool) -> None:
        self.value, self.read_at, self.live = value, read_at, live


class Flight:
    """One call, for the keys that it took on before it left."""

    __slots__ = ("began", "given", "items", "lane", "oldest", "shelf", "starter", "task", "waiting")

    def __init__(self, shelf: Shelf, lane: Lane, began: float, oldest: float) -> None:
        self.shelf, self.lane, self.began = shelf, lane, began
        self.oldest = oldest
        """When what other processes have read must have been read to be taken instead."""
        self.items: list[Hashable] = []
        self.given: dict[Hashable, Given] = {}
        self.waiting = 0
        self.task: asyncio.Task[None]
        self.starter = here()
        """The read for which it is made, where somebody looks: its trace has the calls."""


Fetch = Callable[[list[Any]], Awaitable[Sequence[Any]]]
Land = Callable[[Flight, Fetch], Awaitable[None]]
"""Fills ``given`` of a flight that has left."""


class Flights:
    """All that this process has under way."""

    def __init__(
        self, memory: Memory, coalesce: float, apart: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """``apart``: inside it, the time is a shared call's own, not that of a hurried client which asked first."""
        self._memory = memory
        self._coalesce = coalesce
        self._apart = apart
        self._flying: dict[Place, Flight] = {}
        self._all: set[Flight] = set()
        self.joined: Counter[str] = Counter()
        """By source, keys that went with a call which another asker had begun for them."""

    def board(
        self,
        shelf: Shelf,
        items: Sequence[Hashable],
        fetch: Fetch,
        land: Land,
        *,
        lane: Lane,
        now: float,
        oldest: float,
    ) -> dict[Flight, list[Hashable]]:
        """Which flights bring these, by key: those under way that began late enough and are as urgent, and a new one for
        the rest. The asker waits with each until ``leave``."""
        boarded: dict[Flight, list[Hashable]] = {}
        for item in items:
            flight = self._flying.get((shelf, item))
            if flight is None or flight.began < oldest or flight.lane[0] > lane[0] or flight.task.done():
                flight = shelf.boarding.get(lane)
                if flight is None or flight.began < oldest or len(flight.items) >= FULL:
                    flight = self._start(shelf, fetch, land, lane, now, oldest)
                flight.items.append(item)
                flight.oldest = max(flight.oldest, oldest)
                self._flying[shelf, item] = flight
            else:
                self.joined[shelf.source] += 1
            boarded.setdefault(flight, []).append(item)
        for flight in boarded:
            flight.waiting += 1
        return boarded

    def leave(self, flight: Flight) -> None:
        """The asker waits no more. A call that nobody waits for is ended."""
        flight.waiting -= 1
        if flight.waiting == 0 and not flight.task.done():
            flight.task.cancel()
            self._gone(flight)

    def is_flying(self, place: Place) -> bool:
        return place in self._flying

    async def close(self) -> None:
        tasks = [flight.task for flight in self._all]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, shelf: Shelf, fetch: Fetch, land: Land, lane: Lane, now: float, oldest: float) -> Flight:
        flight = Flight(shelf, lane, now, oldest)
        # While one of its kind is under way, others' keys are likely to follow; when nothing is, nobody is waited for.
        delay = self._coalesce if shelf.airborne else 0.0
        shelf.airborne += 1
        self._memory.hold(shelf)
        shelf.boarding[lane] = flight
        self._all.add(flight)
        flight.task = asyncio.create_task(
            self._fly(flight, fetch, land, delay), name=f"read {shelf.source}", context=copy_context()
        )
        flight.task.add_done_callback(lambda task: self._landed(flight, task))
        return flight

    async def _fly(self, flight: Flight, fetch: Fetch, land: Land, delay: float) -> None:
        with self._apart():
            if delay:
                await asyncio.sleep(delay)
            self._depart(flight)
            await land(flight, fetch)

    def _depart(self, flight: Flight) -> None:
        if flight.shelf.boarding.get(flight.lane) is flight:
            del flight.shelf.boarding[flight.lane]

    def _gone(self, flight: Flight) -> None:
        """Nobody finds it any more."""
        self._depart(flight)
        for item in flight.items:
            if self._flying.get((flight.shelf, item)) is flight:
                del self._flying[flight.shelf, item]

    def _landed(self, flight: Flight, task: asyncio.Task[None]) -> None:
        self._gone(flight)
        self._all.discard(flight)
        flight.shelf.airborne -= 1
        self._memory.let_go(flight.shelf)
        if not task.cancelled():
            task.exception()  # it is told to those who wait; where nobody does, it is nobody's


def failure_of(flight: Flight) -> SourceError | None:
    """Why a flight that has ended brought nothing; None where it brought what it could. Raises what is no source's."""
    if flight.task.cancelled():
        return None
    error = flight.task.exception()
    if error is None or isinstance(error, SourceError):
        return error
    raise error
