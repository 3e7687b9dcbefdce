"""Organisations: the customers of the portal, and the accounts in the CRM that each of them is."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from sources.ports.common import Ref


class OrganisationRecord(msgspec.Struct, frozen=True):
    """Whom a customer's people act for. Its ``accounts`` are all that they may see."""

    id: str
    name: str
    accounts: tuple[Ref, ...]


class OrganisationStore(Protocol):
    """The ledger's book of organisations."""

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
