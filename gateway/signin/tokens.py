"""A bearer token that is a JWT becomes a Proof: verified against its issuer's published keys, never by its own header."""

import time
from collections import OrderedDict

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry, extract_compact

from gateway.settings import SignIn as SignInSettings
from gateway.signin.claims import moment, proof_of
from gateway.signin.issuers import IssuerKeys
from gateway.signin.proof import Proof
from gateway.signin.refused import SignInRefused

MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 60
REMEMBERED_TOKENS = 4096


class _Headers(JWSRegistry):
    """What a token's header may be: issuers add members of their own, which are to be ignored (RFC 7515, 4), and whole
    certificates."""

    max_header_length = MAX_TOKEN_BYTES


class _Verified(msgspec.Struct, frozen=True):
    proof: Proof
    not_before: float
    expires_at: float
    key_id: str | None
    keys: KeySet
    """By which it was verified: when the issuer publishes others, it is verified again."""


class Tokens:
    """Verifies tokens; remembers those that it verified until they expire."""

    def __init__(self, settings: SignInSettings, keys: IssuerKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._headers = _Headers(algorithms=settings.algorithms, strict_check_header=False)
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    async def proof(self, token: str) -> Proof:
        """Whom it names. Raises SignInRefused for a token that is not to be believed."""
        if len(token) > MAX_TOKEN_BYTES:
            raise SignInRefused("the token is too large")
        verified = self._verified.get(token)
        if verified is None or await self._keys.for_key(verified.key_id) is not verified.keys:
            self._verified.pop(token, None)
            verified = self._verified[token] = await self._verify(token)
            if len(self._verified) > REMEMBERED_TOKENS:
                self._verified.popitem(last=False)
        now = time.time()
        if verified.expires_at + LEEWAY_SECONDS <= now:
            self._verified.pop(token, None)
            raise SignInRefused("the token has expired; sign in again")
        if verified.not_before > now + LEEWAY_SECONDS:
            raise SignInRefused("the token is not valid yet")
        return verified.proof

    async def _verify(self, token: str) -> _Verified:
        key_id = self._key_id(token)
        keys = await self._keys.for_key(key_id)
        try:
            claims = jwt.decode(token, keys, registry=self._headers).claims
        except (JoseError, ValueError, RecursionError) as error:
            raise SignInRefused("the token is not one of the configured issuer") from error
        audiences = claims.get("aud")
        if claims.get("iss") != self._settings.issuer:
            raise SignInRefused("the token is of another issuer")
        if self._settings.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise SignInRefused("the token is for another audience")
        expires_at, not_before = moment(claims.get("exp")), moment(claims.get("nbf", 0))
        if expires_at is None:
            raise SignInRefused("the token has no expiry")
        if not_before is None:
            raise SignInRefused("the token does not say since when it is valid")
        return _Verified(proof_of(claims, self._settings), not_before, expires_at, key_id, keys)

    def _key_id(self, token: str) -> str | None:
        """The key id that the header names; only ever used to look among the issuer's own keys."""
        try:
            key_id = extract_compact(token.encode(), registry=self._headers).headers().get("kid")
        except (JoseError, ValueError) as error:
            raise SignInRefused("the token is not a signed JWT") from error
        return key_id if isinstance(key_id, str) else None
