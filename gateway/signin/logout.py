"""A provider's word that somebody has signed out there: logout tokens (OpenID Connect Back-Channel Logout 1.0)."""

from datetime import UTC, datetime, timedelta

from gateway.signin.claims import moment
from gateway.signin.provider import Provider, is_name
from gateway.signin.refused import SignInRefused
from gateway.signin.tokens import LEEWAY_SECONDS
from sources.ports.sessions import Logout

EVENT = "http://schemas.openid.net/event/backchannel-logout"
BELIEVED_SECONDS = 600
"""A logout token is taken for so long after it was issued."""

_TYPES = ("logout+jwt", "jwt", "")
"""The standard recommends the first; providers from before it say nothing. What was made for something else is typed so, or
has no event."""


async def logout_of(provider: Provider, token: str, now: datetime) -> Logout:
    """Whom the token signs out. Raises SignInRefused 400 for one that is not to be believed."""
    header, claims = await provider.signed(token)
    kind, events, audience = header.get("typ", ""), claims.get("events"), claims.get("aud")
    issued_at, expires_at = moment(claims.get("iat")), moment(claims.get("exp", now.timestamp()))
    sub, sid, name = claims.get("sub"), claims.get("sid"), provider.known_as(str(claims.get("iss")))
    if (
        name is None
        or not isinstance(kind, str)
        or kind.lower().removeprefix("application/") not in _TYPES
        or provider.client_id not in (audience if isinstance(audience, list) else [audience])
        or not isinstance(events, dict)
        or not isinstance(events.get(EVENT), dict)
        or "nonce" in claims
        or not is_name(claims.get("jti"))
        or not all(one is None or is_name(one) for one in (sub, sid))
    ):
        raise SignInRefused("this is no logout token for this gateway", status=400)
    if sub is None and sid is None:
        raise SignInRefused("the logout token names nobody", status=400)
    if issued_at is None or expires_at is None:
        raise SignInRefused("the logout token does not say when it was made", status=400)
    age = now.timestamp() - issued_at
    if not -LEEWAY_SECONDS <= age <= BELIEVED_SECONDS or expires_at + LEEWAY_SECONDS <= now.timestamp():
        raise SignInRefused("the logout token is too old, or a clock is wrong", status=400)
    return Logout(
        issuer=name,
        id=claims["jti"],
        sub=sub,
        sid=sid,
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        remembered_until=now + timedelta(seconds=2 * (BELIEVED_SECONDS + LEEWAY_SECONDS)),
    )
