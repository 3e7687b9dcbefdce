"""API keys of service accounts, through the door: shown once, scoped, expiring, revocable, of one organisation."""

import asyncio
import hashlib
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import event
from starlette.datastructures import Headers

from gateway.office import Office
from gateway.signin.refused import SignInRefused
from sources.layers import key_text
from tests.commands import gateway, settings_file
from tests.conftest import fresh_database
from tests.door import Door, open_door

CREATE_ACCOUNT = """mutation ($input: CreateServiceAccountInput!) {
  createServiceAccount(input: $input) {
    serviceAccount { id name scopes keys { id } } operation { repeated } userErrors { code field }
  }
}"""
CREATE_KEY = """mutation ($input: CreateApiKeyInput!) {
  createApiKey(input: $input) {
    apiKey { id name scopes state expiresAt lastUsedAt } secret operation { repeated } userErrors { code message field }
  }
}"""
REVOKE = """mutation ($input: RevokeApiKeyInput!) {
  revokeApiKey(input: $input) { apiKey { id state revokedAt } userErrors { code field } }
}"""
REMOVE = """mutation ($input: RemoveServiceAccountInput!) {
  removeServiceAccount(input: $input) { removedServiceAccountId userErrors { code field } }
}"""
LISTED = """{ viewer { organisation {
  serviceAccounts(first: 50) { nodes { id name scopes keys { id state lastUsedAt } } }
} } }"""
WHO = "{ viewer { id kind name scopes organisation { id } } }"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(world, postgres):
    async with fresh_database(postgres) as url, open_door(world, url, membership="ledger") as opened:
        opened.database_url = url
        yield opened


def fresh() -> str:
    return uuid4().hex


async def account(door: Door, persona: str = "owner-harbour", scopes=("invoices:read",), **headers) -> dict:
    """A new service account."""
    given = {"idempotencyKey": fresh(), "name": f"account {fresh()}", "scopes": list(scopes)}
    answer = await door.ask(persona, CREATE_ACCOUNT, {"input": given}, headers=headers)
    return answer.data["createServiceAccount"]


async def key(door: Door, account_id: str, persona: str = "owner-harbour", *, headers=None, **given) -> dict:
    """A new key of it."""
    given = {"idempotencyKey": fresh(), "serviceAccountId": account_id, "name": "key"} | given
    answer = await door.ask(persona, CREATE_KEY, {"input": given}, headers=headers)
    return answer.data["createApiKey"]


async def made(door: Door, persona: str = "owner-harbour", scopes=("invoices:read",), **headers) -> dict:
    """A new key of a new account."""
    return await key(
        door,
        (await account(door, persona, scopes, **headers))["serviceAccount"]["id"],
        persona,
        headers=headers,
    )


async def test_a_key_signs_in_its_service_account_with_its_scopes_alone(door):
    new = await made(door, scopes=("invoices:read", "accounts:read"))
    answer = await door.ask(None, WHO, token=new["secret"])
    viewer = answer.data["viewer"]
    assert viewer["kind"] == "SERVICE"
    assert viewer["scopes"] == ["accounts:read", "invoices:read"]
    assert viewer["organisation"] == {"id": "harbour"}
    seen = await door.ask(
        None, "{ viewer { account { name tickets { nodes { id } } } } }", token=new["secret"]
    )
    assert seen.data["viewer"]["account"]["name"] == door.world.accounts[0].crm_name
    assert seen.codes() == [("viewer.account.tickets", "FORBIDDEN")]


async def test_the_secret_is_shown_once_and_kept_nowhere(door):
    own = (await account(door))["serviceAccount"]["id"]
    given = {"idempotencyKey": fresh(), "serviceAccountId": own, "name": "key"}
    first = (await door.ask("owner-harbour", CREATE_KEY, {"input": given})).data["createApiKey"]
    again = (await door.ask("owner-harbour", CREATE_KEY, {"input": given})).data["createApiKey"]
    assert key_text.read(first["secret"]).id == first["apiKey"]["id"]
    assert (again["secret"], again["operation"]["repeated"]) == (None, True)
    assert again["apiKey"]["id"] == first["apiKey"]["id"]
    connection = await asyncpg.connect(door.database_url)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    secret = first["secret"].split("_")[2][:43]
    for table in tables:
        for row in await connection.fetch(f'SELECT t::text FROM "{table[0]}" t'):
            assert secret not in row[0]
    stored = await connection.fetchval("SELECT digest FROM api_keys WHERE id = $1", first["apiKey"]["id"])
    await connection.close()
    assert stored == hashlib.sha256(secret.encode()).digest()


async def test_the_same_idempotency_key_with_another_input_makes_nothing(door):
    own = (await account(door))["serviceAccount"]["id"]
    given = {"idempotencyKey": fresh(), "serviceAccountId": own, "name": "key"}
    await door.ask("owner-harbour", CREATE_KEY, {"input": given})
    answer = await door.ask("owner-harbour", CREATE_KEY, {"input": given | {"name": "other"}})
    assert answer.data["createApiKey"]["userErrors"][0]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert answer.data["createApiKey"]["secret"] is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"),
        lambda text: text[:20] + ("a" if text[20] != "a" else "b") + text[21:],
        lambda text: text[:40],
        lambda text: text + "x",
        lambda text: "bogk_",
        lambda text: "bogk_" + "x" * 62,
    ],
    ids=["checksum", "typo", "cut off", "longer", "prefix alone", "nonsense"],
)
async def test_a_key_that_is_not_whole_is_refused_without_asking_anybody(door, spoil, issuer_calls):
    new = await made(door)
    before = issuer_calls()
    answer = await door.ask(None, WHO, token=spoil(new["secret"]))
    assert answer.status == 401
    assert "WWW-Authenticate" in answer.headers
    assert issuer_calls() == before


async def test_the_secret_of_another_key_is_refused(door):
    one, other = await made(door), await made(door)
    body = f"bogk_{one['apiKey']['id']}_{other['secret'].split('_')[2][:43]}"
    forged = body + key_text._checksum(body)
    assert key_text.read(forged) is not None
    assert (await door.ask(None, WHO, token=forged)).status == 401
    assert (await door.ask(None, WHO, token=key_text.mint().text)).status == 401


async def test_a_flood_of_invented_keys_shares_a_few_queries(door, queries):
    await door.ask("owner-harbour", WHO)
    before = queries("api_keys.digest")
    answers = await asyncio.gather(*(door.ask(None, WHO, token=key_text.mint().text) for _ in range(300)))
    assert {answer.status for answer in answers} == {401}
    assert queries("api_keys.digest") - before < 100


async def test_a_known_key_costs_no_query_while_the_ledger_is_heard(door, queries):
    new = await made(door)

    async def look_ups() -> int:
        before = queries("api_keys.digest")
        assert (await door.ask(None, WHO, token=new["secret"])).status == 200
        return queries("api_keys.digest") - before

    assert await look_ups() == 1
    async with asyncio.timeout(30):
        # What PostgreSQL still had to say of the new key makes this process forget it once more.
        while await look_ups():
            pass
    assert [await look_ups() for _ in range(5)] == [0] * 5


async def test_a_revoked_key_is_refused_at_once_in_every_process(door):
    new = await made(door)
    bearer = Headers({"Authorization": f"Bearer {new['secret']}"})
    async with Office(door.office.settings, door.database_url) as other:
        assert (await door.ask(None, WHO, token=new["secret"])).status == 200
        assert (await other.signin.principal(bearer)).organisation == "harbour"
        given = {"idempotencyKey": fresh(), "apiKeyId": new["apiKey"]["id"]}
        revoked = (await door.ask("owner-harbour", REVOKE, {"input": given})).data["revokeApiKey"]
        assert revoked["apiKey"]["state"] == "REVOKED"
        assert (await door.ask(None, WHO, token=new["secret"])).status == 401
        with pytest.raises(SignInRefused, match="revoked"):
            await _until_refused(other, bearer)


async def _until_refused(office: Office, headers: Headers) -> None:
    async with asyncio.timeout(30):
        while await office.signin.principal(headers):
            await asyncio.sleep(0)


async def test_a_key_ends_when_it_expires(door):
    soon = datetime.now(UTC) + timedelta(days=1)
    new = await made(door)
    connection = await asyncpg.connect(door.database_url)
    await connection.execute(
        "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1", new["apiKey"]["id"]
    )
    await connection.close()
    async with asyncio.timeout(30):
        while (answer := await door.ask(None, WHO, token=new["secret"])).status != 401:
            pass
    assert "expired" in answer.errors[0]["message"]
    own = (await account(door))["serviceAccount"]["id"]
    limited = await key(door, own, expiresAt=soon.isoformat())
    assert datetime.fromisoformat(limited["apiKey"]["expiresAt"]) == soon
    for days in (-1, 3000):
        beyond = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        refused = await key(door, own, expiresAt=beyond)
        assert (refused["apiKey"], refused["userErrors"][0]["field"]) == (None, ["expiresAt"])


@pytest.mark.parametrize(
    ("scopes", "code"),
    [
        (["accounts:all"], "SCOPE_NOT_YOURS"),
        (["invoices:read", "tickets:internal"], "SCOPE_NOT_YOURS"),
        (["keys:write"], "SCOPE_NOT_YOURS"),
        (["accounts:view-as"], "SCOPE_NOT_YOURS"),
        (["no:such"], "INVALID"),
        ([], "INVALID"),
    ],
)
async def test_nobody_makes_an_account_that_holds_more_than_they_may_pass_on(door, scopes, code):
    refused = await account(door, scopes=scopes)
    assert refused["serviceAccount"] is None
    assert refused["userErrors"] == [{"code": code, "field": ["scopes"]}]


async def test_a_key_holds_no_more_than_its_account(door):
    own = (await account(door, scopes=["invoices:read", "accounts:read"]))["serviceAccount"]["id"]
    part = await key(door, own, scopes=["accounts:read"])
    assert part["apiKey"]["scopes"] == ["accounts:read"]
    refused = await key(door, own, scopes=["accounts:read", "tickets:read"])
    assert (refused["secret"], refused["userErrors"][0]["code"]) == (None, "SCOPE_NOT_YOURS")


async def test_what_was_written_into_the_book_by_hand_opens_nothing_more(door):
    new = await made(door)
    greedy = ["accounts:all", "accounts:read", "invoices:read", "keys:write", "tickets:internal"]
    connection = await asyncpg.connect(door.database_url)
    own = await connection.fetchval("SELECT account_id FROM api_keys WHERE id = $1", new["apiKey"]["id"])
    await connection.execute("UPDATE api_keys SET scopes = $1 WHERE account_id = $2", greedy, own)
    await connection.execute("UPDATE service_accounts SET scopes = $1 WHERE id = $2", greedy, own)
    await connection.close()
    async with asyncio.timeout(30):
        while (viewer := (await door.ask(None, WHO, token=new["secret"])).data["viewer"])["scopes"] == [
            "invoices:read"
        ]:
            pass
    assert viewer["scopes"] == ["accounts:read", "invoices:read"]
    assert viewer["organisation"] == {"id": "harbour"}


async def test_another_organisations_accounts_and_keys_are_not_there(door):
    theirs = await made(door, "owner-moeller")
    their_account = (await account(door, "owner-moeller"))["serviceAccount"]["id"]
    missing = fresh()
    for given in (their_account, missing):
        refused = await key(door, given)
        assert refused["userErrors"][0]["code"] == "NOT_FOUND"
        payload = {"idempotencyKey": fresh(), "serviceAccountId": given}
        answer = (await door.ask("owner-harbour", REMOVE, {"input": payload})).data
        assert answer["removeServiceAccount"]["userErrors"][0]["code"] == "NOT_FOUND"
    for given in (theirs["apiKey"]["id"], missing):
        payload = {"idempotencyKey": fresh(), "apiKeyId": given}
        answer = (await door.ask("owner-harbour", REVOKE, {"input": payload})).data["revokeApiKey"]
        assert answer == {"apiKey": None, "userErrors": [{"code": "NOT_FOUND", "field": ["apiKeyId"]}]}
    assert (await door.ask(None, WHO, token=theirs["secret"])).status == 200
    listed = (await door.ask("owner-harbour", LISTED)).data["viewer"]["organisation"]["serviceAccounts"]
    shown = {held["id"] for node in listed["nodes"] for held in node["keys"]}
    assert theirs["apiKey"]["id"] not in shown
    assert their_account not in {node["id"] for node in listed["nodes"]}
    for organisation in ("moeller", "nowhere"):
        answer = await door.ask(
            None, WHO, token=(await made(door))["secret"], headers={"X-Organisation": organisation}
        )
        assert (answer.status, answer.errors[0]["extensions"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("persona", ["finance-harbour", "standard-harbour", "read-only-harbour"])
async def test_only_owners_see_and_make_keys(door, persona):
    given = {"idempotencyKey": fresh(), "name": "mine", "scopes": ["accounts:read"]}
    answer = await door.ask(persona, CREATE_ACCOUNT, {"input": given})
    assert answer.codes() == [("createServiceAccount", "FORBIDDEN")]
    answer = await door.ask(persona, LISTED)
    assert answer.codes() == [("viewer.organisation.serviceAccounts", "FORBIDDEN")]


async def test_a_removed_account_takes_its_keys_with_it(door):
    new_account = (await account(door))["serviceAccount"]["id"]
    secret = (await key(door, new_account))["secret"]
    assert (await door.ask(None, WHO, token=secret)).status == 200
    given = {"idempotencyKey": fresh(), "serviceAccountId": new_account}
    removed = (await door.ask("owner-harbour", REMOVE, {"input": given})).data["removeServiceAccount"]
    assert removed == {"removedServiceAccountId": new_account, "userErrors": []}
    assert (await door.ask(None, WHO, token=secret)).status == 401


async def test_the_firms_own_account_sees_all_customers_and_only_admins_make_one(door):
    new = await made(door, "admin", ["accounts:all", "accounts:read"])
    for headers, seen in (({}, None), ({"X-Organisation": "moeller"}, {"id": "moeller"})):
        viewer = (await door.ask(None, WHO, token=new["secret"], headers=headers)).data["viewer"]
        assert viewer["organisation"] == seen
    names = "{ accounts(first: 3) { nodes { name } } }"
    assert len((await door.ask(None, names, token=new["secret"])).data["accounts"]["nodes"]) == 3
    firms = "{ serviceAccounts(first: 50) { nodes { keys { id } } } }"
    listed = (await door.ask("admin", firms)).data["serviceAccounts"]["nodes"]
    assert [{"id": new["apiKey"]["id"]}] in [node["keys"] for node in listed]
    assert (await door.ask("owner-harbour", firms)).codes() == [("serviceAccounts", "FORBIDDEN")]
    given = {"idempotencyKey": fresh(), "name": "mine", "scopes": ["accounts:read"]}
    refused = await door.ask("support", CREATE_ACCOUNT, {"input": given})
    assert refused.codes() == [("createServiceAccount", "FORBIDDEN")]


async def test_staff_who_act_for_a_customer_make_the_customers_keys_with_no_scope_of_staff(door):
    headers = {"X-Organisation": "moeller"}
    refused = await account(door, "admin", ["accounts:all"], **headers)
    assert refused["userErrors"][0]["code"] == "SCOPE_NOT_YOURS"
    new = await made(door, "admin", ["accounts:read"], **headers)
    viewer = (await door.ask(None, WHO, token=new["secret"])).data["viewer"]
    assert viewer["organisation"] == {"id": "moeller"}


async def test_the_last_use_is_noted_once_a_minute_and_nobody_forgets_anything_for_it(door, queries):
    new = await made(door)
    await door.ask(None, WHO, token=new["secret"])
    async with asyncio.timeout(30):
        while not (used := await last_used(door, new["apiKey"]["id"])):
            pass
    assert abs(datetime.fromisoformat(used) - datetime.now(UTC)) < timedelta(seconds=60)
    before = queries("api_key_uses"), queries("api_keys.digest")
    await asyncio.gather(*(door.ask(None, WHO, token=new["secret"]) for _ in range(20)))
    assert (queries("api_key_uses"), queries("api_keys.digest")) == before


async def last_used(door: Door, key_id: str) -> str | None:
    listed = (await door.ask("owner-harbour", LISTED)).data["viewer"]["organisation"]["serviceAccounts"]
    keys = {held["id"]: held for node in listed["nodes"] for held in node["keys"]}
    return keys[key_id]["lastUsedAt"]


async def test_the_operator_makes_lists_and_revokes_keys(door, tmp_path):
    config = settings_file(tmp_path, door)

    async def keys(*arguments: str) -> tuple[int, str]:
        return await gateway(door.database_url, config, "keys", *arguments)

    code, printed = await keys(
        "create", "Directory", "--scope", "members:provision", "-o", "harbour", "--days", "30"
    )
    assert code == 0, printed
    secret = next(line for line in printed.splitlines() if line.startswith("bogk_"))
    viewer = (await door.ask(None, WHO, token=secret)).data["viewer"]
    assert (viewer["name"], viewer["organisation"]) == ("Directory", {"id": "harbour"})
    id_ = key_text.read(secret).id
    code, listed = await keys("list", "-o", "harbour")
    assert (code, id_ in listed, secret in listed) == (0, True, False)
    assert (await keys("revoke", id_))[0] == 0
    assert (await door.ask(None, WHO, token=secret)).status == 401
    for wrong in (
        ["create", "x", "--scope", "accounts:all", "-o", "harbour"],
        ["create", "x", "--scope", "accounts:read", "-o", "nowhere"],
    ):
        code, printed = await keys(*wrong)
        assert (code, "Traceback" in printed, "bogk_" in printed) == (1, False, False)


async def test_no_log_holds_a_key(door, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    new = await made(door)
    await door.ask(None, WHO, token=new["secret"])
    await door.ask(None, WHO, token=new["secret"][:-1])
    secret = new["secret"].split("_")[2]
    output = capsys.readouterr()
    assert secret not in caplog.text + output.out + output.err


async def test_a_ledger_that_is_away_lets_no_unknown_key_in(world, postgres):
    async with fresh_database(postgres) as url, open_door(world, url, membership="ledger") as opened:
        connection = await asyncpg.connect(postgres)
        name = urlsplit(url).path.strip("/")
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name
        )
        await connection.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_away"')
        try:
            answer = await opened.ask(None, WHO, token=key_text.mint().text)
        finally:
            await connection.execute(f'ALTER DATABASE "{name}_away" RENAME TO "{name}"')
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await connection.close()
        assert answer.status == 503
        assert answer.errors[0]["extensions"]["code"] == "SOURCE_UNAVAILABLE"


@pytest.fixture
def issuer_calls(door):
    """How often the issuer was asked for anything."""
    return lambda: len(door.boxes["issuer"].log.calls())


@pytest.fixture
def queries(door):
    """How many statements that hold this text have gone to the ledger."""
    seen: list[str] = []

    def note(connection, cursor, statement, parameters, context, executemany):
        seen.append(statement)

    engine = door.office.ledger._database._pool.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield lambda text: sum(1 for statement in seen if text in statement)
    event.remove(engine, "before_cursor_execute", note)
