"""A CRM: the accounts (companies) and contacts (people) that everything else hangs on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from sources.ports.common import Condition, Direction, Page, Probe, Ref, Window, Word
from sources.ports.errors import SourceError


class Address(msgspec.Struct, frozen=True, gc=False):
    """A postal address; parts that the vendor lacks are None."""

    street: str | None = None
    city: str | None = None
    postcode: str | None = None
    region: str | None = None
    country: str | None = None


class AccountRecord(msgspec.Struct, frozen=True, gc=False):
    """A customer company. ``number`` is the firm's own customer number, where the CRM holds one."""

    ref: Ref
    name: str | None
    number: str | None = None
    domain: str | None = None
    """Lower case, no scheme."""
    website: str | None = None
    phone: str | None = None
    industry: str | None = None
    address: Address | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    archived: bool = False
    merged_ids: tuple[str, ...] = ()
    """Ids that were merged into this record and still answer."""
    declared: dict[str, str] = {}
    """Ids in other systems that staff wrote into the CRM, by source name: ``{"xero": "430f..."}``."""
    custom: dict[str, Any] = {}
    """The firm's own fields by their property name, already of their scalar's Python type."""


class ContactRecord(msgspec.Struct, frozen=True, gc=False):
    """A person at one or more accounts."""

    ref: Ref
    accounts: tuple[Ref, ...]
    """The accounts that the person belongs to, as far as the call that read the record knows."""
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None
    mobile: str | None = None
    job_title: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    archived: bool = False
    custom: dict[str, Any] = {}


class AccountOrder(Word):
    """What a list of accounts may be sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    NAME = "name"


class AccountQuery(msgspec.Struct, frozen=True):
    """Which accounts. ``within`` limits to these accounts (None: all of the CRM, for staff)."""

    window: Window
    within: tuple[Ref, ...] | None = None
    text: str | None = None
    country: str | None = None
    updated_since: datetime | None = None
    conditions: tuple[Condition, ...] = ()
    order: AccountOrder = AccountOrder.CREATED_AT
    direction: Direction = Direction.ASC


class ContactOrder(Word):
    """What the contacts of an account may be sorted by."""

    ADDED = "added"
    """The CRM's own id order, oldest first: needs only the page's records to be read."""
    NAME = "name"
    """Last name, first name: all contacts of the account are read and sorted here."""


class ContactQuery(msgspec.Struct, frozen=True):
    """Which contacts of each account. Archived ones are never given. ``text`` is matched here in name and e-mail."""

    window: Window
    text: str | None = None
    order: ContactOrder = ContactOrder.ADDED
    direction: Direction = Direction.ASC


class Crm(Protocol):
    """The port. Batches answer in the order asked; N ids cost the vendor's minimum number of calls."""

    name: str

    async def accounts(self, refs: Sequence[Ref]) -> Sequence[AccountRecord | None]:
        """None where there is no such account. A merged-away id answers with the survivor, whose ``ref`` differs."""

    async def find_accounts(self, query: AccountQuery) -> Page[AccountRecord]:
        """One page of accounts; archived ones are left out."""

    async def accounts_sharing(
        self, attribute: str, values: Sequence[str]
    ) -> Sequence[Sequence[AccountRecord]]:
        """The accounts that have each value as ``number``, ``domain`` or ``declared:<source>`` (at most 3 per value are
        promised: enough to know that a key is shared)."""

    async def contacts(self, refs: Sequence[Ref]) -> Sequence[ContactRecord | None]:
        """With all accounts of each contact, so that who may see it can be decided."""

    async def contacts_of(
        self, accounts: Sequence[Ref], query: ContactQuery
    ) -> Sequence[Page[ContactRecord] | SourceError]: ...

    async def probe(self) -> Probe: ...

    async def close(self) -> None: ...
