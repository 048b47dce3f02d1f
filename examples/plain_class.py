"""A plain class that is given its storage: ``uv run python examples/plain_class.py``."""

from __future__ import annotations

import asyncio
from typing import Any

from dependency_injector import containers
from dependency_injector import providers as di

from purveyor.containers import ApplicationContainer
from purveyor.providers.storage import StorageProvider


class Reports:
    """Knows how reports are kept, and nothing of where."""

    def __init__(self, storage: StorageProvider[Any]) -> None:
        self._storage = storage

    async def save(self, name: str, text: str) -> int:
        """Keep a report and return its size in bytes."""
        info = await self._storage.put(f"reports/{name}.txt", text.encode())
        return info.size

    async def names(self) -> list[str]:
        """Return the names of all reports."""
        return [item.key async for item in self._storage.list("reports/")]


class Application(containers.DeclarativeContainer):
    """The application's own container, with Purveyor inside."""

    purveyor = di.Container(ApplicationContainer)
    reports = di.Factory(Reports, storage=purveyor.storage.entry("sqlite"))


async def main() -> None:
    """Save two reports and list them."""
    application = Application()
    async with application.purveyor().lifespan():
        reports = application.reports()
        await reports.save("monday", "All is well.")
        await reports.save("tuesday", "So it is.")
        print("\n".join(await reports.names()))


if __name__ == "__main__":
    asyncio.run(main())
