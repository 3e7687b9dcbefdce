"""Signing in and out in the audit trail: recorded before it happens, or it does not happen."""

from contextlib import AbstractAsyncContextManager

from gateway.audit import Writing
from gateway.office import Office
from permissions.principal import Principal
from sources.ports.audit import AuditKind
from sources.ports.sessions import Logout, SessionRecord


def recorded(
    office: Office, kind: AuditKind, whose: SessionRecord | Logout, name: str | None = None
) -> AbstractAsyncContextManager[Writing]:
    """Raises SourceUnavailable, before the body, when it cannot be recorded."""
    session = whose if isinstance(whose, SessionRecord) else None
    principal = Principal(
        subject=session.subject if session else whose.sub or "",
        name=None,
        email=None,
        roles=(),
        scopes=frozenset(),
        organisation=session.organisation if session else None,
        issuer=whose.issuer,
        via="session",
        credential=session.id if session else None,
    )
    return office.audit.writing(office.audit.record(kind, principal, name=name))
