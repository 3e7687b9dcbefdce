"""What gateway.toml may say about a Zendesk account, and the credential that follows from it."""

import base64

from sources.transport.consent import Consent
from sources.transport.http import Auth, HeaderAuth
from sources.transport.limits import SourceSettings
from sources.transport.oauth import StoredRefreshToken, TokenEndpoint, client_in_json
from sources.transport.wiring import Wiring
from sources.vendors.zendesk.rows import NAME


class Settings(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of three credentials: email and api_token; access_token; client_id, client_secret and refresh_token."""

    base_url: str
    """``https://{subdomain}.zendesk.com``, without a path."""
    email: str | None = None
    """The agent to whom ``api_token`` belongs. The agent must see all tickets."""
    api_token: str | None = None
    """From Admin Center, Apps and integrations, APIs."""
    access_token: str | None = None
    """An OAuth access token that does not expire."""
    client_id: str | None = None
    """The OAuth client's identifier."""
    client_secret: str | None = None
    refresh_token: str | None = None
    """The first refresh token; those that follow it are kept in the ledger, as each can be used once."""
    connected: bool = False
    """Instead of ``refresh_token``: the ledger holds what ``gateway connect zendesk`` put there."""
    scope: str = "read"
    """What ``gateway connect`` asks for."""
    authorize_url: str | None = None
    """Where agents consent: ``{base_url}/oauth/authorizations/new`` unless said otherwise."""
    token_url: str | None = None
    """Where OAuth tokens are renewed: ``{base_url}/oauth/tokens`` unless said otherwise."""
    help_centre_locale: str | None = None
    """The locale in which articles are looked for when a query names none, such as ``en-gb``; the help centre's own
    default where this is not set either."""
    number_field: str | None = None
    """The key of the organisation field that holds the firm's customer number. Without it nothing matches by number."""
    attachment_hosts: tuple[str, ...] = ()
    """Hosts besides the base URL's that attachments may be fetched from, without credentials. ``.example.com`` stands
    for every host below it. Zendesk redirects to hosts of its own: ``.zdusercontent.com``."""
    organisations_per_search: int = 25
    """How many organisations one search may name: that repeating a keyword means "any of" is documented, how often it
    may be repeated is not."""
    export_page_size: int = 1000
    """The largest page of a search export. Zendesk allows 1,000 and suggests less where many tickets are archived."""
    parallel: int = 5
    """Calls at a time."""

    def __post_init__(self) -> None:
        given = [
            self.email is not None or self.api_token is not None,
            self.access_token is not None,
            any(part is not None for part in (self.client_id, self.client_secret, self.refresh_token)),
        ]
        if self.connected and self.refresh_token:
            raise ValueError("set connected or refresh_token, not both")
        if given.count(True) != 1:
            raise ValueError(
                "set one of: email and api_token; access_token; client_id, client_secret and refresh_token"
            )
        if given[0] and not (self.email and self.api_token):
            raise ValueError("email and api_token belong together")
        if given[2] and not (
            self.client_id and self.client_secret and (self.refresh_token or self.connected)
        ):
            raise ValueError("client_id, client_secret and refresh_token belong together")
        if not 1 <= self.organisations_per_search <= 100:
            raise ValueError("organisations_per_search must be from 1 to 100")
        if not 100 <= self.export_page_size <= 1000:
            raise ValueError("export_page_size must be from 100 to 1000")

    def auth(self, wiring: Wiring) -> Auth:
        """How calls prove who they are."""
        if self.api_token is not None:
            credential = base64.b64encode(f"{self.email}/token:{self.api_token}".encode()).decode()
            return HeaderAuth(f"Basic {credential}")
        if self.access_token is not None:
            return HeaderAuth(f"Bearer {self.access_token}")
        assert self.client_id
        assert self.client_secret
        return StoredRefreshToken(
            NAME,
            self._tokens_at,
            self.client_id,
            self.client_secret,
            addresses=self.addresses,
            store=wiring.tokens,
            first_refresh_token=self.refresh_token,
            client_auth=client_in_json,
            renewals=wiring.network.renewals,
        )

    def consent(self) -> Consent:
        """What an agent is asked for."""
        return Consent(
            source=NAME,
            authorize_url=self.authorize_url or f"{self.base_url.rstrip('/')}/oauth/authorizations/new",
            client_id=self.client_id or "",
            scope=self.scope,
            endpoint=TokenEndpoint(
                NAME,
                self._tokens_at,
                self.client_id or "",
                self.client_secret or "",
                self.addresses,
                client_in_json,
            ),
            first_refresh_token=self.refresh_token,
        )

    @property
    def _tokens_at(self) -> str:
        return self.token_url or f"{self.base_url.rstrip('/')}/oauth/tokens"
