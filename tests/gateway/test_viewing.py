"""Staff view as a member: what they see, what they cannot do, whose it is, and when it is over."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from gateway.demo import save_members
from gateway.signin.viewing import seen
from permissions.scopes import SCOPES
from resolvers.vocabulary import node_id
from sources.ledger.viewings import MOST
from sources.ports.common import Ref
from sources.ports.members import Granting
from sources.ports.viewings import ViewingRecord
from sources.sandbox.world import World
from tests.browser import PUBLIC, Browser
from tests.conftest import fresh_database
from tests.door import Answer, Door, open_door
from tests.streams.client import connected, nothing_left_open, signed_in

START = """mutation($input: StartViewingInput!) { startViewing(input: $input) {
  viewing { id reason expiresAt endedAt memberId organisationId } operation { repeated }
  userErrors { code field message } } }"""
END = """mutation($input: EndViewingInput!) { endViewing(input: $input) {
  viewing { id endedAt } userErrors { code } } }"""
WHO = """{ viewer { id name roles scopes organisation { id } organisations { id } member { id }
  viewing { id reason expiresAt } viewedBy { id name } } }"""
ACCOUNTS = "{ accounts { nodes { name } } }"
WHY = "ticket 4711: cannot find an invoice"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(world: World, postgres: str) -> AsyncIterator[Door]:
    """A gateway whose members are in the ledger, with browser sessions."""
    async with (
        fresh_database(postgres) as url,
        open_door(world, url, membership="ledger", public_url=PUBLIC) as opened,
    ):
        yield opened


@pytest_asyncio.fixture
async def door(running: Door) -> AsyncIterator[Door]:
    """With all members as at first, and nothing left open after the test."""
    yield running
    await nothing_left_open(running)
    await sql(running, "DELETE FROM viewings")
    await save_members(running.office.ledger, running.issuer.url, running.issuer.personas)


async def member_id(door: Door, persona: str) -> str:
    answer = await door.ask(persona, "{ viewer { member { id } } }")
    found: str = answer.data["viewer"]["member"]["id"]
    return found


async def start(door: Door, persona: str, staff: str = "support", **given: Any) -> dict[str, Any]:
    """The payload of starting to view as this persona."""
    asked = {
        "idempotencyKey": uuid4().hex,
        "memberId": await member_id(door, persona),
        "reason": WHY,
        **given,
    }
    answer = await door.ask(staff, START, {"input": asked})
    payload: dict[str, Any] = answer.data["startViewing"]
    return payload


async def viewing(door: Door, persona: str, staff: str = "support", **given: Any) -> str:
    """The id of a viewing that runs."""
    payload = await start(door, persona, staff, **given)
    assert payload["userErrors"] == []
    id_: str = payload["viewing"]["id"]
    return id_


async def ask(door: Door, id_: str, query: str, staff: str = "support", **more: Any) -> Answer:
    """As the member of staff, viewing."""
    return await door.ask(staff, query, headers={"X-View-As": id_}, **more)


def refused(answer: Answer) -> Mapping[str, Any]:
    """What a request reads whose viewing is none."""
    assert answer.status == 403
    assert answer.errors[0]["extensions"]["code"] == "FORBIDDEN"
    return answer.body


async def test_staff_see_what_the_member_sees_and_it_says_so(door: Door) -> None:
    payload = await start(door, "finance-harbour", minutes=10)
    id_ = payload["viewing"]["id"]
    own = (await door.ask("finance-harbour", WHO)).data["viewer"]
    shown = (await ask(door, id_, WHO)).data["viewer"]

    assert shown["id"] == own["id"]
    assert (shown["name"], shown["roles"]) == (own["name"], ["finance"])
    assert (shown["organisation"], shown["organisations"]) == (own["organisation"], own["organisations"])
    assert shown["member"] == own["member"] == {"id": payload["viewing"]["memberId"]}
    assert shown["viewing"] == {"id": id_, "reason": WHY, "expiresAt": payload["viewing"]["expiresAt"]}
    assert shown["viewedBy"] == {"id": f"{door.issuer.url}|support", "name": "Sam Support"}
    assert own["viewing"] is None
    assert own["viewedBy"] is None
    ends = datetime.fromisoformat(payload["viewing"]["expiresAt"])
    assert timedelta(minutes=9) < ends - datetime.now(UTC) <= timedelta(minutes=10)


async def test_of_other_customers_nothing_is_seen(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    by_member = await door.ask("owner-harbour", ACCOUNTS)
    shown = await ask(door, id_, ACCOUNTS)
    foreign = await ask(
        door, id_, "query($id: ID!) { account(id: $id) { name } }", variables={"id": door.account_id(1)}
    )

    assert shown.data == by_member.data
    assert foreign.codes() == [("account", "NOT_FOUND")]
    assert len((await door.ask("support", ACCOUNTS)).data["accounts"]["nodes"]) > 1


async def test_the_members_roles_are_what_they_are_now(door: Door) -> None:
    id_ = await viewing(door, "standard-harbour")
    tickets, invoices = (
        "{ viewer { account { tickets { nodes { id } } } } }",
        "{ viewer { account { invoices { nodes { id } } } } }",
    )
    assert (await ask(door, id_, tickets)).codes() == []
    assert ("viewer.account.invoices", "FORBIDDEN") in (await ask(door, id_, invoices)).codes()

    await set_roles(door, "standard-harbour", "finance")

    assert ("viewer.account.tickets", "FORBIDDEN") in (await ask(door, id_, tickets)).codes()
    assert (await ask(door, id_, invoices)).codes() == []


async def test_nothing_that_changes_anything_is_held_while_viewing(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    scopes = (await ask(door, id_, "{ viewer { scopes } }")).data["viewer"]["scopes"]

    assert scopes
    assert [one for one in scopes if one.startswith(("audit:", "keys:"))] == []
    assert [one for one in scopes if not one.endswith(":read")] == []
    assert all(one.endswith((":read", ":all", ":view-as", ":drafts", ":internal")) for one in seen(SCOPES))


async def test_never_more_is_seen_than_the_member_of_staff_may_see(door: Door) -> None:
    """A role of staff that lacks what the member holds."""
    limited = door.issuer.token("support", roles=["finance-staff"])
    id_ = await viewing(door, "owner-harbour")

    # Without accounts:view-as there is no viewing at all.
    refused(await door.ask(None, WHO, token=limited, headers={"X-View-As": id_}))
    support = door.office.roles.scopes_of(["support"])
    scopes = (await ask(door, id_, "{ viewer { scopes } }")).data["viewer"]["scopes"]
    assert set(scopes) <= support & door.office.roles.scopes_of(["owner"])


@pytest.mark.parametrize(
    "mutation",
    [
        'mutation { leaveOrganisation(input: {idempotencyKey: "a"}) { userErrors { code } } }',
        'mutation { endViewing(input: {idempotencyKey: "a", viewingId: "x"}) { userErrors { code } } }',
        'mutation { startViewing(input: {idempotencyKey: "a", memberId: "x", reason: "y"}) { userErrors { code } } }',
        'mutation { acceptInvitation(input: {idempotencyKey: "a", secret: "x"}) { userErrors { code } } }',
    ],
)
async def test_every_mutation_is_refused_while_viewing(door: Door, mutation: str) -> None:
    id_ = await viewing(door, "owner-harbour")
    answer = await ask(door, id_, mutation)

    assert [error["extensions"]["code"] for error in answer.errors] == ["FORBIDDEN"]
    assert "viewing" in answer.errors[0]["message"]
    assert (await door.ask("owner-harbour", "{ viewer { member { state } } }")).data["viewer"]["member"] == {
        "state": "ACTIVE"
    }


async def test_a_mutation_over_a_socket_is_refused_while_viewing(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    leave = 'mutation { leaveOrganisation(input: {idempotencyKey: "a"}) { userErrors { code } } }'
    async with signed_in(door, "support", viewAs=id_) as socket:
        await socket.subscribe(leave)

        assert (await socket.hear())["payload"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_what_is_no_viewing_of_ones_own_reads_the_same(door: Door) -> None:
    foreign = await viewing(door, "owner-harbour", "admin")
    ended = await viewing(door, "owner-harbour")
    await door.ask("support", END, {"input": {"idempotencyKey": uuid4().hex, "viewingId": ended}})
    expired = await viewing(door, "owner-harbour")
    await expire(door, expired)
    bodies = [refused(await ask(door, id_, WHO)) for id_ in (foreign, ended, expired, "nonsense", "")]

    assert all(body == bodies[0] for body in bodies)
    assert (await ask(door, foreign, WHO, "admin")).data["viewer"]["viewing"]["id"] == foreign


@pytest.mark.parametrize("persona", ["owner-harbour", "owner-moeller", "finance-harbour", "newcomer"])
async def test_a_customer_cannot_use_a_viewing_of_staff(door: Door, persona: str) -> None:
    id_ = await viewing(door, "owner-harbour")

    refused(await ask(door, id_, WHO, persona))


async def test_without_credentials_an_id_is_worth_nothing(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")

    assert (await door.ask(None, WHO, headers={"X-View-As": id_})).status == 401


async def test_two_headers_are_refused(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    headers = [
        ("Authorization", f"Bearer {door.issuer.token('support')}"),
        ("X-View-As", id_),
        ("X-View-As", ""),
    ]
    async with door.session.post(f"{door.url}/graphql", json={"query": WHO}, headers=headers) as response:
        assert response.status == 400


async def test_a_viewing_ends_when_the_member_is_removed(door: Door) -> None:
    id_ = await viewing(door, "finance-harbour")
    assert (await ask(door, id_, WHO)).status == 200
    await remove(door, "finance-harbour")

    refused(await ask(door, id_, WHO))


async def test_ending_is_for_whoever_started_and_may_be_done_again(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    given = {"idempotencyKey": uuid4().hex, "viewingId": id_}
    by_another = await door.ask("admin", END, {"input": given})
    first = await door.ask("support", END, {"input": given})
    again = await door.ask("support", END, {"input": {**given, "idempotencyKey": uuid4().hex}})

    assert by_another.data["endViewing"]["userErrors"] == [{"code": "NOT_FOUND"}]
    assert first.data["endViewing"]["userErrors"] == []
    assert first.data["endViewing"]["viewing"]["endedAt"] is not None
    assert again.data == first.data


@pytest.mark.parametrize("persona", ["owner-harbour", "read-only-moeller", "newcomer"])
async def test_customers_start_no_viewing(door: Door, persona: str) -> None:
    given = {"idempotencyKey": uuid4().hex, "memberId": await member_id(door, "owner-harbour"), "reason": WHY}
    answer = await door.ask(persona, START, {"input": given})

    assert answer.codes() == [("startViewing", "FORBIDDEN")]


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"reason": "  "}, "INVALID", ["reason"]),
        ({"reason": "x" * 501}, "INVALID", ["reason"]),
        ({"reason": "a\0b"}, "INVALID", ["reason"]),
        ({"minutes": 0}, "INVALID", ["minutes"]),
        ({"minutes": 61}, "INVALID", ["minutes"]),
        ({"memberId": "nobody"}, "NOT_FOUND", ["memberId"]),
        ({"memberId": None}, "INVALID", ["memberId"]),
        ({"organisationId": "harbour", "roles": ["owner"]}, "INVALID", ["memberId"]),
    ],
)
async def test_what_cannot_be_viewed_is_said_so(
    door: Door, given: dict[str, Any], code: str, field: list[str]
) -> None:
    payload = await start(door, "owner-harbour", **given)

    assert payload["viewing"] is None
    assert [(error["code"], error["field"]) for error in payload["userErrors"]] == [(code, field)]


async def test_who_views_is_not_told_how_an_operation_ran(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    headers = {"Authorization": f"Bearer {door.issuer.token('support')}"}
    body = {"query": "{ viewer { id } }", "extensions": {"xray": True}}
    told = []
    for more in ({}, {"X-View-As": id_}):
        async with door.session.post(f"{door.url}/graphql", json=body, headers=headers | more) as response:
            told.append((await response.json())["extensions"]["xray"])
    assert told[0]["spans"]
    assert told[1] == {"refused": "needs xray:read"}


async def test_so_many_run_at_a_time(door: Door) -> None:
    member = await member_id(door, "owner-harbour")
    payloads = [await start(door, "owner-harbour", memberId=member) for _ in range(MOST + 1)]

    assert [one["code"] for payload in payloads for one in payload["userErrors"]] == ["TOO_MANY"]


async def test_starting_again_under_the_same_key_is_the_same_viewing(door: Door) -> None:
    given = {"idempotencyKey": uuid4().hex}
    first, again = await start(door, "owner-harbour", **given), await start(door, "owner-harbour", **given)

    assert again["viewing"] == first["viewing"]
    assert again["operation"] == {"repeated": True}


async def test_links_to_files_work_in_their_own_viewing_alone(door: Door) -> None:
    id_, other = await viewing(door, "owner-harbour"), await viewing(door, "owner-harbour")
    query = "{ viewer { account { invoices(first: 1) { nodes { pdf { url } } } } } }"
    answer = await ask(door, id_, query)
    url = answer.data["viewer"]["account"]["invoices"]["nodes"][0]["pdf"]["url"].removeprefix(PUBLIC)

    assert (await door.fetch("support", url, **{"X-View-As": id_}))[0] == 200
    assert (await door.fetch("support", url, **{"X-View-As": other}))[0] == 404
    assert (await door.fetch("support", url))[0] == 404
    assert (await door.fetch("owner-harbour", url))[0] == 404
    await door.ask("support", END, {"input": {"idempotencyKey": uuid4().hex, "viewingId": id_}})
    assert (await door.fetch("support", url, **{"X-View-As": id_}))[0] == 403


async def test_a_viewing_belongs_to_the_session_that_it_was_started_in(door: Door) -> None:
    browser = Browser(door.url, door.session)
    await browser.sign_in("support")
    given = {"idempotencyKey": uuid4().hex, "memberId": await member_id(door, "owner-harbour"), "reason": WHY}
    answer = await browser.call("POST", "/graphql", {"query": START, "variables": {"input": given}})
    id_ = answer.data["startViewing"]["viewing"]["id"]
    assert (await browser.ask(WHO, **{"X-View-As": id_})).data["viewer"]["roles"] == ["owner"]

    refused(await ask(door, id_, WHO))  # the same person by a bearer token
    await browser.call("POST", "/session/sign-out", {})
    await browser.sign_in("support")
    refused(await browser.ask(WHO, **{"X-View-As": id_}))


async def test_owners_read_that_staff_viewed_and_what_they_saw(door: Door) -> None:
    id_ = await viewing(door, "finance-harbour")
    seen_name = f"Seen{uuid4().hex}"
    await ask(door, id_, f"query {seen_name} {{ viewer {{ account {{ name }} }} }}")
    log = """{ auditLog(first: 50) { nodes {
      name coordinates records viewedBy organisation principal { identity staff } } } }"""

    async def entries(persona: str) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = (await door.ask(persona, log)).data["auditLog"]["nodes"]
        return nodes

    async with asyncio.timeout(30):
        while not any(one["name"] == seen_name for one in await entries("owner-harbour")):
            await asyncio.sleep(0.05)
    ours = await entries("owner-harbour")
    began = next(one for one in ours if "Mutation.startViewing" in one["coordinates"])
    looked = next(one for one in ours if one["name"] == seen_name)

    assert began["principal"]["staff"] is True
    record = node_id("Viewing", Ref("ledger", id_))
    assert record in began["records"]
    assert looked["viewedBy"] == f"{door.issuer.url}|support"
    assert looked["principal"]["identity"] == f"{door.issuer.url}|finance-harbour"
    assert looked["organisation"] == "harbour"
    theirs = await entries("owner-moeller")
    assert not any(one["name"] == seen_name or record in one["records"] for one in theirs)


# -- over sockets -------------------------------------------------------------------------------------------------------


async def test_a_socket_that_views_closes_when_the_viewing_ends(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    async with signed_in(door, "support", viewAs=id_) as socket:
        await socket.subscribe("subscription { viewer { viewing { id } viewedBy { name } } }")
        told = (await socket.told())["data"]["viewer"]
        assert told == {"viewing": {"id": id_}, "viewedBy": {"name": "Sam Support"}}
        await door.ask("support", END, {"input": {"idempotencyKey": uuid4().hex, "viewingId": id_}})

        assert (await socket.closed())[0] == 4403


async def test_a_socket_that_views_closes_when_the_member_is_removed(door: Door) -> None:
    id_ = await viewing(door, "finance-harbour")
    async with signed_in(door, "support", viewAs=id_) as socket:
        await remove(door, "finance-harbour")

        assert (await socket.closed())[0] == 4403


async def test_a_socket_that_views_closes_when_the_viewing_expires(door: Door) -> None:
    now = datetime.now(UTC)
    short = ViewingRecord(
        id=uuid4().hex,
        staff=f"{door.issuer.url}|support",
        organisation="harbour",
        member=await member_id(door, "owner-harbour"),
        reason=WHY,
        created_at=now,
        expires_at=now + timedelta(seconds=4),
    )
    await door.office.ledger.viewings.begin(short)
    async with signed_in(door, "support", viewAs=short.id) as socket:
        assert (await socket.closed())[0] == 4403
    assert datetime.now(UTC) >= short.expires_at


async def test_a_socket_that_views_closes_when_the_staffs_token_expires(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour")
    token = door.issuer.token("support", exp=int(time.time()) + 4)
    async with signed_in(door, token=token, viewAs=id_) as socket:
        assert (await socket.closed())[0] == 4401


async def test_another_persons_viewing_opens_no_socket(door: Door) -> None:
    id_ = await viewing(door, "owner-harbour", "admin")
    async with connected(door) as socket:
        token = door.issuer.token("support")
        await socket.say("connection_init", payload={"authorization": f"Bearer {token}", "viewAs": id_})

        assert (await socket.closed())[0] == 4403


# -- where membership comes from claims ---------------------------------------------------------------------------------


async def test_where_claims_say_who_is_a_member_a_role_of_an_organisation_is_viewed(
    world: World, postgres: str
) -> None:
    async with fresh_database(postgres) as url, open_door(world, url) as door:

        async def started(**given: Any) -> dict[str, Any]:
            asked = {"idempotencyKey": uuid4().hex, "reason": WHY, **given}
            answer = await door.ask("support", START, {"input": asked})
            payload: dict[str, Any] = answer.data["startViewing"]
            return payload

        payload = await started(organisationId="moeller", roles=["standard"])
        shown = (await ask(door, payload["viewing"]["id"], WHO)).data["viewer"]
        wrong = [
            await started(organisationId="nowhere", roles=["standard"]),
            await started(organisationId="moeller", roles=["admin"]),
            await started(organisationId="moeller"),
            await started(memberId="x"),
        ]

        assert (shown["roles"], shown["organisation"]) == (["standard"], {"id": "moeller"})
        assert (shown["name"], shown["member"]) == (None, None)
        assert shown["viewedBy"]["name"] == "Sam Support"
        assert "invoices:read" not in shown["scopes"]
        assert [one["userErrors"][0]["code"] for one in wrong] == [
            "NOT_FOUND",
            "UNKNOWN_ROLE",
            "INVALID",
            "INVALID",
        ]


# -- helpers ------------------------------------------------------------------------------------------------------------


def granting(door: Door) -> Granting:
    roles = door.office.roles
    return Granting(by="test", owner=roles.owner, roles=frozenset(roles.of_customers))


async def remove(door: Door, persona: str) -> None:
    id_ = await member_id(door, persona)
    (found,) = await door.office.ledger.members.members([id_])
    assert found is not None
    await door.office.ledger.members.remove(found.organisation, id_, granting(door))


async def set_roles(door: Door, persona: str, *roles: str) -> None:
    id_ = await member_id(door, persona)
    (found,) = await door.office.ledger.members.members([id_])
    assert found is not None
    await door.office.ledger.members.change_roles(found.organisation, id_, roles, granting(door))


async def expire(door: Door, id_: str) -> None:
    """Its time is over, as if it had been started long ago."""
    await sql(
        door,
        "UPDATE viewings SET expires_at = clock_timestamp() - interval '1 second' WHERE id = :id",
        id=id_,
    )


async def sql(door: Door, statement: str, **given: str) -> None:
    async with door.office.ledger._database.writing() as connection:
        await connection.execute(text(statement), given)
