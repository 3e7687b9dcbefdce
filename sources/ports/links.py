"""Which record of another system is which account of the CRM, and how we know."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from sources.ports.common import Ref, Word


class LinkState(Word):
    """How sure a link is. Only MATCHED and CONFIRMED ones give a customer data."""

    MATCHED = "matched"
    """Found by a rule, alone on both sides."""
    CONFIRMED = "confirmed"
    """Chosen by staff; rules never change it."""
    AMBIGUOUS = "ambiguous"
    """Several are possible, or another account has the same claim."""
    UNMATCHED = "unmatched"
    """No rule found any; looked for again later."""
    ABSENT = "absent"
    """Staff say that the account has no counterpart: lists are empty, not unknown."""


SETTLED = (LinkState.MATCHED, LinkState.CONFIRMED, LinkState.ABSENT)
"""What stands until something new is decided."""


class Link(msgspec.Struct, frozen=True):
    """What is known of one account in one other system."""

    account: Ref
    source: str
    state: LinkState
    counterpart: Ref | None = None
    """Set when MATCHED or CONFIRMED."""
    evidence: str | None = None
    """The rule and the attribute that decided, never the record's data: ``declared in the CRM``, ``email_domain``."""
    candidates: tuple[Ref, ...] = ()
    """When AMBIGUOUS: what staff may choose from."""
    decided_by: str | None = None
    """The subject or name of who confirmed."""
    updated_at: datetime | None = None


class LinkTaken(Exception):
    """The counterpart belongs to another account by a link that is MATCHED or CONFIRMED."""


class LinkStore(Protocol):
    """The ledger's book of links. One counterpart never has two accounts."""

    async def links_of(self, accounts: Sequence[Ref], source: str) -> Sequence[Link | None]:
        """In the order asked; one query. None where nothing was ever decided."""

    async def accounts_of(self, counterparts: Sequence[Ref]) -> Sequence[Ref | None]:
        """The other way round, in the order asked; one query. Only MATCHED and CONFIRMED links count."""

    async def record(self, links: Sequence[Link]) -> Sequence[Link]:
        """Stores what matching found and gives what stands now, in the same order.

        CONFIRMED and ABSENT links stay. A MATCHED link whose counterpart another account already holds is stored as
        AMBIGUOUS with that counterpart as candidate, and so is the other account's when it was only MATCHED: neither
        may see what might be the other's. Safe when two processes match at once.
        """

    async def listed(
        self,
        states: Sequence[LinkState],
        source: str | None = None,
        after: Link | None = None,
        limit: int = 100,
    ) -> Sequence[Link]:
        """By account and source, for staff."""

    async def confirm(self, account: Ref, counterpart: Ref, by: str) -> Link:
        """Raises LinkTaken when another account holds the counterpart."""

    async def declare_absent(self, account: Ref, source: str, by: str) -> Link: ...

    async def forget(self, account: Ref, source: str) -> None:
        """Drops the link so that matching starts afresh."""
