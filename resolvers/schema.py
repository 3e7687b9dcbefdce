"""The graph's roots, and the one function that builds a schema."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import strawberry
from graphql import GraphQLInputObjectType
from strawberry.exceptions import DuplicatedTypeName
from strawberry.schema.config import StrawberryConfig
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from permissions.directives import AUTHENTICATED, PUBLIC, requires, reveals
from permissions.policy import Policy
from resolvers.account import Account, AccountFilter, AccountOrdering, accounts_page
from resolvers.audit import AuditEntry, AuditFilter, audit_page
from resolvers.batching import refuse_unbatched
from resolvers.contact import Contact
from resolvers.context import Context, Info
from resolvers.document import Document
from resolvers.errors import BadUserInput, GraphError, NotFound
from resolvers.freshness import SourceStatus, fresh_enough
from resolvers.invoice import Invoice
from resolvers.member_changes import MemberMutations
from resolvers.own_fields import FILTERS, OwnFieldError, OwnFieldsOf
from resolvers.service_account import ServiceAccount, service_accounts_page
from resolvers.service_account_changes import ServiceAccountMutations
from resolvers.signing_in import SignInDirections
from resolvers.subscription import Subscription
from resolvers.telling import refuse_telling_errors
from resolvers.ticket import Article, Ticket
from resolvers.viewer import Viewer
from resolvers.viewing import ViewingMutations
from resolvers.vocabulary import (
    SCALARS,
    After,
    Before,
    Connection,
    First,
    Last,
    Node,
    batched,
    parse_node_id,
    ref_of,
    window,
)
from sources.layers.books import ScopedBooks
from sources.layers.reads import reads_of
from sources.layers.scope import ScopedSources
from sources.ports.common import PAGE_CAP, CustomField, Ref
from sources.ports.helpdesk import ArticleQuery


def _id(coordinate: str) -> Any:
    """The argument that looks a record up by its id."""
    return strawberry.argument(description="The record's id in this graph.", directives=[reveals(coordinate)])


@strawberry.type(description="What can be asked.")
class Query:
    @strawberry.field(description="The caller.", directives=[AUTHENTICATED])
    def viewer(self, info: Info) -> Viewer | None:
        return info.context.principal  # type: ignore[return-value]

    @strawberry.field(description="How to sign in here. Needs no credentials.", directives=[PUBLIC])
    def sign_in(self, info: Info) -> SignInDirections | None:
        return info.context.directions  # type: ignore[return-value]

    @batched(
        description="Any record by its id. Not there and not yours read the same: null, with NOT_FOUND.",
        directives=[AUTHENTICATED],
    )
    def node(self, info: Info, id: Annotated[strawberry.ID, _id("Node.id")]) -> Node | None:
        return _node(info.context, id)  # type: ignore[no-any-return]

    @batched(
        description=f"Several records by their ids, in the order asked; at most {PAGE_CAP}.",
        directives=[AUTHENTICATED],
    )
    def nodes(
        self,
        info: Info,
        ids: Annotated[
            list[strawberry.ID],
            strawberry.argument(description="The records' ids.", directives=[reveals("Node.id")]),
        ],
    ) -> list[Node | None] | None:
        if len(ids) > PAGE_CAP:
            raise BadUserInput("at most {limit} ids at once", limit=PAGE_CAP)
        return [_node_or_error(info.context, id) for id in ids]

    @batched(description="An account by its id.", directives=[requires("accounts:read")])
    def account(self, info: Info, id: Annotated[strawberry.ID, _id("Account.id")]) -> Account | None:
        return _record(info.context, "Account", ref_of("Account", id))  # type: ignore[no-any-return]

    @batched(
        description="The accounts that the caller sees: all for staff, the organisation's own for customers.",
        directives=[requires("accounts:read")],
    )
    def accounts(
        self,
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

    @strawberry.field(
        description="The connected systems and how they are doing. For staff.",
        directives=[requires("sources:read"), reveals()],
    )
    def sources(self, info: Info) -> list[SourceStatus] | None:
        return list(info.context.sources.health())  # type: ignore[arg-type]

    @batched(description="An invoice by its id.", directives=[requires("invoices:read")])
    def invoice(self, info: Info, id: Annotated[strawberry.ID, _id("Invoice.id")]) -> Invoice | None:
        return _record(info.context, "Invoice", ref_of("Invoice", id))  # type: ignore[no-any-return]

    @batched(description="A ticket by its id.", directives=[requires("tickets:read")])
    def ticket(self, info: Info, id: Annotated[strawberry.ID, _id("Ticket.id")]) -> Ticket | None:
        return _record(info.context, "Ticket", ref_of("Ticket", id))  # type: ignore[no-any-return]

    @batched(description="A document by its id.", directives=[requires("documents:read")])
    def document(self, info: Info, id: Annotated[strawberry.ID, _id("Document.id")]) -> Document | None:
        return _record(info.context, "Document", ref_of("Document", id))  # type: ignore[no-any-return]

    @batched(
        description=(
            "Public help articles that fit the words, best first. The helpdesk ranks them, so a cursor is a place in "
            "that ranking: pages can shift when articles change. Forwards only."
        ),
        directives=[requires("articles:read")],
    )
    def search_articles(
        self,
        info: Info,
        text: Annotated[
            str,
            strawberry.argument(
                description="Words to look for.", directives=[reveals("Article.title", "Article.snippet")]
            ),
        ],
        locale: Annotated[
            str | None,
            strawberry.argument(
                description="Only this language, such as en-gb.", directives=[reveals("Article.locale")]
            ),
        ] = None,
        first: First = None,
        after: After = None,
    ) -> Connection[Article] | None:
        if not text.strip():
            raise BadUserInput("text must have at least one word")
        query = ArticleQuery(text.strip(), window(first, after, None, None, "articles"), locale)
        return info.context.listing(info.context.sources.search_articles, query, "articles")  # type: ignore[return-value]

    @batched(
        description=(
            "Who read or changed what: the operations of the organisation that the request acts for, and what the "
            "firm's staff did of it; for staff over all customers, all. Newest first. Reading it is recorded, too."
        ),
        directives=[requires("audit:read")],
    )
    def audit_log(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[AuditFilter | None, strawberry.argument(description="Which ones.")] = None,
    ) -> Connection[AuditEntry] | None:
        return audit_page(info, first, after, last, before, filter)  # type: ignore[no-any-return]

    @batched(
        description="The firm's own service accounts, by name. For staff who act for all.",
        directives=[requires("accounts:all", "keys:read")],
    )
    def service_accounts(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[ServiceAccount] | None:
        return service_accounts_page(info, None, first, after, last, before)  # type: ignore[no-any-return]


@strawberry.type(description="What can be changed.")
class Mutation(MemberMutations, ViewingMutations, ServiceAccountMutations):
    """Each part of the graph brings its own."""


def build_schema(own_fields: Sequence[CustomField] = ()) -> "GatewaySchema":
    """The schema with the firm's own fields. Raises OwnFieldError, PolicyError, UnbatchedField or
    TellingError with what to mend."""
    own = OwnFieldsOf(own_fields)
    try:
        schema = GatewaySchema(own)
    except DuplicatedTypeName as error:
        raise own.clash(error) or error from error
    except TypeError as error:
        # graphql-core wraps whatever goes wrong while a type's fields are made.
        if isinstance(error.__cause__, OwnFieldError):
            raise error.__cause__ from None
        raise
    refuse_unbatched(schema.graphql)
    refuse_telling_errors("resolvers")
    return schema


_PROMISE = re.compile(r"^(type (\w+) .*@freshness\(maxAge: )(\d+)", re.MULTILINE)


class GatewaySchema(strawberry.Schema):
    """Strawberry's schema with own fields put in, and the policy that its directives state."""

    def __init__(self, own_fields: OwnFieldsOf) -> None:
        self._own_fields = own_fields
        super().__init__(
            query=Query,
            mutation=Mutation,
            subscription=Subscription,
            types=[Account, Contact, Document, Invoice, Ticket],
            directives=[fresh_enough],
            config=StrawberryConfig(scalar_map=SCALARS),
        )
        for name in FILTERS.values():
            filter_type = self.graphql.type_map[name]
            assert isinstance(filter_type, GraphQLInputObjectType)
            filter_type.out_type = own_fields.gather(name)  # type: ignore[method-assign,assignment]
        self.policy = Policy(self.graphql, reads_of(ScopedSources, ScopedBooks))

    @property
    def graphql(self) -> Any:
        """The graphql-core schema."""
        return self._schema

    def sdl(self, promises: Mapping[str, int]) -> str:
        """As it is printed, with these ``@freshness`` in the place of the defaults: by type, in seconds."""
        return _PROMISE.sub(lambda found: found[1] + str(promises.get(found[2], found[3])), self.as_str())

    def get_fields(self, type_definition: StrawberryObjectDefinition) -> list[StrawberryField]:
        """Strawberry asks here for the fields of every type."""
        return self._own_fields.fields(type_definition)


def _node(context: Context, id: str) -> Any:
    type_name, ref = parse_node_id(id) or ("", None)
    if ref is None or type_name not in _reads(context):
        raise NotFound("record")
    return _record(context, type_name, ref)


def _node_or_error(context: Context, id: str) -> Any:
    """What stands in a list's place: one id that cannot be read leaves the others alone."""
    try:
        return _node(context, id)
    except GraphError as error:
        return error


def _record(context: Context, type_name: str, ref: Ref | None) -> Any:
    return context.record(type_name.lower(), _reads(context)[type_name], ref)


def _reads(context: Context) -> Mapping[str, Callable[[Sequence[Ref]], Awaitable[Sequence[Any]]]]:
    return {
        "Account": context.sources.accounts,
        "Contact": context.sources.contacts,
        "Document": context.sources.documents,
        "Invoice": context.sources.invoices,
        "Ticket": context.sources.tickets,
    }
