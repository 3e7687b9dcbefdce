"""The developer's page draws any `extensions.xray`: small and large, refused, absent, and of shapes still to come."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import FloatRect, Locator, Page, expect

from tests.e2e.test_graphiql import (
    CHROMIUM,
    CONFIG,
    KEPT_TABS,
    StandIn,
    browser_page,
    choose_persona,
    serve_page,
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")


def span(number: int, parent: int | None, kind: str, name: str, start: float, ms: float, **more: Any) -> Any:
    at = {"startMs": start, "durationMs": ms}
    return {"id": number, "parent": parent, "kind": kind, "name": name, **at, **more}


XRAY: dict[str, Any] = {
    "requestId": "01JD3Z9G7Q8W",
    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    "startedAt": "2026-11-22T04:41:02.118Z",
    "durationMs": 400.0,
    "deadlineMs": 500,
    "plan": {"way": "columns", "known": True, "fields": 38, "denied": ["Contact.email", "Invoice.note"]},
    "spans": [
        span(1, None, "operation", "PortalHome", 0, 400),
        span(2, 1, "plan", "plan", 0.4, 0.31),
        span(3, 1, "batch", "invoices_of", 100, 250, keys=50),
        span(
            *(4, 3, "cache", "xero invoices", 100, 250),
            **{"source": "xero", "type": "Invoice"}
            | {"live": 48, "cached": 2, "stale": 0, "ageSeconds": 1850},
        ),
        span(5, 4, "wait", "xero minute", 100, 50, source="xero", limit="minute", **{"class": "interactive"}),
        span(
            *(6, 4, "call", "GET Invoices", 150, 50),
            **{"source": "xero", "attempt": 1}
            | {"status": 429, "bytes": 120, "error": "SOURCE_RATE_LIMITED"},
        ),
        span(
            7,
            4,
            "call",
            "GET Invoices",
            250,
            100,
            source="xero",
            attempt=2,
            status=200,
            bytes=48211,
            error=None,
        ),
    ],
    "cost": {"xero": 2, "hubspot": 3},
    "dropped": 0,
}


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    yield from serve_page(CONFIG)


@pytest_asyncio.fixture(scope="module")
async def opened(server: StandIn) -> AsyncIterator[Page]:
    """One browser for all: loading the page takes longer than what is tried with it."""
    async with browser_page(server.url) as (page, seen):
        await choose_persona(page, "support")
        yield page
        assert seen.complaints == []


@pytest_asyncio.fixture
async def page(opened: Page, server: StandIn) -> Page:
    """With X-ray just switched on, in the first tab."""
    server.xray = XRAY
    await opened.get_by_role("tab", name="PortalHome").click()
    if await switch(opened).get_attribute("aria-pressed") == "true":
        await switch(opened).press("Enter")
    await switch(opened).press("Enter")
    return opened


@pytest.fixture
def panel(page: Page) -> Locator:
    return page.get_by_role("region", name="X-ray")


def switch(page: Page) -> Locator:
    return page.get_by_role("toolbar").get_by_role("button", name="X-ray")


def rows(panel: Locator) -> Locator:
    return panel.get_by_role("treegrid", name="Waterfall").locator("[data-span]")


def details(panel: Locator) -> Locator:
    return panel.get_by_role("region", name="Span")


def axis(panel: Locator, shown: str) -> Locator:
    return panel.get_by_role("columnheader", name=f"Time, {shown}", exact=True)


async def box(drawn: Locator) -> FloatRect:
    found = await drawn.bounding_box()
    assert found is not None
    return found


async def faults(page: Page) -> list[str]:
    """Of the X-ray and its switch, by axe and WCAG 2.2 AA."""
    found = await Axe().run(
        page,
        context={"include": [[".xray"], [".xray-switch"]]},
        options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    )
    return [
        f"{fault['id']}: {node['html']}" for fault in found.response["violations"] for node in fault["nodes"]
    ]


async def run(page: Page) -> None:
    """Runs the open tab's query, as often as one likes."""
    async with page.expect_response("**/graphql"):
        await page.get_by_label("Execute query").click()
    await expect(page.get_by_label("Execute query")).to_be_visible()


async def test_only_a_tab_that_was_switched_on_asks(server: StandIn, page: Page, panel: Locator) -> None:
    server.asked.clear()
    await run(page)
    await switch(page).click()
    await expect(panel).to_have_count(0)
    await run(page)
    await page.get_by_label("Re-fetch GraphQL schema").click()
    await expect(page.get_by_label("Re-fetch GraphQL schema")).to_be_enabled()

    asked = [(body["operationName"], body.get("extensions")) for body in server.asked]
    assert asked == [("PortalHome", {"xray": True}), ("PortalHome", None), ("IntrospectionQuery", None)]


async def test_each_tab_keeps_its_own_choice(server: StandIn) -> None:
    async with browser_page(server.url) as (page, seen):
        await switch(page).click()
        panel = page.get_by_role("region", name="X-ray")
        await expect(panel).to_contain_text("Run a query to see how it is answered")
        await page.get_by_label("New tab").click()
        await expect(switch(page)).to_have_attribute("aria-pressed", "true")  # as the tab it was opened from
        async with asyncio.timeout(30):  # GraphiQL writes its tabs down a moment later
            while "untitled" not in await page.evaluate(KEPT_TABS):
                await asyncio.sleep(0.05)
        await page.reload()
        pressed = []
        for name in ("PortalHome", "NameOnly", "<untitled>"):
            await page.get_by_role("tab", name=name).click()
            await expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
            pressed.append(await switch(page).get_attribute("aria-pressed"))
        assert pressed == ["true", "false", "true"]
        assert seen.complaints == []


async def test_plan_cost_and_spans_are_drawn_where_they_belong(page: Page, panel: Locator) -> None:
    await run(page)

    await expect(rows(panel)).to_have_count(7)
    assert [" ".join(text.split()) for text in await rows(panel).all_inner_texts()] == [
        "▾operation PortalHome 400 ms from 0 ms 400 ms",
        "plan plan 0.31 ms from 0.4 ms 0.31 ms",
        "▾batch invoices_of 50 keys 250 ms from 100 ms 250 ms",
        "▾cache xero invoices 48 live · 2 cached · 31 min old 250 ms from 100 ms 250 ms",
        "wait xero minute interactive 50 ms from 100 ms 50 ms",
        "call GET Invoices ✕ SOURCE_RATE_LIMITED 429 · 120 B 50 ms from 150 ms 50 ms",
        "call GET Invoices attempt 2 · 200 · 48.2 kB 100 ms from 250 ms 100 ms",
    ]
    assert await rows(panel).evaluate_all("rows => rows.map(row => row.ariaLevel).join('')") == "1223444"

    # The axis ends a little after the deadline, which is in reach.
    track = await box(rows(panel).nth(6).locator(".xray-track"))
    bar = await box(rows(panel).nth(6).locator(".xray-bar"))
    deadline = await box(panel.locator(".xray-lines .xray-deadline"))
    assert bar["x"] - track["x"] == pytest.approx(track["width"] * 250 / 510, abs=2)
    assert bar["width"] == pytest.approx(track["width"] * 100 / 510, abs=2)
    assert deadline["x"] - track["x"] == pytest.approx(track["width"] * 500 / 510, abs=2)

    told = " ".join((await panel.locator("dl.xray-plan").inner_text()).split())
    assert told == (
        "Plan columns, known before, 38 fields Denied 2 fields Vendor cost xero 2, hubspot 3 Cache live 48, cached 2"
    )
    await panel.get_by_text("2 fields", exact=True).click()
    await expect(panel.get_by_role("listitem").filter(has_text="Contact.email")).to_be_visible()
    shares = panel.get_by_role("list", name="What the time went into").get_by_role("listitem")
    await expect(shares).to_have_text([" vendors 150 ms 38 %", " waits 50 ms 13 %", " gateway 200 ms 50 %"])
    await expect(panel.locator(".xray-summary")).to_contain_text(
        "400 ms80 % of the 500 ms deadline2 vendor calls"
    )


async def test_a_deadline_out_of_reach_does_not_squeeze_the_bars(
    server: StandIn, page: Page, panel: Locator
) -> None:
    server.xray = XRAY | {"deadlineMs": 5000}
    await run(page)
    await expect(panel.locator(".xray-summary")).to_contain_text("8 % of the 5 s deadline")
    await expect(panel.locator(".xray-deadline")).to_have_count(0)


async def test_the_run_before_is_there_to_compare_with(server: StandIn, page: Page, panel: Locator) -> None:
    await run(page)
    server.xray = XRAY | {"durationMs": 3.25, "spans": XRAY["spans"][:2]}
    await run(page)
    await expect(panel.locator(".xray-summary")).to_contain_text("3.25 ms")
    await expect(panel.locator(".xray-summary")).to_contain_text("0 vendor callsrun before: 400 ms, 2 calls")


async def test_spans_are_read_folded_zoomed_and_filtered_by_keyboard(page: Page, panel: Locator) -> None:
    await run(page)
    await rows(panel).first.focus()
    await expect(details(panel)).to_contain_text("01JD3Z9G7Q8W")

    await page.keyboard.press("End")
    await expect(rows(panel).last).to_be_focused()
    await expect(details(panel)).to_contain_text("call GET Invoices")
    told = await details(panel).inner_text()
    for fact in ("starts\n250 ms in", "source\nxero", "attempt\n2", "answer\n48.2 kB"):
        assert fact in told
    assert "in\nPortalHome › invoices_of › xero invoices" in told

    await page.keyboard.press("z")
    await expect(axis(panel, "246 ms to 370 ms")).to_be_attached()
    await page.keyboard.press("Escape")
    await expect(axis(panel, "0 ms to 510 ms")).to_be_attached()

    await page.keyboard.press("ArrowLeft")  # to the parent
    await page.keyboard.press("ArrowLeft")  # which folds
    await expect(rows(panel)).to_have_count(4)
    await expect(rows(panel).last).to_have_attribute("aria-expanded", "false")
    await page.keyboard.press("ArrowRight")
    await expect(rows(panel)).to_have_count(7)

    search = panel.get_by_role("searchbox", name="Filter spans")
    await search.fill("429")
    await expect(rows(panel)).to_have_count(4)  # the call and those it is a part of
    await search.fill("")
    await panel.get_by_role("button", name="call 2").press("Enter")
    await expect(rows(panel)).to_have_count(5)


async def test_pointing_at_a_span_tells_of_it(page: Page, panel: Locator) -> None:
    await run(page)
    await rows(panel).nth(3).click()
    await rows(panel).nth(4).hover()
    await expect(details(panel)).to_contain_text("xero minute")
    await panel.get_by_role("heading", name="X-ray").hover()
    await expect(details(panel)).to_contain_text("xero invoices")  # the chosen one, again
    await expect(rows(panel)).to_have_count(7)

    await rows(panel).nth(3).locator(".xray-fold").click()
    await expect(rows(panel)).to_have_count(4)
    await rows(panel).nth(2).dblclick(position={"x": 200, "y": 8})
    await expect(axis(panel, "90 ms to 400 ms")).to_be_attached()
    await panel.get_by_role("button", name="Show all").click()
    await expect(axis(panel, "0 ms to 510 ms")).to_be_attached()

    ruler = await box(axis(panel, "0 ms to 510 ms"))
    across = [(ruler["x"] + ruler["width"] * part, ruler["y"] + 12) for part in (0.2, 0.6)]
    await page.mouse.move(*across[0])
    await page.mouse.down()
    await page.mouse.move(*across[1])
    await page.mouse.up()
    await expect(axis(panel, "102 ms to 306 ms")).to_be_attached()


async def test_five_hundred_spans_and_the_count_of_those_left_out(
    server: StandIn, page: Page, panel: Locator
) -> None:
    calls = [span(number, 1, "call", f"GET page {number}", number / 2, 1.5) for number in range(2, 501)]
    server.xray = XRAY | {"spans": [XRAY["spans"][0], *calls], "dropped": 1204}
    await run(page)
    await expect(rows(panel)).to_have_count(500)
    await rows(panel).first.focus()
    await page.keyboard.press("End")
    await expect(rows(panel).last).to_be_in_viewport()
    await expect(details(panel)).to_contain_text("GET page 500")
    await expect(panel).to_contain_text("1204 more spans were left out: an X-ray holds the first 500.")


async def test_what_the_page_does_not_know_is_drawn_plainly(
    server: StandIn, page: Page, panel: Locator
) -> None:
    server.xray = {
        "spans": [
            span(1, None, "teleport", "to Mars", 1, 2, crew=["a", 3], unfinished=True),
            {"id": 2, "parent": 77, "name": "an orphan", "startMs": "soon"},
            span(3, 3, "call", "its own parent", 0, -4),
            "no span at all",
        ],
        "cost": None,
        "plan": [],
    }
    await run(page)
    await expect(rows(panel)).to_have_count(4)
    await expect(rows(panel).filter(has_text="to Mars")).to_contain_text("unfinished")
    await rows(panel).filter(has_text="to Mars").focus()
    await expect(details(panel)).to_contain_text('crew["a",3]')
    await expect(panel.get_by_role("button", name="teleport 1")).to_be_visible()


async def test_a_refusal_names_the_scope_that_is_missing(server: StandIn, page: Page, panel: Locator) -> None:
    server.xray = {"refused": "needs xray:read"}
    await run(page)
    await expect(panel).to_contain_text(
        "No X-ray: it needs the scope xray:read, which whoever asked does not hold. The operation itself ran as always."
    )
    assert await faults(page) == []


async def test_an_answer_without_one_says_how_to_get_it(server: StandIn, page: Page, panel: Locator) -> None:
    server.xray = None
    await switch(page).click()
    await run(page)
    await switch(page).click()
    await expect(panel).to_contain_text("This answer was asked for without X-ray.")
    await run(page)
    await expect(panel).to_contain_text("This answer carries no X-ray.")
    await expect(panel).to_contain_text('{"query": "…", "extensions": {"xray": true}}')
    await panel.get_by_role("button", name="Close X-ray").click()
    await expect(switch(page)).to_have_attribute("aria-pressed", "false")


async def test_it_is_copied_whole(page: Page, panel: Locator) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await run(page)
    await panel.get_by_role("button", name="Copy X-ray").click()
    await expect(panel.get_by_role("button", name="Copied")).to_be_visible()
    assert json.loads(await page.evaluate("navigator.clipboard.readText()")) == XRAY


async def test_it_is_made_larger_by_keyboard_and_keeps_its_height(page: Page, panel: Locator) -> None:
    await run(page)
    splitter = panel.get_by_role("separator", name="Height of the X-ray")
    await splitter.press("Home")
    await splitter.press("ArrowUp")
    await switch(page).click()
    await switch(page).click()
    await expect(splitter).to_have_attribute("aria-valuenow", "20")
    await splitter.press("End")
    whole, part = await box(page.locator(".graphiql-response")), await box(panel)
    assert part["height"] == pytest.approx(0.85 * whole["height"], abs=20)

    await panel.get_by_role("button", name="Larger").press("Enter")
    session = await box(page.locator("#graphiql-session"))
    assert (await box(panel))["width"] > session["width"] * 0.95
    await page.keyboard.press("Escape")
    await expect(splitter).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_for_everybody_in_light_and_dark(
    page: Page, panel: Locator, scheme: Literal["light", "dark"]
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await run(page)
    await rows(panel).nth(5).focus()
    assert await faults(page) == []
    await panel.get_by_role("button", name="Larger").click()
    await panel.get_by_role("button", name="call 2").click()
    assert await faults(page) == []
