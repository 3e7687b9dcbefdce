"""Whether a client still waits for its answer: work for one that has left ends, and with it the calls to vendors."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

WATCHED_AFTER_SECONDS = 0.05
"""Most answers are ready before: watching each of them would cost more than it saves."""


class Presence:
    """Of one request's client, once its body has been read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self.gone = False

    @contextmanager
    def needed(self) -> Iterator[None]:
        """What is done inside is cancelled when the client leaves."""
        task = asyncio.current_task()
        assert task is not None
        later = asyncio.get_running_loop().call_later(WATCHED_AFTER_SECONDS, self._begin, task)
        try:
            yield
        finally:
            later.cancel()
            if self._watching is not None:
                self._watching.cancel()

    def _begin(self, task: asyncio.Task[object]) -> None:
        self._watching = asyncio.create_task(self._watch(task))

    async def _watch(self, task: asyncio.Task[object]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        task.cancel()
