"""The claims of an issuer's token become a Proof."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeGuard

from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from gateway.signin.settings import TENANT, IssuerSettings, Several, several


def proof_of(
    claims: Mapping[str, Any], settings: IssuerSettings, via: Literal["bearer", "session"] = "bearer"
) -> Proof:
    """Of claims that are verified already; ``session``: those of an ID token. Raises SignInRefused when they name nobody,
    or somebody of a tenant that is not let in."""
    tenant = text(claim(claims, settings.tenant_claim))
    _admit(tenant, settings)
    subject, external_id = _subject(claims, settings, via)
    acrs = texts(claim(claims, settings.acr_claim))
    groups = _listed(claim(claims, settings.groups_claim))
    return Proof(
        issuer=name_of(settings, tenant),
        subject=subject,
        kind="service" if _is_program(claims) else "person",
        via=via,
        expires_at=moment(claims.get("exp")),
        external_ids=(external_id,),
        name=text(claims.get("name")),
        email=text(claims.get("email")),
        email_verified=claims.get("email_verified") is True,
        roles=_roles(claims, groups, settings),
        groups=groups,
        organisations=_organisations(claims, groups, tenant, settings),
        cut_off=_cut_off(claims, settings),
        acr=" ".join(acrs) or None,
        amr=texts(claims.get("amr")),
        authenticated_at=moment(claims.get("auth_time")),
    )


def name_of(settings: IssuerSettings, tenant: str | None) -> str:
    """The issuer as the ledger and the audit know it: an alias counts as its own name, a tenant has a name of its own."""
    return settings.issuer.replace(TENANT, tenant or "")


def names_issuer(claims: Mapping[str, Any], settings: IssuerSettings) -> bool:
    """Do these claims say that they are this issuer's, for the tenant that they name?"""
    tenant = text(claim(claims, settings.tenant_claim))
    names = (settings.issuer, *settings.aliases)
    return claims.get("iss") in [
        name.replace(TENANT, tenant) if tenant and TENANT in name else name
        for name in names
        if tenant or TENANT not in name
    ]


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """By its name, or else by the way to it with dots between. None where there is none."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with spaces between; what is no text is left out."""
    return _listed(value.split() if isinstance(value, str) else value)


def text(value: Any) -> str | None:
    """None for what is no text."""
    return value if is_text(value) else None


def is_text(value: Any) -> TypeGuard[str]:
    """Not empty, and without the lone surrogates and zero bytes that JSON can spell but no database can hold."""
    return (
        isinstance(value, str)
        and value != ""
        and not any(one == "\0" or "\ud800" <= one <= "\udfff" for one in value)
    )


def moment(value: Any) -> float | None:
    """None for what is no time. JSON as Python reads it has NaN and Infinity, which no clock ever reaches."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _listed(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    return tuple(filter(is_text, value)) if isinstance(value, list) else ()


def _admit(tenant: str | None, settings: IssuerSettings) -> None:
    if settings.admitted_tenants and tenant not in settings.admitted_tenants:
        raise SignInRefused(
            f"the sign-in is not of a firm that is let in here ({settings.tenant_claim})",
            status=403,
            code="FORBIDDEN",
        )


def _subject(claims: Mapping[str, Any], settings: IssuerSettings, via: str) -> tuple[str, str]:
    """The whole, and its last part: the ones before say whose it is."""
    names = settings.subject_claims
    if via == "session" and settings.id_token_subject_claims:
        names = settings.id_token_subject_claims
    parts = [claim(claims, name) for name in names]
    if not all(map(is_text, parts)):
        raise SignInRefused(f"the token names nobody: it has no {' and '.join(names)}")
    if len(parts) == 1:
        return parts[0], parts[0]
    # "a" of tenant "x:y" must not be "y:a" of tenant "x".
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts), parts[-1]


def _is_program(claims: Mapping[str, Any]) -> bool:
    """By Entra ID's optional claim, or as RFC 9068 (2.2) has it: without a person the client is the subject."""
    client = client_of(claims)
    return claims.get("idtyp") == "app" or (client is not None and claims.get("sub") == client)


def client_of(claims: Mapping[str, Any]) -> str | None:
    """To whom the token was given: Keycloak, Google and Entra ID say azp, RFC 9068 client_id, Okta cid, Entra ID's older
    tokens appid."""
    given = {text(claims.get(name)) for name in ("azp", "client_id", "cid", "appid")} - {None}
    return given.pop() if len(given) == 1 else None


def _roles(claims: Mapping[str, Any], groups: tuple[str, ...], settings: IssuerSettings) -> tuple[str, ...]:
    own = texts(claim(claims, settings.roles_claim))
    # A group or role may have a name with spaces in it; only a list can tell.
    named = [settings.role_names.get(role, role) for role in own]
    return tuple(dict.fromkeys([*named, *_given(groups, settings.group_roles)]))


def _organisations(
    claims: Mapping[str, Any], groups: tuple[str, ...], tenant: str | None, settings: IssuerSettings
) -> tuple[str, ...]:
    if settings.organisations:
        return settings.organisations
    if settings.tenant_organisations:
        return several(settings.tenant_organisations[tenant or ""])
    own = texts(claim(claims, settings.organisations_claim))
    return tuple(dict.fromkeys([*own, *_given(groups, settings.group_organisations)]))


def _given(groups: Iterable[str], table: Mapping[str, Several]) -> list[str]:
    return [one for group in groups for one in several(table.get(group, ()))]


def _cut_off(claims: Mapping[str, Any], settings: IssuerSettings) -> bool:
    """Are roles or groups that matter here missing? Entra ID says so in the way of OpenID Connect Core 5.6.2, or with
    ``hasgroups``; Okta's lists just end."""
    needed = [settings.roles_claim]
    if settings.needs_groups:
        needed.append(settings.groups_claim)
    if not settings.organisations and not settings.tenant_organisations:
        needed.append(settings.organisations_claim)
    elsewhere = claims.get("_claim_names")
    for name in needed:
        value = claim(claims, name)
        if isinstance(elsewhere, Mapping) and {name, name.partition(".")[0]} & elsewhere.keys():
            return True
        if name == settings.groups_claim and claims.get("hasgroups") not in (None, False, "false"):
            return True
        if settings.groups_limit and isinstance(value, list) and len(value) >= settings.groups_limit:
            return True
    return False
