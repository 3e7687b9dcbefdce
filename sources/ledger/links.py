"""The book of links: which record of another system is which account."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, and_, delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, given, storable
from sources.ledger.tables import held, links
from sources.ports.common import Ref
from sources.ports.links import SETTLED, Link, LinkState, LinkTaken

_BY_STAFF = (LinkState.CONFIRMED, LinkState.ABSENT)

_Place = tuple[Ref, str]
"""An account and the other system: where one link stands."""


class Links:
    """Fills LinkStore. Every writer holds its source's lock, so that no two decide about a counterpart at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def links_of(self, accounts: Sequence[Ref], source: str) -> Sequence[Link | None]:
        places = [(ref, source) for ref in accounts]
        known = self._database.memory.recall(places)
        if len(known) < len(places):
            missing = dict.fromkeys(ref for ref, _ in places if (ref, source) not in known)
            if asked := [ref for ref in missing if storable((ref.source, ref.id))]:
                known = {**known, **await self._read(asked, source)}
        return list(map(known.get, places))

    async def _read(self, asked: Sequence[Ref], source: str) -> dict[_Place, Link]:
        begun = self._database.memory.begin()
        rows = given("account_source", "account_id")
        query = select(links).join(
            rows,
            and_(links.c.account_source == rows.c.account_source, links.c.account_id == rows.c.account_id),
        )
        async with self._database.reading() as connection:
            found = await connection.execute(
                query.where(links.c.source == source),
                {"account_source": [ref.source for ref in asked], "account_id": [ref.id for ref in asked]},
            )
        shown = {(link.account, source): _shown(link) for link in map(_stored, found)}
        # What is not settled is matched again, by whoever asks next.
        settled = {place: link for place, link in shown.items() if link.state in SETTLED}
        self._database.memory.keep(begun, settled)
        return shown

    async def accounts_of(self, counterparts: Sequence[Ref]) -> Sequence[Ref | None]:
        async with self._database.reading() as connection:
            holders = await self._claims(connection, counterparts, only_held=True)
        accounts = {link.counterpart: link.account for link in holders}
        return [accounts.get(ref) for ref in counterparts]

    async def record(self, links: Sequence[Link]) -> Sequence[Link]:
        """Raises ValueError for a link that is not what a rule can find.

        Of several links for one account and source the last counts. An account whose match was contested keeps its
        claim until something else is recorded: a later match to the same counterpart is not alone either.
        """
        found = {(link.account, link.source): _checked(link) for link in links}
        if not found:
            return []
        async with self._database.writing(*(_lock(source) for _, source in found)) as connection:
            standing = await self._standing(connection, found)
            kept = {place: link for place, link in standing.items() if link.state in _BY_STAFF}
            fresh = [link for place, link in found.items() if place not in kept]
            claims = await self._claims(connection, [link.counterpart for link in fresh if link.counterpart])
            rivals = [link for link in claims if (link.account, link.source) not in found]
            claimants: defaultdict[Ref | None, set[Ref]] = defaultdict(set)
            for link in (*kept.values(), *fresh, *rivals):
                claimants[link.counterpart].add(link.account)
            shared = {ref for ref, accounts in claimants.items() if ref and len(accounts) > 1}
            demoted = [link for link in rivals if link.state is LinkState.MATCHED]
            written = await self._write(
                connection,
                [_contested(link) if link.counterpart in shared else link for link in (*fresh, *demoted)],
            )
        stands = kept | written
        return [stands[link.account, link.source] for link in links]

    async def listed(
        self,
        states: Sequence[LinkState],
        source: str | None = None,
        after: Link | None = None,
        limit: int = 100,
    ) -> Sequence[Link]:
        place = (links.c.account_source, links.c.account_id, links.c.source)
        query = (
            select(links)
            .where(links.c.state.in_([state.value for state in states]))
            .order_by(*place)
            .limit(limit)
        )
        if source is not None:
            query = query.where(links.c.source == source)
        if after is not None:
            query = query.where(tuple_(*place) > tuple_(after.account.source, after.account.id, after.source))
        async with self._database.reading() as connection:
            return [_shown(_stored(row)) for row in await connection.execute(query)]

    async def confirm(self, account: Ref, counterpart: Ref, by: str) -> Link:
        decided = Link(
            account=account,
            source=counterpart.source,
            state=LinkState.CONFIRMED,
            counterpart=counterpart,
            evidence="confirmed by staff",
            decided_by=by,
        )
        async with self._database.writing(_lock(counterpart.source)) as connection:
            for holder in await self._claims(connection, [counterpart], only_held=True):
                if holder.account != account:
                    raise LinkTaken(f"{counterpart} belongs to {holder.account}: forget that link first")
            return await self._write_one(connection, decided)

    async def declare_absent(self, account: Ref, source: str, by: str) -> Link:
        decided = Link(
            account=account,
            source=source,
            state=LinkState.ABSENT,
            evidence="declared by staff",
            decided_by=by,
        )
        async with self._database.writing(_lock(source)) as connection:
            return await self._write_one(connection, decided)

    async def forget(self, account: Ref, source: str) -> None:
        async with self._database.writing(_lock(source)) as connection:
            await self._erase(connection, [(account, source)])

    async def _standing(self, connection: AsyncConnection, places: Iterable[_Place]) -> dict[_Place, Link]:
        rows = given("account_source", "account_id", "source")
        query = select(links).join(
            rows,
            and_(
                links.c.account_source == rows.c.account_source,
                links.c.account_id == rows.c.account_id,
                links.c.source == rows.c.source,
            ),
        )
        found = map(_stored, await connection.execute(query, _arrays(places)))
        return {(link.account, link.source): link for link in found}

    async def _claims(
        self, connection: AsyncConnection, counterparts: Sequence[Ref], *, only_held: bool = False
    ) -> Sequence[Link]:
        """Every link that names one of the counterparts as its account's own, contested or not."""
        asked = [ref for ref in set(counterparts) if storable((ref.source, ref.id))]
        if not asked:
            return []
        rows = given("source", "id")
        query = select(links).join(
            rows, and_(links.c.source == rows.c.source, links.c.counterpart_id == rows.c.id)
        )
        found = await connection.execute(
            query.where(held) if only_held else query,
            {"source": [ref.source for ref in asked], "id": [ref.id for ref in asked]},
        )
        return [_stored(row) for row in found]

    async def _write(self, connection: AsyncConnection, decided: Sequence[Link]) -> dict[_Place, Link]:
        """Replaces what stands. Erasing first lets two accounts swap their counterparts within one batch."""
        if not decided:
            return {}
        await self._erase(connection, [(link.account, link.source) for link in decided])
        rows = await connection.execute(insert(links).returning(links), [_row(link) for link in decided])
        return {(link.account, link.source): link for link in map(_shown, map(_stored, rows))}

    async def _write_one(self, connection: AsyncConnection, decided: Link) -> Link:
        return (await self._write(connection, [decided]))[decided.account, decided.source]

    async def _erase(self, connection: AsyncConnection, places: Iterable[_Place]) -> None:
        rows = given("account_source", "account_id", "source")
        await connection.execute(
            delete(links).where(
                links.c.account_source == rows.c.account_source,
                links.c.account_id == rows.c.account_id,
                links.c.source == rows.c.source,
            ),
            _arrays(places),
        )


def _lock(source: str) -> str:
    return f"links:{source}"


def _checked(link: Link) -> Link:
    if link.state in _BY_STAFF:
        raise ValueError(f"a rule cannot decide {link.state.value}: staff confirm or declare absent")
    if (link.counterpart is not None) != (link.state is LinkState.MATCHED):
        raise ValueError("a link has a counterpart when it is matched, and only then")
    if any(ref.source != link.source for ref in (*link.candidates, *filter(None, [link.counterpart]))):
        raise ValueError(f"a link to {link.source} names a record of another system")
    return link


def _contested(link: Link) -> Link:
    """What is stored: the counterpart stays as a claim, and only ``_shown`` hides it."""
    assert link.counterpart is not None
    return msgspec.structs.replace(link, state=LinkState.AMBIGUOUS, candidates=(link.counterpart,))


def _shown(link: Link) -> Link:
    if link.state is LinkState.AMBIGUOUS:
        return msgspec.structs.replace(link, counterpart=None)
    return link


def _arrays(places: Iterable[_Place]) -> dict[str, list[str]]:
    asked = list(places)
    return {
        "account_source": [account.source for account, _ in asked],
        "account_id": [account.id for account, _ in asked],
        "source": [source for _, source in asked],
    }


def _row(link: Link) -> dict[str, Any]:
    return {
        "account_source": link.account.source,
        "account_id": link.account.id,
        "source": link.source,
        "state": link.state.value,
        "counterpart_id": link.counterpart.id if link.counterpart else None,
        "evidence": link.evidence,
        "candidates": [ref.id for ref in link.candidates],
        "decided_by": link.decided_by,
    }


def _stored(row: Row[*tuple[Any, ...]]) -> Link:
    return Link(
        account=Ref(row.account_source, row.account_id),
        source=row.source,
        state=LinkState(row.state),
        counterpart=None if row.counterpart_id is None else Ref(row.source, row.counterpart_id),
        evidence=row.evidence,
        candidates=tuple(Ref(row.source, id_) for id_ in row.candidates),
        decided_by=row.decided_by,
        updated_at=row.updated_at,
    )
