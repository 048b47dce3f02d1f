"""Take the pictures of the dashboard that the documents show: ``python -m`` this module."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from playwright.async_api import async_playwright

from purveyor.entrypoints.http import create_app
from purveyor.providers.registry import Role

from . import demo

IMAGES = Path(__file__).parents[4] / "docs" / "images"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 1000}
PICTURES: dict[str, tuple[str, str, Any, bool]] = {
    "dashboard-light": ("/", "light", DESK, False),
    "dashboard-dark": ("/", "dark", DESK, False),
    "dashboard-provider": ("/providers/storage/partner", "light", DESK, False),
    "dashboard-phone": ("/", "light", PHONE, False),
}


async def take(folder: Path, pictures: dict[str, tuple[str, str, Any, bool]] = PICTURES) -> None:
    """Write the pictures as PNG files into a folder."""
    backends = {"sftp.example": demo.Backend(fails="sftp.example:22 refused the connection")}
    container = demo.container(backends, **demo.settings())
    async with container.lifespan():
        app = create_app(container, anonymous=Role.ADMIN)
        await demo.play(container)
        options: dict[str, Any] = {"log_config": None, "lifespan": "off", "ws": "none"}
        server = uvicorn.Server(uvicorn.Config(app, **options))
        listener = socket.create_server(("127.0.0.1", 0))
        running = asyncio.create_task(server._serve([listener]))
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, (path, scheme, size, whole) in pictures.items():
                page = await browser.new_page(viewport=size, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
                await page.goto(base + path)
                if await page.locator("main[data-live]").count():
                    await page.locator("#connection.live").wait_for()
                await page.screenshot(path=folder / f"{name}.png", full_page=whole)
                await page.close()
            await browser.close()
        app.state.stopping.set()
        server.should_exit = True
        await running


if __name__ == "__main__":
    os.environ["PURVEYOR_HOME"] = tempfile.mkdtemp()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(target))
