"""Passes on what the ledger's one listening connection hears to all in this process who wait for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sources.ports.changes import Change


class Changes:
    """Fills ChangeFeed. Told by the memory, which listens for all."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._heard = False

    @property
    def heard(self) -> bool:
        return self._heard

    @contextmanager
    def listen(self, *books: str) -> Iterator["_Listener"]:
        listener = _Listener(frozenset(books))
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def tell(self, book: str) -> None:
        """This table has changed."""
        for listener in self._listeners:
            listener.tell(book)

    def hear(self, heard: bool) -> None:
        """From now on changes are told, or not told. Both times some may have been missed."""
        self._heard = heard
        for listener in self._listeners:
            listener.doubt()


class _Listener:
    """Fills Listener: the books that changed are a set, so that it never grows beyond those listened for."""

    def __init__(self, books: frozenset[str]) -> None:
        self._books = books
        self._changed: set[str] = set()
        self._unsure = False
        self._happened = asyncio.Event()

    async def change(self) -> Change:
        await self._happened.wait()
        change = Change(self._books if self._unsure else frozenset(self._changed), self._unsure)
        self._changed.clear()
        self._unsure = False
        self._happened.clear()
        return change

    def tell(self, book: str) -> None:
        if book in self._books:
            self._changed.add(book)
            self._happened.set()

    def doubt(self) -> None:
        self._unsure = True
        self._happened.set()
