"""The book of service accounts and their API keys."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, func, insert, select, update
from sqlalchemy import delete as erase
from sqlalchemy.dialects.postgresql import insert as upsert

from sources.ledger.database import Database, given, storable
from sources.ledger.tables import api_key_uses, api_keys, organisations, service_accounts
from sources.ports.service_accounts import (
    MOST_ACCOUNTS,
    MOST_KEYS,
    ApiKeyRecord,
    KnownKey,
    ServiceAccountRecord,
)
from sources.ports.writing import Refusal, WriteRefused

_keys = select(
    *(column for column in api_keys.c if column.name != "digest"), api_key_uses.c.used_at
).outerjoin(api_key_uses, api_key_uses.c.key_id == api_keys.c.id)


class ServiceAccounts:
    """Fills ServiceAccountStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remembered(self, key: str) -> KnownKey | None:
        place = ("api-key", key)
        return self._database.memory.recall((place,)).get(place)

    async def known(self, keys: Sequence[str]) -> Sequence[KnownKey | None]:
        memory = self._database.memory
        remembered = dict(memory.recall(("api-key", key) for key in keys))
        asked = [key for key in dict.fromkeys(keys) if ("api-key", key) not in remembered and storable([key])]
        if asked:
            begun = memory.begin()
            rows = given("id")
            query = (
                select(api_keys, *_account_columns())
                .join(service_accounts, service_accounts.c.id == api_keys.c.account_id)
                .join(rows, rows.c.id == api_keys.c.id)
            )
            async with self._database.reading() as connection:
                found = await connection.execute(query, {"id": asked})
            read = {("api-key", row.id): _known(row) for row in found}
            # Only keys that exist: made-up ones would fill the memory.
            memory.keep(begun, read)
            remembered |= read
        return [remembered.get(("api-key", key)) for key in keys]

    async def accounts_of(self, organisation: str | None) -> Sequence[ServiceAccountRecord]:
        query = (
            select(service_accounts)
            .where(_of(organisation))
            .order_by(service_accounts.c.name, service_accounts.c.id)
        )
        async with self._database.reading() as connection:
            return [_account(row) for row in await connection.execute(query)]

    async def account(self, organisation: str | None, account: str) -> ServiceAccountRecord | None:
        if not storable([account]):
            return None
        query = select(service_accounts).where(_of(organisation), service_accounts.c.id == account)
        # On the connection of the larger transaction, if there is one: waiting for another would hold up all who wait.
        async with self._database.writing() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _account(row)

    async def keys_of(self, accounts: Sequence[str]) -> Sequence[Sequence[ApiKeyRecord]]:
        rows = given("id")
        query = _keys.join(rows, rows.c.id == api_keys.c.account_id).order_by(
            api_keys.c.created_at.desc(), api_keys.c.id
        )
        held: defaultdict[str, list[ApiKeyRecord]] = defaultdict(list)
        async with self._database.reading() as connection:
            for row in await connection.execute(query, {"id": list(set(accounts))}):
                held[row.account_id].append(_key(row))
        return [held.get(account, []) for account in accounts]

    async def key(self, organisation: str | None, key: str) -> ApiKeyRecord | None:
        if not storable([key]):
            return None
        query = (
            _keys.join(service_accounts, service_accounts.c.id == api_keys.c.account_id)
            .where(_of(organisation))
            .where(api_keys.c.id == key)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _key(row)

    async def create(self, account: ServiceAccountRecord) -> None:
        async with self._database.writing(_lock(account.organisation)) as connection:
            if account.organisation is not None:
                there = select(organisations.c.id).where(organisations.c.id == account.organisation)
                if (await connection.execute(there.with_for_update(key_share=True))).first() is None:
                    raise WriteRefused(Refusal.NOT_FOUND, "there is no such organisation")
            count = select(func.count()).select_from(service_accounts).where(_of(account.organisation))
            if (await connection.execute(count)).scalar_one() >= MOST_ACCOUNTS:
                raise WriteRefused(
                    Refusal.TOO_MANY, f"there are {MOST_ACCOUNTS} service accounts; remove one first"
                )
            row = msgspec.structs.asdict(account) | {"scopes": list(account.scopes)}
            row["organisation_id"] = row.pop("organisation")
            await connection.execute(insert(service_accounts), [row])

    async def create_key(self, organisation: str | None, key: ApiKeyRecord, digest: bytes) -> None:
        async with self._database.writing(_lock(organisation)) as connection:
            there = select(service_accounts.c.id).where(
                _of(organisation), service_accounts.c.id == key.account
            )
            if not storable([key.account]) or (await connection.execute(there)).first() is None:
                raise _no_account()
            live = (
                select(func.count())
                .select_from(api_keys)
                .where(api_keys.c.account_id == key.account, api_keys.c.revoked_at.is_(None))
                .where(api_keys.c.expires_at > key.created_at)
            )
            if (await connection.execute(live)).scalar_one() >= MOST_KEYS:
                raise WriteRefused(
                    Refusal.TOO_MANY,
                    f"the service account has {MOST_KEYS} keys; revoke one first",
                    "serviceAccountId",
                )
            row = {
                "id": key.id,
                "account_id": key.account,
                "name": key.name,
                "digest": digest,
                "scopes": list(key.scopes),
                "created_at": key.created_at,
                "created_by": key.created_by,
                "expires_at": key.expires_at,
            }
            await connection.execute(insert(api_keys), [row])

    async def revoke(self, organisation: str | None, key: str, at: datetime) -> None:
        own = select(service_accounts.c.id).where(_of(organisation))
        change = (
            update(api_keys)
            .where(api_keys.c.id == key, api_keys.c.account_id.in_(own))
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, at))
            .returning(api_keys.c.id)
        )
        async with self._database.writing() as connection:
            if not storable([key]) or (await connection.execute(change)).first() is None:
                raise WriteRefused(Refusal.NOT_FOUND, "there is no such API key", "apiKeyId")

    async def remove(self, organisation: str | None, account: str) -> None:
        gone = (
            erase(service_accounts)
            .where(_of(organisation), service_accounts.c.id == account)
            .returning(service_accounts.c.id)
        )
        async with self._database.writing(_lock(organisation)) as connection:
            if not storable([account]) or (await connection.execute(gone)).first() is None:
                raise _no_account()

    async def used(self, uses: Mapping[str, datetime]) -> None:
        held = select(api_keys.c.id).where(api_keys.c.id.in_(uses))
        # Not a change of the books: ``writing`` would make this process forget them.
        async with self._database.reading(patient=True) as connection:
            there = set((await connection.execute(held)).scalars())
            rows = [{"key_id": key, "used_at": at} for key, at in uses.items() if key in there]
            if not rows:
                return
            row = upsert(api_key_uses)
            later = row.on_conflict_do_update(
                index_elements=[api_key_uses.c.key_id],
                set_={"used_at": row.excluded.used_at},
                where=row.excluded.used_at > api_key_uses.c.used_at,
            )
            await connection.execute(later, rows)


def _no_account() -> WriteRefused:
    return WriteRefused(Refusal.NOT_FOUND, "there is no such service account", "serviceAccountId")


def _lock(organisation: str | None) -> str:
    return f"service-accounts:{organisation or ''}"


def _of(organisation: str | None) -> ColumnElement[bool]:
    column = service_accounts.c.organisation_id
    return column.is_(None) if organisation is None else column == organisation


def _account_columns() -> list[ColumnElement[Any]]:
    return [column.label(f"account_{column.name}") for column in service_accounts.c if column.name != "id"]


def _known(row: Row[*tuple[Any, ...]]) -> KnownKey:
    account = ServiceAccountRecord(
        id=row.account_id,
        organisation=row.account_organisation_id,
        name=row.account_name,
        scopes=tuple(row.account_scopes),
        created_at=row.account_created_at,
        created_by=row.account_created_by,
    )
    return KnownKey(account, _key(row), row.digest)


def _account(row: Row[*tuple[Any, ...]]) -> ServiceAccountRecord:
    return ServiceAccountRecord(
        id=row.id,
        organisation=row.organisation_id,
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        created_by=row.created_by,
    )


def _key(row: Row[*tuple[Any, ...]]) -> ApiKeyRecord:
    return ApiKeyRecord(
        id=row.id,
        account=row.account_id,
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=getattr(row, "used_at", None),
    )
