"""Tickets, what was said on them, and help articles."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from permissions.directives import PUBLIC, personal, requires, reveals, scoped
from resolvers.context import Info
from resolvers.freshness import fresh
from resolvers.own_fields import conditions
from resolvers.vocabulary import (
    URL,
    After,
    Before,
    ByteCount,
    Connection,
    FileLink,
    First,
    Last,
    Node,
    OrderDirection,
    OwnFields,
    batched,
    described,
    identified,
    node_id,
    ordering,
    shown_from,
    sources_id,
    window,
)
from sources.ports.common import Direction, Window
from sources.ports.helpdesk import Attachment as AttachmentRecord
from sources.ports.helpdesk import CommentQuery, CommentRecord, TicketOrder, TicketQuery, TicketRecord
from sources.ports.helpdesk import TicketPriority as Priority
from sources.ports.helpdesk import TicketStatus as Status

if TYPE_CHECKING:
    from resolvers.account import Account

TicketStatus = described(
    Status,
    "Where a ticket stands.",
    NEW="Nobody has looked at it yet.",
    OPEN="Being worked on.",
    PENDING="Waiting for the customer.",
    ON_HOLD="Waiting for somebody else.",
    SOLVED="Answered; may be reopened.",
    CLOSED="Finished for good.",
    UNKNOWN="The helpdesk uses a word that the graph does not know; see sourceStatus.",
)
TicketPriority = described(
    Priority,
    "How urgent a ticket is.",
    LOW="Can wait.",
    NORMAL="As usual.",
    HIGH="Soon.",
    URGENT="Now.",
    UNKNOWN="The helpdesk uses a word that the graph does not know.",
)
TicketOrderField = ordering(
    TicketOrder,
    "TicketOrderField",
    "Ticket",
    "What tickets may be ordered by; the helpdesk does it.",
    CREATED_AT=("When it was raised.", ["createdAt"]),
    UPDATED_AT=("When it last changed.", ["updatedAt"]),
    PRIORITY=("How urgent it is; tickets without a priority count as lowest.", ["priority"]),
)


@strawberry.type(
    description="A file on a comment.", directives=[requires("tickets:read"), scoped(by="comment")]
)
class Attachment:
    id: strawberry.ID = strawberry.field(description="The helpdesk's own id; not a node.")
    file_name: str = strawberry.field(description="As it was uploaded.")
    media_type: str | None = strawberry.field(description="By RFC 6838, as the helpdesk says.")
    size: ByteCount | None = strawberry.field(description="In bytes.")

    @strawberry.field(description="The file itself.")
    def content(root: strawberry.Parent[Any], info: Info) -> FileLink | None:
        attached: AttachmentOf = root
        ticket = node_id("Ticket", attached.comment.ticket)
        return info.context.file_link("attachment", ticket, attached.id)  # type: ignore[return-value]


class AttachmentOf:
    """What an Attachment is read from: the file and the comment that it is on."""

    __slots__ = ("comment", "file_name", "id", "media_type", "size")

    def __init__(self, file: AttachmentRecord, comment: CommentRecord) -> None:
        self.id, self.file_name, self.media_type, self.size = (
            file.id,
            file.file_name,
            file.media_type,
            file.size,
        )
        self.comment = comment


@strawberry.type(
    description="Something said on a ticket.",
    directives=[requires("tickets:read"), scoped(by="ticket"), fresh("Comment")],
)
class Comment:
    id: strawberry.ID = sources_id()
    body: str | None = strawberry.field(description="Plain text.", directives=[personal("communication")])
    author_name: str | None = strawberry.field(description="Who said it.", directives=[personal("identity")])
    created_at: datetime | None = strawberry.field(description="When.")

    @strawberry.field(description="Is it a note among staff? Customers are never given those.")
    def internal(root: strawberry.Parent[Any]) -> bool:
        record: CommentRecord = root
        return not record.public

    @strawberry.field(description="Files that came with it.")
    def attachments(root: strawberry.Parent[Any]) -> list[Attachment] | None:
        record: CommentRecord = root
        return [AttachmentOf(file, record) for file in record.attachments]  # type: ignore[misc]


@strawberry.type(
    description="A request for help, from the helpdesk. What it is about in full is its first public comment.",
    directives=[requires("tickets:read"), scoped(by="account"), fresh("Ticket")],
)
class Ticket(Node):
    id: strawberry.ID = identified("Ticket")
    number: str = strawberry.field(description="What people call it by.")
    subject: str | None = strawberry.field(description="In one line.", directives=[personal("communication")])
    status: TicketStatus = strawberry.field(description="Where it stands.")  # type: ignore[valid-type]
    source_status: str | None = strawberry.field(description="The helpdesk's own word for the status.")
    priority: TicketPriority | None = strawberry.field(description="How urgent it is, if anybody said.")  # type: ignore[valid-type]
    type: str | None = strawberry.field(
        description="The helpdesk's kind of ticket: question, incident, problem or task."
    )
    tags: list[str] | None = strawberry.field(description="The helpdesk's labels.")
    created_at: datetime | None = strawberry.field(description="When it was raised.")
    updated_at: datetime | None = strawberry.field(description="When it last changed.")
    due_at: datetime | None = strawberry.field(description="When it should be done.")

    @batched(
        call_per_row=True,
        description=(
            "What was said, oldest first. The helpdesk has no batch for comments: one call per ticket, so ask for them "
            "on few tickets. Paged here, after internal notes are taken out."
        ),
    )
    def comments(
        root: strawberry.Parent[Any],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Comment] | None:
        record: TicketRecord = root
        query = CommentQuery(window(first, after, last, before, "comments"))
        return info.context.page(info.context.sources.comments_of, query, "comments", record.ref)  # type: ignore[return-value]

    @batched(
        description="The account that it belongs to; null where the link between the systems is not known."
    )
    def account(
        root: strawberry.Parent[Any], info: Info
    ) -> Annotated["Account", strawberry.lazy("resolvers.account")] | None:
        record: TicketRecord = root
        return info.context.owner(record.customer) if record.customer else None  # type: ignore[return-value]

    is_type_of = shown_from(TicketRecord)


@strawberry.type(description="A public article of the help centre.", directives=[PUBLIC, fresh("Article")])
class Article:
    id: strawberry.ID = sources_id()
    title: str | None = strawberry.field(description="The headline.")
    snippet: str | None = strawberry.field(description="Plain text around what was found.")
    url: URL | None = strawberry.field(description="Where to read it.")
    locale: str | None = strawberry.field(description="Its language, such as en-gb.")
    updated_at: datetime | None = strawberry.field(description="When it last changed.")


@strawberry.input(description="An ordering of tickets.")
class TicketOrdering:
    field: TicketOrderField = strawberry.field(description="By what.")  # type: ignore[valid-type]
    direction: OrderDirection = strawberry.field(  # type: ignore[valid-type]
        default=Direction.DESC, description="Which way.", directives=[reveals()]
    )


@strawberry.input(description="Which tickets; all that is given must hold. The helpdesk does the filtering.")
class TicketFilter:
    status: list[TicketStatus] | None = strawberry.field(  # type: ignore[valid-type]
        default=None,
        description="Any of these; an empty list fits nothing.",
        directives=[reveals("Ticket.status")],
    )
    priority: list[TicketPriority] | None = strawberry.field(  # type: ignore[valid-type]
        default=None,
        description="Any of these; an empty list fits nothing.",
        directives=[reveals("Ticket.priority")],
    )
    updated_since: datetime | None = strawberry.field(
        default=None, description="Changed then or later.", directives=[reveals("Ticket.updatedAt")]
    )
    created_since: datetime | None = strawberry.field(
        default=None, description="Raised then or later.", directives=[reveals("Ticket.createdAt")]
    )
    text: str | None = strawberry.field(
        default=None,
        description="A phrase in the subject; what was said is not searched, as internal notes would tell.",
        directives=[reveals("Ticket.subject")],
    )
    own_fields: OwnFields = strawberry.field(default=None, description="Replaced by the firm's own fields.")


def ticket_query(
    window: Window, filter: TicketFilter | None, order: TicketOrder, direction: Direction
) -> TicketQuery:
    """The port's question."""
    if filter is None:
        return TicketQuery(window, order=order, direction=direction)
    return TicketQuery(
        window,
        statuses=tuple(dict.fromkeys(filter.status or ())),
        priorities=tuple(dict.fromkeys(filter.priority or ())),
        updated_since=filter.updated_since,
        created_since=filter.created_since,
        text=filter.text or None,
        conditions=conditions(filter.own_fields),
        order=order,
        direction=direction,
    )
