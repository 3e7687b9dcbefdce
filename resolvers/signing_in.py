"""How somebody signs in here: the one part of the graph that is open to who has not."""

from collections.abc import Sequence
from dataclasses import dataclass

import strawberry

from permissions.directives import PUBLIC
from resolvers.vocabulary import URL


@dataclass(frozen=True, slots=True)
class IssuerDirections:
    """What SignInIssuer is read from."""

    issuer: str
    name: str
    sign_in_url: str | None


@dataclass(frozen=True, slots=True)
class Directions:
    """What SignInDirections is read from: the same for everyone, from the settings."""

    issuers: Sequence[IssuerDirections]
    sign_in_url: str | None = None
    session_url: str | None = None
    sign_out_url: str | None = None


@strawberry.type(description="Somebody who says who people are, by OpenID Connect.", directives=[PUBLIC])
class SignInIssuer:
    issuer: URL = strawberry.field(description="Its own name; what its tokens' `iss` says.")
    name: str = strawberry.field(description="What people may be shown.")
    sign_in_url: URL | None = strawberry.field(
        description="Where a browser is sent to sign in with it; null where it only gives bearer tokens."
    )


@strawberry.type(
    description=(
        "How to sign in here: with a bearer token of one of the issuers in the Authorization header, or with a browser "
        "session where the addresses for that are not null."
    ),
    directives=[PUBLIC],
)
class SignInDirections:
    issuers: list[SignInIssuer] = strawberry.field(
        description="Those that people may be shown; one who is believed for certain customers alone is not."
    )
    sign_in_url: URL | None = strawberry.field(
        description="Where a browser is sent for a session; add return_to, and issuer to choose one."
    )
    session_url: URL | None = strawberry.field(
        description="Where a page of the portal asks whether its browser has a session."
    )
    sign_out_url: URL | None = strawberry.field(description="Where a page of the portal POSTs to end it.")
