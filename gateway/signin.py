"""A bearer token becomes a Principal: verified against the issuer's published keys, never against its own header."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import extract_compact

from gateway.settings import SignIn as SignInSettings
from permissions.principal import Principal
from permissions.roles import STAFF_ROLES, scopes_of

MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 60
REFETCH_SECONDS = 10
"""Unknown key ids cause at most one look at the issuer's keys in this time."""
REMEMBERED_TOKENS = 4096

log = structlog.get_logger()


class SignInRefused(Exception):
    """The request is not let in. ``status`` 401: who are you; 403: not for this organisation; 503: cannot tell."""

    def __init__(self, message: str, *, status: int = 401, code: str = "UNAUTHENTICATED") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class IssuerKeys:
    """The issuer's keys, fetched when first needed and again when a token names an unknown one; kept when the issuer is
    away."""

    def __init__(self, settings: SignInSettings) -> None:
        self._discovery = (
            settings.discovery_url or settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        )
        self._issuer = settings.issuer
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def for_key(self, key_id: str | None) -> KeySet:
        """Keys among which the named one should be. Raises SignInRefused 503 when none could ever be fetched."""
        if not self._knows(key_id):
            async with self._lock:
                if not self._knows(key_id) and time.monotonic() - self._fetched_at >= REFETCH_SECONDS:
                    self._fetched_at = time.monotonic()
                    await self._fetch()
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
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
                document = await self._json(session, self._discovery)
                if document.get("issuer") != self._issuer:
                    log.error("signin_discovery_names_another_issuer")
                    return
                self._keys = KeySet.import_key_set(await self._json(session, document["jwks_uri"]))  # type: ignore[arg-type]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, JoseError) as error:
            log.warning("signin_keys_not_fetched", reason=type(error).__name__)

    async def _json(self, session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
        async with session.get(url) as response:
            response.raise_for_status()
            answer: dict[str, Any] = await response.json(content_type=None)
            return answer


class SignIn:
    """Verifies tokens; remembers those that it verified until they expire."""

    def __init__(self, settings: SignInSettings) -> None:
        self._settings = settings
        self._keys = IssuerKeys(settings)
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """The caller. Raises SignInRefused with what is wrong; never says more about a token than its holder knows."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise SignInRefused("a bearer token is needed: Authorization: Bearer <token>")
        claims = await self._claims(token.strip())
        return self._principal(claims, headers.get("x-organisation"))

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise SignInRefused("the token is too large")
        claims = self._verified.get(token)
        if claims is None:
            claims = await self._verify(token)
            self._verified[token] = claims
            if len(self._verified) > REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        now = time.time()
        if claims["exp"] + LEEWAY_SECONDS <= now:
            self._verified.pop(token, None)
            raise SignInRefused("the token has expired; sign in again")
        if claims.get("nbf", now) > now + LEEWAY_SECONDS:
            raise SignInRefused("the token is not valid yet")
        return claims

    async def _verify(self, token: str) -> dict[str, Any]:
        keys = await self._keys.for_key(_key_id(token))
        try:
            claims = jwt.decode(token, keys, algorithms=list(self._settings.algorithms)).claims
        except (JoseError, ValueError) as error:
            raise SignInRefused("the token is not one of the configured issuer") from error
        audiences = claims.get("aud")
        if claims.get("iss") != self._settings.issuer:
            raise SignInRefused("the token is of another issuer")
        if self._settings.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise SignInRefused("the token is for another audience")
        if not isinstance(claims.get("exp"), int | float) or not isinstance(
            claims.get("nbf", 0), int | float
        ):
            raise SignInRefused("the token has no expiry")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise SignInRefused("the token names nobody")
        return claims

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


def _key_id(token: str) -> str | None:
    """The key id that the header names; only ever used to look among the issuer's own keys."""
    try:
        key_id = extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError) as error:
        raise SignInRefused("the token is not a signed JWT") from error
    return key_id if isinstance(key_id, str) else None


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
