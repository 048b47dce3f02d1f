"""What the documents and examples show works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support import load_module

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_blocks(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_a_plain_class_is_given_its_storage(tmp_path: Path) -> None:
    assert run(str(ROOT / "examples" / "plain_class.py")).split() == [
        "reports/monday.txt",
        "reports/tuesday.txt",
    ]
    assert (tmp_path / ".purveyor" / "storage" / "sqlite.sqlite3").is_file()


def test_a_fastapi_application_stores_and_returns_files() -> None:
    example = load_module(ROOT / "examples" / "fastapi_app.py")
    with TestClient(example.app) as client:
        assert client.put("/files/a/b.bin", content=b"x" * 300_000).json() == {"size": 300_000}
        assert client.get("/files/a/b.bin").content == b"x" * 300_000
        assert client.get("/files/missing").status_code == 404
        assert client.put("/files/a//b", content=b"").status_code == 422


def test_the_readmes_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURVEYOR_STORAGE__PROVIDERS__BACKUPS__TYPE", "filesystem")
    program, blocking = python_blocks("README.md")[:2]
    assert run("-c", program) == "report.csv 8\n"
    stored = tmp_path / ".purveyor" / "storage" / "backups" / "report.csv"
    assert stored.read_bytes() == b"a,b\n1,2\n"
    stored.unlink()
    run("-c", f"from purveyor.containers import ApplicationContainer\n{blocking}")
    assert stored.read_bytes() == b"a,b\n1,2\n"


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md")))]
)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{document} links to {target}"
