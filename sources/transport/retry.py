"""What is tried again, when, and how often at most: retries must not turn a vendor's bad minute into a bad hour."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from math import exp
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from sources.ports.errors import (
    SourceBadResponse,
    SourceError,
    SourceRateLimited,
    SourceTimeout,
    SourceUnavailable,
)
from sources.ports.trace import span
from sources.transport.breaker import CircuitOpen
from sources.transport.connections import BrokenOff
from sources.transport.deadline import longest_wait

T = TypeVar("T")

MOST_ATTEMPTS = 3
SHARE = 0.1
"""Retries per call."""
RECENT_SECONDS = 10.0
FEWEST = 2.0
"""Retries that a source with hardly any calls may save up."""

_JITTER = wait_random_exponential(multiplier=0.1, max=1.0)
"""Full jitter: from 0 to 0.1 s, then to 0.2 s, and so on."""


class RetryBudget:
    """Of one source. A call earns a tenth of a retry; no more are saved up than a tenth of the recent calls, so that a
    failure of any length makes at most a tenth more calls, and a tenth of the last seconds' calls once."""

    def __init__(self) -> None:
        self.balance = 1.0
        self.made = 0
        """Retries."""
        self.refused = 0
        """Times that nothing was saved up for one."""
        self._recent = 0.0
        self._at = 0.0

    def deposit(self, now: float) -> None:
        """For a call that is made for the first time."""
        self._recent = self._recent * exp((self._at - now) / RECENT_SECONDS) + 1.0
        self._at = now
        balance, most = self.balance + SHARE, self._recent * SHARE
        if most < FEWEST:
            most = FEWEST
        self.balance = balance if balance < most else most

    def withdraw(self) -> bool:
        """May something be tried again?"""
        if self.balance < 1.0:
            self.refused += 1
            return False
        self.balance -= 1.0
        self.made += 1
        return True


async def again(first: SourceError, attempt: Callable[[], Awaitable[T]], budget: RetryBudget) -> T:
    """The answer of another attempt after ``first`` failed, or the last attempt's error."""
    failures = iter((first,))

    async def made() -> T:
        for failure in failures:  # the first attempt is over already
            raise failure
        return await attempt()

    def stop(state: RetryCallState) -> bool:
        return (
            state.attempt_number >= MOST_ATTEMPTS
            or state.upcoming_sleep >= longest_wait()
            or not budget.withdraw()
        )

    async def pause(seconds: float) -> None:
        with span("retry", f"{first.source} before another attempt", source=first.source):
            await asyncio.sleep(seconds)

    retrying = AsyncRetrying(
        retry=retry_if_exception(retryable), wait=_wait, stop=stop, sleep=pause, reraise=True
    )
    return await retrying(made)


def retryable(error: BaseException) -> bool:
    """Could the same call go well a moment later?"""
    if isinstance(error, SourceUnavailable):
        return not isinstance(error, SourceTimeout | CircuitOpen)
    if isinstance(error, SourceBadResponse):
        return isinstance(error.__cause__, BrokenOff)
    return isinstance(error, SourceRateLimited)


def _wait(state: RetryCallState) -> float:
    jitter = _JITTER(state)
    assert state.outcome is not None
    error = state.outcome.exception()
    told = error.retry_after if isinstance(error, SourceError) else None
    # Everybody was told the same moment: nobody should come back at it.
    return jitter if told is None else told + random.uniform(0, 0.1)  # noqa: S311
