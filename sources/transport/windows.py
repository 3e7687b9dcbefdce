"""Counting calls in a stretch of time that moves along, in bounded memory, never fewer than the vendor counts."""

from collections import deque

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
        "_foreign",
        "_foreign_until",
        "_last",
        "_look_at",
        "_parts",
        "_used",
        "_width",
        "paused_until",
    )

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLOTS
        self._parts: deque[list[int]] = deque()
        """[part's number, calls], oldest first."""
        self._last = [0, 0]
        """Of the parts; where calls that are made before ``_look_at`` belong."""
        self._used, self._look_at = 0, 0.0
        """What counts, which stays so until then."""
        self._foreign, self._foreign_until = 0, 0.0
        """Those among them that the vendor told of."""
        self.paused_until = 0.0
        """The vendor said that there is nothing before."""

    def total(self, now: float) -> int:
        """The calls that count, others' too where the vendor told of them."""
        if now >= self._look_at:
            self._look(now)
        return self._used

    def others(self, now: float) -> int:
        """Those among them that the vendor told of."""
        return self._foreign if self._foreign_until > now else 0

    def count(self, now: float) -> int:
        """Counts a call made now; the calls that count with it."""
        if now >= self._look_at:
            self._look(now)
        self._last[1] += 1
        self._used += 1
        return self._used

    def take_back(self, counted_at: float) -> None:
        """A call that was counted then is not made after all."""
        counted_in = int(counted_at / self._width)
        for part in reversed(self._parts):
            if part[0] <= counted_in and part[1] > 0:
                part[1] -= 1
                self._used -= 1
                return

    def told(self, now: float, used: int, until: float) -> None:
        """The vendor counts ``used`` calls: what is more than ours others have made, and counts until then."""
        own = self.total(now) - self._foreign
        if used > own or self._foreign:
            self._foreign, self._foreign_until = max(0, used - own), until
            self._used = own + self._foreign
            if until < self._look_at:
                self._look_at = until

    def wait(self, now: float, allowed: int, calls: int = 1) -> float:
        """Seconds until ``calls`` more, made as soon as each is allowed, are all made; 0 where they can be made now."""
        if self.total(now) + calls <= allowed and self.paused_until <= now:
            return 0.0
        windows, calls = divmod(calls - 1, max(1, allowed))
        excess = self._used + calls + 1 - allowed
        wait = 0.0
        if excess > 0:
            ends = [(self._counts_until(part), count) for part, count in self._parts]
            if self._foreign:
                ends.append((self._foreign_until, self._foreign))
                ends.sort()
            for end, count in ends:
                excess -= count
                wait = end - now
                if excess <= 0:
                    break
        return max(wait + windows * (SLOTS + 2) * self._width, self.paused_until - now, 0.0)

    def _look(self, now: float) -> None:
        parts, part = self._parts, int(now / self._width)
        while parts and parts[0][0] < part - SLOTS - 1:
            self._used -= parts.popleft()[1]
        if not parts or parts[-1][0] < part:
            self._last = [part, 0]
            parts.append(self._last)
        self._look_at = (self._last[0] + 1) * self._width
        if self._foreign:
            if self._foreign_until <= now:
                self._used -= self._foreign
                self._foreign = 0
            else:
                self._look_at = min(self._look_at, self._foreign_until)

    def _counts_until(self, part: int) -> float:
        return (part + SLOTS + 2) * self._width
