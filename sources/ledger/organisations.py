"""The book of organisations: the portal's customers and their accounts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select
from sqlalchemy import literal_column as sql
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.selectable import TableValuedAlias

from sources.ledger.database import Database, given, storable
from sources.ledger.tables import organisation_accounts, organisations
from sources.ports.common import Ref
from sources.ports.members import AccountTaken, OrganisationRecord

_accounts = (
    select(
        func.coalesce(
            func.jsonb_agg(
                aggregate_order_by(
                    func.jsonb_build_array(
                        organisation_accounts.c.account_source, organisation_accounts.c.account_id
                    ),
                    organisation_accounts.c.position,
                )
            ),
            sql("'[]'::jsonb"),
        )
    )
    .where(organisation_accounts.c.organisation_id == organisations.c.id)
    .scalar_subquery()
)

_organisations = select(organisations.c.id, organisations.c.name, _accounts.label("accounts"))


class Organisations:
    """Fills OrganisationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def state(self) -> int | None:
        return self._database.memory.state()

    async def organisations(self, ids: Sequence[str]) -> Sequence[OrganisationRecord | None]:
        memory = self._database.memory
        known = memory.recall(ids)
        if len(known) == len(ids):
            return list(map(known.__getitem__, ids))
        asked = [id_ for id_ in dict.fromkeys(ids) if id_ not in known and storable([id_])]
        if not asked:
            return [known.get(id_) for id_ in ids]
        begun = memory.begin()
        rows = given("id")
        query = _organisations.join(rows, organisations.c.id == rows.c.id)
        async with self._database.reading() as connection:
            found = await connection.execute(query, {"id": asked})
        read = {row.id: _organisation(row) for row in found}
        memory.keep(begun, read)
        known = {**known, **read}
        return [known.get(id_) for id_ in ids]

    async def holders_of(self, accounts: Sequence[Ref]) -> Sequence[str | None]:
        asked = [ref for ref in dict.fromkeys(accounts) if storable((ref.source, ref.id))]
        if not asked:
            return [None] * len(accounts)
        rows = given("account_source", "account_id")
        query = select(organisation_accounts).join(rows, _same_account(rows))
        async with self._database.reading() as connection:
            found = await connection.execute(query, _arrays(asked))
        holders = {Ref(row.account_source, row.account_id): row.organisation_id for row in found}
        return [holders.get(ref) for ref in accounts]

    async def save(self, organisation: OrganisationRecord) -> None:
        accounts = list(dict.fromkeys(organisation.accounts))
        rows = given("account_source", "account_id")
        taken = (
            select(organisation_accounts.c.account_source, organisation_accounts.c.account_id)
            .join(rows, _same_account(rows))
            .where(organisation_accounts.c.organisation_id != organisation.id)
            .limit(1)
        )
        async with self._database.writing("organisations") as connection:
            others = await connection.execute(taken, _arrays(accounts))
            if other := others.first():
                raise AccountTaken(
                    f"{Ref(*other)} belongs to another organisation: take it from that one first"
                )
            named = upsert(organisations).values(id=organisation.id, name=organisation.name)
            await connection.execute(
                named.on_conflict_do_update(
                    index_elements=[organisations.c.id],
                    set_={"name": named.excluded.name, "updated_at": func.clock_timestamp()},
                )
            )
            await connection.execute(
                delete(organisation_accounts).where(
                    organisation_accounts.c.organisation_id == organisation.id
                )
            )
            if accounts:
                await connection.execute(
                    insert(organisation_accounts),
                    [
                        {
                            "account_source": ref.source,
                            "account_id": ref.id,
                            "organisation_id": organisation.id,
                            "position": position,
                        }
                        for position, ref in enumerate(accounts)
                    ],
                )

    async def listed(self, after: str | None = None, limit: int = 100) -> Sequence[OrganisationRecord]:
        query = _organisations.order_by(organisations.c.id).limit(limit)
        if after is not None:
            query = query.where(organisations.c.id > after)
        async with self._database.reading() as connection:
            return [_organisation(row) for row in await connection.execute(query)]


def _same_account(rows: TableValuedAlias) -> ColumnElement[bool]:
    return and_(
        organisation_accounts.c.account_source == rows.c.account_source,
        organisation_accounts.c.account_id == rows.c.account_id,
    )


def _arrays(accounts: Sequence[Ref]) -> dict[str, list[str]]:
    return {
        "account_source": [ref.source for ref in accounts],
        "account_id": [ref.id for ref in accounts],
    }


def _organisation(row: Row[*tuple[Any, ...]]) -> OrganisationRecord:
    return OrganisationRecord(id=row.id, name=row.name, accounts=tuple(Ref(*pair) for pair in row.accounts))
