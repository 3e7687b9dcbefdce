"""The world's records in Freshdesk's JSON."""

from __future__ import annotations

import hashlib
import html
from datetime import datetime
from typing import Any

from sources.sandbox.world import (
    REGION_FIELD_ID,
    Account,
    Agent,
    Article,
    Attachment,
    Comment,
    Contact,
    DuplicateOrganisation,
    Ticket,
)

Row = dict[str, Any]

STATUSES = {"open": 2, "pending": 3, "solved": 4, "closed": 5, "hold": 7, "new": 8}
"""The last two are the account's own."""
PRIORITIES = {"low": 1, "normal": 2, "high": 3, "urgent": 4, None: None}


def moment(value: datetime | None) -> str | None:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None


def company(account: Account) -> Row:
    assert account.zendesk_org_id is not None
    return _company(
        account.zendesk_org_id,
        account.helpdesk_name,
        account.zendesk_external_id,
        account.zendesk_domains,
        account.created_at,
        account.updated_at,
    )


def duplicate_company(duplicate: DuplicateOrganisation) -> Row:
    return _company(
        duplicate.zendesk_org_id,
        duplicate.name,
        None,
        duplicate.domains,
        duplicate.created_at,
        duplicate.updated_at,
    )


def _company(
    id_: int, name: str, number: str | None, domains: tuple[str, ...], created: datetime, updated: datetime
) -> Row:
    return {
        "id": id_,
        "name": name,
        "description": None,
        "note": None,
        "domains": list(domains),
        "health_score": None,
        "account_tier": None,
        "renewal_date": None,
        "industry": None,
        "custom_fields": {"cf_customer_number": number},
        "created_at": moment(created),
        "updated_at": moment(updated),
    }


def ticket(record: Ticket) -> Row:
    """A ticket that opens with an internal note has no description: that is always the requester's to read."""
    first = record.comments[0]
    described = first.body if first.public else ""
    return {
        "id": record.id,
        "subject": record.subject,
        "description": f"<div>{html.escape(described)}</div>" if described else "",
        "description_text": described,
        "status": STATUSES[record.status],
        "priority": PRIORITIES[record.priority],
        "source": 2,
        "type": record.type,
        "requester_id": record.requester.zendesk_user_id,
        "responder_id": record.assignee.zendesk_user_id if record.assignee else None,
        "group_id": None,
        "product_id": None,
        "company_id": record.zendesk_org_id,
        "email_config_id": None,
        "cc_emails": [],
        "fwd_emails": [],
        "reply_cc_emails": [],
        "to_emails": None,
        "tags": list(record.tags),
        "custom_fields": {"cf_region": record.custom_fields.get(REGION_FIELD_ID)},
        "fr_escalated": False,
        "is_escalated": False,
        "due_by": moment(record.due_at),
        "fr_due_by": moment(record.due_at),
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
    }


def conversations(url: str, record: Ticket) -> list[Row]:
    """What was said after the description."""
    said = record.comments[1:] if record.comments[0].public else record.comments
    return [_conversation(url, record.id, comment) for comment in said]


def _conversation(url: str, ticket_id: int, record: Comment) -> Row:
    return {
        "id": record.id,
        "body": f"<div>{html.escape(record.body)}</div>",
        "body_text": record.body,
        "incoming": not record.by_agent,
        "private": not record.public,
        "user_id": record.author_id,
        "support_email": None,
        "ticket_id": ticket_id,
        "to_emails": [],
        "source": 0 if record.public else 2,
        "attachments": attachments(url, record),
        "created_at": moment(record.created_at),
        "updated_at": moment(record.created_at),
    }


def attachments(url: str, record: Comment) -> list[Row]:
    return [attachment(url, file, record.created_at) for file in record.attachments]


def attachment(url: str, record: Attachment, created: datetime) -> Row:
    return {
        "id": record.id,
        "name": record.file_name,
        "content_type": record.content_type,
        "size": record.size,
        "attachment_url": f"{url}/attachments/{record.id}?signature={signature(record.id)}",
        "created_at": moment(created),
        "updated_at": moment(created),
    }


def signature(id_: int) -> str:
    """Whoever has it may read the attachment."""
    return hashlib.sha256(f"freshdesk attachment {id_}".encode()).hexdigest()[:32]


def agent(record: Agent) -> Row:
    return {
        "id": record.zendesk_user_id,
        "available": True,
        "occasional": False,
        "ticket_scope": 1,
        "type": "support_agent",
        "contact": {"name": record.name, "email": record.email, "active": True, "language": "en"},
        "created_at": "2019-01-07T09:00:00Z",
        "updated_at": "2026-01-07T09:00:00Z",
    }


def contact(record: Contact, company_id: int | None) -> Row:
    return {
        "id": record.zendesk_user_id,
        "name": record.name,
        "email": record.email,
        "phone": record.phone,
        "mobile": record.mobile,
        "company_id": company_id,
        "active": True,
        "tags": [],
        "custom_fields": {},
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
    }


def requester(record: Contact) -> Row:
    return {
        "id": record.zendesk_user_id,
        "name": record.name,
        "email": record.email,
        "mobile": record.mobile,
        "phone": record.phone,
    }


def article(record: Article, text: str) -> Row:
    return {
        "id": record.id,
        "title": record.title,
        "description": record.body,
        "description_text": text,
        "folder_id": record.section_id,
        "category_id": 1,
        "status": 1 if record.draft else 2,
        "language": record.locale,
        "thumbs_up": 0,
        "thumbs_down": 0,
        "hits": 0,
        "tags": list(record.labels),
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
    }
