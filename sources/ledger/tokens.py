"""The book of OAuth tokens, one row per connection, refreshed by one process at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, failures, lock_key
from sources.ledger.tables import tokens as table
from sources.ports.tokens import HeldTokens, Tokens

_COLUMNS = [table.c[name] for name in Tokens.__struct_fields__]


class TokenBook:
    """Fills TokenStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, connection: str) -> Tokens | None:
        async with self._database.reading(patient=True) as reader:
            return await _stored(reader, connection)

    @asynccontextmanager
    async def hold(self, connection: str) -> AsyncIterator[HeldTokens]:
        """The lock belongs to a database connection of its own and falls with it, so that a killed holder frees it.

        Not a pooled one: were the pool full of waiters, the holder could not save what it got from the vendor. Between
        gateway and PostgreSQL a pooler must keep sessions apart (PgBouncer: session pooling).
        """
        async with self._database.alone() as session:
            with failures():
                await session.execute(select(func.pg_advisory_lock(lock_key(f"tokens:{connection}"))))
                stored = await _stored(session, connection)
            yield _Held(session, connection, stored)


class _Held:
    """Fills HeldTokens."""

    def __init__(self, session: AsyncConnection, connection: str, tokens: Tokens | None) -> None:
        self._session = session
        self._connection = connection
        self.tokens = tokens

    async def save(self, tokens: Tokens) -> None:
        """Ends even when the asker goes away meanwhile: the vendor has already spent the former refresh token."""
        writing = asyncio.ensure_future(self._write(tokens))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    async def _write(self, tokens: Tokens) -> None:
        row = insert(table).values(connection=self._connection, **msgspec.structs.asdict(tokens))
        replaced = {column.name: row.excluded[column.name] for column in _COLUMNS}
        with failures():
            await self._session.execute(
                row.on_conflict_do_update(
                    index_elements=[table.c.connection],
                    set_={**replaced, "updated_at": func.clock_timestamp()},
                )
            )
        self.tokens = tokens


async def _stored(reader: AsyncConnection, connection: str) -> Tokens | None:
    found = await reader.execute(select(*_COLUMNS).where(table.c.connection == connection))
    row = found.first()
    return None if row is None else Tokens(**row._mapping)
