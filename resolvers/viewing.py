"""Staff who look at the graph as a customer's person sees it."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import strawberry

from permissions.directives import AUTHENTICATED, PART, requires, scoped
from resolvers.context import Context, Info
from resolvers.writing import GIVEN, Payload, idempotency_key, written
from sources.layers.books import LEDGER
from sources.ports.common import Ref
from sources.ports.viewings import ViewingRecord
from sources.ports.writing import Refusal, WriteRefused, Written

LONGEST_REASON = 500


@strawberry.type(
    description="A member of staff of the firm who looks as somebody else sees.", directives=[PART]
)
class ViewingStaff:
    @strawberry.field(description="Who it is, as the audit trail names them.")
    def id(root: strawberry.Parent[Any]) -> strawberry.ID:
        return strawberry.ID(root.staff)

    @strawberry.field(description="As the issuer of their sign-in knows them.")
    def name(root: strawberry.Parent[Any]) -> str | None:
        viewing: ViewingRecord = root
        return viewing.staff_name


@strawberry.type(
    description=(
        "That a member of staff looks at the graph as a customer's person sees it, for a while and without changing "
        "anything. To use it, send its id as the header X-View-As with the credentials that it was started with."
    ),
    directives=[AUTHENTICATED, scoped("organisation")],
)
class Viewing:
    id: strawberry.ID = strawberry.field(description="For the header X-View-As; not a node.")
    reason: str = strawberry.field(description="Why, in the words of the member of staff.")
    created_at: datetime = strawberry.field(description="When it began.")
    expires_at: datetime = strawberry.field(description="When it ends by itself.")
    ended_at: datetime | None = strawberry.field(description="When it was ended early; null when it was not.")

    @strawberry.field(description="The organisation that is looked at, by its id.")
    def organisation_id(root: strawberry.Parent[Any]) -> strawberry.ID:
        return strawberry.ID(root.organisation)

    @strawberry.field(
        description="The member as whom is looked, by their id; null where memberships are not kept here."
    )
    def member_id(root: strawberry.Parent[Any]) -> strawberry.ID | None:
        return None if root.member is None else strawberry.ID(root.member)


@strawberry.input(description="As whom to look, why, and for how long.")
class StartViewingInput:
    idempotency_key: str = idempotency_key()
    reason: str = strawberry.field(
        description=f"Why; the organisation's owners read it. At most {LONGEST_REASON} characters."
    )
    member_id: strawberry.ID | None = strawberry.field(
        default=None, description="The member, where memberships are kept here."
    )
    organisation_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="The organisation, where memberships come with people's sign-in; together with roles.",
    )
    roles: list[str] | None = strawberry.field(
        default=None,
        description="What a person of that organisation would hold; together with organisationId.",
    )
    minutes: int | None = strawberry.field(
        default=None,
        description="How long, at most; the firm sets how long it is when left out, and the longest.",
    )


@strawberry.input(description="Which viewing to end.")
class EndViewingInput:
    idempotency_key: str = idempotency_key()
    viewing_id: strawberry.ID = strawberry.field(description="The viewing.")


@strawberry.type(description="What came of starting to view.", directives=[PART])
class StartViewingPayload(Payload):
    viewing: Viewing | None = strawberry.field(default=None, description="The viewing.")


@strawberry.type(description="What came of ending a viewing.", directives=[PART])
class EndViewingPayload(Payload):
    viewing: Viewing | None = strawberry.field(default=None, description="The viewing, which is over.")


@strawberry.type
class ViewingMutations:
    """Part of the graph's Mutation."""

    @strawberry.mutation(
        description=(
            "Starts looking at the graph as a member of a customer's organisation sees it. The organisation's owners "
            "read of it in their audit log."
        ),
        directives=[requires("accounts:view-as")],
    )
    async def start_viewing(
        self, info: Info, input: Annotated[StartViewingInput, GIVEN]
    ) -> StartViewingPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            viewing = await _asked(context, input)
            await context.books.begin_viewing(viewing)
            return {"viewing": viewing.id, "organisation": viewing.organisation}

        return await written(info, StartViewingPayload, input, work, _shown(context))

    @strawberry.mutation(
        description="Ends a viewing that the caller has started, before its time.",
        directives=[requires("accounts:view-as")],
    )
    async def end_viewing(
        self, info: Info, input: Annotated[EndViewingInput, GIVEN]
    ) -> EndViewingPayload | None:
        context = info.context

        async def work() -> Mapping[str, str]:
            await context.books.end_viewing(input.viewing_id, context.principal.identity)
            return {"viewing": input.viewing_id}

        return await written(info, EndViewingPayload, input, work, _shown(context))


async def _asked(context: Context, input: StartViewingInput) -> ViewingRecord:
    terms, principal = context.viewing_terms, context.principal
    reason = input.reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise WriteRefused(Refusal.INVALID, f"a reason has from 1 to {LONGEST_REASON} characters", "reason")
    minutes = terms.default_minutes if input.minutes is None else input.minutes
    if not 1 <= minutes <= terms.max_minutes:
        raise WriteRefused(Refusal.INVALID, f"from 1 to {terms.max_minutes} minutes", "minutes")
    now = datetime.now(UTC)
    organisation, roles = await _whom(context, input)
    return ViewingRecord(
        id=str(uuid.uuid4()),
        staff=principal.identity,
        staff_name=principal.name,
        credential=principal.credential,
        organisation=organisation,
        member=input.member_id if terms.by_member else None,
        roles=roles,
        reason=reason,
        created_at=now,
        expires_at=now + timedelta(minutes=minutes),
    )


async def _whom(context: Context, input: StartViewingInput) -> tuple[str, tuple[str, ...]]:
    """The organisation, and the roles where it is not a member that has them."""
    if context.viewing_terms.by_member:
        if input.member_id is None or input.organisation_id is not None or input.roles is not None:
            raise WriteRefused(
                Refusal.INVALID, "name the member, and neither organisation nor roles", "memberId"
            )
        (member,) = await context.books.members([Ref(LEDGER, input.member_id)])
        if member is None:
            raise WriteRefused(Refusal.NOT_FOUND, "there is no such member or organisation", "memberId")
        return member.organisation, ()
    if input.organisation_id is None or input.member_id is not None or not input.roles:
        raise WriteRefused(
            Refusal.INVALID,
            "memberships come with people's sign-in here: name the organisation and the roles",
            "organisationId",
        )
    known = context.roles.of_customers
    if unknown := [role for role in input.roles if role not in known]:
        raise WriteRefused(Refusal.UNKNOWN_ROLE, f"{unknown[0]}: there are {', '.join(known)}", "roles")
    return input.organisation_id, tuple(dict.fromkeys(input.roles))


def _shown(context: Context) -> Any:
    async def show(done: Written) -> Mapping[str, Any]:
        (found,) = await context.books.viewings([Ref(LEDGER, done.records["viewing"])])
        return {"viewing": found}

    return show
