"""Rules as values: which scopes a place of the schema takes, and how rules combine and compare."""

from collections.abc import Iterable

Rule = tuple[frozenset[str], ...]
"""Any of these sets, each needed whole: ``requiresScopes(scopes: [["a", "b"], ["c"]])`` is ``({a, b}, {c})``, each with
``SIGNED_IN`` besides."""

SIGNED_IN = "signed in"
"""What every caller holds who is somebody; no scope, so that no role or key can be given it."""

PUBLIC: Rule = (frozenset(),)
"""Anyone, also without signing in."""

AUTHENTICATED: Rule = (frozenset({SIGNED_IN}),)
"""Anyone who signed in."""


def rule_of(scopes: Iterable[Iterable[str]]) -> Rule:
    """From the directive's lists of lists. No list at all is a rule that nobody satisfies."""
    return _shortest(frozenset(needed) | {SIGNED_IN} for needed in scopes)


def both(*rules: Rule | None) -> Rule | None:
    """What takes a way through each of them; None where none is given."""
    combined: Rule | None = None
    for rule in rules:
        if combined is None or rule is None:
            combined = combined if rule is None else rule
        else:
            combined = _shortest(needed | more for needed in combined for more in rule)
    return combined


def implies(strict: Rule, lax: Rule) -> bool:
    """Does whoever satisfies the one satisfy the other?"""
    return all(any(less <= needed for less in lax) for needed in strict)


def satisfied(rule: Rule, held: frozenset[str]) -> bool:
    """Does a holder of these have all of at least one set?"""
    return any(needed <= held for needed in rule)


def scopes_in(rule: Rule) -> frozenset[str]:
    """All scopes that the rule mentions."""
    return frozenset().union(*rule) - {SIGNED_IN}


def lists(rule: Rule) -> list[list[str]]:
    """As the directive writes it."""
    return [sorted(needed - {SIGNED_IN}) for needed in rule]


def lacking(rule: Rule, held: frozenset[str]) -> list[list[str]]:
    """What a holder of these lacks of each set."""
    return [sorted(needed - held - {SIGNED_IN}) for needed in rule]


def missing(rule: Rule) -> str:
    """The rule in words, for an error: ``invoices:read`` or ``a:read and b:read, or c:read``."""
    return ", or ".join(" and ".join(needed) or "signing in" for needed in lists(rule)) or "what nobody holds"


def _shortest(ways: Iterable[frozenset[str]]) -> Rule:
    """Without ways that need more than another."""
    found = set(ways)
    return tuple(sorted((way for way in found if not any(less < way for less in found)), key=sorted))
