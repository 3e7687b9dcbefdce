"""One issuer as the gateway's own sign-in uses it: authorization code with PKCE, and the ID token that comes of it.

The requests and what an ID token must say are Authlib's; keys and claims are those of bearer tokens.
"""

import re
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

import httpx2
import msgspec
import structlog
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import extract_compact

from gateway.signin.claims import claim, is_text, moment, name_of, names_issuer, proof_of, text, texts
from gateway.signin.issuers import Discovery, Issuer
from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from gateway.signin.settings import TENANT
from gateway.signin.tokens import LEEWAY_SECONDS, HeaderRules
from sources.ports.sessions import PendingSignIn

PENDING_SECONDS = 600
"""How long somebody may take to sign in at the provider."""
PROVIDER_SECONDS = 10.0
TOKEN_BYTES = 65_536
NAME_LENGTH = 500
"""Of a provider's names for people, sessions and tokens; the standard has 255 for people."""

_PROTOCOL = frozenset(
    ("iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "acr", "amr", "auth_time", "at_hash", "sid", "jti")
)
"""Claims of the ID token alone: userinfo has no say in how somebody signed in."""

log = structlog.get_logger()


class SignedInPerson(msgspec.Struct, frozen=True):
    """What a code was worth."""

    proof: Proof
    sub: str
    sid: str | None
    id_token: str
    issued_at: datetime


class Provider:
    """``callback`` is where it sends browsers back to; ``scopes`` are asked for besides ``openid``."""

    def __init__(
        self,
        issuer: Issuer,
        callback: str,
        scopes: tuple[str, ...],
        *,
        userinfo: bool,
    ) -> None:
        self._issuer = issuer
        self._callback = callback
        self._scope = " ".join(dict.fromkeys(("openid", *scopes)))
        self._userinfo = userinfo
        self._headers = HeaderRules(algorithms=issuer.settings.algorithms, strict_check_header=False)
        self._names = [
            re.compile(re.escape(name).replace(re.escape(TENANT), "([^/]+)"))
            for name in (issuer.settings.issuer, *issuer.settings.aliases)
        ]

    @property
    def name(self) -> str:
        """As the settings have it."""
        return self._issuer.settings.issuer

    @property
    def client_id(self) -> str:
        """The gateway's own."""
        client_id = self._issuer.settings.client_id
        assert client_id is not None, "only issuers that know the gateway as a client are providers"
        return client_id

    def known_as(self, iss: str) -> str | None:
        """What sessions call the issuer that bears this name; None when that is another one."""
        for pattern in self._names:
            if found := pattern.fullmatch(iss):
                return name_of(self._issuer.settings, found[1] if pattern.groups else None)
        return None

    async def address(self, state: str, pending: PendingSignIn, prompt: str | None) -> str:
        """Where the browser goes to sign in. Raises SignInRefused 503."""
        document = await self._issuer.document()
        wishes: dict[str, Any] = {"nonce": pending.nonce}
        if pending.max_age is not None:
            wishes["max_age"] = pending.max_age
        if pending.acr_values:
            wishes["acr_values"] = pending.acr_values
        if prompt:
            wishes["prompt"] = prompt
        async with self._client(document) as client:
            address, _ = client.create_authorization_url(
                _required(document.authorization_endpoint), state, pending.code_verifier, **wishes
            )
        return str(address)

    async def require_own_answer(self, iss: str | None) -> None:
        """The answer must be this provider's and not another's, to whom its code would then be sent (RFC 9207)."""
        if iss is None:
            document = await self._issuer.document()
            own = not document.authorization_response_iss_parameter_supported
        else:
            own = self.known_as(iss) is not None
        if not own:
            raise SignInRefused("the answer came from another identity provider; sign in again")

    async def signed_in(self, code: str, pending: PendingSignIn) -> SignedInPerson:
        """Exchanges the code. Raises SignInRefused with one line that tells nothing of the answer."""
        document = await self._issuer.document()
        async with self._client(document) as client:
            try:
                answer = await client.fetch_token(
                    _required(document.token_endpoint),
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=pending.code_verifier,
                    redirect_uri=self._callback,
                )
                claims = await self._id_token(answer, pending)
                about = await self._about(client, document, claims)
            except OAuthError as error:
                log.warning("signin_code_refused", issuer=self.name, error=_word(error.error))
                raise SignInRefused(
                    "the identity provider did not accept the sign-in; sign in again"
                ) from error
            except (httpx2.HTTPError, ValueError, TypeError) as error:
                log.warning("signin_provider_failed", issuer=self.name, reason=type(error).__name__)
                raise SignInRefused(
                    "the identity provider does not answer as it should; try again later",
                    status=503,
                    code="SOURCE_UNAVAILABLE",
                ) from error
        proof = proof_of({**about, **claims}, self._issuer.settings, via="session")
        return SignedInPerson(
            proof,
            claims["sub"],
            claims.get("sid"),
            answer["id_token"],
            datetime.fromtimestamp(claims["iat"], UTC),
        )

    async def end_session(self, id_token: str, return_to: str) -> str | None:
        """Where the browser goes to sign out of the provider, too. None where it has no such place."""
        try:
            endpoint = (await self._issuer.document()).end_session_endpoint
        except SignInRefused:
            # Signed out here it is all the same.
            return None
        if not endpoint:
            return None
        query = {
            "id_token_hint": id_token,
            "client_id": self.client_id,
            "post_logout_redirect_uri": return_to,
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def signed(self, token: Any) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Header and claims of a token that this issuer has signed. Raises SignInRefused."""
        if not isinstance(token, str) or len(token) > TOKEN_BYTES:
            raise SignInRefused("the identity provider gave no token that can be read", status=400)
        settings, keys = self._issuer.settings, self._issuer.keys
        try:
            key_id = extract_compact(token.encode(), registry=self._headers).headers().get("kid")
            key_id = key_id if isinstance(key_id, str) else None
            decoded = jwt.decode(token, await keys.for_key(key_id), registry=self._headers)
        except (JoseError, ValueError, RecursionError) as error:
            raise SignInRefused("the token is not one of the identity provider", status=400) from error
        iss, tenant = decoded.claims.get("iss"), text(claim(decoded.claims, settings.tenant_claim))
        # A logout token may name its tenant in its issuer alone.
        own = names_issuer(decoded.claims, settings) if tenant else self.known_as(str(iss)) is not None
        if not own or not keys.signs_for(key_id, str(iss), tenant):
            raise SignInRefused("the token is of another issuer", status=400)
        return decoded.header, decoded.claims

    async def _id_token(self, answer: Mapping[str, Any], pending: PendingSignIn) -> dict[str, Any]:
        header, claims = await self.signed(answer.get("id_token"))
        token = CodeIDToken(
            claims,
            header,
            {"aud": {"essential": True, "value": self.client_id}},
            {
                "nonce": pending.nonce,
                "client_id": self.client_id,
                "access_token": answer.get("access_token"),
            },
        )
        try:
            token.validate(now=int(time.time()), leeway=LEEWAY_SECONDS)
            if moment(claims["iat"]) is None or moment(claims["exp"]) is None or "events" in claims:
                raise ValueError("is no ID token")
            if not is_name(claims["sub"]) or not (claims.get("sid") is None or is_name(claims["sid"])):
                raise ValueError("names nobody, or a session by what is no name")
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("signin_id_token_refused", issuer=self.name, reason=type(error).__name__)
            raise SignInRefused(
                "the identity provider's answer is not to be believed; sign in again"
            ) from error
        self._require_demanded(claims, pending)
        return claims

    def _require_demanded(self, claims: Mapping[str, Any], pending: PendingSignIn) -> None:
        if pending.max_age is not None:
            authenticated_at = moment(claims.get("auth_time"))
            # Counted from when it was asked for: signing in may take its time.
            asked_at = pending.expires_at.timestamp() - PENDING_SECONDS
            if authenticated_at is None or authenticated_at + pending.max_age + LEEWAY_SECONDS < asked_at:
                raise SignInRefused(
                    "the identity provider did not ask for a fresh sign-in, which is demanded"
                )
        if pending.acr_values:
            given = texts(claim(claims, self._issuer.settings.acr_claim))
            if set(given).isdisjoint(pending.acr_values.split()):
                raise SignInRefused("the identity provider did not sign you in in the way that is demanded")

    async def _about(
        self, client: AsyncOAuth2Client, document: Discovery, claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the issuer tells besides: many keep their ID tokens small."""
        if not self._userinfo or not document.userinfo_endpoint:
            return {}
        response = await client.get(document.userinfo_endpoint)
        response.raise_for_status()
        about = response.json()
        if not isinstance(about, dict) or about.get("sub") != claims["sub"]:
            log.warning("signin_userinfo_of_somebody_else", issuer=self.name)
            raise SignInRefused("the identity provider's answer is not to be believed; sign in again")
        own = _PROTOCOL | {self._issuer.settings.acr_claim.partition(".")[0]}
        return {name: value for name, value in about.items() if name not in own}

    def _client(self, document: Discovery) -> AsyncOAuth2Client:
        settings = self._issuer.settings
        offered = document.token_endpoint_auth_methods_supported
        method = "none"
        if settings.client_secret:
            # What a provider supports that does not say so (OpenID Connect Discovery 1.0, 3).
            basic = not offered or "client_secret_basic" in offered
            method = "client_secret_basic" if basic else "client_secret_post"
        return AsyncOAuth2Client(
            self.client_id,
            settings.client_secret,
            token_endpoint_auth_method=method,
            scope=self._scope,
            redirect_uri=self._callback,
            code_challenge_method="S256",
            timeout=PROVIDER_SECONDS,
            follow_redirects=False,
            verify=_tls(),
        )


@cache
def _tls() -> ssl.SSLContext:
    """Reading the machine's certificates takes some 50 ms: once is enough."""
    return httpx2.create_ssl_context()


def is_name(value: Any) -> bool:
    """Can sessions be found by it?"""
    return is_text(value) and len(value) <= NAME_LENGTH


def _required(endpoint: str | None) -> str:
    if not endpoint:
        raise SignInRefused(
            "the identity provider offers no sign-in for browsers", status=503, code="SOURCE_UNAVAILABLE"
        )
    return endpoint


def _word(value: Any) -> str:
    """An error's name from outside, for a log."""
    return value if isinstance(value, str) and value.isascii() and value.isidentifier() else "unknown"
