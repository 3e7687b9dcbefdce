"""Where OAuth connections keep their tokens between processes."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec


class Tokens(msgspec.Struct, frozen=True):
    """What one connection holds. ``seed`` fingerprints the configured refresh token that it started from, empty where it
    was connected by ``gateway connect``."""

    refresh_token: str
    seed: str
    access_token: str | None = None
    expires_at: datetime | None = None
    consent_needed: bool = False


class TokenState(msgspec.Struct, frozen=True):
    """How one connection stands, without its tokens."""

    connection: str
    consent_needed: bool
    key_id: str | None
    """None: stored before there were keys."""
    readable: bool
    """Do the keys that are there open it?"""
    current: bool
    """Is it stored under the newest key?"""


class HeldTokens(Protocol):
    """The row of one connection while it is locked against every other process."""

    tokens: Tokens | None

    async def save(self, tokens: Tokens) -> None:
        """Durable when it returns."""


class TokenStore(Protocol):
    """One row per connection; the lock spans processes. Raises SourceRejected of the connection for a row that the keys
    do not open, and never writes over one unasked."""

    def require_key(self, connection: str) -> None:
        """Raises SourceRejected where tokens could not be stored encrypted."""

    async def load(self, connection: str) -> Tokens | None: ...

    def hold(self, connection: str) -> AbstractAsyncContextManager[HeldTokens]:
        """Waits for the connection's lock and gives what is stored by then."""

    async def replace(self, connection: str, tokens: Tokens) -> None:
        """Whatever is stored, also where it cannot be read: for new tokens that somebody has just consented to."""

    async def states(self) -> Sequence[TokenState]:
        """All connections, in the order of their names."""

    async def rotate(self, connection: str) -> None:
        """Stores what is there anew, under the newest key."""
