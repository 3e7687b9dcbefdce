"""Zendesk seen by others: its community client reads the emulator, and its API description judges every call."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import requests
import trustme
import zenpy
from aiohttp import ClientSession
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from zenpy.lib.exception import APIException, RecordNotFoundException

from sources.ports.common import Criterion, Direction, Ref, Window
from sources.ports.helpdesk import ArticleQuery, CommentQuery, TicketOrder, TicketQuery, TicketStatus
from sources.sandbox.server import Call, Certificate, ServerThread, serve
from sources.sandbox.world import World
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.zendesk import sandbox as emulator
from sources.vendors.zendesk.helpdesk import connect

UNDESCRIBED = {
    "/api/v2/users/me": "the description has users by number only",
    "/api/v2/organizations/{id}/tickets": "left out of the published description",
    "/api/v2/help_center/articles/search": "the help centre has no published description",
    "/attachments/token/{token}/": "a file, not part of the API",
}
"""What the emulator serves although the description does not know it, and why."""

PAGING = {"page", "per_page", "page[size]", "page[after]"}
"""Said in the description's text, not among its parameters."""

AROUND_A_LIST = {"count", "next_page", "previous_page", "meta", "links", "users"}
"""The same: how lists are paged, and the users that ``include=users`` adds."""


# The vendor's community client


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Path]:
    """The client speaks TLS only. With the authority's file that makes it trust the emulator."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "certificate.pem", append=True)
    return Certificate(folder / "certificate.pem", folder / "key.pem"), folder / "authority.pem"


@pytest.fixture(scope="module")
def client(world: World, certificate: tuple[Certificate, Path]) -> Iterator[zenpy.Zenpy]:
    files, authority = certificate
    sandbox = emulator.sandbox(world, calls_per_minute=None, exports_per_minute=None)
    with ServerThread(sandbox, ssl=files) as running:
        yield zenpy_for(running.port, authority, email=emulator.AGENT, token=emulator.API_TOKEN)


def zenpy_for(port: int, authority: Path, **credentials: str) -> zenpy.Zenpy:
    session = requests.Session()
    session.verify = str(authority)
    session.trust_env = False
    # The client builds https://{subdomain}.{domain}.
    return zenpy.Zenpy(
        subdomain="127", domain=f"0.0.1:{port}", session=session, disable_cache=True, **credentials
    )


def test_the_client_reads_many_tickets(client: zenpy.Zenpy, world: World) -> None:
    truth = world.tickets[:30]
    found = client.tickets(ids=[ticket.id for ticket in truth])
    assert [(ticket.id, ticket.subject, ticket.status, ticket.organization_id) for ticket in found] == [
        (ticket.id, ticket.subject, ticket.status, ticket.zendesk_org_id) for ticket in truth
    ]


def test_the_client_reads_a_ticket_and_is_told_of_a_missing_one(client: zenpy.Zenpy, world: World) -> None:
    truth = world.tickets[5]
    assert client.tickets(id=truth.id).created == truth.created_at
    with pytest.raises(RecordNotFoundException):
        client.tickets(id=42)


def test_the_client_reads_comments_and_who_wrote_them(client: zenpy.Zenpy, world: World) -> None:
    truth = max(world.tickets, key=lambda ticket: len(ticket.comments))
    found = list(client.tickets.comments(ticket=truth.id))
    assert [(comment.id, comment.public, comment.plain_body) for comment in found] == [
        (comment.id, comment.public, comment.body) for comment in truth.comments
    ]
    assert client.users(id=truth.comments[0].author_id).name == truth.comments[0].author_name


def test_the_client_searches_with_repeated_keywords_as_any_of(client: zenpy.Zenpy, world: World) -> None:
    organisations = [world.accounts[index].zendesk_org_id for index in (0, 1)]
    since = world.tickets_by_account[0][-1].created_at - timedelta(days=200)
    until = since + timedelta(days=150)
    found = client.search(
        type="ticket",
        organization=organisations,
        status_less_than="closed",
        created_between=[since.replace(tzinfo=None), until.replace(tzinfo=None)],
        sort_by="created_at",
        sort_order="asc",
    )
    assert [ticket.id for ticket in found] == [
        ticket.id
        for ticket in sorted(world.tickets, key=lambda ticket: ticket.created_at)
        if ticket.zendesk_org_id in organisations
        and ticket.status != "closed"
        and since < ticket.created_at < until
    ]


def test_the_client_counts_hits(client: zenpy.Zenpy, world: World) -> None:
    count = client.search.count(type="ticket", priority="urgent", minus="status:closed")
    assert count == sum(ticket.priority == "urgent" and ticket.status != "closed" for ticket in world.tickets)


def test_the_client_is_stopped_after_1_000_hits(client: zenpy.Zenpy) -> None:
    assert len(client.search(type="ticket")) > 1000
    assert len(list(client.search(type="ticket"))) == 1000


def test_the_client_is_refused_an_export_that_names_its_type_twice(client: zenpy.Zenpy) -> None:
    """As the description says; the client puts the type into the query as well."""
    with pytest.raises(APIException, match="filter\\[type\\]"):
        list(client.search_export(type="ticket"))


def test_the_client_reads_organisations_in_each_way(client: zenpy.Zenpy, world: World) -> None:
    account = world.accounts[0]
    assert client.organizations(id=account.zendesk_org_id).name == account.helpdesk_name
    by_external_id = client.organizations(external_ids=[account.zendesk_external_id])
    assert [organisation.id for organisation in by_external_id] == [account.zendesk_org_id]
    everyone = {
        *(account.zendesk_org_id for account in world.accounts if account.zendesk_org_id),
        *(duplicate.zendesk_org_id for duplicate in world.duplicate_organisations),
    }
    assert {organisation.id for organisation in client.organizations()} == everyone
    by_cursor = client.organizations(cursor_pagination=50)
    assert {organisation.id for organisation in by_cursor} == everyone


def test_the_client_reads_an_organisations_tickets(client: zenpy.Zenpy, world: World) -> None:
    organisation = world.accounts[1].zendesk_org_id
    assert organisation is not None
    found = {ticket.id for ticket in client.tickets.organizations(organisation)}
    assert found == {ticket.id for ticket in world.tickets_by_zendesk_org[organisation]}


def test_the_client_downloads_an_attachment(client: zenpy.Zenpy, world: World) -> None:
    truth = next(iter(world.attachments_by_id.values()))
    assert client.attachments.download(truth.id).getvalue() == truth.content


def test_the_client_searches_the_help_centre(client: zenpy.Zenpy, world: World) -> None:
    found = list(client.help_center.articles.search(query="invoice"))
    assert found
    assert {article.title for article in found} <= {article.title for article in world.articles}


def test_the_client_knows_who_it_is(client: zenpy.Zenpy) -> None:
    assert client.users.me().email == emulator.AGENT


def test_the_client_reads_refused_credentials(world: World, certificate: tuple[Certificate, Path]) -> None:
    files, authority = certificate
    with ServerThread(emulator.sandbox(world), ssl=files) as running:
        stranger = zenpy_for(running.port, authority, email=emulator.AGENT, token="wrong")
        with pytest.raises(APIException, match="authenticate") as refused:
            stranger.tickets(id=1)
        assert refused.value.response.status_code == 401
        bearer = zenpy_for(running.port, authority, oauth_token=emulator.ACCESS_TOKEN)
        assert bearer.users.me().role == "admin"


# The vendor's description


@pytest_asyncio.fixture(scope="module")
async def recorded(world: World) -> AsyncIterator[list[Call]]:
    """Everything that the connector asks for in its life, with what the emulator answered."""
    sandbox = emulator.sandbox(world, calls_per_minute=None, exports_per_minute=None, record_bodies=True)
    async with serve(sandbox) as running:
        port = connect(
            emulator.settings_for(running.url), Wiring(tokens=None, network=Network(guarded=False))
        )  # type: ignore[arg-type]
        customers = [
            Ref("zendesk", str(account.zendesk_org_id))
            for account in world.accounts[:30]
            if account.zendesk_org_id
        ]
        tickets = [Ref("zendesk", str(ticket.id)) for ticket in world.tickets[:40]]
        await port.probe()
        await port.customers(customers)
        await port.customers_by(Criterion.EXTERNAL_ID, ["C-10001", "C-10002"])
        await port.customers_by(Criterion.EMAIL_DOMAIN, ["harbourvale.example"])
        await port.tickets([*tickets, Ref("zendesk", "42")])
        for order in TicketOrder:
            for direction in Direction:
                for window in (Window(first=10), Window(last=10)):
                    query = TicketQuery(
                        window, statuses=(TicketStatus.OPEN,), order=order, direction=direction, text="wrong"
                    )
                    await port.tickets_of(customers[:1], query)
                    await port.tickets_of(customers, query)
        await port.open_counts_of(customers)
        await port.open_counts_of(customers[:1])
        await port.comments_of([*tickets, Ref("zendesk", "42")], CommentQuery(Window(first=5)))
        await port.search_articles(ArticleQuery("invoice", Window(first=5)))
        attachment, ticket = next(
            (attachment, ticket)
            for ticket in world.tickets
            for comment in ticket.comments
            for attachment in comment.attachments
        )
        await port.attachment(Ref("zendesk", str(ticket.id)), str(attachment.id), True)
        await port.close()
        for path in ("/api/v2/users/show_many?ids=7000000000", f"/api/v2/attachments/{attachment.id}"):
            await fetch(running.url + path)
    yield sandbox.log.calls()


async def fetch(url: str) -> None:
    """What the emulator serves beyond the connector's needs."""
    headers = {"Authorization": f"Bearer {emulator.ACCESS_TOKEN}"}
    async with ClientSession(headers=headers) as session, session.get(url) as response:
        assert response.status == 200


@pytest.fixture(scope="module")
def description(specs: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((specs / "zendesk-support.json").read_text())
    return document


def template_of(path: str, description: dict[str, Any]) -> str | None:
    """The description's path for a real one; a fixed path goes before one with a number in it."""
    path = path.removesuffix(".json")
    if path in description["paths"]:
        return path
    for template in description["paths"]:
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[0-9]+", template), path):
            return template
    return None


def described(call: Call, description: dict[str, Any]) -> dict[str, Any] | None:
    template = template_of(call.path, description)
    return description["paths"][template] if template else None


def resolved(node: dict[str, Any], description: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = description
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def without_nulls(document: Any) -> Any:
    """The description forgets that null is sent for whatever is empty (fact sheet, data traps)."""
    if isinstance(document, dict):
        return {key: without_nulls(value) for key, value in document.items() if value is not None}
    if isinstance(document, list):
        return [without_nulls(value) for value in document]
    return document


def test_only_listed_paths_are_missing_from_the_description(
    recorded: list[Call], description: dict[str, Any]
) -> None:
    missing = {call.path for call in recorded if described(call, description) is None}
    known = [re.sub(r"\{[^}]+\}", "[^/]+", path) for path in UNDESCRIBED]
    assert [path for path in missing if not any(re.fullmatch(pattern, path) for pattern in known)] == []


def test_every_request_is_one_that_the_description_knows(
    recorded: list[Call], description: dict[str, Any]
) -> None:
    for call in recorded:
        path = described(call, description)
        if path is None:
            continue
        assert call.method == "GET"
        parameters = [
            resolved(parameter, description)
            for parameter in [*path.get("parameters", []), *path["get"].get("parameters", [])]
        ]
        names = {parameter["name"]: parameter for parameter in parameters if parameter["in"] == "query"}
        assert set(call.params) <= {*names, *PAGING}, call.path
        assert {name for name, parameter in names.items() if parameter.get("required")} <= set(call.params)
        assert len(call.query) == len(call.params), "a parameter was sent twice"
        for name, value in call.query:
            if names.get(name, {}).get("schema", {}).get("type") == "integer":
                assert value.isdecimal(), name


def test_every_answer_fits_the_description(recorded: list[Call], description: dict[str, Any]) -> None:
    registry: Registry[Any] = Registry().with_resource(
        "urn:zendesk", Resource(contents=description, specification=DRAFT202012)
    )
    checked: set[str] = set()
    for call in recorded:
        path = described(call, description)
        if path is None or call.status != 200:
            continue
        assert not call.truncated
        schema = path["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:zendesk#/'))
        document = json.loads(call.response_body)
        OAS30Validator(absolute, registry=registry).validate(without_nulls(document))
        declared = set(resolved(schema, description)["properties"])
        assert set(document) <= declared | AROUND_A_LIST, call.path
        checked.add(call.path)
    assert len(checked) > 30


@pytest.mark.parametrize(
    ("schema", "name", "undeclared"),
    [
        ("TicketObject", "tickets", set()),
        ("OrganizationObject", "organizations", set()),
        ("TicketCommentObject", "comments", set()),
    ],
)
def test_records_have_no_property_that_the_description_lacks(
    recorded: list[Call], description: dict[str, Any], schema: str, name: str, undeclared: set[str]
) -> None:
    declared = set(description["components"]["schemas"][schema]["properties"])
    sent: set[str] = set()
    for call in recorded:
        if call.path.startswith("/api/v2/") and call.status == 200:
            for record in json.loads(call.response_body).get(name, []):
                sent |= set(record)
    assert sent
    assert sent - declared == undeclared


def test_an_error_has_one_of_the_forms_of_the_vendor(recorded: list[Call]) -> None:
    refused = [json.loads(call.response_body) for call in recorded if call.status == 404]
    assert refused == [{"error": "RecordNotFound", "description": "Not found"}]


def test_moments_have_the_vendors_form(recorded: list[Call]) -> None:
    [call] = [call for call in recorded if call.path == "/api/v2/tickets/show_many"]
    for ticket in json.loads(call.response_body)["tickets"]:
        assert ticket["created_at"].endswith("Z")
        datetime.fromisoformat(ticket["created_at"])
    assert urlsplit(ticket["url"]).path.endswith(".json")
