"""OAuth 2 connections to vendors: client credentials, refresh tokens, and refresh tokens that are used once.

The token requests are Authlib's; what is here is when to make them, and that a rotated token is never lost.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import httpx2
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from sources.ports.errors import ConsentNeeded, SourceRejected, SourceTimeout, SourceUnavailable
from sources.ports.tokens import Tokens, TokenStore
from sources.transport.deadline import remaining
from sources.transport.http import Request

EARLY = timedelta(seconds=60)
"""An access token is renewed this long before it expires."""

REFRESH_SECONDS = 30.0
"""What a refresh may take, whatever is left to the request that needed it."""

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


class ClientCredentials:
    """The client's own token, kept in memory and renewed ahead of its expiry."""

    def __init__(
        self, source: str, token_url: str, client_id: str, client_secret: str, scope: str | None = None
    ) -> None:
        self._source = source
        self._token_url = token_url
        self._client_id, self._client_secret, self._scope = client_id, client_secret, scope
        self._token: str | None = None
        self._expires_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def authorise(self, request: Request) -> None:
        token = self._token
        if token is None or _expired(self._expires_at):
            token = await self._fetch(token)
        request.headers["Authorization"] = f"Bearer {token}"

    async def renew(self, request: Request) -> bool:
        await self._fetch(request.headers["Authorization"].removeprefix("Bearer "))
        return True

    async def _fetch(self, known_bad: str | None) -> str:
        async with self._lock:
            if self._token is not None and self._token != known_bad:
                return self._token
            scope: dict[str, Any] = {"scope": self._scope} if self._scope else {}
            answer = await _token_request(
                self._source,
                self._token_url,
                self._client_id,
                self._client_secret,
                grant_type="client_credentials",
                **scope,
            )
            self._token, self._expires_at = answer["access_token"], _expiry(answer)
            return self._token


class StoredRefreshToken:
    """A refresh token kept in a TokenStore, whether it rotates or not.

    One process refreshes at a time; the rotated token is durable before the new access token is used; a refused refresh
    token marks the connection as needing consent and is not tried again until the configured one changes. A refresh goes
    on when the request that needed it gives up: otherwise a rotated token could be lost on its way.
    """

    def __init__(
        self,
        source: str,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        store: TokenStore,
        first_refresh_token: str,
        client_auth: ClientAuth = "client_secret_basic",
        refused: Refused = lambda answer: False,
    ) -> None:
        self._source = source
        self._token_url = token_url
        self._client_id, self._client_secret = client_id, client_secret
        self._store = store
        self._first = first_refresh_token
        self._client_auth = client_auth
        self._refused = refused
        self._seed = hashlib.sha256(first_refresh_token.encode()).hexdigest()
        self._tokens: Tokens | None = None
        self._lock = asyncio.Lock()
        self._refreshing: set[asyncio.Task[Tokens]] = set()

    async def authorise(self, request: Request) -> None:
        tokens = self._tokens
        if tokens is None or _expired(tokens.expires_at):
            tokens = await self._refreshed(tokens.access_token if tokens else None)
        request.headers["Authorization"] = f"Bearer {tokens.access_token}"

    async def renew(self, request: Request) -> bool:
        await self._refreshed(request.headers["Authorization"].removeprefix("Bearer "))
        return True

    async def _refreshed(self, known_bad: str | None) -> Tokens:
        refresh = asyncio.create_task(self._refresh(known_bad))
        self._refreshing.add(refresh)
        refresh.add_done_callback(self._over)
        try:
            async with asyncio.timeout(remaining()):
                return await asyncio.shield(refresh)
        except TimeoutError as error:
            raise SourceTimeout(
                self._source, "no answer from the token endpoint before the deadline"
            ) from error

    def _over(self, refresh: asyncio.Task[Tokens]) -> None:
        self._refreshing.discard(refresh)
        if not refresh.cancelled():
            refresh.exception()  # whoever still waits gets it; when nobody does it is no news for the loop

    async def _refresh(self, known_bad: str | None) -> Tokens:
        async with self._lock, self._store.hold(self._source) as held:
            tokens = held.tokens
            if tokens is None or tokens.seed != self._seed:
                tokens = Tokens(refresh_token=self._first, seed=self._seed)
            if tokens.consent_needed:
                raise self._consent_needed()
            if tokens.access_token is None or tokens.access_token == known_bad or _expired(tokens.expires_at):
                try:
                    answer = await _token_request(
                        self._source,
                        self._token_url,
                        self._client_id,
                        self._client_secret,
                        client_auth=self._client_auth,
                        refused=self._refused,
                        seconds=REFRESH_SECONDS,
                        grant_type="refresh_token",
                        refresh_token=tokens.refresh_token,
                    )
                except _InvalidGrant as error:
                    await held.save(Tokens(tokens.refresh_token, self._seed, consent_needed=True))
                    raise self._consent_needed() from error
                tokens = Tokens(
                    refresh_token=answer.get("refresh_token") or tokens.refresh_token,
                    seed=self._seed,
                    access_token=answer["access_token"],
                    expires_at=_expiry(answer),
                )
                await held.save(tokens)
        self._tokens = tokens
        return tokens

    def _consent_needed(self) -> ConsentNeeded:
        return ConsentNeeded(
            self._source,
            "the refresh token was refused; authorise the connection again and configure the new refresh token",
        )


class _InvalidGrant(SourceRejected):
    pass


async def _token_request(
    source: str,
    url: str,
    client_id: str,
    client_secret: str,
    *,
    client_auth: ClientAuth = "client_secret_basic",
    refused: Refused = lambda answer: False,
    seconds: float | None = None,
    **form: Any,
) -> dict[str, Any]:
    try:
        async with AsyncOAuth2Client(
            client_id,
            client_secret,
            token_endpoint_auth_method=client_auth,
            timeout=max(0.05, remaining()) if seconds is None else seconds,
        ) as client:
            answer = await client.fetch_token(url, **form)
    except OAuthError as error:
        if error.error == "invalid_grant":
            raise _InvalidGrant(source, "the token endpoint refused the grant") from error
        raise SourceRejected(
            source, f"the token endpoint answered {error.error}; check client id and secret"
        ) from error
    except httpx2.TimeoutException as error:
        raise SourceTimeout(source, "no answer from the token endpoint before the deadline") from error
    except (httpx2.HTTPError, ValueError) as error:
        raise SourceUnavailable(source, f"the token endpoint failed ({type(error).__name__})") from error
    if not answer.get("access_token"):
        if refused(answer):
            raise _InvalidGrant(source, "the token endpoint refused the grant")
        raise SourceRejected(source, "the token endpoint gave no access token")
    return dict(answer)


def _expiry(answer: dict[str, Any]) -> datetime | None:
    """None where the vendor does not say: then only a 401 shows it."""
    seconds = answer.get("expires_in")
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=float(seconds))


def _expired(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at - EARLY <= datetime.now(UTC)
