"""Service accounts: programs that act for one organisation or for the firm, and the API keys that they sign in with."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

import msgspec

MOST_ACCOUNTS = 100
"""Of one organisation."""
MOST_KEYS = 20
"""Of one account that are neither revoked nor expired."""


class KeyLifetime(msgspec.Struct, frozen=True):
    """How long a key may sign in."""

    usual: timedelta
    """Where nothing is said."""
    longest: timedelta


class ServiceAccountRecord(msgspec.Struct, frozen=True):
    """A program that may sign in."""

    id: str
    organisation: str | None
    """Whom it acts for; None: the firm."""
    name: str
    scopes: tuple[str, ...]
    """All that its keys may hold."""
    created_at: datetime
    created_by: str
    """The identity of whoever made it."""


class StateOfKey(Enum):
    """What a key is still good for. Only ACTIVE ones sign in."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ApiKeyRecord(msgspec.Struct, frozen=True):
    """A key without its secret. ``id`` is the part of the key's text that may be shown."""

    id: str
    account: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute."""

    @property
    def state(self) -> StateOfKey:
        """At this moment."""
        if self.revoked_at is not None:
            return StateOfKey.REVOKED
        return StateOfKey.EXPIRED if self.expires_at <= datetime.now(UTC) else StateOfKey.ACTIVE


class KnownKey(msgspec.Struct, frozen=True):
    """What tells whether a presented key is this one, and whom it lets in."""

    account: ServiceAccountRecord
    key: ApiKeyRecord
    """``last_used_at`` is not read here."""
    digest: bytes
    """SHA-256 of the secret."""


class ServiceAccountStore(Protocol):
    """The ledger's book of service accounts. ``organisation`` None is the firm: what is another organisation's, or the
    firm's where an organisation is named, reads as not there. Writes raise WriteRefused."""

    def remembered(self, key: str) -> KnownKey | None:
        """Without asking; None also for a key that is only not remembered."""

    async def known(self, keys: Sequence[str]) -> Sequence[KnownKey | None]:
        """By key id, in the order asked; one query, none for what is remembered. Also revoked and expired ones."""

    async def accounts_of(self, organisation: str | None) -> Sequence[ServiceAccountRecord]:
        """By name."""

    async def account(self, organisation: str | None, account: str) -> ServiceAccountRecord | None: ...

    async def keys_of(self, accounts: Sequence[str]) -> Sequence[Sequence[ApiKeyRecord]]:
        """Of each account, newest first; one query. The accounts must be the caller's."""

    async def key(self, organisation: str | None, key: str) -> ApiKeyRecord | None: ...

    async def create(self, account: ServiceAccountRecord) -> None:
        """Refused: NOT_FOUND (organisation), TOO_MANY."""

    async def create_key(self, organisation: str | None, key: ApiKeyRecord, digest: bytes) -> None:
        """Refused: NOT_FOUND (account), TOO_MANY."""

    async def revoke(self, organisation: str | None, key: str, at: datetime) -> None:
        """Holds in every process at once. Revoking again changes nothing. Refused: NOT_FOUND."""

    async def remove(self, organisation: str | None, account: str) -> None:
        """The account and all its keys. Refused: NOT_FOUND."""

    async def used(self, uses: Mapping[str, datetime]) -> None:
        """When each key was last used, which is no change that memory forgets for. Keys that are gone are left out."""
