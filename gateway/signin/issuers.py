"""The configured issuers: which of them a token claims to be of, their discovery documents and keys, kept through outages."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar

import aiohttp
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, KeySet

from gateway.signin.refused import SignInRefused
from gateway.signin.settings import TENANT, IssuerSettings
from sources.transport.deadline import remaining

REFETCH_SECONDS = 10
"""Unknown key ids cause at most one look at the issuer's keys in this time."""
BELIEVED_SECONDS = 600
"""A key that the issuer withdraws is believed no longer than this, unless the issuer does not answer."""
FETCH_SECONDS = 4
"""Less than whoever has no deadline waits, so that the reason is there to be told."""

T = TypeVar("T")

log = structlog.get_logger()


class Discovery(msgspec.Struct, frozen=True):
    """What an issuer says of itself (OpenID Connect Discovery 1.0, 3). None or empty: it does not say."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    introspection_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()
    introspection_endpoint_auth_methods_supported: tuple[str, ...] = ()
    id_token_signing_alg_values_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False


class _Published(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class IssuerKeys:
    """The issuer's keys, fetched when first needed, when a token names an unknown one, and now and then; kept when the
    issuer is away."""

    def __init__(self, settings: IssuerSettings) -> None:
        # Entra ID describes all tenants at once under this name.
        common = settings.issuer.replace(TENANT, "organizations")
        self._discovery = settings.discovery_url or common.rstrip("/") + "/.well-known/openid-configuration"
        self._issuer = settings.issuer
        self.document: Discovery | None = None
        """As last fetched."""
        self.refusal: str | None = None
        """Why the last look did not help, for whoever mends the settings."""
        self._published: _Published | None = None
        self._keys: KeySet | None = None
        self._ids: frozenset[str | None] = frozenset()
        """Of the keys; and None, which any of them may be meant by."""
        self._tenants: Mapping[str, str] = {}
        self._asked_at = self._fetched_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    def at_hand(self, key_id: str | None) -> KeySet | None:
        """What ``for_key`` would give; None where it would have to ask the issuer, whether or not somebody waits for that."""
        known = key_id in self._ids and monotonic() < self._fetched_at + BELIEVED_SECONDS
        return self._keys if known else None

    async def for_key(self, key_id: str | None) -> KeySet:
        """Keys among which the named one should be: the same object until the issuer publishes others. Raises
        SignInRefused 503 when none could ever be fetched."""
        known = self._knows(key_id)
        if (not known or _since(self._fetched_at) >= BELIEVED_SECONDS) and (
            _since(self._asked_at) >= REFETCH_SECONDS
        ):
            self._asked_at = monotonic()
            self._fetching = asyncio.create_task(self._fetch())
        # For a refresh nobody waits: what is known serves until the answer is here.
        if not known and self._fetching is not None:
            # All who come meanwhile wait for it, and whose time is over leaves it to the others.
            await asyncio.wait([self._fetching], timeout=remaining())
        if self._keys is None:
            raise SignInRefused(
                "the issuer's keys cannot be read; try again", status=503, code="SOURCE_UNAVAILABLE"
            )
        return self._keys

    def signs_for(self, key_id: str | None, issuer: str | None, tenant: str | None) -> bool:
        """May this key sign for that issuer? Entra ID publishes keys of single tenants among everybody's, and says whose
        they are."""
        owner = self._tenants.get(key_id or "")
        return owner is None or owner.replace(TENANT, tenant or "") == issuer

    def _knows(self, key_id: str | None) -> bool:
        return key_id in self._ids

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS), aiohttp.ClientSession() as session:
                document = await self._read(session, self._discovery, Discovery)
                if document.issuer != self._issuer:
                    self.refusal = f"the discovery document is of the issuer {document.issuer[:200]!r}"
                    log.error("signin_discovery_names_another_issuer", issuer=self._issuer)
                    return
                if self._discovery.startswith("https:") and not document.jwks_uri.startswith("https:"):
                    self.refusal = "its keys are not at an https:// address"
                    log.error("signin_keys_without_https", issuer=self._issuer)
                    return
                published = await self._read(session, document.jwks_uri, _Published)
        except (aiohttp.ClientError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            self.refusal = f"{self._discovery} or its keys cannot be read ({type(error).__name__})"
            log.warning("signin_keys_not_fetched", issuer=self._issuer, reason=type(error).__name__)
            return
        self._fetched_at, self.document, self.refusal = monotonic(), document, None
        if published == self._published:
            return
        if keys := _usable(published.keys):
            self._published, self._keys = published, keys
            self._ids = frozenset((None, *(key.kid for key in keys.keys)))
            owned = [(row.get("kid"), row.get("issuer")) for row in published.keys]
            self._tenants = {
                kid: owner for kid, owner in owned if isinstance(kid, str) and isinstance(owner, str)
            }
        else:
            self.refusal = "it publishes no key that can be used"
            log.error("signin_issuer_publishes_no_usable_key", issuer=self._issuer)

    async def _read(self, session: aiohttp.ClientSession, url: str, type_: type[T]) -> T:
        async with session.get(url) as response:
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=type_)


class Issuer:
    """One issuer: what we know of it, and what it says of itself."""

    def __init__(self, settings: IssuerSettings) -> None:
        self.settings = settings
        self.keys = IssuerKeys(settings)

    async def document(self) -> Discovery:
        """Kept through the issuer's outages. Raises SignInRefused 503 when it could never be fetched."""
        if self.keys.document is None:
            await self.keys.for_key(None)
        if self.keys.document is None:
            raise SignInRefused(
                "the identity provider cannot be reached; try again", status=503, code="SOURCE_UNAVAILABLE"
            )
        return self.keys.document


class Issuers:
    """All of them. Iterates in the order of the settings."""

    def __init__(self, settings: Sequence[IssuerSettings]) -> None:
        self._all = [Issuer(one) for one in settings]
        self._named = {
            name: one for one in self._all for name in (one.settings.issuer, *one.settings.aliases)
        }
        self._patterns = [
            (re.compile(re.escape(name).replace(re.escape(TENANT), "[^/]+")), one)
            for name, one in self._named.items()
            if TENANT in name
        ]

    def __iter__(self) -> Iterator[Issuer]:
        return iter(self._all)

    def of(self, name: str) -> Issuer | None:
        """Whose name that is; says nothing about whether what bears it is genuine."""
        if found := self._named.get(name):
            return found
        return next((one for pattern, one in self._patterns if pattern.fullmatch(name)), None)


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
    return KeySet(keys) if keys else None


def _since(moment: float) -> float:
    return monotonic() - moment
