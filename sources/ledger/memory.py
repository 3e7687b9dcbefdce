"""What was read from the books and has not changed since, by PostgreSQL's own word.

Every change of a book, whoever makes it, sends a notification (a trigger of revision 0002). While a process listens it may
answer from memory; as soon as it cannot be sure that it would hear of a change, it forgets everything and reads again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg
import structlog

from sources.ledger.changes import Changes

K = TypeVar("K")

CHANNEL = "gateway_ledger"
HEARTBEAT_SECONDS = 2.0
HEARTBEAT_PATIENCE_SECONDS = 1.0
"""How often a silent connection is asked whether it still hears, and how long it may take to say so: a change may go
unheard for their sum where the network swallows packets without a word. Sockets of people who were removed are to be
closed within five seconds."""
RETRY_SECONDS = 1.0
MOST = 100_000
"""Entries; more are forgotten all at once."""

log = structlog.get_logger()

Hear = Callable[[str | None], None]
"""Takes what was sent; None: something may have gone unheard."""

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


class Memory:
    """Entries by any key. Empty, and kept empty, until ``watch`` listens."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}
        self._changes = 0
        self._listening = False
        self.feed = Changes()
        self._others: dict[str, Hear] = {}
        self._task: asyncio.Task[None] | None = None

    def hear_also(self, channel: str, hear: Hear) -> None:
        """What is sent on another channel, from the next ``watch`` on."""
        self._others[channel] = hear

    def recall(self, keys: Iterable[K]) -> Mapping[K, Any]:
        """Those that are known, which may have the value None."""
        kept = self._kept
        return {key: kept[key] for key in keys if key in kept}

    def state(self) -> int | None:
        """The same as before as long as nothing has changed. None: a change may go unheard now."""
        return self._changes if self._listening else None

    def begin(self) -> int:
        """To be taken before a read whose result is to be kept."""
        return self._changes

    def keep(self, begun: int, entries: Mapping[Any, Any]) -> None:
        """Unless something has changed since ``begun``, or nobody listens."""
        if self._listening and begun == self._changes:
            if len(self._kept) + len(entries) > MOST:
                self._kept.clear()
            self._kept.update(entries)

    def forget(self) -> None:
        """Something has changed, or may have."""
        self._changes += 1
        self._kept.clear()

    def watch(self, connect: Connect) -> None:
        """Listens in the background, on a connection of its own, until ``close``."""
        self._task = asyncio.create_task(self._watch(connect), name="ledger-memory")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _watch(self, connect: Connect) -> None:
        while True:
            try:
                await self._listen(await connect())
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("ledger_not_heard", reason=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            for channel, hear in self._others.items():
                await connection.add_listener(channel, lambda _c, _p, _n, text, hear=hear: hear(str(text)))
                hear(None)
            await connection.add_listener(CHANNEL, self._heard)
            # From here on every change is heard; what changed before is read afresh.
            self._listening = True
            self.feed.hear(True)
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT 1", timeout=HEARTBEAT_PATIENCE_SECONDS)
        finally:
            self._listening = False
            self.forget()
            self.feed.hear(False)
            connection.terminate()

    def _heard(self, connection: Any, process: int, channel: str, book: str) -> None:
        # In this order: whoever is told reads again at once.
        self.forget()
        self.feed.tell(book)
