"""How the graph changes something: at most once per idempotency key, and what is refused is said in the payload."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import strawberry

from permissions.directives import PART
from resolvers.context import Info
from resolvers.errors import ViewingOnly
from resolvers.vocabulary import described
from sources.ports.writing import Refusal, Work, WriteRefused, Written

P = TypeVar("P", bound="Payload")

LONGEST_KEY = 200

GIVEN = strawberry.argument(description="What is to be done, and the key under which it is done once.")
"""How every mutation's input is described."""

UserErrorCode = described(
    Refusal,
    "Why a change did not take place.",
    ALREADY_INVITED="The e-mail address has an open invitation.",
    ALREADY_MEMBER="The person is a member already.",
    EMAIL_MISMATCH="The invitation is for another e-mail address than the one that the caller signed in with.",
    EMAIL_NOT_VERIFIED="The sign-in does not say that the caller's e-mail address is verified.",
    IDEMPOTENCY_KEY_REUSED="The idempotency key came with another change before.",
    INVALID="A value cannot be used; `field` says which.",
    INVITATION_EXPIRED="The invitation's time is over.",
    INVITATION_USED="The invitation was accepted before.",
    KEPT_ELSEWHERE="Who is a member is said by the issuer of their sign-in; it is changed there.",
    LAST_OWNER="The organisation would be left without an owner.",
    NOT_FOUND="There is no such record, or it is not the caller's.",
    ORGANISATION_NEEDED="The request does not say which organisation it acts for.",
    ROLE_NOT_YOURS="The role holds more than the caller does.",
    SCOPE_NOT_YOURS="The scope is not one that the caller may pass on.",
    STAFF_NOT_MEMBER="The firm's own people cannot be members of a customer's organisation.",
    TOO_MANY="There are as many as there may be.",
    UNKNOWN_ROLE="There is no such role for members.",
)
UserErrorCode.__strawberry_definition__.name = "UserErrorCode"  # type: ignore[attr-defined]


@strawberry.type(
    description="Why a change did not take place, for the person who asked for it.", directives=[PART]
)
class UserError:
    message: str = strawberry.field(description="In English, for the developer of the portal.")
    code: UserErrorCode = strawberry.field(description="For the portal to act on.")  # type: ignore[valid-type]
    field: list[str] | None = strawberry.field(description="The path in the input that is to be mended.")


@strawberry.type(description="A change that took place.", directives=[PART])
class Operation:
    id: strawberry.ID = strawberry.field(description="Names the change; not a node.")
    completed_at: datetime = strawberry.field(description="When it took place.")
    repeated: bool = strawberry.field(
        description=(
            "Was it done by an earlier request with the same idempotency key? Nothing was changed this time, the "
            "records are shown as they are now, and what is shown only once is not shown again."
        )
    )


@strawberry.type
class Payload:
    """What every mutation answers."""

    user_errors: list[UserError] = strawberry.field(
        description="Why nothing was changed; empty when it was. Mend it and send it again, under the same key if you like."
    )
    operation: Operation | None = strawberry.field(description="The change; null when nothing was changed.")


def idempotency_key() -> Any:
    """The field that every input has."""
    return strawberry.field(
        description=(
            f"A text of at most {LONGEST_KEY} characters that is new for every change, such as a UUID. Sent again within "
            "seven days with the same input, it answers what was done the first time and changes nothing."
        )
    )


async def written(
    info: Info,
    payload: type[P],
    input: Any,
    work: Work,
    show: Callable[[Written], Awaitable[Mapping[str, Any]]],
    *,
    standing: bool = False,
) -> P:
    """The payload after ``work``, or after the same request's work of before: ``show`` gives its fields by the ids that
    the work returned. ``work`` only writes to the ledger; what else is to happen comes in ``show``, after the commit.
    ``standing``: what is changed is which organisations the caller may act for."""
    context = info.context
    principal = context.principal
    if principal.viewed_by is not None:
        raise ViewingOnly
    key: str = input.idempotency_key
    try:
        if not 0 < len(key) <= LONGEST_KEY:
            raise WriteRefused(
                Refusal.INVALID,
                f"an idempotency key has from 1 to {LONGEST_KEY} characters",
                "idempotencyKey",
            )
        done = await context.books.once(
            principal.identity, key, payload.__name__, msgspec.json.encode(input), work, standing=standing
        )
    except WriteRefused as refused:
        context.books.touched.refusals.append(refused.code.name)
        error = UserError(message=str(refused), code=refused.code, field=list(refused.field) or None)
        return payload(user_errors=[error], operation=None)
    operation = Operation(id=strawberry.ID(done.id), completed_at=done.at, repeated=done.repeated)
    return payload(user_errors=[], operation=operation, **await show(done))
