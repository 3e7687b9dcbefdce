"""aiodataloader for one request: what a batch of it costs before anything is read, cut down to what a request needs."""

from asyncio import AbstractEventLoop, Future, Task, get_running_loop
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from aiodataloader import DataLoader

Batch = Callable[[list[Any]], Coroutine[Any, Any, list[Any]]]
"""Gives one value for each key, in their order; an exception is the answer of its key alone."""


class Batches(msgspec.Struct, eq=False):
    """Of one request, from when each begins until the request ends."""

    loop: AbstractEventLoop = msgspec.field(default_factory=get_running_loop)
    """Asked for once: it is a system call each time (CPython 3.11)."""
    _begun: list[Task[None]] = []
    _ended: bool = False

    def begin(self, batch: Coroutine[Any, Any, None]) -> None:
        """In a task of its own."""
        if self._ended:
            batch.close()
        else:
            self._begun.append(self.loop.create_task(batch))

    def end(self) -> None:
        """What is still under way is not needed any more, nor what was about to begin: nobody would record it."""
        self._ended = True
        for batch in self._begun:
            batch.cancel()
        self._begun.clear()


class Loader(DataLoader[Any, Any]):
    """The library's, keys and answers as they are. It knows the loop that it runs in, that its keys are their own cache keys
    and that its batch is a coroutine function that gives a list, where the library would look; the turn of its batch comes by
    the loop's queue, where the library has a task for it; and its batches end with the request that they are of. A dashboard
    loads a hundred keys."""

    def __init__(self, batch: Batch, batches: Batches) -> None:
        self.loop = batches.loop
        self.batch_load_fn = batch
        self._cache: dict[Any, Future[Any]] = {}
        self._queue: list[Any] = []
        """Of keys, each with its answer."""
        self._batches = batches

    def load(self, key: Any) -> Future[Any]:
        """What the batch gives for this key; the same for all who ask."""
        answer = self._cache.get(key)
        if answer is None:
            answer = self._cache[key] = self.loop.create_future()
            if not self._queue:
                # As late as the library's: whatever is ready to ask by now has asked when the batch begins.
                self.loop.call_soon(self.loop.call_soon, self._dispatch)
            self._queue.append((key, answer))
        return answer

    def get_cache_key(self, key: Any) -> Any:
        return key

    def _dispatch(self) -> None:
        queue, self._queue = self._queue, []
        self._batches.begin(self._read(queue))

    async def _read(self, queue: list[tuple[Any, Future[Any]]]) -> None:
        """As the library's, without asking ``typing`` what a list is: that takes as long as the rest."""
        keys = [key for key, _ in queue]
        try:
            values = await self.batch_load_fn(keys)
            if len(values) != len(keys):
                raise TypeError(f"a batch of {len(keys)} keys gave {len(values)} values")
            for (_, answer), value in zip(queue, values, strict=True):
                if answer.done():
                    continue
                if isinstance(value, Exception):
                    answer.set_exception(value)
                else:
                    answer.set_result(value)
        except Exception as error:
            for key, answer in queue:
                self.clear(key)
                if not answer.done():
                    answer.set_exception(error)
