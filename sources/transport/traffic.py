"""What stands between the gateway and a vendor's account, whichever client calls it: budget, breakers, retries, addresses."""

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from sources.ports.errors import SourceError, SourceRateLimited, SourceUnavailable
from sources.ports.trace import span
from sources.transport.breaker import Breaker, State
from sources.transport.budget import Budget, Place, Queueing, Standing
from sources.transport.counts import CallCounts, Renewals
from sources.transport.limits import Limit, Reading, SourceSettings, configured
from sources.transport.retry import RetryBudget, again, retryable
from sources.transport.rows import Drops

if TYPE_CHECKING:
    from sources.transport.http import Answer
    from sources.transport.shared import SharedBudgets

T = TypeVar("T")

Readings = Callable[[str, "Answer", SourceError | None], Sequence[Reading]]
"""What a vendor's answer to a call of this endpoint class, and the error that it means, say about the limits."""


class EndpointState(msgspec.Struct, frozen=True):
    """How an endpoint class stands."""

    endpoint: str
    breaker: State
    retry_after: float | None
    opened: int
    """How many times the breaker opened."""
    kept_away: int
    """Calls that it did not let through."""
    calls: CallCounts


class TrafficState(msgspec.Struct, frozen=True):
    """How one account of a source stands, as this process knows it."""

    source: str
    endpoints: tuple[EndpointState, ...]
    limits: tuple[Standing, ...]
    waiting: int
    queueing: tuple[Queueing, ...]
    """By urgency."""
    retries_left: float
    retried: int
    unretried: int
    """Times that there was no retry as too many had been made."""

    @property
    def trouble(self) -> str | None:
        """In words, None where there is none."""
        for one in self.endpoints:
            if one.breaker != "closed":
                what = f" ({one.endpoint})" if one.endpoint else ""
                return f"failing{what}: circuit {one.breaker}"
        for limit in self.limits:
            if limit.paused_for > 0:
                return f"over its limit ({limit.limit}) for {limit.paused_for:.0f} s more"
        return None


class Traffic:
    """One account of one source."""

    def __init__(
        self,
        source: str,
        *,
        parallel: int,
        limits: Sequence[Limit] = (),
        account: str = "",
        settings: SourceSettings | None = None,
        read: Readings = lambda endpoint, answer, error: (),
        shared: "SharedBudgets | None" = None,
        guarded: bool = True,
        drops: Drops | None = None,
    ) -> None:
        """``parallel``: calls at a time that this process allows itself. ``account`` tells apart what the vendor counts
        apart; it is not shown to anyone. Not ``guarded``: see Network. Raises ValueError for settings that cannot hold."""
        settings = settings or SourceSettings()
        self.source = source
        self.read = read
        self.addresses = settings.addresses
        self.drops = drops or Drops()
        self._retries = RetryBudget()
        self._guarded = guarded
        self._fewest = settings.breaker_failures if guarded else inf
        self._passages: dict[str, Passage] = {}
        """By endpoint class."""
        self._budget = Budget(
            source,
            sha256(account.encode()).hexdigest()[:16],
            [
                *(configured(limits, settings) if guarded else ()),
                Limit("parallel", concurrent=parallel, shared=False),
            ],
            settings.shares,
            settings.organisation_share,
            frozenset(settings.limits),
            shared,
        )

    def passage(self, endpoint: str) -> "Passage":
        """For a call that is made for the first time."""
        self._retries.deposit(monotonic())
        passage = self._passages.get(endpoint)
        if passage is None:
            passage = self._passages[endpoint] = Passage(
                self, endpoint, Breaker(self.source, self._fewest), self._budget
            )
        return passage

    async def again(self, error: SourceError, attempt: Callable[[], Awaitable[T]]) -> T:
        """The answer of a call that is safe to repeat and failed: of another attempt where that can help. Raises ``error``
        where it cannot, and the last attempt's where that fails, too."""
        if not (self._guarded and retryable(error)):
            raise error
        return await again(error, attempt, self._retries)

    def state(self) -> TrafficState:
        return TrafficState(
            self.source,
            tuple(
                EndpointState(
                    endpoint,
                    passage.breaker.state,
                    passage.breaker.retry_after,
                    passage.breaker.opened,
                    passage.breaker.kept_away,
                    passage.counts,
                )
                for endpoint, passage in self._passages.items()
            ),
            tuple(self._budget.standings()),
            self._budget.waiting,
            self._budget.queueing,
            self._retries.balance,
            self._retries.made,
            self._retries.refused,
        )


class Passage:
    """The way of the calls of one endpoint class."""

    __slots__ = ("_endpoint", "_lane", "_traffic", "breaker", "budget", "counts")

    def __init__(self, traffic: Traffic, endpoint: str, breaker: Breaker, budget: Budget) -> None:
        self._traffic, self._endpoint, self.budget = traffic, endpoint, budget
        self._lane = budget.lane(endpoint)
        self.breaker, self.counts = breaker, CallCounts()

    def at_once(self) -> "UnderWay | None":
        """The right to make one call, within limits. None where it has to be waited for, or be refused."""
        if self.breaker.opens_at is not None:
            return None
        now = monotonic()
        place = self.budget.at_once(self._lane, now)
        return None if place is None else UnderWay(self, now, place)

    async def enter(self) -> "UnderWay":
        """The same with waiting. Raises SourceError where there is none before the deadline."""
        try:
            probe = self.breaker.admit()
        except SourceUnavailable as refusal:
            with span(
                "breaker", f"{self._traffic.source} is left alone", source=self._traffic.source
            ) as refused:
                refused.failed(refusal)
            raise
        try:
            place = await self.budget.enter(self._lane)
        except BaseException:
            self.breaker.ended(probe, None)
            raise
        return UnderWay(self, monotonic(), place, probe)

    def read(self, answer: "Answer", error: SourceError | None) -> None:
        """What the answer says about the limits."""
        readings = self._traffic.read(self._endpoint, answer, error)
        if readings:
            self.budget.read(readings)
        if isinstance(error, SourceRateLimited) and all(one.remaining != 0 for one in readings):
            self.budget.refused(self._lane, error.retry_after)


class UnderWay(msgspec.Struct, eq=False):
    """A call, from its place within the limits to the end of its block."""

    passage: Passage
    began: float
    place: Place
    probe: int = 0
    verdict: bool | None = None
    """Did the source do its part? None: nothing can be said."""

    def __enter__(self) -> Self:
        return self

    @property
    def seconds(self) -> float:
        """Since it was sent."""
        return monotonic() - self.began

    def answered(self, answer: "Answer", error: SourceError | None) -> None:
        """``error``: what the answer means."""
        passage = self.passage
        if error is None:
            self.verdict = True
            passage.counts.answered += 1
        else:
            self.verdict = not isinstance(error, SourceUnavailable)
            passage.counts.fail(error)
        passage.read(answer, error)

    def let_down(self) -> None:
        """By the source itself, which did not answer: that counts against it."""
        self.verdict = False

    def answered_nothing(self) -> None:
        """What was taken for an answer was none, as it turned out when the call was over."""
        if self.verdict:
            self.verdict = False
            self.passage.breaker.ended_badly(self.probe)

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: object
    ) -> None:
        passage = self.passage
        passage.counts.seconds.observe(monotonic() - self.began)
        if failure is not None and isinstance(failure, SourceError | CancelledError):
            passage.counts.fail(failure)
        passage.budget.leave(self.place)
        passage.breaker.ended(self.probe, self.verdict)


class Network:
    """All that this process calls."""

    def __init__(self, shared: "SharedBudgets | None" = None, *, guarded: bool = True) -> None:
        """``shared``: the budgets of all replicas together; None: this process is alone. Not ``guarded``: calls meet neither
        vendors' limits nor breakers and are made once, for what measures or tests a connector by itself."""
        self._shared = shared
        self._guarded = guarded
        self._traffics: list[Traffic] = []
        self.drops = Drops()
        """Rows that did not fit, of all sources."""
        self.renewals = Renewals()

    def traffic(
        self,
        source: str,
        settings: SourceSettings,
        *,
        parallel: int,
        limits: Sequence[Limit] = (),
        account: str = "",
        read: Readings = lambda endpoint, answer, error: (),
    ) -> Traffic:
        """For one account of a source. Raises ValueError for settings that cannot hold."""
        traffic = Traffic(
            source,
            parallel=parallel,
            limits=limits,
            account=account,
            settings=settings,
            read=read,
            shared=self._shared,
            guarded=self._guarded,
            drops=self.drops,
        )
        self._traffics.append(traffic)
        return traffic

    def states(self) -> Mapping[str, Sequence[TrafficState]]:
        """By source."""
        states: dict[str, list[TrafficState]] = {}
        for traffic in self._traffics:
            states.setdefault(traffic.source, []).append(traffic.state())
        return states

    @property
    def redis_away(self) -> bool:
        """Should budgets be shared, and are they not?"""
        return self._shared is not None and self._shared.lost

    def troubles(self) -> dict[str, str]:
        """What is amiss, by source and as ``redis``; empty where all is well."""
        found = {"redis": "away: each process takes its part of the limits"} if self.redis_away else {}
        for source, states in self.states().items():
            for state in states:
                if state.trouble:
                    found.setdefault(source, state.trouble)
        return found

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()
