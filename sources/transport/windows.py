"""Counting calls in a stretch of time that moves along, in bounded memory, never fewer than the vendor counts."""

from collections import deque
from math import inf

import msgspec

SLOTS = 30
"""A window is counted in so many parts. A call counts until its part is out of the window, and one part more for its way
to the vendor: 2 to 4 s longer than a minute."""


class Share(msgspec.Struct, frozen=True):
    """What one call takes of one limit."""

    key: str
    part_key: str
    """The organisation's; the same as ``key`` where the limit is not counted by organisation."""
    kind: str
    """``w`` for calls in a window, ``c`` for calls at a time."""
    allowed: int
    seconds: float = 0.0
    allowed_part: int = 0
    allowed_half: int = 0
    """Once the organisation has used half of its own."""


class Window:
    """The calls of the last ``seconds``; all times are the caller's clock's, in seconds."""

    __slots__ = (
        "_first_counts_until",
        "_foreign",
        "_foreign_until",
        "_last_ends",
        "_own",
        "_parts",
        "_width",
        "paused_until",
    )

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLOTS
        self._parts: deque[list[int]] = deque()
        """[part's number, calls], oldest first."""
        self._first_counts_until, self._last_ends = inf, 0.0
        """Of the parts at either end: until then nothing is looked at."""
        self._own = 0
        self._foreign, self._foreign_until = 0, 0.0
        self.paused_until = 0.0
        """The vendor said that there is nothing before."""

    def total(self, now: float) -> int:
        """The calls that count, others' too where the vendor told of them."""
        if now >= self._first_counts_until:
            parts, oldest = self._parts, int(now / self._width) - SLOTS - 1
            while parts and parts[0][0] < oldest:
                self._own -= parts.popleft()[1]
            self._first_counts_until = (parts[0][0] + SLOTS + 2) * self._width if parts else inf
        if self._foreign and self._foreign_until <= now:
            self._foreign = 0
        return self._own + self._foreign

    def others(self, now: float) -> int:
        """Those among them that the vendor told of."""
        return self._foreign if self._foreign_until > now else 0

    def add(self, now: float) -> None:
        """Counts a call made now."""
        parts = self._parts
        if now >= self._last_ends or not parts:
            part = int(now / self._width)
            if not parts or parts[-1][0] < part:
                parts.append([part, 0])
                self._last_ends = (part + 1) * self._width
                if len(parts) == 1:
                    self._first_counts_until = (part + SLOTS + 2) * self._width
        parts[-1][1] += 1
        self._own += 1

    def take_back(self, counted_at: float) -> None:
        """A call that was counted then is not made after all."""
        counted_in = int(counted_at / self._width)
        for part in reversed(self._parts):
            if part[0] <= counted_in and part[1] > 0:
                part[1] -= 1
                self._own -= 1
                return

    def told(self, now: float, used: int, until: float) -> None:
        """The vendor counts ``used`` calls: what is more than ours others have made, and counts until then."""
        self.total(now)
        self._foreign, self._foreign_until = max(0, used - self._own), until

    def wait(self, now: float, allowed: int, calls: int = 1) -> float:
        """Seconds until ``calls`` more, made as soon as each is allowed, are all made; 0 where they can be made now."""
        windows, calls = divmod(calls - 1, max(1, allowed))
        excess = self.total(now) + calls + 1 - allowed
        wait = 0.0
        if excess > 0:
            ends = [((part + SLOTS + 2) * self._width, count) for part, count in self._parts]
            if self._foreign:
                ends.append((self._foreign_until, self._foreign))
                ends.sort()
            for end, count in ends:
                excess -= count
                wait = end - now
                if excess <= 0:
                    break
        return max(wait + windows * (SLOTS + 2) * self._width, self.paused_until - now, 0.0)
