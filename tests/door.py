"""The gateway as its clients meet it: over HTTP, with signed tokens, in front of running sandboxes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from gateway.app import create_app
from gateway.demo import personas_of, sandboxes, save_members, save_organisations, settings_for
from gateway.demo_issuer import DemoIssuer, DemoPersona
from gateway.matching import match_all
from gateway.office import Office
from gateway.server import Server
from gateway.settings import Settings, Source
from resolvers.vocabulary import node_id
from sources.layers.cache.lifetimes import Lifetimes
from sources.ports.common import CustomField, Ref
from sources.registry import Kind
from sources.sandbox.letters import LetterBox
from sources.sandbox.server import Sandbox
from sources.sandbox.world import World


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def data(self) -> Any:
        """The answer's data; fails where there is none."""
        return self.body["data"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The answer's errors."""
        return list(self.body.get("errors", []))

    def codes(self) -> list[tuple[str, str]]:
        """(path, code) of each error."""
        return [(".".join(map(str, e.get("path", []))), e["extensions"]["code"]) for e in self.errors]


class Door:
    """A running gateway. Personas are those of the demo: owner-harbour (account 0 of the world), owner-moeller (account
    1), finance-, standard-, read-only- of both, support, admin."""

    def __init__(
        self,
        url: str,
        world: World,
        issuer: DemoIssuer,
        boxes: dict[str, Sandbox],
        office: Office,
        session: aiohttp.ClientSession,
        letters: LetterBox,
    ) -> None:
        self.url, self.world, self.issuer, self.boxes, self.office, self.session, self.letters = (
            url,
            world,
            issuer,
            boxes,
            office,
            session,
            letters,
        )

    def account_id(self, index: int) -> str:
        """The node id of an account of the world."""
        return node_id("Account", Ref("hubspot", self.world.accounts[index].hubspot_id))

    async def ask(
        self,
        persona: str | None,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST /graphql as this persona (None: without a token, unless one is given)."""
        if persona is not None:
            token = self.issuer.token(persona)
        sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with self.session.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables or {}}, headers=sent
        ) as response:
            return Answer(response.status, dict(response.headers), await response.json(content_type=None))

    async def fetch(
        self, persona: str | None, url: str, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """GET an address that an answer gave, or a path, as this persona."""
        if persona is not None:
            headers["Authorization"] = f"Bearer {self.issuer.token(persona)}"
        absolute = url if url.startswith("http") else self.url + url
        async with self.session.get(absolute, headers=headers) as response:
            return response.status, dict(response.headers), await response.read()

    def forget_calls(self) -> None:
        """Empties the sandboxes' logs."""
        for box in self.boxes.values():
            box.log.clear()

    def calls(self) -> dict[str, int]:
        """Calls to each connected vendor since the logs were emptied, the OAuth token requests left out."""
        return {
            port.name: sum(1 for call in self.boxes[port.name].log.calls() if "token" not in call.path)
            for port in self.office.ports.values()
        }

    def heal(self) -> None:
        """Takes all faults back."""
        for box in self.boxes.values():
            box.faults.clear()


def without_breakers(settings: Settings) -> Settings:
    """One test's faults must not keep the next one's calls away."""
    sources = {
        kind: msgspec.structs.replace(
            source, settings=msgspec.structs.replace(source.settings, breaker_failures=1_000_000)
        )
        for kind, source in settings.sources.items()
    }
    return msgspec.structs.replace(settings, sources=sources)


@asynccontextmanager
async def open_door(
    world: World,
    database_url: str,
    *,
    matched: bool = True,
    settings: Settings | Callable[[Mapping[str, str]], Settings] | None = None,
    own_fields: Sequence[CustomField] | None = None,
    personas: Sequence[DemoPersona] | None = None,
    breakers: bool = False,
    cache: Lifetimes | None = None,
    sources: Mapping[Kind, Source] | None = None,
    **door: Any,
) -> AsyncIterator[Door]:
    """A gateway over sandboxes of this world. ``matched``: all links are known before the first request. ``settings`` may
    be made when it is known where the sandboxes listen. ``own_fields``,
    ``personas`` and ``sources`` take the place of the demo's. Without ``cache`` every request calls the vendors: most tests
    are about what calls are made and what they answer."""
    issuer = DemoIssuer(personas or personas_of(world))
    async with sandboxes(world, issuer, quotas=False) as running, aiohttp.ClientSession() as session:
        if callable(settings):
            settings = settings(running.urls)
        settings = settings or settings_for(running.urls, **door)
        if sources:
            settings = msgspec.structs.replace(settings, sources={**settings.sources, **sources})
        settings = settings if breakers else without_breakers(settings)
        settings = msgspec.structs.replace(settings, cache=cache or Lifetimes(enabled=False))
        if own_fields is not None:
            settings = msgspec.structs.replace(settings, own_fields=tuple(own_fields))
        app = create_app(settings, database_url, today=lambda: world.today)
        # A test that thinks for longer than the server waits would find its connection closed under its next request.
        server = Server(app, "127.0.0.1", 0, timeout_keep_alive=600)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if serving.done():
            await serving
            raise RuntimeError("the gateway did not start")
        port = server.servers[0].sockets[0].getsockname()[1]
        office: Office = app.state.office
        accounts = tuple((account.hubspot_id, account.crm_name) for account in world.accounts[:2])
        await save_organisations(office.ledger, accounts)
        await save_members(office.ledger, running.urls["issuer"], issuer.personas)
        if matched:
            await match_all(office.backoffice)
        try:
            yield Door(
                f"http://127.0.0.1:{port}", world, issuer, running.running, office, session, running.letters
            )
        finally:
            server.should_exit = True
            await serving
