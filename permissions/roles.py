"""Roles are named bundles of scopes, in this one table."""

from collections.abc import Iterable

from permissions.scopes import SCOPES, STAFF_SCOPES

CUSTOMER_ROLES = {
    "owner": frozenset(SCOPES) - STAFF_SCOPES,
    "finance": frozenset(
        {"accounts:read", "articles:read", "contacts:read", "documents:read", "invoices:read"}
    ),
    "standard": frozenset(
        {"accounts:read", "articles:read", "contacts:read", "documents:read", "tickets:read"}
    ),
    "read-only": frozenset(SCOPES) - STAFF_SCOPES,
    "partner": frozenset({"accounts:read", "articles:read", "contacts:read"}),
}
"""What a customer's people may hold; always within their own organisation."""

STAFF_ROLES = {
    "support": frozenset(SCOPES) - {"invoices:drafts"},
    "finance-staff": frozenset(SCOPES) - {"tickets:internal"},
    "admin": frozenset(SCOPES),
}
"""What the firm's own people may hold; over all customers."""

ROLES = CUSTOMER_ROLES | STAFF_ROLES


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """All scopes of these roles. A name that is no role gives nothing."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))
