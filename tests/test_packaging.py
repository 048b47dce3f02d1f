"""What is built and installed: one import package, complete, that needs no extra to be imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    "containers",
    "entrypoints",
    "integrations",
    "providers",
    "services",
    "settings",
    "testing",
)
UV = os.environ.get("UV") or shutil.which("uv")


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        ".".join(("purveyor", *path.parent.relative_to(ROOT).parts))
        for floor in FLOORS
        for path in ROOT.glob(f"{floor}/**/__init__.py")
    }
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted({"purveyor", *found})


def test_every_module_is_in_a_package() -> None:
    for floor in FLOORS:
        for path in ROOT.glob(f"{floor}/**/*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if UV is None:
        pytest.skip("needs uv: pip install uv")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*FLOORS, "__init__.py", "__main__.py", "py.typed", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [UV, "build", "--quiet", "--wheel", "--out-dir", str(out), str(source)]
    subprocess.run(command, check=True, timeout=120)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_purveyor_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"purveyor"}
    assert "purveyor/py.typed" in names
    assert {"purveyor/entrypoints/http/dashboard/templates/overview.html",
            "purveyor/entrypoints/http/dashboard/static/dashboard.css"} <= set(names)  # fmt: skip


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert UV is not None
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([UV, "venv", "--quiet", "--clear", str(folder)], check=True, timeout=60)
    python = folder / "bin" / "python"
    command = [UV, "pip", "install", "--quiet", "--python", str(python), str(wheel)]
    subprocess.run(command, check=True, timeout=120)
    return python


class TestInstalledWithoutExtras:
    def run(self, python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(cwd)}
        return subprocess.run(
            [str(python), *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_it_imports_and_stores(self, python: Path, tmp_path: Path) -> None:
        program = (
            "from purveyor.containers import ApplicationContainer\n"
            "with ApplicationContainer().blocking as services:\n"
            "    services.storage().put('a', b'content')\n"
            "    print(services.storage('filesystem').get('a'))\n"
        )
        done = self.run(python, "-c", program, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "b'content'\n"), done.stderr

    def test_a_missing_library_is_told_with_its_install_line(
        self, python: Path, tmp_path: Path
    ) -> None:
        program = (
            "from purveyor.containers import ApplicationContainer\n"
            "from purveyor.settings import Settings\n"
            "settings = Settings(storage={'providers': {'s3': {'bucket': 'bucket'}}})\n"
            "with ApplicationContainer(settings=settings).blocking as services:\n"
            "    services.storage('s3').get('a')\n"
        )
        done = self.run(python, "-c", program, cwd=tmp_path)
        assert done.returncode == 1
        assert "pip install 'purveyor[s3]'" in done.stderr.splitlines()[-1]

    def test_the_command_line_without_its_extra_is_one_line(
        self, python: Path, tmp_path: Path
    ) -> None:
        done = self.run(python, "-m", "purveyor", "check", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines() == [
            "error: the command line needs an extra: 'typer' is not installed. Install it with: "
            "pip install 'purveyor[cli]'"
        ]


def test_the_documents_count_the_mutants_that_survive() -> None:
    root = Path(__file__).parent.parent
    known = tomllib.loads((root / "tests" / "mutation.toml").read_text(encoding="utf-8"))
    page = (root / "docs" / "mutation.md").read_text(encoding="utf-8")
    for module, rows in known.items():
        assert re.search(rf"^\| `{module}` \|.*\| {len(rows)} \|$", page, re.MULTILINE)
        assert all(row["reason"] for row in rows)
