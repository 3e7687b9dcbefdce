"""Connections to the ledger's PostgreSQL, its locks, and what its failures are called."""

import asyncio
import contextlib
import hashlib
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import NamedTuple, cast

import asyncpg
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.sql.selectable import TableValuedAlias

from sources.ledger.memory import Connect, Memory
from sources.ports.errors import SourceRejected, SourceTimeout, SourceUnavailable
from sources.ports.trace import UNSEEN, Span, here, span

NAME = "ledger"
"""What errors call the database."""

CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 10.0

_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+asyncpg)?://")

_UNSTORABLE = re.compile("[\\0\ud800-\udfff]")

_REFUSED = ("28", "3D")
"""PostgreSQL's error classes for a wrong user or password and for an unknown database (its manual, appendix A)."""

_BUSY = ("08", "53", "57P", "55000")
"""Its classes for a broken connection, for too many of them, and for starting, stopping or being stopped; and its code for
a database that an operator lets nobody into."""

_SESSION = {
    "application_name": "backoffice-gateway",
    # A holder whose machine vanished must not keep its locks for the system's two hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    # What a method calls durable is on disk, whatever the server's default.
    "synchronous_commit": "on",
}


class Connections(NamedTuple):
    """How many there are to the database."""

    busy: int
    idle: int


class Database:
    """One PostgreSQL database: a pool for short work, connections of their own for work that holds one long.

    ``patience`` gives the seconds that the caller still has; short work takes no longer.
    """

    def __init__(self, database_url: str, patience: Callable[[], float] = lambda: COMMAND_SECONDS) -> None:
        if not _SCHEME.match(database_url):
            raise ValueError(f"{NAME}: database_url must begin with postgresql://")
        self._dsn = _SCHEME.sub("postgresql://", database_url)
        self._goodbyes: set[asyncio.Task[None]] = set()
        self.memory = Memory()
        self._patience = patience
        self._pool = self._engine(COMMAND_SECONDS, pooled=True)
        self._alone = self._engine(COMMAND_SECONDS, pooled=False)
        self._patient = self._engine(None, pooled=False)

    async def close(self) -> None:
        await self.memory.close()
        await self._pool.dispose()
        await asyncio.gather(*self._goodbyes, return_exceptions=True)

    @property
    def connections(self) -> Connections:
        """Of the pool: those for work that holds one long are not in it."""
        pool = cast(QueuePool, self._pool.pool)
        return Connections(pool.checkedout(), pool.checkedin())

    def watch(self) -> None:
        """From now on reads may be answered from memory."""
        self.memory.watch(self._connector(COMMAND_SECONDS))

    @asynccontextmanager
    async def reading(self, *, patient: bool = False) -> AsyncIterator[AsyncConnection]:
        """A pooled connection without a transaction: each statement stands alone, one round trip. ``patient`` is for
        work that outlives who asked for it."""
        with _seen("read"), failures():
            async with (
                asyncio.timeout(None if patient else self._patience()),
                self._pool.connect() as connection,
            ):
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def writing(
        self, *locks: str, patient: bool = False, forgets: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the named locks against every other process. ``patient`` waits without end, for the
        locks and for every statement, on a connection outside the pool. Inside ``together`` it is a part of the larger
        one, which its failure leaves as it was before. ``forgets``: it may change what is answered from memory."""
        whole = _whole.get()
        if whole is not None and whole.belongs_to(self) and not patient:
            with failures():
                async with whole.connection.begin_nested():
                    await _lock(whole.connection, locks)
                    yield whole.connection
            return
        with _seen("write"), failures():
            async with (
                asyncio.timeout(None if patient else self._patience()),
                (self._patient if patient else self._pool).begin() as connection,
            ):
                await _lock(connection, locks)
                yield connection
        if forgets:
            # The notification of one's own change may come after one's own next read.
            self.memory.forget()

    @asynccontextmanager
    async def together(self, *locks: str) -> AsyncIterator[AsyncConnection]:
        """A transaction that every ``writing`` of the same task joins: all of it is stored, or nothing. Reads inside see
        what was there before."""
        async with self.writing(*locks) as connection:
            joined = _whole.set(_Whole(self, connection, asyncio.current_task()))
            try:
                yield connection
            finally:
                _whole.reset(joined)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside the pool, without a transaction, closed at the end: to hold a lock while something slow
        happens. What the body raises stays as it is: it may be another system's failure."""
        with failures():
            connection = await self._alone.connect()
        try:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            await connection.close()

    def patience(self) -> float:
        """The seconds that whoever asks still has."""
        return self._patience()

    async def driver(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection without SQLAlchemy, which the asker closes. Inside ``failures``."""
        return await self._connector(COMMAND_SECONDS)()

    def _connector(self, command_seconds: float | None) -> Connect:
        # asyncpg reads the address itself: it knows libpq's spellings (sslmode, passfile, several hosts, sockets).
        async def connect() -> "asyncpg.Connection[asyncpg.Record]":
            connection: _Connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_SECONDS,
                command_timeout=command_seconds,
                server_settings=_SESSION,
                connection_class=_Connection,
            )
            connection.goodbyes = self._goodbyes
            return connection

        return connect

    def _engine(self, command_seconds: float | None, *, pooled: bool) -> AsyncEngine:
        connect = self._connector(command_seconds)
        # Error texts reach logs: they must not carry tokens.
        address = "postgresql+asyncpg://"
        if not pooled:
            return create_async_engine(
                address, async_creator=connect, hide_parameters=True, poolclass=NullPool
            )
        return create_async_engine(
            address,
            async_creator=connect,
            hide_parameters=True,
            pool_size=5,
            max_overflow=10,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
        )


class _Connection(asyncpg.Connection):  # type: ignore[misc] # it comes without types
    """Nobody waits for the goodbye of one that is let go of in the middle of something: a database that does not answer
    does not answer that either, and SQLAlchemy gives it two seconds, which would be the request's beyond its deadline."""

    goodbyes: set[asyncio.Task[None]]
    """Those under way."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        if timeout is None:
            with suppress(TimeoutError):  # then it is closed without
                await super().close(timeout=CONNECT_SECONDS)
            return
        goodbye = asyncio.create_task(super().close(timeout=timeout))
        self.goodbyes.add(goodbye)
        goodbye.add_done_callback(self._closed)

    def _closed(self, goodbye: asyncio.Task[None]) -> None:
        self.goodbyes.discard(goodbye)
        if not goodbye.cancelled():
            goodbye.exception()  # it is closed in any case


class _Whole:
    """The transaction that ``together`` has open."""

    def __init__(
        self, database: Database, connection: AsyncConnection, task: asyncio.Task[object] | None
    ) -> None:
        self._database, self.connection, self._task = database, connection, task

    def belongs_to(self, database: Database) -> bool:
        """Tasks that are started inside inherit the variable; their writes are their own."""
        return database is self._database and asyncio.current_task() is self._task


_whole: ContextVar[_Whole | None] = ContextVar("whole", default=None)


def _seen(what: str) -> Span:
    """The work as a trace tells of it: by the part of the ledger that does it, which is only found where somebody looks."""
    if here() is None:
        return UNSEEN
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename in _BETWEEN:
        frame = frame.f_back
    return span(
        "ledger", f"{what} {frame.f_code.co_qualname.partition('.')[0]}" if frame is not None else what
    )


_BETWEEN = frozenset({__file__, contextlib.__file__})


async def _lock(connection: AsyncConnection, names: Iterable[str]) -> None:
    # In one order everywhere, so that two writers never wait for each other.
    for key in sorted(lock_key(name) for name in set(names)):
        await connection.execute(select(func.pg_advisory_xact_lock(key)))


def lock_key(name: str) -> int:
    """The number under which PostgreSQL's advisory locks know a name: 64 bits, so that two names do not meet."""
    return int.from_bytes(
        hashlib.blake2b(f"backoffice-gateway:{name}".encode(), digest_size=8).digest(), signed=True
    )


def given(*columns: str) -> TableValuedAlias:
    """Rows that come with the query: one array parameter per column, named like it."""
    arrays = [bindparam(name, type_=ARRAY(Text)) for name in columns]
    return func.unnest(*arrays).table_valued(*columns, name="given").render_derived()


def storable(texts: Iterable[str]) -> bool:
    """Can PostgreSQL hold them? What it cannot hold, a zero byte or half a character, is certainly not there."""
    return not any(map(_UNSTORABLE.search, texts))


@contextmanager
def failures() -> Iterator[None]:
    """Names what the database's failures mean to the caller; mistakes in our SQL stay what they are."""
    try:
        yield
    except NoFreeConnection as error:
        raise SourceTimeout(
            NAME, "no free database connection; raise the number of gateway processes"
        ) from error
    except TimeoutError as error:
        raise SourceTimeout(NAME, "the database did not answer in time") from error
    except OSError as error:
        raise SourceUnavailable(NAME, "the database is unreachable; check database_url") from error
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        by_alchemy = isinstance(error, DBAPIError)
        code = str(getattr(error.orig if by_alchemy else error, "sqlstate", None) or "")
        broken = error.connection_invalidated if by_alchemy else isinstance(error, asyncpg.InterfaceError)
        if code.startswith(_REFUSED):
            raise SourceRejected(
                NAME, "the database refuses the connection; check database_url", vendor_code=code
            ) from error
        if broken or code.startswith(_BUSY):
            raise SourceUnavailable(
                NAME, "the database has closed or cannot take connections", vendor_code=code or None
            ) from error
        raise
