"""The audit trail as its readers see it: who read or changed what."""

from datetime import datetime
from typing import Any

import strawberry

from permissions.directives import PART, requires, reveals, scoped
from permissions.directives import personal as somebodys
from resolvers.context import Info
from resolvers.vocabulary import (
    accepts_nothing,
    described,
    node_id,
    parse_node_id,
    window,
)
from sources.ports.audit import AuditKind as Kind
from sources.ports.audit import AuditOutcome as Outcome
from sources.ports.audit import AuditQuery, AuditRecord
from sources.ports.common import Ref

ORDER = "audit"

AuditKind = described(
    Kind,
    "What was done.",
    QUERY="A query of the graph.",
    MUTATION="A mutation of the graph.",
    SUBSCRIPTION="A subscription to the graph, recorded as it began.",
    FILE="A file was downloaded.",
    EXPORT="The audit log was exported.",
    SIGN_IN="Somebody signed in with a browser.",
    SIGN_OUT="Somebody signed out.",
    PROVISIONING="A customer's directory wrote members, by SCIM.",
    COMMAND="The operator's command.",
    REFUSAL="Requests that were not let in: `count` of them.",
    LOSS="Records that could not be written: `count` of them.",
)
AuditOutcome = described(
    Outcome,
    "How it ended.",
    OK="As asked.",
    PARTIAL="Answered, with errors in places.",
    REFUSED="The caller may not, or asked for what cannot be.",
    FAILED="A source or the gateway failed.",
    UNKNOWN="A write had begun and its end was not heard of: it runs still, or whoever did it has died.",
)


@strawberry.type(description="Who did something.", directives=[PART])
class AuditPrincipal:
    identity: str | None = strawberry.field(
        description="The sign-in's issuer and its id of the person or program; null where nobody had signed in.",
        directives=[somebodys("account")],
    )
    kind: str = strawberry.field(description="person, service or anonymous.")
    via: str = strawberry.field(description="How they proved it: bearer, session, api-key or none.")
    credential: str | None = strawberry.field(
        description="The id of the session or API key, never the key.", directives=[somebodys("account")]
    )
    roles: list[str] = strawberry.field(
        description="The roles that they held then.", directives=[somebodys("account")]
    )
    staff: bool = strawberry.field(description="Was it somebody of the firm, who may see every customer?")


@strawberry.type(description="A field that was denied.", directives=[PART])
class AuditDenial:
    coordinate: str = strawberry.field(description="The field, as Type.field.")
    rule: str = strawberry.field(description="The scopes that reading it takes.")


@strawberry.type(
    name="AuditEntry",
    description="One operation: who asked for which fields of which records, and how it ended. Never a value.",
    directives=[requires("audit:read"), scoped("organisation")],
)
class AuditEntry:
    @strawberry.field(description="Names the operation; not a node.")
    def id(root: strawberry.Parent[Any]) -> strawberry.ID:
        return strawberry.ID(root.operation)

    at: datetime = strawberry.field(description="When it began.")
    kind: AuditKind = strawberry.field(description="What was done.")  # type: ignore[valid-type]
    name: str | None = strawberry.field(
        description="The operation's name as the client chose it, or the command's."
    )
    outcome: AuditOutcome = strawberry.field(description="How it ended.")  # type: ignore[valid-type]
    codes: list[str] = strawberry.field(description="The error codes of the answer.")

    @strawberry.field(description="Who did it.")
    def principal(root: strawberry.Parent[Any]) -> AuditPrincipal:
        record: AuditRecord = root
        return AuditPrincipal(
            identity=record.principal or None,
            kind=record.principal_kind,
            via=record.via,
            credential=record.credential,
            roles=list(record.roles),
            staff=record.staff,
        )

    viewed_by: str | None = strawberry.field(
        description="The identity of the member of the firm's staff who looked as the principal sees.",
        directives=[somebodys("account")],
    )

    @strawberry.field(description="The organisation that it was done for; null for staff over all customers.")
    def organisation(root: strawberry.Parent[Any]) -> strawberry.ID | None:
        return root.organisation  # type: ignore[no-any-return]

    @strawberry.field(
        description="The network address. Of the firm's staff only staff see it.",
        directives=[somebodys("account")],
    )
    def client(root: strawberry.Parent[Any], info: Info) -> str | None:
        record: AuditRecord = root
        by_staff = record.staff or record.viewed_by is not None
        if by_staff and "accounts:all" not in info.context.principal.scopes:
            return None
        return record.client or None

    request: str = strawberry.field(description="The request's id, as the answer's X-Request-Id had it.")
    coordinates: list[str] = strawberry.field(
        description="The fields that were asked for and not denied, as Type.field, also where nothing was found."
    )

    @strawberry.field(description="The fields that were denied.")
    def denied(root: strawberry.Parent[Any]) -> list[AuditDenial]:
        record: AuditRecord = root
        parts = (one.partition(" ") for one in record.denied)
        return [AuditDenial(coordinate=coordinate, rule=rule) for coordinate, _, rule in parts]

    personal: list[str] = strawberry.field(
        description="The categories of personal data among the fields, as @personal names them."
    )

    @strawberry.field(
        description="The ids of the records that were read or changed, the first 100; the export has all."
    )
    def records(root: strawberry.Parent[Any]) -> list[strawberry.ID]:
        record: AuditRecord = root
        return [_shown(text) for text in record.ids()]

    record_count: int = strawberry.field(description="How many records there were.")
    count: int = strawberry.field(
        description="How many operations the entry stands for: more than one where they were only counted."
    )


@strawberry.input(description="Which entries; all of the conditions together.")
class AuditFilter:
    principal: str | None = strawberry.field(
        default=None,
        description="An identity, as the principal or as who looked as somebody else sees.",
        directives=[reveals("AuditEntry.principal", "AuditEntry.viewedBy")],
    )
    coordinate: str | None = strawberry.field(
        default=None,
        description="A field that was asked for, as Type.field.",
        directives=[reveals("AuditEntry.coordinates")],
    )
    record_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="A record that was read or changed: a node's id, or an id of AuditEntry.records.",
        directives=[reveals("AuditEntry.records")],
    )
    outcome: list[AuditOutcome] | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="Any of these.", directives=[reveals("AuditEntry.outcome")]
    )
    kind: list[AuditKind] | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="Any of these.", directives=[reveals("AuditEntry.kind")]
    )
    since: datetime | None = strawberry.field(
        default=None, description="Begun then or later.", directives=[reveals("AuditEntry.at")]
    )
    until: datetime | None = strawberry.field(
        default=None, description="Begun then or earlier.", directives=[reveals("AuditEntry.at")]
    )
    organisation: strawberry.ID | None = strawberry.field(
        default=None,
        description="For staff over all customers: what concerns this one.",
        directives=[reveals("AuditEntry.organisation")],
    )


def audit_page(
    info: Info,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    filter: AuditFilter | None,
) -> Any:
    """Newest first, of the organisation acted for; for staff over all customers of all."""
    wanted = filter or AuditFilter()
    record = parse_node_id(wanted.record_id) if wanted.record_id is not None else None
    if accepts_nothing(wanted.outcome, wanted.kind) or (wanted.record_id is not None and record is None):
        return info.context.nothing(ORDER)
    query = AuditQuery(
        window=window(first, after, last, before, ORDER),
        organisation=wanted.organisation,
        principal=wanted.principal,
        coordinate=wanted.coordinate,
        record=f"{record[0]}:{record[1]}" if record else None,
        outcomes=tuple(wanted.outcome) if wanted.outcome is not None else None,
        kinds=tuple(wanted.kind) if wanted.kind is not None else None,
        since=wanted.since,
        until=wanted.until,
    )
    return info.context.listing(info.context.books.audit_entries, query, ORDER)


def _shown(text: str) -> strawberry.ID:
    type_name, source, id_ = text.split(":", 2)
    return node_id(type_name, Ref(source, id_))
