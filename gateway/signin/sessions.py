"""Browser sessions: a cookie that only this gateway can read becomes a Proof.

The cookie's value is 256 random bits and is kept nowhere but in the browser; the ledger has its hash.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.responses import Response

from gateway.signin.proof import Proof
from gateway.signin.provider import SignedInPerson
from gateway.signin.refused import SignInRefused
from gateway.signin.same_origin import origin_of, require_own_page
from gateway.signin.session_settings import SessionSettings
from sources.ports.errors import SourceError
from sources.ports.sessions import EndedSession, SessionRecord, SessionStore, SignedOut

REMEMBERED_PROOFS = 4096
SWEEP_SECONDS = 300.0

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")

log = structlog.get_logger()


class Sessions:
    """Over the ledger's book. ``clock`` gives unix seconds."""

    def __init__(
        self,
        settings: SessionSettings,
        public_url: str,
        store: SessionStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self.clock = clock
        self._idle = timedelta(minutes=settings.idle_minutes)
        self.cookie = Cookie("session", secure=public_url.startswith("https:"), same_site=settings.same_site)
        self.origins: Collection[str] = frozenset(
            origin_of(address) for address in (public_url, *settings.portal_origins)
        )
        self._proofs: OrderedDict[str, tuple[SessionRecord, Proof]] = OrderedDict()

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    async def proof(self, headers: Headers, *, method: str, use: bool = True) -> Proof | None:
        """None when the request carries no session cookie. Raises SignInRefused for one that is not believed, and for a
        request that another site may have made. ``use``: keeps the session alive."""
        secret = self.cookie.read(headers)
        if secret is None:
            return None
        require_own_page(headers, method, self.origins)
        session = await self.find(secret, use=use)
        if session is None:
            raise SignInRefused("the session is over; sign in again")
        return self.proof_of(session)

    async def find(self, secret: str, *, use: bool = True) -> SessionRecord | None:
        """The session that is alive. Raises SignInRefused 503 when nobody can tell."""
        try:
            return await self._store.find(digest(secret), now=self.now, idle=self._idle, use=use)
        except SourceError as error:
            raise SignInRefused(
                "sessions cannot be checked now; try again", status=503, code="SOURCE_UNAVAILABLE"
            ) from error

    def proof_of(self, session: SessionRecord) -> Proof:
        """The same object for the same record."""
        kept = self._proofs.get(session.id)
        if kept is not None and kept[0] is session:
            return kept[1]
        proof = msgspec.structs.replace(
            msgspec.convert(session.proof, Proof),
            issuer=session.issuer,
            subject=session.subject,
            via="session",
            credential=session.id,
            expires_at=min(session.ends_at, self.idle_end(session)).timestamp(),
            organisation=session.organisation,
        )
        self._proofs[session.id] = session, proof
        if len(self._proofs) > REMEMBERED_PROOFS:
            self._proofs.popitem(last=False)
        return proof

    def idle_end(self, session: SessionRecord) -> datetime:
        """When it ends if nothing more happens."""
        return session.last_seen_at + self._idle

    def new(self, person: SignedInPerson) -> SessionRecord:
        """A session that could begin now."""
        now = self.now
        return SessionRecord(
            id=uuid4().hex,
            issuer=person.proof.issuer,
            subject=person.proof.subject,
            sub=person.sub,
            sid=person.sid,
            proof=_kept(person.proof),
            organisation=None,
            created_at=now,
            last_seen_at=now,
            ends_at=now + timedelta(hours=self._settings.absolute_hours),
        )

    async def begin(self, session: SessionRecord, person: SignedInPerson, replaces: Sequence[str]) -> str:
        """Its secret. What the browser had before (by hash) ends. Raises SignInRefused when the provider has signed the
        person out meanwhile, and SourceError."""
        secret = new_secret()
        try:
            ended = await self._store.create(
                session,
                digest(secret),
                person.id_token,
                issued_at=person.issued_at,
                replaces=replaces,
                most=self._settings.most_per_person,
            )
        except SignedOut as error:
            raise SignInRefused("you have been signed out meanwhile; sign in again") from error
        log.info("session_began", session=session.id, ended=len(ended))
        return secret

    async def end(self, secret: str) -> EndedSession | None:
        """None when it was over already. Raises SourceError."""
        ended = await self._store.end(digest(secret))
        if ended is not None:
            log.info("session_ended", session=ended.id)
        return ended

    async def choose(self, session: SessionRecord, organisation: str | None) -> None:
        """Raises SourceError. Whether the person may is for the asker to find out first."""
        await self._store.choose(session.id, organisation)

    async def alive(self) -> AsyncIterator[SessionRecord]:
        """All of them, by id. Raises SourceError."""
        after = None
        while page := await self._store.listed(self.now, self._idle, after):
            for session in page:
                yield session
            after = page[-1].id

    async def keep_swept(self) -> None:
        """Sweeps now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except SourceError as error:
                log.warning("sessions_not_swept", reason=type(error).__name__)

    async def sweep(self) -> None:
        """Removes what has expired."""
        if ended := await self._store.sweep(self.now, self._idle):
            log.info("sessions_expired", sessions=ended)


class Cookie:
    """One of our cookies. Over https its name begins with ``__Host-``: browsers then take it from nobody but this very
    host, over https. Plain http, which is for loopback alone, cannot have that."""

    def __init__(self, name: str, *, secure: bool, same_site: str) -> None:
        self.name = f"__Host-gateway-{name}" if secure else f"gateway-{name}"
        self._secure, self._same_site = secure, same_site

    def read(self, headers: Headers) -> str | None:
        """Its value. None where there is none or it is none of ours, and where there are several: one is not the
        browser's own."""
        start, found = f"{self.name}=", []
        for header in headers.getlist("cookie"):
            if start in header:
                found += [
                    one.strip()[len(start) :] for one in header.split(";") if one.strip().startswith(start)
                ]
        return found[0] if len(found) == 1 and _SECRET.fullmatch(found[0]) else None

    def set(self, response: Response, value: str, seconds: int) -> None:
        """Gives it to the browser."""
        response.set_cookie(
            self.name,
            value,
            max_age=seconds,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict" if self._same_site == "strict" else "lax",
        )

    def clear(self, response: Response) -> None:
        """Takes it back."""
        self.set(response, "", 0)


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What may be stored of a secret. Random as it is, it needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _kept(proof: Proof) -> dict[str, object]:
    """What requests need to know; what stands in columns of its own is left out when it is read."""
    return dict(msgspec.to_builtins(proof))
