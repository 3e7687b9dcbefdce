"""gateway members: the operator lets an organisation's first owner in, and everything they do is on the record."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from sources.ports.common import Window
from sources.ports.members import BookQuery, MemberRecord
from sources.sandbox.letters import text_of
from sources.sandbox.world import World
from tests.commands import gateway, settings_file
from tests.conftest import fresh_database
from tests.door import Door, open_door

ACCEPT = """mutation A($input: AcceptInvitationInput!) {
  acceptInvitation(input: $input) { member { roles } userErrors { code } } }"""


@pytest_asyncio.fixture(scope="module")
async def running(postgres: str) -> AsyncIterator[tuple[Door, str]]:
    async with (
        fresh_database(postgres) as url,
        open_door(World.build(0.05), url, matched=False, membership="ledger") as door,
    ):
        yield door, url


@pytest.fixture
def config(running: tuple[Door, str], tmp_path: Path) -> Path:
    """Without mails."""
    path = settings_file(tmp_path, running[0])
    path.write_text('signin.membership = "ledger"\n' + path.read_text())
    return path


async def of_harbour(door: Door) -> dict[str | None, MemberRecord]:
    page = await door.office.ledger.members.members_of(BookQuery("harbour", Window(first=100)))
    return {member.subject: member for member in page.rows}


async def test_the_first_owner_is_invited_and_accepts(running: tuple[Door, str], config: Path) -> None:
    door, url = running
    code, said = await gateway(url, config, "members", "invite", "harbour", "nina@new.example")
    assert code == 0, said
    found = re.search(r"acceptInvitation with the secret (\S+)", said)
    assert found
    answer = await door.ask("newcomer", ACCEPT, {"input": {"idempotencyKey": "k", "secret": found[1]}})
    assert answer.data["acceptInvitation"] == {"member": {"roles": ["owner"]}, "userErrors": []}


async def test_an_invitation_is_mailed_where_mails_are_sent(running: tuple[Door, str], config: Path) -> None:
    door, url = running
    config.write_text(
        config.read_text()
        + f"""
        [mail]
        host = "{door.letters.host}"
        port = {door.letters.port}
        encryption = "none"
        sender = "portal@firm.example"
        sender_name = "The Firm"
        [invitations]
        accept_url = "https://portal.example/join#{{secret}}"
        """
    )
    code, said = await gateway(
        url, config, "members", "invite", "moeller", "mia@new.example", "--role", "finance"
    )
    assert code == 0, said
    assert said.strip().endswith(": mailed to mia@new.example")
    mail = door.letters.mails[-1]
    assert mail["To"] == "mia@new.example"
    secret = re.search(r"join#(\S+)", text_of(mail))
    assert secret
    assert secret[1] not in said


async def test_members_are_listed_added_changed_and_removed(running: tuple[Door, str], config: Path) -> None:
    door, url = running
    code, said = await gateway(
        url,
        config,
        "members",
        "add",
        "harbour",
        door.issuer.url,
        "cleo",
        "--role",
        "finance",
        "--name",
        "Cleo",
    )
    assert code == 0, said
    added = (await of_harbour(door))["cleo"]
    assert (added.roles, added.name, added.invited_by is not None) == (("finance",), "Cleo", True)
    code, said = await gateway(url, config, "members", "roles", "harbour", added.id, "standard", "partner")
    assert code == 0, said
    code, listed = await gateway(url, config, "members", "list", "harbour")
    assert code == 0
    assert re.search(rf"{added.id}.*Cleo.*standard partner.*active", listed)
    code, said = await gateway(url, config, "members", "remove", "harbour", added.id)
    assert code == 0, said
    assert "cleo" not in await of_harbour(door)


async def test_what_cannot_be_is_said_in_one_line_changes_nothing_and_is_on_the_record(
    running: tuple[Door, str], config: Path, tmp_path: Path
) -> None:
    door, url = running
    before = await of_harbour(door)
    moeller = (await door.office.ledger.members.members_of(BookQuery("moeller", Window(first=100)))).rows[0]
    by_claims = tmp_path / "claims.toml"
    by_claims.write_text(config.read_text().replace('signin.membership = "ledger"', ""))
    cases = (
        (
            config,
            ("invite", "harbour", "a@b.example", "--role", "admin"),
            "admin: members may be owner, finance",
        ),
        (config, ("add", "harbour", "https://elsewhere.example", "x"), "no issuer of signin.issuers"),
        (config, ("remove", "harbour", moeller.id), "there is no such member"),
        (config, ("remove", "moeller", moeller.id), "would be left without a lasting member who is owner"),
        (
            by_claims,
            ("add", "harbour", door.issuer.url, "zoe"),
            "the claims of sign-ins say who is a member here",
        ),
    )
    outcomes = await asyncio.gather(
        *(gateway(url, path, "members", *arguments) for path, arguments, _ in cases)
    )
    for (code, said), (_, _, words) in zip(outcomes, cases, strict=True):
        assert (code, said.count("\n")) == (1, 1), said
        assert words in said
    assert await of_harbour(door) == before
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT audit::text AS row FROM audit")
    await connection.close()
    told = [row["row"] for row in rows if "members remove" in row["row"]]
    for refusal in ("NOT_FOUND", "LAST_OWNER"):
        assert any(refusal in row for row in told)
