"""Service accounts: programs that act for an organisation or for the firm, and the API keys that they sign in with."""

from datetime import datetime
from typing import Any

import strawberry

from permissions.directives import AUTHENTICATED, requires, scoped
from resolvers.context import Info
from resolvers.vocabulary import batched, described, window
from sources.layers.books import LEDGER, ServiceAccountQuery
from sources.ports.common import Ref
from sources.ports.service_accounts import ServiceAccountRecord, StateOfKey

ApiKeyState = described(
    StateOfKey,
    "What an API key is still good for.",
    ACTIVE="Signs its service account in.",
    EXPIRED="Its time is over.",
    REVOKED="Was revoked.",
)
ApiKeyState.__strawberry_definition__.name = "ApiKeyState"  # type: ignore[attr-defined]


@strawberry.type(
    description="A key that a program signs in with. The key itself is shown once, when it is made.",
    directives=[AUTHENTICATED, scoped("organisation")],
)
class ApiKey:
    id: strawberry.ID = strawberry.field(
        description="For the mutations of keys; not a node. It stands in the key's own text, behind the prefix."
    )
    name: str = strawberry.field(description="What it is used for, in the words of whoever made it.")
    scopes: list[str] = strawberry.field(description="What it opens.")
    state: ApiKeyState = strawberry.field(description="What it is still good for.")  # type: ignore[valid-type]
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime = strawberry.field(description="From then on it signs nobody in.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null when it was not.")
    last_used_at: datetime | None = strawberry.field(
        description="When it last signed a request in, to the minute; null when it never did."
    )


@strawberry.type(
    description="A program that may sign in.", directives=[AUTHENTICATED, scoped("organisation")]
)
class ServiceAccount:
    id: strawberry.ID = strawberry.field(description="For the mutations of service accounts; not a node.")
    name: str = strawberry.field(description="What people call it.")
    scopes: list[str] = strawberry.field(description="All that its keys may open.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @batched(
        description="Its keys, newest first, also those that have expired or were revoked.",
        directives=[requires("keys:read")],
    )
    def keys(root: strawberry.Parent[Any], info: Info) -> list[ApiKey] | None:
        record: ServiceAccountRecord = root
        return info.context.value(info.context.books.api_keys_of, Ref(LEDGER, record.id))  # type: ignore[return-value]


def service_accounts_page(
    info: Info,
    organisation: str | None,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Any:
    """Of the organisation, or for None of the firm."""
    query = ServiceAccountQuery(organisation, window(first, after, last, before, "service accounts"))
    return info.context.listing(info.context.books.service_accounts_of, query, "service accounts")
