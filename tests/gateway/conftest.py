"""Fixtures of the tests of signing in."""

from collections.abc import AsyncIterator

import pytest_asyncio

from sources.sandbox.server import serve
from tests.door import Door
from tests.issuer import Issuer


@pytest_asyncio.fixture(scope="session")
async def running_issuers() -> AsyncIterator[tuple[Issuer, Issuer]]:
    """Two issuers on sockets, for all tests."""
    first, second = Issuer(), Issuer()
    async with serve(first.box) as one, serve(second.box) as other:
        first.url, second.url = one.url, other.url
        yield first, second


@pytest_asyncio.fixture
async def issuers(door: Door, running_issuers: tuple[Issuer, Issuer]) -> AsyncIterator[tuple[Issuer, Issuer]]:
    """Two issuers as new; the shared gateway believes whom it did before when the test is over."""
    signin = door.office.signin
    for issuer in running_issuers:
        issuer.renew()
    yield running_issuers
    await door.office.signin.close()
    door.office.signin = signin
    for issuer in running_issuers:
        issuer.box.faults.clear()


@pytest_asyncio.fixture
async def issuer(issuers: tuple[Issuer, Issuer]) -> Issuer:
    """The first of them."""
    return issuers[0]
