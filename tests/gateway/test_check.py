"""gateway check: one line per part, what is wrong with it and the setting to mend, and never a secret."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from gateway.check import Finding, check_issuers, check_ledger, check_mail, check_sources
from gateway.settings import Mail
from gateway.signin.settings import IssuerSettings, SignInSettings
from sources.ledger.book import Ledger
from sources.ports.common import CustomField, Scalar
from sources.sandbox.letters import letter_box
from sources.sandbox.world import World
from sources.transport.smtp import Encryption
from tests.commands import gateway, settings_file
from tests.conftest import fresh_database
from tests.door import Door, open_door

SECRETS = ("token", "client_secret", "api_token", "secret_access_key", "access_key_id")


@pytest_asyncio.fixture(scope="module")
async def running(postgres: str) -> AsyncIterator[tuple[Door, str]]:
    async with fresh_database(postgres) as url, open_door(World.build(0.05), url, matched=False) as door:
        yield door, url


@pytest.fixture
def config(running: tuple[Door, str], tmp_path: Path) -> Path:
    return settings_file(tmp_path, running[0])


@pytest_asyncio.fixture
async def door(running: tuple[Door, str]) -> AsyncIterator[Door]:
    yield running[0]
    running[0].heal()


async def findings(door: Door, config: Path, *own: CustomField, **environment: str) -> dict[str, Finding]:
    found = await check_sources(config, door.office.ledger.tokens, environment, own)
    return {one.subject: one for one in found}


def changed(config: Path, source: str, **options: str | None) -> None:
    """Sets options of one source; None takes one away."""
    text = config.read_text()
    before, head, table = text.partition(f"[sources.{source}]")
    table, mark, after = table.partition("[sources")
    for name, value in options.items():
        table = re.sub(rf"\n\s*{name} = .*", "", table)
        if value is not None:
            table = table.rstrip() + f"\n{name} = {value}\n"
    config.write_text(before + head + table + mark + after)


async def test_all_is_well(door: Door, config: Path) -> None:
    found = await findings(door, config)

    assert [(one.subject, one.ok) for one in found.values()] == [
        ("crm", True), ("erp", True), ("helpdesk", True), ("documents", True),
    ]  # fmt: skip
    assert found["crm"].detail.startswith("hubspot: configured, reachable, allowed: HubSpot account ")
    assert "bucket documents" in found["documents"].detail


@pytest.mark.parametrize(
    ("source", "options", "detail"),
    [
        ("crm", {"token": '"pat-wrong-secret"'}, "reachable, not allowed: hubspot: "),
        ("erp", {"client_secret": '"wrong-secret"'}, "reachable, not allowed: xero: "),
        (
            "erp",
            {"tenant_id": '"11111111-2222-4333-8444-555555555555"'},
            "reachable, not allowed: tenant_id is not one of",
        ),
        ("helpdesk", {"api_token": '"wrong-secret"'}, "reachable, not allowed: zendesk: "),
        ("documents", {"secret_access_key": '"wrong-secret"'}, "reachable, not allowed: s3: "),
        ("documents", {"access_key_id": '"wrong-secret"'}, "reachable, not allowed: s3: "),
    ],
)
async def test_wrong_credentials_are_told_from_a_host_that_is_away(
    door: Door, config: Path, source: str, options: dict[str, str], detail: str
) -> None:
    changed(config, source, **options)

    found = await findings(door, config)

    assert found[source].ok is False
    assert found[source].detail.startswith(detail)
    assert found[source].detail.endswith(f"see sources.{source} in gateway.toml")
    assert "wrong-secret" not in found[source].detail
    assert all(one.ok for subject, one in found.items() if subject != source)


@pytest.mark.parametrize(
    ("source", "option"),
    [
        ("crm", "base_url"),
        ("erp", "token_url"),
        ("erp", "connections_url"),
        ("helpdesk", "base_url"),
        ("documents", "endpoint_url"),
    ],
)
async def test_a_host_that_is_away_is_told_with_the_table_of_its_address(
    door: Door, config: Path, source: str, option: str
) -> None:
    changed(config, source, **{option: '"http://127.0.0.1:1"'})

    found = await findings(door, config)

    assert found[source].ok is False
    assert found[source].detail.startswith("not reachable: ")
    assert found[source].detail.endswith(f"see the addresses in sources.{source} in gateway.toml")


@pytest.mark.parametrize("fault", ["fail", "rate_limit", "garbage"])
async def test_a_vendor_in_trouble_is_told(door: Door, config: Path, fault: str) -> None:
    door.boxes["hubspot"].faults.add(fault)  # type: ignore[arg-type]

    found = await findings(door, config)

    assert found["crm"].ok is False
    assert {"fail": "not reachable: ", "rate_limit": "reachable, but ", "garbage": "reachable, but "}[
        fault
    ] in found["crm"].detail


async def test_what_is_not_configured_is_said_and_only_the_crm_is_missed(door: Door, config: Path) -> None:
    text = config.read_text()
    config.write_text(text.partition("[sources")[0])

    found = await findings(door, config)

    assert {subject: one.ok for subject, one in found.items()} == {
        "crm": False, "erp": None, "helpdesk": None, "documents": None,
    }  # fmt: skip
    assert found["erp"].detail == "not configured; add [sources.erp] to gateway.toml"


async def test_a_missing_variable_is_named_and_hides_no_other_source(door: Door, config: Path) -> None:
    changed(config, "erp", client_secret='{ env = "XERO_SECRET" }')

    missing = await findings(door, config)
    secret = door.office.settings.sources[
        next(k for k in door.office.settings.sources if k.value == "erp")
    ].settings.client_secret  # type: ignore[attr-defined]
    given = await findings(door, config, XERO_SECRET=secret)

    assert missing["erp"].detail == (
        "not configured: gateway.toml: sources.erp.client_secret: environment variable XERO_SECRET is not set"
    )
    assert [one.ok for one in missing.values()] == [True, False, True, True]
    assert given["erp"].ok


async def test_an_own_field_that_the_vendor_cannot_have_is_named(door: Door, config: Path) -> None:
    field = CustomField("Ticket", "region", "not a number", Scalar.STRING, "x")

    found = await findings(door, config, field)

    assert found["helpdesk"].ok is False
    assert "Ticket.region: property must be a ticket field's number" in found["helpdesk"].detail
    assert found["helpdesk"].detail.endswith("see sources.helpdesk and [[fields]] in gateway.toml")


async def test_the_issuer_and_the_database_have_a_line_each(door: Door, tmp_path: Path) -> None:
    url = door.issuer.url
    discovery = f"{url}/.well-known/openid-configuration"
    issuers = (
        IssuerSettings(issuer=url, audience="x"),
        IssuerSettings(issuer="http://127.0.0.1:1", audience="x"),
        IssuerSettings(issuer=url + "/other", audience="x", discovery_url=discovery),
        IssuerSettings(issuer=url, audience="x", algorithms=("ES256",)),
        IssuerSettings(
            issuer=url, audience="x", introspect=True, introspection_url=f"{url}/nowhere",
            client_id="gateway", client_secret="s",
        ),
    )  # fmt: skip
    away = await Ledger.open(f"postgresql://postgres@/postgres?host={tmp_path}")
    try:
        lines = [
            *await check_issuers(SignInSettings(issuers=issuers)),
            await check_ledger(door.office.ledger),
            await check_ledger(away),
        ]
    finally:
        await away.close()

    assert [line.ok for line in lines] == [True, False, False, False, False, True, False]
    assert [line.detail for line in lines[:5]] == [
        f"{url}: 1 key(s), believed for customers",
        "http://127.0.0.1:1: no keys: http://127.0.0.1:1/.well-known/openid-configuration or its keys cannot be read"
        " (ClientConnectorError); see signin.issuers[1].issuer and signin.issuers[1].discovery_url",
        f"{url}/other: no keys: the discovery document is of the issuer {url!r};"
        " see signin.issuers[2].issuer and signin.issuers[2].discovery_url",
        f"{url}: it signs with RS256; see signin.issuers[3].algorithms",
        f"{url}: introspection: the issuer answers 404; see signin.issuers[4].client_id and .introspection_url",
    ]
    assert lines[6].detail.endswith("see database.url or DATABASE_URL")


async def test_the_mail_server_is_reached_and_signed_in_to_without_a_mail() -> None:
    async with letter_box() as box:
        there = Mail(
            host=box.host, port=box.port, sender="a@b.example", sender_name="B", encryption=Encryption.NONE
        )
        found = [
            await check_mail(there),
            await check_mail(msgspec.structs.replace(there, encryption=Encryption.STARTTLS)),
            await check_mail(msgspec.structs.replace(there, port=1)),
            await check_mail(None),
        ]
        assert box.mails == []

    assert [one.ok for one in found] == [True, False, False, None]
    assert "see [mail] host" in found[2].detail


# -- the command ---------------------------------------------------------------------------------------------------------


def secrets_of(config: Path) -> list[str]:
    return re.findall(rf'(?:{"|".join(SECRETS)}) = "([^"]+)"', config.read_text())


async def test_the_command_prints_a_line_each_and_ends_well(running: tuple[Door, str], config: Path) -> None:
    code, said = await gateway(running[1], config, "check")

    assert code == 0, said
    lines = [line.split() for line in said.splitlines()]
    assert [line[:2] for line in lines] == [
        ["ok", "database"],
        ["ok", "signin"],
        ["--", "mail"],
        ["--", "redis"],
        ["--", "telemetry"],
        *(["ok", name] for name in ("crm", "erp", "helpdesk", "documents")),
        ["--", "tokens"],
    ]
    assert len(secrets_of(config)) == 5
    assert not any(secret in said for secret in secrets_of(config))


async def test_the_command_names_all_that_is_wrong_at_once_and_ends_with_1(
    running: tuple[Door, str], config: Path, tmp_path: Path
) -> None:
    _, url = running
    changed(config, "crm", token='"pat-wrong-secret"')
    changed(config, "erp", client_secret='{ env = "XERO_SECRET" }')
    changed(config, "helpdesk", base_url='"http://127.0.0.1:1"')
    config.write_text(
        config.read_text().partition("[sources.documents]")[0] + '[gateway]\ntimezone = "Nowhere"\n'
    )

    (
        (code, said),
        (missing_code, missing),
        (database_code, database),
        (broken_code, broken),
    ) = await asyncio.gather(
        gateway(url, config, "check", GATEWAY_CONFIG=""),
        gateway(url, tmp_path / "none.toml", "check"),
        gateway("mysql://root:hush@db/x", config, "check"),
        gateway(url, _broken(tmp_path), "check"),
    )

    marks = {line.split()[1]: line.split()[0] for line in said.splitlines()}
    assert marks == {
        "settings": "FAIL", "database": "ok", "signin": "ok", "mail": "--", "redis": "--", "telemetry": "--", "crm": "FAIL", "erp": "FAIL", "helpdesk": "FAIL",
        "documents": "--", "tokens": "--",
    }  # fmt: skip
    assert "gateway.timezone: 'Nowhere' is unknown" in said
    assert "XERO_SECRET is not set" in said
    assert (code, missing_code, database_code, broken_code) == (1, 1, 1, 1)
    assert missing.count("\n") == 1
    assert "cannot be read" in missing
    assert "DATABASE_URL: begin with postgresql://" in database
    assert broken.count("\n") == 1
    for output in (said, missing, database, broken):
        assert "Traceback" not in output
        assert not re.search("pat-wrong-secret|hush", output)
        assert not any(secret in output for secret in secrets_of(config))
    assert not list(tmp_path.glob("**/postgres"))


def _broken(folder: Path) -> Path:
    path = folder / "broken.toml"
    path.write_text("[signin\n")
    return path


async def test_serving_with_a_wrong_setting_says_it_in_one_line(
    running: tuple[Door, str], config: Path
) -> None:
    changed(config, "crm", batch_size="500")

    code, said = await gateway(running[1], config, "serve")

    assert (code, said.strip()) == (1, "gateway.toml: sources.crm.batch_size: Expected `int` <= 100")


async def test_serving_with_an_own_field_that_the_vendor_cannot_have_says_it_in_one_line(
    running: tuple[Door, str], config: Path
) -> None:
    with config.open("a") as file:
        file.write(
            '\n[[fields]]\ntype = "Ticket"\nname = "region"\nproperty = "region"\nscalar = "String"\ndescription = "d"\n'
        )

    code, said = await gateway(running[1], config, "serve")

    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith("gateway.toml: sources.helpdesk: zendesk: Ticket.region: property must be")


async def test_serving_without_a_database_says_it_in_one_line(config: Path) -> None:
    code, said = await gateway("postgresql://nobody@127.0.0.1:1/none", config, "serve")

    assert (code, said) == (1, "ledger: the database is unreachable; check database_url\n")
