"""Importing settings costs little more than pydantic-settings does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEYOND = """
import sys
import pydantic_settings
before = set(sys.modules)
from purveyor.settings import Settings
Settings()
print("\\n".join(set(sys.modules) - before))
"""


def test_only_what_is_used_is_imported(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEYOND], capture_output=True, text=True, check=True, cwd=folder
    )
    unwanted = ("yaml", "dotenv.parser", "jsonschema", "asyncio", "purveyor.providers")
    assert not {name for name in done.stdout.split() if name.startswith(unwanted)}
