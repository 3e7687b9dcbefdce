"""The book of members and invitations. Whatever changes an organisation's members holds its lock."""

import hashlib
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, Table, and_, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sources.ledger.database import Database, given, storable
from sources.ledger.tables import invitations, members, organisations
from sources.ports.common import Key, Page
from sources.ports.members import (
    BookQuery,
    Granting,
    InvitationRecord,
    Invite,
    MemberRecord,
    Membership,
    Person,
)
from sources.ports.writing import Refusal, WriteRefused

SENDINGS_A_DAY = 100
"""Invitation mails of one organisation: whoever may invite must not flood others' letter boxes."""
KEPT = timedelta(days=90)
"""How long an invitation that came to nothing can be looked at."""


class Members:
    """Fills MemberStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- who may act for whom -----------------------------------------------------------------------------------

    async def memberships(self, person: Person) -> tuple[Membership, ...]:
        memory = self._database.memory
        place = ("memberships", person.issuer, person.subject)
        known = memory.recall([place]).get(place)
        if known is None:
            if not storable((person.issuer, person.subject)):
                return ()
            begun = memory.begin()
            rows = await self._rows_of(person)
            if set_aside := _set_aside(rows):
                await self._claim(person, set_aside)
                begun = memory.begin()
                rows = await self._rows_of(person)
            known = tuple(
                Membership(row.organisation_id, row.id, tuple(row.roles), row.ends_at)
                for row in rows
                if row.active and row.subject is not None
            )
            memory.keep(begun, {place: known})
        now = datetime.now(UTC)
        return tuple(one for one in known if one.ends_at is None or one.ends_at > now)

    async def _rows_of(self, person: Person) -> Sequence[Row[Any]]:
        own = members.c.subject == person.subject
        names = [id_ for id_ in person.external_ids if storable([id_])]
        if names:
            own = or_(own, and_(members.c.subject.is_(None), members.c.external_id.in_(names)))
        query = (
            select(members)
            .where(members.c.issuer == person.issuer, own)
            .order_by(members.c.organisation_id, members.c.id)
        )
        async with self._database.reading() as connection:
            return (await connection.execute(query)).all()

    async def _claim(self, person: Person, ids: Sequence[str]) -> None:
        """Where the person is a member already, what was set aside stays so."""
        same = members.alias()
        query = (
            update(members)
            .where(
                members.c.id.in_(ids),
                members.c.subject.is_(None),
                ~select(same.c.id)
                .where(
                    same.c.organisation_id == members.c.organisation_id,
                    same.c.issuer == person.issuer,
                    same.c.subject == person.subject,
                )
                .exists(),
            )
            .values(
                subject=person.subject,
                joined_at=datetime.now(UTC),
                name=func.coalesce(members.c.name, person.name),
            )
        )
        async with self._database.writing(_claiming(person)) as connection:
            # One a time: two rows of one organisation may carry ids of the same person.
            for id_ in ids:
                await connection.execute(query.where(members.c.id == id_))

    # -- reading ------------------------------------------------------------------------------------------------

    async def members(self, ids: Sequence[str]) -> Sequence[MemberRecord | None]:
        found = {row.id: member_of(row) for row in await self._by_id(members, ids)}
        return [found.get(id_) for id_ in ids]

    async def invitations(self, ids: Sequence[str]) -> Sequence[InvitationRecord | None]:
        found = {row.id: _invitation(row) for row in await self._by_id(invitations, ids)}
        return [found.get(id_) for id_ in ids]

    async def members_of(self, query: BookQuery) -> Page[MemberRecord]:
        rows, keys, has_next, has_previous = await self._page(members, query)
        return Page([member_of(row) for row in rows], keys, has_next, has_previous)

    async def invitations_of(self, query: BookQuery) -> Page[InvitationRecord]:
        rows, keys, has_next, has_previous = await self._page(invitations, query)
        return Page([_invitation(row) for row in rows], keys, has_next, has_previous)

    async def _by_id(self, table: Table, ids: Sequence[str]) -> Sequence[Row[Any]]:
        asked = [id_ for id_ in dict.fromkeys(ids) if storable([id_])]
        if not asked:
            return ()
        rows = given("id")
        async with self._database.reading() as connection:
            found = await connection.execute(select(table).join(rows, table.c.id == rows.c.id), {"id": asked})
            return found.all()

    async def _page(self, table: Table, query: BookQuery) -> tuple[Sequence[Row[Any]], list[Key], bool, bool]:
        window = query.window
        place = tuple_(table.c.created_at, table.c.id)
        slice_: Select[Any] = select(table).where(table.c.organisation_id == query.organisation)
        if not storable([query.organisation]):
            return (), [], False, False
        if window.after is not None:
            slice_ = slice_.where(place > tuple_(*_place(window.after)))
        if window.before is not None:
            slice_ = slice_.where(place < tuple_(*_place(window.before)))
        ascending = not window.backwards
        ordered = slice_.order_by(
            *(c.asc() if ascending else c.desc() for c in (table.c.created_at, table.c.id))
        )
        async with self._database.reading() as connection:
            found = list((await connection.execute(ordered.limit(window.size + 1))).all())
        more = len(found) > window.size
        rows = found[: window.size]
        if window.backwards:
            rows.reverse()
        keys = [Key(row.created_at.isoformat(), row.id) for row in rows]
        # Relay: on the far side a page need only say what its cursor says.
        if window.backwards:
            return rows, keys, window.before is not None, more
        return rows, keys, more, window.after is not None

    # -- changing members ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def changing(self, organisation: str, owner: str) -> AsyncIterator[AsyncConnection]:
        """One at a time in each organisation. When it ends and an organisation that had an owner has none, all that was
        done inside is taken back: raises WriteRefused LAST_OWNER."""
        async with self._database.writing(f"members:{organisation}") as connection:
            had = await _has_owner(connection, organisation, owner)
            yield connection
            if had and not await _has_owner(connection, organisation, owner):
                raise WriteRefused(
                    Refusal.LAST_OWNER,
                    f"the organisation would be left without a lasting member who is {owner}",
                )

    async def add(self, member: MemberRecord, granting: Granting) -> MemberRecord:
        async with self.changing(member.organisation, granting.owner) as connection:
            await _require_organisation(connection, member.organisation)
            if member.subject is not None:
                await _refuse_member(connection, member.organisation, member.issuer, member.subject)
            await insert_member(connection, member)
        return member

    async def change_roles(
        self, organisation: str, member: str, roles: Sequence[str], granting: Granting
    ) -> MemberRecord:
        async with self.changing(organisation, granting.owner) as connection:
            former = await _found(connection, organisation, member)
            _require_reach(former.roles, granting)
            row = await _update(connection, member, roles=list(roles))
            if granting.owner in former.roles and granting.owner not in roles:
                await revoke_made_by(connection, former)
        return row

    async def set_end(
        self, organisation: str, member: str, ends_at: datetime | None, granting: Granting
    ) -> MemberRecord:
        async with self.changing(organisation, granting.owner) as connection:
            former = await _found(connection, organisation, member)
            _require_reach(former.roles, granting)
            return await _update(connection, member, ends_at=ends_at)

    async def remove(self, organisation: str, member: str, granting: Granting) -> None:
        async with self.changing(organisation, granting.owner) as connection:
            former = await _found(connection, organisation, member)
            if former.identity != granting.by:
                _require_reach(former.roles, granting)
            await revoke_made_by(connection, former)
            await connection.execute(delete(members).where(members.c.id == member))

    # -- invitations --------------------------------------------------------------------------------------------

    async def invite(
        self, organisation: str, invite: Invite, granting: Granting
    ) -> tuple[InvitationRecord, str]:
        now = datetime.now(UTC)
        secret = _secret()
        async with self.changing(organisation, granting.owner) as connection:
            await _require_organisation(connection, organisation)
            await connection.execute(
                delete(invitations).where(
                    invitations.c.organisation_id == organisation,
                    invitations.c.accepted_at.is_(None),
                    func.coalesce(invitations.c.revoked_at, invitations.c.expires_at) < now - KEPT,
                )
            )
            await _refuse_known_address(connection, organisation, invite.email, now)
            await _require_sendings(connection, organisation, now)
            row = (
                await connection.execute(
                    insert(invitations)
                    .values(
                        id=str(uuid.uuid4()),
                        organisation_id=organisation,
                        email=invite.email,
                        roles=list(invite.roles),
                        secret_hash=_hash(secret),
                        invited_by=granting.by,
                        invited_by_name=granting.by_name,
                        created_at=now,
                        expires_at=invite.expires_at,
                        member_ends_at=invite.member_ends_at,
                        sent_at=now,
                        sendings=1,
                    )
                    .returning(*invitations.c)
                )
            ).one()
        return _invitation(row), secret

    async def renew_invitation(
        self, organisation: str, invitation: str, expires_at: datetime, granting: Granting
    ) -> tuple[InvitationRecord, str]:
        now = datetime.now(UTC)
        secret = _secret()
        async with self.changing(organisation, granting.owner) as connection:
            former = await _open_invitation(connection, organisation, invitation)
            _require_reach(former.roles, granting)
            await _require_sendings(connection, organisation, now)
            row = (
                await connection.execute(
                    update(invitations)
                    .where(invitations.c.id == invitation)
                    .values(
                        secret_hash=_hash(secret),
                        expires_at=expires_at,
                        sent_at=now,
                        sendings=invitations.c.sendings + 1,
                        delivered_at=None,
                    )
                    .returning(*invitations.c)
                )
            ).one()
        return _invitation(row), secret

    async def revoke_invitation(self, organisation: str, invitation: str) -> InvitationRecord:
        async with self._database.writing(f"members:{organisation}") as connection:
            found = await _invited(connection, organisation, invitation)
            if found.accepted_at is not None:
                raise _used()
            if found.revoked_at is None:
                found = (
                    await connection.execute(
                        update(invitations)
                        .where(invitations.c.id == invitation)
                        .values(revoked_at=datetime.now(UTC))
                        .returning(*invitations.c)
                    )
                ).one()
        return _invitation(found)

    async def note_delivery(self, invitation: str, secret: str) -> None:
        async with self._database.writing() as connection:
            await connection.execute(
                update(invitations)
                .where(invitations.c.id == invitation, invitations.c.secret_hash == _hash(secret))
                .values(delivered_at=datetime.now(UTC))
            )

    async def accept(self, secret: str, person: Person, *, verified_email: bool) -> MemberRecord:
        unknown = WriteRefused(
            Refusal.NOT_FOUND, "there is no such invitation; ask for another one", "secret"
        )
        by_secret = select(invitations).where(invitations.c.secret_hash == _hash(secret))
        # On the connection of the larger transaction, if there is one: waiting for another would hold up all who wait.
        async with self._database.writing() as connection:
            found = (await connection.execute(by_secret)).first()
        if found is None or not storable((person.issuer, person.subject)):
            raise unknown
        organisation = found.organisation_id
        async with self._database.writing(f"members:{organisation}", _claiming(person)) as connection:
            # Again, since another may have used, renewed or revoked it before this one had the lock.
            invited = (await connection.execute(by_secret)).first()
            if invited is None or invited.revoked_at is not None:
                raise unknown
            if invited.accepted_at is not None:
                raise _used()
            now = datetime.now(UTC)
            if invited.expires_at <= now:
                raise WriteRefused(
                    Refusal.INVITATION_EXPIRED, "the invitation has expired; ask for another one", "secret"
                )
            if person.email_verified and not _same_address(person.email, invited.email):
                raise WriteRefused(
                    Refusal.EMAIL_MISMATCH,
                    "the invitation is for another e-mail address than the one you signed in with",
                )
            if verified_email and not person.email_verified:
                raise WriteRefused(
                    Refusal.EMAIL_NOT_VERIFIED,
                    "your sign-in does not say that your e-mail address is verified, which is needed here",
                )
            await _refuse_member(connection, organisation, person.issuer, person.subject)
            member = MemberRecord(
                id=str(uuid.uuid4()),
                organisation=organisation,
                roles=tuple(invited.roles),
                created_at=now,
                issuer=person.issuer,
                subject=person.subject,
                name=person.name,
                email=invited.email,
                joined_at=now,
                ends_at=invited.member_ends_at,
                invited_by=invited.invited_by,
            )
            await insert_member(connection, member)
            await connection.execute(
                update(invitations)
                .where(invitations.c.id == invited.id)
                .values(accepted_at=now, accepted_by=member.id)
            )
        return member


def _set_aside(rows: Sequence[Row[Any]]) -> list[str]:
    """The members that a directory has named and nobody is yet, where the person is none already: looking at the others
    again and again would be a change each time."""
    own = {row.organisation_id for row in rows if row.subject is not None}
    return [row.id for row in rows if row.subject is None and row.organisation_id not in own]


def _claiming(person: Person) -> str:
    """The lock under which a person becomes a member."""
    return f"claim:{person.issuer}|{person.subject}"


def _secret() -> str:
    """256 bits: nobody guesses one, however often they try."""
    return secrets.token_urlsafe(32)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _place(key: Key) -> tuple[datetime, str]:
    try:
        return datetime.fromisoformat(key.value), key.id.replace("\0", "")
    except ValueError:
        raise WriteRefused(Refusal.INVALID, "the cursor is of another list") from None


def _same_address(one: str | None, other: str) -> bool:
    return one is not None and one.casefold() == other.casefold()


def _used() -> WriteRefused:
    return WriteRefused(Refusal.INVITATION_USED, "the invitation was accepted before")


async def _has_owner(connection: AsyncConnection, organisation: str, owner: str) -> bool:
    query = (
        select(members.c.id)
        .where(
            members.c.organisation_id == organisation,
            members.c.roles.contains([owner]),
            members.c.active,
            members.c.subject.is_not(None),
            members.c.ends_at.is_(None),
        )
        .limit(1)
    )
    return (await connection.execute(query)).first() is not None


async def _require_organisation(connection: AsyncConnection, organisation: str) -> None:
    query = select(organisations.c.id).where(organisations.c.id == organisation)
    if (
        not storable([organisation])
        or (await connection.execute(query.with_for_update(key_share=True))).first() is None
    ):
        raise WriteRefused(Refusal.NOT_FOUND, "there is no such organisation")


async def _refuse_member(
    connection: AsyncConnection, organisation: str, issuer: str | None, subject: str
) -> None:
    query = select(members.c.id).where(
        members.c.organisation_id == organisation, members.c.issuer == issuer, members.c.subject == subject
    )
    if (await connection.execute(query)).first() is not None:
        raise WriteRefused(Refusal.ALREADY_MEMBER, "this person is a member already")


async def _refuse_known_address(
    connection: AsyncConnection, organisation: str, email: str, now: datetime
) -> None:
    member = select(members.c.id).where(
        members.c.organisation_id == organisation,
        func.lower(members.c.email) == email.lower(),
        or_(members.c.ends_at.is_(None), members.c.ends_at > now),
    )
    if (await connection.execute(member)).first() is not None:
        raise WriteRefused(Refusal.ALREADY_MEMBER, "a member has this e-mail address already", "email")
    invited = select(invitations.c.id).where(
        invitations.c.organisation_id == organisation,
        func.lower(invitations.c.email) == email.lower(),
        invitations.c.accepted_at.is_(None),
        invitations.c.revoked_at.is_(None),
        invitations.c.expires_at > now,
    )
    if (await connection.execute(invited)).first() is not None:
        raise WriteRefused(
            Refusal.ALREADY_INVITED,
            "this e-mail address has an open invitation; send that one again or revoke it",
            "email",
        )


async def _require_sendings(connection: AsyncConnection, organisation: str, now: datetime) -> None:
    query = select(func.coalesce(func.sum(invitations.c.sendings), 0)).where(
        invitations.c.organisation_id == organisation, invitations.c.sent_at > now - timedelta(days=1)
    )
    if (await connection.execute(query)).scalar_one() >= SENDINGS_A_DAY:
        raise WriteRefused(Refusal.TOO_MANY, f"{SENDINGS_A_DAY} invitations were sent today; try tomorrow")


def _require_reach(roles: Sequence[str], granting: Granting) -> None:
    if beyond := sorted(set(roles) - granting.roles):
        raise WriteRefused(Refusal.ROLE_NOT_YOURS, f"this takes what {', '.join(beyond)} holds")


async def _found(connection: AsyncConnection, organisation: str, member: str) -> MemberRecord:
    query = select(members).where(members.c.id == member, members.c.organisation_id == organisation)
    row = (await connection.execute(query)).first() if storable([member]) else None
    if row is None:
        raise WriteRefused(Refusal.NOT_FOUND, "there is no such member", "memberId")
    return member_of(row)


async def _invited(connection: AsyncConnection, organisation: str, invitation: str) -> Row[Any]:
    query = select(invitations).where(
        invitations.c.id == invitation, invitations.c.organisation_id == organisation
    )
    row = (await connection.execute(query)).first() if storable([invitation]) else None
    if row is None:
        raise WriteRefused(Refusal.NOT_FOUND, "there is no such invitation", "invitationId")
    return row


async def _open_invitation(connection: AsyncConnection, organisation: str, invitation: str) -> Row[Any]:
    """It may have expired."""
    found = await _invited(connection, organisation, invitation)
    if found.revoked_at is not None:
        raise WriteRefused(Refusal.NOT_FOUND, "there is no such invitation", "invitationId")
    if found.accepted_at is not None:
        raise _used()
    return found


async def revoke_made_by(connection: AsyncConnection, member: MemberRecord) -> None:
    """Whoever may invite no longer must not come back by an invitation of their own making."""
    await connection.execute(
        update(invitations)
        .where(
            invitations.c.organisation_id == member.organisation,
            invitations.c.invited_by == member.identity,
            invitations.c.accepted_at.is_(None),
            invitations.c.revoked_at.is_(None),
        )
        .values(revoked_at=datetime.now(UTC))
    )


async def insert_member(connection: AsyncConnection, member: MemberRecord) -> None:
    await connection.execute(
        insert(members).values(
            organisation_id=member.organisation,
            roles=list(member.roles),
            **{name: getattr(member, name) for name in _SAME},
        )
    )


async def _update(connection: AsyncConnection, member: str, **values: Any) -> MemberRecord:
    changed = update(members).where(members.c.id == member).values(**values).returning(*members.c)
    return member_of((await connection.execute(changed)).one())


_SAME = tuple(name for name in MemberRecord.__struct_fields__ if name not in ("organisation", "roles"))
_SAME_INVITED = tuple(
    name for name in InvitationRecord.__struct_fields__ if name not in ("organisation", "roles")
)


def member_of(row: Row[Any]) -> MemberRecord:
    return MemberRecord(
        organisation=row.organisation_id,
        roles=tuple(row.roles),
        **{name: getattr(row, name) for name in _SAME},
    )


def _invitation(row: Row[Any]) -> InvitationRecord:
    return InvitationRecord(
        organisation=row.organisation_id,
        roles=tuple(row.roles),
        **{name: getattr(row, name) for name in _SAME_INVITED},
    )
