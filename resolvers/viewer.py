"""Who is asking, and the organisations that they may act for."""

from enum import Enum
from typing import Annotated, Any

import strawberry

from permissions.directives import AUTHENTICATED, personal, requires, reveals, scoped
from permissions.principal import Principal
from resolvers.account import Account, AccountFilter, AccountOrdering, accounts_page
from resolvers.context import Info
from resolvers.member import Member
from resolvers.organisation import Organisation
from resolvers.viewing import Viewing, ViewingStaff
from resolvers.vocabulary import After, Before, Connection, First, Last, batched
from sources.layers.books import LEDGER
from sources.ports.common import Ref
from sources.ports.members import OrganisationRecord


@strawberry.enum(description="What kind of caller somebody is.")
class CallerKind(Enum):
    PERSON = strawberry.enum_value("person", description="Somebody who has signed in at an issuer.")
    SERVICE = strawberry.enum_value(
        "service", description="A program: a service account with an API key, or a client of an issuer."
    )
    ANONYMOUS = strawberry.enum_value("anonymous", description="Nobody who has signed in.")


@strawberry.type(description="The caller.", directives=[AUTHENTICATED, scoped("caller"), personal("account")])
class Viewer:
    @strawberry.field(
        description="The caller's id at the issuer of the token, a service account's own; not a node."
    )
    def id(root: strawberry.Parent[Any]) -> strawberry.ID:
        principal: Principal = root
        return strawberry.ID(principal.subject)

    name: str | None = strawberry.field(
        description="As the issuer knows them.", directives=[personal("identity")]
    )
    email: str | None = strawberry.field(
        description="As the issuer knows them.", directives=[personal("contact")]
    )

    @strawberry.field(description="A person, or a program.")
    def kind(root: strawberry.Parent[Any]) -> CallerKind:
        principal: Principal = root
        return CallerKind(principal.kind)

    roles: list[str] = strawberry.field(
        description="The bundles of scopes that the caller holds. A service account has scopes without roles."
    )

    @strawberry.field(description="All that the caller may do.")
    def scopes(root: strawberry.Parent[Any]) -> list[str]:
        principal: Principal = root
        return sorted(principal.scopes)

    @strawberry.field(
        description="The organisation that this request acts for; null for staff who act for all."
    )
    def organisation(root: strawberry.Parent[Any], info: Info) -> Organisation | None:
        principal: Principal = root
        return info.context.organisations.get(principal.organisation or "")  # type: ignore[return-value]

    @strawberry.field(description="All organisations that the caller may act for.")
    def organisations(root: strawberry.Parent[Any], info: Info) -> list[Organisation]:
        return list(info.context.organisations.values())  # type: ignore[arg-type]

    @batched(
        description=(
            "The caller as a member of the organisation acted for; null for staff, and where membership is not kept here."
        ),
        directives=[AUTHENTICATED],
    )
    def member(root: strawberry.Parent[Any], info: Info) -> Member | None:
        principal: Principal = root
        if principal.member is None:
            return None
        return info.context.record("member", info.context.books.members, Ref(LEDGER, principal.member))  # type: ignore[return-value]

    @batched(
        description=(
            "That staff of the firm look as this caller sees, as which the request was made; null when the caller asks "
            "themself."
        ),
        directives=[AUTHENTICATED],
    )
    def viewing(root: strawberry.Parent[Any], info: Info) -> Viewing | None:
        principal: Principal = root
        if principal.viewing is None:
            return None
        return info.context.record("viewing", info.context.books.viewings, Ref(LEDGER, principal.viewing))  # type: ignore[return-value]

    @batched(
        description="Who looks as this caller sees; null when the caller asks themself.",
        directives=[AUTHENTICATED, reveals()],
    )
    def viewed_by(root: strawberry.Parent[Any], info: Info) -> ViewingStaff | None:
        principal: Principal = root
        if principal.viewing is None:
            return None
        return info.context.record("viewing", info.context.books.viewings, Ref(LEDGER, principal.viewing))  # type: ignore[return-value]

    @batched(
        description="The account of the organisation, the first one where it has several; null for staff.",
        directives=[requires("accounts:read")],
    )
    def account(root: strawberry.Parent[Any], info: Info) -> Account | None:
        context = info.context
        acting: OrganisationRecord | None = context.organisations.get(context.principal.organisation or "")
        if acting is None or not acting.accounts:
            return None
        return context.record("account", context.sources.accounts, acting.accounts[0])  # type: ignore[return-value]

    @batched(
        description="The accounts of the organisation; for staff, all.",
        directives=[requires("accounts:read")],
    )
    def accounts(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[AccountFilter | None, strawberry.argument(description="Which ones.")] = None,
        order_by: Annotated[
            AccountOrdering | None, strawberry.argument(description="In which order.")
        ] = None,
    ) -> Connection[Account] | None:
        return accounts_page(info, first, after, last, before, filter, order_by)  # type: ignore[no-any-return]
