"""The book of what directories have provisioned: users, who are members, and groups, which give them roles."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unicodedata import normalize

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, given, storable
from sources.ledger.members import Members, insert_member, member_of, revoke_made_by
from sources.ledger.tables import directory_group_members as belonging
from sources.ledger.tables import directory_groups as groups
from sources.ledger.tables import directory_users as users
from sources.ledger.tables import members
from sources.ports.directory import (
    DirectoryBook,
    DirectoryGroup,
    DirectoryUser,
    GroupTaken,
    Named,
    NoSuchUser,
    Place,
    Rules,
    UserTaken,
)
from sources.ports.members import MemberRecord


def _pairs(id_: ColumnElement[Any], name: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.jsonb_agg(aggregate_order_by(func.jsonb_build_array(id_, name), id_))


_groups_of_user = (
    select(_pairs(groups.c.id, groups.c.display_name))
    .join(belonging, belonging.c.group_id == groups.c.id)
    .where(belonging.c.member_id == users.c.member_id)
    .correlate(users)
    .scalar_subquery()
)
_members_of_group = (
    select(_pairs(users.c.member_id, users.c.user_name))
    .join(belonging, belonging.c.member_id == users.c.member_id)
    .where(belonging.c.group_id == groups.c.id)
    .correlate(groups)
    .scalar_subquery()
)
_users = select(
    users,
    members.c.name,
    members.c.email,
    members.c.active,
    members.c.external_id,
    members.c.created_at,
    _groups_of_user.label("groups"),
).join(members, members.c.id == users.c.member_id)
_groups = select(groups, _members_of_group.label("members"))


class Directory:
    """Fills DirectoryStore."""

    def __init__(self, database: Database, members: Members) -> None:
        self._database = database
        self._members = members

    async def users(self, organisation: str, place: Place) -> tuple[Sequence[DirectoryUser], int]:
        query = _users.where(users.c.organisation_id == organisation)
        if place.id is not None:
            query = query.where(users.c.member_id == place.id)
        if place.name is not None:
            query = query.where(users.c.name_key == _name_key(place.name))
        if place.external_id is not None:
            query = query.where(members.c.external_id == place.external_id)
        rows, total = await self._slice(organisation, query, users.c.member_id, place)
        return [_user(row) for row in rows], total

    async def groups(self, organisation: str, place: Place) -> tuple[Sequence[DirectoryGroup], int]:
        query = _groups.where(groups.c.organisation_id == organisation)
        if place.id is not None:
            query = query.where(groups.c.id == place.id)
        if place.name is not None:
            query = query.where(groups.c.name_key == _name_key(place.name))
        if place.external_id is not None:
            query = query.where(groups.c.external_id == place.external_id)
        rows, total = await self._slice(organisation, query, groups.c.id, place)
        return [_group(row) for row in rows], total

    async def _slice(
        self, organisation: str, query: Select[Any], id_: ColumnElement[str], place: Place
    ) -> tuple[Sequence[Row[Any]], int]:
        asked = [text for text in (organisation, place.id, place.name, place.external_id) if text is not None]
        if not storable(asked):
            return (), 0
        count = select(func.count()).select_from(query.with_only_columns(id_).subquery())
        page = query.order_by(id_).offset(place.offset).limit(place.limit)
        async with self._database.reading() as connection:
            rows = (await connection.execute(page)).all()
            whole = place.offset == 0 and (place.limit is None or len(rows) < place.limit)
            return rows, len(rows) if whole else (await connection.execute(count)).scalar_one()

    @asynccontextmanager
    async def changing(self, organisation: str, issuer: str, rules: Rules) -> AsyncIterator[DirectoryBook]:
        async with self._members.changing(organisation, rules.owner) as connection:
            yield _Book(connection, organisation, issuer, rules)


class _Book:
    """Fills DirectoryBook. The organisation's lock is held, so what is looked up here stays true until the end."""

    def __init__(self, connection: AsyncConnection, organisation: str, issuer: str, rules: Rules) -> None:
        self._connection = connection
        self._organisation = organisation
        self._issuer = issuer
        self._rules = rules

    async def user(self, member: str) -> DirectoryUser | None:
        row = await self._row(_users, users, users.c.member_id, member)
        return None if row is None else _user(row)

    async def group(self, group: str) -> DirectoryGroup | None:
        row = await self._row(_groups, groups, groups.c.id, group)
        return None if row is None else _group(row)

    async def add_user(self, user: DirectoryUser) -> DirectoryUser:
        await self._refuse_taken(user)
        member = await self._to_adopt(user)
        if member is None:
            member = user.id
            new = MemberRecord(
                id=user.id,
                organisation=self._organisation,
                roles=(),
                created_at=user.created_at,
                issuer=self._issuer,
            )
            await insert_member(self._connection, new)
        row = self._user_row(user) | {
            "member_id": member,
            "organisation_id": self._organisation,
            "given_roles": [],
        }
        await self._connection.execute(insert(users), [row])
        return await self._written(member, user)

    async def save_user(self, user: DirectoryUser) -> DirectoryUser:
        await self._refuse_taken(user)
        await self._connection.execute(
            update(users).where(users.c.member_id == user.id).values(**self._user_row(user))
        )
        return await self._written(user.id, user)

    async def remove_user(self, member: str) -> None:
        former = await self._member(member)
        await revoke_made_by(self._connection, former)
        await self._connection.execute(delete(members).where(members.c.id == member))

    async def save_group(self, group: DirectoryGroup) -> DirectoryGroup:
        taken = select(groups.c.id).where(
            groups.c.organisation_id == self._organisation,
            groups.c.name_key == _name_key(group.display_name),
            groups.c.id != group.id,
        )
        if (await self._connection.execute(taken)).first() is not None:
            raise GroupTaken
        wanted = {member.id for member in group.members}
        await self._require_users(wanted)
        former = await self.group(group.id)
        row = upsert(groups).values(
            id=group.id,
            organisation_id=self._organisation,
            display_name=group.display_name,
            name_key=_name_key(group.display_name),
            external_id=group.external_id,
            created_at=group.created_at,
            updated_at=group.updated_at,
        )
        changed = ("display_name", "name_key", "external_id", "updated_at")
        await self._connection.execute(
            row.on_conflict_do_update(
                index_elements=[groups.c.id], set_={name: row.excluded[name] for name in changed}
            )
        )
        held = {member.id for member in former.members} if former else set()
        if gone := held - wanted:
            await self._connection.execute(
                delete(belonging).where(belonging.c.group_id == group.id, belonging.c.member_id.in_(gone))
            )
        if new := wanted - held:
            rows = [{"group_id": group.id, "member_id": member} for member in sorted(new)]
            await self._connection.execute(insert(belonging), rows)
        renamed = former is not None and former.display_name != group.display_name
        await self._settle(held | wanted if renamed else gone | new)
        stored = await self.group(group.id)
        assert stored is not None
        return stored

    async def remove_group(self, group: str) -> None:
        former = await self.group(group)
        await self._connection.execute(
            delete(groups).where(groups.c.id == group, groups.c.organisation_id == self._organisation)
        )
        await self._settle({member.id for member in former.members} if former else ())

    # -- parts --------------------------------------------------------------------------------------------------

    async def _row(
        self, query: Select[Any], table: Table, column: ColumnElement[str], id_: str
    ) -> Row[Any] | None:
        if not storable([id_]):
            return None
        own = query.where(table.c.organisation_id == self._organisation, column == id_)
        found: Row[Any] | None = (await self._connection.execute(own)).first()
        return found

    async def _member(self, id_: str) -> MemberRecord:
        query = select(members).where(members.c.id == id_, members.c.organisation_id == self._organisation)
        return member_of((await self._connection.execute(query)).one())

    async def _refuse_taken(self, user: DirectoryUser) -> None:
        same = users.c.name_key == _name_key(user.user_name)
        if user.external_id is not None:
            same = or_(same, members.c.external_id == user.external_id)
        taken = (
            select(users.c.member_id)
            .join(members, members.c.id == users.c.member_id)
            .where(users.c.organisation_id == self._organisation, users.c.member_id != user.id, same)
        )
        if (await self._connection.execute(taken.limit(1))).first() is not None:
            raise UserTaken

    async def _to_adopt(self, user: DirectoryUser) -> str | None:
        """A member who came in another way and is, by the issuer's word, the person that the directory names; else the
        one with this address. Both are of the directory's own issuer and organisation."""
        free = (
            select(members.c.id)
            .outerjoin(users, users.c.member_id == members.c.id)
            .where(
                members.c.organisation_id == self._organisation,
                members.c.issuer == self._issuer,
                users.c.member_id.is_(None),
            )
            .order_by(members.c.created_at, members.c.id)
            .limit(1)
        )
        ways: list[ColumnElement[bool]] = []
        if user.external_id is not None:
            ways.append(or_(members.c.subject == user.external_id, members.c.external_id == user.external_id))
        if user.email is not None:
            ways.append(func.lower(members.c.email) == user.email.lower())
        for same in ways:
            if row := (await self._connection.execute(free.where(same))).first():
                return str(row.id)
        return None

    def _user_row(self, user: DirectoryUser) -> dict[str, Any]:
        return {
            "user_name": user.user_name,
            "name_key": _name_key(user.user_name),
            "named_roles": list(user.roles),
            "attributes": user.attributes,
            "updated_at": user.updated_at,
        }

    async def _written(self, id_: str, user: DirectoryUser) -> DirectoryUser:
        """The member follows what the directory says."""
        former = await self._member(id_)
        if former.active and not user.active:
            await revoke_made_by(self._connection, former)
        values = {
            "name": user.name,
            "email": user.email,
            "active": user.active,
            "external_id": user.external_id,
        }
        if former.subject is None:
            values["issuer"] = self._issuer
        await self._connection.execute(update(members).where(members.c.id == id_).values(**values))
        await self._settle([id_])
        stored = await self.user(id_)
        assert stored is not None
        return stored

    async def _require_users(self, ids: Iterable[str]) -> None:
        asked = list(ids)
        if not storable(asked):
            raise NoSuchUser
        rows = given("id")
        query = (
            select(func.count())
            .select_from(users)
            .join(rows, and_(users.c.member_id == rows.c.id, users.c.organisation_id == self._organisation))
        )
        if asked and (await self._connection.execute(query, {"id": asked})).scalar_one() != len(asked):
            raise NoSuchUser

    async def _settle(self, ids: Iterable[str]) -> None:
        """Gives these users the roles that follow from what the directory says now and takes those that followed before.
        What they hold by an owner's word stays theirs."""
        asked = list(ids)
        if not asked:
            return
        rows = given("id")
        query = (
            select(users.c.given_roles, users.c.named_roles, _groups_of_user.label("groups"), *members.c)
            .join(members, members.c.id == users.c.member_id)
            .join(rows, rows.c.id == users.c.member_id)
        )
        settled = []
        for row in (await self._connection.execute(query, {"id": asked})).all():
            wanted = self._rules.roles_of(row.named_roles, [name for _, name in row.groups or ()])
            by_hand = [role for role in row.roles if role not in row.given_roles]
            added = sorted(wanted.difference(by_hand))
            roles = [*by_hand, *added]
            if roles == list(row.roles) and added == list(row.given_roles):
                continue
            if self._rules.owner in row.roles and self._rules.owner not in roles:
                await revoke_made_by(self._connection, member_of(row))
            settled.append({"of": row.id, "held": roles, "given": added})
        if settled:
            own: BindParameter[str] = bindparam("of")
            held, given_ = bindparam("held", type_=ARRAY(Text)), bindparam("given", type_=ARRAY(Text))
            await self._connection.execute(
                update(members).where(members.c.id == own).values(roles=held), settled
            )
            await self._connection.execute(
                update(users).where(users.c.member_id == own).values(given_roles=given_), settled
            )


def _name_key(name: str) -> str:
    return normalize("NFC", normalize("NFC", name).lower())


def _named(pairs: Sequence[Sequence[str]] | None) -> tuple[Named, ...]:
    return tuple(Named(*pair) for pair in pairs or ())


def _user(row: Row[Any]) -> DirectoryUser:
    return DirectoryUser(
        id=row.member_id,
        user_name=row.user_name,
        active=row.active,
        created_at=row.created_at,
        updated_at=row.updated_at,
        external_id=row.external_id,
        name=row.name,
        email=row.email,
        roles=tuple(row.named_roles),
        attributes=row.attributes,
        groups=_named(row.groups),
    )


def _group(row: Row[Any]) -> DirectoryGroup:
    return DirectoryGroup(
        id=row.id,
        display_name=row.display_name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        external_id=row.external_id,
        members=_named(row.members),
    )
