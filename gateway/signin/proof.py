"""What signing in has proved of a caller, whichever way they came; nothing in it depends on one request."""

from typing import Literal

import msgspec


class Proof(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """Who somebody is. A way of signing in that keeps its Proofs gives the same object again: what follows from it is
    remembered with it."""

    issuer: str
    """Who says so: an issuer's own name, with the tenant in it where it serves many."""
    subject: str
    """The issuer's stable id of the person or service."""
    kind: Literal["person", "service"] = "person"
    via: Literal["bearer", "session", "api-key"]
    credential: str | None = None
    """The id of the browser session or API key; never the secret."""
    expires_at: float | None = None
    """Unix seconds from which on it is worth nothing."""
    external_ids: tuple[str, ...] = ()
    """The ids by which the issuer's directory may have named the person before they first came."""
    name: str | None = None
    email: str | None = None
    email_verified: bool = False
    roles: tuple[str, ...] = ()
    """By our names, also those that the groups give; not yet looked at whether this issuer may give them."""
    groups: tuple[str, ...] = ()
    """As the issuer calls them."""
    organisations: tuple[str, ...] = ()
    """That the claims name. What they are worth is for ``standing`` to say."""
    organisation: str | None = None
    """That the person has chosen to act for, until a request names another."""
    cut_off: bool = False
    """The issuer has left out groups or roles on which ours depend: nothing can be said of roles and organisations."""
    scopes: frozenset[str] | None = None
    """Only of service accounts, which hold scopes directly."""
    acr: str | None = None
    """Where the issuer names several, with spaces between."""
    amr: tuple[str, ...] = ()
    authenticated_at: float | None = None
