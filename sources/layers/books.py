"""The ledger's books as one caller may see them: every question and every change is bound to the organisation acted for.

The graph has no other way to a book. What is another organisation's reads as not there.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from sources.ports.common import Page, Ref
from sources.ports.members import (
    BookQuery,
    Granting,
    InvitationRecord,
    Invite,
    MemberRecord,
    MemberStore,
    Person,
)
from sources.ports.writing import Refusal, Work, WriteRefused, WriteStore, Written

LEDGER = "ledger"
"""What a Ref to a record of a book names as its source."""


class Books(msgspec.Struct, frozen=True):
    """The books that the graph shows, shared by all requests."""

    members: MemberStore
    writes: WriteStore


class BookReach(msgspec.Struct, frozen=True):
    """How far one caller sees and writes. ``organisation`` None: none, or with ``all_organisations`` each that is named."""

    organisation: str | None
    all_organisations: bool = False

    def reaches(self, organisation: str | None) -> bool:
        """May the caller be shown what is this organisation's?"""
        return self.all_organisations or (organisation is not None and organisation == self.organisation)


class ScopedBooks:
    """One per request."""

    def __init__(self, books: Books, reach: BookReach) -> None:
        self._books = books
        self._reach = reach

    async def once(self, caller: str, key: str, change: str, given: bytes, work: Work) -> Written:
        """WriteStore's, for the organisation acted for: the same words for another are another change."""
        organisation = (self._reach.organisation or "").encode()
        return await self._books.writes.once(caller, key, change, organisation + b"\0" + given, work)

    def acting(self) -> str:
        """The organisation that changes are made in. Raises WriteRefused where none is named."""
        if self._reach.organisation is None:
            raise WriteRefused(
                Refusal.ORGANISATION_NEEDED,
                "name the organisation that you act for in the X-Organisation header",
            )
        return self._reach.organisation

    # -- members ------------------------------------------------------------------------------------------------

    async def members(self, refs: Sequence[Ref]) -> Sequence[MemberRecord | None]:
        """None where there is no such member, or not within reach."""
        found = await self._books.members.members([ref.id if ref.source == LEDGER else "" for ref in refs])
        return [row if row is not None and self._reach.reaches(row.organisation) else None for row in found]

    async def members_of(self, query: BookQuery) -> Page[MemberRecord]:
        """Empty for another organisation."""
        if not self._reach.reaches(query.organisation):
            return Page((), ())
        return await self._books.members.members_of(query)

    async def change_roles(self, member: str, roles: Sequence[str], granting: Granting) -> MemberRecord:
        return await self._books.members.change_roles(self.acting(), member, roles, granting)

    async def set_end(self, member: str, ends_at: datetime | None, granting: Granting) -> MemberRecord:
        return await self._books.members.set_end(self.acting(), member, ends_at, granting)

    async def remove(self, member: str, granting: Granting) -> None:
        await self._books.members.remove(self.acting(), member, granting)

    # -- invitations --------------------------------------------------------------------------------------------

    async def invitations(self, refs: Sequence[Ref]) -> Sequence[InvitationRecord | None]:
        """None where there is no such invitation, or not within reach."""
        found = await self._books.members.invitations(
            [ref.id if ref.source == LEDGER else "" for ref in refs]
        )
        return [row if row is not None and self._reach.reaches(row.organisation) else None for row in found]

    async def invitations_of(self, query: BookQuery) -> Page[InvitationRecord]:
        """Empty for another organisation."""
        if not self._reach.reaches(query.organisation):
            return Page((), ())
        return await self._books.members.invitations_of(query)

    async def invite(self, invite: Invite, granting: Granting) -> tuple[InvitationRecord, str]:
        return await self._books.members.invite(self.acting(), invite, granting)

    async def renew_invitation(
        self, invitation: str, expires_at: datetime, granting: Granting
    ) -> tuple[InvitationRecord, str]:
        return await self._books.members.renew_invitation(self.acting(), invitation, expires_at, granting)

    async def revoke_invitation(self, invitation: str) -> InvitationRecord:
        return await self._books.members.revoke_invitation(self.acting(), invitation)

    async def note_delivery(self, invitation: str, secret: str) -> None:
        await self._books.members.note_delivery(invitation, secret)

    async def accept(self, secret: str, person: Person, *, verified_email: bool) -> MemberRecord:
        """Of whichever organisation the secret is: holding it is the right to join that one."""
        return await self._books.members.accept(secret, person, verified_email=verified_email)
