"""Inviting people into an organisation, what they may do there, and ending it."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import strawberry
from email_validator import EmailNotValidError, validate_email

from permissions.directives import AUTHENTICATED, PART, requires
from resolvers.context import Context, Info
from resolvers.member import Invitation, Member
from resolvers.organisation import Organisation
from resolvers.vocabulary import URL
from resolvers.writing import GIVEN, Payload, idempotency_key, written
from sources.layers.books import LEDGER
from sources.ports.common import Ref
from sources.ports.members import Granting, InvitationRecord, Invite, Person
from sources.ports.writing import Refusal, WriteRefused, Written

Show = Callable[[Written], Awaitable[Mapping[str, Any]]]


@strawberry.input(description="Whom to invite.")
class InviteMemberInput:
    idempotency_key: str = idempotency_key()
    email: str = strawberry.field(description="Where the invitation is sent.")
    roles: list[str] = strawberry.field(description="What the person will be, of assignableRoles.")
    ends_at: datetime | None = strawberry.field(
        default=None,
        description="When the membership ends by itself, for people who are there for a while.",
    )


@strawberry.input(description="Which invitation to revoke.")
class RevokeInvitationInput:
    idempotency_key: str = idempotency_key()
    invitation_id: strawberry.ID = strawberry.field(description="The invitation.")


@strawberry.input(description="Which invitation to send again.")
class ResendInvitationInput:
    idempotency_key: str = idempotency_key()
    invitation_id: strawberry.ID = strawberry.field(description="The invitation.")


@strawberry.input(description="An invitation that the caller holds.")
class AcceptInvitationInput:
    idempotency_key: str = idempotency_key()
    secret: str = strawberry.field(description="From the invitation's link.")


@strawberry.input(description="Whose roles to change.")
class ChangeMemberRolesInput:
    idempotency_key: str = idempotency_key()
    member_id: strawberry.ID = strawberry.field(description="The member.")
    roles: list[str] = strawberry.field(description="All roles from now on, of assignableRoles.")


@strawberry.input(description="When a membership is to end by itself.")
class SetMemberEndInput:
    idempotency_key: str = idempotency_key()
    member_id: strawberry.ID = strawberry.field(description="The member.")
    ends_at: datetime | None = strawberry.field(
        default=None, description="An instant to come; null: it does not end by itself."
    )


@strawberry.input(description="Whom to remove.")
class RemoveMemberInput:
    idempotency_key: str = idempotency_key()
    member_id: strawberry.ID = strawberry.field(description="The member; may be the caller.")


@strawberry.input(description="Leaving the organisation that the request acts for.")
class LeaveOrganisationInput:
    idempotency_key: str = idempotency_key()


def _link() -> Any:
    return strawberry.field(
        default=None,
        description=(
            "To pass on to the person, where this gateway sends no mail and knows the portal's page. Shown this once."
        ),
    )


def _shown_secret() -> Any:
    return strawberry.field(
        default=None,
        description="What the link carries, for acceptInvitation; where this gateway sends no mail. Shown this once.",
    )


@strawberry.type(description="What came of inviting somebody.", directives=[PART])
class InviteMemberPayload(Payload):
    invitation: Invitation | None = strawberry.field(default=None, description="The invitation.")
    delivered: bool = strawberry.field(
        default=False,
        description="Did the mail server take the mail? Where not, the invitation stands: pass the link on, or resend it.",
    )
    link: URL | None = _link()
    secret: str | None = _shown_secret()


@strawberry.type(description="What came of sending an invitation again.", directives=[PART])
class ResendInvitationPayload(Payload):
    invitation: Invitation | None = strawberry.field(
        default=None, description="The invitation. The link of every earlier mail is dead."
    )
    delivered: bool = strawberry.field(default=False, description="Did the mail server take the mail?")
    link: URL | None = _link()
    secret: str | None = _shown_secret()


@strawberry.type(description="What came of revoking an invitation.", directives=[PART])
class RevokeInvitationPayload(Payload):
    invitation: Invitation | None = strawberry.field(default=None, description="The invitation.")


@strawberry.type(description="What came of accepting an invitation.", directives=[PART])
class AcceptInvitationPayload(Payload):
    member: Member | None = strawberry.field(default=None, description="The caller as a member.")
    organisation: Organisation | None = strawberry.field(
        default=None,
        description="What the caller has joined; for the X-Organisation header of later requests.",
    )


@strawberry.type(description="What came of changing a member's roles.", directives=[PART])
class ChangeMemberRolesPayload(Payload):
    member: Member | None = strawberry.field(default=None, description="The member as they are now.")


@strawberry.type(description="What came of setting a membership's end.", directives=[PART])
class SetMemberEndPayload(Payload):
    member: Member | None = strawberry.field(default=None, description="The member as they are now.")


@strawberry.type(description="What came of removing a member.", directives=[PART])
class RemoveMemberPayload(Payload):
    removed_member_id: strawberry.ID | None = strawberry.field(
        default=None, description="Who is a member no more."
    )


@strawberry.type(description="What came of leaving an organisation.", directives=[PART])
class LeaveOrganisationPayload(Payload):
    left_organisation_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of what the caller is a member no more."
    )


@strawberry.type
class MemberMutations:
    """Part of the graph's Mutation."""

    @strawberry.mutation(
        description="Sends somebody a link by which they become a member of the organisation that the request acts for.",
        directives=[requires("members:write")],
    )
    async def invite_member(
        self, info: Info, input: Annotated[InviteMemberInput, GIVEN]
    ) -> InviteMemberPayload | None:
        context = info.context
        made: list[tuple[InvitationRecord, str]] = []

        async def work() -> Mapping[str, str]:
            _require_to_come(input.ends_at)
            invite = Invite(
                _address(input.email),
                _roles(context, input.roles),
                context.invitations.expiry(),
                input.ends_at,
            )
            made.append(await context.books.invite(invite, _granting(context)))
            return {"invitation": made[0][0].id}

        return await written(info, InviteMemberPayload, input, work, _sent(context, made))

    @strawberry.mutation(
        description=(
            "Sends an invitation again, with a new link and for as long as a new one; the earlier link is dead."
        ),
        directives=[requires("members:write")],
    )
    async def resend_invitation(
        self, info: Info, input: Annotated[ResendInvitationInput, GIVEN]
    ) -> ResendInvitationPayload | None:
        context = info.context
        made: list[tuple[InvitationRecord, str]] = []

        async def work() -> Mapping[str, str]:
            made.append(
                await context.books.renew_invitation(
                    input.invitation_id, context.invitations.expiry(), _granting(context)
                )
            )
            return {"invitation": made[0][0].id}

        return await written(info, ResendInvitationPayload, input, work, _sent(context, made))

    @strawberry.mutation(
        description="Takes an invitation back: its link is dead at once.",
        directives=[requires("members:write")],
    )
    async def revoke_invitation(
        self, info: Info, input: Annotated[RevokeInvitationInput, GIVEN]
    ) -> RevokeInvitationPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            return {"invitation": (await context.books.revoke_invitation(input.invitation_id)).id}

        async def show(done: Written) -> Mapping[str, Any]:
            return {"invitation": await _invitation(context, done)}

        return await written(info, RevokeInvitationPayload, input, work, show)

    @strawberry.mutation(
        description=(
            "Makes the caller a member of the organisation that an invitation is for. Works once, for anyone who has "
            "signed in, whatever they are a member of."
        ),
        directives=[AUTHENTICATED],
    )
    async def accept_invitation(
        self, info: Info, input: Annotated[AcceptInvitationInput, GIVEN]
    ) -> AcceptInvitationPayload | None:
        context = info.context
        principal = context.principal

        async def work() -> Mapping[str, str]:
            if principal.kind != "person" or "accounts:all" in principal.scopes:
                raise WriteRefused(
                    Refusal.STAFF_NOT_MEMBER, "only a customer's people can accept an invitation"
                )
            person = Person(
                principal.issuer,
                principal.subject,
                principal.name,
                principal.email,
                email_verified=principal.email_verified,
            )
            verified = context.invitations.require_verified_email
            member = await context.books.accept(input.secret, person, verified_email=verified)
            return {"member": member.id, "organisation": member.organisation}

        async def show(done: Written) -> Mapping[str, Any]:
            joined = done.records["organisation"]
            return {
                "member": await context.books.joined(done.records["member"], joined),
                "organisation": await context.books.organisation(joined),
            }

        return await written(info, AcceptInvitationPayload, input, work, show, standing=True)

    @strawberry.mutation(
        description="Gives a member other roles. Holds from their next request on.",
        directives=[requires("members:write")],
    )
    async def change_member_roles(
        self, info: Info, input: Annotated[ChangeMemberRolesInput, GIVEN]
    ) -> ChangeMemberRolesPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            roles = _roles(context, input.roles)
            changed = await context.books.change_roles(input.member_id, roles, _granting(context))
            return {"member": changed.id}

        return await written(info, ChangeMemberRolesPayload, input, work, _changed(context))

    @strawberry.mutation(
        description="Lets a membership end by itself, or not. For consultants and others who are there for a while.",
        directives=[requires("members:write")],
    )
    async def set_member_end(
        self, info: Info, input: Annotated[SetMemberEndInput, GIVEN]
    ) -> SetMemberEndPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            _require_to_come(input.ends_at)
            changed = await context.books.set_end(input.member_id, input.ends_at, _granting(context))
            return {"member": changed.id}

        return await written(info, SetMemberEndPayload, input, work, _changed(context))

    @strawberry.mutation(
        description=(
            "Ends a membership at once: the person's next request is refused, their subscriptions end, and the open "
            "invitations that they made are revoked. The last owner cannot be removed."
        ),
        directives=[requires("members:write")],
    )
    async def remove_member(
        self, info: Info, input: Annotated[RemoveMemberInput, GIVEN]
    ) -> RemoveMemberPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            await context.books.remove(input.member_id, _granting(context))
            return {"member": input.member_id}

        async def show(done: Written) -> Mapping[str, Any]:
            return {"removed_member_id": strawberry.ID(done.records["member"])}

        return await written(info, RemoveMemberPayload, input, work, show)

    @strawberry.mutation(
        description="Ends the caller's own membership of the organisation that the request acts for.",
        directives=[AUTHENTICATED],
    )
    async def leave_organisation(
        self, info: Info, input: Annotated[LeaveOrganisationInput, GIVEN]
    ) -> LeaveOrganisationPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            organisation = context.books.acting()
            if context.principal.member is None:
                raise WriteRefused(Refusal.NOT_FOUND, "you are no member of the organisation")
            await context.books.remove(context.principal.member, _granting(context))
            return {"organisation": organisation}

        async def show(done: Written) -> Mapping[str, Any]:
            return {"left_organisation_id": strawberry.ID(done.records["organisation"])}

        return await written(info, LeaveOrganisationPayload, input, work, show, standing=True)


def _granting(context: Context) -> Granting:
    principal = context.principal
    return Granting(
        by=principal.identity,
        owner=context.roles.owner,
        roles=context.roles.grantable(principal.scopes),
        by_name=principal.name,
    )


def _roles(context: Context, asked: list[str]) -> tuple[str, ...]:
    roles = tuple(dict.fromkeys(asked))
    known = context.roles.of_customers
    if unknown := [role for role in roles if role not in known]:
        raise WriteRefused(Refusal.UNKNOWN_ROLE, f"{unknown[0]}: members may be {', '.join(known)}", "roles")
    if not roles:
        raise WriteRefused(Refusal.INVALID, "name at least one role", "roles")
    grantable = context.roles.grantable(context.principal.scopes)
    if beyond := [role for role in roles if role not in grantable]:
        raise WriteRefused(
            Refusal.ROLE_NOT_YOURS, f"{beyond[0]} holds more than you do; you cannot give it", "roles"
        )
    return roles


def _address(email: str) -> str:
    try:
        return validate_email(email.strip(), check_deliverability=False).normalized
    except EmailNotValidError:
        raise WriteRefused(Refusal.INVALID, "this is no e-mail address", "email") from None


def _require_to_come(ends_at: datetime | None) -> None:
    if ends_at is not None and ends_at <= datetime.now(UTC):
        raise WriteRefused(
            Refusal.INVALID, "endsAt must be in the future; to end it now, remove the member", "endsAt"
        )


async def _invitation(context: Context, done: Written) -> InvitationRecord | None:
    (found,) = await context.books.invitations([Ref(LEDGER, done.records["invitation"])])
    return found


def _changed(context: Context) -> Show:
    async def show(done: Written) -> Mapping[str, Any]:
        (found,) = await context.books.members([Ref(LEDGER, done.records["member"])])
        return {"member": found}

    return show


def _sent(context: Context, made: list[tuple[InvitationRecord, str]]) -> Show:
    """Sends what the work has made. For a repeated request that is nothing: the secret is gone, and only its first mail
    or a resend can carry one."""

    async def show(done: Written) -> Mapping[str, Any]:
        link = passed_on = None
        if made:
            invitation, secret = made[0]
            if context.invitations.by_mail:
                organisation = await context.books.organisation(invitation.organisation)
                name = organisation.name if organisation else invitation.organisation
                if await context.invitations.send(invitation, secret, name):
                    await context.books.note_delivery(invitation.id, secret)
            else:
                link, passed_on = context.invitations.link(secret), secret
        found = await _invitation(context, done)
        return {
            "invitation": found,
            "delivered": found is not None and found.delivered_at is not None,
            "link": link,
            "secret": passed_on,
        }

    return show
