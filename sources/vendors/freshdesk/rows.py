"""Freshdesk's JSON, as far as it is used, and what becomes of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sources.layers.mirror_readers import encoded
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
from sources.ports.mirror import MirrorRow
from sources.transport.rows import Pages, Rows

NAME = "freshdesk"
"""What this system is called in every Ref."""

PRIORITIES = {
    TicketPriority.LOW: 1,
    TicketPriority.NORMAL: 2,
    TicketPriority.HIGH: 3,
    TicketPriority.URGENT: 4,
}

_PRIORITY_OF = {number: priority for priority, number in PRIORITIES.items()}
PUBLISHED, FOR_ALL = 2, 1
"""An article's status and a folder's visibility, without which nobody may read it who has not signed in."""

SNIPPET = 200
"""Characters of an article that a hit shows."""


class TicketRow(msgspec.Struct, frozen=True):
    """What the mirror keeps of a ticket: no description and nobody's name or address."""

    id: int
    created_at: datetime
    updated_at: datetime
    company_id: int | None = None
    subject: str | None = None
    status: int | None = None
    priority: int | None = None
    type: str | None = None
    tags: list[str] | None = None
    due_by: datetime | None = None
    custom_fields: dict[str, Any] | None = None
    deleted: bool | None = None
    spam: bool | None = None


class CompanyRow(msgspec.Struct, frozen=True):
    id: int
    name: str | None = None
    domains: list[str] | None = None
    custom_fields: dict[str, Any] | None = None


class AgentContact(msgspec.Struct, frozen=True):
    name: str | None = None


class AgentRow(msgspec.Struct, frozen=True):
    id: int
    contact: AgentContact | None = None


class Me(msgspec.Struct, frozen=True):
    id: int
    type: str | None = None
    contact: AgentContact | None = None


class AttachmentRow(msgspec.Struct, frozen=True):
    id: int
    name: str
    attachment_url: str
    content_type: str | None = None
    size: int | None = None


class ConversationRow(msgspec.Struct, frozen=True):
    id: int
    created_at: datetime
    body_text: str | None = None
    private: bool | None = None
    user_id: int | None = None
    attachments: list[AttachmentRow] | None = None


class PersonRow(msgspec.Struct, frozen=True):
    id: int | None = None
    name: str | None = None


class WholeTicket(msgspec.Struct, frozen=True):
    """A ticket by itself, with what was said."""

    id: int
    created_at: datetime
    company_id: int | None = None
    requester_id: int | None = None
    description_text: str | None = None
    deleted: bool | None = None
    spam: bool | None = None
    attachments: list[AttachmentRow] | None = None
    requester: PersonRow | None = None
    conversations: list[ConversationRow] = []


class ArticleRow(msgspec.Struct, frozen=True):
    id: int
    folder_id: int | None = None
    status: int | None = None
    title: str | None = None
    description_text: str | None = None
    language: str | None = None
    updated_at: datetime | None = None


class ConversationsPage(msgspec.Struct, frozen=True):
    conversations: list[ConversationRow]


class ArticlesPage(msgspec.Struct, frozen=True):
    articles: list[ArticleRow]


class FolderRow(msgspec.Struct, frozen=True):
    id: int
    visibility: int | None = None


WHOLE = Pages(WholeTicket, Rows("conversations", "comment", "id"))
CONVERSATIONS = Pages(ConversationsPage, Rows("conversations", "comment", "id"), bare=True)
ARTICLES = Pages(ArticlesPage, Rows("articles", "article", "id"), bare=True)


def instant(value: datetime) -> str:
    """Whole seconds, as Freshdesk's own are, in a form that sorts as text."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


CREATED, UPDATED, PRIORITY = 0, 1, 2
"""The orders of tickets: the numbers of their places."""


def ticket_copy(row: TicketRow) -> MirrorRow:
    created = instant(row.created_at)
    return MirrorRow(
        id=str(row.id),
        body=encoded(row),
        parent=None if row.company_id is None else str(row.company_id),
        places=(
            created,
            instant(row.updated_at),
            f"{row.priority if row.priority in (1, 2, 3, 4) else 0} {created}",
        ),
        marks=(f"status:{row.status}", f"priority:{row.priority}"),
    )


def company_copy(row: CompanyRow, external_id_field: str | None, number_field: str | None) -> MirrorRow:
    record = company(row, external_id_field, number_field)
    return MirrorRow(
        id=str(row.id),
        body=encoded(row),
        keys=(
            *(f"domain:{domain}" for domain in record.domains),
            *([f"external:{record.external_id.casefold()}"] if record.external_id else []),
            *([f"number:{record.number.casefold()}"] if record.number else []),
        ),
    )


def agent_copy(row: AgentRow) -> MirrorRow:
    return MirrorRow(id=str(row.id), body=encoded(row))


def ticket(row: TicketRow, fields: Sequence[CustomField], words: Mapping[int, TicketStatus]) -> TicketRecord:
    values = row.custom_fields or {}
    return TicketRecord(
        ref=Ref(NAME, str(row.id)),
        customer=Ref(NAME, str(row.company_id)) if row.company_id is not None else None,
        number=str(row.id),
        subject=row.subject,
        status=words.get(row.status or 0, TicketStatus.UNKNOWN),
        source_status=None if row.status is None else str(row.status),
        priority=None if row.priority is None else _PRIORITY_OF.get(row.priority, TicketPriority.UNKNOWN),
        source_priority=None if row.priority is None else str(row.priority),
        type=row.type,
        tags=tuple(row.tags or ()),
        created_at=row.created_at,
        updated_at=row.updated_at,
        due_at=row.due_by,
        custom={field.property: custom_value(field, values.get(field.property)) for field in fields},
    )


def company(row: CompanyRow, external_id_field: str | None, number_field: str | None) -> CustomerRecord:
    own = row.custom_fields or {}
    return CustomerRecord(
        ref=Ref(NAME, str(row.id)),
        name=row.name,
        external_id=_text(own.get(external_id_field)) if external_id_field else None,
        number=_text(own.get(number_field)) if number_field else None,
        domains=tuple(domain.lower() for domain in row.domains or ()),
    )


def comment(ticket_id: str, row: ConversationRow, names: Mapping[int, str | None]) -> CommentRecord:
    return CommentRecord(
        ref=Ref(NAME, f"{ticket_id}/{row.id}"),
        ticket=Ref(NAME, ticket_id),
        # What is not said to be public is not.
        public=row.private is False,
        author_name=names.get(row.user_id) if row.user_id is not None else None,
        body=row.body_text,
        created_at=row.created_at,
        attachments=_files(row.attachments),
    )


def opening(row: WholeTicket) -> CommentRecord | None:
    """A ticket's description: what its requester wrote first, which the portal of Freshdesk shows them, too."""
    if not (row.description_text or row.attachments):
        return None
    return CommentRecord(
        ref=Ref(NAME, f"{row.id}/0"),
        ticket=Ref(NAME, str(row.id)),
        public=True,
        author_name=row.requester.name if row.requester else None,
        body=row.description_text,
        created_at=row.created_at,
        attachments=_files(row.attachments),
    )


def article(row: ArticleRow, base_url: str) -> ArticleRecord:
    text = " ".join((row.description_text or "").split())
    return ArticleRecord(
        ref=Ref(NAME, str(row.id)),
        title=row.title,
        snippet=text[:SNIPPET] or None,
        url=f"{base_url.rstrip('/')}/support/solutions/articles/{row.id}",
        locale=row.language,
        updated_at=row.updated_at,
    )


def _files(found: Sequence[AttachmentRow] | None) -> tuple[Attachment, ...]:
    return tuple(Attachment(str(file.id), file.name, file.content_type, file.size) for file in found or ())


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)
