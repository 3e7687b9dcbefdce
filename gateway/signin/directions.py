"""What anybody is told of how to sign in here."""

from urllib.parse import urlencode, urlsplit

from gateway.signin.settings import IssuerSettings, SignInSettings
from resolvers.signing_in import Directions, IssuerDirections


def directions(settings: SignInSettings, public_url: str) -> Directions:
    """By the settings. Which customers there are is nobody's business: an issuer that is believed for certain customers
    or tenants alone is only named where the sign-in page names it, too."""
    sessions, base = settings.sessions, public_url.rstrip("/") + "/session"
    named = [
        IssuerDirections(
            issuer.issuer,
            urlsplit(issuer.issuer).hostname or issuer.issuer,
            f"{base}/sign-in?{urlencode({'issuer': issuer.issuer})}"
            if sessions is not None and sessions.signs_in_with(issuer)
            else None,
        )
        for issuer in settings.issuers
        if (sessions is not None and sessions.signs_in_with(issuer)) or not _of_certain_customers(issuer)
    ]
    if sessions is None:
        return Directions(named)
    return Directions(named, f"{base}/sign-in", base, f"{base}/sign-out")


def _of_certain_customers(issuer: IssuerSettings) -> bool:
    return bool(issuer.organisations or issuer.admitted_tenants)
