"""A bearer token that is a JWT becomes a Proof: verified against its issuer's published keys, never by its own header."""

import base64
import binascii
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from gateway.signin.claims import claim, client_of, moment, names_issuer, proof_of, text
from gateway.signin.issuers import Issuer, Issuers
from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused
from gateway.signin.settings import IssuerSettings

MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 60
REMEMBERED_TOKENS = 4096
_END = 43
"""Characters, of which each carries six bits of the signature."""

_TYPES = ("", "jwt", "at+jwt")
"""Of access tokens (RFC 9068, 2.1). Logout tokens, proofs of possession and security events are JWTs of the same issuer,
too, and name the type that they are."""

_NO_ACCESS_TOKENS = ("ID", "Logout", "Offline", "Refresh")
"""What Keycloak writes into a claim ``typ``."""


class HeaderRules(JWSRegistry):
    """What a token's header may be: issuers add members of their own, which are to be ignored (RFC 7515, 4), and whole
    certificates."""

    max_header_length = MAX_TOKEN_BYTES


class _Verified(msgspec.Struct, frozen=True):
    token: bytes
    proof: Proof
    begins_at: float
    ends_at: float
    """When it is believed, with the leeway."""
    issuer: Issuer
    key_id: str | None
    keys: KeySet
    """By which it was verified: when the issuer publishes others, it is verified again."""


class Tokens:
    """Verifies tokens; remembers those that it verified until they expire."""

    def __init__(self, issuers: Issuers) -> None:
        self._issuers = issuers
        self._rules = {
            id(issuer): HeaderRules(algorithms=issuer.settings.algorithms, strict_check_header=False)
            for issuer in issuers
        }
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        """By the tokens' ends, which are their signatures': to hash thousands of characters takes as long as all else that
        is asked of a token that is known."""

    def known(self, token: bytes) -> Proof | None:
        """Of a token that was verified before, as ``proof`` would give it; None where there is more to do than to look."""
        verified = self._verified.get(token[-_END:])
        if (
            verified is None
            or verified.token != token
            or verified.issuer.keys.at_hand(verified.key_id) is not verified.keys
        ):
            return None
        return verified.proof if verified.begins_at <= time.time() < verified.ends_at else None

    async def proof(self, token: str) -> Proof:
        """Whom it names. Raises SignInRefused for a token that is not to be believed."""
        sent = _bytes(token)
        end = sent[-_END:]
        verified = self._verified.get(end)
        if (
            verified is None
            or verified.token != sent
            or await verified.issuer.keys.for_key(verified.key_id) is not verified.keys
        ):
            self._verified.pop(end, None)
            verified = self._verified[end] = await self._verify(token)
            if len(self._verified) > REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        now = time.time()
        if verified.ends_at <= now:
            self._verified.pop(end, None)
            raise SignInRefused("the token has expired; sign in again")
        if verified.begins_at > now:
            raise SignInRefused("the token is not valid yet")
        return verified.proof

    async def _verify(self, token: str) -> _Verified:
        parts = token.split(".")
        header = segment(parts[0])
        if header is None or len(parts) != 3:
            raise SignInRefused("the token is not a signed JWT")
        issuer = self._chosen(segment(parts[1]))
        key_id = _checked(header, issuer.settings)
        keys = await issuer.keys.for_key(key_id)
        try:
            claims = jwt.decode(token, keys, registry=self._rules[id(issuer)]).claims
        except (JoseError, ValueError, RecursionError) as error:
            raise SignInRefused("the token is not one of the configured issuer") from error
        name, tenant = claims.get("iss"), text(claim(claims, issuer.settings.tenant_claim))
        if not names_issuer(claims, issuer.settings) or not issuer.keys.signs_for(key_id, name, tenant):
            raise SignInRefused("the token is of another issuer")
        expires_at, not_before = require_use(claims, issuer.settings)
        if not issuer.settings.id_tokens and _is_no_access_token(header, claims):
            raise SignInRefused(
                "this is no access token; an ID token only tells its own client who signed in"
            )
        return _Verified(
            token=_bytes(token),
            proof=proof_of(claims, issuer.settings),
            begins_at=float(not_before - LEEWAY_SECONDS),
            ends_at=float(expires_at + LEEWAY_SECONDS),
            issuer=issuer,
            key_id=key_id,
            keys=keys,
        )

    def _chosen(self, claims: Mapping[str, Any] | None) -> Issuer:
        """By what the token says of itself, which chooses among the configured ones and nothing more."""
        name = claims.get("iss") if claims is not None else None
        issuer = self._issuers.of(name) if isinstance(name, str) else None
        if issuer is None:
            raise SignInRefused("the token is of another issuer")
        return issuer


def require_use(claims: Mapping[str, Any], settings: IssuerSettings) -> tuple[float, float]:
    """That a token which is the issuer's is for us and for now; until when, and since when. Raises SignInRefused."""
    audiences = claims.get("aud")
    if settings.audiences.isdisjoint(_hashable(audiences if isinstance(audiences, list) else [audiences])):
        raise SignInRefused("the token is for another audience")
    if settings.clients and client_of(claims) not in settings.clients:
        raise SignInRefused("the token was given to a client that is not let in here")
    if "cnf" in claims:
        raise SignInRefused("the token is bound to a key of its client, which cannot be checked here")
    expires_at, not_before = moment(claims.get("exp")), moment(claims.get("nbf", 0))
    issued_at = moment(claims.get("iat", 0))
    if expires_at is None:
        raise SignInRefused("the token has no expiry")
    if not_before is None or issued_at is None:
        raise SignInRefused("the token does not say since when it is valid")
    if issued_at > time.time() + LEEWAY_SECONDS:
        raise SignInRefused("the token was issued in the future; is a clock wrong?")
    return expires_at, not_before


def segment(part: str) -> dict[str, Any] | None:
    """The JSON object in a part of a JWT; None for anything else. Not verified."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _checked(header: Mapping[str, Any], settings: IssuerSettings) -> str | None:
    """The key id that the header names, only ever used to look among the issuer's own keys. Raises SignInRefused for what
    no key could make right."""
    kind, key_id = header.get("typ", ""), header.get("kid")
    if header.get("alg") not in settings.algorithms:
        raise SignInRefused("the token is not signed in a way that is taken here")
    if "crit" in header:
        raise SignInRefused("the token's header demands what is not understood here (crit)")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise SignInRefused("this is no access token (typ)")
    if key_id is not None and not isinstance(key_id, str):
        raise SignInRefused("the token's key id is no text")
    return key_id


def _is_no_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """As far as it can be told: by type, or by the claims that bind an ID token to its client's request."""
    kind = claims.get("typ")
    if kind in _NO_ACCESS_TOKENS:
        return True
    if str(header.get("typ", "")).lower().endswith("at+jwt") or kind == "Bearer":
        return False
    return not claims.keys().isdisjoint(("nonce", "at_hash", "c_hash", "s_hash"))


def _bytes(token: str) -> bytes:
    """As a header carries it. Over a socket half a character may come, which no token has."""
    return token.encode(errors="surrogatepass")


def _hashable(values: list[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
