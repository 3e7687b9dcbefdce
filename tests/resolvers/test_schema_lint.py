"""The printed schema passes graphql-eslint's schema-all and relay rules, save what tests/schema says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("npm") is None, reason="graphql-eslint needs Node: npm is not installed")
def test_the_schema_passes_graphql_eslint() -> None:
    # What a make above this one said is not for this one.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}
    }
    lint = subprocess.run(
        ["make", "schema-lint"], cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
