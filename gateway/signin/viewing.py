"""A member of staff who views as somebody else: the Principal is the other's, but for all that changes something."""

from collections.abc import Iterable
from dataclasses import replace

from gateway.signin.refused import SignInRefused
from permissions.principal import Principal
from permissions.roles import Roles
from sources.ports.errors import SourceError
from sources.ports.members import MemberRecord, MemberState, MemberStore
from sources.ports.viewings import ViewingRecord, ViewingStore

VIEW_AS = "accounts:view-as"
EVERYBODY = "accounts:all"

HEADER = "x-view-as"


class Viewing:
    """Turns staff into whom they look as, for one request."""

    def __init__(self, viewings: ViewingStore, members: MemberStore, roles: Roles) -> None:
        self._viewings, self._members, self._roles = viewings, members, roles

    async def principal(self, staff: Principal, id_: str) -> Principal:
        """Never more than the other sees, and never more than the member of staff does. Raises SignInRefused 403, which
        reads the same for a viewing that has expired or ended, is somebody else's or never was."""
        if staff.kind != "person" or VIEW_AS not in staff.scopes:
            raise _over()
        try:
            viewing = await self._viewings.begun_by(staff.identity, id_)
            if viewing is None or not viewing.runs or not _may_use(staff, viewing):
                raise _over()
            if viewing.member is None:
                return self._as(staff, viewing, None, viewing.roles)
            (member,) = await self._members.members([viewing.member])
        except SourceError as error:
            raise SignInRefused(
                "whom you view as cannot be looked up at the moment; try again",
                status=503,
                code="SOURCE_UNAVAILABLE",
            ) from error
        if (
            member is None
            or member.organisation != viewing.organisation
            or member.state is not MemberState.ACTIVE
        ):
            raise _over()
        return self._as(staff, viewing, member, member.roles)

    def _as(
        self, staff: Principal, viewing: ViewingRecord, member: MemberRecord | None, roles: Iterable[str]
    ) -> Principal:
        held = tuple(role for role in roles if role in self._roles.of_customers)
        ends = [viewing.expires_at.timestamp()]
        if member is not None and member.ends_at is not None:
            ends.append(member.ends_at.timestamp())
        if staff.expires_at is not None:
            ends.append(staff.expires_at)
        return replace(
            staff,
            # Nobody's subject where no member is named: what is the staff's own must not be mixed with what is seen.
            subject=member.subject or "" if member else "",
            issuer=member.issuer or "" if member else "",
            name=member.name if member else None,
            email=member.email if member else None,
            roles=held,
            scopes=seen(self._roles.scopes_of(held)) & staff.scopes,
            organisation=viewing.organisation,
            organisations=(viewing.organisation,),
            expires_at=min(ends),
            member=member.id if member else None,
            viewed_by=staff.identity,
            viewing=viewing.id,
        )


def seen(scopes: Iterable[str]) -> frozenset[str]:
    """What looking on leaves of somebody's scopes: nothing that changes anything, and neither the audit trail nor keys,
    which are the organisation's own affair."""
    return frozenset(
        scope
        for scope in scopes
        if scope.partition(":")[0] not in ("audit", "keys")
        and scope.partition(":")[2] not in ("write", "provision")
    )


def _may_use(staff: Principal, viewing: ViewingRecord) -> bool:
    return (
        staff.identity == viewing.staff
        and staff.credential == viewing.credential
        and (EVERYBODY in staff.scopes or viewing.organisation in staff.organisations)
    )


def _over() -> SignInRefused:
    return SignInRefused(
        "there is no such viewing of yours, or it is over; start a new one", status=403, code="FORBIDDEN"
    )
