"""A circuit breaker: a source that mostly fails is left alone for a while, then tried with single calls.

Own code, as no kept library has both an open state by rate and a half-open one that lets a single call through: what
there is counts failures in a row and lets everybody in again at once, and costs more than the call's other parts.
"""

from collections import deque
from math import inf
from time import monotonic
from typing import Literal

from sources.ports.errors import SourceUnavailable

REMEMBERED_SECONDS = 10.0
REMEMBERED_CALLS = 20
"""More only where it takes more failures than half of them: all that went well in ten seconds would keep a source that has
ended from being left alone for as long."""
SHARE = 0.5
"""Of the remembered calls, how many must have failed."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 4.0
"""Seconds until a single call is tried; twice as long after each that fails."""
PROBE_SECONDS = 1.0
"""A single call that has had no answer for so long keeps the next from being tried no longer: it may never get one, though
the source is back."""


class CircuitOpen(SourceUnavailable):
    """Not asked at all: the source failed too often just now."""


State = Literal["closed", "open", "half-open"]


class Breaker:
    """For one endpoint class of one source; opens at no fewer than ``fewest`` failures. Every call that was admitted is
    told of by ``ended``, with what ``admit`` gave: the number of the try that it is, 0 where it is none."""

    def __init__(self, source: str, fewest: float) -> None:
        self._source = source
        self._fewest = fewest
        self._outcomes: deque[tuple[float, bool]] = deque(
            maxlen=REMEMBERED_CALLS if fewest == inf else max(REMEMBERED_CALLS, int(2 * fewest))
        )
        self._failures = 0
        self._pause = FIRST_PAUSE
        """The last one's."""
        self.opens_at: float | None = None
        """When a call may be tried again; None while closed: then it is not one of the tries."""
        self._probing_until: float | None = None
        """While a single call is tried no other is; None where none is under way."""
        self._probes = 0
        self._closed_by = 0
        """The try that went well."""
        self.opened = 0
        """How many times it opened."""
        self.kept_away = 0
        """Calls that were not made, as it was open."""

    @property
    def state(self) -> State:
        if self.opens_at is None:
            return "closed"
        return "half-open" if self._probing_until is not None or self.opens_at <= monotonic() else "open"

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be tried; None while closed."""
        return None if self.opens_at is None else max(0.0, self.opens_at - monotonic())

    def admit(self) -> int:
        """Raises CircuitOpen while it is open, and while it is half-open for all but one call at a time."""
        if self.opens_at is None:
            return 0
        now = monotonic()
        wait = max(self.opens_at, self._probing_until or 0.0) - now
        if wait > 0:
            self.kept_away += 1
            raise CircuitOpen(
                self._source,
                "failed too often just now; left alone for a moment",
                retry_after=round(max(wait, 0.1), 3),
            )
        self._probing_until = now + PROBE_SECONDS
        self._probes += 1
        return self._probes

    def ended(self, probe: int, well: bool | None) -> None:
        """None: without saying anything about the source, as its caller left, or as it was refused for its own sake."""
        if well:
            if probe and self.opens_at is not None:
                self._close(probe)
            elif self._failures and self.opens_at is None:
                self._note(False)
        elif well is not None:
            self._failed(probe)
        elif probe == self._probes:
            self._probing_until = None

    def ended_badly(self, probe: int) -> None:
        """What ``ended`` was told had gone well had not, as it turned out."""
        if probe:
            if probe == self._closed_by and self.opens_at is None:
                self._pause_longer()
            return
        if self._failures:
            self._forget_success()
        self._failed(probe)

    def _close(self, probe: int) -> None:
        self.opens_at, self._probing_until, self._closed_by = None, None, probe
        self._outcomes.clear()
        self._failures = 0

    def _failed(self, probe: int) -> None:
        if probe:
            # One that was tried before the last says nothing new.
            if probe == self._probes and self.opens_at is not None:
                self._pause_longer()
        elif self.opens_at is None:  # one that was under way when it opened says nothing new
            self._note(True)
            if self._failures >= self._fewest and self._failures >= SHARE * len(self._outcomes):
                self._pause = FIRST_PAUSE
                self.opens_at = monotonic() + self._pause
                self.opened += 1

    def _pause_longer(self) -> None:
        """The single call that was tried has failed."""
        self._probing_until = None
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        self.opens_at = monotonic() + self._pause

    def _forget_success(self) -> None:
        """The last one: it need not be the call's own, as all are alike."""
        for place in reversed(range(len(self._outcomes))):
            _, failure = self._outcomes[place]
            if not failure:
                del self._outcomes[place]
                return

    def _note(self, failure: bool) -> None:
        now = monotonic()
        if len(self._outcomes) == self._outcomes.maxlen or (
            self._outcomes and self._outcomes[0][0] < now - REMEMBERED_SECONDS
        ):
            self._forget(now)
        self._outcomes.append((now, failure))
        self._failures += failure

    def _forget(self, now: float) -> None:
        outcomes = self._outcomes
        while outcomes and (outcomes[0][0] < now - REMEMBERED_SECONDS or len(outcomes) == outcomes.maxlen):
            self._failures -= outcomes.popleft()[1]
