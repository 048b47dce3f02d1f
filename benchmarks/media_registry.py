"""
A media application's providers from its file: ``uv run python benchmarks/media_registry.py``.

The registry, which finds classes by name, checks settings and assigns pipelines, is held against
code that imports the four classes by hand and builds them of the same settings.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import ratio, rounds, table, verdict

ROUNDS = 11
FILE = """
[providers.audio.forvo]
type = "audio"
api_key = "forvo-key"
pipelines = ["vocabulary"]
[providers.image.openai]
type = "image"
api_key = "openai-key"
model = "gpt-image-2"
[providers.image.runware]
type = "image"
api_key = "runware-key"
model = "runware:101@1"
[providers.sync.anki]
type = "sync"
deck = "Spanish"
"""
BASE = """
from purveyor.containers import ApplicationContainer
from purveyor.settings import load_settings
settings = load_settings(config_file="config.toml", home="home")
"""
STATIC = """
from purveyor.providers.media.audio.forvo import Forvo
from purveyor.providers.media.images.openai import OpenAIImages
from purveyor.providers.media.images.runware import RunwareImages
from purveyor.providers.media.flashcards.anki import Anki
for cls, values in (
    (Forvo, {"api_key": "forvo-key"}),
    (OpenAIImages, {"api_key": "openai-key", "model": "gpt-image-2"}),
    (RunwareImages, {"api_key": "runware-key", "model": "runware:101@1"}),
    (Anki, {"deck": "Spanish"}),
):
    cls(cls.config_class.model_validate(values))
"""
DYNAMIC = """
container = ApplicationContainer(settings=settings)
for family in ("audio", "images", "flashcards"):
    registry = container.registries()[family]
    report = registry.load(strict=True)
    for name in registry.names():
        registry.require(name)._guard.peek()
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
    """Compare whole processes, both of which read the same settings."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.toml").write_text(FILE, encoding="utf-8")
        figures = rounds(
            {
                "read the settings": cpu_of(BASE, folder),
                "and build by hand": cpu_of(BASE + STATIC, folder),
                "and build by the registry": cpu_of(BASE + DYNAMIC, folder),
            },
            ROUNDS,
        )
    table(figures, "ms of CPU a process", "and build by hand")
    print()
    verdict(
        "the registry over by hand",
        ratio(figures, "and build by the registry", "and build by hand"),
        1.15,
    )


if __name__ == "__main__":
    main()
