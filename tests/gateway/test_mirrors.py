"""The graph over a mirrored helpdesk, and what the operator is told of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio

from sources.layers.mirror import MirrorSettings
from sources.registry import Kind
from sources.vendors.freshdesk import sandbox as emulator
from tests.commands import gateway
from tests.door import Door
from tests.mirrored import open_mirrored

HOME = """query Home($id: ID!) { node(id: $id) { ... on Account {
    openTicketCount
    tickets(first: 5) { nodes { number subject status comments(first: 20) { nodes { body } } } }
} } }"""
DASHBOARD = "{ accounts(first: 50) { nodes { openTicketCount tickets(first: 3) { nodes { number } } } } }"


class Mirrored:
    def __init__(self, door: Door, box: emulator.FreshdeskSandbox, url: str) -> None:
        self.door, self.box, self.url = door, box, url

    def lists(self) -> int:
        return sum(call.path == "/api/v2/tickets" for call in self.box.log.calls())


@pytest_asyncio.fixture(scope="module")
async def mirrored(postgres: str) -> AsyncIterator[Mirrored]:
    settings = MirrorSettings(every=1.0, lists_every=1.0)
    async with open_mirrored(postgres, settings) as (door, box, url):
        yield Mirrored(door, box, url)


async def test_a_customer_sees_its_own_tickets_and_no_internal_note(mirrored: Mirrored) -> None:
    door = mirrored.door
    answer = await door.ask("owner-harbour", HOME, {"id": door.account_id(0)})
    assert answer.errors == []
    tickets = answer.data["node"]["tickets"]["nodes"]
    truth = {str(ticket.id): ticket for ticket in door.world.tickets_by_account[0]}
    assert len(tickets) == 5
    for ticket in tickets:
        known = truth[ticket["number"]]
        assert ticket["subject"] == known.subject
        assert sorted(said["body"] for said in ticket["comments"]["nodes"]) == sorted(
            comment.body for comment in known.comments if comment.public
        )
    assert door.office.violations.total == 0


async def test_a_dashboard_costs_freshdesk_no_call(mirrored: Mirrored) -> None:
    # The mirror itself goes on meanwhile: its calls are lists, of which a dashboard that fanned out would make one a customer.
    before = mirrored.box.log.count()
    answer = await mirrored.door.ask("admin", DASHBOARD)
    assert [
        code
        for _, code in answer.codes()
        if not code.startswith("ACCOUNT_LINK") and code != "ACCOUNT_NOT_LINKED"
    ] == []
    assert mirrored.box.log.count() - before <= 8
    assert any(node["tickets"] and node["tickets"]["nodes"] for node in answer.data["accounts"]["nodes"])


async def test_another_customers_account_is_not_there(mirrored: Mirrored) -> None:
    answer = await mirrored.door.ask("owner-harbour", HOME, {"id": mirrored.door.account_id(1)})
    assert answer.data["node"] is None


async def test_a_running_gateway_follows_what_changes(mirrored: Mirrored) -> None:
    door = mirrored.door
    newest = max(door.world.tickets_by_account[0], key=lambda ticket: ticket.created_at)
    mirrored.box.desk.change(newest.id, datetime(2026, 11, 2, 12, tzinfo=UTC), subject="News")
    while True:
        answer = await door.ask("owner-harbour", HOME, {"id": door.account_id(0)})
        if "News" in [ticket["subject"] for ticket in answer.data["node"]["tickets"]["nodes"]]:
            break
        await asyncio.sleep(0.1)


async def test_tickets_are_shown_while_freshdesk_is_down_and_comments_say_that_it_is(
    mirrored: Mirrored,
) -> None:
    door = mirrored.door
    mirrored.box.faults.add("fail", status=503)
    try:
        answer = await door.ask("owner-harbour", HOME, {"id": door.account_id(0)})
    finally:
        mirrored.box.faults.clear()
    assert len(answer.data["node"]["tickets"]["nodes"]) == 5
    assert {code for _, code in answer.codes()} == {"SOURCE_UNAVAILABLE"}


async def test_staff_see_how_far_the_copy_is_behind(mirrored: Mirrored) -> None:
    async def lag() -> float:
        answer = await mirrored.door.ask("admin", "{ sources { name lagSeconds answeredAt } }")
        [of_copy] = [source for source in answer.data["sources"] if source["name"] == "freshdesk"]
        age = datetime.now(UTC) - datetime.fromisoformat(of_copy["answeredAt"])
        assert abs(age.total_seconds() - of_copy["lagSeconds"]) < 5
        return float(of_copy["lagSeconds"])

    mirrored.box.faults.add("fail", status=503)
    try:
        async with asyncio.timeout(60):
            while await lag() < 8:
                await asyncio.sleep(0.1)
    finally:
        mirrored.box.faults.clear()
    async with asyncio.timeout(60):
        while await lag() > 4:
            await asyncio.sleep(0.1)


async def test_metrics_tell_how_far_the_copy_is(mirrored: Mirrored) -> None:
    status, _, body = await mirrored.door.fetch("admin", "/metrics")
    assert status == 200
    text = body.decode()
    assert 'gateway_mirror_rows{source="freshdesk",stream="tickets"}' in text
    assert 'gateway_mirror_as_of_timestamp_seconds{source="freshdesk",stream="tickets"}' in text


async def test_the_operator_synchronises_by_hand_and_check_tells_of_the_copy(
    mirrored: Mirrored, tmp_path: Path
) -> None:
    door, config = mirrored.door, tmp_path / "gateway.toml"
    crm, helpdesk = (door.office.settings.sources[kind].settings for kind in (Kind.CRM, Kind.HELPDESK))
    config.write_text(f"""
        [[signin.issuers]]
        issuer = "{door.issuer.url}"
        audience = "backoffice-gateway"
        [sources.crm]
        vendor = "hubspot"
        private_addresses = ["127.0.0.1"]
        base_url = "{crm.base_url}"
        token = "{crm.token}"
        [sources.helpdesk]
        vendor = "freshdesk"
        base_url = "{helpdesk.base_url}"
        api_key = "{helpdesk.api_key}"
        external_id_field = "cf_customer_number"
        private_addresses = ["127.0.0.1"]
        limits = {{ account = "unlimited", tickets_list = "unlimited" }}
        [sources.helpdesk.mirror]
        every = 1.0
    """)
    status, said = await gateway(mirrored.url, config, "sync")
    assert status == 0, said
    kept = len(mirrored.door.world.tickets)
    assert f"{kept} kept" in said
    status, said = await gateway(mirrored.url, config, "check")
    assert "copied" in said
    assert f"{kept} tickets" in said
