"""The id of a request: in every answer and in the audit trail, ours unless a trusted proxy has named it."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import select

from sources.ledger.tables import audit
from sources.sandbox.world import World
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.gateway.test_audit import settled

QUERY = "{ viewer { id } }"
OURS = re.compile(r"[0-9a-f]{32}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxied(postgres: str) -> AsyncIterator[Door]:
    """Behind a proxy on this machine."""
    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.05), url, matched=False, trusted_proxies=("127.0.0.1",)) as door,
    ):
        yield door


@pytest.mark.parametrize(
    ("persona", "path", "status"),
    [
        ("owner-harbour", "/graphql?query=%7Bviewer%7Bid%7D%7D", 200),
        ("owner-harbour", "/graphql", 400),
        (None, "/graphql", 401),
        ("owner-harbour", "/files/none", 404),
        (None, "/files/none", 401),
        (None, "/health/live", 200),
        ("owner-harbour", "/metrics", 403),
        (None, "/nowhere", 404),
    ],
)
async def test_every_answer_has_an_id_of_its_own(
    door: Door, persona: str | None, path: str, status: int
) -> None:
    ids = set()
    for _ in range(2):
        found, headers, _ = await door.fetch(persona, path, **{"X-Request-Id": "named-by-the-client"})
        assert found == status
        assert OURS.fullmatch(headers["X-Request-ID"])
        ids.add(headers["X-Request-ID"])
    assert len(ids) == 2


async def test_a_trusted_proxy_names_a_request_in_its_answer_and_in_the_trail(proxied: Door) -> None:
    name = "4f0c-ZZ_9.a/b+c="
    answer = await proxied.ask("owner-harbour", QUERY, headers={"X-Request-Id": name})
    assert answer.headers["X-Request-ID"] == name
    async with proxied.session.post(f"{proxied.url}/graphql", headers={"X-Request-Id": name}) as refused:
        assert (refused.status, refused.headers["X-Request-Id"]) == (401, name)
    await settled(proxied)
    async with proxied.office.ledger._database.reading() as connection:  # type: ignore[attr-defined]
        rows = (await connection.execute(select(audit.c.kind, audit.c.request))).all()
    assert ("query", name) in [tuple(row) for row in rows]


@pytest.mark.parametrize(
    "name", ["", "short", "x" * 129, "with space", "ann@example.com", "<script>alert</script>", "tab\there1"]
)
async def test_what_does_not_look_like_an_id_is_none_even_of_a_proxy(proxied: Door, name: str) -> None:
    answer = await proxied.ask("owner-harbour", QUERY, headers={"X-Request-Id": name})
    assert OURS.fullmatch(answer.headers["X-Request-ID"])
