"""An issuer of one's own on a socket, whose keys change, and tokens that no library would make."""

import base64
import hmac
import json
import time
from typing import Any
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.demo_issuer import AUDIENCE
from gateway.signin.door import SignIn
from gateway.signin.settings import IssuerSettings, SignInSettings
from sources.ledger.book import Ledger
from sources.sandbox.server import Sandbox
from tests.door import Door


def believe(door: Door, *issuers: dict[str, Any], ledger: Ledger | None = None, **signin: Any) -> None:
    """From now on these issuers, and nothing is remembered of any. What is left out is as the demo has it; ``ledger`` takes
    the place of the door's."""
    standard = {"audience": AUDIENCE, "believed_for": ("customers", "staff")}
    settings = tuple(IssuerSettings(**standard | issuer) for issuer in issuers)
    ledger = ledger or door.office.ledger
    door.office.signin = SignIn(
        SignInSettings(issuers=settings, **signin),
        door.office.roles,
        organisations=ledger.organisations,
        members=ledger.members,
        viewings=ledger.viewings,
    )


def rs256(key: RSAKey, header: dict[str, Any], payload: bytes) -> str:
    """Signed by hand: a library would refuse to make some of these."""
    data = f"{segment({'alg': 'RS256', 'kid': key.kid} | header)}.{segment(payload)}".encode()
    return f"{data.decode()}.{segment(key.get_op_key('sign').sign(data, PKCS1v15(), SHA256()))}"


def hs256(secret: bytes, header: dict[str, Any], payload: bytes) -> str:
    data = f"{segment({'alg': 'HS256'} | header)}.{segment(payload)}".encode()
    return f"{data.decode()}.{segment(hmac.digest(secret, data, 'sha256'))}"


def segment(value: Any) -> str:
    """A part of a JWT, whatever is in it."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """Also what a token's header may point at."""

    keys: list[RSAKey]
    """That it publishes; the first one signs."""
    also: list[dict[str, Any]]
    """What else it publishes among them."""
    key_of: str | None
    """Whose keys it says these are; None: it does not say."""
    name: str
    """What it calls itself; empty: by its address."""
    client_ways: list[str]
    """How its clients may prove who they are when they ask about a token."""
    opaque: dict[str, Any]
    """What it answers about tokens that only it can read; about others, that they are not active."""
    asked: list[tuple[str, dict[str, Any]]]
    """The tokens that it was asked about, with how its client proved who it is."""

    def __init__(self) -> None:
        self.box = Sandbox(
            "issuer",
            [
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/evil", self._jwks),
                Route("/introspect", self._introspect, methods=["POST"]),
                Route("/moved", self._moved, methods=["POST"]),
            ],
        )
        self.url = ""
        self._issued = 0
        self.renew()

    def renew(self) -> None:
        """As at start."""
        self.keys, self.also, self.key_of, self.name = [self.key()], [], None, ""
        self.client_ways, self.opaque, self.asked = ["client_secret_basic"], {}, []
        self.box.faults.clear()
        self.box.log.clear()

    @staticmethod
    def key() -> RSAKey:
        return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)

    def token(self, key: RSAKey | None = None, **header: Any) -> str:
        """An administrator's."""
        return self.of({}, key, **header)

    def of(self, claims: dict[str, Any], key: RSAKey | None = None, **header: Any) -> str:
        """A token with these claims besides those that every one has."""
        self._issued += 1
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "x", "roles": ["admin"], "jti": str(self._issued)}
        said |= {"exp": int(time.time()) + 600, "iat": int(time.time())} | claims
        return rs256(key or self.keys[0], header, json.dumps(said).encode())

    async def _discovery(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.name or self.url,
                "jwks_uri": f"{self.url}/jwks",
                "introspection_endpoint": f"{self.url}/introspect",
                "introspection_endpoint_auth_methods_supported": self.client_ways,
            }
        )

    async def _moved(self, request: Request) -> Response:
        return RedirectResponse(request.query_params["to"], 307)

    async def _introspect(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        clients = (
            ("client_secret_basic", request.headers.get("authorization")),
            (
                "client_secret_post",
                form.get("client_id") and f"{form['client_id']}:{form.get('client_secret')}",
            ),
        )
        self.asked.append((str(form["token"]), dict(clients)))
        return JSONResponse(self.opaque.get(str(form["token"]), {"active": False}))

    async def _jwks(self, request: Request) -> Response:
        owner = {"issuer": self.key_of} if self.key_of else {}
        own = [{**key.as_dict(private=False), **owner} for key in self.keys]
        return JSONResponse({"keys": [*self.also, *own]})
