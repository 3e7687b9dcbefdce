"""Who asks: the result of signing in, and all that rules may know of the caller."""

from dataclasses import dataclass, field
from typing import Literal

from permissions.rules import SIGNED_IN


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller, acting for one organisation (customers) or for the firm (staff)."""

    subject: str
    """The issuer's stable id of the person or service."""
    name: str | None
    email: str | None
    roles: tuple[str, ...]
    scopes: frozenset[str]
    organisation: str | None
    """The organisation acted for; None for staff who act for all."""
    organisations: tuple[str, ...] = ()
    """All that the caller may act for."""
    email_verified: bool = False
    """Does the issuer say that the address is theirs?"""
    issuer: str = ""
    """Who says so: the issuer's own name, empty where none did."""
    kind: Literal["person", "service", "anonymous"] = "person"
    via: Literal["bearer", "session", "api-key", "none"] = "bearer"
    """How the caller proved it."""
    credential: str | None = None
    """The id of the browser session or API key; never the secret."""
    expires_at: float | None = None
    """Unix seconds from which on all this must not be believed any more; None: nobody said."""
    member: str | None = None
    """The ledger's id of the membership that is acted under."""
    viewed_by: str | None = None
    """The identity of the member of staff who looks as this caller sees; None: it is the caller."""
    viewing: str | None = None
    """The ledger's id of that viewing."""
    acr: str | None = None
    """How strong the sign-in was, in the issuer's words (OpenID Connect Core 2)."""
    amr: tuple[str, ...] = ()
    """By which means, such as ``pwd`` and ``otp`` (RFC 8176)."""
    authenticated_at: float | None = None
    """Unix seconds of the sign-in itself, however often tokens were renewed since."""

    identity: str = field(init=False, repr=False, compare=False)
    """The key under which ledger, audit and file links know the caller: a subject alone is only its issuer's."""
    held: frozenset[str] = field(init=False, repr=False, compare=False)
    """What rules are compared with: the scopes, and that the caller is somebody."""

    def __post_init__(self) -> None:
        # Once, as a Principal serves many requests and each looks at both several times.
        object.__setattr__(self, "identity", f"{self.issuer}|{self.subject}")
        held = self.scopes if self.kind == "anonymous" else self.scopes | _SIGNED_IN
        object.__setattr__(self, "held", held)

    @property
    def sees_all(self) -> bool:
        """Is this someone of the firm, who may see every customer?"""
        return "accounts:all" in self.scopes and self.organisation is None


_SIGNED_IN = frozenset({SIGNED_IN})

ANONYMOUS = Principal("", None, None, (), frozenset(), None, kind="anonymous", via="none")
"""Who has shown no credentials at all."""
