"""Whether a client still waits for its answer: work for one that has left ends, and with it the calls to vendors."""

import asyncio
from time import monotonic

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
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The process's only one. To ask for it is a system call each time (CPython 3.11)."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def wake_later(self) -> None:
        """Once for all that are added until then."""
        self.waking = True
        self.loop.call_later(WATCHED_AFTER_SECONDS, self._wake)

    def _wake(self) -> None:
        due = monotonic() - WATCHED_AFTER_SECONDS
        while self.unwatched:
            presence, since = next(iter(self.unwatched.items()))
            if since > due:
                self.loop.call_later(since - due, self._wake)
                return
            del self.unwatched[presence]
            presence.watch()
        self.waking = False


class Presence:
    """Of one request's client, once its body has been read. What is done inside is cancelled when the client leaves."""

    __slots__ = ("_all", "_receive", "_task", "_watching", "gone")

    def __init__(self, receive: Receive, all_: Presences) -> None:
        self._receive, self._all = receive, all_
        self._task: asyncio.Task[object] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> None:
        all_ = self._all
        self._task = asyncio.current_task(all_.loop)
        all_.unwatched[self] = monotonic()
        if not all_.waking:
            all_.wake_later()

    def __exit__(self, *error: object) -> None:
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
