"""How old data may be, as the schema promises it, and how the systems are doing that it comes from."""

from datetime import datetime
from typing import Annotated, Any

import strawberry
from strawberry.directive import DirectiveLocation
from strawberry.schema_directive import Location

from permissions.directives import PART, requires, scoped
from resolvers.vocabulary import described
from sources.layers.cache.lifetimes import KIND_OF, Lifetimes
from sources.ports.health import AccountSync as AccountSyncRecord
from sources.ports.health import SourceHealth as Health
from sources.ports.health import SourceState as State
from sources.ports.links import LinkState


@strawberry.schema_directive(
    locations=[Location.OBJECT],
    description=(
        "While its source answers, what is given of this type was read at most so many seconds ago, unless the firm has "
        "set it otherwise; 0: it is always read anew. Each answer says in extensions.freshness when its data was read. "
        "A client asks for fresher data, or takes older, with @fresh on its query or Cache-Control on its request."
    ),
)
class Freshness:
    """The promise of ``[cache]``'s defaults."""

    max_age: int


def fresh(type_name: str) -> Freshness:
    """For a type that a source feeds."""
    return Freshness(max_age=Lifetimes().promise(KIND_OF[type_name]))


@strawberry.directive(
    name="fresh",
    locations=[DirectiveLocation.QUERY],
    description=(
        "How old what this query is given may be, within what the firm allows. It comes before the request's "
        "Cache-Control."
    ),
)
def fresh_enough(
    max_age: Annotated[
        int | None,
        strawberry.argument(
            description="Nothing that was read longer ago, in seconds; 0: all is read anew. A source that fails is an "
            "error then."
        ),
    ] = strawberry.UNSET,
    max_stale: Annotated[
        int | None,
        strawberry.argument(description="Also what has been due to be read again for so many seconds."),
    ] = strawberry.UNSET,
) -> None:
    """Read by the gateway before the query runs; no value passes through it."""


SourceState = described(
    State,
    "Whether a system can be asked.",
    HEALTHY="It answers, or was not asked yet.",
    LIMITED="Over one of its limits: only what was read before is given for a while.",
    RECOVERING="It failed; single calls try whether it answers again.",
    FAILING="It is left alone for a moment; what was read before stands in.",
)


@strawberry.type(
    description="A connected system and how it is doing, as the process knows it that answers.",
    directives=[PART],
)
class SourceStatus:
    name: str = strawberry.field(description="The vendor, as errors and extensions name it.")
    kind: str = strawberry.field(description="What it is here: crm, erp, helpdesk or documents.")
    state: SourceState = strawberry.field(description="Whether it can be asked.")  # type: ignore[valid-type]
    trouble: str | None = strawberry.field(description="What is amiss, in words; null where nothing is.")
    retry_after: float | None = strawberry.field(description="Seconds until it is asked again.")
    waiting: int = strawberry.field(description="Calls that wait for a place within its limits.")
    answered_at: datetime | None = strawberry.field(
        description="When it last answered a read; of a system that is copied, up to when the copy reaches."
    )
    lag_seconds: float | None = strawberry.field(
        description="Seconds since then: what it changed meanwhile is not seen here yet."
    )
    live: int = strawberry.field(description="Records and lists read from it since the process started.")
    cached: int = strawberry.field(description="Those given from what was read before.")
    stale: int = strawberry.field(description="Those given though they were due, as it failed.")

    @staticmethod
    def is_type_of(value: Any, info: Any) -> bool:
        return isinstance(value, Health)


@strawberry.type(
    description="How an account's data comes from one system. For staff.",
    directives=[requires("sources:read"), scoped(by="account")],
)
class AccountSync:
    source: SourceStatus = strawberry.field(description="The system.")

    @strawberry.field(
        description="Is the account known there? Null where it was never looked for. The CRM's own always are."
    )
    def linked(root: strawberry.Parent[Any]) -> bool | None:
        sync: AccountSyncRecord = root
        if sync.link is None:
            return True if sync.source.kind == "crm" else None
        return sync.link in (LinkState.MATCHED, LinkState.CONFIRMED)
