"""Organisations: the customers that people act for."""

from typing import Any

import strawberry

from permissions.directives import AUTHENTICATED, PART, requires, scoped
from resolvers.context import Info
from resolvers.errors import OtherOrganisation
from resolvers.member import Invitation, Member
from resolvers.service_account import ServiceAccount, service_accounts_page
from resolvers.vocabulary import After, Before, Connection, First, Last, batched, window
from sources.ports.members import BookQuery


@strawberry.type(description="A bundle of scopes that a member may be given.", directives=[PART])
class AssignableRole:
    name: str = strawberry.field(description="For the mutations of members.")
    label: str = strawberry.field(description="What people read.")
    scopes: list[str] = strawberry.field(description="All that it opens.")


@strawberry.type(
    description="A customer of the portal: the company that people act for.",
    directives=[AUTHENTICATED, scoped("caller")],
)
class Organisation:
    id: strawberry.ID = strawberry.field(
        description="The gateway's own id, for the X-Organisation header; not a node."
    )
    name: str = strawberry.field(description="What it is called in the portal.")

    @batched(
        description="Its people, in the order in which they came. Only of the organisation that the request acts for.",
        directives=[requires("members:read")],
    )
    def members(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Member] | None:
        query = _query(root, info, first, after, last, before, "members")
        return info.context.listing(info.context.books.members_of, query, "members")  # type: ignore[return-value]

    @batched(
        description=(
            "Its invitations in the order in which they were made, also those that were accepted, revoked or have "
            "expired in the last 90 days. Only of the organisation that the request acts for."
        ),
        directives=[requires("members:read")],
    )
    def invitations(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Invitation] | None:
        query = _query(root, info, first, after, last, before, "invitations")
        return info.context.listing(info.context.books.invitations_of, query, "invitations")  # type: ignore[return-value]

    @strawberry.field(
        description="The roles that the caller may give: those that hold nothing which the caller does not.",
        directives=[requires("members:write")],
    )
    def assignable_roles(root: strawberry.Parent[Any], info: Info) -> list[AssignableRole] | None:
        context = info.context
        grantable = context.roles.grantable(context.principal.scopes)
        return [
            AssignableRole(name=role.name, label=role.label, scopes=sorted(role.scopes))
            for role in context.roles
            if role.name in grantable
        ]

    @batched(
        description="The programs that may act for it, by name. Only of the organisation that the request acts for.",
        directives=[requires("keys:read")],
    )
    def service_accounts(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[ServiceAccount] | None:
        _require_acting(root, info)
        return service_accounts_page(info, root.id, first, after, last, before)  # type: ignore[no-any-return]


def _query(
    organisation: Any,
    info: Info,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    order: str,
) -> BookQuery:
    _require_acting(organisation, info)
    return BookQuery(organisation.id, window(first, after, last, before, order))


def _require_acting(organisation: Any, info: Info) -> None:
    # Another organisation of the same person may give them other scopes than the one that they act for.
    if organisation.id != info.context.principal.organisation:
        raise OtherOrganisation
