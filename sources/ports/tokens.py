"""Where OAuth connections keep their tokens between processes."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec


class Tokens(msgspec.Struct, frozen=True):
    """What one connection holds. ``seed`` fingerprints the configured refresh token that it started from."""

    refresh_token: str
    seed: str
    access_token: str | None = None
    expires_at: datetime | None = None
    consent_needed: bool = False


class HeldTokens(Protocol):
    """The row of one connection while it is locked against every other process."""

    tokens: Tokens | None

    async def save(self, tokens: Tokens) -> None:
        """Durable when it returns."""


class TokenStore(Protocol):
    """One row per connection; the lock spans processes."""

    async def load(self, connection: str) -> Tokens | None: ...

    def hold(self, connection: str) -> AbstractAsyncContextManager[HeldTokens]:
        """Waits for the connection's lock and gives what is stored by then."""
