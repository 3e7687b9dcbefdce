"""A person's consent at a vendor, by OAuth's code flow with PKCE: what is asked for, and what comes of the answer."""

import secrets
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from authlib.integrations.httpx_client import AsyncOAuth2Client

from sources.ports.errors import SourceRejected
from sources.ports.tokens import Tokens
from sources.transport.oauth import TokenEndpoint, seed_of, tokens_of


class Tenant(msgspec.Struct, frozen=True):
    """An account at the vendor that the consent reaches."""

    id: str
    name: str | None = None


async def _one_tenant(access_token: str) -> Sequence[Tenant]:
    return ()


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What a vendor with a code flow declares, of one source's settings."""

    source: str
    authorize_url: str
    client_id: str
    scope: str
    endpoint: TokenEndpoint
    first_refresh_token: str | None
    """The configured one, which the new tokens take the place of; None where the source is ``connected``."""
    tenant_setting: str | None = None
    """The setting that names one of the accounts that the consent reaches, where it may reach several."""
    tenant: str = ""
    """What it is set to."""
    tenants: Callable[[str], Awaitable[Sequence[Tenant]]] = _one_tenant
    """The accounts that an access token reaches. Raises SourceError."""


class Asking(msgspec.Struct, frozen=True):
    """A consent that somebody is being asked for."""

    url: str
    """To be opened in a browser."""
    state: str
    redirect_uri: str
    verifier: str


def ask(consent: Consent, redirect_uri: str) -> Asking:
    """Makes no call."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    client = AsyncOAuth2Client(
        consent.client_id, redirect_uri=redirect_uri, scope=consent.scope, code_challenge_method="S256"
    )
    url, _ = client.create_authorization_url(consent.authorize_url, state=state, code_verifier=verifier)
    return Asking(url, state, redirect_uri, verifier)


async def redeem(consent: Consent, asking: Asking, code: str) -> Tokens:
    """The tokens that the code stands for. Raises SourceError."""
    answer = await consent.endpoint.ask(
        grant_type="authorization_code",
        code=code,
        redirect_uri=asking.redirect_uri,
        code_verifier=asking.verifier,
    )
    if not answer.get("refresh_token"):
        raise SourceRejected(
            consent.source, "the consent gave no refresh token; ask for offline access in the app's scopes"
        )
    return tokens_of(answer, seed_of(consent.first_refresh_token), "")
