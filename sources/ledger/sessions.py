"""The book of browser sessions. Reads come from memory while every ending would be heard; being seen is no change."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, storable
from sources.ledger.tables import session_logouts as logouts
from sources.ledger.tables import sessions as table
from sources.ledger.tables import sign_ins
from sources.ports.sessions import (
    EndedSession,
    Logout,
    PendingSignIn,
    Replayed,
    SessionRecord,
    SignedOut,
)

SEEN_EVERY = timedelta(minutes=1)
"""How often being there is written down."""

_COLUMNS = [table.c[name] for name in SessionRecord.__struct_fields__]
_PENDING = [sign_ins.c[name] for name in PendingSignIn.__struct_fields__]
_ENDED = [table.c[name] for name in EndedSession.__struct_fields__]


class Sessions:
    """Fills SessionStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, state_hash: str, browser_hash: str, pending: PendingSignIn) -> None:
        row = {"state_hash": state_hash, "browser_hash": browser_hash, **msgspec.structs.asdict(pending)}
        # One statement each, on a connection that empties no memory: nobody remembers sign-ins under way.
        async with self._database.reading() as connection:
            await connection.execute(insert(sign_ins).values(row))

    async def take(self, state_hash: str, browser_hash: str, now: datetime) -> PendingSignIn | None:
        taken = (
            delete(sign_ins)
            .where(sign_ins.c.state_hash == state_hash, sign_ins.c.browser_hash == browser_hash)
            .returning(*_PENDING)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(taken)).first()
        pending = PendingSignIn(**row._mapping) if row else None
        return pending if pending and pending.expires_at > now else None

    async def create(
        self,
        session: SessionRecord,
        secret_hash: str,
        id_token: str,
        *,
        issued_at: datetime,
        replaces: Sequence[str] = (),
        most: int,
    ) -> Sequence[str]:
        row = {**msgspec.structs.asdict(session), "secret_hash": secret_hash, "id_token": id_token}
        async with self._database.writing(_lock(session.issuer)) as connection:
            if await _signed_out(connection, session, issued_at):
                raise SignedOut
            if replaces:
                await connection.execute(delete(table).where(table.c.secret_hash.in_(replaces)))
            others = (
                select(table.c.id)
                .where(table.c.issuer == session.issuer, table.c.subject == session.subject)
                .where(table.c.ends_at > session.created_at)
                .order_by(table.c.created_at.desc(), table.c.id)
                .offset(most - 1)
            )
            beyond = list((await connection.execute(others)).scalars())
            if beyond:
                await connection.execute(delete(table).where(table.c.id.in_(beyond)))
            await connection.execute(insert(table).values(row))
        return beyond

    async def find(
        self, secret_hash: str, *, now: datetime, idle: timedelta, use: bool = True
    ) -> SessionRecord | None:
        memory = self._database.memory
        key = ("session", secret_hash)
        session: SessionRecord | None = memory.recall((key,)).get(key)
        # Another process may have seen it since: what is remembered ages, and is then asked for again.
        if session is None or now - session.last_seen_at >= SEEN_EVERY:
            begun = memory.begin()
            session = await self._read(secret_hash, now, idle, use)
            if session is not None:
                memory.keep(begun, {key: session})
        return session if session is not None and _alive(session, now, idle) else None

    async def _read(
        self, secret_hash: str, now: datetime, idle: timedelta, use: bool
    ) -> SessionRecord | None:
        async with self._database.reading() as connection:
            found = await connection.execute(select(*_COLUMNS).where(table.c.secret_hash == secret_hash))
            row = found.first()
            session = SessionRecord(**row._mapping) if row else None
            if session is None or not _alive(session, now, idle):
                return None
            if use and now - session.last_seen_at >= SEEN_EVERY:
                seen = update(table).where(table.c.id == session.id, table.c.last_seen_at < now)
                await connection.execute(seen.values(last_seen_at=now))
                session = msgspec.structs.replace(session, last_seen_at=now)
            return session

    async def choose(self, session: str, organisation: str | None) -> None:
        async with self._database.writing() as connection:
            await connection.execute(
                update(table).where(table.c.id == session).values(organisation=organisation)
            )

    async def end(self, secret_hash: str) -> EndedSession | None:
        async with self._database.writing() as connection:
            ended = await connection.execute(
                delete(table).where(table.c.secret_hash == secret_hash).returning(*_ENDED)
            )
            row = ended.first()
        return EndedSession(**row._mapping) if row else None

    async def end_of(self, issuer: str, subject: str) -> int:
        if not storable((issuer, subject)):
            return 0
        async with self._database.writing(_lock(issuer)) as connection:
            ended = await connection.execute(
                delete(table).where(table.c.issuer == issuer, table.c.subject == subject)
            )
        return ended.rowcount

    async def sign_out(self, logout: Logout) -> int:
        async with self._database.writing(_lock(logout.issuer)) as connection:
            noted = await connection.execute(
                upsert(logouts)
                .values(msgspec.structs.asdict(logout))
                .on_conflict_do_nothing()
                .returning(logouts.c.id)
            )
            if noted.first() is None:
                raise Replayed
            meant = [table.c.issuer == logout.issuer]
            if logout.sub is not None:
                meant.append(table.c.sub == logout.sub)
            if logout.sid is not None:
                meant.append(table.c.sid == logout.sid)
            ended = await connection.execute(delete(table).where(*meant))
        return ended.rowcount

    async def sign_out_of(self, issuer: str, sid: str) -> int:
        if not storable((issuer, sid)):
            return 0
        async with self._database.writing(_lock(issuer)) as connection:
            ended = await connection.execute(
                delete(table).where(table.c.issuer == issuer, table.c.sid == sid)
            )
        return ended.rowcount

    async def sweep(self, now: datetime, idle: timedelta) -> int:
        async with self._database.reading(patient=True) as connection:
            ended = await connection.execute(
                delete(table).where(or_(table.c.ends_at <= now, table.c.last_seen_at <= now - idle))
            )
            await connection.execute(delete(sign_ins).where(sign_ins.c.expires_at <= now))
            await connection.execute(delete(logouts).where(logouts.c.remembered_until <= now))
        return ended.rowcount

    async def listed(
        self, now: datetime, idle: timedelta, after: str | None = None, limit: int = 100
    ) -> Sequence[SessionRecord]:
        query = (
            select(*_COLUMNS)
            .where(table.c.ends_at > now, table.c.last_seen_at > now - idle, table.c.id > (after or ""))
            .order_by(table.c.id)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [SessionRecord(**row._mapping) for row in await connection.execute(query)]


def _lock(issuer: str) -> str:
    """Of one issuer's beginnings and endings: a session has begun before a logout, which then ends it, or learns of it."""
    return f"sessions:{issuer}"


def _alive(session: SessionRecord, now: datetime, idle: timedelta) -> bool:
    return now < session.ends_at and now - session.last_seen_at < idle


async def _signed_out(connection: AsyncConnection, session: SessionRecord, issued_at: datetime) -> bool:
    """Has the provider said so after it gave the ID token?"""
    logged_out = select(logouts.c.id).where(
        logouts.c.issuer == session.issuer,
        logouts.c.issued_at >= issued_at,
        or_(logouts.c.sub.is_(None), logouts.c.sub == session.sub),
        or_(logouts.c.sid.is_(None), logouts.c.sid == session.sid),
    )
    return (await connection.execute(logged_out.limit(1))).first() is not None
