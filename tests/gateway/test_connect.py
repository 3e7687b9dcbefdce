"""``gateway connect`` and ``gateway tokens``: consenting at a vendor from a terminal, and what is kept of it."""

import asyncio
import base64
import re
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from gateway.settings import SettingsError, read_tokens
from sources.ledger.book import Ledger
from sources.ledger.token_cipher import TokenKey
from sources.ports.tokens import Tokens
from sources.registry import Kind
from sources.sandbox.world import World
from sources.vendors.hubspot import sandbox as hubspot
from sources.vendors.xero.sandbox import FIRST_REFRESH_TOKEN, TENANT, WEB_APP, XeroSandbox
from sources.vendors.zendesk import sandbox as zendesk
from tests.commands import Running, gateway, settings_file, started
from tests.conftest import fresh_database
from tests.door import Door, open_door

KEY, NEWER = b"k" * 32, b"n" * 32
OTHER_TENANT = "11111111-2222-4333-8444-555555555555"


@pytest_asyncio.fixture(scope="session")
async def vendors(postgres):
    async with fresh_database(postgres) as url, open_door(World.build(0.2), url, matched=False) as opened:
        yield opened


@pytest.fixture
def door(vendors):
    vendors.heal()
    vendors.boxes["xero"].also_connected.clear()
    vendors.boxes["xero"].grace = False
    vendors.forget_calls()
    return vendors


@pytest.fixture
def config(tmp_path: Path, door) -> Path:
    """Xero by a web app that somebody must consent to."""
    path = settings_file(tmp_path, door)
    erp = door.office.settings.sources[Kind.ERP].settings
    text = path.read_text()
    text = re.sub(r'client_id = ".*?"', f'client_id = "{WEB_APP[0]}"', text, count=1)
    text = re.sub(
        r'client_secret = ".*?"',
        f'client_secret = "{WEB_APP[1]}"\nconnected = true\nauthorize_url = "{erp.authorize_url}"',
        text,
        count=1,
    )
    text += f'\n[tokens]\nkeys = [{{ id = "2026", key = "{base64.b64encode(KEY).decode()}" }}]\n'
    path.write_text(text)
    return path


class Connecting:
    """``gateway connect`` while it waits for a browser."""

    def __init__(self, running: Running, url: str) -> None:
        self.ended, self.url = running.ended, url
        self.redirect_uri = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        self.state = parse_qs(urlsplit(url).query)["state"][0]


async def connecting(url: str, config: Path, *arguments: str, vendor: str = "xero") -> Connecting:
    running = await started(url, config, "connect", vendor, "--port", "0", *arguments)
    while line := await running.line():
        if (found := line.strip()).startswith("http"):
            return Connecting(running, found)
    raise AssertionError("no address was printed")


async def browse(url: str) -> tuple[int, str]:
    """What a browser does; here its way back is to IPv4."""
    async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as answer:
        if answer.status == 302:
            return await browse(answer.headers["Location"].replace("localhost", "127.0.0.1"))
        return answer.status, await answer.text()


async def test_a_consent_connects_xero_and_no_stranger_can(door, config, database_url):
    waiting = await connecting(database_url, config)
    asked = parse_qs(urlsplit(waiting.url).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert "offline_access" in asked["scope"][0].split()

    back = waiting.redirect_uri.replace("localhost", "127.0.0.1")
    assert (await browse(f"{back}?code=stolen&state=guessed"))[0] == 400
    assert (await browse(f"{back}?code=stolen"))[0] == 400
    assert not door.boxes["xero"].log.count("POST", "/connect/token")
    assert (await browse(waiting.url))[0] == 200

    code, output = await waiting.ended()
    assert code == 0, output
    assert "xero: connected" in output
    assert "connected = true" in output
    code, output = await gateway(database_url, config, "check")
    assert code == 0, output
    assert "1 connection(s), encrypted with the key 2026" in output
    assert "xero: configured, reachable, allowed" in output


async def test_a_refused_consent_stores_nothing(door, config, database_url):
    waiting = await connecting(database_url, config)
    back = waiting.redirect_uri.replace("localhost", "127.0.0.1")

    await browse(f"{back}?error=access_denied&state={waiting.state}")

    code, output = await waiting.ended()
    assert (code, "the consent was not given; nothing was stored" in output) == (1, True)
    assert await rows(database_url) == []


async def test_of_several_organisations_one_is_chosen_and_another_is_not_reached(door, config, database_url):
    door.boxes["xero"].also_connected.append((OTHER_TENANT, "Second Books Ltd"))
    config.write_text(re.sub(r"tenant_id = .*", "", config.read_text()))

    waiting = await connecting(database_url, config)
    await browse(waiting.url)
    code, output = await waiting.ended()
    assert code == 0
    assert f"{OTHER_TENANT}  Second Books Ltd" in output
    assert 'tenant_id = "..."' in output

    waiting = await connecting(database_url, config, "--tenant", "second books ltd")
    await browse(waiting.url)
    code, output = await waiting.ended()
    assert code == 0
    assert f'tenant_id = "{OTHER_TENANT}" # Second Books Ltd' in output

    before = await rows(database_url)
    waiting = await connecting(database_url, config, "--tenant", "nobody")
    await browse(waiting.url)
    code, output = await waiting.ended()
    assert code == 1
    assert "the consent does not reach nobody; nothing was stored" in output
    assert TENANT in output
    assert await rows(database_url) == before


async def test_a_spent_connection_is_told_and_connected_again(door, config, database_url):
    async with kept(database_url) as ledger:
        await ledger.tokens.replace("xero", Tokens("spent", ""))
        code, output = await gateway(database_url, config, "check")
        assert code == 1
        assert "xero: consent needed; run `gateway connect xero`" in output

        waiting = await connecting(database_url, config)
        await browse(waiting.url)

        assert (await waiting.ended())[0] == 0
        stored = await ledger.tokens.load("xero")
        assert stored
        assert not stored.consent_needed
        assert stored.refresh_token in door.boxes["xero"]._refresh


def by_consent(config: Path, door: Door, vendor: str) -> None:
    """The source by an OAuth app that somebody must consent to."""
    kind, box, credentials = {
        "hubspot": (Kind.CRM, hubspot, r"token = .*"),
        "zendesk": (Kind.HELPDESK, zendesk, r"email = .*\n\s*api_token = .*"),
    }[vendor]
    base = door.office.settings.sources[kind].settings.base_url
    settings = box.oauth_settings_for(base)
    addresses = f'authorize_url = "{base}/oauth/authorize"\ntoken_url = "{base}/oauth/v3/token"'
    app = f"""
        client_id = "{settings.client_id}"
        client_secret = "{settings.client_secret}"
        connected = true
        {addresses if vendor == "hubspot" else ""}
    """
    before, head, table = config.read_text().partition(f"[sources.{kind.value}]")
    config.write_text(before + head + re.sub(credentials, app, table, count=1))


@pytest.mark.parametrize("vendor", ["hubspot", "zendesk"])
async def test_hubspot_and_zendesk_are_connected_in_the_same_way(door, config, database_url, vendor):
    by_consent(config, door, vendor)
    async with kept(database_url) as ledger:
        waiting = await connecting(database_url, config, vendor=vendor)
        asked = parse_qs(urlsplit(waiting.url).query)
        assert asked["code_challenge_method"] == ["S256"]
        back = waiting.redirect_uri.replace("localhost", "127.0.0.1")
        assert (await browse(f"{back}?code=stolen&state=guessed"))[0] == 400
        assert (await browse(waiting.url))[0] == 200
        code, output = await waiting.ended()
        assert code == 0, output
        assert f"{vendor}: connected; the tokens are stored encrypted" in output
        stored = await ledger.tokens.load(vendor)
        assert stored
        assert [row["key_id"] for row in await rows(database_url)] == ["2026"]

        _, output = await gateway(database_url, config, "check")
        assert f"{vendor}: configured, reachable, allowed" in output

        await ledger.tokens.replace(vendor, Tokens("spent", ""))
        code, output = await gateway(database_url, config, "check")
        assert code == 1
        assert f"{vendor}: consent needed; run `gateway connect {vendor}`" in output


async def renewing(ledger: Ledger, box: XeroSandbox) -> None:
    """Consented to a while ago: whoever calls Xero next must renew the access token."""
    box._refresh[FIRST_REFRESH_TOKEN] = next(iter(box._refresh.values()))
    await ledger.tokens.replace("xero", Tokens(FIRST_REFRESH_TOKEN, ""))
    box.log.clear()


def renewals(box: XeroSandbox) -> int:
    return box.log.count("POST", "/connect/token")


async def test_a_process_that_is_killed_while_it_renews_keeps_no_other_from_it(door, config, database_url):
    box = door.boxes["xero"]
    async with kept(database_url) as ledger:
        await renewing(ledger, box)
        box.faults.add("hang", "/connect/token", times=1)
        first = await started(database_url, config, "check")
        while not renewals(box):
            await asyncio.sleep(0.02)
        others = [await started(database_url, config, "check") for _ in range(3)]
        first.kill()
        await first.ended()
        for one in others:
            assert "xero: configured, reachable, allowed" in (await one.ended())[1]
        assert renewals(box) == 2  # one of the three, and the killed one's
        stored = await ledger.tokens.load("xero")
        assert stored
        assert stored.refresh_token in box._refresh


async def test_a_rotated_token_that_was_lost_on_its_way_is_asked_for_once_more(door, config, database_url):
    box = door.boxes["xero"]
    box.grace = True
    async with kept(database_url) as ledger:
        await renewing(ledger, box)
        box.faults.add("truncated", "/connect/token", times=1)
        _, output = await gateway(database_url, config, "check")
        assert "xero: configured, reachable, allowed" in output
        assert renewals(box) == 2
        stored = await ledger.tokens.load("xero")
        assert stored
        assert stored.refresh_token in box._refresh


async def test_keys_are_rotated_by_a_command(door, config, database_url):
    key = base64.b64encode(NEWER).decode()
    config.write_text(config.read_text().replace("keys = [", f'keys = [{{ id = "2027", key = "{key}" }}, '))
    async with kept(database_url) as ledger:
        await ledger.tokens.replace("xero", Tokens("r", ""))
        assert [row["key_id"] for row in await rows(database_url)] == ["2026"]

        code, output = await gateway(database_url, config, "tokens", "rotate")

        assert (code, "xero: stored under the newest key" in output) == (0, True), output
        assert [row["key_id"] for row in await rows(database_url)] == ["2027"]
        assert [state.readable for state in await ledger.tokens.states()] == [False]


@pytest.mark.parametrize("command", [["serve", "--port", "1"], ["check"]], ids=["serve", "check"])
async def test_without_keys_nothing_starts_and_what_to_set_is_said(door, config, database_url, command):
    config.write_text(config.read_text().partition("[tokens]")[0])
    code, output = await gateway(database_url, config, *command)
    assert code == 1
    assert "set [tokens] keys; `gateway tokens key` makes one" in output


@pytest.mark.parametrize("key", ["short", base64.b64encode(b"x" * 16).decode(), "!?"])
def test_a_key_that_is_none_is_told_and_not_shown(key):
    tables = {"tokens": {"keys": [{"id": "2026", "key": {"env": "TOKEN_KEY"}}]}}
    with pytest.raises(SettingsError) as fault:
        read_tokens(tables, "gateway.toml", {"TOKEN_KEY": key})
    assert str(fault.value) == (
        "gateway.toml: tokens.keys[0].key: 32 bytes in base64; `gateway tokens key` makes one"
    )


def test_two_keys_of_one_name_are_refused():
    one = {"id": "2026", "key": base64.b64encode(KEY).decode()}
    with pytest.raises(SettingsError, match="is there twice"):
        read_tokens({"tokens": {"keys": [one, one]}}, "gateway.toml", {})


async def test_metrics_and_readiness_tell_that_a_consent_is_needed(door):
    async with kept(door.office._database_url) as ledger:
        await ledger.tokens.replace("xero", Tokens("r", "", consent_needed=True))
        _, _, metrics = await door.fetch("admin", "/metrics")
        _, _, ready = await door.fetch(None, "/health/ready")
        await ledger.tokens.replace("xero", Tokens("r", ""))
        _, _, healed = await door.fetch("admin", "/metrics")

    assert b'gateway_source_consent_needed{source="xero"} 1.0' in metrics
    assert b'"xero":"consent needed: run `gateway connect xero`"' in ready
    assert b'gateway_source_consent_needed{source="xero"} 0.0' in healed


async def test_dropped_records_are_counted_in_metrics_and_the_page_goes_on(door):
    query = "{ accounts(first: 5) { nodes { name } } }"
    whole = await door.ask("admin", query)
    assert not whole.errors
    door.boxes["hubspot"].faults.add("malformed_row", "/crm/v3/objects/companies", times=1)
    answer = await door.ask("admin", query)

    _, _, metrics = await door.fetch("admin", "/metrics")
    assert not answer.errors
    assert [node["name"] for node in answer.data["accounts"]["nodes"]][:4] == [
        node["name"] for node in whole.data["accounts"]["nodes"]
    ][1:]
    assert b'gateway_records_dropped_total{kind="account",source="hubspot"} 1.0' in metrics


@asynccontextmanager
async def kept(database_url: str):
    """The book of tokens, as another process has it open."""
    ledger = await Ledger.open(database_url, token_keys=[TokenKey("2026", KEY)])
    await ledger.migrate()
    try:
        yield ledger
    finally:
        await ledger.close()


async def rows(database_url: str) -> list[dict[str, object]]:
    connection = await asyncpg.connect(database_url)
    try:
        if await connection.fetchval("SELECT to_regclass('tokens')") is None:
            return []
        return [dict(row) for row in await connection.fetch("SELECT * FROM tokens")]
    finally:
        await connection.close()
