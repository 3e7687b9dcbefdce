"""Whether a client still waits for its answer: work for one that has left ends, and with it the calls to vendors."""

import asyncio
from time import monotonic

import msgspec
from starlette.types import Receive

WATCHED_AFTER_SECONDS = 0.05
"""Most answers are ready before: watching each of them would cost more than it saves."""


class Presences:
    """Of the clients of one process. One timer at a time wakes for all of them: most answers leave without ever having had
    one of their own."""

    def __init__(self) -> None:
        self.unwatched: dict[Presence, float] = {}
        """Since when by ``time.monotonic``, the first one first. Who is forgotten before it is due costs nothing."""
        self.waking = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The process's only one. To ask for it is a system call each time (CPython 3.11)."""

    def wake_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Once for all that are added until then."""
        self.waking = True
        loop.call_later(WATCHED_AFTER_SECONDS, self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        due = monotonic() - WATCHED_AFTER_SECONDS
        while self.unwatched:
            presence, since = next(iter(self.unwatched.items()))
            if since > due:
                loop.call_later(since - due, self._wake, loop)
                return
            del self.unwatched[presence]
            presence.watch()
        self.waking = False


class Presence(msgspec.Struct, eq=False):
    """Of one request's client, once its body has been read. What is done between ``begin`` and ``end`` is cancelled when
    the client leaves."""

    _receive: Receive
    _all: Presences
    _task: asyncio.Task[object] | None = None
    _watching: asyncio.Task[None] | None = None
    gone: bool = False

    def begin(self) -> None:
        """In the task that is to be cancelled."""
        others = self._all
        loop = others.loop
        if loop is None:
            loop = others.loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        others.unwatched[self] = monotonic()
        if not others.waking:
            others.wake_later(loop)

    def end(self) -> None:
        """The answer is there, or never will be."""
        self._all.unwatched.pop(self, None)
        if self._watching is not None:
            self._watching.cancel()

    def watch(self) -> None:
        """From now on its leaving is noticed."""
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        assert self._task is not None
        self._task.cancel()
