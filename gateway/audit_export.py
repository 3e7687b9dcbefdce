"""The audit trail as JSON lines, for whoever may read it: oldest first, with what seals each record."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.audit import Done
from gateway.errors import log_sources, of_source
from gateway.office import Office
from gateway.signin.refused import SignInRefused, challenge
from permissions.principal import Principal
from sources.ports.audit import AuditEntry, AuditKind, AuditOutcome, AuditRecord
from sources.ports.errors import SourceError
from sources.transport.deadline import deadline

SCOPE = "audit:read"
MEDIA_TYPE = "application/jsonl"

_encode = msgspec.json.Encoder().encode
_NAMES = msgspec.structs.fields(
    msgspec.defstruct("_Names", [(field, Any) for field in AuditRecord.__struct_fields__], rename="camel")
)
_FIELDS = [(field.name, field.encode_name) for field in _NAMES]


def line(entry: AuditEntry, *, clients_of_staff: bool = True) -> bytes:
    """One entry. Where staff connect from is only theirs to know."""
    record = entry.record
    shown = {shown: getattr(record, name) for name, shown in _FIELDS}
    if (record.staff or record.viewed_by is not None) and not clients_of_staff:
        shown["client"] = None
    return (
        _encode({"sequence": entry.sequence, "hash": entry.hash.hex(), "key": entry.key_id, **shown}) + b"\n"
    )


async def export(office: Office, request: Request) -> Response:
    """GET /audit.jsonl?since=&until=&organisation=: of the organisation acted for; for staff over all customers of all, or
    of one. An export that cannot be recorded is not made."""
    try:
        principal = await office.signin.principal(
            request.headers, route="/audit.jsonl", method=request.method
        )
    except SignInRefused as refused:
        return JSONResponse(
            {"message": str(refused), "code": refused.code}, refused.status, challenge(refused)
        )
    record = office.audit.record(AuditKind.EXPORT, principal, name="GET /audit.jsonl")
    if SCOPE not in principal.scopes or not (principal.sees_all or principal.organisation):
        office.audit.read(record, None, Done(AuditOutcome.REFUSED, ("FORBIDDEN",)))
        return JSONResponse({"message": f"the export needs {SCOPE}", "code": "FORBIDDEN"}, 403)
    try:
        since, until = (_instant(request.query_params.get(name)) for name in ("since", "until"))
    except ValueError:
        message = "write since and until with their zone, as 2026-05-01T10:00:00Z"
        return JSONResponse({"message": message, "code": "BAD_USER_INPUT"}, 400)
    organisation = request.query_params.get("organisation")
    if not principal.sees_all and organisation not in (None, principal.organisation):
        # Not yours reads as not there.
        return Response(b"", media_type=MEDIA_TYPE)
    lines = _lines(office, principal, record, since, until, organisation or principal.organisation)
    try:
        with deadline(office.settings.door.deadline):
            await anext(lines)
    except SourceError as error:
        log_sources([error])
        said = of_source(error)
        return JSONResponse({"message": said["message"], **said["extensions"]}, 503)
    return StreamingResponse(lines, media_type=MEDIA_TYPE, headers={"Cache-Control": "private, no-store"})


async def _lines(
    office: Office,
    principal: Principal,
    record: AuditRecord,
    since: datetime | None,
    until: datetime | None,
    organisation: str | None,
) -> AsyncGenerator[bytes, None]:
    async with office.audit.writing(record) as writing:
        writing.done = Done(AuditOutcome.PARTIAL, ("CANCELLED",))  # unless it comes to its end
        yield b""
        staff = "accounts:all" in principal.scopes
        async for entry in office.ledger.audit.exported(since, until, organisation):
            yield line(entry, clients_of_staff=staff)
        writing.done = Done()


def _instant(text: str | None) -> datetime | None:
    """Raises ValueError."""
    if text is None:
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(text)
    return instant
