"""Zendesk's JSON, as far as it is used, and what becomes of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html.parser import HTMLParser
from typing import Any, Generic, TypeVar

import msgspec

from sources.ports.common import CustomerRecord, CustomField, Ref
from sources.ports.custom import custom_value
from sources.ports.helpdesk import (
    ArticleRecord,
    Attachment,
    CommentRecord,
    TicketPriority,
    TicketRecord,
    TicketStatus,
)
from sources.transport.rows import Pages, Rows

NAME = "zendesk"
"""What this system is called in every Ref."""

STATUS_WORDS = {
    TicketStatus.NEW: "new",
    TicketStatus.OPEN: "open",
    TicketStatus.PENDING: "pending",
    TicketStatus.ON_HOLD: "hold",
    TicketStatus.SOLVED: "solved",
    TicketStatus.CLOSED: "closed",
}
"""An account with statuses of its own still sends their category in ``status``, which is one of these."""

PRIORITY_WORDS = {
    TicketPriority.LOW: "low",
    TicketPriority.NORMAL: "normal",
    TicketPriority.HIGH: "high",
    TicketPriority.URGENT: "urgent",
}

_STATUSES: dict[str | None, TicketStatus] = {word: status for status, word in STATUS_WORDS.items()}
_PRIORITIES: dict[str | None, TicketPriority | None] = {
    None: None,
    "": None,
    **{word: priority for priority, word in PRIORITY_WORDS.items()},
}


class FieldRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    value: Any = None


class TicketRow(msgspec.Struct, frozen=True, gc=False):
    """In Zendesk's order: msgspec looks for the next field behind the last one it found."""

    id: int
    created_at: datetime
    updated_at: datetime
    type: str | None = None
    subject: str | None = None
    priority: str | None = None
    status: str | None = None
    organization_id: int | None = None
    due_at: datetime | None = None
    tags: tuple[str, ...] | None = None


class OwnTicketRow(TicketRow, frozen=True, gc=False):
    """With the account's custom fields, of which there may be dozens: for a firm that shows some."""

    custom_fields: list[FieldRow] | None = None


Row = TypeVar("Row", bound=TicketRow)


class Cursor(msgspec.Struct, frozen=True):
    has_more: bool = False
    after_cursor: str | None = None


class TicketsPage(msgspec.Struct, Generic[Row], frozen=True):
    tickets: list[Row]


class SearchPage(msgspec.Struct, Generic[Row], frozen=True):
    results: list[Row]
    next_page: str | None = None


class ExportPage(msgspec.Struct, Generic[Row], frozen=True):
    results: list[Row]
    meta: Cursor


class Count(msgspec.Struct, frozen=True):
    count: int


class OrganisationRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str | None = None
    external_id: str | None = None
    domain_names: list[str] | None = None
    organization_fields: dict[str, Any] | None = None


class OrganisationsPage(msgspec.Struct, frozen=True):
    organizations: list[OrganisationRow]
    meta: Cursor = Cursor()


class AttachmentRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    content_url: str
    content_type: str | None = None
    size: int | None = None
    deleted: bool | None = None


class CommentRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    created_at: datetime
    author_id: int | None = None
    body: str | None = None
    plain_body: str | None = None
    public: bool | None = None
    attachments: list[AttachmentRow] | None = None


class UserRow(msgspec.Struct, frozen=True, gc=False):
    id: int | None
    name: str | None = None
    role: str | None = None


class CommentsPage(msgspec.Struct, frozen=True):
    comments: list[CommentRow]
    users: list[UserRow] = []
    meta: Cursor = Cursor()


class Me(msgspec.Struct, frozen=True):
    user: UserRow


class ArticleRow(msgspec.Struct, frozen=True, gc=False):
    id: int
    title: str | None = None
    snippet: str | None = None
    html_url: str | None = None
    locale: str | None = None
    updated_at: datetime | None = None


class ArticlesPage(msgspec.Struct, frozen=True):
    results: list[ArticleRow | None]
    """Null in the place of one that was dropped: hits are counted."""
    count: int


class TicketPages(Generic[Row]):
    """How pages of tickets are read, by what is read of each."""

    def __init__(self, row: type[Row]) -> None:
        self.shown: Pages[TicketsPage[Row]] = Pages(TicketsPage[row], Rows("tickets", "ticket", "id"))  # type: ignore[valid-type]
        self.searched: Pages[SearchPage[Row]] = Pages(SearchPage[row], Rows("results", "ticket", "id"))  # type: ignore[valid-type]
        self.exported: Pages[ExportPage[Row]] = Pages(ExportPage[row], Rows("results", "ticket", "id"))  # type: ignore[valid-type]


TICKETS = TicketPages(TicketRow)
OWN_TICKETS = TicketPages(OwnTicketRow)
ORGANISATIONS = Pages(OrganisationsPage, Rows("organizations", "customer", "id"))
COMMENTS = Pages(CommentsPage, Rows("comments", "comment", "id"), Rows("users", "user", "id"))
ARTICLES = Pages(ArticlesPage, Rows("results", "article", "id"))


class Customers(dict[int | None, Ref | None]):
    """The Ref of each organisation's id, made once for the many tickets of one."""

    def __missing__(self, organisation_id: int | None) -> Ref | None:
        ref = self[organisation_id] = None if organisation_id is None else Ref(NAME, str(organisation_id))
        return ref


_NO_VALUES: dict[str, Any] = {}
# Taken from the enum once: looking a member up by its name is Python, twice for each ticket.
_NO_STATUS, _NO_PRIORITY = TicketStatus.UNKNOWN, TicketPriority.UNKNOWN


def tickets_from(
    found: Sequence[TicketRow], fields: Sequence[CustomField], customers: Customers
) -> list[TicketRecord]:
    """In their order."""
    # In the record's order and without names: making it so takes a fraction of the time.
    return [
        TicketRecord(
            Ref(NAME, number := str(row.id)),
            customers[row.organization_id],
            number,
            row.subject,
            _STATUSES.get(row.status, _NO_STATUS),
            row.status,
            _PRIORITIES.get(row.priority, _NO_PRIORITY),
            row.priority,
            row.type,
            row.tags or (),
            row.created_at,
            row.updated_at,
            row.due_at,
            _own(row, fields) if fields else _NO_VALUES,
        )
        for row in found
    ]


def _own(row: TicketRow, fields: Sequence[CustomField]) -> dict[str, Any]:
    assert isinstance(row, OwnTicketRow)
    values = {str(field.id): field.value for field in row.custom_fields or ()}
    return {field.property: custom_value(field, _single(values.get(field.property))) for field in fields}


def comment(ticket_id: str, row: CommentRow, authors: Mapping[int, str | None]) -> CommentRecord:
    return CommentRecord(
        ref=Ref(NAME, f"{ticket_id}/{row.id}"),
        ticket=Ref(NAME, ticket_id),
        public=row.public is True,
        author_name=authors.get(row.author_id) if row.author_id is not None else None,
        body=row.plain_body if row.plain_body is not None else row.body,
        created_at=row.created_at,
        attachments=tuple(
            Attachment(str(file.id), file.file_name, file.content_type, file.size)
            for file in row.attachments or ()
            if not file.deleted
        ),
    )


def organisation(row: OrganisationRow, number_field: str | None) -> CustomerRecord:
    number = (row.organization_fields or {}).get(number_field) if number_field else None
    return CustomerRecord(
        ref=Ref(NAME, str(row.id)),
        name=row.name,
        external_id=row.external_id or None,
        number=str(number) if number not in (None, "") else None,
        domains=tuple(domain.lower() for domain in row.domain_names or ()),
    )


def article(row: ArticleRow) -> ArticleRecord:
    return ArticleRecord(
        ref=Ref(NAME, str(row.id)),
        title=row.title,
        snippet=plain_text(row.snippet) if row.snippet is not None else None,
        url=row.html_url,
        locale=row.locale,
        updated_at=row.updated_at,
    )


def plain_text(html: str) -> str:
    """What a reader would see of a piece of HTML, on one line."""
    reader = _Text()
    reader.feed(html)
    reader.close()
    return " ".join("".join(reader.parts).split())


class _Text(HTMLParser):
    """Collects text; a tag that starts a line separates words, one inside a line (``<em>``) does not."""

    _inline = frozenset({"a", "abbr", "b", "code", "em", "i", "mark", "span", "strong", "sub", "sup", "u"})
    _unseen = frozenset({"script", "style"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._unseen:
            self._hidden += 1
        if tag not in self._inline:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen and self._hidden:
            self._hidden -= 1
        if tag not in self._inline:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _single(value: Any) -> Any:
    """A multi-select field sends a list of tags."""
    return ", ".join(str(part) for part in value) if isinstance(value, list) else value
