"""What stays open ends when whoever opened it may no longer: sockets, event streams, and the subscriptions in them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio

from gateway.caller import news
from gateway.demo import save_members
from sources.ledger.book import Ledger
from sources.ledger.changes import Changes
from sources.ports.members import Granting, Invite, MemberRecord
from sources.sandbox.world import World
from tests.browser import PUBLIC, Browser
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.streams.client import Socket, connected, nothing_left_open, signed_in, streaming

WATCH = "subscription { viewer { roles organisation { id } organisations { id } } }"
MEMBERS = "subscription { members { kind member { name email roles } invitation { email } } }"
AT_ONCE = 15.0
"""Seconds within which a connection must end: three times what is promised, for a busy machine, and long before anybody
would be asked about anyway."""


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
    await save_members(running.office.ledger, running.issuer.url, running.issuer.personas)


async def member(door: Door, persona: str) -> MemberRecord:
    """Whom this persona is."""
    query = "{ viewer { member { id } } }"
    answer = await door.ask(persona, query)
    (found,) = await door.office.ledger.members.members([answer.data["viewer"]["member"]["id"]])
    assert found is not None
    return found


def granting(door: Door) -> Granting:
    """An operator's."""
    roles = door.office.roles
    return Granting(by="test", owner=roles.owner, roles=frozenset(roles.of_customers))


async def remove(door: Door, persona: str, ledger: Ledger | None = None) -> None:
    """Through another connection than the gateway's own where a ledger is given."""
    found = await member(door, persona)
    await (ledger or door.office.ledger).members.remove(found.organisation, found.id, granting(door))


async def change(door: Door, persona: str, *roles: str) -> None:
    """Gives the member other roles."""
    found = await member(door, persona)
    await door.office.ledger.members.change_roles(found.organisation, found.id, roles, granting(door))


async def asks(socket: Socket) -> dict[str, Any]:
    """What a query on this socket answers: it is open."""
    await socket.subscribe("{ viewer { roles } }", "asking")
    told = await socket.told("asking")
    assert (await socket.hear())["type"] == "complete"
    return told


async def test_a_removed_members_socket_closes_and_nobody_elses(door: Door) -> None:
    async with signed_in(door, "finance-harbour") as gone, signed_in(door, "finance-moeller") as stays:
        await gone.subscribe(WATCH)
        await gone.told()
        await remove(door, "finance-harbour")

        code, _ = await gone.closed(AT_ONCE)
        assert code == 4403
        assert (await asks(stays))["data"]["viewer"]["roles"] == ["finance"]


async def test_a_removed_members_event_stream_ends_and_says_why(door: Door) -> None:
    async with streaming(door, "finance-harbour", WATCH) as events:
        assert (await events.hear())[0] == "next"
        await remove(door, "finance-harbour")

        event, told = await events.hear()
        assert (event, told["errors"][0]["extensions"]["code"]) == ("next", "FORBIDDEN")
        assert await events.hear() == ("complete", None)
        assert await events.hear() == ("end", None)


async def test_what_another_process_removes_ends_as_well(door: Door, running: Door) -> None:
    other = await Ledger.open(door.office._database_url)
    async with signed_in(door, "finance-harbour") as gone:
        await remove(door, "finance-harbour", other)

        assert (await gone.closed(AT_ONCE))[0] == 4403
    await other.close()


async def test_a_caller_is_told_of_their_new_roles(door: Door) -> None:
    async with signed_in(door, "standard-harbour") as socket:
        await socket.subscribe(WATCH)
        assert (await socket.told())["data"]["viewer"]["roles"] == ["standard"]
        await change(door, "standard-harbour", "finance", "standard")

        assert sorted((await socket.told())["data"]["viewer"]["roles"]) == ["finance", "standard"]


async def test_a_subscription_ends_when_a_field_of_it_is_denied_from_now_on(door: Door) -> None:
    query = "subscription { viewer { roles account { tickets { nodes { subject } } } } }"
    async with signed_in(door, "standard-harbour") as socket:
        await socket.subscribe(query, "tickets")
        await socket.told("tickets")
        await change(door, "standard-harbour", "finance")

        refused = await socket.hear()
        assert (refused["id"], refused["type"]) == ("tickets", "error")
        assert [error["extensions"]["coordinate"] for error in refused["payload"]] == ["Account.tickets"]
        assert refused["payload"][0]["extensions"]["code"] == "FORBIDDEN"
        assert (await asks(socket))["data"]["viewer"]["roles"] == ["finance"]


async def test_members_are_told_of_to_their_own_organisation_alone(door: Door) -> None:
    async with signed_in(door, "owner-harbour") as ours, signed_in(door, "owner-moeller") as theirs:
        for socket in (ours, theirs):
            await socket.subscribe(MEMBERS)
            await asks(socket)
        # Each has looked for the first time before anything happens.
        await listening(door, 2)
        await change(door, "standard-harbour", "standard", "finance")

        told = (await ours.told())["data"]["members"]
        assert told["kind"] == "ROLES_CHANGED"
        assert told["member"]["roles"] == ["standard", "finance"]
        await remove(door, "standard-harbour")
        told = (await ours.told())["data"]["members"]
        assert (told["kind"], told["member"]["name"]) == ("REMOVED", (await name(door, "standard-harbour")))
        await change(door, "standard-moeller", "finance")
        first_heard = (await theirs.told())["data"]["members"]
        assert (first_heard["kind"], first_heard["member"]["roles"]) == ("ROLES_CHANGED", ["finance"])


async def test_invitations_and_joining_are_told_of(door: Door) -> None:
    accept = """mutation($input: AcceptInvitationInput!) {
      acceptInvitation(input: $input) { userErrors { message } } }"""
    async with signed_in(door, "owner-harbour") as socket:
        await socket.subscribe(MEMBERS)
        await listening(door, 1)
        expiry = datetime.now(UTC) + timedelta(days=1)
        invite = Invite("nina@harbour.example", ("standard",), expiry)
        _, secret = await door.office.ledger.members.invite("harbour", invite, granting(door))

        told = (await socket.told())["data"]["members"]
        assert (told["kind"], told["invitation"]["email"]) == ("INVITED", "nina@harbour.example")
        given = {"idempotencyKey": uuid4().hex, "secret": secret}
        answer = await door.ask("newcomer", accept, {"input": given})
        assert answer.data["acceptInvitation"]["userErrors"] == []
        told = (await socket.told())["data"]["members"]
        assert (told["kind"], told["member"]["name"]) == ("JOINED", await name(door, "newcomer"))


async def test_a_revoked_keys_socket_closes(door: Door) -> None:
    account = """mutation($input: CreateServiceAccountInput!) { createServiceAccount(input: $input) {
      serviceAccount { id } userErrors { message } } }"""
    key = """mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) {
      apiKey { id } secret userErrors { message } } }"""
    revoke = "mutation($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { userErrors { message } } }"
    given = {"idempotencyKey": uuid4().hex, "name": "till", "scopes": ["accounts:read"]}
    made = (await door.ask("owner-harbour", account, {"input": given})).data["createServiceAccount"]
    given = {"idempotencyKey": uuid4().hex, "name": "k", "serviceAccountId": made["serviceAccount"]["id"]}
    new = (await door.ask("owner-harbour", key, {"input": given})).data["createApiKey"]
    async with signed_in(door, token=new["secret"]) as socket:
        await socket.subscribe(WATCH)
        await socket.told()
        given = {"idempotencyKey": uuid4().hex, "apiKeyId": new["apiKey"]["id"]}
        await door.ask("owner-harbour", revoke, {"input": given})

        assert (await socket.closed(AT_ONCE))[0] == 4401


async def test_a_session_opens_a_socket_of_its_own_page_which_closes_on_signing_out(door: Door) -> None:
    browser = Browser(door.url, door.session)
    await browser.sign_in("owner-harbour")
    cookie = "; ".join(f"{name}={value}" for name, value in browser.own.items())
    async with connected(door, {"Cookie": cookie, "Origin": PUBLIC}) as socket:
        await socket.say("connection_init")
        assert await socket.hear() == {"type": "connection_ack"}
        assert (await asks(socket))["data"]["viewer"]["roles"] == ["owner"]
        await browser.call("POST", "/session/sign-out", {})

        assert (await socket.closed(AT_ONCE))[0] == 4401


async def test_when_a_session_turns_to_another_organisation_its_subscriptions_do(door: Door) -> None:
    first = await member(door, "owner-harbour")
    second = msgspec.structs.replace(first, id=uuid4().hex, organisation="moeller")
    await door.office.ledger.members.add(second, granting(door))
    browser = Browser(door.url, door.session)
    await browser.sign_in("owner-harbour")
    await browser.call("POST", "/session/organisation", {"organisation": "harbour"})
    cookie = "; ".join(f"{name}={value}" for name, value in browser.own.items())
    async with connected(door, {"Cookie": cookie, "Origin": PUBLIC}) as socket:
        await socket.say("connection_init")
        assert await socket.hear() == {"type": "connection_ack"}
        await socket.subscribe("subscription { viewer { organisation { id } } }", "viewer")
        assert (await socket.told("viewer"))["data"]["viewer"]["organisation"] == {"id": "harbour"}
        await socket.subscribe(MEMBERS, "members")
        await listening(door, 1)
        await browser.call("POST", "/session/organisation", {"organisation": "moeller"})
        assert (await socket.told("viewer"))["data"]["viewer"]["organisation"] == {"id": "moeller"}
        await listening(door, 1)

        await change(door, "standard-harbour", "finance")
        await change(door, "standard-moeller", "finance", "standard")
        told = (await socket.told("members"))["data"]["members"]
        assert (told["kind"], told["member"]["roles"]) == ("ROLES_CHANGED", ["finance", "standard"])
    await door.office.ledger.members.remove("moeller", second.id, granting(door))


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://gateway.localhost"])
async def test_another_sites_page_gets_no_socket_by_the_cookie_that_comes_along(
    door: Door, origin: str | None
) -> None:
    browser = Browser(door.url, door.session)
    await browser.sign_in("owner-harbour")
    cookie = "; ".join(f"{name}={value}" for name, value in browser.own.items())
    async with connected(door, {"Cookie": cookie, **({"Origin": origin} if origin else {})}) as socket:
        await socket.say("connection_init")

        assert (await socket.closed())[0] == 4403


@pytest.mark.parametrize("turns", range(8))
async def test_who_leaves_in_the_moment_of_a_change_is_not_listened_for_any_more(turns: int) -> None:
    changes = Changes()

    async def listen() -> None:
        async for _ in news(changes, "members"):
            looked.set()

    looked = asyncio.Event()
    listening = asyncio.create_task(listen())
    await looked.wait()
    (listener,) = changes._listeners
    async with asyncio.timeout(AT_ONCE):
        while not listener._happened._waiters:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
    changes.tell("members")
    for _ in range(turns):
        await asyncio.sleep(0)
    listening.cancel()
    await asyncio.wait([listening], timeout=AT_ONCE)

    assert listening.cancelled()


async def test_while_the_ledger_is_not_heard_it_is_asked(world: World, postgres: str) -> None:
    async with fresh_database(postgres) as url, open_door(world, url, membership="ledger") as deaf:
        async with (
            signed_in(deaf, "finance-harbour") as socket,
            streaming(deaf, "finance-harbour", WATCH) as events,
        ):
            await events.hear()
            await deaf.office.ledger._database.memory.close()  # type: ignore[attr-defined]
            assert not deaf.office.ledger.changes.heard
            await remove(deaf, "finance-harbour")

            assert (await socket.closed(AT_ONCE))[0] == 4403
            assert (await events.hear())[1]["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        await nothing_left_open(deaf)


async def test_when_nobody_can_say_who_it_is_a_connection_ends_and_others_stay(
    world: World, postgres: str
) -> None:
    async with fresh_database(postgres) as url, open_door(world, url, membership="ledger") as door:
        admin = await asyncpg.connect(postgres)
        database = urlsplit(url).path.removeprefix("/")
        async with signed_in(door, "finance-harbour") as unknown, signed_in(door, "support") as known:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            await admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            await admin.execute(cut, database)

            assert (await unknown.closed(AT_ONCE))[0] == 1013
            assert (await asks(known))["data"]["viewer"]["roles"] == ["support"]
            await admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        await nothing_left_open(door)
        await admin.close()


async def test_a_change_that_concerns_everybody_ends_nobody_who_may_stay(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.office.connections, "_most", 100)
    principal, answered = door.office.signin.principal, 0

    async def laborious(*given: Any, **more: Any) -> Any:
        nonlocal answered
        for _ in range(4):
            time.sleep(0.005)  # of this process' time, while nobody else gets any
            await asyncio.sleep(0)
        found = await principal(*given, **more)
        answered += 1
        return found

    token = door.issuer.token("owner-moeller")
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(signed_in(door, token=token)) for _ in range(80)]
        await asks(sockets[0])
        monkeypatch.setattr(door.office.signin, "principal", laborious)
        door.office.ledger._database.memory.feed.tell("members")  # type: ignore[attr-defined]
        async with asyncio.timeout(AT_ONCE):
            while answered < len(sockets):
                await asyncio.sleep(0.01)

        assert len(door.office.connections) == len(sockets)


async def test_who_cannot_be_known_ends_though_many_others_cannot_either(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.office.connections, "_most", 100)

    async def silent(*given: Any, **more: Any) -> Any:
        asked.append(given)
        await asyncio.Event().wait()

    asked: list[Any] = []
    token = door.issuer.token("owner-moeller")
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(signed_in(door, token=token)) for _ in range(80)]
        await asks(sockets[0])
        monkeypatch.setattr(door.office.signin, "principal", silent)
        feed = door.office.ledger._database.memory.feed  # type: ignore[attr-defined]
        feed.tell("members")

        assert {(await socket.closed(AT_ONCE))[0] for socket in sockets} == {1013}
    assert len(asked) == 80, "each is asked for, and none waits for another's answer"


async def test_when_the_server_stops_all_that_is_open_is_told(world: World, postgres: str) -> None:
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        url = await stack.enter_async_context(fresh_database(postgres))
        async with open_door(world, url) as stopping:
            stopping.session = session
            socket = await stack.enter_async_context(signed_in(stopping, "owner-harbour"))
            events = await stack.enter_async_context(streaming(stopping, "owner-harbour", WATCH))
            await events.hear()
            began = time.monotonic()
        stopped = time.monotonic() - began

        assert (await socket.closed())[0] == 1012
        event, told = await events.hear()
        assert (event, told["errors"][0]["message"]) == ("next", "the gateway is restarting; connect again")
        assert await events.hear() == ("complete", None)
        assert stopped < 10, "the server waited for what would never have ended"


async def name(door: Door, persona: str) -> str:
    """As its issuer knows it."""
    return next(one.name for one in door.issuer.personas if one.id == persona)


async def listening(door: Door, subscriptions: int) -> None:
    """Waits until so many subscriptions to members have looked for the first time: then they listen for a change."""
    async with asyncio.timeout(AT_ONCE):
        while True:
            feed = door.office.ledger._database.memory.feed._listeners  # type: ignore[attr-defined]
            waiting = [one for one in feed if "invitations" in one._books and len(one._books) == 2]
            if len(waiting) == subscriptions and all(one._happened._waiters for one in waiting):
                return
            await asyncio.sleep(0.01)
