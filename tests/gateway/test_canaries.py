"""Two organisations whose every record says whose it is: everyone asks for everything, and nobody is told what is not theirs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from graphql import GraphQLObjectType
from sqlalchemy import event

from gateway.demo import ORGANISATIONS
from sources.sandbox.letters import text_of
from tests import walk
from tests.browser import PUBLIC
from tests.canaries import Mark, canary, unmarked
from tests.canary_walk import Caller, Company, Walk, open_company
from tests.conftest import fresh_database
from tests.door import Answer
from tests.gateway.test_audit import settled
from tests.streams.client import connected, streaming

OTHER = dict(zip(ORGANISATIONS, reversed(ORGANISATIONS), strict=True))

WHO = """{ __typename id name email organisation { __typename id name } organisations { __typename id name }
  member { __typename id name email } viewing { __typename id reason } viewedBy { __typename id name } }"""

UNREACHED = {
    "Address.region": "the invented company's CRM has none",
    "InviteMemberPayload.link": "only where the gateway sends no mails",
    "InviteMemberPayload.secret": "only where the gateway sends no mails",
    "ResendInvitationPayload.link": "only where the gateway sends no mails",
    "ResendInvitationPayload.secret": "only where the gateway sends no mails",
    "SourceStatus.answeredAt": "only where answers are remembered",
    "SourceStatus.lagSeconds": "only of a copy",
    "SourceStatus.retryAfter": "only of a source that fails",
    "SourceStatus.trouble": "only of a source that fails",
}
"""Fields of which nobody can be told a value here, and why."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def company(postgres: str) -> AsyncIterator[Company]:
    async with fresh_database(postgres) as url, open_company(url) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def walked(company: Company) -> Walk:
    """All of it, once, for the tests that look at what came of it."""
    walk_ = Walk(company)
    callers = list(company.callers.values())
    # The leavers are as the others of their role, and will be gone.
    lasting = [one for one in callers if not one.name.startswith("leaver")]
    await walk_.ask(walk_.queries(lasting))
    async with AsyncExitStack() as stack:
        listening = [
            await stack.enter_async_context(_listening(walk_, caller))
            for caller in callers
            if caller.owner != "nobody"
        ]
        await asyncio.gather(*(_attempts(walk_, caller) for caller in callers if caller.owner != "firm"))
        await asyncio.gather(*(_changes(walk_, organisation) for organisation in ORGANISATIONS))
        for organisation in ORGANISATIONS:
            await _joins_and_leaves(walk_, organisation)
        await _heard(walk_, listening)
    await asyncio.gather(
        *(_over_connections(walk_, caller) for caller in company.of("owner-harbour", "finance-moeller"))
    )
    await asyncio.gather(*(_files(walk_, caller) for caller in lasting))
    await settled(company.door)
    await walk_.ask(walk_.lists(lasting))
    await asyncio.gather(*(_other_addresses(walk_, caller) for caller in callers))
    _letters(walk_)
    return walk_


# -- what it found -----------------------------------------------------------------------------------------------


def test_every_text_of_the_invented_company_says_whose_it_is(company: Company) -> None:
    world = company.door.world
    rows: list[Any] = [*world.accounts, *world.contacts, *world.credit_notes, *world.documents]
    for invoice in (*world.invoices, *world.bills):
        rows += [invoice, *invoice.lines, *invoice.payments, *invoice.credit_notes]
    for ticket in world.tickets:
        rows += [ticket, *(one for comment in ticket.comments for one in comment.attachments)]
    assert [name for row in rows for name in unmarked(row)] == []


def test_nobody_is_told_anything_of_another_organisation_or_beyond_their_scopes(walked: Walk) -> None:
    assert walked.leaks == set(), walked.findings[:10]


def test_everyone_is_told_of_their_own_all_that_their_scopes_open(walked: Walk) -> None:
    missed = {}
    for caller in walked.company.callers.values():
        if caller.owner == "nobody" or caller.name.startswith("leaver"):
            continue
        kinds = {mark.kind for mark in walked.told[caller.name] if caller.owner in ("firm", mark.owner)}
        wanted = set(caller.opened)
        if caller.name.startswith("directory"):
            wanted = {"directory"}
        elif caller.owner != "firm":
            wanted.add("organisation")
        if " as " in caller.name:
            wanted.add("viewing")
        if caller.owner == "firm":
            # Their books are of an organisation, which they have to name.
            wanted -= {"member", "directory", "invitation"}
        if missing := wanted - kinds:
            missed[caller.name] = missing
    assert missed == {}


def test_who_belongs_to_nobody_is_told_nothing_at_all(walked: Walk) -> None:
    assert walked.told["nobody"] == set()
    assert walked.told["newcomer"] == {Mark("member", "nobody")}


def test_every_field_of_the_schema_was_told_to_somebody(walked: Walk) -> None:
    schema = walked.company.door.office.schema.graphql
    fields = {
        f"{type_.name}.{name}"
        for type_ in schema.type_map.values()
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__")
        for name in type_.fields
    }
    assert fields - walked.reached == UNREACHED.keys()


def test_both_ways_through_the_executor_were_gone(walked: Walk) -> None:
    counts = walked.company.door.office.engine.counts
    assert counts["columns"] > 300
    assert counts["first seen"] > 100


def test_no_source_gave_a_row_of_somebody_else(walked: Walk) -> None:
    assert walked.company.door.office.violations.total == 0


async def test_nothing_is_told_either_while_sources_fail(company: Company, walked: Walk) -> None:
    failing = Walk(company, seed=7)
    names = [f"{role}-{one}" for one in ORGANISATIONS for role in ("owner", "standard")]
    asked = Random(7).sample(failing.queries(company.of(*names)), 60)
    try:
        for box in company.door.boxes.values():
            if box.name != "issuer":
                for kind in ("fail", "garbage", "drop"):
                    box.faults.add(kind, times=12)
        await failing.ask(asked)
    finally:
        company.door.heal()

    assert failing.findings == []
    assert {"SOURCE_UNAVAILABLE", "SOURCE_BAD_RESPONSE"} & failing.codes
    again = Walk(company, seed=8)
    await again.ask(Random(8).sample(asked, 20))
    assert again.findings == []


# -- mutations ---------------------------------------------------------------------------------------------------

TAKES = {
    "acceptInvitation": lambda books: {"secret": "nobody's"},
    "changeMemberRoles": lambda books: {"memberId": books["member"], "roles": ["standard"]},
    "createApiKey": lambda books: {"serviceAccountId": books["service account"], "name": "x"},
    "endViewing": lambda books: {"viewingId": books["viewing"]},
    "removeMember": lambda books: {"memberId": books["member"]},
    "removeServiceAccount": lambda books: {"serviceAccountId": books["service account"]},
    "resendInvitation": lambda books: {"invitationId": books["invitation"]},
    "revokeApiKey": lambda books: {"apiKeyId": books["key"]},
    "revokeInvitation": lambda books: {"invitationId": books["invitation"]},
    "setMemberEnd": lambda books: {"memberId": books["member"], "endsAt": None},
    "startViewing": lambda books: {"memberId": books["member"], "reason": "why"},
}
"""What each mutation of a record takes beside an idempotency key."""


def mutation(company: Company, name: str) -> str:
    """With all that it can answer."""
    schema = company.door.office.schema.graphql
    field = schema.mutation_type.fields[name]
    payload = walk.selection(schema, field.type, 2)
    return f"mutation Walk($input: {field.args['input'].type}) {{ {name}(input: $input) {payload} }}"


async def _attempts(walk_: Walk, caller: Caller) -> None:
    """Every change of a record, of another organisation's."""
    books = walk_.company.books[OTHER.get(caller.owner, "harbour")]
    for name, takes in TAKES.items():
        if name == "endViewing" and caller.name.startswith("support"):
            continue  # their own
        query, given = mutation(walk_.company, name), {"idempotencyKey": uuid4().hex, **takes(books)}
        answer = await walk_.company.ask(caller.headers, query, {"input": given})
        walk_.look(caller, query, answer)
        if answer.status == 200 and answer.body.get("data") and (payload := answer.data[name]):
            assert payload["userErrors"], (caller.name, name)


async def _made(walk_: Walk, caller: Caller, name: str, /, **given: Any) -> dict[str, Any]:
    query = mutation(walk_.company, name)
    variables = {"input": {"idempotencyKey": uuid4().hex, **given}}
    answer = await walk_.company.ask(caller.headers, query, variables)
    walk_.look(caller, query, answer)
    assert {code for _, code in answer.codes()} <= {"FORBIDDEN"}, (name, answer.errors)
    payload: dict[str, Any] = answer.data[name]
    assert payload["userErrors"] == [], (name, payload)
    return payload


async def _changes(walk_: Walk, organisation: str) -> None:
    """Every change that an organisation's owner and the firm's support can make of it."""
    company = walk_.company
    owner, support = company.of(f"owner-{organisation}", f"support for {organisation}")
    soon = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    email = f"second@{canary('invitation', organisation)}.example"
    invited = (await _made(walk_, owner, "inviteMember", email=email, roles=["standard"], endsAt=soon))[
        "invitation"
    ]["id"]
    company.ids.add(organisation, invited)
    await _made(walk_, owner, "resendInvitation", invitationId=invited)
    await _made(walk_, owner, "revokeInvitation", invitationId=invited)
    leaver = company.members[f"leaver-{organisation}"]
    await _made(walk_, owner, "changeMemberRoles", memberId=leaver, roles=["read-only"])
    await _made(walk_, owner, "setMemberEnd", memberId=leaver, endsAt=soon)
    account = (
        await _made(
            walk_,
            owner,
            "createServiceAccount",
            name=canary("service", organisation),
            scopes=["accounts:read"],
        )
    )["serviceAccount"]["id"]
    key = (
        await _made(walk_, owner, "createApiKey", serviceAccountId=account, name=canary("key", organisation))
    )["apiKey"]
    company.ids.add(organisation, account, key["id"])
    await _made(walk_, owner, "revokeApiKey", apiKeyId=key["id"])
    await _made(walk_, owner, "removeServiceAccount", serviceAccountId=account)
    member = company.members[f"finance-{organisation}"]
    reason = canary("viewing", organisation)
    begun = (await _made(walk_, support, "startViewing", memberId=member, reason=reason))["viewing"]["id"]
    company.ids.add(organisation, begun)
    await _made(walk_, support, "endViewing", viewingId=begun)


async def _joins_and_leaves(walk_: Walk, organisation: str) -> None:
    """The newcomer is invited, accepts and is removed; the leaver leaves."""
    company = walk_.company
    owner, leaver, newcomer = company.of(f"owner-{organisation}", f"leaver-{organisation}", "newcomer")
    email = f"newcomer@{canary('invitation', organisation)}.example"
    await _made(walk_, owner, "inviteMember", email=email, roles=["partner"])
    (mail,) = [mail for mail in company.door.letters.mails if mail["To"] == email]
    secret = re.search(r"#(\S+)", text_of(mail))
    assert secret is not None
    joined = Caller(
        f"newcomer in {organisation}",
        organisation,
        frozenset(),
        newcomer.headers,
        frozenset({Mark("member", "nobody"), Mark("invitation", organisation)}),
    )
    # From now on they are told of as one of its members.
    everyone_there = {name: one for name, one in company.callers.items() if one.owner == organisation}
    for name, one in everyone_there.items():
        company.callers[name] = Caller(one.name, one.owner, one.scopes, one.headers, one.also | joined.also)
    member = (await _made(walk_, joined, "acceptInvitation", secret=secret[1]))["member"]["id"]
    # An invitation that was accepted goes with its member.
    await walk_.ask(walk_.lists([company.callers[owner.name]]))
    await _made(walk_, company.callers[owner.name], "removeMember", memberId=member)
    await _made(walk_, leaver, "leaveOrganisation")


def _letters(walk_: Walk) -> None:
    for mail in walk_.company.door.letters.mails:
        owner = next(one for one in ORGANISATIONS if one in str(mail["To"]))
        invited = Caller(f"who was invited by {owner}", owner, frozenset({"members:read"}), {})
        walk_.look_at(invited, "a mail", text_of(mail), *(str(value) for _, value in mail.items()))


# -- connections -------------------------------------------------------------------------------------------------


class _Listener:
    """Two subscriptions of one caller and what they were told."""

    def __init__(self, walk_: Walk, caller: Caller, socket: Any) -> None:
        self.walk, self.caller, self.socket = walk_, caller, socket
        self.changes = 0
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        schema = self.walk.company.door.office.schema.graphql
        for name, field in schema.subscription_type.fields.items():
            # Of the viewer each query tells everything; here most ask for what is theirs in the ledger.
            whole = name != "viewer" or self.caller.name == "owner-harbour"
            below = walk.selection(schema, field.type, 1) if whole else WHO
            await self.socket.subscribe(f"subscription {{ {name} {below} }}", name)
        while True:
            message = await self.socket.socket.receive()
            if not isinstance(message.data, str):
                return
            heard = json.loads(message.data)
            body = heard.get("payload") if heard["type"] == "next" else {"errors": heard.get("payload")}
            self.walk.look(self._now(), "subscription", Answer(200, {}, body if body.get("data") else {}))
            self.walk.look_at(self._now(), "a message of a subscription", heard)
            self.changes += heard.get("id") == "members" and heard["type"] == "next"

    def _now(self) -> Caller:
        return self.walk.company.callers[self.caller.name]


@asynccontextmanager
async def _listening(walk_: Walk, caller: Caller) -> AsyncIterator[_Listener]:
    """A socket on which a caller has subscribed to everything."""
    async with connected(walk_.company.door, headers=caller.headers) as socket:
        await socket.say("connection_init", payload={})
        acknowledged = await socket.hear()
        walk_.look_at(caller, "connection_ack", acknowledged)
        assert acknowledged == {"type": "connection_ack"}
        listener = _Listener(walk_, caller, socket)
        yield listener
    await listener.task


async def _heard(walk_: Walk, listening: list[_Listener]) -> None:
    """Until everyone who may hear of members has heard of some."""
    owners = [one for one in listening if one.caller.name.startswith("owner-")]
    assert len(owners) == 2
    told = {"MemberChange.member", "MemberChange.invitation"}
    async with asyncio.timeout(60):
        while not (told <= walk_.reached and all(one.changes >= 3 for one in owners)):
            await asyncio.sleep(0.01)


async def _over_connections(walk_: Walk, caller: Caller) -> None:
    """Queries over a socket, all at once, and as event streams."""
    asked = walk_.random.sample(walk_.queries([caller]), 12)
    async with connected(walk_.company.door, headers=caller.headers) as socket:
        await socket.say("connection_init", payload={})
        await socket.hear()
        for number, one in enumerate(asked):
            await socket.subscribe(one.query, str(number), variables=dict(one.variables))
        done = 0
        while done < len(asked):
            heard = await socket.hear()
            walk_.look_at(caller, "a message of a socket", heard)
            done += heard["type"] in ("complete", "error")
    for query in (
        "{ accounts { nodes { id name } } }",
        "subscription { viewer { id organisation { id name } } }",
    ):
        async with streaming(walk_.company.door, None, query, **caller.headers) as events:
            walk_.look_at(caller, "an event", dict(events.response.headers), await events.hear())


# -- everything that is not the graph ----------------------------------------------------------------------------


async def _files(walk_: Walk, caller: Caller) -> None:
    """Some files of each kind; and that nobody else can use the links."""
    links = sorted(walk_.links[caller.name])
    others = [one for one in walk_.company.callers.values() if one.owner == OTHER.get(caller.owner)]
    for url in Random(3).sample(links, min(3, len(links))):
        path = url.removeprefix(PUBLIC)
        status, headers, body = await walk_.company.door.fetch(None, path, **caller.headers)
        assert (status, headers["Content-Disposition"][:11]) == (200, "attachment;")
        walk_.look_at(caller, "a file", dict(headers), body.decode("latin-1"))
        if others:
            stranger = Random(path).choice(others)
            status, headers, body = await walk_.company.door.fetch(None, path, **stranger.headers)
            assert status == 404
            walk_.look_at(stranger, "another's file", dict(headers), body.decode("latin-1"))


async def _other_addresses(walk_: Walk, caller: Caller) -> None:
    """The audit trail's export, the session, the organisation's directory, the metrics, and addresses of nothing."""
    theirs = walk_.company.books[OTHER.get(caller.owner, "harbour")]
    paths = [
        "/audit.jsonl", f"/audit.jsonl?organisation={OTHER.get(caller.owner, 'harbour')}", "/session", "/metrics", "/nothing",
        "/schema.graphql", "/scim/v2/Users", "/scim/v2/Groups", f"/scim/v2/Users/{theirs['directory user']}",
        f"/scim/v2/Groups/{theirs['directory group']}", f"/scim/v2/Users?filter=userName%20co%20%22{canary('directory', 'moeller')}%22",
    ]  # fmt: skip
    if caller.owner == "firm":
        paths.remove("/audit.jsonl?organisation=harbour")
    for path in paths:
        status, headers, body = await walk_.company.door.fetch(None, path, **caller.headers)
        assert status < 500
        text = body.decode()
        lines = (
            [json.loads(line) for line in text.splitlines()]
            if path.startswith("/audit") and status == 200
            else [text]
        )
        if path.startswith("/scim") and text:
            lines = [json.loads(text)]
        walk_.look_at(caller, path, dict(headers), *lines)


# -- not yours reads as not there --------------------------------------------------------------------------------


BEHIND = ("audit", "api_key_uses", "SELECT api_keys.id \nFROM api_keys \nWHERE api_keys.id IN")
"""In statements that are made in the background: of the trail, and of when which keys were last used."""


class Traffic:
    """What a request causes: calls to vendors, and statements to the ledger by their text."""

    def __init__(self, company: Company) -> None:
        self._company, self.statements = company, list[str]()
        self._engine = company.door.office.ledger._database._pool.sync_engine  # type: ignore[attr-defined]

    def __enter__(self) -> "Traffic":
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    async def of(self, caller: Caller, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Status, headers, answer, calls and statements of one request."""
        company = self._company
        await settled(company.door)
        company.door.forget_calls()
        self.statements.clear()
        async with company.door.session.request(
            method, company.door.url + path, json=body, headers={**caller.headers, **headers}
        ) as answer:
            text = await answer.text()
            told = {
                k.lower(): v for k, v in answer.headers.items() if k.lower() not in ("date", "x-request-id")
            }
        asked = sorted(one for one in self.statements if not any(text in one for text in BEHIND))
        return answer.status, told, text, company.door.calls(), asked

    def _note(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)


NOWHERE = "00000000-0000-4000-8000-000000000000"


class _Nothing(Mapping[str, str]):
    """Ids of nothing, in the form of each kind."""

    def __getitem__(self, kind: str) -> str:
        return "0" * 16 if kind == "key" else NOWHERE

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("name", [name for name in TAKES if name != "acceptInvitation"])
@pytest.mark.parametrize("role", ["owner-harbour", "admin for harbour"])
async def test_changing_what_is_not_yours_is_exactly_as_changing_nothing(
    company: Company, name: str, role: str
) -> None:
    (caller,) = company.of(role)
    said = []
    with Traffic(company) as traffic:
        for books in (_Nothing(), company.books["moeller"], _Nothing(), company.books["moeller"]):
            given = {"idempotencyKey": uuid4().hex, **TAKES[name](books)}
            query = mutation(company, name)
            said.append(
                await traffic.of(caller, "POST", "/graphql", {"query": query, "variables": {"input": given}})
            )

    first, theirs, nothing, theirs_again = said
    assert theirs == nothing == theirs_again
    assert first[:4] == nothing[:4]
    status, _, text, calls, _ = theirs
    assert status == 200
    assert ("NOT_FOUND" in text) or (
        "FORBIDDEN" in text and name.endswith("Viewing") and role.startswith("owner")
    )
    assert not any(calls.values())


@pytest.mark.parametrize("what", ["record", "principal", "organisation"])
async def test_what_is_recorded_of_others_is_not_there_to_be_looked_for(company: Company, what: str) -> None:
    (owner,) = company.of("owner-harbour")
    query = "query Q($filter: AuditFilter) { auditLog(filter: $filter) { nodes { id } pageInfo { hasNextPage } } }"
    issuer = company.door.issuer.url
    filters = {
        "record": [{"recordId": f"Member:{one}"} for one in (company.books["moeller"]["member"], NOWHERE)],
        "principal": [{"principal": f"{issuer}|{one}"} for one in ("owner-moeller", "nobody-anywhere")],
        "organisation": [{"organisation": one} for one in ("moeller", "nowhere")],
    }[what]
    said = []
    with Traffic(company) as traffic:
        for filter_ in (filters[1], *filters):
            body = {"query": query, "variables": {"filter": filter_}}
            said.append(await traffic.of(owner, "POST", "/graphql", body))

    assert said[1] == said[2]
    assert json.loads(said[1][2])["data"] == {"auditLog": {"nodes": [], "pageInfo": {"hasNextPage": False}}}


@pytest.mark.parametrize(
    "role", ["owner-harbour", "service of harbour", "browser of harbour", "directory of harbour"]
)
@pytest.mark.parametrize("path", ["/graphql", "/audit.jsonl", "/scim/v2/Users"])
async def test_another_organisation_is_not_there_to_be_acted_for(
    company: Company, role: str, path: str
) -> None:
    (caller,) = company.of(role)
    body = {"query": "{ viewer { organisation { id } } }"} if path == "/graphql" else None
    said = []
    with Traffic(company) as traffic:
        for other in ("nowhere", "moeller", "nowhere", "moeller"):
            method = "POST" if body else "GET"
            said.append(await traffic.of(caller, method, path, body, **{"X-Organisation": other}))

    # The first request has the caller's own credentials looked up.
    assert said[1] == said[2] == said[3]
    assert said[0][:4] == said[1][:4]
    assert said[0][0] == 403


async def test_anothers_viewing_is_not_there_to_be_used(company: Company) -> None:
    theirs = company.books["moeller"]["viewing"]
    for name in ("owner-harbour", "owner-moeller", "admin", "service of moeller"):
        (caller,) = company.of(name)
        with Traffic(company) as traffic:
            said = [
                await traffic.of(
                    caller, "POST", "/graphql", {"query": "{ viewer { id } }"}, **{"X-View-As": one}
                )
                for one in (NOWHERE, theirs, NOWHERE, theirs)
            ]
        assert said[1][:4] == said[2][:4] == said[3][:4], name
        assert said[0][0] == 403
        assert said[2][4] == said[3][4], name


@pytest.mark.parametrize(
    ("kind", "method"), [(k, m) for k in ("user", "group") for m in ("GET", "PUT", "PATCH", "DELETE")]
)
async def test_anothers_directory_is_not_there(company: Company, kind: str, method: str) -> None:
    (caller,) = company.of("directory of harbour")
    body = {
        "GET": None,
        "DELETE": None,
        "PUT": {
            "schemas": [f"urn:ietf:params:scim:schemas:core:2.0:{kind.title()}"],
            "userName": "x",
            "displayName": "x",
        },
        "PATCH": {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "displayName", "value": "x"}],
        },
    }[method]
    theirs = company.books["moeller"][f"directory {kind}"]
    with Traffic(company) as traffic:
        said = [
            await traffic.of(caller, method, f"/scim/v2/{kind.title()}s/{one}", body)
            for one in (NOWHERE, theirs, NOWHERE, theirs)
        ]

    told = [
        (status, headers, text.replace(theirs, NOWHERE), calls, sql)
        for status, headers, text, calls, sql in said
    ]
    assert told[1] == told[2] == told[3]
    assert told[0][0] == 404
