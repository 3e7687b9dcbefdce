"""Four gateways, each a process of its own, that share what they have read through Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from resolvers.vocabulary import node_id
from sources.ports.common import Ref
from sources.sandbox.world import World
from tests.commands import gateway
from tests.conftest import fresh_database
from tests.door import Answer
from tests.redis_server import redis_server
from tests.replicas import Replicas, replicas

REPLICAS = range(4)
NAME = "query($id: ID!) { account(id: $id) { name } }"
INVOICES = "query($id: ID!) { account(id: $id) { invoices(first: 3) { nodes { number } } } }"


class Sharing:
    """The group as staff and its operator use it."""

    def __init__(self, group: Replicas, database_url: str) -> None:
        self.group, self._url = group, database_url

    async def forget(self, *what: str) -> None:
        """By the operator's command."""
        status, said = await gateway(self._url, self.group.config, "cache", "forget", *what)
        assert status == 0, said

    async def ask(self, replica: int, query: str, account: int) -> Answer:
        return await self.group.ask(replica, "support", query, {"id": self.group.account_id(account)})

    def calls(self, vendor: str) -> int:
        return sum("token" not in call.path for call in self.group.boxes[vendor].log.calls())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(postgres: str, tmp_path_factory: Any) -> AsyncIterator[Sharing]:
    folder: Path = tmp_path_factory.mktemp("replicas")

    def remembering(tables: dict[str, Any]) -> None:
        tables["cache"] = {"jitter": 0.0, "missing": 60.0, "seconds": {"accounts": 600.0, "invoices": 600.0}}

    async with (
        fresh_database(postgres) as url,
        redis_server() as redis,
        replicas(World.build(scale=0.05), url, redis, folder, change=remembering) as group,
    ):
        yield Sharing(group, url)


@pytest.fixture
def sharing(running: Sharing) -> Iterator[Sharing]:
    """Each test asks for accounts that no other one has read."""
    for box in running.group.boxes.values():
        box.log.clear()
    yield running
    for box in running.group.boxes.values():
        box.faults.clear()


def read(answer: Answer) -> dict[str, tuple[str, str]]:
    """By source: how it came, and when it was read."""
    assert answer.errors == []
    return {one["source"]: (one["verdict"], one["readAt"]) for one in answer.body["extensions"]["freshness"]}


async def test_a_thousand_requests_at_once_at_four_gateways_make_one_call(sharing: Sharing) -> None:
    answers = await asyncio.gather(*(sharing.ask(number % 4, NAME, 6) for number in range(1000)))
    assert all(answer.errors == [] for answer in answers)
    assert all(answer.data == answers[0].data for answer in answers)
    assert sharing.calls("hubspot") == 1
    assert {read(answer)["hubspot"][1] for answer in answers} == {read(answers[0])["hubspot"][1]}


async def test_what_one_gateway_reads_the_others_wait_for(sharing: Sharing) -> None:
    box = sharing.group.boxes["hubspot"]
    box.faults.add("hang")
    first = asyncio.create_task(sharing.ask(0, NAME, 7))
    async with asyncio.timeout(20):
        while not sharing.calls("hubspot"):
            await asyncio.sleep(0.01)
    others = [asyncio.create_task(sharing.ask(replica, NAME, 7)) for replica in REPLICAS]
    box.faults.clear()
    answers = await asyncio.gather(first, *others)
    assert {answer.data["account"]["name"] for answer in answers} == {answers[0].data["account"]["name"]}
    assert sharing.calls("hubspot") == 1


async def test_an_error_at_one_gateway_is_not_given_by_another(sharing: Sharing) -> None:
    xero = sharing.group.boxes["xero"]
    xero.faults.add("fail", "/api.xro", status=503)
    refused = await sharing.ask(0, INVOICES, 3)
    assert refused.codes() == [("account.invoices", "SOURCE_UNAVAILABLE")]
    xero.faults.clear()
    assert read(await sharing.ask(1, INVOICES, 3))["xero"][0] == "LIVE"
    assert read(await sharing.ask(0, INVOICES, 3))["xero"][0] == "CACHED"


async def test_that_there_is_no_such_record_is_known_to_all_for_a_while(sharing: Sharing) -> None:
    nobody = node_id("Account", Ref("hubspot", "999999999"))
    for replica in REPLICAS:
        answer = await sharing.group.ask(replica, "support", NAME, {"id": nobody})
        assert answer.codes() == [("account", "NOT_FOUND")]
    assert sharing.calls("hubspot") == 1


async def test_the_operators_word_reaches_all_of_them(sharing: Sharing) -> None:
    account = f"hubspot:{sharing.group.world.accounts[5].hubspot_id}"
    for what, forgotten in (
        (["--source", "xero"], {"xero"}),
        (["xero:of-any-list-of-its-source"], {"xero"}),
        ([account], {"hubspot"}),
        (["--account", account], {"hubspot", "xero"}),
        (["--all"], {"hubspot", "xero"}),
    ):
        before = read(await sharing.ask(0, INVOICES, 5))
        assert [read(await sharing.ask(replica, INVOICES, 5)) for replica in REPLICAS[1:]] == [
            {source: ("CACHED", when) for source, (_, when) in before.items()} for _ in REPLICAS[1:]
        ]
        for box in sharing.group.boxes.values():
            box.log.clear()
        await sharing.forget(*what)
        async with asyncio.timeout(20):
            for replica in REPLICAS:
                after = before
                while any(after[source][1] <= before[source][1] for source in forgotten):
                    after = read(await sharing.ask(replica, INVOICES, 5))
                    await asyncio.sleep(0.01)
                assert all(after[source][1] == before[source][1] for source in before.keys() - forgotten)
        assert {source for source in before if sharing.calls(source)} == forgotten
