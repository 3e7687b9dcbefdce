"""What is written to standard error: JSON lines that an operator can follow a request by, and nothing of anybody in them."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gateway.demo import ORGANISATIONS, settings_file
from gateway.settings import Logging
from tests.browser import PUBLIC
from tests.canaries import CANARY, canary
from tests.canary_walk import CREATE_ACCOUNT, CREATE_KEY, START, Company, Walk, open_company
from tests.commands import serving
from tests.conftest import fresh_database
from tests.streams.client import signed_in, streaming

ACCEPT = "mutation($input: AcceptInvitationInput!) { acceptInvitation(input: $input) { member { id } userErrors { code message } } }"
INVITE = """mutation($input: InviteMemberInput!) { inviteMember(input: $input) {
  invitation { id } secret link userErrors { message } } }"""
HOME = """query Canary_query_name($id: ID!) { account(id: $id) { name canary_alias_name: number
  contacts(first: 3) { nodes { email } } invoices(first: 3) { nodes { number total { amount } } }
  tickets(first: 3) { nodes { subject } } documents(first: 3) { nodes { title } } } }"""

TOKEN = "eyJhbGciOiJSUzI1NiJ9.canary-token-nobody.c2lnbmF0dXJl"


class Served:
    """A gateway process of its own over the company, its journeys done, and what it wrote."""

    def __init__(self, company: Company, lines: list[dict[str, Any]], text: str, ids: dict[str, str]) -> None:
        self.company, self.lines, self.text, self.ids = company, lines, text, ids

    def of(self, request: str) -> list[dict[str, Any]]:
        """The lines of one request, by what the journeys call it."""
        return [line for line in self.lines if line.get("request_id") == self.ids[request]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with fresh_database(postgres) as url, open_company(url) as company:
        tables = tomllib.loads(settings_file(company.door.office.settings, url).decode())
        tables["logging"] = {"requests": "all", "slow_seconds": 0.4}
        tables["gateway"]["deadline"] = 5.0
        config = tmp_path_factory.mktemp("logs") / "gateway.toml"
        config.write_bytes(msgspec.toml.encode(tables))
        inside = company.door.url
        async with serving(url, config) as (running, company.door.url):
            ids = await _journeys(company)
            running.interrupt()
            _, text = await running.ended()
        company.door.url = inside
        yield Served(company, [json.loads(line) for line in text.splitlines()], text, ids)


async def _journeys(company: Company) -> dict[str, str]:
    """Pages, changes, events, files, refusals and every kind of failure, with something of somebody's in each place that a
    client fills. The ids of some of the requests."""
    door, ids = company.door, {}
    account = door.account_id(0)

    async def ask(name: str, persona: str | None, query: str, variables: Any = None, **headers: str) -> Any:
        answer = await door.ask(persona, query, variables, headers=headers)
        ids[name] = answer.headers["X-Request-ID"]
        return answer

    page = await ask("page", "owner-harbour", HOME, {"id": account})
    assert (page.errors, len(set(CANARY.findall(json.dumps(page.data)))) > 3) == ([], True)
    walk = Walk(company)
    callers = [one for one in company.callers.values() if one.owner != "nobody" and "browser" not in one.name]
    await walk.ask(Random(3).sample(walk.queries(callers), 40))

    owner = company.bearing("owner-harbour")
    invited = await company.change(
        owner, INVITE, email=f"new@{canary('invitation', 'harbour')}.example", roles=["standard"]
    )
    assert invited["invitation"]["id"]
    await ask(
        "accept",
        "newcomer",
        ACCEPT,
        {"input": {"idempotencyKey": "canary-key-newcomer", "secret": "canary-secret-newcomer"}},
    )
    made = await company.change(
        owner, CREATE_ACCOUNT, name=canary("service", "harbour"), scopes=["accounts:read"]
    )
    key = await company.change(
        owner, CREATE_KEY, serviceAccountId=made["serviceAccount"]["id"], name=canary("key", "harbour")
    )
    await ask("key", None, "{ viewer { id } }", Authorization=f"Bearer {key['secret']}")
    member = company.members["finance-harbour"]
    await company.change(
        company.bearing("support"), START, memberId=member, reason=canary("viewing", "harbour")
    )

    # What clients get wrong.
    await ask("unknown field", "owner-harbour", "{ canary_field_x }")
    await ask("no document", "owner-harbour", 'query canary_syntax_x { "canary-text-x ')
    await ask("wrong variables", "owner-harbour", HOME, {"id": {"canary-variable-x": TOKEN}})
    await ask("foreign", "owner-harbour", HOME, {"id": door.account_id(1)})
    await ask("token", None, HOME, {"id": account}, Authorization=f"Bearer {TOKEN}")
    async with door.session.post(
        f"{door.url}/graphql?token={TOKEN}",
        data=b"canary-body-x",
        headers={**owner, "Content-Type": "application/json"},
    ) as response:
        assert response.status == 400
    for path in (
        "/canary-path-x",
        "/files/canary-file-x",
        f"/graphql?query=%7Bcanary_get_x%7D&access_token={TOKEN}",
    ):
        await door.fetch(
            "owner-harbour", path, **{"User-Agent": "canary-agent-x", "X-Request-Id": "canary-id-x"}
        )

    # Files, events and sockets.
    documents = await door.ask(
        "owner-harbour",
        "query($id: ID!) { account(id: $id) { documents(first: 1) { nodes { content { url } } } } }",
        {"id": account},
    )
    (file,) = documents.data["account"]["documents"]["nodes"]
    assert (await door.fetch("owner-harbour", file["content"]["url"].removeprefix(PUBLIC)))[0] in (200, 404)
    async with streaming(door, "owner-harbour", "subscription Canary_stream { viewer { email } }") as events:
        await events.hear()
    async with signed_in(door, "finance-harbour") as socket:
        await socket.subscribe("query Canary_socket { viewer { email name } }", "canary-operation-x")
        await socket.told("canary-operation-x")
        await socket.subscribe("{ canary_socket_field }", "2")
        await socket.hear()
        await socket.socket.send_str('{"canary-message-x": ')
        await socket.closed()

    # What sources get wrong.
    door.boxes["hubspot"].faults.add("malformed_row", "/crm/v3/objects/companies", times=1)
    no_cache = {"Cache-Control": "no-cache"}
    await ask("malformed", "admin", "{ accounts(first: 5) { nodes { name } } }", **no_cache)
    door.heal()
    for fault in (
        "fail",
        "garbage",
        "drop",
        "rate_limit",
        "html",
        "truncated",
        "nested",
        "malformed_row",
        "malformed_rows",
        "missing_id",
        "hang",
    ):
        for box in door.boxes.values():
            if box.name != "issuer":
                box.faults.add(fault)
        # Only what hangs is waited for, and no longer than it must be.
        waits = {"X-Request-Timeout": "1.5"} if fault == "hang" else {}
        answer = await ask(fault, "owner-moeller", HOME, {"id": door.account_id(1)}, **no_cache, **waits)
        assert answer.status == 200
        # By ids, so that the other systems are asked although the CRM fails.
        own = walk.queries(company.of("finance-harbour"))
        await walk.ask(Random(fault).sample(own, 1))
        door.heal()
    return ids


# -- nothing of anybody --------------------------------------------------------------------------------------------------


def test_no_line_holds_anything_of_anybodys(served: Served) -> None:
    door = served.company.door
    assert len(served.lines) > 100
    assert not CANARY.search(served.text), CANARY.findall(served.text)[:5]
    assert "canary" not in served.text.lower()
    assert "@" not in served.text
    assert TOKEN.split(".")[0] not in served.text
    assert not re.search(r"eyJ[A-Za-z0-9_-]{8,}", served.text)  # how a JWT begins
    for organisation in ORGANISATIONS:
        assert organisation not in served.text
    for settings in (source.settings for source in door.office.settings.sources.values()):
        for name in (
            "token",
            "client_secret",
            "api_token",
            "secret_access_key",
            "access_key_id",
            "refresh_token",
        ):
            secret = getattr(settings, name, None)
            assert not secret or secret not in served.text, name
    world = door.world
    amounts = {str(invoice.total) for invoice in (*world.invoices, *world.bills) if invoice.total >= 100}
    assert len(amounts) > 50
    assert {amount for amount in amounts if amount in served.text} == set()


def test_of_records_only_those_that_were_dropped_are_named(served: Served) -> None:
    world = served.company.door.world
    own = {one for account in world.accounts for one in (account.hubspot_id, account.xero_contact_id) if one}
    naming = {line["event"] for line in served.lines for one in own if f'"{one}"' in json.dumps(line)}
    assert naming <= {"record_dropped"}
    (dropped,) = [line for line in served.of("malformed") if line["event"] == "record_dropped"]
    assert (dropped["source"], dropped["kind"]) == ("hubspot", "account")
    assert dropped["id"] in own


# -- what an operator follows ------------------------------------------------------------------------------------------


def test_every_line_says_when_how_grave_and_what(served: Served) -> None:
    for line in served.lines:
        assert {"event", "level", "timestamp"} <= line.keys(), line
        assert line["level"] in ("info", "warning", "error")
    for line in served.lines:
        if line["event"] in ("request", "source_error", "record_dropped"):
            assert line["request_id"], line


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        ("page", "info", {"route": "/graphql", "status": 200, "kind": "query", "outcome": "ok"}),
        ("accept", "info", {"kind": "mutation", "outcome": "refused"}),
        (
            "unknown field",
            "info",
            {"kind": "query", "outcome": "refused", "codes": ["BAD_USER_INPUT"], "sources": []},
        ),
        ("token", "info", {"route": "/graphql", "status": 401}),
        ("fail", "warning", {"kind": "query", "sources": ["hubspot"], "codes": ["SOURCE_UNAVAILABLE"]}),
        ("hang", "warning", {"codes": ["SOURCE_TIMEOUT"]}),
    ],
)
def test_a_request_has_one_line_that_says_how_it_ended(
    served: Served, name: str, level: str, expected: dict[str, Any]
) -> None:
    (line,) = [line for line in served.of(name) if line["event"] == "request"]
    assert {key: line.get(key) for key in expected} == expected
    assert (line["level"], line["milliseconds"] > 0) in ((level, True), ("warning", True))


def test_why_a_source_failed_stands_in_a_line_of_the_same_request(served: Served) -> None:
    said = [line for line in served.of("fail") if line["event"] == "source_error"]
    assert said
    assert {(line["source"], line["code"]) for line in said} == {("hubspot", "SOURCE_UNAVAILABLE")}


def test_operations_on_sockets_and_events_have_lines_of_their_own(served: Served) -> None:
    lines = [line for line in served.lines if line["event"] == "request" and "route" not in line]
    assert {(line["kind"], line["outcome"]) for line in lines} >= {
        ("query", "ok"),
        ("query", "refused"),
        ("subscription", "ok"),
    }
    assert len({line["request_id"] for line in lines}) >= 3


# -- how much is written -----------------------------------------------------------------------------------------------

SCRIPT = """
import asyncio, logging, sys
import structlog
from gateway.settings import Logging
from gateway.telemetry import configure

configure(Logging(level=sys.argv[1]))
log = structlog.get_logger()
log.info("quiet")
try:
    try:
        int("canary-value-x")
    except ValueError as error:
        raise KeyError("canary-key-x") from error
except KeyError as error:
    log.error("broken", exc_info=error)

async def lost():
    raise RuntimeError("canary-lost-x")

async def main():
    task = asyncio.create_task(lost(), name="canary-task-x")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task

asyncio.run(main())
logging.getLogger("somebody.elses").warning("tells\\ncanary-second-x")
logging.getLogger("uvicorn.error").error('%s - "WebSocket %s" 403', "canary-address-x", "/graphql?canary-query-x")
"""


@pytest.mark.parametrize(("level", "events"), [("info", ["quiet"]), ("warning", []), ("error", [])])
def test_of_an_exception_its_type_and_place_are_written_and_never_its_words(
    level: str, events: list[str]
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, level],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert "canary" not in ran.stderr
    told = ["tells"] if level != "error" else []
    assert [line["event"] for line in lines] == [
        *events,
        "broken",
        "Task exception was never retrieved",
        *told,
    ]
    (broken,) = [line for line in lines if line["event"] == "broken"]
    assert [one["type"] for one in broken["exception"]] == ["builtins.KeyError", "builtins.ValueError"]
    assert all(re.search(r":\d+ <module>$", one["at"][-1]) for one in broken["exception"])


@pytest.mark.parametrize(
    "wrong", [{"requests": "some"}, {"level": "debug"}, {"slow_seconds": 0}, {"format": "text"}]
)
def test_other_words_are_no_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Logging)
