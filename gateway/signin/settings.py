"""``[signin]`` of gateway.toml: whose word is believed, for whom, and which claims say who someone is."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from gateway.signin.session_settings import SessionSettings
from permissions.roles import Roles

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Signatures that only the issuer can make. With a shared secret, whoever can verify a token could forge one."""

TENANT = "{tenantid}"
"""Stands in an issuer's name for the tenant, as in Entra ID's own discovery documents."""

Several = str | tuple[str, ...]
"""One text, or a list of them."""

Caller = Literal["customers", "staff", "services"]


class IssuerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[signin.issuers]]``: one OpenID Connect issuer.

    A claim is named as it stands in the token, or by the way to it: ``realm_access.roles``.
    """

    issuer: str
    """Exactly as its tokens' ``iss`` says; may hold ``{tenantid}`` where one issuer serves many tenants."""
    audience: Several
    """The names under which it knows this gateway; a token's ``aud`` must hold one of them."""
    discovery_url: str | None = None
    """None: the issuer's own /.well-known/openid-configuration."""
    aliases: tuple[str, ...] = ()
    """What else its tokens' ``iss`` may say; they count as the issuer's own name."""
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    believed_for: tuple[Literal["customers", "staff"], ...] = ("customers",)
    """Whose roles it may give. What a customer's own issuer says of a role of staff is not heard."""
    clients: tuple[str, ...] = ()
    """The clients whose tokens are taken (``azp``, ``client_id``, ``cid`` or ``appid``); empty: all."""
    id_tokens: bool = False
    """Its ID tokens come as bearer tokens, as it has no access tokens that others can read (Google)."""

    subject_claims: tuple[str, ...] = ("sub",)
    """Which claims together name a person for ever."""
    id_token_subject_claims: tuple[str, ...] = ()
    """The same in ID tokens, where they are called otherwise (Okta)."""
    roles_claim: str = "roles"
    """A list, or text with spaces between."""
    role_names: dict[str, str] = {}
    """The issuer's name of a role to ours, where they differ."""
    groups_claim: str = "groups"
    group_roles: dict[str, Several] = {}
    """What being in a group gives: roles of ours."""
    groups_limit: Annotated[int, msgspec.Meta(ge=0)] = 100
    """A list of groups or roles this long may have been cut off without a word, so it is not believed; 0: never is."""
    acr_claim: str = "acr"

    tenant_claim: str = "tid"
    tenants: tuple[str, ...] = ()
    """Whose people are let in; empty: everybody whom the issuer knows."""
    tenant_organisations: dict[str, Several] = {}
    """The organisations that a tenant's people act for. Then no other claim is asked, and no other tenant let in."""
    organisations: tuple[str, ...] = ()
    """The organisations that everybody of this issuer acts for. Then no claim is asked."""
    organisations_claim: str = "organisations"
    """The organisations that the caller may act for: a list, or one as text."""
    group_organisations: dict[str, Several] = {}
    """The organisations that being in a group lets one act for."""

    client_id: str | None = None
    """The gateway's own client at the issuer: for signing in with a browser, and for introspection."""
    client_secret: str | None = None
    introspect: bool = False
    """Ask the issuer about tokens that are no JWTs (RFC 7662)."""
    introspection_url: str | None = None
    """None: where the issuer's discovery document says."""
    opaque_prefix: str = ""
    """How such tokens of this issuer begin: each goes to one issuer alone."""
    introspection_seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] = 30
    """How long an answer is believed, and so for how long a revoked token may still work."""

    @property
    def audiences(self) -> frozenset[str]:
        """All of them."""
        return frozenset(several(self.audience))

    @property
    def admitted_tenants(self) -> frozenset[str]:
        """Empty: everybody's."""
        return frozenset(self.tenants) | self.tenant_organisations.keys()

    @property
    def needs_groups(self) -> bool:
        """Does what somebody may do depend on their groups?"""
        return bool(self.group_roles or self.group_organisations)


class Demand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[signin.demands]]``: how strong or how recent a sign-in must be for some requests (RFC 9470)."""

    route: str = "/graphql"
    """The beginning of a path."""
    methods: tuple[str, ...] = ()
    """Empty: all."""
    operations: tuple[Literal["query", "mutation", "subscription"], ...] = ()
    """Only these kinds of GraphQL operations, however they come; empty: every request to the route."""
    callers: tuple[Caller, ...] = ("customers", "staff")
    """Of whom. Programs cannot sign in again: a demand for ``services`` keeps them out."""
    acr: tuple[str, ...] = ()
    """One of these."""
    amr: tuple[str, ...] = ()
    """One of these."""
    max_age: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Seconds since the sign-in itself, at most."""


class SignInSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[signin]``."""

    issuers: tuple[IssuerSettings, ...]
    membership: Literal["claims", "ledger"] = "claims"
    """Who says which organisations a customer's people act for, and as what. Staff are always by claims."""
    demands: tuple[Demand, ...] = ()
    sessions: SessionSettings | None = None
    """None: nobody signs in with a browser here."""


def several(value: Several) -> tuple[str, ...]:
    """A text alone is a list of one."""
    return (value,) if isinstance(value, str) else value


def faults(settings: SignInSettings, roles: Roles) -> Iterator[str]:
    """What cannot be used, each with its setting and what to write."""
    if not settings.issuers:
        yield "signin.issuers: name at least one issuer"
    named: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for number, issuer in enumerate(settings.issuers):
        place = f"signin.issuers[{number}]"
        yield from _issuer_faults(issuer, place, roles)
        for name in (issuer.issuer, *issuer.aliases):
            if other := named.get(name):
                yield f"{place}: {name} is {other}, too; each issuer stands once"
            named[name] = place
        if issuer.introspect:
            if other := prefixes.get(issuer.opaque_prefix):
                yield f"{place}.opaque_prefix: is {other}'s, too; a token must not be shown to two issuers"
            prefixes[issuer.opaque_prefix] = place
    for number, demand in enumerate(settings.demands):
        yield from _demand_faults(demand, f"signin.demands[{number}]")


def _issuer_faults(issuer: IssuerSettings, place: str, roles: Roles) -> Iterator[str]:
    for name in ("issuer", "discovery_url", "introspection_url"):
        address = getattr(issuer, name)
        if address is not None and not is_address(address):
            yield f"{place}.{name}: an address that begins with https://"
    if not issuer.audiences or "" in issuer.audiences:
        yield f"{place}.audience: the name under which the issuer knows this gateway"
    for algorithm in issuer.algorithms or ("",):
        if algorithm not in ALGORITHMS:
            yield f"{place}.algorithms: {algorithm!r} cannot be used; there are {', '.join(ALGORITHMS)}"
    if not issuer.believed_for:
        yield f'{place}.believed_for: "customers", "staff" or both'
    if not issuer.subject_claims:
        yield f'{place}.subject_claims: such as ["sub"]'
    yield from _role_faults(issuer, place, roles)
    if any(TENANT in name for name in (issuer.issuer, *issuer.aliases)) and not issuer.admitted_tenants:
        yield f"{place}.tenants: list those who are customers; anybody can have a tenant"
    if issuer.organisations and issuer.tenant_organisations:
        yield f"{place}.organisations: leave it out, or tenant_organisations"
    if issuer.introspect and not (issuer.client_id and issuer.client_secret):
        yield f"{place}.introspect: takes client_id and client_secret"


def _role_faults(issuer: IssuerSettings, place: str, roles: Roles) -> Iterator[str]:
    given: Mapping[str, Mapping[str, Several]] = {
        "role_names": issuer.role_names,
        "group_roles": issuer.group_roles,
    }
    for setting, names in given.items():
        for theirs, ours in names.items():
            for role in several(ours):
                if role not in roles:
                    yield f"{place}.{setting}.{theirs}: {role!r} is unknown; there are {', '.join(sorted(roles.names))}"
                elif roles[role].held_by not in issuer.believed_for:
                    yield (
                        f"{place}.{setting}.{theirs}: {role!r} is a role of {roles[role].held_by}, for whom"
                        f" this issuer is not believed; see {place}.believed_for"
                    )


def _demand_faults(demand: Demand, place: str) -> Iterator[str]:
    if not demand.route.startswith("/"):
        yield f"{place}.route: the beginning of a path, such as /graphql"
    if not (demand.acr or demand.amr or demand.max_age):
        yield f"{place}: say what it demands: acr, amr or max_age"
    if not demand.callers:
        yield f'{place}.callers: "customers", "staff" or "services"'
    if demand.operations and (demand.methods or demand.route != "/graphql"):
        yield f"{place}.operations: they come to /graphql by any method; leave route and methods out"
    for method in demand.methods:
        if not method.isalpha() or not method.isupper():
            yield f"{place}.methods: {method!r}: in capitals, such as POST"
    if any(
        not value.isascii() or not value.isprintable() or set(value) & set(' "\\') for value in demand.acr
    ):
        yield f"{place}.acr: words without spaces or quotes"


def is_address(address: str) -> bool:
    """Can something be fetched from there?"""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
