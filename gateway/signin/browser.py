"""All that signing in with a browser stands on, in one place."""

from collections.abc import Iterable

from gateway.signin.issuers import Issuer
from gateway.signin.provider import Provider
from gateway.signin.return_to import ReturnAddresses
from gateway.signin.session_settings import SessionSettings
from gateway.signin.sessions import Cookie, Sessions


class BrowserSignIn:
    """Of the issuers, those count that know the gateway as a client and are not left out by the settings."""

    def __init__(
        self, settings: SessionSettings, public_url: str, sessions: Sessions, issuers: Iterable[Issuer]
    ) -> None:
        callback = public_url.rstrip("/") + "/session/callback"
        self.sessions = sessions
        self.addresses = ReturnAddresses(public_url, settings.return_to)
        self.browser = Cookie("sign-in", secure=public_url.startswith("https:"), same_site="lax")
        """Holds a sign-in under way to the browser that began it. Lax: it is the provider that sends the browser back."""
        self.providers = [
            Provider(issuer, callback, settings.scopes, userinfo=settings.userinfo)
            for issuer in issuers
            if settings.signs_in_with(issuer.settings)
        ]

    def provider(self, name: str | None) -> Provider | None:
        """By a name that it bears; the only one needs no name."""
        if not name:
            return self.providers[0] if len(self.providers) == 1 else None
        return next((one for one in self.providers if name == one.name or one.known_as(name)), None)
