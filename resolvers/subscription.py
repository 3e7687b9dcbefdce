"""What can be subscribed to."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry

from permissions.directives import AUTHENTICATED, PART, requires, reveals
from resolvers.context import Info
from resolvers.errors import BadUserInput
from resolvers.member import Invitation, Member
from resolvers.viewer import Viewer
from resolvers.vocabulary import described
from sources.layers.member_changes import MemberChangeKind as Kind
from sources.layers.member_changes import member_changes

MemberChangeKind = described(
    Kind,
    "What happened among an organisation's members.",
    INVITED="Somebody was invited.",
    INVITATION_REVOKED="An invitation was revoked.",
    JOINED="Somebody became a member: accepted an invitation, or was named by the organisation's directory.",
    ROLES_CHANGED="A member's roles changed.",
    STATE_CHANGED="A member has signed in for the first time, was suspended, or may act again.",
    REMOVED="A member was removed.",
)
MemberChangeKind.__strawberry_definition__.name = "MemberChangeKind"  # type: ignore[attr-defined]


@strawberry.type(
    description="One change among an organisation's members.",
    directives=[PART],
)
class MemberChange:
    kind: MemberChangeKind = strawberry.field(description="What happened.")  # type: ignore[valid-type]
    member: Member | None = strawberry.field(
        description="The member, as they are now; a removed one as they were. Null where it is about an invitation."
    )
    invitation: Invitation | None = strawberry.field(
        description="The invitation; null where it is about a member."
    )


@strawberry.type(description="What is told as it happens.")
class Subscription:
    @strawberry.subscription(
        description=(
            "The caller: at once, and again whenever their roles, membership, organisations or viewing change."
        ),
        directives=[AUTHENTICATED],
    )
    async def viewer(self, info: Info) -> AsyncGenerator[Viewer | None, None]:
        assert info.context.live is not None
        async with aclosing(info.context.live.standings()) as standings:
            async for principal in standings:
                yield principal  # type: ignore[misc]

    @strawberry.subscription(
        description=(
            "Changes among the members of the organisation that the caller acts for, from now on. What is undone within "
            "half a second may go untold."
        ),
        directives=[
            requires("members:read"),
            reveals("Member.id", "Member.roles", "Member.state", "Invitation.state"),
        ],
    )
    async def members(self, info: Info) -> AsyncGenerator[MemberChange | None, None]:
        context = info.context
        organisation = context.principal.organisation
        if organisation is None:
            raise BadUserInput("name the organisation that you act for")
        assert context.live is not None
        news = context.live.news("members", "invitations")
        async with aclosing(news), aclosing(member_changes(context.books, organisation, news)) as changes:
            async for change in changes:
                yield change  # type: ignore[misc]
