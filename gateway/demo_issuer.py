"""The demo's own identity provider: discovery, keys, tokens for personas, and signing in with a browser as one of them.

Its key is made at start and never stored; whoever can reach it may be anybody, so it sends browsers to loopback alone.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import parse_qsl, urlencode

import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.signin.session_settings import is_loopback

AUDIENCE = "backoffice-gateway"
CLIENT_ID = "backoffice-gateway-sign-in"
LIFE_SECONDS = 3600
CODE_SECONDS = 60

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 2rem auto; padding: 0 1rem }
fieldset { border: 0; padding: 0; margin: 0; display: grid; gap: .5rem }
legend { padding: 0; margin-bottom: .75rem }
button { font: inherit; min-height: 2.75rem; padding: .5rem 1rem; text-align: start; color: ButtonText; background: ButtonFace;
  border: 1px solid ButtonText; border-radius: .25rem; cursor: pointer }
button:hover { text-decoration: underline }
button:focus-visible { outline: 3px solid Highlight; outline-offset: 2px }
"""


class DemoPersona(msgspec.Struct, frozen=True):
    """Somebody to sign in as."""

    id: str
    name: str
    email: str
    role: str
    organisation: str | None
    label: str


class _Code(msgspec.Struct, frozen=True):
    """What was agreed when the code was given."""

    persona: str
    sid: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    acr: str
    authenticated_at: int


class DemoIssuer:
    """An ASGI application and the tokens that it gives. ``url`` is set once it is known where it listens."""

    def __init__(self, personas: Sequence[DemoPersona]) -> None:
        self.url = ""
        self.personas = personas
        self.id_token_changes: dict[str, object] = {}
        """For tests: claims that ID tokens have instead of the right ones; None leaves one out."""
        self._personas = {persona.id: persona for persona in personas}
        self._codes: dict[str, _Code] = {}
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/authorize", self._choose, methods=["GET"]),
                Route("/authorize", self._chosen, methods=["POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/end-session", self._end_session),
            ]
        )

    def token(self, persona_id: str, **changes: object) -> str:
        """An access token, with claims changed as given (tests ask for expired ones and the like)."""
        return self.sign(self._claims(persona_id) | {"aud": AUDIENCE} | changes)

    def sign(self, claims: Mapping[str, object], **header: str) -> str:
        """Whatever it is, by the issuer's own key."""
        return jwt.encode({"alg": "RS256", "kid": self._key.kid, **header}, dict(claims), self._key)

    def _claims(self, persona_id: str) -> dict[str, object]:
        persona = self._personas[persona_id]
        now = int(time.time())
        return {
            "iss": self.url,
            "sub": persona.id,
            "name": persona.name,
            "email": persona.email,
            "roles": [persona.role],
            "organisations": [persona.organisation] if persona.organisation else [],
            "iat": now,
            "nbf": now,
            "exp": now + LIFE_SECONDS,
        }

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "end_session_endpoint": f"{self.url}/end-session",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    # -- with a browser -----------------------------------------------------------------------------------------

    async def _choose(self, request: Request) -> Response:
        sent = request.query_params
        if refused := _refused(sent):
            return refused
        if sent.get("prompt") == "none":
            # Nobody is ever signed in here already.
            return self._back(sent, error="login_required")
        buttons = "".join(
            f'<button type="submit" name="persona" value="{escape(one.id)}">{escape(one.label)}</button>'
            for one in self.personas
        )
        return _page(
            "Sign in to the demo",
            f'<form method="post" action="?{escape(urlencode(list(sent.multi_items())))}">'
            f"<fieldset><legend>Who do you want to be? Nobody needs a password here.</legend>{buttons}</fieldset></form>",
        )

    async def _chosen(self, request: Request) -> Response:
        sent = request.query_params
        if refused := _refused(sent):
            return refused
        persona = (await _form(request)).get("persona", "")
        if persona not in self._personas:
            return self._back(sent, error="access_denied")
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Code(
            persona=persona,
            sid=secrets.token_urlsafe(16),
            redirect_uri=sent["redirect_uri"],
            challenge=sent["code_challenge"],
            nonce=sent.get("nonce"),
            acr=sent.get("acr_values", "1").split(" ")[0],
            authenticated_at=int(time.time()),
        )
        return self._back(sent, code=code)

    def _back(self, sent: Mapping[str, str], **answer: str) -> Response:
        query = urlencode({**answer, "state": sent.get("state", ""), "iss": self.url})
        return RedirectResponse(f"{sent['redirect_uri']}?{query}", 303, {"Cache-Control": "no-store"})

    async def _token(self, request: Request) -> Response:
        if not (await request.body()).lstrip().startswith(b"{"):
            return self._exchanged(await _form(request))
        body = await request.json()
        persona = body.get("persona") if isinstance(body, dict) else None
        if persona not in self._personas:
            known = ", ".join(self._personas)
            return JSONResponse(
                {"error": "invalid_request", "error_description": f"persona: one of {known}"}, 400
            )
        return JSONResponse({"accessToken": self.token(persona), "expiresIn": LIFE_SECONDS})

    def _exchanged(self, form: Mapping[str, str]) -> Response:
        code = self._codes.pop(form.get("code", ""), None)
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if (
            code is None
            or form.get("grant_type") != "authorization_code"
            or form.get("client_id") != CLIENT_ID
            or form.get("redirect_uri") != code.redirect_uri
            or not hmac.compare_digest(challenge, code.challenge)
            or code.authenticated_at + CODE_SECONDS < time.time()
        ):
            return JSONResponse({"error": "invalid_grant"}, 400, {"Cache-Control": "no-store"})
        access_token = self.token(code.persona)
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        claims = self._claims(code.persona) | {
            "aud": CLIENT_ID,
            "nonce": code.nonce,
            "sid": code.sid,
            "acr": code.acr,
            "amr": ["pwd"],
            "auth_time": code.authenticated_at,
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        }
        said = {name: value for name, value in (claims | self.id_token_changes).items() if value is not None}
        return JSONResponse(
            {
                "access_token": access_token,
                "token_type": "Bearer",
                "expires_in": LIFE_SECONDS,
                "id_token": self.sign(said),
            },
            headers={"Cache-Control": "no-store"},
        )

    async def _end_session(self, request: Request) -> Response:
        """Nobody stays signed in here, so there is only the way back."""
        return_to = request.query_params.get("post_logout_redirect_uri", "")
        if is_loopback(return_to):
            return RedirectResponse(return_to, 303)
        return _page("You are signed out", "")


def _refused(sent: Mapping[str, str]) -> Response | None:
    """What must never be answered by sending the browser somewhere."""
    if sent.get("client_id") != CLIENT_ID or not is_loopback(sent.get("redirect_uri", "")):
        return _page("This is only for the demo's own gateway", "", 400)
    if sent.get("response_type") != "code" or sent.get("code_challenge_method") != "S256":
        return _page("This needs an authorization code with PKCE (S256)", "", 400)
    return None


def _page(title: str, body: str, status: int = 200) -> Response:
    """``body`` is HTML."""
    headers = {
        "Cache-Control": "no-store",
        # No form-action: browsers apply it to where the answer to the form sends them, too.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    }
    return HTMLResponse(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>",
        status,
        headers,
    )


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
