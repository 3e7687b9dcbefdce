"""The audit trail through the door: one record per operation, of what was read or changed and never of what it says."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio

from gateway.audit import operator
from resolvers.vocabulary import node_id
from sources.ledger.audit_seal import NO_HASH, Seal
from sources.ports.audit import AuditKind, AuditOutcome, AuditRecord, Stage
from sources.ports.common import Ref
from sources.sandbox.world import World
from tests.commands import gateway, serving, settings_file
from tests.conftest import fresh_database
from tests.door import Door, open_door

HOME = """query Home($id: ID!, $more: Boolean = false) { account(id: $id) {
  name ...People invoices(first: 3) { nodes { number } } tickets(first: 2) @include(if: $more) { nodes { subject } }
} }
fragment People on Account { contacts(first: 2) { nodes { email } } }"""
LOG = """query Log($first: Int, $after: String, $filter: AuditFilter) {
  auditLog(first: $first, after: $after, filter: $filter) { nodes {
    id at kind name outcome codes principal { identity kind via roles staff } viewedBy organisation client request
    coordinates denied { coordinate rule } personal records recordCount count
  } pageInfo { hasNextPage endCursor } }
}"""
OVER = """query Over($ids: [ID!]!) {
  nodes(ids: $ids) { ... on Account { id tickets(first: 2) { nodes { id } } } }
}"""
INVITE = """mutation Invite($input: InviteMemberInput!) {
  inviteMember(input: $input) { invitation { id } userErrors { code } }
}"""


@pytest_asyncio.fixture(scope="module")
async def opened(world: World, postgres: str) -> AsyncIterator[tuple[Door, str]]:
    async with fresh_database(postgres) as url, open_door(world, url, membership="ledger") as door:
        yield door, url


@pytest_asyncio.fixture
async def door(opened: tuple[Door, str]) -> Door:
    """Everything that earlier tests did is written."""
    await settled(opened[0])
    return opened[0]


@pytest_asyncio.fixture
async def database(opened: tuple[Door, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(opened[1])
    yield connection
    await connection.close()


async def settled(door: Door) -> None:
    """A write waits for its record, and so for all that were handed over before."""
    await asyncio.sleep(0)
    async with door.office.audit.writing(door.office.audit.record(AuditKind.COMMAND, operator())):
        pass


async def recorded(door: Door, since: int) -> list[AuditRecord]:
    await settled(door)
    return [
        entry.record
        async for entry in door.office.ledger.audit.exported()
        if entry.sequence > since and entry.record.kind is not AuditKind.COMMAND
    ]


async def now(door: Door) -> int:
    await settled(door)
    return (await door.office.ledger.audit.head()).sequence


async def log(door: Door, persona: str, first: int = 100, after: str | None = None, **conditions: Any) -> Any:
    await settled(door)
    answer = await door.ask(persona, LOG, {"first": first, "after": after, "filter": conditions})
    assert answer.errors == []
    return answer.data["auditLog"]


# -- what a record holds -----------------------------------------------------------------------------------------


async def test_a_query_is_one_record_of_who_asked_for_which_fields_of_which_records(door):
    since, account = await now(door), door.world.accounts[0]
    answer = await door.ask("owner-harbour", HOME, {"id": door.account_id(0)})
    assert answer.errors == []

    (found,) = await recorded(door, since)
    assert (found.kind, found.name, found.outcome, found.codes) == (
        AuditKind.QUERY,
        "Home",
        AuditOutcome.OK,
        (),
    )
    assert found.principal == f"{door.issuer.url}|owner-harbour"
    assert (found.organisation, found.roles, found.via) == ("harbour", ("owner",), "bearer")
    assert (found.staff, found.viewed_by, found.client) == (False, None, "127.0.0.1")
    assert found.request == {name.lower(): value for name, value in answer.headers.items()}["x-request-id"]
    assert found.coordinates == (
        "Account.contacts",
        "Account.invoices",
        "Account.name",
        "Contact.email",
        "ContactConnection.nodes",
        "Invoice.number",
        "InvoiceConnection.nodes",
        "Query.account",
    )
    assert "contact" in found.personal
    assert found.records[0] == f"Account:hubspot:{account.hubspot_id}"
    assert [text.partition(":")[0] for text in found.records] == [
        "Account",
        *["Contact"] * 2,
        *["Invoice"] * 3,
    ]
    assert found.record_count == 6


async def test_no_value_argument_or_address_is_in_a_record(door, database):
    since = await now(door)
    answer = await door.ask(
        "owner-harbour",
        'query Q($id: ID!) { account(id: $id) { name contacts(first: 5, filter: {text: "canary-argument"}) '
        "{ nodes { email } } all: contacts(first: 5) { nodes { email firstName lastName } } } }",
        {"id": door.account_id(0)},
    )
    assert answer.errors == []
    await settled(door)
    rows = await database.fetch("SELECT audit::text FROM audit WHERE sequence > $1", since)
    written = "\n".join(row[0] for row in rows)

    values = [answer.data["account"]["name"], "canary-argument", "@", door.account_id(0)]
    for contact in answer.data["account"]["all"]["nodes"]:
        values += [contact["email"], contact["lastName"]]
    assert [value for value in values if value in written] == []


async def test_what_variables_leave_out_is_not_recorded_and_what_they_take_in_is(door):
    since = await now(door)
    for more in (False, True):
        await door.ask("owner-harbour", HOME, {"id": door.account_id(0), "more": more})
    without, with_them = await recorded(door, since)
    assert "Ticket.subject" not in without.coordinates
    assert "Ticket.subject" in with_them.coordinates


async def test_a_denied_field_is_recorded_with_its_rule_and_not_as_read(door):
    since = await now(door)
    await door.ask("standard-harbour", HOME, {"id": door.account_id(0)})
    (found,) = await recorded(door, since)
    assert (found.outcome, found.codes) == (AuditOutcome.PARTIAL, ("FORBIDDEN",))
    assert [denial.split()[0] for denial in found.denied] == ["Account.invoices"]
    assert "invoices:read" in found.denied[0]
    assert not {"Account.invoices", "Invoice.number"} & set(found.coordinates)


async def test_somebody_elses_record_is_recorded_as_refused_and_names_no_record(door):
    since = await now(door)
    await door.ask("owner-harbour", HOME, {"id": door.account_id(1)})
    (found,) = await recorded(door, since)
    assert (found.outcome, found.codes, found.records) == (AuditOutcome.REFUSED, ("NOT_FOUND",), ())
    assert found.organisation == "harbour"


@pytest.mark.parametrize(
    "query", ["{ nonsense }", "not graphql", "{ a: viewer { name } b: viewer { nope } }"]
)
async def test_a_document_that_does_not_run_is_recorded_as_refused(door, query):
    since = await now(door)
    await door.ask("owner-harbour", query)
    (found,) = await recorded(door, since)
    assert (found.outcome, found.codes, found.coordinates) == (AuditOutcome.REFUSED, ("BAD_USER_INPUT",), ())


async def test_a_refused_sign_in_is_recorded_without_anything_of_the_token(door, database):
    await door.ask(None, "{ viewer { name } }", token="canary-token")
    await settled(door)
    rows = await database.fetch("SELECT client, codes, audit::text AS all FROM audit WHERE kind = 'refusal'")
    assert [(row["client"], row["codes"]) for row in rows] == [("127.0.0.1", ["UNAUTHENTICATED"])]
    assert "canary" not in rows[0]["all"]


async def test_a_download_is_recorded_with_the_field_and_the_record(door):
    query = "query Q($id: ID!) { account(id: $id) { invoices(first: 1) { nodes { id pdf { url } } } } }"
    (invoice,) = (await door.ask("owner-harbour", query, {"id": door.account_id(0)})).data["account"][
        "invoices"
    ]["nodes"]
    since = await now(door)
    status, _, _ = await door.fetch("owner-harbour", invoice["pdf"]["url"])
    assert status == 200
    assert (await door.fetch("owner-moeller", invoice["pdf"]["url"]))[0] == 404

    read, refused = await recorded(door, since)
    assert (read.kind, read.coordinates, read.organisation) == (AuditKind.FILE, ("Invoice.pdf",), "harbour")
    assert [node_id("Invoice", Ref(*text.split(":", 2)[1:])) for text in read.records] == [invoice["id"]]
    assert (refused.organisation, refused.outcome, refused.records) == ("moeller", AuditOutcome.REFUSED, ())


# -- writes ------------------------------------------------------------------------------------------------------


async def test_a_mutation_begins_durably_and_is_one_entry_with_what_it_made(door):
    since = await now(door)
    given = {"idempotencyKey": "audit-1", "email": "nina@new.example", "roles": ["standard"]}
    answer = await door.ask("owner-harbour", INVITE, {"input": given})
    made = answer.data["inviteMember"]["invitation"]["id"]

    begun, done = await recorded(door, since)
    assert (begun.stage, begun.outcome, begun.records) == (Stage.BEGUN, AuditOutcome.UNKNOWN, ())
    assert (done.stage, done.outcome, done.operation) == (Stage.DONE, AuditOutcome.OK, begun.operation)
    assert done.records == (f"Invitation:ledger:{made}",)
    entries = (await log(door, "owner-harbour", kind=["MUTATION"]))["nodes"]
    assert [(entry["name"], entry["outcome"]) for entry in entries] == [("Invite", "OK")]


async def test_why_a_mutation_changed_nothing_is_recorded(door):
    since = await now(door)
    given = {"idempotencyKey": "audit-2", "email": "no address", "roles": ["standard"]}
    without_asking_why = INVITE.replace("userErrors { code }", "")
    await door.ask("owner-harbour", without_asking_why, {"input": given})
    _, done = await recorded(door, since)
    assert (done.outcome, done.codes) == (AuditOutcome.REFUSED, ("INVALID",))


async def test_a_mutation_that_cannot_be_recorded_changes_nothing(door, database):
    await database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    before = await database.fetchval("SELECT count(*) FROM invitations")
    given = {"idempotencyKey": "audit-3", "email": "otto@new.example", "roles": ["standard"]}
    try:
        answer = await door.ask("owner-harbour", INVITE, {"input": given})
    finally:
        await database.execute("DROP FUNCTION refuse CASCADE")

    assert answer.status == 503
    assert [error["extensions"] for error in answer.errors] == [
        {"code": "SOURCE_UNAVAILABLE", "source": "audit"}
    ]
    assert await database.fetchval("SELECT count(*) FROM invitations") == before
    assert (await door.ask("owner-harbour", INVITE, {"input": given})).data["inviteMember"][
        "userErrors"
    ] == []


# -- who reads it ------------------------------------------------------------------------------------------------


async def test_owners_see_their_organisations_operations_and_no_trace_of_another(door):
    canaries = {}
    for persona, index in (("owner-harbour", 0), ("owner-moeller", 1)):
        answer = await door.ask(
            persona,
            f"query Canary{index} {{ viewer {{ account {{ id invoices(first: 5) {{ nodes {{ id }} }} }} }} }}",
        )
        account = answer.data["viewer"]["account"]
        canaries[persona] = [account["id"], *(node["id"] for node in account["invoices"]["nodes"])]
    ids = {"ids": [door.account_id(index) for index in range(3)]}
    assert (await door.ask("support", OVER, ids)).errors == []
    await settled(door)

    for persona, other in (("owner-harbour", "moeller"), ("owner-moeller", "harbour")):
        seen = msgspec.json.encode(await log(door, persona)).decode()
        status, _, exported = await door.fetch(persona, "/audit.jsonl")
        assert status == 200
        assert canaries[persona][0] in seen
        foreign = door.world.accounts[1 if other == "moeller" else 0]
        for trace in (*canaries[f"owner-{other}"], other, foreign.hubspot_id, foreign.xero_contact_id):
            assert trace not in seen
            assert trace not in exported.decode()


async def test_what_staff_did_over_all_customers_is_shown_to_each_as_its_own_share(door):
    since = datetime.now(UTC).isoformat()
    await door.ask("support", OVER, {"ids": [door.account_id(index) for index in range(3)]})

    (own,) = (await log(door, "owner-harbour", since=since))["nodes"]
    assert own["principal"] | {"identity": ""} == {
        "identity": "", "kind": "person", "via": "bearer", "roles": ["support"], "staff": True,
    }  # fmt: skip
    assert (own["name"], own["organisation"], own["client"]) == ("Over", "harbour", None)
    assert own["records"][0] == door.account_id(0)
    assert len(own["records"]) == own["recordCount"] == 3
    entries = (await log(door, "admin", since=since, kind=["QUERY"]))["nodes"]
    (whole,) = [entry for entry in entries if entry["name"] == "Over"]
    assert (whole["organisation"], whole["client"], whole["id"]) == (None, "127.0.0.1", own["id"])
    assert whole["recordCount"] > own["recordCount"]
    ours = (await log(door, "admin", since=since, organisation="harbour"))["nodes"]
    assert [entry["records"] for entry in ours if entry["name"] == "Over"] == [own["records"]]


async def test_another_organisation_in_the_filter_reads_as_one_that_does_not_exist(door):
    for organisation in ("moeller", "nowhere", "\0"):
        assert (await log(door, "owner-harbour", organisation=organisation))["nodes"] == []
        path = f"/audit.jsonl?organisation={organisation}".replace("\0", "%00")
        status, _, body = await door.fetch("owner-harbour", path)
        assert (status, body) == (200, b"")


@pytest.mark.parametrize("persona", ["standard-harbour", "finance-harbour"])
async def test_nobody_reads_it_without_the_scope(door, persona):
    answer = await door.ask(persona, LOG)
    assert answer.codes() == [("auditLog", "FORBIDDEN")]
    status, _, body = await door.fetch(persona, "/audit.jsonl")
    assert (status, msgspec.json.decode(body)["code"]) == (403, "FORBIDDEN")
    assert (await door.fetch(None, "/audit.jsonl"))[0] == 401


async def test_conditions_narrow_and_pages_go_on_where_the_last_one_ended(door):
    since = datetime.now(UTC).isoformat()
    names = [f"Page{number}" for number in range(5)]
    for name in names:
        await door.ask("owner-harbour", f"query {name} {{ viewer {{ account {{ id }} }} }}")
    await door.ask("finance-harbour", "query Other { viewer { name } }")

    async def asked(**conditions: Any) -> list[str]:
        return [
            entry["name"] for entry in (await log(door, "owner-harbour", since=since, **conditions))["nodes"]
        ]

    own = f"{door.issuer.url}|owner-harbour"
    assert [name for name in await asked(principal=own, coordinate="Viewer.account") if name] == names[::-1]
    assert (await asked(coordinate="Viewer.name"))[-1:] == ["Other"]
    assert [name for name in await asked(recordId=door.account_id(0)) if name != "Log"] == names[::-1]
    assert await asked(recordId=door.account_id(1)) == []
    assert await asked(recordId="nonsense") == []
    assert await asked(outcome=["FAILED"]) == []
    assert await asked(kind=[]) == []
    until = (await log(door, "owner-harbour", coordinate="Viewer.name", since=since))["nodes"][-1]["at"]
    page = await log(door, "owner-harbour", first=2, since=since, until=until, principal=own)
    assert [entry["name"] for entry in page["nodes"]] == ["Page4", "Page3"]
    after = page["pageInfo"]["endCursor"]
    page = await log(door, "owner-harbour", first=2, after=after, since=since, until=until, principal=own)
    assert [entry["name"] for entry in page["nodes"]] == ["Page2", "Page1"]


async def test_a_made_up_cursor_is_the_callers_mistake(door):
    for cursor in ("nonsense", "WyJhdWRpdCIsWyJ4IiwieSJdXQ"):
        answer = await door.ask("owner-harbour", LOG, {"after": cursor})
        assert answer.codes() == [("auditLog", "BAD_USER_INPUT")]


async def test_reading_the_log_is_recorded(door):
    since = await now(door)
    await door.ask("owner-harbour", LOG)
    await door.fetch("owner-harbour", "/audit.jsonl")
    read, begun, done = await recorded(door, since)
    assert "Query.auditLog" in read.coordinates
    assert [(one.kind, one.stage, one.outcome) for one in (begun, done)] == [
        (AuditKind.EXPORT, Stage.BEGUN, AuditOutcome.UNKNOWN),
        (AuditKind.EXPORT, Stage.DONE, AuditOutcome.OK),
    ]


async def test_a_complete_export_verifies_by_what_the_documentation_says(door):
    await settled(door)
    status, headers, body = await door.fetch("admin", "/audit.jsonl")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "application/jsonl")
    seal, before = Seal(), NO_HASH
    for number, text in enumerate(body.splitlines(), start=1):
        line = msgspec.json.decode(text)
        sequence, hash_, key = line.pop("sequence"), line.pop("hash"), line.pop("key")
        record = msgspec.convert(list(line.values()), AuditRecord)
        before = seal.record(key, before, sequence, record)
        assert (sequence, hash_) == (number, before.hex())


# -- a process and its commands ----------------------------------------------------------------------------------


async def test_a_killed_server_leaves_what_was_flushed_and_the_next_one_goes_on(
    door, world, postgres, tmp_path
):
    config = settings_file(tmp_path, door)
    key = {"AUDIT_KEY": "a-key-of-at-least-32-characters!"}
    config.write_text(config.read_text() + '\n[audit]\nkey = { env = "AUDIT_KEY" }\n')
    os.environ.update(key)
    headers = {"Authorization": f"Bearer {door.issuer.token('admin')}"}

    async def ask(address: str, name: str) -> None:
        body = {"query": f"query {name} {{ viewer {{ name }} }}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{address}/graphql", json=body) as answer,
        ):
            assert (await answer.json())["data"]["viewer"]

    try:
        async with fresh_database(postgres) as url:
            async with serving(url, config) as (server, address):
                await ask(address, "Kept")
                reader = await asyncpg.connect(url)
                async with asyncio.timeout(20):
                    while not await reader.fetchval("SELECT count(*) FROM audit WHERE name = 'Kept'"):
                        await asyncio.sleep(0.02)
                server.kill()
                await server.ended()
            async with serving(url, config) as (server, address):
                await ask(address, "Later")
                server.interrupt()
                await server.ended()
            names = await reader.fetch("SELECT name FROM audit ORDER BY sequence")
            await reader.close()
            assert [row["name"] for row in names] == ["Kept", "Later"]

            ours, head, cut, without_key = await asyncio.gather(
                gateway(url, config, "audit", "verify"),
                gateway(url, config, "audit", "head"),
                gateway(url, config, "audit", "verify", "--head", f"9:{'00' * 32}"),
                gateway(url, config, "audit", "verify", AUDIT_KEY="another-key-of-32-characters-long"),
            )
            assert ours == (0, "2 records, 1 to 2: every one as it was written\n")
            assert head[1].startswith("2:")
            missing = "record 3: missing, with all behind it: the trail is shorter than the head kept\n"
            assert cut == (1, missing)
            assert (without_key[0], "audit.retired_keys" in without_key[1]) == (1, True)

            export, pruned = await asyncio.gather(
                gateway(
                    url, config, "audit", "export", "--until", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S%z}"
                ),
                gateway(url, config, "audit", "prune", "--before", "2020-01-01"),
            )
            assert [msgspec.json.decode(line)["name"] for line in export[1].splitlines()] == ["Kept", "Later"]
            assert pruned == (0, "0 records deleted\n")
            code, said = await gateway(url, config, "audit", "verify", "--head", head[1].strip())
            assert (code, said) == (0, "6 records, 1 to 6: every one as it was written\n")
    finally:
        for name in key:
            os.environ.pop(name)


async def test_what_an_operator_changes_is_recorded_for_the_organisation(door, postgres, tmp_path):
    config = settings_file(tmp_path, door)
    account = f"hubspot:{door.world.accounts[3].hubspot_id}"
    async with fresh_database(postgres) as url:
        for words in (
            ("organisations", "set", "third", "Third Ltd", account),
            ("links", "none", account, "xero", "--by", "ops"),
            ("organisations", "set", "fourth", "Fourth Ltd", account),
        ):
            await gateway(url, config, *words)
        database = await asyncpg.connect(url)
        rows = await database.fetch(
            "SELECT name, organisation_id, outcome, records, principal FROM audit WHERE stage = 'done' ORDER BY sequence"
        )
        await database.close()
    assert [(row["name"], row["organisation_id"], row["outcome"]) for row in rows] == [
        ("organisations set", "third", "ok"),
        ("links none", "third", "ok"),
        ("organisations set", "fourth", "refused"),
    ]
    assert {tuple(row["records"]) for row in rows} == {(f"Account:{account}",)}
    assert {row["principal"].partition("|")[0] for row in rows} == {"command"}
