"""While a source fails, what was read of it before stands in, and the page says so."""

import pytest

from sources.layers.cache.lifetimes import KindSeconds, Lifetimes
from tests.chaos.cell import Scene
from tests.chaos.faults import FAULTS, Fault

SOON = 0.05
"""Seconds: every page reads anew, while it can."""

CACHE = Lifetimes(
    seconds=KindSeconds(SOON, SOON, SOON, SOON, SOON, SOON, SOON, SOON),
    stale_while_revalidate=0.0,
    jitter=0.0,
)

CHOSEN = [fault for fault in FAULTS if fault.name in ("hang", "500 burst")]


@pytest.mark.parametrize("fault", CHOSEN, ids=lambda fault: fault.name)
@pytest.mark.parametrize("source", ["hubspot", "xero", "zendesk", "s3"])
async def test_pages_stay_whole_and_name_what_is_stale(scene: Scene, source: str, fault: Fault) -> None:
    found = await scene.suffer(source, fault)

    assert found.complaints == ()
