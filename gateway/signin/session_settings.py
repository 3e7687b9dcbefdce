"""``[signin.sessions]`` of gateway.toml: signing in with a browser, for portals on the same site."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from gateway.signin.same_origin import origin_of

if TYPE_CHECKING:
    from gateway.signin.settings import IssuerSettings


class SessionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[signin.sessions]``."""

    issuers: tuple[str, ...] = ()
    """With whom people sign in; empty: with every issuer that has a client_id."""
    return_to: tuple[str, ...] = ()
    """Addresses of the portal to which browsers may be sent back: what begins with one of them by whole steps of its path.
    The first is where one goes who did not say where. The gateway's own origin is always allowed."""
    portal_origins: tuple[str, ...] = ()
    """Origins, such as https://portal.example.com, whose pages may use the session; besides the gateway's own."""
    idle_minutes: Annotated[float, msgspec.Meta(ge=2, le=1440)] = 30.0
    """A session ends when it is not used for so long."""
    absolute_hours: Annotated[float, msgspec.Meta(gt=0, le=720)] = 12.0
    """It ends then, used or not."""
    most_per_person: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    """Of one person at a time; the oldest ends when there is another."""
    same_site: Literal["lax", "strict"] = "lax"
    """``strict``: not even a link from another site brings the session along."""
    scopes: tuple[str, ...] = ("profile", "email")
    """Asked of the issuer besides ``openid``; some give groups only for a scope."""
    userinfo: bool = True
    """Ask the issuer's userinfo endpoint, where it has one, for what its ID tokens leave out."""

    def signs_in_with(self, issuer: "IssuerSettings") -> bool:
        """Do people sign in there?"""
        return issuer.client_id is not None and (not self.issuers or issuer.issuer in self.issuers)


def session_faults(
    sessions: SessionSettings, issuers: Sequence["IssuerSettings"], public_url: str
) -> Iterator[str]:
    """What cannot be used, each with its setting and what to write."""
    place = "signin.sessions"
    if not public_url:
        yield "gateway.public_url: sessions need it: the issuer sends browsers back there"
    elif not (_is_https(public_url) or is_loopback(public_url)):
        yield "gateway.public_url: sessions need https://, or nobody but loopback; their cookies are sent to no other"
    if not any(sessions.signs_in_with(issuer) for issuer in issuers):
        yield f"{place}: give an issuer the client_id (and client_secret) under which it knows this gateway"
    known = {issuer.issuer: issuer.client_id for issuer in issuers}
    for name in sessions.issuers:
        if known.get(name) is None:
            yield f"{place}.issuers: {name}: no issuer of that name has a client_id"
    for address in sessions.return_to:
        parts = urlsplit(address)
        if not (_is_https(address) or is_loopback(address)) or parts.query or parts.fragment:
            yield f"{place}.return_to: {address}: write it as https://portal.example.com/ without ? and #"
    for origin in sessions.portal_origins:
        if not (_is_https(origin) or is_loopback(origin)) or origin_of(origin) != origin:
            yield f"{place}.portal_origins: {origin}: write it as https://portal.example.com, nothing behind it"
    if not all(
        scope and scope.isascii() and scope.isprintable() and " " not in scope for scope in sessions.scopes
    ):
        yield f'{place}.scopes: words without spaces, such as ["profile", "email"]'


def is_loopback(address: str) -> bool:
    """Is it this very machine? What is sent there crosses no network."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or "@" in parts.netloc:
            return False
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_https(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
