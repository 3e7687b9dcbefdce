"""What has changed among an organisation's members, told by comparing what is there with what was."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from enum import Enum
from typing import Any

import msgspec

from sources.layers.books import ScopedBooks
from sources.ports.common import PAGE_CAP, Page, Window
from sources.ports.errors import SourceError
from sources.ports.members import BookQuery, InvitationRecord, InvitationState, MemberRecord, MemberState


class MemberChangeKind(Enum):
    """What happened."""

    INVITED = "invited"
    INVITATION_REVOKED = "invitation_revoked"
    JOINED = "joined"
    ROLES_CHANGED = "roles_changed"
    STATE_CHANGED = "state_changed"
    REMOVED = "removed"


class MemberChange(msgspec.Struct, frozen=True):
    """One change. A removed member is as they were last."""

    kind: MemberChangeKind
    member: MemberRecord | None = None
    invitation: InvitationRecord | None = None


class _Seen(msgspec.Struct, frozen=True):
    members: dict[str, tuple[MemberRecord, MemberState]]
    invitations: dict[str, tuple[InvitationRecord, InvitationState]]


async def member_changes(
    books: ScopedBooks, organisation: str, news: AsyncIterator[None]
) -> AsyncGenerator[MemberChange, None]:
    """From now on. ``news`` says when to look, the first time at once. What changes back between two looks is not told, and
    while the ledger does not answer nothing is; what changed meanwhile is told afterwards."""
    seen: _Seen | None = None
    async for _ in news:
        try:
            found = await _look(books, organisation)
        except SourceError:
            continue
        if seen is not None:
            for change in _compared(seen, found):
                yield change
        seen = found


async def _look(books: ScopedBooks, organisation: str) -> _Seen:
    members = await _all(books.members_of, organisation)
    invitations = await _all(books.invitations_of, organisation)
    return _Seen(
        {member.id: (member, member.state) for member in members},
        {invitation.id: (invitation, invitation.state) for invitation in invitations},
    )


async def _all(read: Callable[[BookQuery], Awaitable[Page[Any]]], organisation: str) -> list[Any]:
    rows: list[Any] = []
    window = Window(first=PAGE_CAP)
    while True:
        page = await read(BookQuery(organisation, window))
        rows += page.rows
        if not page.has_next:
            return rows
        window = Window(first=PAGE_CAP, after=page.keys[-1])


def _compared(before: _Seen, now: _Seen) -> Iterator[MemberChange]:
    for id_, (invitation, state) in now.invitations.items():
        former = before.invitations.get(id_)
        if former is None:
            yield MemberChange(MemberChangeKind.INVITED, invitation=invitation)
        elif state is InvitationState.REVOKED is not former[1]:
            yield MemberChange(MemberChangeKind.INVITATION_REVOKED, invitation=invitation)
    for id_, (member, member_state) in now.members.items():
        known = before.members.get(id_)
        if known is None:
            yield MemberChange(MemberChangeKind.JOINED, member=member)
            continue
        if member.roles != known[0].roles:
            yield MemberChange(MemberChangeKind.ROLES_CHANGED, member=member)
        if member_state is not known[1]:
            yield MemberChange(MemberChangeKind.STATE_CHANGED, member=member)
    for id_ in before.members.keys() - now.members.keys():
        yield MemberChange(MemberChangeKind.REMOVED, member=before.members[id_][0])
