"""The book of OAuth tokens, one row per connection, refreshed by one process at a time, encrypted at rest."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, failures, lock_key
from sources.ledger.tables import tokens as table
from sources.ledger.token_cipher import TokenCipher
from sources.ports.errors import SourceRejected
from sources.ports.tokens import HeldTokens, Tokens, TokenState

_COLUMNS = [table.c[name] for name in (*Tokens.__struct_fields__, "key_id")]
_SECRET = ("refresh_token", "access_token")


class TokenBook:
    """Fills TokenStore."""

    def __init__(self, database: Database, cipher: TokenCipher) -> None:
        self._database, self._cipher = database, cipher

    def require_key(self, connection: str) -> None:
        self._cipher.require_key(connection)

    async def load(self, connection: str) -> Tokens | None:
        async with self._database.reading(patient=True) as reader:
            row = await _row(reader, connection)
        return None if row is None else _opened(self._cipher, connection, row)

    @asynccontextmanager
    async def hold(self, connection: str) -> AsyncIterator[HeldTokens]:
        """The lock belongs to a database connection of its own and falls with it, so that a killed holder frees it.

        Not a pooled one: were the pool full of waiters, the holder could not save what it got from the vendor. Between
        gateway and PostgreSQL a pooler must keep sessions apart (PgBouncer: session pooling).
        """
        self._cipher.require_key(connection)
        async with self._locked(connection) as session:
            with failures():
                row = await _row(session, connection)
            stored = None if row is None else _opened(self._cipher, connection, row)
            yield _Held(session, connection, stored, self._cipher)

    async def replace(self, connection: str, tokens: Tokens) -> None:
        self._cipher.require_key(connection)
        async with self._locked(connection) as session:
            await _Held(session, connection, None, self._cipher).save(tokens)

    async def states(self) -> Sequence[TokenState]:
        async with self._database.reading(patient=True) as reader:
            found = await reader.execute(select(table.c.connection, *_COLUMNS).order_by(table.c.connection))
            return [self._state(dict(row._mapping)) for row in found]

    async def rotate(self, connection: str) -> None:
        async with self.hold(connection) as held:
            if held.tokens is not None:
                await held.save(held.tokens)

    @asynccontextmanager
    async def _locked(self, connection: str) -> AsyncIterator[AsyncConnection]:
        async with self._database.alone() as session:
            with failures():
                await session.execute(select(func.pg_advisory_lock(lock_key(f"tokens:{connection}"))))
            yield session

    def _state(self, row: Mapping[str, Any]) -> TokenState:
        try:
            _opened(self._cipher, row["connection"], row)
            readable = True
        except SourceRejected:
            readable = False
        key_id = row["key_id"]
        return TokenState(
            connection=row["connection"],
            consent_needed=row["consent_needed"],
            key_id=key_id,
            readable=readable,
            current=key_id is not None and key_id == self._cipher.newest,
        )


class _Held:
    """Fills HeldTokens."""

    def __init__(
        self, session: AsyncConnection, connection: str, tokens: Tokens | None, cipher: TokenCipher
    ) -> None:
        self._session = session
        self._connection = connection
        self._cipher = cipher
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
        row = insert(table).values(connection=self._connection, **self._sealed(tokens))
        replaced = {column.name: row.excluded[column.name] for column in _COLUMNS}
        with failures():
            await self._session.execute(
                row.on_conflict_do_update(
                    index_elements=[table.c.connection],
                    set_={**replaced, "updated_at": func.clock_timestamp()},
                )
            )
        self.tokens = tokens

    def _sealed(self, tokens: Tokens) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(tokens, name) for name in Tokens.__struct_fields__}
        for name in _SECRET:
            if values[name] is not None:
                values[name] = self._cipher.seal(self._connection, name, values[name])
        return {**values, "key_id": self._cipher.newest}


async def _row(reader: AsyncConnection, connection: str) -> Mapping[str, Any] | None:
    found = await reader.execute(select(*_COLUMNS).where(table.c.connection == connection))
    row = found.first()
    return None if row is None else dict(row._mapping)


def _opened(cipher: TokenCipher, connection: str, row: Mapping[str, Any]) -> Tokens:
    values = {name: row[name] for name in Tokens.__struct_fields__}
    if (key_id := row["key_id"]) is not None:
        for name in _SECRET:
            if values[name] is not None:
                values[name] = cipher.open(connection, name, key_id, values[name])
    return Tokens(**values)
