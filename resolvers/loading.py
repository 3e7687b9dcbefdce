"""One request's loading: what is asked for one by one is read in batches, and each key once."""

from asyncio import Future, Task, get_running_loop
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

Batch = Callable[[list[Any]], Coroutine[Any, Any, list[Any]]]
"""Gives one value for each key, in their order; an exception is the answer of its key alone."""


class Loader:
    """As aiodataloader's, but one request's alone: it knows its loop, its keys are their own cache keys, no task waits for
    the turn of a batch, and its batches end with the request that they are of. A dashboard loads a hundred keys."""

    __slots__ = ("_answers", "_batch", "_batches", "_loop", "_waiting")

    def __init__(self, batch: Batch, batches: set[Task[Any]]) -> None:
        """``batches``: those under way are kept there, for whoever ends them."""
        self._loop = get_running_loop()
        self._batch, self._batches = batch, batches
        self._answers: dict[Hashable, Future[Any]] = {}
        self._waiting: list[Any] = []

    def load(self, key: Hashable) -> Future[Any]:
        """What the batch gives for this key; the same for all who ask."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = self._loop.create_future()
            if not self._waiting:
                # As late as can be: whatever is ready to ask by now has asked when the batch begins.
                self._loop.call_soon(self._loop.call_soon, self._begin)
            self._waiting.append(key)
        return answer

    def _begin(self) -> None:
        keys, self._waiting = self._waiting, []
        batch = self._loop.create_task(self._read(keys))
        self._batches.add(batch)
        batch.add_done_callback(self._batches.discard)

    async def _read(self, keys: list[Any]) -> None:
        # The batch may change the list that it is given.
        asked = {key: self._answers[key] for key in keys}
        try:
            values = await self._batch(keys)
            if len(values) != len(asked):
                raise TypeError(f"{len(asked)} keys, {len(values)} values")
        except (
            Exception
        ) as error:  # whatever a batch fails with is the answer to all of it, and who asks again asks anew
            for key, answer in asked.items():
                self._answers.pop(key, None)
                if not answer.done():
                    answer.set_exception(error)
            return
        for answer, value in zip(asked.values(), values, strict=True):
            if answer.done():
                continue
            if isinstance(value, Exception):
                answer.set_exception(value)
            else:
                answer.set_result(value)
