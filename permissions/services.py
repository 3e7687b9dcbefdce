"""What a service account may hold: never more than who made it, and nothing that would let a key outlive itself."""

from permissions.principal import Principal
from permissions.roles import Roles
from permissions.scopes import SCOPES, SERVICE_SCOPES, STAFF_SCOPES

FOR_PEOPLE_ALONE = frozenset({"accounts:view-as", "keys:write"})
"""A key that could make keys would not end when it expires; a program looks at nobody's screen."""


def grantable(maker: Principal, organisation: str | None) -> frozenset[str]:
    """What this caller may let a service account of the organisation hold; None: of the firm."""
    held = maker.scopes - FOR_PEOPLE_ALONE
    if organisation is None:
        return held - SERVICE_SCOPES
    if "members:write" in maker.scopes:
        # Whoever may change members by hand may let the organisation's directory do it.
        held |= SERVICE_SCOPES
    return held - STAFF_SCOPES


def effective(granted: frozenset[str], organisation: str | None, roles: Roles) -> frozenset[str]:
    """What is left of what was granted under the roles as they are now: where gateway.toml narrowed what customers may
    hold, older keys follow."""
    if organisation is None:
        return granted & SCOPES.keys() - FOR_PEOPLE_ALONE - SERVICE_SCOPES
    allowed = roles.scopes_of(roles.of_customers) | SERVICE_SCOPES
    return granted & allowed - FOR_PEOPLE_ALONE - STAFF_SCOPES
