"""Fixtures that every room's tests may use."""

import os
from pathlib import Path

import pytest

from sources.sandbox.world import World

SPECS = Path(os.environ.get("VENDOR_SPECS", Path(__file__).parents[2] / "shared" / "vendors" / "specs"))
"""The vendors' own API descriptions, where this machine has them."""


@pytest.fixture(scope="session")
def world() -> World:
    """The invented company at its default size."""
    return World.build()


@pytest.fixture(scope="session")
def specs() -> Path:
    """The folder of the vendors' API descriptions; skips where there is none."""
    if not SPECS.is_dir():
        pytest.skip(f"no vendor API descriptions in {SPECS}: set VENDOR_SPECS to their folder")
    return SPECS
