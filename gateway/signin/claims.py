"""The claims of an issuer's token become a Proof."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from gateway.settings import SignIn as SignInSettings
from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused


def proof_of(
    claims: Mapping[str, Any], settings: SignInSettings, via: Literal["bearer", "session"] = "bearer"
) -> Proof:
    """Of claims that are verified already. Raises SignInRefused when they name nobody."""
    subject = claims.get("sub")
    if not is_text(subject):
        raise SignInRefused("the token names nobody")
    names = settings.role_names
    return Proof(
        issuer=settings.issuer,
        subject=subject,
        via=via,
        expires_at=claims.get("exp"),
        name=text(claims.get("name")),
        email=text(claims.get("email")),
        email_verified=claims.get("email_verified") is True,
        roles=tuple(names.get(role, role) for role in texts(claims.get(settings.roles_claim))),
        organisations=texts(claims.get(settings.organisations_claim)),
        acr=text(claims.get("acr")),
        amr=texts(claims.get("amr")),
        authenticated_at=moment(claims.get("auth_time")),
    )


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with spaces between; what is no text is left out."""
    if isinstance(value, str):
        value = value.split()
    return tuple(filter(is_text, value)) if isinstance(value, list) else ()


def text(value: Any) -> str | None:
    """None for what is no text."""
    return value if is_text(value) else None


def is_text(value: Any) -> TypeGuard[str]:
    """Not empty, and without the lone surrogates that JSON can spell but no database or answer can hold."""
    return isinstance(value, str) and value != "" and not any("\ud800" <= one <= "\udfff" for one in value)


def moment(value: Any) -> float | None:
    """None for what is no time. JSON as Python reads it has NaN and Infinity, which no clock ever reaches."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
