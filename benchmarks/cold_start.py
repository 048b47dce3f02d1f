"""Starting from nothing: ``uv run python benchmarks/cold_start.py``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable

from measure import ratio, rounds, table, verdict

ROUNDS = 15

BASE = "import dependency_injector.containers, pydantic_settings"
OURS = """
from purveyor.containers import ApplicationContainer
ApplicationContainer().storage()
"""
IMPORTED = """
import sys
heavy = {"obstore", "sqlalchemy", "fastapi", "typer", "rich", "boto3", "asyncssh"}
base = set(sys.modules)
import dependency_injector.containers, pydantic_settings
theirs = heavy & set(sys.modules)
from purveyor.containers import ApplicationContainer
ApplicationContainer().storage()
print(" ".join(sorted((heavy & set(sys.modules)) - theirs)) or "none")
"""


def cpu_of(code: str, folder: str) -> Callable[[], float]:
    """Return a measurement of the CPU milliseconds of one process that runs ``code``."""

    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    return measure


ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("PURVEYOR_")
}


def main() -> None:
    """Compare with importing the two libraries that everything stands on."""
    with tempfile.TemporaryDirectory() as folder:
        figures = rounds(
            {
                "python": cpu_of("pass", folder),
                "import the libraries": cpu_of(BASE, folder),
                "build and select": cpu_of(OURS, folder),
            },
            ROUNDS,
        )
        table(figures, "ms of CPU a process", "import the libraries")
        print()
        verdict(
            "build and select", ratio(figures, "build and select", "import the libraries"), 1.35
        )
        imported = subprocess.run(
            [sys.executable, "-c", IMPORTED],
            cwd=folder,
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
        )
        print(f"SDKs and frameworks imported by Purveyor: {imported.stdout.strip()}")


if __name__ == "__main__":
    main()
