"""Browser sessions: sign-ins under way, who is signed in, and whom a provider has signed out.

A secret never reaches the store: what names a session or a sign-in there is its hash. ``now`` is the asker's clock.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec


class PendingSignIn(msgspec.Struct, frozen=True):
    """What must be remembered between sending a browser to the provider and its return."""

    issuer: str
    nonce: str
    code_verifier: str
    return_to: str
    expires_at: datetime
    max_age: int | None = None
    acr_values: str | None = None
    replaces: str | None = None
    """The hash of the session that the browser already had."""


class SessionRecord(msgspec.Struct, frozen=True):
    """Somebody signed in with one browser."""

    id: str
    """Names the session in audit records and logs; worth nothing without its secret."""
    issuer: str
    subject: str
    sub: str
    """The provider's own word for the person, by which its logout tokens name them."""
    sid: str | None
    """The provider's own name of its session."""
    proof: Mapping[str, Any]
    """Who it is, as the door understood the claims; nothing else of the ID token is kept for requests."""
    organisation: str | None
    """The one chosen to act for."""
    created_at: datetime
    last_seen_at: datetime
    """Up to a minute behind."""
    ends_at: datetime


class Logout(msgspec.Struct, frozen=True):
    """A provider's word that somebody has signed out: of one of its sessions, or of all."""

    issuer: str
    id: str
    """The logout token's jti."""
    sub: str | None
    sid: str | None
    issued_at: datetime
    remembered_until: datetime


class EndedSession(msgspec.Struct, frozen=True):
    """What signing out at the provider needs."""

    id: str
    issuer: str
    subject: str
    id_token: str


class SessionStore(Protocol):
    """The ledger's book of sessions. An ended session is gone for every process within a moment."""

    async def begin(self, state_hash: str, browser_hash: str, pending: PendingSignIn) -> None: ...

    async def take(self, state_hash: str, browser_hash: str, now: datetime) -> PendingSignIn | None:
        """At most once per state, and only for the browser that began it."""

    async def create(
        self,
        session: SessionRecord,
        secret_hash: str,
        id_token: str,
        *,
        issued_at: datetime,
        replaces: Sequence[str] = (),
        most: int,
    ) -> Sequence[str]:
        """Ends the sessions whose hashes are given, and the person's oldest beyond ``most``; gives the ids of those.
        Raises SignedOut when the provider has ended what the ID token of ``issued_at`` stands for."""

    async def find(
        self, secret_hash: str, *, now: datetime, idle: timedelta, use: bool = True
    ) -> SessionRecord | None:
        """None when there is none, or its time is over. ``use`` counts as being there, written once a minute. No query
        while the process hears of changes, otherwise one."""

    async def choose(self, session: str, organisation: str | None) -> None:
        """The organisation that the session of this id acts for from now on."""

    async def end(self, secret_hash: str) -> EndedSession | None:
        """None when there was none."""

    async def end_of(self, issuer: str, subject: str) -> int:
        """Everywhere that this person is signed in; how many."""

    async def sign_out(self, logout: Logout) -> int:
        """How many sessions it ended. Raises Replayed for a logout that was seen before."""

    async def sign_out_of(self, issuer: str, sid: str) -> int:
        """The sessions under one of the provider's; how many."""

    async def sweep(self, now: datetime, idle: timedelta) -> int:
        """Removes what has expired; how many sessions."""

    async def listed(
        self, now: datetime, idle: timedelta, after: str | None = None, limit: int = 100
    ) -> Sequence[SessionRecord]:
        """Those that are alive, by id."""


class SignedOut(Exception):
    """The provider ended its session before ours could begin."""


class Replayed(Exception):
    """This logout token has been used."""
