"""Xero's single-use refresh tokens, kept in the real ledger and shared by processes."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from sources.ledger.book import Ledger
from sources.ports.common import Ref
from sources.ports.errors import ConsentNeeded
from sources.registry import Kind, row
from sources.sandbox.server import serve
from sources.sandbox.world import World
from sources.transport.traffic import Network
from sources.transport.wiring import Wiring
from sources.vendors.xero.sandbox import XeroSandbox, consented_settings_for, sandbox
from tests.conftest import TOKEN_KEYS


class Place:
    """A running Xero, and a database that two processes share."""

    def __init__(self, box: XeroSandbox, url: str, database_url: str) -> None:
        self.box, self.url, self.database_url = box, url, database_url

    def refreshes(self) -> int:
        """Token requests until now."""
        return sum(1 for call in self.box.log.calls() if call.path == "/connect/token")

    async def probe(self) -> bool:
        """As a process of its own would: its own ledger, its own connection."""
        ledger = await Ledger.open(self.database_url, token_keys=TOKEN_KEYS)
        erp = row(Kind.ERP, "xero").connect(
            consented_settings_for(self.url), Wiring(ledger.tokens, network=Network(guarded=False))
        )
        try:
            return bool((await erp.probe()).allowed)
        finally:
            await erp.close()
            await ledger.close()


@pytest_asyncio.fixture
async def place(world: World, ledger: Ledger, database_url: str) -> AsyncIterator[Place]:
    """Fresh: nobody has refreshed yet."""
    box = sandbox(world, per_minute=None)
    async with serve(box) as running:
        yield Place(box, running.url, database_url)


async def test_processes_that_start_together_use_the_refresh_token_once(place: Place) -> None:
    allowed = await asyncio.gather(*(place.probe() for _ in range(4)))

    assert allowed == [True] * 4
    assert place.refreshes() == 1


async def test_a_process_that_starts_later_goes_on_with_the_token_of_the_first(place: Place) -> None:
    assert await place.probe()
    place.box.expire_access_tokens()

    assert await place.probe()

    # The stored access token was refused once, and the rotated refresh token, not the configured one, was used.
    assert place.refreshes() == 2


async def test_a_spent_connection_asks_for_consent_and_is_left_alone_by_every_process(place: Place) -> None:
    assert await place.probe()
    place.box.disconnect()
    place.box.expire_access_tokens()
    refused = await asyncio.gather(*(place.probe() for _ in range(3)), return_exceptions=True)
    asked = place.refreshes()

    again = await asyncio.gather(place.probe(), return_exceptions=True)

    assert all(answer is False or isinstance(answer, ConsentNeeded) for answer in [*refused, *again])
    assert place.refreshes() == asked == 2


async def test_invoices_are_read_with_the_stored_token(place: Place, world: World) -> None:
    ledger = await Ledger.open(place.database_url, token_keys=TOKEN_KEYS)
    erp = row(Kind.ERP, "xero").connect(
        consented_settings_for(place.url), Wiring(ledger.tokens, network=Network(guarded=False))
    )
    wanted = [invoice for invoice in world.invoices_by_account[0] if invoice.status == "PAID"][:3]

    found = await erp.invoices([Ref("xero", invoice.id) for invoice in wanted])

    assert [record.number for record in found if record] == [invoice.number for invoice in wanted]
    await erp.close()
    await ledger.close()
