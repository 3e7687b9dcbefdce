"""Signing in with a browser, at the demo's issuer: what works, and all that must not."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from gateway.demo_issuer import CLIENT_ID
from gateway.signin.session_settings import SessionSettings
from sources.sandbox.world import World
from tests.browser import PUBLIC, Browser, logout_token, query_of, with_query
from tests.conftest import fresh_database
from tests.door import Door, open_door

PORTAL = "https://portal.localhost"
VIEWER = "{ viewer { name organisation { id } account { name } } }"
SESSIONS = SessionSettings(
    return_to=(f"{PORTAL}/app/",), portal_origins=(PORTAL,), idle_minutes=30, most_per_person=3
)


class Clock:
    """The sessions' clock, moved by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest_asyncio.fixture(scope="module")
async def portal_url(postgres: str) -> AsyncIterator[str]:
    async with fresh_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="module")
async def running_portal(world: World, portal_url: str) -> AsyncIterator[Door]:
    """A gateway behind https, with sessions."""
    async with open_door(world, portal_url, public_url=PUBLIC, sessions=SESSIONS) as door:
        yield door


@pytest.fixture
def portal(running_portal: Door, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Door:
    monkeypatch.setattr(running_portal.office.browsers.sessions, "clock", clock)
    monkeypatch.setattr(running_portal.issuer, "id_token_changes", {})
    return running_portal


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def browser(portal: Door) -> Browser:
    return Browser(portal.url, portal.session)


def another(portal: Door) -> Browser:
    return Browser(portal.url, portal.session)


# -- what works ---------------------------------------------------------------------------------------------------------


async def test_a_browser_signs_in_and_asks_the_graph_with_its_cookie(browser: Browser) -> None:
    at = await browser.sign_in("owner-harbour", return_to=f"{PORTAL}/app/invoices?open=1")

    assert at == f"{PORTAL}/app/invoices?open=1"
    answer = await browser.ask(VIEWER)
    assert answer.data["viewer"] == {
        "name": "Owner of Harbour & Vale Provisions Ltd",
        "organisation": {"id": "harbour"},
        "account": {"name": "Harbour & Vale Provisions Ltd"},
    }


async def test_the_cookies_are_for_this_host_alone_and_no_script_reads_them(
    portal: Door, browser: Browser
) -> None:
    begun, location = await browser.open("/session/sign-in")
    done, _ = await browser.open(await browser.choose(location, "owner-harbour"))

    assert begun.headers["Set-Cookie"].partition("=")[0] == "__Host-gateway-sign-in"
    name, _, rest = done.headers["Set-Cookie"].partition("=")
    secret, *attributes = rest.split("; ")
    assert name == "__Host-gateway-session"
    assert len(secret) == 43
    assert sorted(attributes) == ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=lax", "Secure"]
    for answer in (begun, done):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_the_provider_is_asked_for_a_code_with_pkce_state_and_nonce(browser: Browser) -> None:
    asked = query_of(await browser.begin(max_age="60", acr_values="mfa pwd", prompt="login"))

    assert {name: asked[name] for name in asked if name not in ("state", "nonce", "code_challenge")} == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": f"{PUBLIC}/session/callback",
        "scope": "openid profile email",
        "code_challenge_method": "S256",
        "max_age": "60",
        "acr_values": "mfa pwd",
        "prompt": "login",
    }
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3


async def test_the_session_tells_who_is_signed_in_and_until_when(browser: Browser) -> None:
    await browser.sign_in("finance-moeller")

    answer = await browser.call("GET", "/session")

    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.body
    assert (told["subject"], told["organisation"], told["acr"], told["amr"]) == (
        "finance-moeller",
        None,
        "1",
        ["pwd"],
    )
    assert [one["id"] for one in told["organisations"]] == ["moeller"]
    assert told["organisations"][0]["name"]
    assert told["createdAt"] < told["idleExpiresAt"] < told["expiresAt"]


async def test_nobody_signed_in_is_401_and_never_cached(browser: Browser) -> None:
    answer = await browser.call("GET", "/session")
    assert answer.status == 401
    assert answer.headers["Cache-Control"] == "no-store"


async def test_sign_ins_in_two_tabs_both_arrive(browser: Browser) -> None:
    first, second = await browser.begin(return_to="/one"), await browser.begin(return_to="/two")

    _, at_two = await browser.open(await browser.choose(second, "owner-harbour"))
    _, at_one = await browser.open(await browser.choose(first, "finance-harbour"))

    assert (at_one, at_two) == (f"{PUBLIC}/one", f"{PUBLIC}/two")
    assert (await browser.call("GET", "/session")).body["subject"] == "finance-harbour"


async def test_a_bearer_token_wins_over_a_cookie(portal: Door, browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    token = portal.issuer.token("owner-moeller")

    answer = await browser.ask(VIEWER, Authorization=f"Bearer {token}", Origin="https://evil.example")

    assert answer.data["viewer"]["organisation"] == {"id": "moeller"}
    # Nor does a session help a token that is refused.
    assert (await browser.ask(VIEWER, Authorization="Bearer no.such.token")).status == 401


async def test_several_organisations_are_chosen_among_in_the_session(portal: Door, browser: Browser) -> None:
    portal.issuer.id_token_changes = {"organisations": ["harbour", "moeller"]}
    await browser.sign_in("owner-harbour")
    undecided = await browser.ask(VIEWER)

    chosen = await browser.call("POST", "/session/organisation", {"organisation": "moeller"})
    answer = await browser.ask(VIEWER)
    for_once = await browser.ask(VIEWER, **{"X-Organisation": "harbour"})
    foreign = await browser.call("POST", "/session/organisation", {"organisation": "acme"})

    assert undecided.status == 400
    assert chosen.body["organisation"] == "moeller"
    assert answer.data["viewer"]["organisation"] == {"id": "moeller"}
    assert for_once.data["viewer"]["organisation"] == {"id": "harbour"}
    assert foreign.status == 403
    assert (await browser.call("GET", "/session")).body["organisation"] == "moeller"
    await browser.call("POST", "/session/organisation", {"organisation": None})
    assert (await browser.ask(VIEWER)).status == 400


async def test_signing_out_ends_the_session_and_leads_to_the_providers_sign_out(
    portal: Door, browser: Browser
) -> None:
    await browser.sign_in("owner-harbour")
    copied = dict(browser.own)

    answer = await browser.call("POST", "/session/sign-out", {"returnTo": f"{PORTAL}/app/bye"})

    assert answer.status == 200
    assert browser.secret is None
    address = answer.body["endSessionUrl"]
    assert address.startswith(f"{portal.issuer.url}/end-session?")
    said = query_of(address)
    assert said["post_logout_redirect_uri"] == f"{PORTAL}/app/bye"
    assert said["id_token_hint"].count(".") == 2
    browser.own.update(copied)
    assert (await browser.ask(VIEWER)).status == 401


async def test_signing_out_twice_is_no_error(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    await browser.call("POST", "/session/sign-out", {})
    again = await browser.call("POST", "/session/sign-out", {})
    assert (again.status, again.body["endSessionUrl"]) == (200, None)


async def test_signing_in_and_out_are_in_the_audit_trail(browser: Browser, portal_url: str) -> None:
    await browser.sign_in("read-only-moeller")
    session = (await browser.call("GET", "/session")).body["id"]
    await browser.call("POST", "/session/sign-out", {})
    connection = await asyncpg.connect(portal_url)
    found: list[tuple[str, str, str]] = []
    async with asyncio.timeout(30):
        while len(found) < 4:
            rows = await connection.fetch(
                "SELECT * FROM audit WHERE credential = $1 AND kind LIKE 'sign-%' ORDER BY sequence", session
            )
            found = [(row["kind"], row["stage"], row["outcome"]) for row in rows]
    await connection.close()
    assert {row["organisation_id"] for row in rows} == {"moeller"}
    assert found == [
        ("sign-in", "begun", "unknown"),
        ("sign-in", "done", "ok"),
        ("sign-out", "begun", "unknown"),
        ("sign-out", "done", "ok"),
    ]


async def test_over_plain_http_on_loopback_cookies_work_without_being_secure(
    world: World, postgres: str
) -> None:
    async with (
        fresh_database(postgres) as url,
        open_door(world, url, matched=False, public_url="http://127.0.0.1:1") as door,
    ):
        browser = Browser(door.url, door.session, public="http://127.0.0.1:1")
        await browser.sign_in("owner-harbour")

        assert sorted(browser.own) == ["gateway-session", "gateway-sign-in"]
        assert (await browser.ask(VIEWER)).status == 200


# -- the way in ---------------------------------------------------------------------------------------------------------


async def test_a_callback_works_once(browser: Browser) -> None:
    back = await browser.choose(await browser.begin(), "owner-harbour")
    first, _ = await browser.open(back)
    browser.own.pop("__Host-gateway-session")

    again, _ = await browser.open(back)

    assert (first.status, again.status) == (303, 403)
    assert browser.secret is None
    assert "You are not signed in" in again.body


async def test_a_callback_that_comes_five_times_at_once_signs_in_once(browser: Browser) -> None:
    back = await browser.choose(await browser.begin(), "owner-harbour")
    answers = await asyncio.gather(*(browser.open(back) for _ in range(5)))
    assert sorted(answer.status for answer, _ in answers) == [303, 403, 403, 403, 403]


@pytest.mark.parametrize(
    "changes",
    [{"state": None}, {"state": "A" * 43}, {"state": ""}, {"iss": "https://evil.example"}, {"iss": None}],
)
async def test_an_answer_with_a_foreign_state_or_issuer_signs_nobody_in(
    browser: Browser, changes: dict[str, str | None]
) -> None:
    back = await browser.choose(await browser.begin(), "owner-harbour")
    answer, _ = await browser.open(with_query(back, **changes))
    assert answer.status == 403
    assert browser.secret is None


async def test_the_code_of_one_sign_in_is_worth_nothing_in_another(browser: Browser, portal: Door) -> None:
    attacker = another(portal)
    stolen = query_of(await browser.choose(await browser.begin(), "owner-harbour"))["code"]
    own = await attacker.choose(await attacker.begin(), "owner-moeller")

    answer, _ = await attacker.open(with_query(own, code=stolen))

    assert answer.status == 403
    assert attacker.secret is None


async def test_an_attackers_answer_does_not_sign_a_victims_browser_in(browser: Browser, portal: Door) -> None:
    attacker = another(portal)
    theirs = await attacker.choose(await attacker.begin(), "owner-moeller")
    await browser.begin()

    answer, _ = await browser.open(theirs)

    assert answer.status == 403
    assert browser.secret is None
    # The attempt has not spent it, so nobody can spoil another's sign-in either.
    assert (await attacker.open(theirs))[0].status == 303


async def test_a_session_is_new_on_every_sign_in_and_the_former_one_ends(
    browser: Browser, portal: Door
) -> None:
    planted = another(portal)
    await planted.sign_in("owner-moeller")
    browser.own.update(planted.own)

    await browser.sign_in("owner-harbour")

    assert browser.secret != planted.secret
    assert (await planted.ask(VIEWER)).status == 401
    assert (await browser.ask(VIEWER)).data["viewer"]["organisation"] == {"id": "harbour"}


async def test_a_planted_secret_is_never_taken_over(browser: Browser) -> None:
    browser.own["__Host-gateway-session"] = "A" * 43
    browser.own["__Host-gateway-sign-in"] = "B" * 43
    await browser.sign_in("owner-harbour")
    assert browser.secret not in (None, "A" * 43)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another-client"]},
        {"azp": "another-client"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"exp": "soon"},
        {"iat": None},
        {"iat": int(time.time()) + 3600},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"sub": None},
        {"sub": ""},
        {"sub": "a" * 501},
        {"sub": "a\0b"},
        {"sid": 7},
        {"sid": "a" * 501},
        {"auth_time": "yesterday"},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    ],
    ids=lambda changes: "".join(changes),
)
async def test_an_id_token_that_is_not_right_signs_nobody_in(
    portal: Door, browser: Browser, changes: dict[str, Any]
) -> None:
    portal.issuer.id_token_changes = changes
    answer, _ = await browser.open(await browser.choose(await browser.begin(), "owner-harbour"))
    assert answer.status == 403
    assert browser.secret is None
    assert "owner" not in answer.body


@pytest.mark.parametrize(
    ("wishes", "changes", "status"),
    [
        ({"max_age": "300"}, {"auth_time": int(time.time()) - 3600}, 403),
        ({"max_age": "300"}, {"auth_time": None}, 403),
        ({"max_age": "0"}, {"auth_time": int(time.time()) - 600}, 403),
        ({"max_age": "86400"}, {"auth_time": int(time.time()) - 3600}, 303),
        ({"acr_values": "mfa"}, {"acr": "1"}, 403),
        ({"acr_values": "mfa"}, {"acr": None}, 403),
        ({"acr_values": "mfa phr"}, {"acr": "phr"}, 303),
    ],
)
async def test_what_was_demanded_of_the_sign_in_must_be_confirmed(
    portal: Door, browser: Browser, wishes: dict[str, str], changes: dict[str, Any], status: int
) -> None:
    portal.issuer.id_token_changes = changes
    answer, _ = await browser.open(await browser.choose(await browser.begin(**wishes), "owner-harbour"))
    assert answer.status == status


@pytest.mark.parametrize(
    "error", ["access_denied", "login_required", "server_error", "<script>alert(1)</script>"]
)
async def test_a_providers_error_is_one_line_and_nothing_of_it_leaks(
    portal: Door, browser: Browser, error: str
) -> None:
    state = query_of(await browser.begin())["state"]
    sent = {"state": state, "iss": portal.issuer.url, "error": error, "error_description": "secret-reason"}
    answer, _ = await browser.open(f"/session/callback?{urlencode(sent)}")
    assert answer.status == 403
    assert "secret-reason" not in answer.body
    assert "<script>" not in answer.body
    assert answer.body.count("<p>") == 1
    assert "Sign in again" in answer.body


async def test_somebody_whose_groups_were_cut_off_gets_no_session(portal: Door, browser: Browser) -> None:
    portal.issuer.id_token_changes = {"_claim_names": {"roles": "src1"}}
    answer, _ = await browser.open(await browser.choose(await browser.begin(), "owner-harbour"))
    assert answer.status == 403
    assert "does not carry all your groups" in answer.body
    assert browser.secret is None


async def test_an_issuer_that_is_away_is_said_plainly(portal: Door, browser: Browser) -> None:
    back = await browser.choose(await browser.begin(), "owner-harbour")
    portal.boxes["issuer"].faults.add("fail", "/token", status=503)
    try:
        answer, _ = await browser.open(back)
    finally:
        portal.boxes["issuer"].faults.clear()
    assert answer.status == 503
    assert "try again later" in answer.body


@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https:///evil.example",
        "https://portal.localhost.evil.example/app/",
        "https://portal.localhost@evil.example/app/",
        "https://evil.example/#https://portal.localhost/app/",
        "https://portal.localhost:444/app/",
        "http://portal.localhost/app/",
        "https://portal.localhost/application/",
        "https://portal.localhost/app/../admin",
        "https://portal.localhost/app/%2e%2e/admin",
        "https://portal.localhost/app/.%2E/admin",
        "javascript:alert(1)",
        "data:text/html,hello",
        "https://portal.localhost/app/\t/evil",
        "/\t/evil.example",
        " https://evil.example",
        "https://[::1",
        "h",
        "/" + "a" * 3000,
    ],
)
async def test_nobody_is_sent_elsewhere(browser: Browser, return_to: str) -> None:
    answer, location = await browser.open(f"/session/sign-in?{urlencode({'return_to': return_to})}")
    await browser.sign_in("owner-harbour")
    left = await browser.call("POST", "/session/sign-out", {"returnTo": return_to})
    assert (answer.status, location) == (400, "")
    assert (left.status, browser.secret is not None) == (400, True)


@pytest.mark.parametrize(
    ("return_to", "at"),
    [
        (None, f"{PORTAL}/app/"),
        (f"{PORTAL}/app", f"{PORTAL}/app"),
        (f"{PORTAL}/app/a/b?c=d#e", f"{PORTAL}/app/a/b?c=d#e"),
        ("HTTPS://PORTAL.localhost:443/app/x", "https://PORTAL.localhost:443/app/x"),
        ("/graphiql/?x=1", f"{PUBLIC}/graphiql/?x=1"),
        (PUBLIC, PUBLIC),
    ],
)
async def test_one_returns_to_where_the_portal_is(browser: Browser, return_to: str | None, at: str) -> None:
    assert await browser.sign_in("owner-harbour", **({"return_to": return_to} if return_to else {})) == at


@pytest.mark.parametrize(
    "wishes",
    [
        {"max_age": "-1"},
        {"max_age": "soon"},
        {"max_age": "9" * 30},
        {"acr_values": "a  b"},
        {"acr_values": "a\nb"},
        {"prompt": "whatever"},
        {"prompt": "none login"},
        {"issuer": "https://evil.example"},
    ],
)
async def test_wishes_that_make_no_sense_are_said_so(browser: Browser, wishes: dict[str, str]) -> None:
    answer, location = await browser.open(f"/session/sign-in?{urlencode(wishes)}")
    assert (answer.status, location) == (400, "")


# -- how long -----------------------------------------------------------------------------------------------------------


async def test_a_session_that_is_not_used_ends(browser: Browser, clock: Clock) -> None:
    await browser.sign_in("owner-harbour")
    clock.ahead = 29 * 60
    assert (await browser.ask(VIEWER)).status == 200
    clock.ahead = (29 + 29) * 60
    assert (await browser.ask(VIEWER)).status == 200
    clock.ahead = (29 + 29 + 31) * 60
    assert (await browser.ask(VIEWER)).status == 401


async def test_asking_about_the_session_does_not_keep_it_alive(browser: Browser, clock: Clock) -> None:
    await browser.sign_in("owner-harbour")
    for minutes in (10, 20, 29):
        clock.ahead = minutes * 60
        assert (await browser.call("GET", "/session")).status == 200
    clock.ahead = 31 * 60
    assert (await browser.call("GET", "/session")).status == 401
    assert (await browser.ask(VIEWER)).status == 401


async def test_a_session_ends_at_the_latest_when_it_must(browser: Browser, clock: Clock) -> None:
    await browser.sign_in("owner-harbour")
    for minutes in range(20, 12 * 60, 20):
        clock.ahead = minutes * 60
        assert (await browser.ask("{ __typename }")).status == 200
    clock.ahead = 12 * 3600 + 1
    assert (await browser.ask(VIEWER)).status == 401


async def test_a_sign_in_that_takes_too_long_is_over(browser: Browser, clock: Clock) -> None:
    back = await browser.choose(await browser.begin(), "owner-harbour")
    clock.ahead = 601
    answer, _ = await browser.open(back)
    assert answer.status == 403
    assert browser.secret is None


async def test_a_persons_oldest_session_ends_when_there_are_too_many(portal: Door) -> None:
    browsers = [another(portal) for _ in range(4)]
    for one in browsers:
        await one.sign_in("standard-moeller")
    assert [(await one.ask(VIEWER)).status for one in browsers] == [401, 200, 200, 200]


async def test_what_has_expired_is_swept_away(
    portal: Door, browser: Browser, clock: Clock, portal_url: str
) -> None:
    await browser.sign_in("owner-harbour")
    await browser.begin()
    clock.ahead = 13 * 3600
    await portal.office.browsers.sessions.sweep()
    connection = await asyncpg.connect(portal_url)
    left = await connection.fetchval(
        "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM sign_ins)"
    )
    await connection.close()
    assert left == 0


# -- what other sites try -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://evil.gateway.localhost"},
        {"Origin": "http://gateway.localhost"},
        {"Origin": "https://gateway.localhost:8443"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/graphql", "/session/organisation", "/session/sign-out"])
async def test_another_sites_page_changes_nothing(
    browser: Browser, headers: dict[str, str], path: str
) -> None:
    await browser.sign_in("owner-harbour")
    body = {"organisation": "harbour"} if path.endswith("organisation") else {}
    body = {"query": VIEWER} if path == "/graphql" else body
    answer = await browser.call("POST", path, body, headers={"Sec-Fetch-Site": "", **headers})
    assert answer.status == 403
    assert (await browser.ask(VIEWER)).status == 200


async def test_without_a_word_of_where_it_comes_from_nothing_is_changed(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    answer, _ = await browser.request("POST", "/graphql", json={"query": VIEWER})
    assert answer.status == 403
    # Browsers that say nothing of the origin say this.
    answer, _ = await browser.request(
        "POST", "/graphql", json={"query": VIEWER}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
@pytest.mark.parametrize("path", ["/graphql", "/session/organisation", "/session/sign-out"])
async def test_what_a_form_can_send_changes_nothing(browser: Browser, content_type: str, path: str) -> None:
    await browser.sign_in("owner-harbour")
    answer, _ = await browser.request(
        "POST", path, data=b"{}", headers={"Origin": PUBLIC, "Content-Type": content_type}
    )
    assert answer.status == 415
    assert (await browser.ask(VIEWER)).status == 200


async def test_get_with_a_cookie_reads_and_changes_nothing(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    read = await browser.call("GET", f"/graphql?{urlencode({'query': VIEWER})}")
    write = await browser.call("GET", f"/graphql?{urlencode({'query': 'mutation { __typename }'})}")
    assert read.data["viewer"]["organisation"] == {"id": "harbour"}
    assert "no-store" in read.headers["Cache-Control"]
    assert "data" not in write.body


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_what_another_site_embeds_is_not_answered(browser: Browser, site: str) -> None:
    await browser.sign_in("owner-harbour")
    answer, _ = await browser.request(
        "GET",
        f"/graphql?{urlencode({'query': VIEWER})}",
        headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"},
    )
    assert answer.status == 403


async def test_a_socket_of_another_site_is_not_let_in(browser: Browser, portal: Door) -> None:
    await browser.sign_in("owner-harbour")
    cookie = "; ".join(f"{name}={value}" for name, value in browser.own.items())
    closed = {}
    for origin in ("https://evil.example", PUBLIC):
        async with portal.session.ws_connect(
            f"{portal.url}/graphql",
            protocols=["graphql-transport-ws"],
            headers={"Cookie": cookie, "Origin": origin},
        ) as socket:
            await socket.send_json({"type": "connection_init"})
            said = await socket.receive()
            closed[origin] = socket.close_code or msgspec.json.decode(said.data)["type"]
    assert closed == {"https://evil.example": 4403, PUBLIC: "connection_ack"}


async def test_the_portals_own_pages_may_use_the_session_and_no_others(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    seen = {}
    for origin in (PORTAL, "https://evil.example"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "same-site"}
        preflight, _ = await browser.request(
            "OPTIONS",
            "/graphql",
            headers={
                **headers,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,x-organisation",
            },
        )
        answer, _ = await browser.request("POST", "/graphql", headers=headers, json={"query": VIEWER})
        seen[origin] = (
            preflight.headers.get("Access-Control-Allow-Origin"),
            preflight.headers.get("Access-Control-Allow-Credentials") == "true" and preflight.status,
            answer.status,
            answer.headers.get("Access-Control-Allow-Origin"),
        )
    assert seen == {
        PORTAL: (PORTAL, 200, 200, PORTAL),
        "https://evil.example": (None, 400, 403, None),
    }


# -- tampering ----------------------------------------------------------------------------------------------------------


async def test_a_cookie_that_was_tampered_with_is_worth_nothing(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    name, secret = "__Host-gateway-session", browser.own["__Host-gateway-session"]
    changed = ("B" if secret[0] == "A" else "A") + secret[1:]
    for value in (changed, secret[:-1], secret + "A", secret.swapcase(), "", "%00", "a" * 5000):
        browser.own[name] = value
        assert (await browser.ask(VIEWER)).status == 401, value
    browser.own[name] = secret
    assert (await browser.ask(VIEWER)).status == 200


async def test_a_cookie_of_a_name_that_is_not_the_hosts_own_is_not_read(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    secret = browser.own.pop("__Host-gateway-session")
    for name in ("gateway-session", "__Secure-gateway-session", "__host-gateway-session"):
        browser.own[name] = secret
    assert (await browser.ask(VIEWER)).status == 401


async def test_two_session_cookies_are_one_too_many(browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    name, secret = "__Host-gateway-session", browser.secret
    browser.cookies.clear()
    answer = await browser.call(
        "POST", "/graphql", {"query": VIEWER}, headers={"Cookie": f"{name}={secret}; {name}={'A' * 43}"}
    )
    assert answer.status == 401


async def test_the_secret_is_in_no_table(browser: Browser, portal_url: str) -> None:
    await browser.sign_in("owner-harbour")
    await browser.begin()
    secrets = list(browser.own.values())
    connection = await asyncpg.connect(portal_url)
    rows = [
        repr(tuple(row))
        for table in ("sessions", "sign_ins")
        for row in await connection.fetch(f"SELECT * FROM {table}")
    ]
    await connection.close()
    assert len(secrets) == 2
    assert not [row for row in rows if any(secret in row for secret in secrets)]


# -- the provider's word ------------------------------------------------------------------------------------------------


async def told(portal: Door, token: str) -> int:
    async with portal.session.post(
        f"{portal.url}/session/back-channel-logout", data={"logout_token": token}
    ) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status


async def test_a_back_channel_logout_ends_the_session_at_once(portal: Door, browser: Browser) -> None:
    await browser.sign_in("owner-harbour")
    other = another(portal)
    await other.sign_in("finance-harbour")

    status = await told(portal, logout_token(portal.issuer, CLIENT_ID, sub="owner-harbour"))

    assert status == 200
    assert (await browser.ask(VIEWER)).status == 401
    assert (await other.ask(VIEWER)).status == 200


async def test_a_logout_token_is_taken_once(portal: Door, browser: Browser) -> None:
    token = logout_token(portal.issuer, CLIENT_ID, sub="nobody-in-particular")
    assert [await told(portal, token), await told(portal, token)] == [200, 400]


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": None},
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"aud": None},
        {"events": None},
        {"events": {}},
        {"events": {"http://schemas.openid.net/event/backchannel-logout": None}},
        {"events": {"http://example.com/other": {}}},
        {"events": "http://schemas.openid.net/event/backchannel-logout"},
        {"nonce": "any"},
        {"jti": None},
        {"iat": None},
        {"iat": int(time.time()) - 3600},
        {"iat": int(time.time()) + 3600},
        {"exp": int(time.time()) - 3600},
        {"typ": "at+jwt"},
        {"typ": "secevent+jwt"},
        {"sub": 7},
        {"sid": "a" * 501},
        {"jti": "a" * 501},
    ],
    ids=lambda changes: "".join(changes),
)
async def test_a_logout_token_that_is_not_right_ends_nothing(
    portal: Door, browser: Browser, changes: dict[str, Any]
) -> None:
    await browser.sign_in("standard-harbour")
    token = logout_token(portal.issuer, CLIENT_ID, **{"sub": "standard-harbour", **changes})
    assert await told(portal, token) == 400
    assert (await browser.ask(VIEWER)).status == 200


async def test_a_logout_token_that_the_provider_has_not_signed_ends_nothing(
    portal: Door, browser: Browser
) -> None:
    await browser.sign_in("standard-harbour")
    head, body, signature = logout_token(portal.issuer, CLIENT_ID, sub="standard-harbour").split(".")
    forged = ("A" if signature[0] != "A" else "B") + signature[1:]
    for token in (
        f"{head}.{body}.{forged}",
        f"{head}.{body}.",
        f"{head}.{body}",
        "",
        "x",
        "eyJhbGciOiJub25lIn0." + body + ".",
    ):
        assert await told(portal, token) == 400
    assert await told(portal, portal.issuer.token("standard-harbour")) == 400
    assert (await browser.ask(VIEWER)).status == 200


async def test_a_front_channel_logout_ends_the_providers_session_by_its_sid_alone(
    portal: Door, browser: Browser
) -> None:
    portal.issuer.id_token_changes = {"sid": "sid-of-harbour"}
    await browser.sign_in("standard-harbour")
    path, seen = "/session/front-channel-logout", []
    for query in (
        {"iss": portal.issuer.url},
        {"sid": "sid-of-harbour"},
        {"iss": "https://evil.example", "sid": "sid-of-harbour"},
        {"iss": portal.issuer.url, "sid": "another"},
        {"iss": portal.issuer.url, "sid": "sid-of-harbour"},
    ):
        async with portal.session.get(f"{portal.url}{path}", params=query) as answer:
            seen.append((answer.status, (await browser.ask(VIEWER)).status))
            ancestors = answer.headers["Content-Security-Policy"].partition("frame-ancestors ")[2]
    assert seen == [(400, 200), (400, 200), (400, 200), (200, 200), (200, 401)]
    assert ancestors == portal.issuer.url
