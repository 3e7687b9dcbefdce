"""Who is at the other end of a connection that stays open: asked again whenever that may have changed."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import msgspec
import structlog
from starlette.datastructures import Headers

from gateway.errors import log_sources
from gateway.office import Office
from gateway.signin.refused import SignInRefused
from permissions.principal import Principal
from sources.ports.changes import ChangeFeed, Listener
from sources.ports.errors import SourceError
from sources.ports.members import OrganisationRecord
from sources.transport.deadline import deadline

BOOKS = (
    "api_keys",
    "invitations",
    "members",
    "organisation_accounts",
    "organisations",
    "service_accounts",
    "sessions",
    "viewings",
)
"""Whose changes may change who somebody is."""

UNHEARD_SECONDS = 3.0
"""How often to ask while nobody would tell us."""
ROUTINE_SECONDS = 60.0
"""How often to ask anyway: an issuer tells nobody that it has withdrawn a key or an opaque token."""
APART_SECONDS = 0.5
"""Between two questions: a directory that changes a thousand members asks each connection twice a second at most."""
PATIENCE_SECONDS = 1.0
"""For one question, and for how long none may be answered: then the connection ends, since nobody knows whose it is."""

_EXPIRED = "what you signed in with has expired; sign in again"
_REMOVED = "you are no member of the organisation any more"
_NOBODY_KNOWS = "nobody can say who you are at the moment; try again"

log = structlog.get_logger()


class Ended(msgspec.Struct, frozen=True):
    """Why the connection must end. ``code`` is a WebSocket's: 4401 not signed in any more, 4403 not allowed any more,
    1012 and 1013 connect again."""

    code: int
    reason: str


class Caller:
    """The caller of one connection. ``principal`` is who they are now; ``watch`` keeps it true."""

    def __init__(
        self, office: Office, headers: Headers, method: str, principal: Principal, listener: Listener
    ) -> None:
        self.principal = principal
        self._office, self._headers, self._method, self._listener = office, headers, method, listener
        self._organisations: Sequence[OrganisationRecord | None] | None = None
        self._changed = asyncio.Event()

    async def standings(self) -> AsyncGenerator[Principal, None]:
        """The principal now, and again whenever it or its organisations change. Who reads slowly gets the latest."""
        while True:
            changed = self._changed
            yield self.principal
            await changed.wait()

    @property
    def change(self) -> asyncio.Event:
        """Set when the principal or its organisations are others than now. To be taken before ``principal`` is read."""
        return self._changed

    async def act(self) -> None:
        """The caller does something: whether they still may is asked as for any request, and their session stays alive.
        Raises SignInRefused."""
        await self._take(await _asked(self._office, self._headers, self._method))

    async def watch(self) -> Ended:
        """Runs as long as the caller may stay; says why no longer."""
        closing = asyncio.create_task(self._office.closing.wait(), name="caller-closing")
        watching = asyncio.create_task(self._watch(), name="caller")
        try:
            await asyncio.wait([closing, watching], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                return watching.result()
            return Ended(1012, "the gateway is restarting; connect again")
        finally:
            closing.cancel()
            watching.cancel()
            await asyncio.gather(closing, watching, return_exceptions=True)

    async def _watch(self) -> Ended:
        silent_since: float | None = None
        await self._look_up_organisations(self.principal)
        while True:
            if silent_since is None:
                await self._news()
            try:
                async with self._office.turns.one():
                    asked_at = time.monotonic()
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        await self._ask_again()
                silent_since = None
            except (SignInRefused, SourceError, TimeoutError) as error:
                if isinstance(error, SignInRefused) and error.status < 500:
                    return Ended(4401 if error.status == 401 else 4403, str(error))
                silent_since = silent_since or asked_at
                if time.monotonic() - silent_since >= PATIENCE_SECONDS:
                    log.warning("caller_not_known", reason=type(error).__name__)
                    return Ended(1013, _NOBODY_KNOWS)
            await asyncio.sleep(APART_SECONDS)

    async def _ask_again(self) -> None:
        with deadline(PATIENCE_SECONDS):
            principal = await self._office.signin.principal(self._headers, method=self._method, use=False)
        if _expired(principal):
            raise SignInRefused(_EXPIRED)
        await self._take(principal)

    async def _news(self) -> None:
        """Waits until it is worth asking again."""
        expires_at = self.principal.expires_at
        left = ROUTINE_SECONDS if expires_at is None else expires_at - time.time()
        patience = min(ROUTINE_SECONDS, max(0.0, left))
        await _heard(self._office.ledger.changes, self._listener, patience)

    async def _take(self, principal: Principal) -> None:
        before = self.principal
        if before.member is not None and before.organisation not in principal.organisations:
            # Still somebody, but not for whom the connection was opened.
            raise SignInRefused(_REMOVED, status=403, code="FORBIDDEN")
        changed = await self._look_up_organisations(principal)
        # That a session goes on for longer changes nothing.
        changed |= replace(principal, expires_at=None) != replace(before, expires_at=None)
        self.principal = principal
        if changed:
            told, self._changed = self._changed, asyncio.Event()
            told.set()

    async def _look_up_organisations(self, principal: Principal) -> bool:
        """Are they others than before, or called otherwise? What cannot be read has not changed."""
        ids = list(dict.fromkeys([*principal.organisations, *filter(None, [principal.organisation])]))
        try:
            with deadline(PATIENCE_SECONDS):
                known = await self._office.ledger.organisations.organisations(ids) if ids else ()
        except SourceError:
            return False
        before, self._organisations = self._organisations, known
        return before is not None and list(before) != list(known)


@asynccontextmanager
async def staying(office: Office, headers: Headers, method: str) -> AsyncIterator[Caller]:
    """Lets the caller of a connection in, until the block is left. Raises SignInRefused."""
    # Listening begins first: what changes while the caller is let in is heard.
    with office.ledger.changes.listen(*BOOKS) as listener:
        principal = await _asked(office, headers, method)
        with office.connections.one_more(principal.viewed_by or principal.identity):
            yield Caller(office, headers, method, principal, listener)


async def _asked(office: Office, headers: Headers, method: str) -> Principal:
    try:
        with deadline(office.settings.door.deadline):
            principal = await office.signin.principal(headers, method=method)
    except SourceError as error:
        log_sources([error])
        raise SignInRefused(_NOBODY_KNOWS, status=503, code="SOURCE_UNAVAILABLE") from error
    if _expired(principal):
        # Requests are believed a little longer, for clocks that differ; a connection would end at once.
        raise SignInRefused(_EXPIRED)
    return principal


async def news(feed: ChangeFeed, *books: str) -> AsyncGenerator[None, None]:
    """At once, and again whenever one of these books has changed, or may have while nobody would tell."""
    with feed.listen(*books) as listener:
        while True:
            yield
            await asyncio.sleep(APART_SECONDS)
            await _heard(feed, listener)


async def _heard(feed: ChangeFeed, listener: Listener, patience: float | None = None) -> None:
    """Waits for a change, and no longer than ``patience``."""
    waits = [] if patience is None else [patience]
    if not feed.heard:
        waits.append(UNHEARD_SECONDS - APART_SECONDS)
    with suppress(TimeoutError):
        async with asyncio.timeout(min(waits, default=None)):
            await listener.change()


def _expired(principal: Principal) -> bool:
    return principal.expires_at is not None and principal.expires_at <= time.time()
