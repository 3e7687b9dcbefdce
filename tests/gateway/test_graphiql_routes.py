"""How the developer's page leaves the gateway: addresses, types, caching, and what a browser may load."""

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from gateway.graphiql import CONTENT_TYPES, DIST, GraphiQLConfig, Persona, SampleQuery, routes

CONFIG = GraphiQLConfig(
    personas=(Persona("owner-aster", "Owner at Aster", "Everything of Aster."),),
    queries=(SampleQuery("Portal home", "{ viewer { id } }", "{}"),),
)


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=[Mount("/graphiql", routes=routes(CONFIG))]))


def test_the_page_fetches_its_configuration_in_camel_case(client: TestClient) -> None:
    answer = client.get("/graphiql/config.json")
    assert answer.json() == {
        "endpoint": "/graphql",
        "title": "Back-office gateway",
        "personas": [{"id": "owner-aster", "label": "Owner at Aster", "description": "Everything of Aster."}],
        "tokenUrl": "/graphiql/token",
        "queries": [{"name": "Portal home", "query": "{ viewer { id } }", "variables": "{}"}],
    }


def test_the_address_without_its_slash_leads_to_the_page(client: TestClient) -> None:
    answer = client.get("/graphiql")
    assert (answer.status_code, answer.url.path) == (200, "/graphiql/")


@pytest.mark.parametrize("path", ["", "config.json", "icon.svg"])
def test_what_keeps_its_name_is_checked_by_the_browser_each_time(client: TestClient, path: str) -> None:
    assert client.get(f"/graphiql/{path}").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", sorted(path.name for path in (DIST / "assets").iterdir()))
def test_an_asset_has_its_type_and_is_kept_for_good(client: TestClient, name: str) -> None:
    answer = client.get(f"/graphiql/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == CONTENT_TYPES[f".{name.rsplit('.', 1)[1]}"]
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    unchanged = client.get(f"/graphiql/assets/{name}", headers={"If-None-Match": answer.headers["ETag"]})
    assert unchanged.status_code == 304


def test_every_answer_tells_the_browser_to_load_from_this_origin_only(client: TestClient) -> None:
    asset = next((DIST / "assets").glob("*.js")).name
    for path in ("", "config.json", "icon.svg", f"assets/{asset}"):
        headers = client.get(f"/graphiql/{path}").headers
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'self'"
        assert "script-src" not in policy
        assert not any("http" in sources or "*" in sources for sources in policy.values())
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_nothing_but_the_build_can_be_read(client: TestClient) -> None:
    for path in (
        "assets/../SOURCES.sha256",
        "assets/..%2f..%2fpackage.json",
        "package.json",
        "assets/none.js",
    ):
        assert client.get(f"/graphiql/{path}").status_code == 404
