"""What Xero's error answers mean, in all their spellings."""

import re
from urllib.parse import parse_qs

import msgspec

from sources.ports.errors import (
    UNREADABLE,
    InvalidRequest,
    SourceError,
    SourceRateLimited,
    SourceRejected,
    word,
)
from sources.transport.http import Answer, retry_after
from sources.vendors.xero.rows import NAME

_UNKNOWN_ELEMENT = re.compile(r"No property or field '(\w{1,64})' exists")


class _Body(msgspec.Struct):
    """Both forms at once: the API's own (Type, Message) and its front door's (Title, Detail; old ones in lower case)."""

    kind: str | None = msgspec.field(default=None, name="Type")
    message: str | None = msgspec.field(default=None, name="Message")
    number: int | None = msgspec.field(default=None, name="ErrorNumber")
    door: str | None = msgspec.field(default=None, name="Detail")
    old_door: str | None = msgspec.field(default=None, name="detail")


_BODY = msgspec.json.Decoder(_Body)


def explain(answer: Answer) -> SourceError | None:
    """None where the status alone tells."""
    body = _body(answer)
    request_id = answer.headers.get("xero-correlation-id")
    limit = (word(answer.headers.get("x-rate-limit-problem")) or "").lower()
    # Before OAuth 2 the limit was a 503 with a form-encoded body; proxies in front of Xero still speak so.
    if answer.status == 429 or (
        answer.status == 503 and (limit or "rate limit" in (body.door or "").lower())
    ):
        which = f" ({limit} limit)" if limit else ""
        return SourceRateLimited(
            NAME,
            f"rate limited{which}",
            retry_after=retry_after(answer),
            vendor_code=limit or None,
            request_id=request_id,
        )
    if answer.status in (401, 403):
        code = (body.door or body.old_door or "").partition(":")[0].strip() or None
        return SourceRejected(NAME, _rejection(answer.status, code), vendor_code=code, request_id=request_id)
    if answer.status == 400:
        return InvalidRequest(NAME, _fault(body), vendor_code=body.kind, request_id=request_id)
    return None


def _body(answer: Answer) -> _Body:
    try:
        return _BODY.decode(answer.body)
    except UNREADABLE:
        form = parse_qs(answer.body[:2048].decode("latin-1"))
        return _Body(door=form["oauth_problem"][0]) if "oauth_problem" in form else _Body()


def _rejection(status: int, code: str | None) -> str:
    if code is not None and code.lower().replace("_", "") == "tokenexpired":
        return "the access token has expired and could not be renewed; check client_id and client_secret"
    if code == "AuthorizationUnsuccessful":
        return "the connection lacks a scope (accounting.transactions.read, accounting.contacts.read)"
    if status == 403:
        return (
            "the organisation is not open to this connection; check tenant_id and that it is still connected"
        )
    return "the access token was refused; check the source's credentials"


def _fault(body: _Body) -> str:
    """Never the vendor's message itself: it may quote the record."""
    if body.kind == "QueryParseException":
        unknown = _UNKNOWN_ELEMENT.search(body.message or "")
        what = f"there is no element {unknown[1]}" if unknown else "its filter was not understood"
        return f"the request was refused: {what}; check the firm's own fields in gateway.toml"
    return f"the request was refused ({word(body.kind) or 'HTTP 400'})"
