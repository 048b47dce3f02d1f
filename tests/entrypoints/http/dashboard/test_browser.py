"""The dashboard in a real browser: what people see, click, hear read out, and type."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio
from axe_playwright_python.base import AxeResults
from fastapi import FastAPI
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.providers.registry import Role, Status

from ..conftest import Serve
from . import demo
from .conftest import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
expect.set_options(timeout=15_000)  # a busy machine
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@dataclass
class Site:
    """The demo, served, and a browser to look at it with."""

    browser: Browser
    container: ApplicationContainer
    app: FastAPI
    url: str
    backends: dict[str, demo.Backend]

    @asynccontextmanager
    async def visit(self, *, refused: bool = False, **options: Any) -> AsyncGenerator[Page]:
        """
        Open a page; in the end nothing may have gone wrong behind it.

        Args:
            refused: Whether pages answer with an error on purpose.
            options: Of the browser's context.
        """
        context = await self.browser.new_context(
            base_url=self.url, **{"viewport": DESK, "reduced_motion": "reduce", **options}
        )
        context.set_default_timeout(15_000)
        seen = Seen(urlsplit(self.url).netloc, refused)
        page = await context.new_page()
        page.on("console", seen.console)
        page.on("pageerror", lambda error: seen.faults.append(f"error: {error}"))
        page.on("request", seen.request)
        page.on("requestfailed", seen.failed)
        page.on("response", seen.response)
        page.on("dialog", lambda dialog: seen.faults.append(f"dialog: {dialog.message}"))
        yield page
        await context.close()
        assert seen.faults == []


@dataclass
class Seen:
    """What a browser's developer tools would show in red."""

    host: str
    refused: bool
    faults: list[str] = field(default_factory=list[str])

    def console(self, message: Any) -> None:
        expected = self.refused and "Failed to load resource" in message.text
        if message.type in ("error", "warning") and not expected:
            self.faults.append(f"console: {message.text}")

    def request(self, request: Any) -> None:
        if urlsplit(request.url).netloc != self.host:
            self.faults.append(f"foreign: {request.url}")

    def failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # that is: the page was left meanwhile
            self.faults.append(f"failed: {request.url} {request.failure}")

    def response(self, response: Any) -> None:
        if response.status >= 400 and not self.refused:
            self.faults.append(f"{response.status}: {response.url}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncGenerator[Browser]:
    """Debian's Chromium; the tests are skipped without it, and fail where all must run."""
    executable = shutil.which("chromium")
    if executable is None:
        message = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(
    browser: Browser, home: Path, serve: Serve, backends: dict[str, demo.Backend]
) -> AsyncGenerator[Site]:
    """The demo, where callers without a token may do anything."""
    container = demo.container(backends, **demo.settings())
    async with container.lifespan(), serving(serve, container, Role.ADMIN) as (app, url):
        await demo.play(container)
        yield Site(browser, container, app, url, backends)


@asynccontextmanager
async def serving(
    serve: Callable[..., AbstractAsyncContextManager[Any]],
    container: ApplicationContainer,
    anonymous: Role | None,
) -> AsyncGenerator[tuple[FastAPI, str]]:
    """Serve a container's dashboard."""
    app = create_app(container, anonymous=anonymous)
    async with serve(app) as served:
        yield app, served.base_url


async def is_live(page: Page) -> None:
    """Wait until a page follows the events."""
    await expect(page.locator("#connection")).to_have_text("live")


class TestPages:
    PAGES = (
        "/",
        "/?q=nobody",
        "/events",
        "/audit",
        "/providers/storage/partner",
        "/providers/storage/exports",
        "/actions/unregister/storage/partner",
        "/login",
    )
    MAIN = ("/", "/providers/storage/partner", "/actions/unregister/storage/partner")

    @pytest.mark.parametrize(
        ("scheme", "size", "paths"),
        [("light", DESK, PAGES), ("dark", DESK, MAIN), ("light", PHONE, MAIN)],
    )
    async def test_everybody_can_read_and_use_every_page(
        self, site: Site, scheme: str, size: Any, paths: tuple[str, ...]
    ) -> None:
        async with site.visit(color_scheme=scheme, viewport=size, bypass_csp=True) as page:
            for path in paths:
                await page.goto(path)
                await page.evaluate(AXE)
                found = AxeResults(await page.evaluate("axe.run({resultTypes: ['violations']})"))
                grave = [
                    f"{one['id']}: {[node['target'] for node in one['nodes']]}"
                    for one in found.response["violations"]
                    if one["impact"] in ("moderate", "serious", "critical")
                ]
                assert grave == [], path

    async def test_no_page_is_wider_than_a_phone(self, site: Site) -> None:
        registry, long = site.container.registries()["storage"], "long_" * 25
        await registry.register(long, {"type": "sftp", "host": "long.example", "bucket": "x" * 300})
        site.backends["long.example"] = demo.Backend(fails="y" * 500)
        await registry.get_provider_health(long)
        paths = (f"/providers/storage/{long}", f"/actions/unregister/storage/{long}")
        async with site.visit(viewport=PHONE) as page:
            for path in (*self.PAGES, *paths):
                await page.goto(path)
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= PHONE["width"], path

    async def test_no_page_asks_for_more_than_a_strict_policy_allows(self, site: Site) -> None:
        async with site.visit() as page:
            for path in self.PAGES:
                await page.goto(path)
                if await page.locator("main[data-live]").count():
                    await is_live(page)

    async def test_what_is_not_there_is_told_on_a_page(self, site: Site) -> None:
        async with site.visit(refused=True) as page:
            await page.goto("/providers/storage/bakups")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
            await page.get_by_role("link", name="Go to the overview").click()
            await expect(page).to_have_title("4 not well · Purveyor")

    async def test_a_provider_is_found_by_filter_and_link(self, site: Site) -> None:
        async with site.visit() as page:
            await page.goto("/")
            await page.get_by_role("searchbox").fill("postgres")
            await page.get_by_role("button", name="Show").click()
            names = page.locator("#providers tbody th a")
            await expect(names).to_have_text(["crm", "warehouse"])
            await names.first.click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("crm")
            await page.get_by_role("link", name="data sources").click()
            await expect(names).to_have_text(["crm", "warehouse"])

    async def test_a_drawing_is_told_in_words(self, site: Site) -> None:
        async with site.visit() as page:
            await page.goto("/")
            drawing = page.get_by_role("img", name="last 18 checks: 7 healthy, 11 unhealthy;")
            await expect(drawing).to_be_visible()

    async def test_markup_in_a_name_runs_nothing(
        self, site: Site, serve: Serve, home: Path
    ) -> None:
        faulty = {"providers": {demo.HOSTILE: {"type": "<img src=x onerror=alert(2)>"}}}
        container = demo.container({}, storage=faulty)
        async with container.lifespan(), serving(serve, container, Role.ADMIN) as (app, url):
            hostile = Site(site.browser, container, app, url, {})
            async with hostile.visit() as page:
                await page.goto("/")
                await is_live(page)
                await page.locator("#providers").get_by_role("link", name=demo.HOSTILE).click()
                await expect(page.get_by_role("heading", level=1)).to_have_text(demo.HOSTILE)
                assert urlsplit(page.url).path == (
                    f"/providers/storage/{quote(demo.HOSTILE, safe='')}"
                )
                assert await page.locator("img").count() == 0


class TestLive:
    async def test_what_happens_appears_without_a_reload(self, site: Site) -> None:
        registry = site.container.registries()["storage"]
        async with site.visit() as page:
            await page.goto("/")
            await is_live(page)
            await page.evaluate("window.kept = true")
            await registry.register("fresh", {"type": "s3"})
            await expect(
                page.locator("#providers").get_by_role("link", name="fresh")
            ).to_be_visible()
            first = page.locator(".events li").first
            await expect(first).to_contain_text("provider registered storage/fresh")
            site.backends["blob.example"] = demo.Backend()
            await registry.get_provider_health("scans")
            await expect(page.locator("#summary h1")).to_contain_text("3 of 15 providers")
            await expect(page).to_have_title("3 not well · Purveyor")
            await registry.unregister("fresh")
            await expect(page.locator("#summary h1")).to_contain_text("3 of 14 providers")
            assert await page.evaluate("window.kept") is True

    async def test_focus_scrolling_and_what_is_unfolded_stay(self, site: Site) -> None:
        registry = site.container.registries()["storage"]
        async with site.visit(viewport={"width": 800, "height": 400}) as page:
            await page.goto("/providers/storage/partner")
            await is_live(page)
            await page.get_by_text("What every provider takes").click()
            restart = page.get_by_role("button", name="Restart")
            await restart.focus()
            await page.evaluate("scrollTo(0, 500)")
            site.backends["sftp.example"].fails = ""
            await registry.get_provider_health("partner")
            await expect(page.locator("#state")).to_have_text("refusing calls")
            await expect(page.locator("#history tbody tr").first).to_contain_text("healthy")
            await expect(restart).to_be_focused()
            assert await page.evaluate("scrollY") == 500
            assert await page.locator("#common").get_attribute("open") is not None

    async def test_what_is_being_typed_stays(self, site: Site) -> None:
        async with site.visit() as page:
            await page.goto("/")
            await is_live(page)
            await page.get_by_role("searchbox").press_sequentially("post")
            await site.container.registries()["storage"].register("fresh", {"type": "s3"})
            await expect(page.locator("#providers")).to_contain_text("fresh")
            await page.get_by_role("searchbox").press_sequentially("gres")
            await expect(page.get_by_role("searchbox")).to_have_value("postgres")

    async def test_seconds_to_the_next_probe_and_ages_count(self, site: Site) -> None:
        async with site.visit() as page:
            await page.clock.install()
            await page.goto("/providers/storage/partner")
            until = page.locator("[data-until]")
            await expect(until).to_have_text(re.compile("^4 min 5[0-9] s$"))
            await page.clock.run_for(10_000)
            await expect(until).to_have_text(re.compile("^4 min 4[0-9] s$"))
            checked = page.locator(".facts [data-age]")
            await expect(checked).to_have_text(re.compile("^[23][0-9] s ago$"))

    async def test_a_lost_connection_is_said_and_found_again(self, site: Site) -> None:
        async with site.visit(refused=True) as page:
            await page.goto("/")
            await is_live(page)
            site.app.state.stopping.set()
            connection = page.locator("#connection")
            await expect(connection).to_have_text("connection lost, retrying")
            site.app.state.stopping.clear()
            await site.container.registries()["storage"].register("missed", {"type": "s3"})
            await is_live(page)
            await expect(page.locator("#providers")).to_contain_text("missed")


class TestActions:
    async def test_a_provider_is_tested_restarted_and_unregistered(self, site: Site) -> None:
        registry = site.container.registries()["storage"]
        async with site.visit() as page:
            await page.goto("/providers/storage/partner")
            await page.get_by_role("button", name="Test now").click()
            alert = page.get_by_role("alert")
            await expect(alert).to_contain_text("partner was asked and is unhealthy, after")
            await expect(alert).to_contain_text("sftp.example:22 refused the connection")
            await page.get_by_role("button", name="Restart").click()
            message = page.locator(".message[role=status]")
            await expect(message).to_have_text("partner was restarted.")
            await expect(fact(page, "Circuit breaker")).to_contain_text("closed")
            await page.get_by_role("link", name="Unregister").click()
            await page.get_by_role("link", name="Keep it").click()
            await page.get_by_role("link", name="Unregister").click()
            await page.get_by_role("button", name="Unregister partner").click()
            await expect(message).to_have_text("storage/partner was unregistered.")
            await page.get_by_role("link", name="Changes").click()
            rows = page.locator("tbody tr")
            await expect(rows.nth(0)).to_contain_text("unregisterstorage/partnerok")
            await expect(rows.nth(1)).to_contain_text("restartstorage/partnerok")
        assert not registry.has("partner")

    async def test_keys_alone_are_enough(self, site: Site) -> None:
        registry = site.container.registries()["storage"]
        async with site.visit() as page:
            await page.goto("/providers/storage/archive")
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
            await page.keyboard.press("Enter")
            await expect(page.locator("main")).to_be_focused()
            await tab_to(page, "Test now")
            await page.keyboard.press("Enter")
            await expect(page.locator(".message")).to_contain_text("archive was asked and is")
            await tab_to(page, "Unregister…")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", level=1)).to_have_text("Unregister archive?")
            await tab_to(page, "Unregister archive")
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(outline) == "solid"
            await page.keyboard.press("Enter")
            await expect(page.locator(".message")).to_contain_text("archive was unregistered.")
        assert not registry.has("archive")

    async def test_without_javascript_all_can_be_read_and_done(self, site: Site) -> None:
        registry = site.container.registries()["storage"]
        async with site.visit(java_script_enabled=False) as page:
            await page.goto("/")
            await expect(page.locator("#summary h1")).to_contain_text("4 of 14 providers")
            await expect(page.locator("#connection")).to_be_empty()
            await page.get_by_label("Only problems").check()
            await page.get_by_role("button", name="Show").click()
            await page.locator("#providers").get_by_role("link", name="partner").click()
            await page.get_by_role("button", name="Restart").click()
            await expect(page.locator(".message[role=status]")).to_have_text(
                "partner was restarted."
            )
            assert registry.info("partner").status is Status.READY
            await page.get_by_role("link", name="Unregister").click()
            await page.get_by_role("button", name="Unregister partner").click()
            await expect(page.locator(".message")).to_contain_text("partner was unregistered.")
        assert not registry.has("partner")


class TestSession:
    async def test_logging_in_and_out(self, browser: Browser, home: Path, serve: Serve) -> None:
        container = demo.container({}, **demo.settings())
        async with container.lifespan(), serving(serve, container, None) as (app, url):
            site = Site(browser, container, app, url, {})
            token = await token_of(app, Role.OPERATOR)
            async with site.visit(refused=True) as page:
                await page.goto("/providers/storage/backups")
                field = page.get_by_label("Token")
                await field.fill("pvy_wrong")
                await page.get_by_role("button", name="Log in").click()
                await expect(page.get_by_role("alert")).to_contain_text("The token is unknown.")
                await field.fill(token)
                await page.get_by_role("button", name="Log in").click()
                await expect(page.get_by_role("heading", level=1)).to_have_text("backups")
                await is_live(page)
                assert await page.evaluate("document.cookie") == ""
                assert await page.get_by_role("link", name="Unregister").count() == 0
                await page.get_by_role("button", name="Log out").click()
                await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
                await page.goto("/")
                await expect(page).to_have_url(f"{url}/login")

    async def test_a_page_whose_token_is_revoked_asks_for_another(
        self, browser: Browser, home: Path, serve: Serve
    ) -> None:
        container = demo.container({}, **demo.settings())
        async with container.lifespan(), serving(serve, container, None) as (app, url):
            site = Site(browser, container, app, url, {})
            token = await token_of(app, Role.READER)
            async with site.visit(refused=True) as page:
                await page.goto("/login")
                await page.get_by_label("Token").fill(token)
                await page.get_by_role("button", name="Log in").click()
                await is_live(page)
                await app.state.parts.tokens().revoke("reader of a test")
                await container.registries()["storage"].register("fresh", {"type": "s3"})
                await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def fact(page: Page, name: str) -> Locator:
    """Return what a provider's page says of one thing."""
    return page.locator(".facts > div").filter(has_text=name).locator("dd")


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until an element of that name has the focus."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"Tab does not reach {name}")
