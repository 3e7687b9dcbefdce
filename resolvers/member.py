"""Members of an organisation and invitations to join it."""

from datetime import datetime
from typing import Any

import strawberry

from permissions.directives import AUTHENTICATED, personal, scoped
from resolvers.context import Info
from resolvers.vocabulary import described
from sources.ports.members import InvitationState as StateOfInvitation
from sources.ports.members import MemberState as StateOfMember

MemberState = described(
    StateOfMember,
    "Whether a member may act for the organisation.",
    ACTIVE="May act.",
    PROVISIONED="Named by the organisation's directory; has not signed in yet.",
    SUSPENDED="Suspended by the organisation's directory.",
    ENDED="The membership has ended by itself.",
)
MemberState.__strawberry_definition__.name = "MemberState"  # type: ignore[attr-defined]

InvitationState = described(
    StateOfInvitation,
    "What has become of an invitation.",
    OPEN="Can be accepted.",
    EXPIRED="Its time is over; sending it again opens it.",
    ACCEPTED="Was accepted; it cannot be used again.",
    REVOKED="Was revoked; invite afresh.",
)
InvitationState.__strawberry_definition__.name = "InvitationState"  # type: ignore[attr-defined]


@strawberry.type(
    description="A person who may act for an organisation.",
    directives=[AUTHENTICATED, scoped("organisation")],
)
class Member:
    id: strawberry.ID = strawberry.field(description="For the mutations of members; not a node.")
    name: str | None = strawberry.field(
        description="As the issuer of their sign-in knew them when they joined.",
        directives=[personal("identity")],
    )
    email: str | None = strawberry.field(
        description="The address that was invited, or that the organisation's directory gave.",
        directives=[personal("contact")],
    )
    roles: list[str] = strawberry.field(
        description="The bundles of scopes that they hold in this organisation."
    )
    state: MemberState = strawberry.field(description="Whether they may act now.")  # type: ignore[valid-type]
    joined_at: datetime | None = strawberry.field(
        description="When they accepted, or first signed in; null before that."
    )
    ends_at: datetime | None = strawberry.field(
        description="When the membership ends by itself; null when it does not."
    )

    @strawberry.field(description="Is this the caller?")
    def is_viewer(root: strawberry.Parent[Any], info: Info) -> bool:
        return bool(root.id == info.context.principal.member)


@strawberry.type(
    description="An invitation to join an organisation. The link in it works once.",
    directives=[AUTHENTICATED, scoped("organisation")],
)
class Invitation:
    id: strawberry.ID = strawberry.field(description="For the mutations of invitations; not a node.")
    email: str = strawberry.field(
        description="The address that it was sent to.", directives=[personal("contact")]
    )
    roles: list[str] = strawberry.field(description="What the person will be.")
    state: InvitationState = strawberry.field(description="What has become of it.")  # type: ignore[valid-type]
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime = strawberry.field(description="From then on it cannot be accepted.")
    invited_by_name: str | None = strawberry.field(
        name="invitedBy", description="Who made it.", directives=[personal("identity")]
    )
    delivered_at: datetime | None = strawberry.field(
        description="When the mail server took the mail; null when it did not: send it again."
    )
    accepted_at: datetime | None = strawberry.field(description="When it was accepted.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")
    member_ends_at: datetime | None = strawberry.field(
        description="When the membership will end by itself; null when it will not."
    )
