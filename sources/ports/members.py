"""Organisations, the customers of the portal with their accounts in the CRM; their members, and who is invited."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Protocol

import msgspec

from sources.ports.common import Page, Ref, Window


class OrganisationRecord(msgspec.Struct, frozen=True):
    """Whom a customer's people act for. Its ``accounts`` are all that they may see."""

    id: str
    name: str
    accounts: tuple[Ref, ...]


class OrganisationStore(Protocol):
    """The ledger's book of organisations."""

    def state(self) -> int | None:
        """The same as before as long as every organisation is as it was before. None: nobody can tell now."""

    async def organisations(self, ids: Sequence[str]) -> Sequence[OrganisationRecord | None]:
        """In the order asked; one query."""

    async def holders_of(self, accounts: Sequence[Ref]) -> Sequence[str | None]:
        """The organisation that each account belongs to, in the order asked; one query."""

    async def save(self, organisation: OrganisationRecord) -> None:
        """Creates it or replaces its name and accounts. An account belongs to one organisation only: raises
        AccountTaken when it is another's."""

    async def listed(self, after: str | None = None, limit: int = 100) -> Sequence[OrganisationRecord]:
        """By id."""


class AccountTaken(Exception):
    """The account belongs to another organisation."""


class MemberState(Enum):
    """Whether a member may act for the organisation now. Only ACTIVE ones may."""

    ACTIVE = "active"
    PROVISIONED = "provisioned"
    """A directory has named them; they have not signed in yet."""
    SUSPENDED = "suspended"
    ENDED = "ended"


class MemberRecord(msgspec.Struct, frozen=True):
    """One person in one organisation."""

    id: str
    organisation: str
    roles: tuple[str, ...]
    created_at: datetime
    issuer: str | None = None
    """Whose sign-in the person has; None: nobody said yet."""
    subject: str | None = None
    """The person at the issuer; None until the first sign-in of one whom a directory has named."""
    name: str | None = None
    email: str | None = None
    active: bool = True
    external_id: str | None = None
    """The directory's id of the person; what the issuer calls them."""
    joined_at: datetime | None = None
    ends_at: datetime | None = None
    """When the membership ends by itself; None: it does not."""
    invited_by: str | None = None
    """The identity of who let them in."""

    @property
    def identity(self) -> str | None:
        """As a principal's; None before the first sign-in."""
        return None if self.subject is None else f"{self.issuer}|{self.subject}"

    @property
    def state(self) -> MemberState:
        """At this moment."""
        if self.ends_at is not None and self.ends_at <= datetime.now(UTC):
            return MemberState.ENDED
        if not self.active:
            return MemberState.SUSPENDED
        return MemberState.ACTIVE if self.subject is not None else MemberState.PROVISIONED


class Person(msgspec.Struct, frozen=True):
    """Somebody who has proved who they are."""

    issuer: str
    subject: str
    name: str | None = None
    email: str | None = None
    email_verified: bool = False
    """Does the issuer say that the address is theirs?"""
    external_ids: tuple[str, ...] = ()
    """The ids by which this issuer's directory may have named them, from claims that they cannot choose themselves."""


class Membership(msgspec.Struct, frozen=True):
    """That a person may act for an organisation, at this moment."""

    organisation: str
    member: str
    roles: tuple[str, ...]
    ends_at: datetime | None = None


class InvitationState(Enum):
    """What has become of an invitation. Only an OPEN one can be accepted."""

    OPEN = "open"
    EXPIRED = "expired"
    ACCEPTED = "accepted"
    REVOKED = "revoked"


class InvitationRecord(msgspec.Struct, frozen=True):
    """An invitation to join. Its secret is nowhere: only a hash is kept."""

    id: str
    organisation: str
    email: str
    roles: tuple[str, ...]
    invited_by: str
    """An identity."""
    created_at: datetime
    expires_at: datetime
    invited_by_name: str | None = None
    delivered_at: datetime | None = None
    """When the mail server took the last mail; None: it did not."""
    accepted_at: datetime | None = None
    revoked_at: datetime | None = None
    member_ends_at: datetime | None = None
    """When the membership will end by itself."""

    @property
    def state(self) -> InvitationState:
        """At this moment."""
        if self.accepted_at is not None:
            return InvitationState.ACCEPTED
        if self.revoked_at is not None:
            return InvitationState.REVOKED
        return InvitationState.EXPIRED if self.expires_at <= datetime.now(UTC) else InvitationState.OPEN


class Invite(msgspec.Struct, frozen=True):
    """Whom to invite, and as what."""

    email: str
    roles: tuple[str, ...]
    expires_at: datetime
    member_ends_at: datetime | None = None


class BookQuery(msgspec.Struct, frozen=True):
    """A slice of one organisation's list in one of the ledger's books, oldest first."""

    organisation: str
    window: Window


class Granting(msgspec.Struct, frozen=True):
    """Who changes members, and how far they may go."""

    by: str
    """An identity."""
    owner: str
    """What the role is called that an organisation always has somebody for."""
    roles: frozenset[str]
    """Those that they may give and take; a member who holds another is beyond them."""
    by_name: str | None = None


class MemberStore(Protocol):
    """The ledger's book of members and invitations.

    An organisation that has an owner keeps one, whatever happens at once: an owner is somebody who holds the role, has
    signed in, is not suspended and whose membership does not end by itself. Writes raise WriteRefused. What is another
    organisation's reads as not there.
    """

    async def memberships(self, person: Person) -> tuple[Membership, ...]:
        """By organisation; only those that hold now. Asked for every request, so it is answered from memory. Gives the
        person what a directory has set aside for one of their external ids at this very issuer."""

    async def members(self, ids: Sequence[str]) -> Sequence[MemberRecord | None]:
        """In the order asked, of any organisation; one query."""

    async def members_of(self, query: BookQuery) -> Page[MemberRecord]:
        """In the order in which they came."""

    async def invitations(self, ids: Sequence[str]) -> Sequence[InvitationRecord | None]:
        """In the order asked, of any organisation; one query."""

    async def invitations_of(self, query: BookQuery) -> Page[InvitationRecord]:
        """In the order in which they were made, whatever became of them."""

    async def add(self, member: MemberRecord, granting: Granting) -> MemberRecord:
        """Without an invitation: for an operator. Refused: ALREADY_MEMBER, NOT_FOUND (organisation)."""

    async def change_roles(
        self, organisation: str, member: str, roles: Sequence[str], granting: Granting
    ) -> MemberRecord:
        """Refused: NOT_FOUND, LAST_OWNER, ROLE_NOT_YOURS."""

    async def set_end(
        self, organisation: str, member: str, ends_at: datetime | None, granting: Granting
    ) -> MemberRecord:
        """Refused: NOT_FOUND, LAST_OWNER, ROLE_NOT_YOURS."""

    async def remove(self, organisation: str, member: str, granting: Granting) -> None:
        """With the invitations that they made and nobody accepted. Anybody may remove themselves. Refused: NOT_FOUND,
        LAST_OWNER, ROLE_NOT_YOURS."""

    async def invite(
        self, organisation: str, invite: Invite, granting: Granting
    ) -> tuple[InvitationRecord, str]:
        """With the secret, which is given this once. Refused: ALREADY_MEMBER, ALREADY_INVITED, TOO_MANY."""

    async def renew_invitation(
        self, organisation: str, invitation: str, expires_at: datetime, granting: Granting
    ) -> tuple[InvitationRecord, str]:
        """A new secret; the former one is dead. Refused: NOT_FOUND, INVITATION_USED, ROLE_NOT_YOURS, TOO_MANY."""

    async def revoke_invitation(self, organisation: str, invitation: str) -> InvitationRecord:
        """Refused: NOT_FOUND, INVITATION_USED. Revoking again changes nothing."""

    async def note_delivery(self, invitation: str, secret: str) -> None:
        """The mail with this secret is on its way. Nothing when another took the secret's place meanwhile."""

    async def accept(self, secret: str, person: Person, *, verified_email: bool) -> MemberRecord:
        """The person becomes a member, the invitation is spent. Where the issuer says that the address is the person's it
        must be the invited one; with ``verified_email`` the issuer must say so. Refused: NOT_FOUND, INVITATION_EXPIRED,
        INVITATION_USED, EMAIL_MISMATCH, EMAIL_NOT_VERIFIED, ALREADY_MEMBER."""
