"""Reading through: from memory where that is good enough, else by a call that everybody shares who asks meanwhile.

Keys are source facts only, never who asks: the scope layer above decides what of the answer a caller is given.
"""

import asyncio
import random
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any

import msgspec

from sources.layers.cache.flights import Fetch, Flight, Flights, Given, Lane, failure_of
from sources.layers.cache.freshness import LIVE, Demand, Note, Reading, Verdict, current_reading
from sources.layers.cache.lifetimes import KIND_OF, Lifetimes
from sources.layers.cache.memory import Entry, Memory, Place, Shelf
from sources.layers.cache.second import Codec, SecondLevel
from sources.layers.mirror import Mirror, ages_noted
from sources.ports.common import Ref
from sources.ports.errors import (
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.histogram import AGE_SECONDS, Histogram
from sources.ports.later import alone
from sources.ports.trace import UNSEEN, Span, here, span, unseen

FAILED = (SourceUnavailable, SourceRateLimited, SourceRejected, SourceBadResponse)
"""The source's own failures; what it refuses of a question is no reason to answer with something old."""

_PROCESS_DEADLINE = 5.0

_GRACE = 0.02
"""Seconds that a shared call has to say itself that its time is over."""

_HURRY = 1.0
"""Who wants nothing older than that is not helped by what other processes have read."""

_CLAIMED = 2.0
"""Seconds for which other processes wait for what one has begun to read; one that was killed is waited for no longer."""

_FIRST_LOOK, _LAST_LOOK = 0.005, 0.08
"""How often they look whether it is there."""

_LATE = "no answer before the request's deadline"


class Surroundings(msgspec.Struct, frozen=True):
    """What the layer is told of the request around it, and of what a shared call runs in."""

    patience: Callable[[], float] = lambda: _PROCESS_DEADLINE
    """Seconds that whoever asks still has."""
    lane: Callable[[], Lane] = lambda: (0, None)
    """Who it is for: keys go in one call only for the same, so that nobody pays with another's share."""
    apart: Callable[[], AbstractContextManager[None]] = nullcontext
    """A shared call's own time."""
    behind: Callable[[], AbstractContextManager[None]] = nullcontext
    """What is read ahead comes after all that somebody waits for."""


class SourceCounts(msgspec.Struct):
    """What was given of one source since the start, in records and lists; and when it last answered."""

    live: int = 0
    cached: int = 0
    stale: int = 0
    failed: int = 0
    """What could be given neither new nor old."""
    answered_at: float | None = None
    stale_ages: Histogram = msgspec.field(default_factory=lambda: Histogram(AGE_SECONDS))
    second_found: int = 0
    """What another process had read, and recently enough."""
    second_missed: int = 0


class Cache:
    """One per process, for all sources. Nothing is remembered where the lifetimes say 0; calls are shared even so."""

    def __init__(
        self,
        lifetimes: Lifetimes,
        surroundings: Surroundings | None = None,
        *,
        second: SecondLevel | None = None,
        codec: Codec | None = None,
        mirrors: Sequence[Mirror] = (),
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``second`` and ``codec`` together. ``mirrors``: what is read from these is not kept once more. ``clock`` gives Unix time, so that processes mean the same by it."""
        self.lifetimes = lifetimes
        self.clock = clock
        self.counts: dict[str, SourceCounts] = {}
        self._around = surroundings or Surroundings()
        self._second, self._codec = second, codec
        self._mirrors = {(mirror.source, shown): mirror for mirror in mirrors for shown in mirror.shown}
        self._chance = chance
        self._memory = Memory(lifetimes.megabytes << 20)
        self._flights = Flights(self._memory, lifetimes.coalesce, self._around.apart)
        self._forgettings = 0
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """Bytes in memory, as estimated."""
        return self._memory.size

    @property
    def entries(self) -> int:
        """Records and lists in memory."""
        return len(self._memory)

    @property
    def has_second_level(self) -> bool:
        """Is what other processes have read looked at?"""
        return self._second is not None

    @property
    def evicted(self) -> int:
        """Records and lists that had to make room so far."""
        return self._memory.evicted

    @property
    def joined(self) -> Mapping[str, int]:
        """By source: records and lists for which somebody waited with a call that another had begun."""
        return self._flights.joined

    def demand(self, wished: Demand) -> Demand:
        """What a client may have of what it asks for."""
        return Demand(
            None if wished.max_age is None else max(wished.max_age, self.lifetimes.freshest),
            min(wished.max_stale, self.lifetimes.stale_if_error),
            wished.by_client,
        )

    async def records(self, source: str, type_name: str, refs: Sequence[Ref], fetch: Fetch) -> Sequence[Any]:
        """In the order asked. Raises SourceError when some can be had neither new nor old."""
        found = await self._read(source, type_name, None, refs, fetch)
        for value in found.values():
            if isinstance(value, SourceError):
                raise value
        return [found[ref] for ref in refs]

    async def lists(
        self, source: str, type_name: str, query: Hashable, parents: Sequence[Ref], fetch: Fetch
    ) -> Sequence[Any]:
        """Per parent, in the order asked; a SourceError stands for a list that can be had neither new nor old."""
        found = await self._read(source, type_name, query, parents, fetch)
        return [found[parent] for parent in parents]

    async def listing(self, source: str, type_name: str, query: Hashable, fetch: Fetch) -> Any:
        """A list without a parent. Raises SourceError."""
        (found,) = (await self._read(source, type_name, query, [()], fetch)).values()
        if isinstance(found, SourceError):
            raise found
        return found

    # -- forgetting ---------------------------------------------------------------------------------------------

    def forget(self, *, source: str | None = None, refs: Iterable[Ref] = ()) -> None:
        """In this process: all of a source; or records, with all that hangs on them and every list of their sources, as
        they may stand in any. Neither: everything."""
        self._forgettings += 1
        records = frozenset(refs)
        sources = {ref.source for ref in records}

        def belongs(place: Place) -> bool:
            shelf, item = place
            if records:
                return item in records or (shelf.query is not None and shelf.source in sources)
            return source is None or shelf.source == source

        self._memory.forget(belongs)

    def hear(self, *, source: str | None = None, refs: Iterable[Ref] = ()) -> None:
        """An operator has all processes forget it. In the second level once more, too: what this process was about to
        write there came after it was forgotten."""
        refs = tuple(refs)
        self.forget(source=source, refs=refs)
        if self._second is not None and (source or refs):
            errand = asyncio.create_task(self.forget_shared(source=source, refs=refs))
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)

    async def forget_shared(self, *, source: str | None = None, refs: Iterable[Ref] = ()) -> None:
        """In the second level, where there is one."""
        if self._second is None or self._codec is None:
            return
        prefixes = [prefix for ref in refs for prefix in self._codec.of_record(ref)]
        prefixes += self._codec.of_source(source) if source else []
        await self._second.forget((), list(dict.fromkeys(prefixes)))

    async def close(self) -> None:
        for errand in self._errands:
            errand.cancel()
        await self._flights.close()

    # -- reading ------------------------------------------------------------------------------------------------

    async def _read(
        self, source: str, type_name: str, query: Hashable, asked: Sequence[Hashable], fetch: Fetch
    ) -> Mapping[Hashable, Any]:
        shelf = self._memory.shelf(source, type_name, query)
        self._memory.hold(shelf)
        seen = UNSEEN
        if here() is not None:
            seen = span(
                "cache", f"{source} {KIND_OF[type_name]}", source=source, type=type_name, shared=False
            )
        try:
            with seen:
                return await _Read(self, shelf, fetch, seen).run(asked)
        finally:
            self._memory.let_go(shelf)

    def counts_of(self, source: str) -> SourceCounts:
        counts = self.counts.get(source)
        if counts is None:
            counts = self.counts[source] = SourceCounts()
        return counts

    async def _land(self, flight: Flight, fetch: Fetch) -> None:
        """Asks the second level, then the source; keeps what comes."""
        if self._mirrors and self.mirror_of(flight.shelf) is not None:
            await self._ask_copy(flight, fetch)
            return
        begun = self._forgettings
        seconds = self.lifetimes.of(KIND_OF[flight.shelf.type_name])
        items = list(flight.items)
        if (
            self._second is None
            or self._codec is None
            or not seconds
            or flight.began - flight.oldest <= _HURRY
        ):
            await self._ask_source(flight, items, fetch, seconds, begun)
            return
        second = _Second(self._second, self._codec, flight)
        missing = await self._from_second(second, items, seconds, begun)
        self._count_second(flight, len(items) - len(missing), len(missing))
        patience = min(_CLAIMED, self._around.patience() / 2)
        pause, ends_at = _FIRST_LOOK, asyncio.get_running_loop().time() + patience
        while missing:
            mine, theirs, changed = await second.claim(missing)
            if theirs and asyncio.get_running_loop().time() >= ends_at:
                mine, theirs = [*mine, *theirs], []
            if mine:
                try:
                    await self._ask_source(flight, mine, fetch, seconds, begun, second)
                finally:
                    second.give_up()
            elif not changed:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_LOOK)
            missing = [*theirs, *changed]
            if missing:
                asked = len(missing)
                missing = await self._from_second(second, missing, seconds, begun)
                self._count_second(flight, asked - len(missing), len(missing) - asked)

    def mirror_of(self, shelf: Shelf) -> Mirror | None:
        """Where this is read from a copy."""
        return self._mirrors.get((shelf.source, shelf.type_name))

    async def _ask_copy(self, flight: Flight, fetch: Fetch) -> None:
        items = list(flight.items)
        with ages_noted() as ages:
            answers = await fetch(items)
        read_at = self.clock() - max(ages, default=0.0)
        for item, answer in zip(items, answers, strict=True):
            flight.given[item] = Given(answer, read_at, live=False)

    async def _ask_source(
        self,
        flight: Flight,
        items: list[Hashable],
        fetch: Fetch,
        seconds: float,
        begun: int,
        second: "_Second | None" = None,
    ) -> None:
        shelf = flight.shelf
        read_at = self.clock()
        answers = await fetch(items)
        if not all(isinstance(answer, SourceError) for answer in answers):
            self.counts_of(shelf.source).answered_at = self.clock()
        kept: dict[str, bytes] = {}
        for item, answer in zip(items, answers, strict=True):
            flight.given[item] = Given(answer, read_at, live=True)
            if isinstance(answer, SourceError) or not seconds or begun != self._forgettings:
                continue
            own = alone(answer)
            self._keep(shelf, item, own, read_at, seconds)
            if self._second is not None and self._codec is not None:
                text = self._codec.encoded(own, read_at)
                if text is not None:
                    kept[self._codec.key((shelf, item))] = text
        if kept and self._second is not None:
            longest = max(seconds + self.lifetimes.stale_while_revalidate, self.lifetimes.stale_if_error)
            self._second.put(kept, longest, () if second is None else second.claims())

    async def _from_second(
        self, second: "_Second", items: list[Hashable], seconds: float, begun: int
    ) -> list[Hashable]:
        """Takes what is good enough; what is not is kept for when the source fails. Gives what is to be asked for."""
        flight = second.flight
        missing: list[Hashable] = []
        with span("redis", f"{flight.shelf.source} read elsewhere", source=flight.shelf.source):
            found = await second.get(items)
        now = self.clock()
        for item, entry_found in zip(items, found, strict=True):
            if entry_found is None:
                missing.append(item)
                continue
            read_at, value = entry_found
            entry = self._entry(value, read_at, seconds)
            if begun == self._forgettings and now - read_at <= self._oldest_kept(entry):
                self._memory.put((flight.shelf, item), entry)
            if read_at >= flight.oldest and now - read_at <= entry.lasts:
                flight.given[item] = Given(value, read_at, live=False)
            else:
                missing.append(item)
        return missing

    def _count_second(self, flight: Flight, found: int, missed: int) -> None:
        counts = self.counts_of(flight.shelf.source)
        counts.second_found += found
        counts.second_missed += missed

    def _keep(self, shelf: Shelf, item: Hashable, value: Any, read_at: float, seconds: float) -> None:
        self._memory.put((shelf, item), self._entry(value, read_at, seconds))

    def _entry(self, value: Any, read_at: float, seconds: float) -> Entry:
        if value is None:
            return Entry(None, read_at, min(seconds, self.lifetimes.missing), 0.0)
        lasts = seconds * (1.0 - self.lifetimes.jitter * self._chance())
        return Entry(value, read_at, lasts, self.lifetimes.stale_while_revalidate)

    def _oldest_kept(self, entry: Entry) -> float:
        """That there is no such record is never said of a source that fails."""
        due = entry.lasts + entry.grace
        return due if entry.value is None else max(due, self.lifetimes.stale_if_error)


class _Second:
    """One flight's dealings with the second level."""

    def __init__(self, level: SecondLevel, codec: Codec, flight: Flight) -> None:
        self._level, self._codec, self.flight = level, codec, flight
        self._texts: dict[Hashable, bytes | None] = {}
        """What was found when it was last looked for."""
        self._claimed: list[str] = []

    async def get(self, items: Sequence[Hashable]) -> list[tuple[float, Any] | None]:
        places = [(self.flight.shelf, item) for item in items]
        texts = await self._level.get([self._codec.key(place) for place in places])
        self._texts = dict(zip(items, texts, strict=True))
        return [
            self._codec.decoded(place, text) if text is not None else None
            for place, text in zip(places, texts, strict=True)
        ]

    async def claim(self, items: Sequence[Hashable]) -> tuple[list[Hashable], list[Hashable], list[Hashable]]:
        """What this process is to ask for, what another one asks for, and what has come meanwhile."""
        places = [(self.flight.shelf, item) for item in items]
        claims = [self._codec.claim(place, self.flight.lane[0]) for place in places]
        wanted = [(self._codec.key(place), self._texts[place[1]]) for place in places]
        answers = await self._level.claim(wanted, claims, _CLAIMED)
        sorted_: dict[bool | None, list[Hashable]] = {True: [], False: [], None: []}
        for item, claim, answer in zip(items, claims, answers, strict=True):
            sorted_[answer].append(item)
            if answer:
                self._claimed.append(claim)
        return sorted_[True], sorted_[False], sorted_[None]

    def claims(self) -> list[str]:
        """Those that are given up with what was read."""
        claims, self._claimed = self._claimed, []
        return claims

    def give_up(self) -> None:
        """The rest: whoever waits for it asks for itself."""
        if self._claimed:
            self._level.put({}, 1.0, self.claims())


class _Read:
    """One batch of one request."""

    def __init__(self, cache: Cache, shelf: Shelf, fetch: Fetch, seen: Span) -> None:
        self._cache, self._shelf, self._fetch, self._seen = cache, shelf, fetch, seen
        self._now = cache.clock()
        self._reading = current_reading() or Reading(LIVE, self._now)
        demand = self._reading.demand
        self._items = self._reading.items
        self._oldest = -inf
        """What was read before that is too old for this client."""
        if demand.max_age is not None:
            self._oldest = min(self._reading.began, self._now) - demand.max_age - demand.max_stale
        self._mirror = cache.mirror_of(shelf) if cache._mirrors else None
        self._stale = demand.max_stale
        self._found: dict[Hashable, Any] = {}
        self._read_at, self._verdict, self._lasts = inf, Verdict.LIVE, inf
        self._stale_given = 0

    async def run(self, asked: Sequence[Hashable]) -> Mapping[Hashable, Any]:
        due = self._from_memory(asked)
        live = stale = failed = 0
        if due:
            self._ahead(due)
        missing = [item for item in dict.fromkeys(asked) if item not in self._found]
        cached = len(self._found)
        if missing:
            await self._ask(missing)
            given = sum(1 for item in missing if not isinstance(self._found[item], SourceError))
            failed, stale = len(missing) - given, self._stale_given
            live = given - stale
            if self._mirror is not None:
                cached, live = cached + live, 0
        counts = self._cache.counts_of(self._shelf.source)
        counts.cached += cached
        counts.stale += stale
        counts.live += live
        counts.failed += failed
        if self._seen is not UNSEEN:
            self._seen.note(live=live, cached=cached, stale=stale, failed=failed)
            if self._read_at < inf:
                self._seen.note(ageSeconds=round(max(0.0, self._cache.clock() - self._read_at), 3))
        if self._read_at < inf and self._items is None:
            self._reading.note(
                self._shelf.source, self._shelf.type_name, self._read_at, self._verdict, max(0.0, self._lasts)
            )
        return self._found

    def _from_memory(self, asked: Sequence[Hashable]) -> list[Hashable]:
        """Fills in what is good enough; gives what should be read again behind it."""
        memory, shelf, now, oldest, stale = (
            self._cache._memory,
            self._shelf,
            self._now,
            self._oldest,
            self._stale,
        )
        found, due = self._found, []
        first, lasts = inf, inf
        for item in asked:
            entry = memory.get((shelf, item))
            if entry is None:
                continue
            read_at = entry.read_at
            left = read_at + entry.lasts - now
            if read_at < oldest or left + entry.grace + stale < 0:
                continue
            found[item] = entry.value
            if left < 0 <= left + entry.grace:
                due.append(item)
            if read_at < first:
                first = read_at
            if left < lasts:
                lasts = left
            if self._items is not None:
                self._itemise(item, read_at, Verdict.CACHED, left)
        if found:
            self._saw(first, Verdict.CACHED, lasts)
        return due

    def _itemise(self, item: Hashable, read_at: float, verdict: Verdict, lasts: float) -> None:
        if self._items is not None:
            note = Note(read_at, verdict, max(0.0, lasts))
            self._items[item] = (self._shelf.source, self._shelf.type_name, note)

    def _saw(self, read_at: float, verdict: Verdict, lasts: float) -> None:
        self._read_at = min(self._read_at, read_at)
        self._verdict = max(self._verdict, verdict)
        self._lasts = min(self._lasts, lasts)

    def _ahead(self, due: list[Hashable]) -> None:
        """What was given once more is read again, behind all that somebody waits for."""
        cache, shelf = self._cache, self._shelf
        items = [item for item in due if not cache._flights.is_flying((shelf, item))]
        if not items:
            return
        with cache._around.behind(), unseen():
            # Nobody leaves these, so that they go on when the request is answered. What another process has read since it
            # was due is as good.
            cache._flights.board(
                shelf,
                items,
                self._fetch,
                cache._land,
                lane=cache._around.lane(),
                now=self._now,
                oldest=-inf,
            )

    async def _ask(self, missing: list[Hashable]) -> None:
        """By flights; once more by an own one where another's ended for a reason of its own."""
        cache, lane = self._cache, self._cache._around.lane()
        if self._mirror is not None:
            try:
                await self._bring_up_to_date(self._mirror)
            except SourceError as error:
                self._found.update(dict.fromkeys(missing, error))
                return
        oldest = self._oldest
        for last in (False, True):
            began = cache.clock()
            boarded = cache._flights.board(
                self._shelf,
                missing,
                self._fetch,
                cache._land,
                lane=lane,
                now=began,
                oldest=oldest,
            )
            if self._seen is not UNSEEN:
                self._tell_of(boarded)
            try:
                patience = cache._around.patience()
                await asyncio.wait([flight.task for flight in boarded], timeout=patience + _GRACE)
                again: list[Hashable] = []
                for flight, items in boarded.items():
                    own = flight.began >= began and flight.lane == lane
                    again += self._unload(flight, items, may_repeat=not (own or last))
            finally:
                for flight in boarded:
                    cache._flights.leave(flight)
            if not again:
                return
            # All who ask once more do so together: by a call that began after they first asked.
            missing, oldest = again, max(oldest, self._now)

    async def _bring_up_to_date(self, mirror: Mirror) -> None:
        """How old a copy is does not hang on when it is asked, so that nothing is too old once it is new enough."""
        cache, oldest = self._cache, self._oldest
        self._oldest = -inf
        if oldest > -inf and self._reading.demand.by_client:
            await mirror.reach(self._shelf.type_name, self._now - oldest, cache._around.patience())
            # Whoever asked before that may be given what was there before.
            self._now = self._oldest = cache.clock()

    def _tell_of(self, boarded: Iterable[Flight]) -> None:
        """Calls that another read began are a part of that one."""
        others = [flight.starter for flight in boarded if flight.starter is not self._seen]
        self._seen.note(shared=bool(others))
        self._seen.link = next((other.outside for other in others if other is not None), None)

    def _unload(self, flight: Flight, items: list[Hashable], *, may_repeat: bool) -> list[Hashable]:
        """Takes what a flight brought; gives what is to be asked for once more."""
        again = []
        mirror, shown = self._mirror, self._shelf.type_name
        seconds = self._cache.lifetimes.of(KIND_OF[shown]) if mirror is None else mirror.pace(shown)
        error: SourceError | None = None
        if not flight.task.done():
            error = SourceTimeout(self._shelf.source, _LATE)
            may_repeat = False
        else:
            error = failure_of(flight)
        for item in items:
            given = flight.given.get(item)
            usable = given is not None and not isinstance(given.value, SourceError)
            if given is not None and usable and (given.read_at >= self._oldest or mirror is not None):
                self._found[item] = given.value
                verdict = Verdict.LIVE if given.live else Verdict.CACHED
                if mirror is not None and self._now - given.read_at > mirror.promise(shown):
                    verdict = Verdict.STALE
                    self._stale_given += 1
                self._saw(given.read_at, verdict, given.read_at + seconds - self._now)
                self._itemise(item, given.read_at, verdict, given.read_at + seconds - self._now)
                continue
            failed = given.value if given is not None and not usable else error
            if failed is None or (may_repeat and isinstance(failed, SourceTimeout | SourceRateLimited)):
                if may_repeat:
                    again.append(item)
                    continue
                failed = SourceTimeout(self._shelf.source, _LATE)
            self._found[item] = self._old(item) if isinstance(failed, FAILED) else None
            if self._found[item] is None:
                self._found[item] = failed
        return again

    def _old(self, item: Hashable) -> Any:
        """What was read before, where it may stand in for an answer; None where nothing may."""
        entry = self._cache._memory.get((self._shelf, item))
        if entry is None or entry.value is None or entry.read_at < self._oldest:
            return None
        if self._now - entry.read_at > self._cache.lifetimes.stale_if_error:
            return None
        self._saw(entry.read_at, Verdict.STALE, 0.0)
        self._itemise(item, entry.read_at, Verdict.STALE, 0.0)
        self._stale_given += 1
        self._cache.counts_of(self._shelf.source).stale_ages.observe(self._now - entry.read_at)
        return entry.value
