"""The commands of docs/http.md, run against a served API."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.registry import Role

DOCUMENT = Path(__file__).parents[3] / "docs" / "http.md"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl")
async def test_the_commands_of_the_documentation_work(
    container: ApplicationContainer, home: Path, serve: Any
) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "orders.csv").write_text("id\n1\n")
    app: FastAPI = create_app(container)
    _, token = await app.state.parts.tokens().create("docs", Role.ADMIN)
    commands = DOCUMENT.read_text().partition("```sh\n")[2].partition("```")[0]
    async with serve(app) as served:
        process = await asyncio.create_subprocess_exec(
            "bash", "-eu", "-o", "pipefail", "-c", commands,
            env={**os.environ, "PURVEYOR": served.base_url, "TOKEN": token},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b'"priority":80' in output
    assert b'"rows":[["1"]]' in output
