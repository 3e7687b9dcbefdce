"""The words of permission: ``<area>:<action>``. A field names the scopes that reading it takes; nothing else does."""

SCOPES = {
    "accounts:read": "Company profile and address.",
    "accounts:all": "Every customer's records, not only those of one's own organisation. For staff.",
    "accounts:view-as": "Look at the graph as a named member sees it, for a while and without changing it. For staff.",
    "articles:read": "Search the help centre.",
    "audit:read": "Who read or changed what, and when.",
    "contacts:read": "People at the account.",
    "documents:read": "Documents, their versions and contents.",
    "invoices:drafts": "Invoices that are not issued yet. For staff.",
    "invoices:read": "Invoices, balances and invoice PDFs.",
    "keys:read": "Service accounts and their API keys, without the keys themselves.",
    "keys:write": "Make and revoke service accounts and API keys.",
    "links:read": "How an account was matched across systems. For staff.",
    "members:provision": "Create, change and remove members from a directory (SCIM). For service accounts.",
    "members:read": "Members, their roles and invitations.",
    "members:write": "Invite and remove members and change their roles.",
    "sources:read": "How the connected systems are doing. For staff.",
    "tickets:internal": "Internal notes on tickets. For staff.",
    "tickets:read": "Tickets and their public comments.",
    "xray:read": "How an operation ran: its batches, calls, waits and cache verdicts (`extensions.xray`). For staff.",
}
"""Every scope and what it opens."""

STAFF_SCOPES = frozenset(
    {
        "accounts:all",
        "accounts:view-as",
        "invoices:drafts",
        "links:read",
        "sources:read",
        "tickets:internal",
        "xray:read",
    }
)
"""What no customer's role and no customer's service account may hold."""

SERVICE_SCOPES = frozenset({"members:provision"})
"""What only a service account may hold: no role has it."""
