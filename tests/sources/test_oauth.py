"""Access tokens: renewed ahead of their end while they are in use, and asked for only where calls may go."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import pytest_asyncio
from starlette.requests import Request as Incoming
from starlette.responses import Response
from starlette.routing import Route

from sources.ledger.book import Ledger
from sources.ports.errors import SourceRejected, SourceUnavailable
from sources.sandbox.server import Sandbox, serve
from sources.transport.addresses import Addresses
from sources.transport.http import Auth, Request
from sources.transport.oauth import ClientCredentials, StoredRefreshToken, TokenEndpoint
from sources.vendors.xero.sandbox import CUSTOM_CONNECTION, sandbox

LOOPBACK = Addresses(["127.0.0.1", "::1"])


@pytest_asyncio.fixture
async def xero(world):
    box = sandbox(world)
    async with serve(box) as running:
        yield box, running.url


def credentials(url: str, addresses: Addresses = LOOPBACK) -> ClientCredentials:
    return ClientCredentials("xero", f"{url}/connect/token", *CUSTOM_CONNECTION, addresses=addresses)


async def authorised(auth: Auth, request: Request) -> None:
    waiting = auth.authorise(request)
    if waiting is not None:
        await waiting


async def token(auth: ClientCredentials) -> str:
    request = Request("GET", "/", {})
    await authorised(auth, request)
    return request.headers["Authorization"]


def aged(auth: ClientCredentials, left: timedelta) -> None:
    """As if the token were older."""
    assert auth._access is not None
    now = datetime.now(UTC)
    auth._access = msgspec.structs.replace(auth._access, expires_at=now + left, renew_at=now)


async def test_a_token_is_renewed_ahead_while_requests_go_on_with_it(xero):
    box, url = xero
    auth = credentials(url)
    first = await token(auth)
    aged(auth, timedelta(minutes=6))
    box.faults.add("hang", "/connect/token", times=1)

    answers = await asyncio.gather(*(token(auth) for _ in range(20)))
    while box.log.count("POST", "/connect/token") < 2:
        await asyncio.sleep(0)

    assert set(answers) == {first}
    assert box.log.count("POST", "/connect/token") == 2  # one renewal, whoever asks
    box.faults.clear()
    await asyncio.wait(auth._renewing)
    assert await token(auth) != first


async def test_a_renewal_ahead_that_fails_troubles_nobody(xero):
    box, url = xero
    auth = credentials(url)
    first = await token(auth)
    aged(auth, timedelta(minutes=6))
    box.faults.add("fail", "/connect/token")

    assert await token(auth) == first
    await asyncio.wait(auth._renewing)
    assert await token(auth) == first
    assert box.log.count("POST", "/connect/token") == 2  # not asked again by the next request
    aged(auth, timedelta(seconds=30))
    with pytest.raises(SourceUnavailable):
        await token(auth)


async def test_processes_renew_at_different_moments(xero):
    _, url = xero
    auths = [credentials(url) for _ in range(8)]
    for auth in auths:
        await token(auth)

    left = [(auth._access.expires_at - auth._access.renew_at) / timedelta(minutes=30) for auth in auths]

    assert len(set(left)) == 8
    assert all(0.14 < part < 0.31 for part in left)


def test_a_token_endpoint_at_a_private_address_is_refused_at_once():
    with pytest.raises(SourceRejected, match="list it in private_addresses"):
        credentials("http://127.0.0.1:1", Addresses())


async def test_a_name_that_stands_for_a_private_address_gets_no_secret(xero):
    box, url = xero
    named = url.replace("127.0.0.1", "localhost")

    with pytest.raises(SourceRejected, match="list it in private_addresses"):
        await token(credentials(named, Addresses()))

    assert box.log.count() == 0
    assert await token(credentials(named))


async def test_a_redirecting_token_endpoint_is_not_followed(xero):
    box, url = xero
    endpoint = TokenEndpoint("xero", f"{url}/identity/connect/authorize", *CUSTOM_CONNECTION, LOOPBACK)
    with pytest.raises(SourceUnavailable):
        await endpoint.ask(grant_type="client_credentials")
    assert box.log.count() == 1


@pytest.mark.parametrize(
    "life", ['"1800.5"', '"soon"', "1e308", "NaN", "[1]", "-5", "0", "null", '{"seconds": 1800}', "true"]
)
async def test_a_refresh_token_that_works_once_is_kept_whatever_is_said_of_the_access_tokens_life(
    ledger: Ledger, life: str
) -> None:
    async def answer(request: Incoming) -> Response:
        return Response(f'{{"access_token": "first", "refresh_token": "second", "expires_in": {life}}}')

    async with serve(Sandbox("vendor", [Route("/token", answer, methods=["POST"])])) as running:
        auth = StoredRefreshToken(
            "vendor",
            f"{running.url}/token",
            "client",
            "secret",
            store=ledger.tokens,
            first_refresh_token="once",
            addresses=LOOPBACK,
        )
        request = Request("GET", "/", {})
        await authorised(auth, request)

    assert request.headers["Authorization"] == "Bearer first"
    kept = await ledger.tokens.load("vendor")
    assert kept is not None
    assert kept.refresh_token == "second"


@pytest.mark.parametrize("said", ["5", '["a"]', '"a\\r\\nX-Other: b"', '"\\ud800"', '""'])
async def test_a_token_that_is_none_is_refused(said: str) -> None:
    async def answer(request: Incoming) -> Response:
        return Response(f'{{"access_token": {said}}}')

    async with serve(Sandbox("vendor", [Route("/token", answer, methods=["POST"])])) as running:
        auth = ClientCredentials("vendor", f"{running.url}/token", "client", "secret", addresses=LOOPBACK)
        with pytest.raises(SourceRejected, match="no access token"):
            await authorised(auth, Request("GET", "/", {}))
