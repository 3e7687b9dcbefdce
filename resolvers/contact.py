"""People at an account."""

from datetime import datetime

import strawberry

from permissions.directives import personal, requires, reveals, scoped
from resolvers.freshness import fresh
from resolvers.vocabulary import Node, OrderDirection, identified, ordering, shown_from
from sources.ports.common import Direction, Window
from sources.ports.crm import ContactOrder, ContactQuery, ContactRecord

ContactOrderField = ordering(
    ContactOrder,
    "ContactOrderField",
    "Contact",
    "What contacts may be ordered by.",
    ADDED=("As they were added to the CRM; the cheapest, only the page's people are read.", ["createdAt"]),
    NAME=(
        "Last name, then first name; ordered here, after reading all people of the account.",
        ["lastName", "firstName"],
    ),
)


@strawberry.type(
    description="A person at an account, from the CRM.",
    directives=[requires("contacts:read"), scoped(by="account"), personal("identity"), fresh("Contact")],
)
class Contact(Node):
    id: strawberry.ID = identified("Contact")
    first_name: str | None = strawberry.field(description="Given name.")
    last_name: str | None = strawberry.field(description="Family name.")
    email: str | None = strawberry.field(description="E-mail address.", directives=[personal("contact")])
    phone: str | None = strawberry.field(
        description="Telephone as the CRM holds it.", directives=[personal("contact")]
    )
    mobile: str | None = strawberry.field(
        description="Mobile telephone as the CRM holds it.", directives=[personal("contact")]
    )
    job_title: str | None = strawberry.field(description="What they do there.")
    created_at: datetime | None = strawberry.field(description="When the CRM first held the person.")
    updated_at: datetime | None = strawberry.field(description="When the CRM last changed the person.")

    is_type_of = shown_from(ContactRecord)


@strawberry.input(description="An ordering of contacts.")
class ContactOrdering:
    field: ContactOrderField = strawberry.field(description="By what.")  # type: ignore[valid-type]
    direction: OrderDirection = strawberry.field(  # type: ignore[valid-type]
        default=Direction.ASC, description="Which way.", directives=[reveals()]
    )


@strawberry.input(description="Which contacts. Archived people are never given.")
class ContactFilter:
    text: str | None = strawberry.field(
        default=None,
        description="In the name or e-mail address, whatever the case; looked for here.",
        directives=[reveals("Contact.firstName", "Contact.lastName", "Contact.email")],
    )


def contact_query(
    window: Window, filter: ContactFilter | None, order: ContactOrder, direction: Direction
) -> ContactQuery:
    """The port's question."""
    return ContactQuery(
        window, text=(filter.text or None) if filter else None, order=order, direction=direction
    )
