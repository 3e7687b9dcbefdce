"""S3 fails in every way that there is, while people of several customers look at their pages."""

import pytest

from tests.chaos.cell import Scene
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.table import behaviour, written


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_only_its_own_fields_fail_and_it_is_back_soon(scene: Scene, fault: Fault) -> None:
    found = await scene.suffer("s3", fault)

    assert found.complaints == ()
    assert written()["s3", fault.name] == behaviour("s3", fault)
