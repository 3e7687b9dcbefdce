"""Fixtures of the chaos tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.cell import Scene, open_scene


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(postgres: str, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A portal of the module's own, with its ``HELPDESK`` and its ``CACHE`` where it names them."""
    helpdesk = getattr(request.module, "HELPDESK", "zendesk")
    async with open_scene(postgres, helpdesk, getattr(request.module, "CACHE", None)) as opened:
        yield opened
