"""The issuers' keys, fetched from them alone and kept through their outages."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from gateway.settings import SignIn as SignInSettings
from gateway.signin.refused import SignInRefused

REFETCH_SECONDS = 10
"""Unknown key ids cause at most one look at the issuer's keys in this time."""
BELIEVED_SECONDS = 600
"""A key that the issuer withdraws is believed no longer than this, unless the issuer does not answer."""
FETCH_SECONDS = 5

T = TypeVar("T")

log = structlog.get_logger()


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
