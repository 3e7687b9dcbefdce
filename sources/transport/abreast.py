"""Calls made at the same time, for what is asked in more calls than one."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from sources.ports.errors import SourceError

T = TypeVar("T")


async def abreast(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T | SourceError]:
    """What each gives, a SourceError in the place of an answer. Raises whatever else one fails with."""
    made = list(calls)
    if len(made) == 1:  # as for most pages: it needs no task of its own
        try:
            return [await made[0]]
        except SourceError as error:
            return [error]
    settled: list[T | SourceError] = []
    for answer in await asyncio.gather(*made, return_exceptions=True):
        if isinstance(answer, BaseException) and not isinstance(answer, SourceError):
            raise answer
        settled.append(answer)
    return settled
