"""What Zendesk says instead of an answer, in its four spellings."""

import re
from typing import Any

import msgspec

from sources.ports.errors import (
    UNREADABLE,
    InvalidRequest,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    SourceUnavailable,
)
from sources.transport.http import Answer, retry_after
from sources.vendors.zendesk.rows import NAME

_RATE_LIMITED = frozenset({"APIRateLimitExceeded", "TooManyRequests"})
_WORD = re.compile(r"[A-Za-z][A-Za-z_' ]{0,59}")


def explain(answer: Answer) -> SourceError | None:
    """None leaves it to the status alone."""
    code = _code(answer.body)
    request_id = answer.headers.get("x-request-id") or answer.headers.get("x-zendesk-request-id")
    wait = retry_after(answer)
    if answer.status == 429 or code in _RATE_LIMITED:
        return SourceRateLimited(
            NAME, "rate limited", retry_after=wait, vendor_code=code, request_id=request_id
        )
    if answer.status >= 500 or code == "unavailable":
        return SourceUnavailable(
            NAME, f"failing (HTTP {answer.status})", retry_after=wait, vendor_code=code, request_id=request_id
        )
    mend = {
        401: "the credentials were refused; check email and api_token, or the OAuth settings",
        403: "the credentials lack a permission; use an agent who sees all tickets, or a token with the scope read",
        404: "nothing answers at this address; check base_url",
    }.get(answer.status)
    if mend is not None:
        return SourceRejected(NAME, mend, vendor_code=code, request_id=request_id)
    if answer.status in (400, 409, 413, 414, 422):
        return InvalidRequest(
            NAME,
            f"the request was refused (HTTP {answer.status}{f', {code}' if code else ''})",
            vendor_code=code,
            request_id=request_id,
        )
    return None


def _code(body: bytes) -> str | None:
    """The error's name: ``{"error": name}``, ``{"error": {"title": name}}``, ``{"errors": [{"code": name}]}``; plain
    text and pages have none. Descriptions may repeat what was asked, so they are not read."""
    try:
        document: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if not isinstance(document, dict):
        return None
    error, errors = document.get("error"), document.get("errors")
    if isinstance(error, dict):
        error = error.get("title")
    elif isinstance(errors, list) and errors and isinstance(errors[0], dict):
        error = errors[0].get("code")
    return error if isinstance(error, str) and _WORD.fullmatch(error) else None
