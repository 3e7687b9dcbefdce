"""Signing in and out in the audit trail: recorded before it happens, or it does not happen."""

from contextlib import AbstractAsyncContextManager

from gateway.audit import Writing
from gateway.office import Office
from gateway.signin.proof import Proof
from permissions.principal import Principal
from sources.ports.audit import AuditKind
from sources.ports.sessions import Logout, SessionRecord


async def organisation_of(office: Office, proof: Proof) -> str | None:
    """Whose affair it is that this person signs in or out: the organisation acted for, or the only one. Raises
    SignInRefused for somebody who may not come in at all."""
    organisations = await office.signin.standing.organisations(proof)
    return proof.organisation or (organisations[0] if len(organisations) == 1 else None)


def recorded(
    office: Office,
    kind: AuditKind,
    whose: SessionRecord | Logout,
    *,
    organisation: str | None = None,
    name: str | None = None,
) -> AbstractAsyncContextManager[Writing]:
    """Raises SourceUnavailable, before the body, when it cannot be recorded."""
    session = whose if isinstance(whose, SessionRecord) else None
    principal = Principal(
        subject=session.subject if session else whose.sub or "",
        name=None,
        email=None,
        roles=(),
        scopes=frozenset(),
        organisation=organisation,
        issuer=whose.issuer,
        via="session",
        credential=session.id if session else None,
    )
    return office.audit.writing(office.audit.record(kind, principal, name=name))
