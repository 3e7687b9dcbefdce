"""X-ray in a real browser before a real gateway: staff see how an answer came about, customers that they may not."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from sources.sandbox.world import World
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.e2e.test_graphiql import CHROMIUM, browser_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

HOME = "query Home { account(id: %s) { name invoices(first: 3) { nodes { number } } contacts { nodes { email } } } }"
WRITE = """query => __MONACO.editor.getModels().find(model => model.uri.path.endsWith('operation.graphql'))
    .setValue(query)"""
READ = (
    """() => __MONACO.editor.getModels().find(model => model.uri.path.endsWith('response.json')).getValue()"""
)


@pytest_asyncio.fixture(scope="module")
async def remembering(world: World, postgres: str) -> AsyncIterator[Door]:
    """A gateway that remembers what it read."""
    kept = Lifetimes(seconds=KindSeconds(accounts=600, invoices=600, contacts=600), jitter=0.0)
    async with fresh_database(postgres) as url, open_door(world, url, cache=kept) as door:
        yield door


@pytest_asyncio.fixture
async def page(remembering: Door) -> AsyncIterator[Page]:
    async with browser_page(remembering.url) as (page, seen):
        await page.get_by_role("toolbar").get_by_role("button", name="X-ray").click()
        yield page
        assert seen.complaints == []


@pytest.fixture
def panel(page: Page) -> Locator:
    return page.get_by_role("region", name="X-ray")


async def sign_in(page: Page, door: Door, persona: str) -> None:
    await page.get_by_label("Bearer token").fill(door.issuer.token(persona))
    await page.get_by_label("Bearer token").press("Enter")
    await expect(page.get_by_label("Re-fetch GraphQL schema")).to_be_enabled()


async def write(page: Page, query: str, name: str) -> None:
    await page.evaluate(WRITE, query)
    # The page has read the document when its tab is called by it; before, it would not know what it sends.
    await expect(page.get_by_role("tab", name=name)).to_be_visible()


async def run(page: Page) -> None:
    async with page.expect_response("**/graphql"):
        await page.get_by_label("Execute query").click()
    await expect(page.get_by_label("Execute query")).to_be_visible()


def rows(panel: Locator, kind: str, *words: str) -> Locator:
    """Of the waterfall, those of a kind that hold all the words."""
    named = panel.page.locator(".xray-kind").get_by_text(kind, exact=True)
    found = panel.get_by_role("treegrid", name="Waterfall").locator("[data-span]").filter(has=named)
    for word in words:
        found = found.filter(has_text=word)
    return found


async def test_staff_see_batches_calls_and_verdicts_and_then_what_was_remembered(
    remembering: Door, page: Page, panel: Locator
) -> None:
    await sign_in(page, remembering, "support")
    home = HOME % f'"{remembering.account_id(0)}"'
    await write(page, f"{home[:-1]} auditLog(first: 1) {{ nodes {{ id }} }} }}", "Home")
    remembering.forget_calls()
    await run(page)

    await expect(rows(panel, "operation", "Home")).to_have_count(1)
    await expect(rows(panel, "batch", "invoices_of", "1 key")).to_have_count(1)
    await expect(rows(panel, "cache", "xero invoices", "1 live")).to_have_count(1)
    await expect(rows(panel, "call", "GET Invoices", "200")).to_have_count(1)
    calls = remembering.calls()
    told = panel.locator("dl.xray-plan")
    for source in ("hubspot", "xero"):
        assert calls[source] > 0
        await expect(told).to_contain_text(f"{source} {calls[source]}")
    await told.get_by_text("1 field", exact=True).click()
    await expect(told.get_by_role("listitem")).to_have_text("Query.auditLog")
    await rows(panel, "call", "GET Invoices").focus()
    details = panel.get_by_role("region", name="Span")
    await expect(details).to_contain_text("sourcexero")
    await expect(details).to_contain_text("inHome › invoices_of › xero invoices")

    await run(page)
    await expect(rows(panel, "cache", "xero invoices", "1 cached", "old")).to_have_count(1)
    await expect(rows(panel, "call")).to_have_count(0)
    await expect(panel.locator(".xray-summary")).to_contain_text("0 vendor callsrun before:")
    await expect(told).to_contain_text("Vendor costnone")
    assert remembering.calls() == calls


async def test_a_call_that_failed_shows_its_code_and_its_retries(
    remembering: Door, page: Page, panel: Locator
) -> None:
    remembering.boxes["xero"].faults.add("fail", status=503)
    try:
        await sign_in(page, remembering, "admin")
        await write(page, HOME % f'"{remembering.account_id(1)}"', "Home")
        await run(page)
        await expect(rows(panel, "call", "✕ SOURCE_UNAVAILABLE", "503").first).to_be_visible()
        await expect(rows(panel, "retry").first).to_be_attached()
        await expect(
            rows(panel, "cache", "hubspot contacts", "1 live").filter(has_not_text="✕")
        ).to_have_count(1)
    finally:
        remembering.heal()


async def test_customers_get_their_answer_and_are_told_what_is_missing(
    remembering: Door, page: Page, panel: Locator
) -> None:
    await sign_in(page, remembering, "owner-harbour")
    await write(page, "query Mine { viewer { account { name } } }", "Mine")
    await run(page)

    await expect(panel).to_contain_text(
        "No X-ray: it needs the scope xray:read, which whoever asked does not hold."
    )
    answer = await page.evaluate(READ)
    assert remembering.world.accounts[0].crm_name in answer
    assert "spans" not in answer


async def test_events_of_a_subscription_have_none(remembering: Door, page: Page, panel: Locator) -> None:
    await sign_in(page, remembering, "admin")
    await write(page, "subscription Watched { viewer { id } }", "Watched")
    await page.get_by_label("Execute query").click()
    await expect(page.locator(".graphiql-response .view-lines")).to_contain_text("admin")
    await expect(panel).to_contain_text("The events of a subscription carry no X-ray.")
    await page.get_by_label("Stop query").click()
