"""The graph: three ways in, five types, everything but ``Query.account`` non-null."""

from typing import Annotated, Any, NewType

import strawberry
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

from permissions.directives import PUBLIC, requires, reveals
from permissions.policy import Policy
from resolvers.vocabulary import batched, shown_from
from tests.benchmarks.comparison import rows

DecimalText = NewType("DecimalText", str)
DateText = NewType("DateText", str)
TELLS_NOTHING = strawberry.argument(directives=[reveals()])

for enum in (
    rows.Segment,
    rows.ContactRole,
    rows.InvoiceStatus,
    rows.TicketStatus,
    rows.Priority,
    rows.DocumentKind,
):
    strawberry.enum(enum)


@strawberry.type(directives=[PUBLIC])
class Contact:
    id: strawberry.ID
    first_name: str
    last_name: str
    email: str
    phone: str
    role: rows.ContactRole

    is_type_of = shown_from(rows.ContactRow)


@strawberry.type(directives=[PUBLIC])
class Invoice:
    id: strawberry.ID
    number: str
    status: rows.InvoiceStatus
    issue_date: DateText
    due_date: DateText
    currency: str
    net_total: DecimalText
    gross_total: DecimalText
    line_count: int
    paid: bool

    is_type_of = shown_from(rows.InvoiceRow)


@strawberry.type(directives=[PUBLIC])
class Ticket:
    id: strawberry.ID
    number: str
    subject: str
    status: rows.TicketStatus
    priority: rows.Priority
    opened_at: DateText

    is_type_of = shown_from(rows.TicketRow)


@strawberry.type(directives=[PUBLIC])
class Document:
    id: strawberry.ID
    title: str
    kind: rows.DocumentKind
    size_bytes: int
    created_at: DateText

    is_type_of = shown_from(rows.DocumentRow)


Info = strawberry.Info[Any, None]


@strawberry.type(directives=[PUBLIC])
class Account:
    id: strawberry.ID
    number: str
    name: str
    segment: rows.Segment
    city: str
    country: str
    credit_limit: DecimalText
    created_at: DateText

    @batched
    def contacts(root: strawberry.Parent[Any], info: Info) -> list[Contact]:  # noqa: N805
        return info.context.load("contacts", root.id)

    @batched
    def invoices(root: strawberry.Parent[Any], info: Info) -> list[Invoice]:  # noqa: N805
        return info.context.load("invoices", root.id)

    @batched
    def tickets(root: strawberry.Parent[Any], info: Info) -> list[Ticket]:  # noqa: N805
        return info.context.load("tickets", root.id)

    @batched
    def documents(root: strawberry.Parent[Any], info: Info) -> list[Document]:  # noqa: N805
        return info.context.load("documents", root.id)

    is_type_of = shown_from(rows.AccountRow)


@strawberry.type(description="The signed-in user; whoever asks, u1 of account 1.", directives=[PUBLIC])
class Viewer:
    id: strawberry.ID

    @batched
    def account(root: strawberry.Parent[Any], info: Info) -> Account:  # noqa: N805
        return info.context.load("accounts", "1")


@strawberry.type
class Query:
    @strawberry.field(directives=[PUBLIC])
    def viewer(self) -> Viewer:
        return Viewer(id=strawberry.ID("u1"))

    # Rules stand on nullable fields, of which this graph has one. What a rule costs does not grow with their number.
    @batched(directives=[requires("accounts:read")])
    def account(self, info: Info, id: Annotated[strawberry.ID, TELLS_NOTHING]) -> Account | None:  # noqa: A002
        return info.context.load("accounts", id)

    @batched(directives=[PUBLIC])
    def accounts(
        self,
        info: Info,
        first: Annotated[int, TELLS_NOTHING] = 50,
        offset: Annotated[int, TELLS_NOTHING] = 0,
    ) -> list[Account]:
        return info.context.upstreams.page(first, offset)


class Schema(strawberry.Schema):
    """With the policy that its directives state."""

    def __init__(self) -> None:
        texts = {
            origin: ScalarDefinition(
                name=name,
                description=None,
                specified_by_url=None,
                serialize=str,
                parse_value=str,
                parse_literal=None,
                origin=origin,
            )
            for name, origin in (("Decimal", DecimalText), ("Date", DateText))
        }
        super().__init__(query=Query, config=StrawberryConfig(scalar_map=texts))
        self.policy = Policy(self.graphql, {})

    @property
    def graphql(self) -> Any:
        """The graphql-core schema."""
        return self._schema
