"""The demo's own identity provider: discovery, keys and tokens for personas. Its key is made at start and never stored."""

import time
from collections.abc import Sequence

import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

AUDIENCE = "backoffice-gateway"
LIFE_SECONDS = 3600


class DemoPersona(msgspec.Struct, frozen=True):
    """Somebody to sign in as."""

    id: str
    name: str
    email: str
    role: str
    organisation: str | None
    label: str


class DemoIssuer:
    """An ASGI application and the tokens that it gives. ``url`` is set once it is known where it listens."""

    def __init__(self, personas: Sequence[DemoPersona]) -> None:
        self.url = ""
        self.personas = personas
        self._personas = {persona.id: persona for persona in personas}
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def token(self, persona_id: str, **changes: object) -> str:
        """An access token, with claims changed as given (tests ask for expired ones and the like)."""
        persona = self._personas[persona_id]
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": persona.id,
            "name": persona.name,
            "email": persona.email,
            "roles": [persona.role],
            "organisations": [persona.organisation] if persona.organisation else [],
            "iat": now,
            "nbf": now,
            "exp": now + LIFE_SECONDS,
        }
        return jwt.encode({"alg": "RS256", "kid": self._key.kid}, claims | changes, self._key)

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "token_endpoint": f"{self.url}/token",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def _token(self, request: Request) -> Response:
        body = await request.json()
        persona = body.get("persona") if isinstance(body, dict) else None
        if persona not in self._personas:
            known = ", ".join(self._personas)
            return JSONResponse(
                {"error": "invalid_request", "error_description": f"persona: one of {known}"}, 400
            )
        return JSONResponse({"accessToken": self.token(persona), "expiresIn": LIFE_SECONDS})
