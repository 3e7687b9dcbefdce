"""The words of permission: ``<area>:<action>``. A field names the scopes that reading it takes; nothing else does."""

SCOPES = {
    "accounts:read": "Company profile and address.",
    "accounts:all": "Every customer's records, not only those of one's own organisation. For staff.",
    "articles:read": "Search the help centre.",
    "contacts:read": "People at the account.",
    "documents:read": "Documents, their versions and contents.",
    "invoices:drafts": "Invoices that are not issued yet. For staff.",
    "invoices:read": "Invoices, balances and invoice PDFs.",
    "links:read": "How an account was matched across systems. For staff.",
    "tickets:internal": "Internal notes on tickets. For staff.",
    "tickets:read": "Tickets and their public comments.",
}
"""Every scope and what it opens."""

STAFF_SCOPES = frozenset({"accounts:all", "invoices:drafts", "links:read", "tickets:internal"})
"""What no customer's role may hold."""
