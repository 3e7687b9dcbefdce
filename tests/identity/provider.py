"""A real OpenID Connect provider, npm's oidc-provider, run by Node: users sign in over HTTP without a page."""

import asyncio
import base64
import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import aiohttp

FOLDER = Path(__file__).parent
INSTALLED = "tests/identity/node_modules/.package-lock.json"

JWT, OPAQUE = "urn:gateway:jwt", "urn:gateway:opaque"
"""The resources for which access tokens are given: JWTs, and tokens that only the provider can read. Both are for the
audience ``backoffice-gateway``."""

APP = "portal-app"
"""A public client, with PKCE: a page or an app that sends bearer tokens itself."""
GATEWAY, GATEWAY_SECRET = "gateway", "a secret of the gateway, long enough to be one"
"""The gateway's own client: it introspects, and it is what the browser's sign-in runs under."""
MACHINE, MACHINE_SECRET = "machine", "a secret of the machine, long enough to be one"
"""A client without a person."""
APP_REDIRECT = "http://127.0.0.1:9/callback"
"""Nobody listens there: the test reads the code from the address."""

USERS: dict[str, dict[str, Any]] = {
    "ann": {
        "name": "Ann Owner",
        "email": "ann@harbour.example",
        "email_verified": True,
        "roles": ["owner"],
        "organisations": ["harbour"],
    },
    "fin": {
        "name": "Fin Finance",
        "email": "fin@harbour.example",
        "email_verified": True,
        "roles": ["finance"],
        "organisations": ["harbour"],
    },
    "mo": {
        "name": "Mo Owner",
        "email": "mo@moeller.example",
        "email_verified": True,
        "roles": ["owner"],
        "organisations": ["moeller"],
    },
    "both": {
        "name": "Bo Both",
        "email": "bo@accountants.example",
        "email_verified": True,
        "roles": ["finance"],
        "organisations": ["harbour", "moeller"],
    },
    "new": {"name": "Nobody Yet", "email": "new@harbour.example", "email_verified": True},
    "sam": {"name": "Sam Support", "email": "sam@firm.example", "email_verified": True, "roles": ["support"]},
    "ada": {"name": "Ada Admin", "email": "ada@firm.example", "email_verified": True, "roles": ["admin"]},
}
"""By their id at the provider: what their tokens say besides."""


class OidcProvider:
    """The running provider. ``issuer`` is its address, too."""

    def __init__(self, issuer: str, session: aiohttp.ClientSession) -> None:
        self.issuer = issuer
        self._session = session

    async def control(self, what: str, **body: Any) -> Any:
        """Changes it, as provider.mjs says."""
        async with self._session.post(f"{self.issuer}/control/{what}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def reset(self) -> None:
        """The users, the clients and the state with which it starts. Keys stay, sessions too."""
        await self.control("down", down=False)
        await self.control("next")
        await self.control("users", **USERS)
        await self.register(
            client_id=APP,
            token_endpoint_auth_method="none",
            redirect_uris=[APP_REDIRECT],
            grant_types=["authorization_code", "refresh_token"],
        )
        await self.register(
            client_id=GATEWAY, client_secret=GATEWAY_SECRET, redirect_uris=["http://127.0.0.1:9/unused"]
        )
        await self.register(
            client_id=MACHINE,
            client_secret=MACHINE_SECRET,
            redirect_uris=[],
            response_types=[],
            grant_types=["client_credentials"],
        )
        await self.requests()

    async def register(self, **metadata: Any) -> None:
        """A client, or another form of it: the metadata of OpenID Connect's registration, ``client_id`` among them."""
        await self.control("clients", **metadata)

    async def who(self, user: str | None = None, **how: Any) -> None:
        """Who signs in from now on, with which ``acr`` and ``amr``, unless the request's login_hint names somebody;
        ``error`` (such as ``access_denied``) for a sign-in that fails."""
        await self.control("next", **({"user": user} if user else {}), **how)

    async def rotate(self, keep: bool = True) -> str:
        """A new key signs; ``keep``: the old ones stay published. Its id."""
        kid: str = (await self.control("keys", keep=keep))["kid"]
        return kid

    async def down(self, down: bool = True) -> None:
        """From now on it answers 503, or no longer."""
        await self.control("down", down=down)

    async def log_out(self, user: str) -> list[dict[str, Any]]:
        """Ends the user's sessions and tells the clients by back-channel logout. What each of them was told, with
        ``error`` None where it took it."""
        told: list[dict[str, Any]] = await self.control("logout", user=user)
        return told

    async def requests(self) -> list[str]:
        """``GET /jwks`` and the like since last asked."""
        made: list[str] = await self.control("requests")
        return made

    async def sign_in(
        self, user: str, resource: str = JWT, *, scope: str = "openid email profile", **parameters: str
    ) -> dict[str, Any]:
        """Authorization code with PKCE as the app, all over HTTP: what the token endpoint gave (``access_token``,
        ``id_token``, ...)."""
        verifier = secrets.token_urlsafe(48)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": APP,
            "response_type": "code",
            "redirect_uri": APP_REDIRECT,
            "scope": f"{scope} portal",
            "resource": resource,
            "code_challenge": digest,
            "code_challenge_method": "S256",
            "login_hint": user,
            "nonce": secrets.token_urlsafe(8),
            **parameters,
        }
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            address, query = f"{self.issuer}/auth", asked
            while not address.startswith(APP_REDIRECT):
                async with browser.get(address, params=query, allow_redirects=False) as answer:
                    assert answer.status in (302, 303), (answer.status, await answer.text())
                    address, query = answer.headers["Location"], {}
                    address = address if address.startswith("http") else self.issuer + address
        said = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert "code" in said, said
        return await self.token(
            grant_type="authorization_code",
            code=said["code"],
            redirect_uri=APP_REDIRECT,
            code_verifier=verifier,
            client_id=APP,
            resource=resource,
        )

    async def machine_token(self, resource: str = JWT) -> str:
        """Client credentials: an access token that names no person."""
        given = await self.token(
            grant_type="client_credentials",
            scope="portal",
            resource=resource,
            client_id=MACHINE,
            client_secret=MACHINE_SECRET,
        )
        return str(given["access_token"])

    async def token(self, **form: str) -> dict[str, Any]:
        """What the token endpoint answers."""
        # Form-encoded before it is encoded again (RFC 6749, 2.3.1).
        secret = form.pop("client_secret", None)
        headers = (
            {"Authorization": aiohttp.encode_basic_auth(form.pop("client_id"), quote_plus(secret))}
            if secret
            else {}
        )
        async with self._session.post(f"{self.issuer}/token", data=form, headers=headers) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == 200, body
            return body


def missing() -> str | None:
    """Why it cannot run here; None where it can."""
    return (
        None
        if shutil.which("npm") and shutil.which("node")
        else "oidc-provider needs Node: npm is not installed"
    )


def install() -> None:
    """Installs oidc-provider where that is not done; processes that start together wait for the first."""
    # What a make above this one said is not for this one.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}
    }
    with (FOLDER / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            ["make", "--silent", INSTALLED],
            cwd=FOLDER.parents[1], env=environment, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip


@asynccontextmanager
async def open_provider() -> AsyncIterator[OidcProvider]:
    """Runs one on a free port of loopback."""
    await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        "node", "provider.mjs", cwd=FOLDER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    assert process.stdin
    try:
        issuer = (await process.stdout.readline()).decode().strip()
        assert issuer, "oidc-provider did not start; the reason stands above"
        async with aiohttp.ClientSession() as session:
            provider = OidcProvider(issuer, session)
            await provider.reset()
            yield provider
    finally:
        process.stdin.close()
        await process.wait()
