"""GraphiQL subscribes over a WebSocket, in a real browser, under the page's own Content-Security-Policy."""

import shutil

import pytest
from playwright.async_api import expect

from tests.door import Door
from tests.e2e.test_graphiql import browser_page
from tests.streams.client import nothing_left_open

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the path")


async def test_a_subscription_shows_its_answers_and_ends_when_stopped(door: Door) -> None:
    async with browser_page(door.url) as (page, seen):
        await page.get_by_label("Bearer token").fill(door.issuer.token("owner-harbour"))
        await page.get_by_label("Bearer token").press("Enter")
        await expect(page.get_by_label("Re-fetch GraphQL schema")).to_be_enabled()
        await page.evaluate(
            """query => __MONACO.editor.getModels().find(model => model.uri.path.endsWith('operation.graphql'))
               .setValue(query)""",
            "subscription Watched { viewer { id roles } }",
        )
        # The page has read the document when its tab is called by it; before, it would not know what it sends.
        await expect(page.get_by_role("tab", name="Watched")).to_be_visible()
        await page.get_by_label("Execute query").click()

        await expect(page.locator(".graphiql-response .view-lines")).to_contain_text("owner-harbour")
        await page.get_by_label("Stop query").click()
        await nothing_left_open(door)
    assert seen.complaints == []
