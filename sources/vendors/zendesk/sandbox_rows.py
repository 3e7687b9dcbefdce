"""The world's records in Zendesk's JSON, as its description has them."""

from __future__ import annotations

import hashlib
import html
import re
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sources.sandbox.world import (
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


def moment(value: datetime | None) -> str | None:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if value else None


def organisation(url: str, account: Account) -> Row:
    assert account.zendesk_org_id is not None
    return _organisation(
        url,
        account.zendesk_org_id,
        account.helpdesk_name,
        account.zendesk_external_id,
        account.zendesk_domains,
        {"tier": account.tier, "customer_number": account.zendesk_external_id},
        account.created_at,
        account.updated_at,
    )


def duplicate_organisation(url: str, duplicate: DuplicateOrganisation) -> Row:
    return _organisation(
        url,
        duplicate.zendesk_org_id,
        duplicate.name,
        None,
        duplicate.domains,
        {"tier": None, "customer_number": None},
        duplicate.created_at,
        duplicate.updated_at,
    )


def _organisation(
    url: str,
    id_: int,
    name: str,
    external_id: str | None,
    domains: tuple[str, ...],
    fields: Row,
    created: datetime,
    updated: datetime,
) -> Row:
    return {
        "url": f"{url}/api/v2/organizations/{id_}.json",
        "id": id_,
        "name": name,
        "shared_tickets": False,
        "shared_comments": False,
        "external_id": external_id,
        "created_at": moment(created),
        "updated_at": moment(updated),
        "domain_names": list(domains),
        "details": "",
        "notes": "",
        "group_id": None,
        "tags": [],
        "organization_fields": fields,
    }


def ticket(url: str, record: Ticket) -> Row:
    return {
        "url": f"{url}/api/v2/tickets/{record.id}.json",
        "id": record.id,
        "external_id": None,
        "via": {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}},
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
        "generated_timestamp": int(record.updated_at.timestamp()),
        "type": record.type,
        "subject": record.subject,
        "raw_subject": record.subject,
        "description": record.description,
        "priority": record.priority,
        "status": record.status,
        "recipient": None,
        "requester_id": record.requester.zendesk_user_id,
        "submitter_id": record.requester.zendesk_user_id,
        "assignee_id": record.assignee.zendesk_user_id if record.assignee else None,
        "organization_id": record.zendesk_org_id,
        "group_id": None,
        "collaborator_ids": [],
        "follower_ids": [],
        "email_cc_ids": [],
        "has_incidents": False,
        "is_public": any(comment.public for comment in record.comments),
        "due_at": moment(record.due_at),
        "tags": list(record.tags),
        "custom_fields": [{"id": id_, "value": value} for id_, value in record.custom_fields.items()],
        "satisfaction_rating": None,
        "sharing_agreement_ids": [],
        "followup_ids": [],
        "brand_id": 360_000_000_001,
        "allow_channelback": False,
        "allow_attachments": True,
        "from_messaging_channel": False,
    }


def comment(url: str, record: Comment) -> Row:
    return {
        "id": record.id,
        "type": "Comment",
        "author_id": record.author_id,
        "body": record.body,
        "html_body": f'<div class="zd-comment" dir="auto"><p>{html.escape(record.body)}</p></div>',
        "plain_body": record.body,
        "public": record.public,
        "attachments": [attachment(url, file) for file in record.attachments],
        "audit_id": record.id + 1,
        "via": {"channel": "web", "source": {"from": {}, "to": {}, "rel": None}},
        "created_at": moment(record.created_at),
        "metadata": {"system": {}, "custom": {}},
    }


def attachment(url: str, record: Attachment) -> Row:
    return {
        "url": f"{url}/api/v2/attachments/{record.id}.json",
        "id": record.id,
        "file_name": record.file_name,
        "content_url": f"{url}/attachments/token/{attachment_token(record.id)}/?name={quote(record.file_name)}",
        "mapped_content_url": f"{url}/attachments/token/{attachment_token(record.id)}/?name={quote(record.file_name)}",
        "content_type": record.content_type,
        "size": record.size,
        "width": None,
        "height": None,
        "inline": False,
        "deleted": False,
        "malware_access_override": False,
        "malware_scan_result": "malware_not_found",
        "thumbnails": [],
    }


def attachment_token(id_: int) -> str:
    """Whoever has it may read the attachment, as with the vendor's default setting."""
    return f"{hashlib.sha256(f'attachment {id_}'.encode()).hexdigest()[:24]}{id_:x}"


def attachment_of(token: str) -> int | None:
    try:
        id_ = int(token[24:], 16)
    except ValueError:
        return None
    return id_ if attachment_token(id_) == token else None


def agent(url: str, record: Agent) -> Row:
    return _user(url, record.zendesk_user_id, record.name, record.email, record.role, None)


def end_user(url: str, record: Contact, organisation_id: int | None) -> Row:
    assert record.zendesk_user_id is not None
    return _user(url, record.zendesk_user_id, record.name, record.email, "end-user", organisation_id)


def _user(url: str, id_: int, name: str, email: str, role: str, organisation_id: int | None) -> Row:
    return {
        "id": id_,
        "url": f"{url}/api/v2/users/{id_}.json",
        "name": name,
        "email": email,
        "created_at": "2019-01-07T09:00:00Z",
        "updated_at": "2026-01-07T09:00:00Z",
        "time_zone": "Europe/London",
        "iana_time_zone": "Europe/London",
        "phone": None,
        "locale_id": 1176,
        "locale": "en-GB",
        "organization_id": organisation_id,
        "role": role,
        "verified": True,
        "external_id": None,
        "tags": [],
        "active": True,
        "shared": False,
        "suspended": False,
        "user_fields": {},
    }


def anonymous_user(url: str) -> Row:
    return {
        "id": None,
        "url": f"{url}/api/v2/users/.json",
        "name": "Anonymous user",
        "email": "invalid@example.com",
        "role": "end-user",
        "verified": False,
        "active": None,
    }


def found_article(url: str, record: Article, words: list[str]) -> Row:
    return {
        "id": record.id,
        "url": f"{url}/api/v2/help_center/{record.locale}/articles/{record.id}.json",
        "html_url": f"{url}{record.url_path}",
        "author_id": record.author_id,
        "comments_disabled": False,
        "draft": record.draft,
        "promoted": False,
        "position": 0,
        "vote_sum": 0,
        "vote_count": 0,
        "section_id": record.section_id,
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
        "edited_at": moment(record.updated_at),
        "name": record.title,
        "title": record.title,
        "source_locale": record.locale,
        "locale": record.locale,
        "outdated": False,
        "outdated_locales": [],
        "label_names": list(record.labels),
        "body": record.body,
        "snippet": _snippet(record, words),
        "result_type": "article",
    }


def _snippet(record: Article, words: list[str]) -> str:
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", record.body)).split())[:200]
    pattern = "|".join(re.escape(word) for word in words)
    parts = re.split(f"(?i)\\b({pattern})", text) if pattern else [text]
    return "".join(
        f"<em>{html.escape(part)}</em>" if place % 2 else html.escape(part)
        for place, part in enumerate(parts)
    )
