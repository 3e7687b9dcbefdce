"""Signing in with a browser at a real OpenID Connect provider, over HTTP: there, back, and out again by every way."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_asyncio

from gateway.signin.session_settings import SessionSettings
from gateway.signin.settings import Demand, IssuerSettings, SignInSettings
from sources.sandbox.world import World
from tests.browser import PUBLIC, Browser, query_of, with_query
from tests.conftest import fresh_database
from tests.door import Door, open_door
from tests.identity.provider import GATEWAY, GATEWAY_SECRET, OidcProvider

VIEWER = "{ viewer { name email organisation { id } } }"
AT = f"{PUBLIC}/graphiql/"
OTHER = "http://127.0.0.1:9"
"""An issuer that nobody hears of."""


@pytest_asyncio.fixture(scope="module")
async def signin(running_provider: OidcProvider) -> SignInSettings:
    """People sign in at the provider."""
    return SignInSettings(
        issuers=(
            IssuerSettings(
                issuer=running_provider.issuer,
                audience="backoffice-gateway",
                believed_for=("customers", "staff"),
                client_id=GATEWAY,
                client_secret=GATEWAY_SECRET,
            ),
        ),
        sessions=SessionSettings(),
    )


@pytest_asyncio.fixture(scope="module")
async def portal_url(postgres: str) -> AsyncIterator[str]:
    async with fresh_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="module")
async def running_portal(world: World, portal_url: str, signin: SignInSettings) -> AsyncIterator[Door]:
    async with open_door(world, portal_url, public_url=PUBLIC, signin=signin) as door:
        yield door


@pytest_asyncio.fixture
async def demanding(world: World, postgres: str, portal: Door, signin: SignInSettings) -> AsyncIterator[Door]:
    """Another gateway: with two issuers, and open only to those who have signed in strongly."""
    (issuer,) = signin.issuers
    strict = msgspec.structs.replace(
        signin,
        issuers=(issuer, msgspec.structs.replace(issuer, issuer=OTHER)),
        demands=(Demand(acr=("mfa",)),),
    )
    async with (
        fresh_database(postgres) as url,
        open_door(world, url, matched=False, public_url=PUBLIC, signin=strict) as door,
    ):
        yield door


@pytest_asyncio.fixture
async def portal(running_portal: Door, oidc_provider: OidcProvider) -> Door:
    await oidc_provider.register(
        client_id=GATEWAY,
        client_secret=GATEWAY_SECRET,
        redirect_uris=[f"{PUBLIC}/session/callback"],
        post_logout_redirect_uris=[AT],
        # Where the provider, which knows no proxy, really reaches it.
        backchannel_logout_uri=f"{running_portal.url}/session/back-channel-logout",
        backchannel_logout_session_required=True,
    )
    return running_portal


@pytest.fixture
def browser(portal: Door) -> Browser:
    return Browser(portal.url, portal.session)


async def arrive(browser: Browser, address: str) -> str:
    """Follows the provider's redirects until the gateway has the browser again."""
    while not address.startswith(f"{PUBLIC}/session/callback"):
        answer, address = await browser.open(address)
        assert answer.status in (302, 303), answer.body
    return address


async def sign_in(browser: Browser, provider: OidcProvider, user: str, **wishes: str) -> None:
    await provider.who(user)
    answer, at = await browser.open(await arrive(browser, await browser.begin(return_to=AT, **wishes)))
    assert (answer.status, at) == (303, AT), answer.body


async def test_a_person_signs_in_and_is_who_the_provider_says(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await sign_in(browser, oidc_provider, "ann")

    answer = await browser.ask(VIEWER)

    assert answer.data["viewer"] == {
        "name": "Ann Owner",
        "email": "ann@harbour.example",
        "organisation": {"id": "harbour"},
    }
    told = (await browser.call("GET", "/session")).body
    assert (told["subject"], told["acr"], told["amr"]) == ("ann", "1", ["pwd"])
    assert told["authenticatedAt"]


async def test_the_code_is_exchanged_by_the_gateway_and_nothing_else_is_asked(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await oidc_provider.who("ann")
    back = await arrive(browser, await browser.begin())
    await oidc_provider.requests()

    await browser.open(back)
    await browser.ask(VIEWER)

    asked = await oidc_provider.requests()
    assert sorted(one for one in asked if "jwks" not in one and "well-known" not in one) == [
        "GET /me",
        "POST /token",
    ]


async def test_a_stronger_sign_in_is_asked_for_and_confirmed(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await sign_in(browser, oidc_provider, "ann")
    await sign_in(browser, oidc_provider, "ann", acr_values="mfa")
    told = (await browser.call("GET", "/session")).body
    assert (told["acr"], told["amr"]) == ("mfa", ["pwd", "otp", "mfa"])


async def test_a_recent_sign_in_is_asked_for_and_confirmed(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await sign_in(browser, oidc_provider, "ann", max_age="0")
    assert (await browser.ask(VIEWER)).status == 200


async def test_nobody_signed_in_at_the_provider_is_said_when_no_page_may_be_shown(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    answer, _ = await browser.open(await arrive(browser, await browser.begin(prompt="none")))
    assert answer.status == 403
    assert "You are not signed in at the identity provider." in answer.body
    # Whoever is signed in there is signed in here without being asked anything.
    await sign_in(browser, oidc_provider, "ann")
    answer, at = await browser.open(await arrive(browser, await browser.begin(prompt="none", return_to=AT)))
    assert (answer.status, at) == (303, AT)


async def test_a_sign_in_that_is_cancelled_there_is_one_line_here(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await oidc_provider.who(error="access_denied")
    answer, _ = await browser.open(await arrive(browser, await browser.begin()))
    assert answer.status == 403
    assert "cancelled" in answer.body
    assert "as the test wished" not in answer.body
    assert browser.secret is None


async def test_signing_out_signs_out_of_the_provider_too(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await sign_in(browser, oidc_provider, "ann")

    left = await browser.call("POST", "/session/sign-out", {"returnTo": AT})
    page, _ = await browser.open(left.body["endSessionUrl"])
    xsrf = page.body.split('name="xsrf" value="')[1].split('"')[0]
    action = page.body.split('action="')[1].split('"')[0]
    done, at = await browser.request("POST", action, data={"xsrf": xsrf, "logout": "yes"})

    assert (done.status, at.partition("?")[0]) == (303, AT)
    answer, _ = await browser.open(await arrive(browser, await browser.begin(prompt="none")))
    assert answer.status == 403


async def test_the_providers_back_channel_logout_ends_the_session(
    portal: Door, browser: Browser, oidc_provider: OidcProvider
) -> None:
    other = Browser(portal.url, portal.session)
    await sign_in(browser, oidc_provider, "ann")
    await sign_in(other, oidc_provider, "fin")

    told = await oidc_provider.log_out("ann")

    assert {(one["clientId"], one["error"]) for one in told} == {(GATEWAY, None)}
    assert (await browser.ask(VIEWER)).status == 401
    assert (await other.ask(VIEWER)).data["viewer"]["name"] == "Fin Finance"


async def test_a_session_outlives_its_process_and_ends_in_all_of_them(
    world: World,
    portal: Door,
    portal_url: str,
    signin: SignInSettings,
    browser: Browser,
    oidc_provider: OidcProvider,
) -> None:
    async with open_door(world, portal_url, matched=False, public_url=PUBLIC, signin=signin) as first:
        elsewhere = Browser(first.url, portal.session)
        await sign_in(elsewhere, oidc_provider, "ann")
        browser.own.update(elsewhere.own)
        assert (await browser.ask(VIEWER)).data["viewer"]["name"] == "Ann Owner"
        kept = dict(elsewhere.own)
    # The process in which the session began is gone.
    async with open_door(world, portal_url, matched=False, public_url=PUBLIC, signin=signin) as second:
        elsewhere = Browser(second.url, portal.session)
        elsewhere.own.update(kept)
        assert (await elsewhere.ask(VIEWER)).data["viewer"]["name"] == "Ann Owner"

        await browser.call("POST", "/session/sign-out", {})

        async with asyncio.timeout(30):
            while (await elsewhere.ask(VIEWER)).status != 401:
                await asyncio.sleep(0.01)


async def test_a_demand_for_a_stronger_sign_in_is_met_by_signing_in_as_it_says(
    demanding: Door, oidc_provider: OidcProvider
) -> None:
    browser = Browser(demanding.url, demanding.session)
    await sign_in(browser, oidc_provider, "ann", issuer=oidc_provider.issuer)

    refused = await browser.ask(VIEWER)
    told = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["WWW-Authenticate"]))
    await sign_in(browser, oidc_provider, "ann", issuer=oidc_provider.issuer, acr_values=told["acr_values"])

    assert (refused.status, told["error"]) == (401, "insufficient_user_authentication")
    assert (await browser.ask(VIEWER)).data["viewer"]["name"] == "Ann Owner"


async def test_with_several_issuers_a_person_picks_one(demanding: Door, oidc_provider: OidcProvider) -> None:
    browser = Browser(demanding.url, demanding.session)

    answer, _ = await browser.open("/session/sign-in?return_to=/graphiql/&max_age=60")
    links = [unescape(one) for one in re.findall(r'href="([^"]*)"', answer.body)]

    assert answer.status == 200
    assert [query_of(link) for link in links] == [
        {"return_to": "/graphiql/", "max_age": "60", "issuer": issuer}
        for issuer in (oidc_provider.issuer, OTHER)
    ]
    _, address = await browser.open(links[0])
    assert query_of(address)["max_age"] == "60"


async def test_the_answer_of_one_issuer_is_not_taken_for_anothers(
    demanding: Door, oidc_provider: OidcProvider
) -> None:
    browser = Browser(demanding.url, demanding.session)
    await oidc_provider.who("ann")
    back = await arrive(browser, await browser.begin(issuer=oidc_provider.issuer))
    await oidc_provider.requests()

    answer, _ = await browser.open(with_query(back, iss=OTHER))

    assert answer.status == 403
    assert "another identity provider" in answer.body
    assert "POST /token" not in await oidc_provider.requests()


async def test_sessions_outlive_the_providers_outage(browser: Browser, oidc_provider: OidcProvider) -> None:
    await sign_in(browser, oidc_provider, "ann")
    await oidc_provider.down()

    assert (await browser.ask(VIEWER)).status == 200
    left = await browser.call("POST", "/session/sign-out", {})
    assert left.status == 200
    assert urlsplit(left.body["endSessionUrl"]).netloc == urlsplit(oidc_provider.issuer).netloc


async def test_an_outage_between_there_and_back_signs_nobody_in(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    await oidc_provider.who("ann")
    back = await arrive(browser, await browser.begin())
    await oidc_provider.down()
    answer, _ = await browser.open(back)
    assert answer.status == 503
    assert browser.secret is None


async def test_ten_people_sign_in_at_once_and_nobody_is_somebody_else(
    portal: Door, oidc_provider: OidcProvider
) -> None:
    users = ["ann", "fin", "mo", "sam", "ada"] * 2
    browsers = [Browser(portal.url, portal.session) for _ in users]

    async def one(browser: Browser, user: str) -> str:
        # The gateway sends no login_hint: as if the person typed their name at the provider.
        address = await browser.begin(return_to=AT)
        answer, _ = await browser.open(await arrive(browser, f"{address}&login_hint={user}"))
        assert answer.status == 303, answer.body
        return str((await browser.call("GET", "/session")).body["subject"])

    assert await asyncio.gather(*(one(*pair) for pair in zip(browsers, users, strict=True))) == users


async def test_what_is_asked_for_carries_a_challenge_and_no_secret(
    browser: Browser, oidc_provider: OidcProvider
) -> None:
    address = await browser.begin()
    asked = query_of(address)
    assert asked["code_challenge_method"] == "S256"
    assert GATEWAY_SECRET not in address
    assert msgspec.json.encode(asked).count(b"secret") == 0
