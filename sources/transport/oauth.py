"""OAuth 2 connections to vendors: client credentials, refresh tokens, and refresh tokens that are used once.

The token requests are Authlib's; what is here is when to make them, and that a rotated token is never lost.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from random import uniform
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import msgspec
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from sources.ports.errors import (
    UNREADABLE,
    ConsentNeeded,
    SourceRejected,
    SourceTimeout,
    SourceUnavailable,
    word,
)
from sources.ports.tokens import Tokens, TokenStore
from sources.ports.trace import span, unseen
from sources.transport.addresses import Addresses, AddressNotAllowed
from sources.transport.connections import NoAnswer
from sources.transport.counts import Renewals
from sources.transport.deadline import in_time
from sources.transport.guarded import GuardedTransport
from sources.transport.http import Request

AHEAD = (0.7, 0.85)
"""An access token is renewed, while it is still in use, after a part of its time between these."""

EARLY = timedelta(seconds=60)
"""With less left than this it is not used any more."""

TOKEN_SECONDS = 30.0
"""What a token request may take, whatever is left to the request that needed it."""

LONGEST_LIFE_SECONDS = 1e9
"""Of an access token, some thirty years: whoever says more has said nothing."""

_TOKEN = re.compile(r"[\x20-\x7e]+")
"""RFC 6749, appendix A."""

ClientAuth = str | Callable[[Any, str, str, MutableMapping[str, str], bytes], tuple[str, Any, bytes]]
"""How the token endpoint wants to know the client: one of Authlib's names, or a function in Authlib's form."""

Refused = Callable[[Mapping[str, Any]], bool]
"""Does a token endpoint's answer say, in a form that is not OAuth's, that the refresh token is spent?"""


def client_in_json(
    client: Any, method: str, uri: str, headers: MutableMapping[str, str], body: bytes
) -> tuple[str, Any, bytes]:
    """The whole token request as a JSON object, client id and secret in it."""
    form = dict(parse_qsl(body.decode()))
    form |= {"client_id": client.client_id, "client_secret": client.client_secret}
    headers["Content-Type"] = "application/json"
    return uri, headers, json.dumps(form).encode()


class _Access(msgspec.Struct):
    """An access token, and when another process or this one should have the next."""

    token: str
    expires_at: datetime | None
    renew_at: datetime | None


class _Bearer:
    """An access token that is renewed ahead of its expiry while requests go on with the one at hand.

    A renewal goes on when the request that needed it gives up: otherwise a rotated token could be lost on its way.
    """

    def __init__(self, source: str, token_url: str, addresses: Addresses, renewals: Renewals | None) -> None:
        if not addresses.allow_url(token_url):
            raise SourceRejected(source, _PRIVATE)
        self._source = source
        self._access: _Access | None = None
        self._lock = asyncio.Lock()
        self._renewing: set[asyncio.Task[_Access]] = set()
        self._renewals = renewals or Renewals()

    def authorise(self, request: Request) -> Awaitable[None] | None:
        access, now = self._access, datetime.now(UTC)
        if access is None or _expired(access.expires_at, now):
            return self._authorise_anew(request)
        if access.renew_at is not None and access.renew_at <= now:
            # The next attempt, should this one fail, is not every request's.
            access.renew_at = now + EARLY / 2
            with unseen():
                self._start(access.token)
        request.headers["Authorization"] = f"Bearer {access.token}"
        return None

    async def _authorise_anew(self, request: Request) -> None:
        access = await self._renewed(None if self._access is None else self._access.token)
        request.headers["Authorization"] = f"Bearer {access.token}"

    async def renew(self, request: Request) -> bool:
        await self._renewed(request.headers["Authorization"].removeprefix("Bearer "))
        return True

    async def _fetch(self, known_bad: str | None) -> _Access:
        raise NotImplementedError

    async def _renewed(self, known_bad: str | None) -> _Access:
        try:
            with span("oauth", f"{self._source} access token", source=self._source), in_time():
                return await asyncio.shield(self._start(known_bad))
        except TimeoutError as error:
            raise SourceTimeout(
                self._source, "no answer from the token endpoint before the deadline"
            ) from error

    def _start(self, known_bad: str | None) -> "asyncio.Task[_Access]":
        renewal = asyncio.create_task(self._fetch(known_bad))
        self._renewing.add(renewal)
        renewal.add_done_callback(self._over)
        return renewal

    def _over(self, renewal: "asyncio.Task[_Access]") -> None:
        self._renewing.discard(renewal)
        if not renewal.cancelled():
            # Whoever still waits gets it, too; when nobody does it is no news for the loop.
            self._renewals.ended(self._source, renewal.exception())


class ClientCredentials(_Bearer):
    """The client's own token, kept in memory."""

    def __init__(
        self,
        source: str,
        token_url: str,
        client_id: str,
        client_secret: str,
        scope: str | None = None,
        *,
        addresses: Addresses,
        renewals: Renewals | None = None,
    ) -> None:
        """Raises SourceRejected for a token endpoint at an address that may not be called. ``renewals`` are counted there."""
        super().__init__(source, token_url, addresses, renewals)
        self._endpoint = TokenEndpoint(source, token_url, client_id, client_secret, addresses)
        self._scope: dict[str, Any] = {"scope": scope} if scope else {}

    async def _fetch(self, known_bad: str | None) -> _Access:
        async with self._lock:
            if self._access is None or self._access.token == known_bad:
                answer = await self._endpoint.ask(grant_type="client_credentials", **self._scope)
                self._access = _access(answer["access_token"], _expiry(answer))
            return self._access


class StoredRefreshToken(_Bearer):
    """A refresh token kept in a TokenStore, whether it rotates or not.

    One process refreshes at a time; the rotated token is durable before the new access token is used; a refused refresh
    token marks the connection as needing consent and is not tried again until the configured one changes or somebody runs
    ``gateway connect``.
    """

    def __init__(
        self,
        source: str,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        store: TokenStore,
        first_refresh_token: str | None,
        addresses: Addresses,
        client_auth: ClientAuth = "client_secret_basic",
        refused: Refused = lambda answer: False,
        renewals: Renewals | None = None,
    ) -> None:
        """``first_refresh_token``: the configured one; None: the store has what ``gateway connect`` put there. Raises
        SourceRejected for a token endpoint that may not be called, and where the store has no key. ``renewals`` are
        counted there."""
        super().__init__(source, token_url, addresses, renewals)
        store.require_key(source)
        self._endpoint = TokenEndpoint(
            source, token_url, client_id, client_secret, addresses, client_auth, refused
        )
        self._store = store
        self._first = first_refresh_token
        self._seed = seed_of(first_refresh_token)

    async def _fetch(self, known_bad: str | None) -> _Access:
        async with self._lock, self._store.hold(self._source) as held:
            tokens = held.tokens
            if self._first is not None and (tokens is None or tokens.seed != self._seed):
                tokens = Tokens(refresh_token=self._first, seed=self._seed)
            if tokens is None:
                raise ConsentNeeded(self._source, f"not connected yet; run `gateway connect {self._source}`")
            if tokens.consent_needed:
                raise self._consent_needed()
            if (
                tokens.access_token is None
                or tokens.access_token == known_bad
                or _expired(tokens.expires_at, datetime.now(UTC))
            ):
                try:
                    answer = await self._endpoint.ask(
                        grant_type="refresh_token", refresh_token=tokens.refresh_token
                    )
                except InvalidGrant as error:
                    await held.save(Tokens(tokens.refresh_token, tokens.seed, consent_needed=True))
                    raise self._consent_needed() from error
                tokens = tokens_of(answer, tokens.seed, tokens.refresh_token)
                await held.save(tokens)
            assert tokens.access_token is not None
            self._access = _access(tokens.access_token, tokens.expires_at)
        return self._access

    def _consent_needed(self) -> ConsentNeeded:
        return ConsentNeeded(
            self._source,
            f"the refresh token was refused; authorise the connection again with `gateway connect {self._source}`",
        )


class InvalidGrant(SourceRejected):
    """The token endpoint refuses the refresh token or the code itself."""


class TokenEndpoint:
    """Where one client gets its tokens."""

    def __init__(
        self,
        source: str,
        url: str,
        client_id: str,
        client_secret: str,
        addresses: Addresses,
        client_auth: ClientAuth = "client_secret_basic",
        refused: Refused = lambda answer: False,
    ) -> None:
        self._source, self._url, self._addresses = source, url, addresses
        self._client_id, self._client_secret = client_id, client_secret
        self._client_auth, self._refused = client_auth, refused

    async def ask(self, **form: Any) -> dict[str, Any]:
        """An answer with an access token. Raises SourceError, InvalidGrant among them."""
        source = self._source
        try:
            async with (
                asyncio.timeout(TOKEN_SECONDS),
                AsyncOAuth2Client(
                    self._client_id,
                    self._client_secret,
                    token_endpoint_auth_method=self._client_auth,
                    transport=GuardedTransport(self._addresses),
                ) as client,
            ):
                client.register_compliance_hook("access_token_response", _understood)
                answer = await client.fetch_token(self._url, **form)
        except OAuthError as error:
            if error.error == "invalid_grant":
                raise InvalidGrant(source, "the token endpoint refused the grant") from error
            raise SourceRejected(
                source,
                f"the token endpoint answered {word(error.error) or 'no word of OAuth'}; check client id and secret",
            ) from error
        except TimeoutError as error:
            raise SourceTimeout(source, "no answer from the token endpoint before the deadline") from error
        except AddressNotAllowed as error:
            raise SourceRejected(source, _PRIVATE) from error
        except (httpx2.HTTPError, NoAnswer, *UNREADABLE) as error:
            raise SourceUnavailable(source, f"the token endpoint failed ({type(error).__name__})") from error
        if not answer.get("access_token"):
            if self._refused(answer):
                raise InvalidGrant(source, "the token endpoint refused the grant")
            raise SourceRejected(source, "the token endpoint gave no access token")
        return dict(answer)


def _understood(response: httpx2.Response) -> httpx2.Response:
    """The answer without what cannot be what it is called. A refresh token that works once is lost with an answer that is
    thrown away as a whole, for the sake of its time."""
    try:
        said = json.loads(response.content)
    except UNREADABLE:
        return response
    if not isinstance(said, dict):
        return response
    for name in ("access_token", "refresh_token"):
        if not (isinstance(token := said.get(name), str) and _TOKEN.fullmatch(token)):
            said.pop(name, None)
    said["expires_in"] = _seconds(said.get("expires_in"))
    said.pop("expires_at", None)  # Authlib's own word
    return httpx2.Response(response.status_code, json=said, request=response.request)


def _seconds(told: Any) -> float | None:
    try:
        seconds = float(told)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < LONGEST_LIFE_SECONDS else None


_PRIVATE = "the token endpoint stands for a private address; list it in private_addresses if it may be called"


def tokens_of(answer: Mapping[str, Any], seed: str, former: str) -> Tokens:
    """What a token endpoint gave; the ``former`` refresh token where it does not rotate."""
    return Tokens(
        refresh_token=answer.get("refresh_token") or former,
        seed=seed,
        access_token=answer["access_token"],
        expires_at=_expiry(answer),
    )


def seed_of(first_refresh_token: str | None) -> str:
    """What tells tokens that grew from this one from those of another."""
    return hashlib.sha256(first_refresh_token.encode()).hexdigest() if first_refresh_token else ""


def _access(token: str, expires_at: datetime | None) -> _Access:
    """To be renewed after most of its time, each process at another moment: the first finds the others' work done."""
    if expires_at is None:
        return _Access(token, None, None)
    now = datetime.now(UTC)
    return _Access(token, expires_at, now + (expires_at - now) * uniform(*AHEAD))  # noqa: S311


def _expiry(answer: Mapping[str, Any]) -> datetime | None:
    """None where the vendor does not say: then only a 401 shows it."""
    seconds = answer.get("expires_in")
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)


def _expired(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is not None and expires_at - EARLY <= now
