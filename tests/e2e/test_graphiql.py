"""GraphiQL in a real browser: sign in, run a query, see the answer, and call no other host.

`browser_page`, `choose_persona`, `run_query` and `response_text` serve any test that opens the page; `serve_page` has one
without the rest of the gateway.
"""

import asyncio
import json
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
import strawberry
import uvicorn
from playwright.async_api import ConsoleMessage, Error, Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from gateway.graphiql import GraphiQLConfig, Persona, SampleQuery, routes

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path"),
]

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Monaco's first lines are drawn without a graphics card, on a machine that runs other tests beside it.
expect.set_options(timeout=30_000)

KEPT_TABS = "localStorage.getItem('backoffice-gateway:graphiql:tabState') ?? ''"


@dataclass
class Seen:
    """What a page did: every address it asked for, and what its console complained about."""

    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def hosts(self) -> set[str]:
        """Of the requests that go over the network; data: and blob: do not."""
        return {urlsplit(url).netloc for url in self.urls if not url.startswith(("data:", "blob:"))}


@asynccontextmanager
async def browser_page(
    base_url: str, scheme: Literal["light", "dark"] = "light"
) -> AsyncIterator[tuple[Page, Seen]]:
    """The developer's page of the gateway at `base_url`, loaded in a fresh browser profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            context = await browser.new_context(
                color_scheme=scheme, viewport={"width": 1280, "height": 800}, base_url=base_url
            )
            page = await context.new_page()
            seen = Seen()

            def on_console(message: ConsoleMessage) -> None:
                if message.type in ("error", "warning"):
                    seen.complaints.append(f"{message.text} ({message.location.get('url')})")

            def on_page_error(error: Error) -> None:
                seen.complaints.append(str(error))

            # On the context, not the page: the workers' requests are then seen too.
            context.on("request", lambda request: seen.urls.append(request.url))
            page.on("console", on_console)
            page.on("pageerror", on_page_error)
            await page.goto("/graphiql/")
            await expect(page.locator(".graphiql-query-editor .view-lines")).to_be_visible()
            yield page, seen
        finally:
            await browser.close()


async def choose_persona(page: Page, persona: str) -> None:
    """Signs in as this persona and waits for the schema that the page then asks for."""
    async with page.expect_response(lambda response: _is_introspection(response.request.post_data)) as asked:
        await page.get_by_label("Persona").select_option(persona)
    assert (await asked.value).status == 200
    await expect(page.get_by_label("Re-fetch GraphQL schema")).to_be_enabled()


async def run_query(page: Page) -> Any:
    """Presses play on the open tab; the answer as JSON."""
    await page.get_by_label("Execute query").click()
    await expect(page.locator(".graphiql-response .view-lines")).to_contain_text("{")
    await expect(page.get_by_label("Execute query")).to_be_visible()
    # The pane draws only the lines in view: the editor's model has all of them.
    return json.loads(
        await page.evaluate(
            "__MONACO.editor.getModels().find(model => model.uri.path.endsWith('response.json')).getValue()"
        )
    )


async def response_text(page: Page) -> str:
    """What the response pane shows, as a person reads it."""
    lines = await page.locator(".graphiql-response .view-lines").inner_text()
    return lines.replace("\N{NO-BREAK SPACE}", " ")


async def _background_levels(page: Page) -> list[int]:
    """Red, green and blue behind the bar and behind the editors, 0 to 255."""
    levels: list[int] = await page.evaluate(
        """() => ["body", ".graphiql-container"].flatMap(selector => getComputedStyle(
            document.querySelector(selector)).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number))"""
    )
    return levels


def _is_introspection(body: str | None) -> bool:
    return body is not None and "__schema" in body


# --- a gateway of a few lines, so that the page can be tested without the rest ---------------------------------------


@strawberry.type
class Organisation:
    name: str = strawberry.field(description="As the CRM spells it.")
    city: str | None


def _organisation() -> Organisation:
    return Organisation(name="Aster Böttcher GmbH", city=None)


def _echo(text: str) -> str:
    return text


@strawberry.type
class Query:
    organisation: Organisation = strawberry.field(
        resolver=_organisation, description="The customer that asks."
    )
    echo: str = strawberry.field(resolver=_echo, description="Says its argument again.")


SCHEMA = strawberry.Schema(Query)
CONFIG = GraphiQLConfig(
    title="Back-office gateway",
    personas=(
        Persona("owner-aster", "Owner at Aster", "Sees everything of Aster Böttcher GmbH."),
        Persona("support", "Support agent", "Sees the tickets of assigned accounts."),
        Persona("stranger", "Nobody", "Gets no token."),
    ),
    queries=(
        SampleQuery(
            "Portal home",
            "query PortalHome($text: String!) {\n  organisation { name city }\n  echo(text: $text)\n}\n",
            '{\n  "text": "hello"\n}',
        ),
        SampleQuery("Name only", "query NameOnly {\n  organisation { name }\n}\n"),
    ),
)


@dataclass
class StandIn:
    url: str
    tokens_issued: list[str]
    tokens_valid: set[str]
    xray: Any = None
    """`extensions.xray` of answers to those who ask for one; None: the gateway gives none."""
    asked: list[Any] = field(default_factory=list)
    """What was posted to /graphql."""


@pytest.fixture
def page_server() -> Iterator[StandIn]:
    yield from serve_page(CONFIG)


@pytest.fixture
def server_without_personas() -> Iterator[StandIn]:
    yield from serve_page(GraphiQLConfig(queries=CONFIG.queries))


def serve_page(config: GraphiQLConfig) -> Iterator[StandIn]:
    """Until it is asked for the next one."""
    listening = socket.create_server(("127.0.0.1", 0))
    stand_in = StandIn(f"http://127.0.0.1:{listening.getsockname()[1]}", [], {"typed-by-hand"})

    async def graphql(request: Request) -> JSONResponse:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in stand_in.tokens_valid:
            return JSONResponse({"errors": [{"message": "sign in"}]}, 401)
        asked = await request.json()
        stand_in.asked.append(asked)
        result = await SCHEMA.execute(
            asked["query"], asked.get("variables"), operation_name=asked.get("operationName")
        )
        errors = [error.formatted for error in result.errors or ()]
        answer = {"data": result.data} | ({"errors": errors} if errors else {})
        if stand_in.xray is not None and asked.get("extensions") == {"xray": True}:
            answer["extensions"] = {"xray": stand_in.xray}
        return JSONResponse(answer)

    async def token(request: Request) -> JSONResponse:
        persona = (await request.json())["persona"]
        if persona == "stranger":
            return JSONResponse({"error": "unknown persona"}, 403)
        issued = f"{persona}-{len(stand_in.tokens_issued)}"
        stand_in.tokens_issued.append(issued)
        stand_in.tokens_valid.add(issued)
        return JSONResponse({"accessToken": issued, "expiresIn": 3600})

    app = Starlette(
        routes=[
            Route("/graphql", graphql, methods=["POST"]),
            Mount("/graphiql", routes=[*routes(config), Route("/token", token, methods=["POST"])]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield stand_in
    server.should_exit = True
    thread.join(timeout=10)
    listening.close()


# --- the tests ------------------------------------------------------------------------------------------------------


async def test_a_persona_runs_the_first_sample_query_and_sees_its_data(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, seen):
        await choose_persona(page, "owner-aster")
        answer = await run_query(page)
        assert answer == {
            "data": {"organisation": {"name": "Aster Böttcher GmbH", "city": None}, "echo": "hello"}
        }
        assert '"name": "Aster Böttcher GmbH"' in await response_text(page)
        await expect(page.get_by_role("status")).to_have_text("Sees everything of Aster Böttcher GmbH.")
        assert seen.complaints == []
        assert seen.hosts() == {urlsplit(page_server.url).netloc}
        assert any(".worker-" in url for url in seen.urls)


async def test_the_editor_knows_the_schema_once_signed_in(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, seen):
        await choose_persona(page, "owner-aster")
        await page.get_by_label("Show Documentation Explorer").click()
        await page.get_by_role("link", name="Query").click()
        await expect(page.get_by_text("Says its argument again.")).to_be_visible()
        assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_follows_the_systems_colours(
    page_server: StandIn, scheme: Literal["light", "dark"], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with browser_page(page_server.url, scheme) as (page, seen):
        await choose_persona(page, "owner-aster")
        await run_query(page)
        levels = await _background_levels(page)
        assert min(levels) > 200 if scheme == "light" else max(levels) < 80
        await page.screenshot(path=tmp_path_factory.getbasetemp() / f"graphiql-{scheme}.png")
        assert seen.complaints == []


async def test_a_theme_chosen_in_the_settings_outweighs_the_systems(page_server: StandIn) -> None:
    async with browser_page(page_server.url, "light") as (page, seen):
        await page.get_by_label("Open settings dialog").click()
        await page.get_by_role("button", name="Dark").click()
        await page.reload()
        await expect(page.locator(".graphiql-query-editor .view-lines")).to_be_visible()
        assert max(await _background_levels(page)) < 80
        assert seen.complaints == []


async def test_prettify_indents_the_query_and_its_variables(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, seen):
        await page.evaluate(
            """() => {
                const write = (name, text) =>
                    __MONACO.editor.getModels().find(model => model.uri.path.endsWith(name)).setValue(text);
                write("operation.graphql", "query Tidy{organisation{name}}");
                write("variables.json", '{"text":"a","list":[1]}');
            }"""
        )
        await page.get_by_label("Prettify query").click()
        await expect(page.locator(".graphiql-query-editor .view-line")).to_have_count(6)
        variables = page.locator(".graphiql-editor-tool .view-lines").first.locator(".view-line")
        await expect(variables).to_have_count(6)
        assert seen.complaints == []


async def test_samples_open_as_tabs_on_a_first_visit_and_from_the_menu_later(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, _):
        tabs = page.locator(".graphiql-tab-button")
        await expect(tabs).to_have_text(["PortalHome", "NameOnly"])
        await expect(page.locator(".graphiql-editor-tool .view-lines").first).to_contain_text("hello")
        await page.get_by_label("Close Tab").first.click()
        await expect(tabs).to_have_text(["NameOnly"])
        async with asyncio.timeout(30):  # GraphiQL writes its tabs down a moment later
            while "PortalHome" in (kept := await page.evaluate(KEPT_TABS)) or "NameOnly" not in kept:
                await asyncio.sleep(0.05)
        await page.reload()
        await expect(tabs).to_have_text(["NameOnly"])
        await page.get_by_label("Sample queries").click()
        await page.get_by_role("menuitem", name="Portal home").click()
        await expect(tabs).to_have_text(["NameOnly", "PortalHome"])
        await expect(page.locator(".graphiql-editor-tool .view-lines").first).to_contain_text("hello")


async def test_the_page_asks_nothing_of_the_graph_while_signed_out(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, seen):
        hint = "Signed out: choose a persona to load the schema and run queries."
        await expect(page.get_by_role("status")).to_have_text(hint)
        assert await run_query(page) == {"errors": [{"message": hint}]}
        assert not [url for url in seen.urls if url.endswith(("/graphql", "/token"))]
        assert seen.complaints == []


async def test_a_refused_token_is_renewed_and_never_kept_by_the_browser(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, _):
        await choose_persona(page, "owner-aster")
        assert page_server.tokens_issued == ["owner-aster-0"]
        page_server.tokens_valid.clear()
        assert "data" in await run_query(page)
        assert page_server.tokens_issued == ["owner-aster-0", "owner-aster-1"]
        kept = await page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        )
        assert "owner-aster-1" not in kept
        await page.reload()
        await expect(page.get_by_label("Persona")).to_have_value("owner-aster")


async def test_a_persona_without_a_token_is_told_so(page_server: StandIn) -> None:
    async with browser_page(page_server.url) as (page, _):
        await page.get_by_label("Persona").select_option("stranger")
        await expect(page.get_by_role("status")).to_have_text(
            "No token for this persona: the gateway answered 403."
        )


async def test_outside_the_demo_a_token_is_typed(server_without_personas: StandIn) -> None:
    async with browser_page(server_without_personas.url) as (page, _):
        await page.get_by_label("Bearer token").fill("wrong")
        await page.get_by_role("button", name="Use token").click()
        await expect(page.get_by_role("status")).to_have_text("The gateway refused this token (401).")
        await page.get_by_label("Bearer token").fill("typed-by-hand")
        await page.get_by_role("button", name="Use token").click()
        await expect(page.get_by_role("status")).to_have_text("Queries carry your token.")
        assert "data" in await run_query(page)
