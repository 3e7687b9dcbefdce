"""Signing in with a real browser in the demo, by keyboard alone, and asking the graph with nothing but the cookie."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from tests.e2e.test_demo import Demo, running_demo
from tests.e2e.test_graphiql import ARGUMENTS, CHROMIUM

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

QUERY = "{ viewer { name organisation { id } account { name } } }"

ASK = """async ([url, query]) => {
  const answer = await fetch(url, {
    method: "POST", credentials: "include", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query }),
  });
  return [answer.status, await answer.json()];
}"""


FORGE = """([url, query]) => {
  const form = document.createElement("form");
  form.method = "post"; form.enctype = "text/plain"; form.action = url;
  form.append(Object.assign(document.createElement("input"), { name: query, value: "" }));
  document.body.append(form); form.submit();
}"""


@pytest_asyncio.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    async with running_demo(tmp_path_factory.mktemp("sessions")) as demo:
        yield demo


@asynccontextmanager
async def opened(scheme: str = "light") -> AsyncIterator[Page]:
    """A page in a fresh profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            context = await browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
            yield await context.new_page()
        finally:
            await browser.close()


async def sign_in(page: Page, demo: Demo, label: str) -> None:
    """As the demo's printed line says, with the keyboard."""
    await page.goto(f"{demo.url}/session/sign-in?return_to=/session")
    await expect(page.get_by_role("heading", name="Sign in to the demo")).to_be_visible()
    button = page.get_by_role("button", name=label, exact=False).first
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await button.evaluate("one => one === document.activeElement"):
            break
    await expect(button).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{demo.url}/session")


async def told(page: Page) -> Any:
    return await page.evaluate("() => JSON.parse(document.body.innerText)")


async def test_a_person_signs_in_by_keyboard_asks_the_graph_and_signs_out(demo: Demo) -> None:
    async with opened() as page:
        await sign_in(page, demo, "Finance at")
        assert (await told(page))["subject"] == "finance-harbour"
        assert await page.evaluate("document.cookie") == ""

        status, answer = await page.evaluate(ASK, [f"{demo.url}/graphql", QUERY])
        assert status == 200
        assert answer["data"]["viewer"]["organisation"] == {"id": "harbour"}

        left = await page.evaluate(
            """async () => (await fetch("/session/sign-out", {
                method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" })).json()"""
        )
        await page.goto(left["endSessionUrl"])
        status, _ = await page.evaluate(ASK, [f"{demo.url}/graphql", QUERY])
        assert status == 401


async def test_a_page_of_another_origin_gets_nothing_with_the_cookie(demo: Demo) -> None:
    async with opened() as page:
        await sign_in(page, demo, "Owner at")
        # The issuer's page: the same host, and so the same cookies, at another port.
        await page.goto(f"{demo.url}/session/sign-in")
        await expect(page.get_by_role("heading", name="Sign in to the demo")).to_be_visible()
        async with page.expect_response(f"{demo.url}/graphql") as response:
            await page.evaluate(FORGE, [f"{demo.url}/graphql", QUERY])
        assert (await response.value).status == 403


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_to_pick_a_persona_is_for_everybody(demo: Demo, scheme: str) -> None:
    async with opened(scheme) as page:
        await page.set_viewport_size({"width": 320, "height": 640})
        await page.goto(f"{demo.url}/session/sign-in")

        assert await page.locator("html").get_attribute("lang") == "en"
        assert await page.title() == "Sign in to the demo"
        await expect(page.get_by_role("main")).to_be_visible()
        await expect(page.get_by_role("group", name="Who do you want to be?")).to_be_visible()
        sizes, overflow, contrast = await page.evaluate(MEASURE)
        assert min(sizes) >= 24
        assert overflow <= 0
        assert contrast >= 4.5


MEASURE = """() => {
  const level = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const buttons = [...document.querySelectorAll("button")];
  const style = getComputedStyle(buttons[0]);
  const [dark, light] = [level(style.color), level(style.backgroundColor)].sort((a, b) => a - b);
  return [
    buttons.map((one) => one.getBoundingClientRect().height),
    document.documentElement.scrollWidth - document.documentElement.clientWidth,
    (light + 0.05) / (dark + 0.05),
  ];
}"""


async def test_the_operator_sees_and_ends_a_session(demo: Demo) -> None:
    config = demo.printed.split("check -c ")[1].split()[0]

    async def run(*words: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "gateway", "sessions", *words, "-c", config],
            capture_output=True,
            text=True,
            timeout=60,
            env={"COLUMNS": "250", "PATH": ""},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async with opened() as page:
        await sign_in(page, demo, "Standard at")
        issuer = (await told(page))["issuer"]

        assert "standard-harbour" in await run("list")
        assert "1 ended" in await run("end", issuer, "standard-harbour")

        status, _ = await page.evaluate(ASK, [f"{demo.url}/graphql", QUERY])
        for _ in range(100):
            if status == 401:
                break
            status, _ = await page.evaluate(ASK, [f"{demo.url}/graphql", QUERY])
        assert status == 401
