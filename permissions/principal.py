"""Who asks: the result of signing in, and all that rules may know of the caller."""

from collections.abc import Iterable
from dataclasses import dataclass

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
