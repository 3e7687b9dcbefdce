"""A token that only its issuer can read becomes a Proof: the issuer is asked (RFC 7662), and its answer kept for a while."""

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from typing import Any, TypeVar
from urllib.parse import quote_plus

import aiohttp
import msgspec
import structlog

from gateway.signin.claims import names_issuer, proof_of
from gateway.signin.issuers import Issuer, Issuers
from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from gateway.signin.tokens import LEEWAY_SECONDS, require_use
from sources.transport.deadline import no_deadline, remaining

REFUSED_SECONDS = 10
"""How long a token that was not believed is not asked about again."""
ANSWER_SECONDS = 5
REMEMBERED_TOKENS = 4096
AT_ONCE = 10
"""Questions to one issuer: a flood of invented tokens must not become a flood at the issuer's."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750, 2.1."""

T = TypeVar("T")

log = structlog.get_logger()


class _Known(msgspec.Struct, frozen=True):
    """Whom a token names."""

    proof: Proof
    until: float
    """Monotonic seconds."""
    not_before: float
    expires_at: float


class _Refused(msgspec.Struct, frozen=True):
    """Why a token lets nobody in."""

    message: str
    status: int
    code: str
    until: float
    """Monotonic seconds."""


class Introspection:
    """Asks; remembers by the token's hash what was answered."""

    def __init__(self, issuers: Issuers) -> None:
        asked = [issuer for issuer in issuers if issuer.settings.introspect]
        # The longest first: a token goes to the issuer whose prefix says most.
        self._asked = sorted(asked, key=lambda issuer: -len(issuer.settings.opaque_prefix))
        self._free = {id(issuer): asyncio.Semaphore(AT_ONCE) for issuer in asked}
        # Apart, so that a flood of invented tokens has no good one forgotten.
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._refused: OrderedDict[bytes, _Refused] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Known | _Refused]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def proof(self, token: str) -> Proof | None:
        """None where no issuer is to be asked about such a token. Raises SignInRefused for one that is not believed, and
        503 when the issuer does not answer."""
        issuer = self._issuer_of(token)
        if issuer is None:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest) or self._refused.get(digest)
        if known is None or known.until <= time.monotonic():
            known = await self._asked_once(issuer, token, digest)
        if isinstance(known, _Refused):
            raise SignInRefused(known.message, status=known.status, code=known.code)
        now = time.time()
        if known.expires_at <= now:
            raise SignInRefused("the token has expired; sign in again")
        if known.not_before > now + LEEWAY_SECONDS:
            raise SignInRefused("the token is not valid yet")
        return known.proof

    async def probe(self, issuer: Issuer) -> str | None:
        """Why the issuer does not tell us about tokens; None: it does."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                claims = await self._answer(issuer, "a-token-that-nobody-has-issued")
        except SignInRefused as refused:
            return str(refused)
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"it cannot be reached ({type(error).__name__})"
        except (ValueError, msgspec.MsgspecError) as error:
            return str(error)
        return None if claims.get("active") is False else "it answers, but not as RFC 7662 has it"

    async def close(self) -> None:
        """Ends what is under way."""
        for task in self._asking.values():
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def _issuer_of(self, token: str) -> Issuer | None:
        if not _TOKEN.fullmatch(token):
            return None
        return next((one for one in self._asked if token.startswith(one.settings.opaque_prefix)), None)

    async def _asked_once(self, issuer: Issuer, token: str, digest: bytes) -> _Known | _Refused:
        """All who come with the same token while it is asked about wait for the one answer."""
        task = self._asking.get(digest)
        if task is None:
            with no_deadline():
                task = self._asking[digest] = asyncio.create_task(self._ask(issuer, token, digest))
            task.add_done_callback(lambda done: self._done(digest, done))
        # One of several who wait for it may go away, or have less time.
        await asyncio.wait([task], timeout=remaining())
        if not task.done():
            raise _unanswered()
        return task.result()

    def _done(self, digest: bytes, task: asyncio.Task[_Known | _Refused]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            # Whoever waited has it; nobody may be left.
            task.exception()

    async def _ask(self, issuer: Issuer, token: str, digest: bytes) -> _Known | _Refused:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._free[id(issuer)]:
                claims = await self._answer(issuer, token)
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            log.warning(
                "signin_token_not_introspected", issuer=issuer.settings.issuer, reason=type(error).__name__
            )
            raise _unanswered() from error
        known = _read(claims, issuer, self._known.pop(digest, None))
        self._refused.pop(digest, None)
        if isinstance(known, _Known):
            _remember(self._known, digest, known)
        else:
            _remember(self._refused, digest, known)
        return known

    async def _answer(self, issuer: Issuer, token: str) -> dict[str, Any]:
        settings, document = issuer.settings, await issuer.document()
        endpoint = settings.introspection_url or document.introspection_endpoint
        if endpoint is None:
            raise ValueError("the issuer has no introspection endpoint")
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {"Accept": "application/json"}
        client_id, client_secret = settings.client_id or "", settings.client_secret or ""
        ways = document.introspection_endpoint_auth_methods_supported
        if ways and "client_secret_basic" not in ways:
            form |= {"client_id": client_id, "client_secret": client_secret}
        else:
            # Form-encoded first (RFC 6749, 2.3.1).
            headers["Authorization"] = aiohttp.encode_basic_auth(
                quote_plus(client_id), quote_plus(client_secret)
            )
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        # Redirected, our secret and the token would go who knows where.
        async with self._session.post(
            endpoint, data=form, headers=headers, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise ValueError(f"the issuer answers {response.status}")
            return msgspec.json.decode(await response.read(), type=dict[str, Any])


def _remember(book: OrderedDict[bytes, T], digest: bytes, known: T) -> None:
    book[digest] = known
    if len(book) > REMEMBERED_TOKENS:
        book.popitem(last=False)


def _read(claims: dict[str, Any], issuer: Issuer, before: _Known | None) -> _Known | _Refused:
    settings, now = issuer.settings, time.monotonic()
    try:
        _require_access_token(claims, issuer)
        expires_at, not_before = require_use(claims, settings)
        proof = proof_of(claims, settings)
    except SignInRefused as refused:
        return _Refused(str(refused), refused.status, refused.code, now + REFUSED_SECONDS)
    if before is not None and _same(before.proof, proof):
        # The same object: what follows from it is remembered with it.
        proof = before.proof
    return _Known(proof, now + settings.introspection_seconds, not_before, expires_at)


def _require_access_token(claims: dict[str, Any], issuer: Issuer) -> None:
    if claims.get("active") is not True:
        raise SignInRefused("the token is not known to its issuer, or not valid any more")
    if claims.get("iss", issuer.settings.issuer) != issuer.settings.issuer and not names_issuer(
        claims, issuer.settings
    ):
        raise SignInRefused("the token is of another issuer")
    # Some issuers tell of refresh tokens, too, which are worth something only to them.
    kind, use = claims.get("token_type", "Bearer"), claims.get("token_use", "access_token")
    if not isinstance(kind, str) or kind.lower() not in ("bearer", "access_token") or use != "access_token":
        raise SignInRefused("this is no access token")


def _unanswered() -> SignInRefused:
    return SignInRefused(
        "the issuer cannot be asked about the token; try again", status=503, code="SOURCE_UNAVAILABLE"
    )


def _same(one: Proof, other: Proof) -> bool:
    return msgspec.structs.asdict(one) == msgspec.structs.asdict(other)
