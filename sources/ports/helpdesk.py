"""A helpdesk: tickets, what was said about them, and help articles."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from sources.ports.common import (
    Condition,
    Content,
    Criterion,
    CustomerRecord,
    Direction,
    Page,
    Probe,
    Ref,
    Window,
    Word,
)
from sources.ports.errors import SourceError


class TicketStatus(Word):
    """Where a ticket stands. SOLVED may be reopened, CLOSED may not."""

    NEW = "new"
    OPEN = "open"
    PENDING = "pending"
    ON_HOLD = "on_hold"
    SOLVED = "solved"
    CLOSED = "closed"
    UNKNOWN = "unknown"


OPEN_STATUSES = (TicketStatus.NEW, TicketStatus.OPEN, TicketStatus.PENDING, TicketStatus.ON_HOLD)
"""What counts as an open ticket."""


class TicketPriority(Word):
    """How urgent a ticket is."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"
    UNKNOWN = "unknown"


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """A file on a comment."""

    id: str
    file_name: str
    media_type: str | None
    size: int | None
    """Bytes."""


class TicketRecord(msgspec.Struct, frozen=True, gc=False):
    """A ticket. ``customer`` is the helpdesk's own organisation; None for a person without one. No description: it is the
    first comment, which may be internal, so it is read as a comment."""

    ref: Ref
    customer: Ref | None
    number: str
    subject: str | None
    status: TicketStatus
    source_status: str | None
    priority: TicketPriority | None = None
    source_priority: str | None = None
    type: str | None = None
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    due_at: datetime | None = None
    custom: dict[str, Any] = {}


class CommentRecord(msgspec.Struct, frozen=True, gc=False):
    """Something said on a ticket. ``public`` is False when the vendor leaves the flag out."""

    ref: Ref
    ticket: Ref
    public: bool
    author_name: str | None
    body: str | None
    """Plain text."""
    created_at: datetime | None
    attachments: tuple[Attachment, ...] = ()


class ArticleRecord(msgspec.Struct, frozen=True, gc=False):
    """A help-centre article."""

    ref: Ref
    title: str | None
    snippet: str | None
    """Plain text around the hit."""
    url: str | None
    locale: str | None = None
    updated_at: datetime | None = None


class TicketOrder(Word):
    """What tickets may be sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    PRIORITY = "priority"


class TicketQuery(msgspec.Struct, frozen=True):
    """Which tickets of each customer. Empty tuples filter nothing."""

    window: Window
    statuses: tuple[TicketStatus, ...] = ()
    priorities: tuple[TicketPriority, ...] = ()
    updated_since: datetime | None = None
    created_since: datetime | None = None
    text: str | None = None
    conditions: tuple[Condition, ...] = ()
    order: TicketOrder = TicketOrder.CREATED_AT
    direction: Direction = Direction.DESC


class CommentQuery(msgspec.Struct, frozen=True):
    """Which comments of each ticket, oldest first. ``internal`` must be asked for: without it only public ones count,
    in pages and in ``has_next`` alike."""

    window: Window
    internal: bool = False


class ArticleQuery(msgspec.Struct, frozen=True):
    """A help-centre search; hits come in the vendor's order of relevance, so a key is a hit's number in it."""

    text: str
    window: Window
    locale: str | None = None


class Helpdesk(Protocol):
    """The port. Batches answer in the order asked; N customers cost the vendor's minimum number of calls, and one very
    large customer neither starves the others nor is read to its end."""

    name: str

    async def customers(self, refs: Sequence[Ref]) -> Sequence[CustomerRecord | None]: ...

    async def customers_by(
        self, criterion: Criterion, values: Sequence[str]
    ) -> Sequence[Sequence[CustomerRecord]]: ...

    async def tickets(self, refs: Sequence[Ref]) -> Sequence[TicketRecord | None]: ...

    async def tickets_of(
        self, customers: Sequence[Ref], query: TicketQuery
    ) -> Sequence[Page[TicketRecord] | SourceError]: ...

    async def open_counts_of(self, customers: Sequence[Ref]) -> Sequence[int | SourceError]:
        """Tickets of OPEN_STATUSES per customer."""

    async def comments_of(
        self, tickets: Sequence[Ref], query: CommentQuery
    ) -> Sequence[Page[CommentRecord] | SourceError]: ...

    async def attachment(self, ticket: Ref, attachment_id: str, internal: bool) -> Content | None:
        """None unless the attachment is on a comment of this ticket that may be seen."""

    async def search_articles(self, query: ArticleQuery) -> Page[ArticleRecord]:
        """Only articles that an anonymous visitor may read."""

    async def probe(self) -> Probe: ...

    async def close(self) -> None: ...
