"""A browser without pages: it keeps cookies as browsers do, follows addresses, and says where its requests come from.

The gateway's public address is mapped to where it listens, as a proxy with a certificate does in production.
"""

import json
import time
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import aiohttp

from gateway.demo_issuer import DemoIssuer
from tests.door import Answer

PUBLIC = "https://gateway.localhost"
"""Where the gateway says that it is: over https, so that its cookies are as in production."""


class Browser:
    """One profile. ``public`` is the gateway's address as it says it, ``url`` where it really listens."""

    def __init__(self, url: str, session: aiohttp.ClientSession, public: str = PUBLIC) -> None:
        self.url, self.public = url, public
        self._session = session
        self.cookies: dict[str, dict[str, str]] = {}
        """By origin: name and value."""

    @property
    def own(self) -> dict[str, str]:
        """The gateway's cookies."""
        return self.cookies.setdefault(_origin(self.public), {})

    @property
    def secret(self) -> str | None:
        """The session cookie's value."""
        return next((value for name, value in self.own.items() if name.endswith("gateway-session")), None)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **sent: Any
    ) -> tuple[Answer, str]:
        """One request, no redirect followed: the answer, with its text as body, and where it points."""
        absolute = urljoin(self.public + "/", url)
        kept = self.cookies.setdefault(_origin(absolute), {})
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in kept.items())} if kept else {}
        async with self._session.request(
            method,
            self.url + absolute.removeprefix(self.public) if absolute.startswith(self.public) else absolute,
            headers={**cookie, **(headers or {})},
            allow_redirects=False,
            **sent,
        ) as response:
            for line in response.headers.getall("Set-Cookie", []):
                _keep(kept, line, https=absolute.startswith("https:"))
            location = response.headers.get("Location", "")
            answer = Answer(response.status, dict(response.headers), await response.text())
            return answer, urljoin(absolute, location) if location else ""

    async def open(self, url: str) -> tuple[Answer, str]:
        """As when an address is entered or a link followed."""
        return await self.request(
            "GET", url, headers={"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
        )

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """As the gateway's own page does with fetch(); the answer's body as JSON."""
        said = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        if method != "GET":
            said["Origin"] = self.public
        sent = {"json": body} if body is not None else {}
        answer, _ = await self.request(method, path, headers={**said, **(headers or {})}, **sent)
        return Answer(answer.status, answer.headers, _json(answer.body))

    async def ask(self, query: str, **headers: str) -> Answer:
        """POST /graphql with the session."""
        return await self.call("POST", "/graphql", {"query": query}, headers=headers)

    async def begin(self, **wishes: str) -> str:
        """GET /session/sign-in: the provider's address to which it sends."""
        answer, location = await self.open(f"/session/sign-in?{urlencode(wishes)}")
        assert answer.status == 303, answer.body
        return location

    async def choose(self, address: str, persona: str) -> str:
        """Picks a persona on the demo issuer's page: the address to which it sends back."""
        answer, location = await self.request("POST", address, data={"persona": persona})
        assert answer.status == 303, answer.body
        return location

    async def sign_in(self, persona: str, **wishes: str) -> str:
        """All of it, at the demo's issuer; where one is at the end."""
        answer, location = await self.open(await self.choose(await self.begin(**wishes), persona))
        assert answer.status == 303, answer.body
        return location


def query_of(address: str) -> dict[str, str]:
    """The parameters in an address."""
    return dict(parse_qsl(urlsplit(address).query))


def with_query(address: str, **changes: str | None) -> str:
    """The address with parameters changed; None leaves one out."""
    kept = {name: value for name, value in {**query_of(address), **changes}.items() if value is not None}
    return f"{address.partition('?')[0]}?{urlencode(kept)}"


def logout_token(issuer: DemoIssuer, client_id: str, **changes: Any) -> str:
    """By the issuer's own key; a claim that is None is left out, ``typ`` is the header's."""
    header = {"typ": str(changes.pop("typ"))} if "typ" in changes else {"typ": "logout+jwt"}
    now = int(time.time())
    claims = {
        "iss": issuer.url,
        "aud": client_id,
        "iat": now,
        "exp": now + 120,
        "jti": f"jti-{time.monotonic_ns()}",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }
    claims.update(changes)
    return issuer.sign({name: value for name, value in claims.items() if value is not None}, **header)


def _keep(kept: dict[str, str], line: str, *, https: bool) -> None:
    """As RFC 6265bis has it of cookies whose names begin with __Host-."""
    (name, morsel), *_ = SimpleCookie(line).items()
    if name.startswith("__Host-"):
        assert https
        assert morsel["secure"]
        assert morsel["path"] == "/"
        assert not morsel["domain"]
    assert morsel["httponly"]
    if morsel.value and morsel["max-age"] != "0":
        kept[name] = morsel.value
    else:
        kept.pop(name, None)


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
