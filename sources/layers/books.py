"""The ledger's books as one caller may see them: every question and every change is bound to the organisation acted for.

The graph has no other way to a book. What is another organisation's reads as not there.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from sources.layers.reads import changes, scoped_by
from sources.layers.touched import Touched
from sources.ports.audit import AuditQuery, AuditRecord, AuditStore
from sources.ports.common import Direction, Key, Page, Ref, Window
from sources.ports.members import (
    BookQuery,
    Granting,
    InvitationRecord,
    Invite,
    MemberRecord,
    MemberStore,
    OrganisationRecord,
    OrganisationStore,
    Person,
)
from sources.ports.select import select
from sources.ports.service_accounts import ApiKeyRecord, ServiceAccountRecord, ServiceAccountStore
from sources.ports.viewings import ViewingRecord, ViewingStore
from sources.ports.writing import Refusal, Work, WriteRefused, WriteStore, Written

LEDGER = "ledger"
"""What a Ref to a record of a book names as its source."""


class Books(msgspec.Struct, frozen=True):
    """The books that the graph shows, shared by all requests."""

    audit: AuditStore
    members: MemberStore
    organisations: OrganisationStore
    service_accounts: ServiceAccountStore
    viewings: ViewingStore
    writes: WriteStore


class BookReach(msgspec.Struct, frozen=True):
    """How far one caller sees and writes. ``organisation`` None: none, or with ``all_organisations`` each that is named."""

    organisation: str | None
    all_organisations: bool = False
    keeps_members: bool = True
    """Does the ledger say who is a member? Where claims do, what is written here would open nothing and end nothing."""

    def reaches(self, organisation: str | None) -> bool:
        """May the caller be shown what is this organisation's?"""
        return self.all_organisations or (organisation is not None and organisation == self.organisation)


class ServiceAccountQuery(msgspec.Struct, frozen=True):
    """A slice of one organisation's service accounts, or of the firm's."""

    organisation: str | None
    window: Window


class ScopedBooks:
    """One per request."""

    def __init__(self, books: Books, reach: BookReach, touched: Touched | None = None) -> None:
        self._books = books
        self._reach = reach
        self.touched = touched or Touched()
        self._served: dict[str, str | None] = {}
        """Service accounts that this request was given, and whose they are: their keys may be read."""

    @changes("organisation")
    async def once(
        self, caller: str, key: str, change: str, given: bytes, work: Work, *, standing: bool = False
    ) -> Written:
        """WriteStore's, for the organisation acted for: the same words for another are another change. Except where the
        change is of the caller's own ``standing``, after which the same request acts for another."""
        organisation = b"" if standing else (self._reach.organisation or "").encode()
        return await self._books.writes.once(caller, key, change, organisation + b"\0" + given, work)

    def acting(self) -> str:
        """The organisation that changes are made in. Raises WriteRefused where none is named."""
        if self._reach.organisation is None:
            raise WriteRefused(
                Refusal.ORGANISATION_NEEDED,
                "name the organisation that you act for in the X-Organisation header",
            )
        return self._reach.organisation

    def _keeping(self) -> MemberStore:
        if not self._reach.keeps_members:
            raise WriteRefused(
                Refusal.KEPT_ELSEWHERE,
                "who is a member is said by the issuer that you sign in with; it is changed there",
            )
        return self._books.members

    # -- members ------------------------------------------------------------------------------------------------

    @scoped_by("organisation", gives="Member")
    async def members(self, refs: Sequence[Ref]) -> Sequence[MemberRecord | None]:
        """None where there is no such member, or not within reach."""
        found = await self._books.members.members([ref.id if ref.source == LEDGER else "" for ref in refs])
        return [row if row is not None and self._reach.reaches(row.organisation) else None for row in found]

    @scoped_by("organisation", gives="Member")
    async def members_of(self, query: BookQuery) -> Page[MemberRecord]:
        """Empty for another organisation."""
        if not self._reach.reaches(query.organisation):
            return Page((), ())
        return await self._books.members.members_of(query)

    @scoped_by("organisation", gives="Member")
    async def change_roles(self, member: str, roles: Sequence[str], granting: Granting) -> MemberRecord:
        return await self._keeping().change_roles(self.acting(), member, roles, granting)

    @scoped_by("organisation", gives="Member")
    async def set_end(self, member: str, ends_at: datetime | None, granting: Granting) -> MemberRecord:
        return await self._keeping().set_end(self.acting(), member, ends_at, granting)

    @changes("organisation")
    async def remove(self, member: str, granting: Granting) -> None:
        await self._keeping().remove(self.acting(), member, granting)
        self.touched.name("Member", member, self.acting())

    @scoped_by("organisation", gives="Member")
    async def joined(self, member: str, organisation: str) -> MemberRecord | None:
        """The caller's own new membership, which the request does not act under yet."""
        (found,) = await self._books.members.members([member])
        return found if found is not None and found.organisation == organisation else None

    @scoped_by("caller", gives="Organisation")
    async def organisation(self, organisation: str) -> OrganisationRecord | None:
        """For its name: one that the caller acts for or has just joined."""
        (found,) = await self._books.organisations.organisations([organisation])
        return found

    # -- invitations --------------------------------------------------------------------------------------------

    @scoped_by("organisation", gives="Invitation")
    async def invitations(self, refs: Sequence[Ref]) -> Sequence[InvitationRecord | None]:
        """None where there is no such invitation, or not within reach."""
        found = await self._books.members.invitations(
            [ref.id if ref.source == LEDGER else "" for ref in refs]
        )
        return [row if row is not None and self._reach.reaches(row.organisation) else None for row in found]

    @scoped_by("organisation", gives="Invitation")
    async def invitations_of(self, query: BookQuery) -> Page[InvitationRecord]:
        """Empty for another organisation."""
        if not self._reach.reaches(query.organisation):
            return Page((), ())
        return await self._books.members.invitations_of(query)

    @scoped_by("organisation", gives="Invitation")
    async def invite(self, invite: Invite, granting: Granting) -> tuple[InvitationRecord, str]:
        return await self._keeping().invite(self.acting(), invite, granting)

    @scoped_by("organisation", gives="Invitation")
    async def renew_invitation(
        self, invitation: str, expires_at: datetime, granting: Granting
    ) -> tuple[InvitationRecord, str]:
        return await self._keeping().renew_invitation(self.acting(), invitation, expires_at, granting)

    @scoped_by("organisation", gives="Invitation")
    async def revoke_invitation(self, invitation: str) -> InvitationRecord:
        return await self._keeping().revoke_invitation(self.acting(), invitation)

    @changes("organisation")
    async def note_delivery(self, invitation: str, secret: str) -> None:
        await self._books.members.note_delivery(invitation, secret)

    @scoped_by("organisation", gives="Member")
    async def accept(self, secret: str, person: Person, *, verified_email: bool) -> MemberRecord:
        """Of whichever organisation the secret is: holding it is the right to join that one."""
        return await self._keeping().accept(secret, person, verified_email=verified_email)

    # -- viewings -----------------------------------------------------------------------------------------------

    @changes("organisation")
    async def begin_viewing(self, viewing: ViewingRecord) -> None:
        """Of an organisation, and where a member is named of a member, within reach. Refused: NOT_FOUND, TOO_MANY."""
        place = "organisationId" if viewing.member is None else "memberId"
        if not self._reach.reaches(viewing.organisation) or not await self.organisation(viewing.organisation):
            raise WriteRefused(Refusal.NOT_FOUND, "there is no such member or organisation", place)
        await self._books.viewings.begin(viewing)
        self.touched.name("Viewing", viewing.id, viewing.organisation)

    @changes("organisation")
    async def end_viewing(self, viewing: str, staff: str) -> None:
        await self._books.viewings.end(viewing, staff)

    @scoped_by("organisation", gives="Viewing")
    async def viewings(self, refs: Sequence[Ref]) -> Sequence[ViewingRecord | None]:
        """None where there is no such viewing, or not within reach."""
        found = await self._books.viewings.viewings([ref.id if ref.source == LEDGER else "" for ref in refs])
        seen = [row if row is not None and self._reach.reaches(row.organisation) else None for row in found]
        for row in filter(None, seen):
            self.touched.name("Viewing", row.id, row.organisation)
        return seen

    # -- the audit trail ----------------------------------------------------------------------------------------

    @scoped_by("organisation", gives="AuditEntry")
    async def audit_entries(self, query: AuditQuery) -> Page[AuditRecord]:
        """Newest first, without their seals. Empty for another organisation."""
        query = msgspec.structs.replace(query, organisation=query.organisation or self._reach.organisation)
        if not self._reach.reaches(query.organisation):
            return Page((), ())
        page = await self._books.audit.entries(query)
        return Page([entry.record for entry in page.rows], page.keys, page.has_next, page.has_previous)

    # -- service accounts ---------------------------------------------------------------------------------------

    def served(self) -> str | None:
        """Whose service accounts changes are made to: the organisation acted for, or None: the firm. Raises WriteRefused
        where it is neither."""
        if self._reach.organisation is None and self._reach.all_organisations:
            return None
        return self.acting()

    @scoped_by("organisation", gives="ServiceAccount")
    async def service_accounts_of(self, query: ServiceAccountQuery) -> Page[ServiceAccountRecord]:
        """By name. Empty for another organisation, and the firm's for whoever does not see all."""
        if not self._reach.reaches(query.organisation):
            return Page((), ())
        found = await self._books.service_accounts.accounts_of(query.organisation)
        self._served |= {account.id: account.organisation for account in found}
        return select(found, lambda account: Key(account.name, account.id), Direction.ASC, query.window)

    @scoped_by("organisation", gives="ServiceAccount")
    async def service_account(self, account: str) -> ServiceAccountRecord | None:
        """Of those that changes are made to."""
        found = await self._books.service_accounts.account(self.served(), account)
        if found is not None:
            self._served[found.id] = found.organisation
        return found

    @scoped_by("organisation", gives="ApiKey")
    async def api_keys_of(self, accounts: Sequence[Ref]) -> Sequence[Sequence[ApiKeyRecord]]:
        """Of service accounts that this request was given; none of any other."""
        own = [account.id for account in accounts if account.id in self._served]
        keys = dict(zip(own, await self._books.service_accounts.keys_of(own), strict=True)) if own else {}
        for account, held in keys.items():
            for key in held:
                self.touched.name("ApiKey", key.id, self._served[account])
        return [keys.get(account.id, ()) for account in accounts]

    @scoped_by("organisation", gives="ApiKey")
    async def api_key(self, key: str) -> ApiKeyRecord | None:
        """Of those that changes are made to."""
        return await self._books.service_accounts.key(self.served(), key)

    @changes("organisation")
    async def create_service_account(self, account: ServiceAccountRecord) -> None:
        if account.organisation != self.served():
            raise WriteRefused(Refusal.NOT_FOUND, "there is no such organisation")
        await self._books.service_accounts.create(account)
        self.touched.name("ServiceAccount", account.id, account.organisation)

    @changes("organisation")
    async def create_api_key(self, key: ApiKeyRecord, digest: bytes) -> None:
        await self._books.service_accounts.create_key(self.served(), key, digest)
        self.touched.name("ApiKey", key.id, self.served())

    @changes("organisation")
    async def revoke_api_key(self, key: str, at: datetime) -> None:
        await self._books.service_accounts.revoke(self.served(), key, at)
        self.touched.name("ApiKey", key, self.served())

    @changes("organisation")
    async def remove_service_account(self, account: str) -> None:
        await self._books.service_accounts.remove(self.served(), account)
        self.touched.name("ServiceAccount", account, self.served())
