"""What Freshdesk says instead of an answer."""

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
from sources.vendors.freshdesk.rows import NAME

_WORD = re.compile(r"[a-z][a-z_]{0,59}")


def explain(answer: Answer) -> SourceError | None:
    """None leaves it to the status alone."""
    code = _code(answer.body)
    request_id = answer.headers.get("x-request-id")
    wait = retry_after(answer)
    if answer.status == 429:
        return SourceRateLimited(
            NAME, "rate limited", retry_after=wait, vendor_code=code, request_id=request_id
        )
    if answer.status >= 500:
        return SourceUnavailable(
            NAME, f"failing (HTTP {answer.status})", retry_after=wait, vendor_code=code, request_id=request_id
        )
    mend = {
        401: "the credentials were refused; check api_key",
        403: "the credentials lack a permission; check that api_key is an agent's who sees all tickets",
        404: "nothing answers at this address; check base_url",
    }.get(answer.status)
    if mend is not None:
        return SourceRejected(NAME, mend, vendor_code=code, request_id=request_id)
    if answer.status in (400, 405, 409, 415, 422):
        return InvalidRequest(
            NAME,
            f"the request was refused (HTTP {answer.status}{f', {code}' if code else ''})",
            vendor_code=code,
            request_id=request_id,
        )
    return None


def _code(body: bytes) -> str | None:
    """``{"code": name}`` or ``{"errors": [{"code": name}]}``; a 404 has no body at all. Messages may repeat what was asked,
    so they are not read."""
    try:
        document: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if not isinstance(document, dict):
        return None
    code, errors = document.get("code"), document.get("errors")
    if code is None and isinstance(errors, list) and errors and isinstance(errors[0], dict):
        code = errors[0].get("code")
    return code if isinstance(code, str) and _WORD.fullmatch(code) else None
