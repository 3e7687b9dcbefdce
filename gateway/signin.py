"""A bearer token becomes a Principal: verified against the issuer's published keys, never against its own header."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

import aiohttp
import msgspec
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jws import JWSRegistry, extract_compact
from starlette.datastructures import Headers

from gateway.settings import SignIn as SignInSettings
from permissions.principal import Principal
from permissions.roles import STAFF_ROLES, scopes_of

MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 60
REFETCH_SECONDS = 10
"""Unknown key ids cause at most one look at the issuer's keys in this time."""
BELIEVED_SECONDS = 600
"""A key that the issuer withdraws is believed no longer than this, unless the issuer does not answer."""
FETCH_SECONDS = 5
REMEMBERED_TOKENS = 4096

T = TypeVar("T")

log = structlog.get_logger()


class SignInRefused(Exception):
    """The request is not let in. ``status`` 401: who are you; 403: not for this organisation; 503: cannot tell."""

    def __init__(self, message: str, *, status: int = 401, code: str = "UNAUTHENTICATED") -> None:
        super().__init__(message)
        self.status, self.code = status, code


def challenge(refused: SignInRefused) -> dict[str, str]:
    """The header that an answer with status 401 owes its client."""
    return {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}


class _Discovery(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _Published(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class IssuerKeys:
    """The issuer's keys, fetched when first needed, when a token names an unknown one, and now and then; kept when the
    issuer is away."""

    def __init__(self, settings: SignInSettings) -> None:
        self._discovery = (
            settings.discovery_url or settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        )
        self._issuer = settings.issuer
        self._published: _Published | None = None
        self._keys: KeySet | None = None
        self._asked_at = self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def for_key(self, key_id: str | None) -> KeySet:
        """Keys among which the named one should be: the same object until the issuer publishes others. Raises
        SignInRefused 503 when none could ever be fetched."""
        if not self._knows(key_id):
            async with self._lock:
                if not self._knows(key_id) and _since(self._asked_at) >= REFETCH_SECONDS:
                    await self._fetch()
        elif _since(self._fetched_at) >= BELIEVED_SECONDS and _since(self._asked_at) >= REFETCH_SECONDS:
            # Nobody waits for it: what is known serves until the answer is here.
            self._asked_at = time.monotonic()
            self._refreshing = asyncio.create_task(self._fetch())
        if self._keys is None:
            raise SignInRefused(
                "the issuer's keys cannot be read; try again", status=503, code="SOURCE_UNAVAILABLE"
            )
        return self._keys

    def _knows(self, key_id: str | None) -> bool:
        return self._keys is not None and (
            key_id is None or any(key.kid == key_id for key in self._keys.keys)
        )

    async def _fetch(self) -> None:
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS), aiohttp.ClientSession() as session:
                document = await self._read(session, self._discovery, _Discovery)
                if document.issuer != self._issuer:
                    log.error("signin_discovery_names_another_issuer")
                    return
                published = await self._read(session, document.jwks_uri, _Published)
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            log.warning("signin_keys_not_fetched", reason=type(error).__name__)
            return
        self._fetched_at = time.monotonic()
        if published != self._published and (keys := _usable(published.keys)):
            self._published, self._keys = published, keys

    async def _read(self, session: aiohttp.ClientSession, url: str, type_: type[T]) -> T:
        async with session.get(url) as response:
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=type_)


def _usable(published: Sequence[Mapping[str, Any]]) -> KeySet | None:
    """The public keys for signatures. One that cannot be read, of a kind not known here, does not hide the others."""
    keys = []
    for row in published:
        if row.get("kty") == "oct" or row.get("use", "sig") != "sig":
            continue
        try:
            keys.append(JWKRegistry.import_key(dict(row)))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("signin_key_not_usable", reason=type(error).__name__)
    if not keys:
        log.error("signin_issuer_publishes_no_usable_key")
        return None
    return KeySet(keys)


def _since(moment: float) -> float:
    return time.monotonic() - moment


class _Headers(JWSRegistry):
    """What a token's header may be: issuers add members of their own, which are to be ignored (RFC 7515, 4), and whole
    certificates."""

    max_header_length = MAX_TOKEN_BYTES


class _Verified(msgspec.Struct, frozen=True):
    claims: dict[str, Any]
    key_id: str | None
    keys: KeySet
    """By which it was verified: when the issuer publishes others, it is verified again."""


class SignIn:
    """Verifies tokens; remembers those that it verified until they expire."""

    def __init__(self, settings: SignInSettings) -> None:
        self._settings = settings
        self._keys = IssuerKeys(settings)
        self._headers = _Headers(algorithms=settings.algorithms, strict_check_header=False)
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    async def principal(self, headers: Headers) -> Principal:
        """The caller. Raises SignInRefused with what is wrong; never says more about a token than its holder knows."""
        sent, wanted = headers.getlist("authorization"), headers.getlist("x-organisation")
        if len(sent) > 1:
            # A proxy in front may have believed the other one.
            raise SignInRefused("several Authorization headers; send one")
        if len(wanted) > 1:
            raise SignInRefused("several X-Organisation headers; send one", status=400, code="BAD_USER_INPUT")
        scheme, _, token = (sent[0] if sent else "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise SignInRefused("a bearer token is needed: Authorization: Bearer <token>")
        claims = await self._claims(token.strip())
        return self._principal(claims, wanted[0].strip() if wanted else None)

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise SignInRefused("the token is too large")
        verified = self._verified.get(token)
        if verified is None or await self._keys.for_key(verified.key_id) is not verified.keys:
            self._verified.pop(token, None)
            verified = self._verified[token] = await self._verify(token)
            if len(self._verified) > REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        claims, now = verified.claims, time.time()
        if claims["exp"] + LEEWAY_SECONDS <= now:
            self._verified.pop(token, None)
            raise SignInRefused("the token has expired; sign in again")
        if claims.get("nbf", now) > now + LEEWAY_SECONDS:
            raise SignInRefused("the token is not valid yet")
        return claims

    async def _verify(self, token: str) -> _Verified:
        key_id = self._key_id(token)
        keys = await self._keys.for_key(key_id)
        try:
            claims = jwt.decode(token, keys, registry=self._headers).claims
        except (JoseError, ValueError, RecursionError) as error:
            raise SignInRefused("the token is not one of the configured issuer") from error
        audiences = claims.get("aud")
        if claims.get("iss") != self._settings.issuer:
            raise SignInRefused("the token is of another issuer")
        if self._settings.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise SignInRefused("the token is for another audience")
        if not _is_moment(claims.get("exp")):
            raise SignInRefused("the token has no expiry")
        if not _is_moment(claims.get("nbf", 0)):
            raise SignInRefused("the token does not say since when it is valid")
        if not _is_text(claims.get("sub")):
            raise SignInRefused("the token names nobody")
        return _Verified(claims, key_id, keys)

    def _key_id(self, token: str) -> str | None:
        """The key id that the header names; only ever used to look among the issuer's own keys."""
        try:
            key_id = extract_compact(token.encode(), registry=self._headers).headers().get("kid")
        except (JoseError, ValueError) as error:
            raise SignInRefused("the token is not a signed JWT") from error
        return key_id if isinstance(key_id, str) else None

    def _principal(self, claims: Mapping[str, Any], wanted: str | None) -> Principal:
        names = self._settings.role_names
        roles = tuple(names.get(role, role) for role in _texts(claims.get(self._settings.roles_claim)))
        organisations = _texts(claims.get(self._settings.organisations_claim))
        scopes = scopes_of(roles)
        staff = any(role in STAFF_ROLES for role in roles)
        if wanted and not staff and wanted not in organisations:
            raise SignInRefused("X-Organisation is not one of yours", status=403, code="FORBIDDEN")
        if not wanted and not staff and len(organisations) > 1:
            raise SignInRefused(
                "you may act for several organisations; name one in the X-Organisation header",
                status=400,
                code="BAD_USER_INPUT",
            )
        return Principal(
            subject=claims["sub"],
            name=_text(claims.get("name")),
            email=_text(claims.get("email")),
            roles=roles,
            scopes=scopes,
            organisation=wanted or (None if staff or not organisations else organisations[0]),
            organisations=organisations,
        )


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split()
    return tuple(filter(_is_text, value)) if isinstance(value, list) else ()


def _text(value: Any) -> str | None:
    return value if _is_text(value) else None


def _is_text(value: Any) -> TypeGuard[str]:
    """Not empty, and without the lone surrogates that JSON can spell but no database or answer can hold."""
    return isinstance(value, str) and value != "" and not any("\ud800" <= one <= "\udfff" for one in value)


def _is_moment(value: Any) -> bool:
    """JSON as Python reads it has NaN and Infinity, which no clock ever reaches."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )
