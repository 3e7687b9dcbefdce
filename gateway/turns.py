"""In which order callers whose connections stay open are asked for: a change may concern all of them at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

ASKED_AT_ONCE = 4
"""Were all asked for at the same time, each would wait for all others, and most for longer than a caller may be unknown."""
TURN_SECONDS = 0.01
"""Who is not answered by then waits for others than this process, and lets the next one begin: when the ledger hangs, it
is not found out by four after four."""

LATE_SECONDS = 0.002
"""Where the loop comes to a turn's end so late, it was busy."""


class Turns:
    """Of this process."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(ASKED_AT_ONCE)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits until it comes. First come, first served."""
        await self._free.acquire()
        turn = _Turn(self._free)
        try:
            yield
        finally:
            turn.over()


class _Turn:
    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._loop = asyncio.get_running_loop()
        self._begin()

    def _begin(self) -> None:
        self._ends_at = self._loop.time() + TURN_SECONDS
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self._ends_at, self._end)

    def _end(self) -> None:
        if self._loop.time() > self._ends_at + LATE_SECONDS:
            self._begin()  # it is this process that had no time for it
        else:
            self._timer = None
            self._free.release()

    def over(self) -> None:
        """The caller is known, or not."""
        if self._timer is not None:
            self._timer.cancel()
            self._free.release()
