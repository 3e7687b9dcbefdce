"""Who may call a vendor's account next, and whether at all: its limits, shared out by urgency and between organisations.

A call that no limit stands in the way of goes at once. Others queue: the more urgent first, among equals one call per
organisation in turn, so that a customer in a loop waits behind itself. One that would wait beyond its deadline is told
so at once. Less urgent callers, and each organisation, may use up only a share of a limit; who has used half of that leaves the same
reserve as a dashboard. The rest is there for others.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from hashlib import sha256
from math import ceil, inf
from time import monotonic, perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from sources.ports.errors import SourceError, SourceRateLimited, SourceTimeout
from sources.ports.histogram import Histogram
from sources.ports.trace import UNSEEN, Span, here, span
from sources.transport.caller import Urgency, caller
from sources.transport.deadline import in_time, longest_wait
from sources.transport.limits import LONGEST_SECONDS, Limit, Reading
from sources.transport.windows import Share, Window

if TYPE_CHECKING:
    # At run time only where replicas share their budgets: Redis' client takes ten megabytes.
    from sources.transport.shared import SharedBudgets

KEPT_ORGANISATIONS = 1000
"""Whose own calls are counted; beyond that, the one that called longest ago is forgotten."""
SHORTEST_DIVIDED = 10.0
"""Limits of fewer seconds are not divided between organisations: taking turns is enough."""
REFUSED_SECONDS = 1.0
"""How long a limit rests when the vendor refuses a call and does not say for how long."""
UNTOLD_SECONDS = 900.0
"""Others' calls of which the vendor does not say when they stop counting are looked at again after this long: of a rolling
day, some are given back all the time, and without a call nobody hears of it."""
LEASE_SECONDS = 90.0
"""A place at a shared limit that is not given back, as its process died, is free again after this long: longer than the
longest deadline."""


class Standing(msgspec.Struct, frozen=True):
    """How a limit stands."""

    limit: str
    used: int
    allowed: int
    paused_for: float = 0.0
    """Seconds until the vendor takes calls again."""


class Queueing:
    """What calls of one urgency met."""

    __slots__ = ("refused", "seconds")

    def __init__(self) -> None:
        self.refused = 0
        """Those that would have waited beyond their deadline."""
        self.seconds = Histogram()
        """How long the others waited; most do not."""


class _Meter:
    """One limit's count in this process."""

    __slots__ = (
        "allowed",
        "configured",
        "divided",
        "limit",
        "owed",
        "own",
        "part_allowed",
        "part_share",
        "parts",
        "seen",
        "seen_until",
        "shares",
        "told",
        "untold_seconds",
        "used",
        "window",
    )

    def __init__(
        self, limit: Limit, shares: Mapping[Urgency, float], part_share: float, configured: bool
    ) -> None:
        self.limit = limit
        self.part_share = part_share
        """Of one organisation."""
        self.part_allowed = 0
        self.window = Window(limit.seconds) if limit.calls is not None else None
        self.divided = self.window is not None and limit.seconds >= SHORTEST_DIVIDED
        self.shares = shares
        self.configured = configured
        self.used = 0
        """Calls under way."""
        self.told: int | None = None
        """What the vendor allows by its own account."""
        self.untold_seconds = min(limit.seconds, UNTOLD_SECONDS)
        """How long others' calls count where the vendor does not say."""
        self.owed = 0
        """Calls that Redis does not know of, as it was away."""
        self.seen, self.seen_until = 0, 0.0
        """Calls that Redis counted when it was last asked, and until when some of them count."""
        self.own = 0
        """This process's among them."""
        self.parts: OrderedDict[str, Window] = OrderedDict()
        self.allowed: tuple[int, ...] = ()
        """By urgency."""
        self.allow(limit.calls if limit.calls is not None else limit.concurrent or 1)

    def allow(self, number: int) -> None:
        self.allowed = tuple(max(1, int(number * self.shares[urgency])) for urgency in Urgency)
        self.part_allowed = ceil(self.allowed[0] * self.part_share)

    def allowed_to(self, urgency: Urgency, among: int) -> int:
        """``among``: how many processes must do with it, none knowing of the others."""
        allowed = self.allowed[urgency]
        if among == 1 or not self.limit.shared:
            return allowed
        now = monotonic()
        if self.seen_until > now:
            # What was left when they were last told is left to all of them together.
            part = self.own + max(0, allowed - self.seen) // among
        else:
            part = max(1, allowed // among)
        # The part is of calls of one's own: what the vendor tells of the others' takes nothing from it.
        return part if self.window is None else min(allowed, part + self.window.others(now))

    def part(self, organisation: str) -> Window:
        window = self.parts.get(organisation)
        if window is None:
            window = self.parts[organisation] = Window(self.limit.seconds)
            if len(self.parts) > KEPT_ORGANISATIONS:
                self.parts.popitem(last=False)
        else:
            self.parts.move_to_end(organisation)
        return window

    def counted(self, now: float) -> int:
        if self.window is None:
            return self.used
        own = self.window.total(now)
        return max(own, self.seen) if self.seen_until > now else own

    def key(self, account: str) -> str:
        # The braces keep an account's keys on one node of a cluster, where a script may use them together.
        return f"gateway:budget:{{{account}}}:{self.limit.name}"


class Lane:
    """The limits that count one endpoint class's calls."""

    __slots__ = ("_keys", "gates", "place", "shared", "windows")

    def __init__(self, meters: Sequence[_Meter]) -> None:
        self.windows = tuple((meter, meter.window) for meter in meters if meter.window is not None)
        self.gates = tuple(meter for meter in meters if meter.window is None)
        self.place = Place(self)
        """What all calls hold that Redis knows nothing of."""
        self.shared = tuple(meter for meter in meters if meter.limit.shared)
        self._keys: tuple[str, ...] | None = None

    def shared_gates(self, account: str) -> tuple[str, ...]:
        """What must be given back in Redis."""
        if self._keys is None:
            self._keys = tuple(meter.key(account) for meter in self.gates if meter.limit.shared)
        return self._keys


class _Waiter:
    __slots__ = ("given", "until", "wait")

    def __init__(self, until: float, given: "asyncio.Future[Place]") -> None:
        self.until, self.given = until, given
        self.wait = inf


class Place:
    """What a call holds while it runs."""

    __slots__ = ("keys", "lane", "token")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.token = ""
        self.keys: tuple[str, ...] = ()
        """Those in Redis to be given back."""


_Key = tuple[Urgency, Lane, str | None]


class Budget:
    """Of one account of one vendor."""

    def __init__(
        self,
        source: str,
        account: str,
        limits: Sequence[Limit],
        shares: Mapping[Urgency, float],
        organisation_share: float,
        configured: frozenset[str] = frozenset(),
        shared: "SharedBudgets | None" = None,
    ) -> None:
        """``account`` names it to the other replicas. ``configured``: limits that no answer of the vendor raises."""
        self._source = source
        self._name = f"{source}|{account}"
        everything = dict.fromkeys(Urgency, 1.0)
        self._meters = {
            # What a process allows itself turns over quickly: going first is enough.
            limit.name: _Meter(
                limit, shares if limit.shared else everything, organisation_share, limit.name in configured
            )
            for limit in limits
        }
        self._shared = shared
        if shared is not None:
            shared.reports.append(self._report)
        self._queues: OrderedDict[_Key, deque[_Waiter]] = OrderedDict()
        """In the order in which they were last served. None is empty."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Known once somebody waits: asking for it is a system call each time (CPython 3.11)."""
        self._next_look: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        """Looks in their place where Redis is asked as well."""
        self.queueing = tuple(Queueing() for _ in Urgency)

    def lane(self, endpoint: str) -> Lane:
        """For all calls of an endpoint class: one, so that they queue together."""
        return Lane([meter for meter in self._meters.values() if meter.limit.counts(endpoint)])

    def at_once(self, lane: Lane, now: float) -> Place | None:
        """The right to make one call; ``leave`` gives it back. None where it has to be waited for, or be asked of Redis."""
        if self._queues or self._shared is not None:
            return None
        urgency, organisation = caller()
        if self._take(lane, urgency, organisation, now):
            return None
        self.queueing[urgency].seconds.counts[0] += 1  # no time at all, which is in the first bucket
        return lane.place

    async def enter(self, lane: Lane) -> Place:
        """The same with waiting. Raises SourceRateLimited when none can be had before the deadline, SourceTimeout when the
        calls under way outlast it."""
        urgency, organisation = caller()
        began = perf_counter()
        try:
            place = await self._entered(lane, urgency, organisation)
        except SourceError:
            self.queueing[urgency].refused += 1
            raise
        self.queueing[urgency].seconds.observe(perf_counter() - began)
        return place

    async def _entered(self, lane: Lane, urgency: Urgency, organisation: str | None) -> Place:
        wait = None
        if not self._queues or all(key[0] > urgency for key in self._queues):
            now = monotonic()
            wait = self._take(lane, urgency, organisation, now)
            if not wait:
                place = Place(lane)
                if self._shared is None:
                    return place
                try:
                    wait = await self._take_shared(place, urgency, organisation, now)
                finally:
                    self._changed.set()  # who found no place meanwhile may find one now
                if not wait:
                    return place
            lost = (
                self._shared is not None and self._shared.lost
            )  # then others' unmade calls may have been counted
            if wait < inf and not lost and longest_wait() <= wait:
                raise self._too_much(wait)
        return await self._queue(lane, urgency, organisation, wait)

    def leave(self, place: Place) -> None:
        """The call is over."""
        for meter in place.lane.gates:
            meter.used -= 1
        if place.keys and self._shared is not None:
            self._shared.give_back(place.token, place.keys)
        if self._queues:
            self._look()

    def read(self, readings: Sequence[Reading]) -> None:
        """Corrects the counts by what the vendor says."""
        now = monotonic()
        for reading in readings:
            meter = self._meters.get(reading.limit)
            if meter is None or meter.window is None:
                continue
            calls, remaining, ends = reading.calls, reading.remaining, reading.resets_in
            if calls != meter.told and calls is not None and calls > 0:
                meter.told = calls
                declared = meter.limit.calls or 1
                meter.allow(min(calls, declared) if meter.configured else calls)
            if remaining is None:
                continue
            pause = 0.0 if remaining > 0 or ends is None else ends
            if ends is None:
                ends = meter.untold_seconds
            self._correct(meter, meter.window, now, meter.allowed[0] - remaining, ends, pause)

    def refused(self, lane: Lane, retry_after: float | None) -> None:
        """The vendor refused a call as one too many, without saying by which limit: all that count it rest."""
        now, pause = monotonic(), REFUSED_SECONDS if retry_after is None else retry_after
        for meter, window in lane.windows:
            self._correct(meter, window, now, 0, pause, pause)

    def _correct(
        self, meter: _Meter, window: Window, now: float, used: int, ends: float, pause: float
    ) -> None:
        if ends > LONGEST_SECONDS:
            ends = LONGEST_SECONDS
        if pause:
            pause = min(pause, LONGEST_SECONDS)
            window.paused_until = max(window.paused_until, now + pause)
        if self._shared is None or not meter.limit.shared or self._shared.lost:
            window.told(now, used, now + ends)
        elif pause or used > meter.seen:
            self._shared.correct(meter.key(self._name), meter.limit.seconds, used, ends, pause)

    def standings(self) -> list[Standing]:
        """As far as this process knows: of a shared limit what Redis counted when it was last asked."""
        now = monotonic()
        return [
            Standing(
                name,
                meter.counted(now),
                meter.allowed[0],
                0.0 if meter.window is None else max(0.0, meter.window.paused_until - now),
            )
            for name, meter in self._meters.items()
        ]

    @property
    def waiting(self) -> int:
        """Calls that queue."""
        return sum(map(len, self._queues.values()))

    # -- taking ---------------------------------------------------------------------------------------------------

    def _take(self, lane: Lane, urgency: Urgency, organisation: str | None, now: float) -> float:
        """0 where the call is counted; else seconds until it is worth asking again, infinite where only another call's
        end can tell."""
        # While Redis is away nobody knows what the other replicas take.
        among = self._shared.replicas if self._shared is not None and self._shared.unsettled else 1
        for meter in lane.gates:
            allowed = meter.allowed[urgency] if among == 1 else meter.allowed_to(urgency, among)
            if meter.used >= allowed:
                return inf
        room = True
        for meter, window in lane.windows:
            allowed, mine = meter.allowed[urgency], meter.part_allowed
            if among > 1:
                allowed, mine = meter.allowed_to(urgency, among), self._part_of(meter, among)
            if organisation is not None and meter.divided:
                used = meter.part(organisation).count(now)
                if 2 * (used - 1) >= mine:
                    allowed = min(allowed, meter.allowed_to(Urgency.DASHBOARD, among))
                    room = room and used <= mine
            if window.count(now) > allowed or window.paused_until > now:
                room = False
        if room:
            for meter in lane.gates:
                meter.used += 1
            return 0.0
        self._uncount(lane, organisation, now)
        return self._wait(lane, urgency, organisation, among, now)

    def _wait(self, lane: Lane, urgency: Urgency, organisation: str | None, among: int, now: float) -> float:
        """Until all windows have room."""
        wait = 0.0
        for meter, window in lane.windows:
            allowed = meter.allowed_to(urgency, among)
            if organisation is not None and meter.divided:
                part, mine = meter.part(organisation), self._part_of(meter, among)
                used = part.total(now)
                if used >= mine:
                    wait = max(wait, part.wait(now, mine))
                if 2 * used >= mine:
                    allowed = min(allowed, meter.allowed_to(Urgency.DASHBOARD, among))
            if window.total(now) >= allowed or window.paused_until > now:
                wait = max(wait, window.wait(now, allowed))
        return wait

    def _untake(self, lane: Lane, organisation: str | None, counted_at: float) -> None:
        for meter in lane.gates:
            meter.used -= 1
        self._uncount(lane, organisation, counted_at)

    def _uncount(self, lane: Lane, organisation: str | None, counted_at: float) -> None:
        for meter, window in lane.windows:
            window.take_back(counted_at)
            if organisation is not None and meter.divided:
                meter.part(organisation).take_back(counted_at)

    async def _take_shared(
        self, place: Place, urgency: Urgency, organisation: str | None, counted_at: float
    ) -> float:
        """The same among all replicas, for a call that this process counted then: it is not any more if it must wait."""
        assert self._shared is not None
        lane = place.lane
        if not lane.shared:
            return 0.0
        token = uuid4().hex
        shares = [self._share(meter, urgency, organisation) for meter in lane.shared]
        try:
            with span("redis", f"{self._source} budget", source=self._source):
                answer = await self._shared.take(token, LEASE_SECONDS, shares)
        except asyncio.CancelledError:
            # Whether Redis has counted it nobody knows; a place there is free again after the lease.
            self._untake(lane, organisation, counted_at)
            raise
        if answer is None:
            self._untake(lane, organisation, counted_at)
            wait = self._take(lane, urgency, organisation, monotonic())
            if not wait:
                for meter in lane.shared:
                    meter.owed += meter.window is not None
            return wait
        wait, totals = answer
        if wait:
            self._untake(lane, organisation, counted_at)
            return wait
        now = monotonic()
        for meter, total in zip((m for m in lane.shared if m.window is not None), totals, strict=True):
            assert meter.window is not None
            # Answers may overtake each other.
            meter.seen = max(total, meter.seen) if meter.seen_until > now else total
            meter.seen_until = now + meter.limit.seconds
            meter.own = meter.window.total(now)
        place.token, place.keys = token, lane.shared_gates(self._name)
        return 0.0

    def _share(self, meter: _Meter, urgency: Urgency, organisation: str | None) -> Share:
        key = meter.key(self._name)
        if meter.window is None:
            return Share(key, key, "c", meter.allowed[urgency])
        if organisation is None or not meter.divided:
            return Share(key, key, "w", meter.allowed[urgency], meter.limit.seconds)
        part = f"{key}:{sha256(organisation.encode()).hexdigest()[:16]}"
        return Share(
            key,
            part,
            "w",
            meter.allowed[urgency],
            meter.limit.seconds,
            self._part_of(meter, 1),
            meter.allowed[Urgency.DASHBOARD],
        )

    async def _report(self) -> None:
        """Redis is back: what it has missed."""
        assert self._shared is not None
        for meter in self._meters.values():
            while meter.owed:
                owed, meter.owed = meter.owed, 0
                try:
                    await self._shared.owe(meter.key(self._name), meter.limit.seconds, owed)
                except BaseException:
                    meter.owed += owed
                    raise

    def _part_of(self, meter: _Meter, among: int) -> int:
        return max(1, meter.part_allowed // among)

    # -- queueing -------------------------------------------------------------------------------------------------

    async def _queue(
        self, lane: Lane, urgency: Urgency, organisation: str | None, wait: float | None
    ) -> Place:
        """``wait``: what it takes as of now, where that has been looked at."""
        now, patience = monotonic(), longest_wait()
        key = (urgency, lane, organisation)
        hopeless = self._hopeless(key, now)
        if hopeless and hopeless >= patience:
            raise self._too_much(hopeless)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        waiter = _Waiter(now + patience, self._loop.create_future())
        self._queues.setdefault(key, deque()).append(waiter)
        if wait is None or self._shared is not None:
            self._look()
        else:
            self._look_in(wait)
        try:
            with self._seen(lane, urgency), in_time():
                return await waiter.given
        except TimeoutError:
            self._withdraw(key, waiter)
            if waiter.wait < inf:
                raise self._too_much(waiter.wait) from None
            raise SourceTimeout(self._source, "calls under way left no place before the deadline") from None
        except asyncio.CancelledError:
            self._withdraw(key, waiter)
            raise

    def _seen(self, lane: Lane, urgency: Urgency) -> Span:
        """The wait, by the limit that holds it up the longest as far as this process knows."""
        if here() is None:
            return UNSEEN
        now, limit, longest = monotonic(), "", 0.0
        for meter, window in lane.windows:
            wait = window.wait(now, meter.allowed[urgency])
            if wait > longest:
                limit, longest = meter.limit.name, wait
        for meter in lane.gates:
            if not limit and meter.used >= meter.allowed[urgency]:
                limit = meter.limit.name
        limit = limit or "turn"
        words = {"limit": limit, "class": urgency.name.lower()}
        return span("wait", f"{self._source} {limit}", source=self._source, **words)

    def _hopeless(self, key: _Key, now: float) -> float:
        """Seconds that a newcomer to this queue must wait at least."""
        urgency, lane, organisation = key
        own = all_ahead = queues = 0
        for (other, its_lane, whose), waiting in self._queues.items():
            if its_lane is lane and other <= urgency:
                queues, all_ahead = queues + 1, all_ahead + len(waiting)
                if other == urgency and whose == organisation:
                    own = len(waiting)
        turns = min(all_ahead, own * max(1, queues)) + 1
        wait = 0.0
        for meter, window in lane.windows:
            if longer := window.wait(now, meter.allowed[urgency], turns):
                wait = max(wait, longer)
            if not meter.divided or organisation is None:
                continue
            if longer := meter.part(organisation).wait(now, meter.part_allowed, own + 1):
                wait = max(wait, longer)
        return wait

    def _withdraw(self, key: _Key, waiter: _Waiter) -> None:
        """Its caller is gone: out of the queue, or what it was given just now goes back."""
        given = waiter.given
        if given.done() and not given.cancelled() and given.exception() is None:
            self.leave(given.result())
        queue = self._queues.get(key)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[key]

    def _look(self) -> None:
        """Somebody who waits may be able to go now."""
        assert self._loop is not None, "somebody has waited"
        if self._shared is None:
            self._look_in(self._round())
            return
        self._changed.set()
        if self._pump is None or self._pump.done():
            self._pump = self._loop.create_task(self._serve(), context=Context())

    def _look_in(self, wait: float) -> None:
        """After so many seconds at the latest; infinite: when a call has ended."""
        if wait == inf:
            return
        assert self._loop is not None
        due = self._loop.time() + wait
        if self._next_look is not None:
            if self._next_look.when() <= due:
                return
            self._next_look.cancel()
        self._next_look = self._loop.call_at(due, self._look_again, context=Context())

    def _look_again(self) -> None:
        self._next_look = None
        self._look()

    async def _serve(self) -> None:
        while self._queues:
            self._changed.clear()
            wait = await self._shared_round()
            if self._queues:
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if wait == inf else wait):
                        await self._changed.wait()

    def _round(self) -> float:
        """Lets go whoever can; seconds until somebody else might."""
        waits: dict[_Key, float] = {}
        now = monotonic()
        while (key := self._next(waits)) is not None:
            urgency, lane, organisation = key
            wait = self._take(lane, urgency, organisation, now)
            self._served(key, None if wait else lane.place, wait, waits)
        return min(waits.values(), default=inf)

    async def _shared_round(self) -> float:
        """The same among all replicas."""
        waits: dict[_Key, float] = {}
        while (key := self._next(waits)) is not None:
            urgency, lane, organisation = key
            now, place = monotonic(), Place(lane)
            wait = self._take(lane, urgency, organisation, now)
            if not wait:
                wait = await self._take_shared(place, urgency, organisation, now)
            self._served(key, None if wait else place, wait, waits)
        return min(waits.values(), default=inf)

    def _next(self, waits: Mapping[_Key, float]) -> _Key | None:
        """Of the most urgent queues that do not have to wait the one that was served longest ago."""
        found: _Key | None = None
        for key in self._queues:
            if (found is None or key[0] < found[0]) and key not in waits:
                found = key
        return found

    def _served(self, key: _Key, place: Place | None, wait: float, waits: dict[_Key, float]) -> None:
        """The first in this queue goes, or must wait so long."""
        urgency, lane, _ = key
        if place is not None:
            self._give(key, place)
            if key in self._queues:
                self._queues.move_to_end(key)
        elif wait == inf:  # as must all that come after it: too many calls are under way
            for other in self._queues:
                if other[1] is lane and other[0] >= urgency:
                    waits[other] = inf
        else:
            self._refuse(key, wait)
            if key in self._queues:
                waits[key] = wait

    def _give(self, key: _Key, place: Place) -> None:
        queue = self._queues.get(key)
        while queue:
            waiter = queue.popleft()
            if not queue:
                del self._queues[key]
            if not waiter.given.done():
                waiter.given.set_result(place)
                return
        self.leave(place)

    def _refuse(self, key: _Key, wait: float) -> None:
        """Whoever cannot wait so long need not wait at all."""
        now = monotonic()
        queue = self._queues.get(key, deque())
        for waiter in list(queue):
            waiter.wait = wait
            if now + wait >= waiter.until:
                queue.remove(waiter)
                if not waiter.given.done():
                    waiter.given.set_exception(self._too_much(wait))
        if not queue:
            self._queues.pop(key, None)

    def _too_much(self, wait: float) -> SourceRateLimited:
        return SourceRateLimited(
            self._source,
            "its limit leaves no call before the deadline",
            retry_after=round(max(wait, 0.001), 3),
        )
