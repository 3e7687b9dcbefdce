"""Who asks: the result of signing in, and all that rules may know of the caller."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Rule = tuple[frozenset[str], ...]
"""Any of these sets, each needed whole: ``requiresScopes(scopes: [["a", "b"], ["c"]])`` is ``({a, b}, {c})``."""


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
    acr: str | None = None
    """How strong the sign-in was, in the issuer's words (OpenID Connect Core 2)."""
    amr: tuple[str, ...] = ()
    """By which means, such as ``pwd`` and ``otp`` (RFC 8176)."""
    authenticated_at: float | None = None
    """Unix seconds of the sign-in itself, however often tokens were renewed since."""

    @property
    def identity(self) -> str:
        """The key under which ledger, audit and file links know the caller: a subject alone is only its issuer's."""
        return f"{self.issuer}|{self.subject}"

    @property
    def sees_all(self) -> bool:
        """Is this someone of the firm, who may see every customer?"""
        return "accounts:all" in self.scopes and self.organisation is None

    def satisfies(self, rule: Rule) -> bool:
        """Does the caller hold all scopes of at least one set?"""
        return any(needed <= self.scopes for needed in rule)


def missing(rule: Rule) -> str:
    """The rule in words, for an error: ``invoices:read`` or ``a:read and b:read, or c:read``."""
    return ", or ".join(" and ".join(sorted(needed)) for needed in rule)


def rule_of(scopes: Iterable[Iterable[str]]) -> Rule:
    """From the directive's lists of lists."""
    return tuple(frozenset(needed) for needed in scopes)
