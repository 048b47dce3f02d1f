"""The dashboard's pages as a browser gets them, and what its forms do."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.identity import COOKIE
from purveyor.providers.registry import Role, Status

from . import demo
from .conftest import Browse, token_of

LINK = re.compile(r'(?:href|src|action)="([^"]*)"')


def text_of(answer: httpx2.Response) -> str:
    """Return what a page says, without its tags."""
    main = answer.text.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", main)).split())


def row_of(answer: httpx2.Response, name: str) -> str:
    """Return a provider's row of the overview as text."""
    row = answer.text.partition(f'<tr id="row-{name}"')[2].partition("</tr>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", row.partition(">")[2])).split())


class TestOverview:
    async def test_it_says_first_who_is_not_well(self, client: httpx2.AsyncClient) -> None:
        answer = await client.get("/")
        assert answer.status_code == 200
        assert text_of(answer).startswith(
            "4 of 14 providers are not well: exports , partner , forvo , scans ."
        )

    async def test_a_row_tells_state_checks_latency_breaker_and_last_error(
        self, client: httpx2.AsyncClient
    ) -> None:
        answer = await client.get("/")
        row = row_of(answer, "storage/partner")
        assert re.search(r"^partner storage · sftp unhealthy \d+ s ago 10\.0 s open, probe in", row)
        assert row.endswith("no answer within 10 s")
        assert row_of(answer, "storage/backups").startswith("backups storage · s3 · default")
        assert 'aria-label="last 18 checks: 7 healthy, 11 unhealthy; median ' in answer.text

    async def test_settings_with_faults_and_other_failed_discoveries_are_told(
        self, client: httpx2.AsyncClient
    ) -> None:
        answer = await client.get("/")
        assert "faulty settings" in row_of(answer, "storage/exports")
        assert "unknown setting; did you mean 'bucket'?" in text_of(answer)
        assert "Discovery failed for 1" in text_of(answer)

    async def test_a_required_provider_that_stands_in_the_way_is_named(
        self, client: httpx2.AsyncClient, container: ApplicationContainer
    ) -> None:
        assert "Not ready" not in text_of(await client.get("/"))
        await container.registries()["data_sources"].stop("warehouse")
        breaker = container.registries()["data_sources"]._find("warehouse").breaker
        assert breaker is not None
        breaker.force_open()
        assert "Not ready: warehouse is required." in text_of(await client.get("/"))

    async def test_it_is_filtered_by_plain_parameters(self, client: httpx2.AsyncClient) -> None:
        wanted = {
            "family=ai": ["careful", "fallback", "fast"],
            "q=SFTP": ["partner"],
            "q=within+10": ["partner", "forvo"],
            "problems=1": ["exports", "partner", "forvo", "scans"],
            "problems=1&family=audio": ["forvo"],
            "q=nothing+like+that": [],
            "page=7&family=ai": ["careful", "fallback", "fast"],
            "page=x&family=ai": ["careful", "fallback", "fast"],
        }
        for query, names in wanted.items():
            answer = await client.get(f"/?{query}")
            assert re.findall(r'<tr id="row-[a-z_]+/([a-z]+)"', answer.text) == names, query

    async def test_a_thousand_providers_come_on_pages_that_stay_small(
        self, home: Path, browse: Browse
    ) -> None:
        many = {f"bucket-{number:04}": {"type": "s3"} for number in range(1000)}
        container = demo.container({}, storage={"providers": many})
        async with container.lifespan(), browse(create_app(container, anonymous=Role.READER)) as it:
            first, last = await it.get("/"), await it.get("/?page=20&family=storage")
        assert first.text.count('<tr id="row-') == 50
        assert "Page 1 of 20" in text_of(first)
        assert 'href="/?page=2"' in first.text
        assert 'href="/?family=storage&amp;page=19"' in last.text
        assert "bucket-0999" in last.text
        assert len(first.content) < 60_000

    async def test_all_well_is_said_too(self, home: Path, browse: Browse) -> None:
        container = demo.container({}, storage={"providers": {"one": {"type": "s3"}}})
        async with container.lifespan(), browse(create_app(container, anonymous=Role.READER)) as it:
            assert text_of(await it.get("/")).startswith("The provider is not checked yet.")
            await container.registries()["storage"].get_provider_health("one")
            assert text_of(await it.get("/")).startswith("The provider is well.")

    async def test_what_was_not_checked_is_not_said_to_be_well(
        self, home: Path, browse: Browse
    ) -> None:
        three = {name: {"type": "s3"} for name in ("one", "two", "three")}
        container = demo.container({}, storage={"providers": three})
        said: list[str] = []
        async with container.lifespan(), browse(create_app(container, anonymous=Role.READER)) as it:
            said.append((await it.get("/")).text)
            for name in ("one", "two"):
                await container.registries()["storage"].get_provider_health(name)
                said.append((await it.get("/")).text)
        headings = [page.partition("<h1>")[2].partition("</h1>")[0] for page in said]
        assert [re.sub("<[^>]*>", "", one) for one in headings] == [
            "No provider is checked yet.",
            "1 of 3 providers is well; the others are not checked yet.",
            "2 of 3 providers are well; the other is not checked yet.",
        ]
        assert [re.findall(r"#mark-(\w+)", one)[0] for one in headings] == ["none", "good", "good"]


class TestProvider:
    async def test_everything_of_it_is_there(self, client: httpx2.AsyncClient) -> None:
        answer = await client.get("/providers/storage/partner")
        text = text_of(answer)
        for said in (
            "partner unhealthy",
            "sftp · Files on any SSH server",
            "no answer within 10 s",
            "Circuit breaker open, probe in",
            "Failed checks in a row 6",
            "username nightly",
            "comes from argument storage.providers.partner",
            "range-reads",
        ):
            assert said in text
        assert answer.text.count('<tr id="check-') == 18

    async def test_what_happened_to_it_is_there_and_what_happened_to_others_is_not(
        self, app: FastAPI, container: ApplicationContainer, client: httpx2.AsyncClient
    ) -> None:
        await container.registries()["storage"].restart("partner")
        partner = text_of(await client.get("/providers/storage/partner"))
        assert re.search(r"What happened to it \d+ s ago circuit breaker closed", partner)
        others = text_of(await client.get("/providers/storage/backups"))
        assert others.endswith("What happened to it Nothing yet.")

    async def test_secrets_are_masked(self, client: httpx2.AsyncClient) -> None:
        answer = await client.get("/providers/storage/backups")
        assert "password **********" in text_of(answer)
        assert demo.SECRET not in answer.text

    async def test_who_uses_it_is_named(
        self, client: httpx2.AsyncClient, container: ApplicationContainer
    ) -> None:
        registry = container.registries()["storage"]
        with registry.lease("backups", holder="nightly job"):
            page = text_of(await client.get("/providers/storage/backups"))
            asked = text_of(await client.get("/actions/unregister/storage/backups"))
        assert "In use 1 holder" in page
        assert "Who uses it nightly job" in page
        assert "It is in use: nightly job." in asked

    async def test_one_that_is_not_there_is_a_page_with_the_names_there_are(
        self, client: httpx2.AsyncClient
    ) -> None:
        answer = await client.get("/providers/storage/bakups")
        api = await client.get("/api/v1/providers/storage/bakups")
        assert answer.status_code == api.status_code == 404
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert api.json()["detail"] in html.unescape(answer.text)
        assert (await client.get("/providers/storge/backups")).status_code == 404

    async def test_one_whose_settings_have_faults_has_a_page(
        self, client: httpx2.AsyncClient
    ) -> None:
        answer = await client.get("/providers/storage/exports")
        assert answer.status_code == 200
        assert "did you mean 'bucket'?" in text_of(answer)


class TestActions:
    async def test_a_test_asks_the_backend_and_says_what_it_found(
        self, client: httpx2.AsyncClient, backends: dict[str, demo.Backend]
    ) -> None:
        backends["blob.example"] = demo.Backend()
        answer = await client.post("/actions/test/storage/scans")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/providers/storage/scans"
        page = await client.get("/providers/storage/scans")
        assert "scans was asked and is healthy" in page.text
        assert text_of(page).startswith("Overview / storage / scans healthy")
        again = await client.get("/providers/storage/scans")
        assert "was asked" not in again.text

    async def test_the_script_that_fetches_a_page_leaves_the_message_to_people(
        self, client: httpx2.AsyncClient
    ) -> None:
        await client.post("/actions/test/storage/scratch")
        fetched = await client.get("/", headers={"Sec-Fetch-Dest": "empty"})
        assert "scratch was asked" not in fetched.text
        assert "scratch was asked" in (await client.get("/")).text

    async def test_what_fails_is_told_and_escaped(
        self, client: httpx2.AsyncClient, backends: dict[str, demo.Backend]
    ) -> None:
        backends["blob.example"] = demo.Backend(fails=f"said {demo.HOSTILE}")
        page = await client.post("/actions/test/storage/scans", follow_redirects=True)
        assert 'class="message bad" role="alert"' in page.text
        assert (
            f"said {html.escape(demo.HOSTILE)}".replace("&#x27;", "&#39;").replace(
                "&quot;", "&#34;"
            )
            in page.text
        )
        assert "<script>alert" not in page.text

    async def test_a_restart_connects_anew_and_is_recorded(
        self, client: httpx2.AsyncClient, container: ApplicationContainer, app: FastAPI
    ) -> None:
        registry = container.registries()["storage"]
        page = await client.post("/actions/restart/storage/partner", follow_redirects=True)
        assert "partner was restarted." in page.text
        assert registry.info("partner").status is Status.READY
        assert registry.health("partner").retry_after == 0
        (record,) = await app.state.parts.audit().entries()
        assert (record.caller, record.action, record.target, record.outcome) == (
            "anonymous",
            "restart",
            "storage/partner",
            "ok",
        )
        assert "anonymous restart storage/partner ok" in text_of(await client.get("/audit"))

    @pytest.mark.parametrize("action", ["test", "restart"])
    async def test_what_cannot_be_done_comes_back_with_the_reason(
        self, client: httpx2.AsyncClient, action: str
    ) -> None:
        page = await client.post(f"/actions/{action}/storage/exports", follow_redirects=True)
        assert page.status_code == 200
        message = page.text.partition('class="message bad" role="alert"')[2].partition("</p>")[0]
        assert "did you mean &#39;bucket&#39;?" in message

    async def test_unregistering_is_asked_before_it_is_done(
        self, client: httpx2.AsyncClient, container: ApplicationContainer
    ) -> None:
        registry = container.registries()["storage"]
        asked = await client.get("/actions/unregister/storage/archive")
        assert "Unregister archive?" in text_of(asked)
        assert "is back when the process starts anew" in text_of(asked)
        assert registry.has("archive")
        page = await client.post("/actions/unregister/storage/archive", follow_redirects=True)
        assert "storage/archive was unregistered." in page.text
        assert page.url.path == "/"
        assert not registry.has("archive")

    async def test_one_of_the_catalogue_goes_for_good_unless_it_was_changed_meanwhile(
        self, client: httpx2.AsyncClient, container: ApplicationContainer
    ) -> None:
        catalogue = container.catalogue()
        entry = await catalogue.add("storage", "kept", {"type": "s3", "bucket": "one"})
        asked = await client.get("/actions/unregister/storage/kept")
        assert f'name="version" value="{entry.version}"' in asked.text
        changed = await catalogue.update(
            "storage", "kept", {"bucket": "two"}, version=entry.version
        )
        form = {"version": str(entry.version)}
        url = "/actions/unregister/storage/kept"
        refused = await client.post(url, data=form, follow_redirects=True)
        assert 'class="message bad" role="alert"' in refused.text
        assert await catalogue.get("storage", "kept") is not None
        await client.post(url, data={"version": str(changed.version)})
        assert await catalogue.get("storage", "kept") is None


class TestRoles:
    async def test_who_is_not_logged_in_is_asked_for_a_token(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        async with browse(create_app(container)) as it:
            first = await it.get("/")
            deep = await it.get("/providers/storage/backups?a=b")
            act = await it.post("/actions/restart/storage/backups")
            there = await it.get(deep.headers["location"])
        assert (first.status_code, first.headers["location"]) == (303, "/login")
        assert deep.headers["location"] == "/login?next=/providers/storage/backups%3Fa%3Db"
        assert (act.status_code, act.headers["location"]) == (303, "/login")
        assert 'name="next" value="/providers/storage/backups?a=b"' in there.text

    @pytest.mark.parametrize(
        ("role", "may"),
        [(Role.READER, set()), (Role.OPERATOR, {"test", "restart"}),
         (Role.ADMIN, {"test", "restart", "unregister", "audit"})],
    )  # fmt: skip
    async def test_each_may_do_what_his_role_may_and_is_shown_no_more(
        self, container: ApplicationContainer, browse: Browse, role: Role, may: set[str]
    ) -> None:
        app = create_app(container)
        token = await token_of(app, role)
        async with browse(app, token=token) as it:
            page = await it.get("/providers/storage/scratch")
            answers = {
                name: await it.post(f"/actions/{name}/storage/scratch")
                for name in ("test", "restart", "unregister")
            }
            answers["audit"] = await it.get("/audit")
        assert {name for name in answers if f"/actions/{name}/" in page.text} == may - {"audit"}
        assert ('href="/audit"' in page.text) == (role is Role.ADMIN)
        assert {name for name, one in answers.items() if one.status_code != 403} == may
        for name in answers.keys() - may:
            assert answers[name].headers["content-type"] == "text/html; charset=utf-8"
            assert "This needs the role" in answers[name].text

    async def test_a_refused_action_changed_nothing(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        app = create_app(container)
        async with browse(app, token=await token_of(app, Role.OPERATOR)) as it:
            await it.post("/actions/unregister/storage/scratch")
        assert container.registries()["storage"].has("scratch")


class TestSession:
    async def test_a_token_that_is_pasted_opens_the_pages(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        app = create_app(container)
        token = await token_of(app, Role.READER)
        async with browse(app) as it:
            answer = await it.post(
                "/login", data={"token": f" {token}\n", "next": "/providers/storage/backups"}
            )
            there = await it.get(answer.headers["location"])
            assert "You are logged in as reader of a test." in there.text
            out = await it.post("/logout", follow_redirects=True)
            assert "You are logged out." in out.text
            assert (await it.get("/")).status_code == 303
        cookie = answer.headers.get_list("set-cookie")
        kept = next(one for one in cookie if one.startswith(f"{COOKIE}="))
        assert answer.headers["location"] == "/providers/storage/backups"
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(kept.split("; "))
        assert "Secure" not in kept

    async def test_over_https_the_cookie_is_sent_over_https_only(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        app = create_app(container)
        token = await token_of(app, Role.READER)
        async with browse(app, base_url="https://127.0.0.1") as it:
            answer = await it.post("/login", data={"token": token})
        assert all("; Secure" in one for one in answer.headers.get_list("set-cookie"))

    async def test_a_wrong_token_is_told(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        async with browse(create_app(container)) as it:
            for token in ("", "nonsense", "pvy_00000000_x", "\x00", "é"):
                answer = await it.post("/login", data={"token": token, "next": "/events"})
                assert answer.status_code == 401, token
                assert "The token is unknown." in answer.text
                assert 'name="next" value="/events"' in answer.text
                assert "set-cookie" not in answer.headers

    async def test_a_form_of_many_fields_is_not_read(self, client: httpx2.AsyncClient) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await client.post("/login", content="a=1&" * 10_000, headers=form)
        assert (answer.status_code, "too many fields" in answer.text) == (422, True)

    async def test_a_token_that_has_expired_or_was_revoked_leads_to_the_login(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        app = create_app(container)
        expired = await token_of(app, Role.READER, lifetime=timedelta(microseconds=1))
        revoked = await token_of(app, Role.ADMIN)
        await app.state.parts.tokens().revoke("admin of a test")
        for token in (expired, revoked):
            async with browse(app, token=token) as it:
                answer = await it.get("/")
                assert (answer.status_code, answer.headers["location"]) == (303, "/login")

    async def test_a_login_leads_nowhere_else(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        app = create_app(container)
        token = await token_of(app, Role.READER)
        async with browse(app) as it:
            for after in ("//evil.example", "/\\evil.example", "https://evil.example", "evil", ""):
                answer = await it.post("/login", data={"token": token, "next": after})
                assert answer.headers["location"] == "/", after


class TestUntrustedText:
    async def test_markup_in_names_stays_text(self, home: Path, browse: Browse) -> None:
        container = demo.container(
            {}, storage={"providers": {demo.HOSTILE: {"type": demo.HOSTILE}}}
        )
        async with container.lifespan(), browse(create_app(container, anonymous=Role.ADMIN)) as it:
            overview = await it.get("/")
            path = f"/providers/storage/{quote(demo.HOSTILE, safe='')}"
            assert f'href="{path}"' in overview.text
            pages = [overview, await it.get(path)]
            pages.append(await it.get(f"/?q={quote(demo.HOSTILE)}&family={quote(demo.HOSTILE)}"))
            pages.append(await it.get(f"/login?next={quote(demo.HOSTILE)}"))
            pages.append(await it.get(f"/providers/{quote(demo.HOSTILE)}"))
            pages.append(
                await it.get(f"/actions/unregister/storage/{quote(demo.HOSTILE, safe='')}")
            )
        assert pages[1].status_code == 200
        for page in pages:
            assert "<script>alert" not in page.text
            assert 'value="<' not in page.text

    async def test_a_message_that_is_no_message_of_ours_stays_text(
        self, app: FastAPI, client: httpx2.AsyncClient
    ) -> None:
        for planted in (quote(f"bad:{demo.HOSTILE}"), quote(f'x" onload="x:{demo.HOSTILE}')):
            client.cookies.set("purveyor_message", planted)
            page = await client.get("/")
            assert "<script>alert" not in page.text
            assert "onload=" not in page.text

    async def test_nothing_stands_within_a_page_that_a_strict_policy_forbids(
        self, client: httpx2.AsyncClient
    ) -> None:
        paths = ["/", "/events", "/audit", "/login", "/providers/storage/partner",
                 "/providers/storage/none", "/actions/unregister/storage/partner"]  # fmt: skip
        for path in paths:
            page = (await client.get(path)).text
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page), path
            assert re.findall(r"<script(?! src=)", page) == []
            assert all(not one or one[0] in "/#" for one in LINK.findall(page)), path


class TestWhereItIs:
    async def test_mounted_below_a_path_all_its_links_are_below_it(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        outer = FastAPI()
        outer.mount("/purveyor", create_app(container, anonymous=Role.ADMIN))
        async with browse(outer) as it:
            pages = [await it.get("/purveyor/"), await it.get("/purveyor/providers/storage/scans")]
            links = {link for page in pages for link in LINK.findall(page.text)}
            assert {link for link in links if not link.startswith(("/purveyor/", "#"))} == set()
            for link in links:
                if not link.startswith("#") and "/actions/" not in link and "logout" not in link:
                    assert (await it.get(html.unescape(link))).status_code == 200, link
            done = await it.post("/purveyor/actions/test/storage/scans")
            assert done.headers["location"] == "/purveyor/providers/storage/scans"
            assert "; Path=/purveyor;" in done.headers["set-cookie"]
            assert 'data-base="/purveyor"' in pages[0].text

    async def test_behind_a_proxy_all_its_links_are_below_the_proxys_path(
        self, home: Path, browse: Browse
    ) -> None:
        container = demo.container({}, **demo.settings())
        async with container.lifespan(), browse(create_app(container), root_path="/ops") as it:
            asked = await it.get("/ops/events")
            page = await it.get("/ops/login")
        assert asked.headers["location"] == "/ops/login?next=/events"
        links = [link for link in LINK.findall(page.text) if not link.startswith("#")]
        assert links
        assert all(link.startswith("/ops/") for link in links)

    async def test_a_login_leads_back_to_names_with_any_characters(
        self, container: ApplicationContainer, browse: Browse
    ) -> None:
        app = create_app(container)
        token = await token_of(app, Role.READER)
        path = f"/providers/storage/{quote('a?b#c/d é', safe='')}"
        async with browse(app) as it:
            asked = await it.get(path)
            form = await it.get(asked.headers["location"])
            after = html.unescape(form.text.partition('name="next" value="')[2].partition('"')[0])
            back = await it.post("/login", data={"token": token, "next": after})
            there = await it.get(back.headers["location"])
        assert there.status_code == 404
        assert "Provider not found: a?b#c/d é." in there.text

    async def test_without_a_dashboard_there_are_no_pages(self, home: Path, browse: Browse) -> None:
        container = demo.container({}, http={"dashboard": False})
        async with container.lifespan(), browse(create_app(container, anonymous=Role.ADMIN)) as it:
            for path in ("/", "/login", "/events", "/static/dashboard.css"):
                answer = await it.get(path)
                assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")

    async def test_what_the_pages_load_is_there_and_can_be_kept(
        self, client: httpx2.AsyncClient
    ) -> None:
        page = (await client.get("/")).text
        loaded = [link for link in LINK.findall(page) if "/static/" in link]
        assert len(loaded) == 3
        for link in loaded:
            answer = await client.get(link)
            assert answer.status_code == 200
            again = await client.get(link, headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304

    @pytest.mark.parametrize("taken_off", [True, False])
    async def test_what_they_load_is_there_behind_a_proxy_that_takes_its_path_off_or_not(
        self, home: Path, browse: Browse, taken_off: bool
    ) -> None:
        container = demo.container({}, http={"root_path": "/purveyor"})
        async with container.lifespan(), browse(create_app(container)) as it:
            page = (await it.get("/login" if taken_off else "/purveyor/login")).text
            loaded = [link for link in LINK.findall(page) if "/static/" in link]
            assert loaded
            for link in loaded:
                assert link.startswith("/purveyor/static/")
                path = link.removeprefix("/purveyor") if taken_off else link
                assert (await it.get(path)).status_code == 200

    @pytest.mark.parametrize("name", ["", "nothing.css", "../__init__.py", "%2e%2e/__init__.py"])
    async def test_no_other_file_is_served(self, client: httpx2.AsyncClient, name: str) -> None:
        assert (await client.get(f"/static/{name}")).status_code == 404

    async def test_pages_are_kept_by_nobody_and_load_nothing_from_elsewhere(
        self, client: httpx2.AsyncClient
    ) -> None:
        for path in ("/", "/login", "/providers/storage/none"):
            headers = (await client.get(path)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["content-security-policy"].startswith("default-src 'self';")

    async def test_the_pages_are_no_part_of_the_api(self, app: FastAPI) -> None:
        assert all(path.startswith(("/api/", "/v1/", "/livez", "/readyz", "/healthz", "/metrics"))
                   for path in app.openapi()["paths"])  # fmt: skip
