"""Who may call, and what is said of those who may not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request, Response

from purveyor.containers import ApplicationContainer
from purveyor.entrypoints.http import create_app
from purveyor.entrypoints.http.identity import (
    COOKIE,
    Admin,
    MaybeCaller,
    Operator,
    Reader,
    clear_cookie,
    set_cookie,
)
from purveyor.providers.catalogue import AuditRecord
from purveyor.providers.registry import Role

from .test_limits import check

Client = Callable[..., httpx2.AsyncClient]
ALL = ("reader", "operator", "admin")


@pytest.fixture
def app(container: ApplicationContainer) -> FastAPI:
    """The application, with a route for each role."""
    app = create_app(container, anonymous=Role.ADMIN)

    @app.get("/for/reader/{name}")
    async def for_reader(name: str, caller: Reader) -> str:
        return caller.name

    @app.get("/for/operator/{name}")
    async def for_operator(name: str, caller: Operator) -> str:
        return caller.name

    @app.get("/for/admin/{name}")
    async def for_admin(name: str, caller: Admin) -> str:
        return caller.name

    @app.get("/for/anybody")
    async def for_anybody(caller: MaybeCaller) -> str:
        return caller.name if caller else "nobody"

    @app.post("/in")
    async def log_in(request: Request, response: Response) -> None:
        set_cookie(response, request, (await request.body()).decode())

    @app.post("/out")
    async def log_out(request: Request, response: Response) -> None:
        clear_cookie(response, request)

    return app


@pytest.fixture
def calling(app: FastAPI) -> Client:
    """Give a client of an address, with or without a token."""

    def client(
        token: str | None = None, *, base_url: str = "http://127.0.0.1", address: str = "127.0.0.1"
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, client=(address, 1)),
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token is not None else None,
        )

    return client


async def a_token(app: FastAPI, role: Role = Role.READER, name: str = "ci") -> str:
    return (await app.state.parts.tokens().create(name, role))[1]


async def records(app: FastAPI) -> list[AuditRecord]:
    return list(await app.state.parts.audit().entries())


# -- roles -------------------------------------------------------------------------------


@pytest.mark.requirement("S4.53")
@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_what_those_before_it_may(
    app: FastAPI, calling: Client, role: Role
) -> None:
    async with calling(await a_token(app, role)) as client:
        answers = [await client.get(f"/for/{needed}/x") for needed in ALL]
    assert [answer.status_code for answer in answers] == [200] * role + [403] * (3 - role)


@pytest.mark.requirement("S4.53")
async def test_what_a_known_caller_may_not_do_is_told_and_recorded(
    app: FastAPI, calling: Client
) -> None:
    async with calling(await a_token(app)) as client:
        problem = check(await client.get("/for/admin/docs"), 403, "PERMISSION_DENIED")
    assert problem["detail"] == (
        "This needs the role admin; ci has the role reader. `purveyor tokens create NAME --role "
        "admin` makes a token that may."
    )
    (record,) = await records(app)
    assert (record.caller, record.action, record.target) == ("ci", "for_admin", "docs")
    assert record.outcome == "PERMISSION_DENIED"


async def test_a_caller_who_tries_on_and_on_does_not_fill_the_records(
    app: FastAPI, calling: Client
) -> None:
    async with calling(await a_token(app)) as client:
        answers = [await client.get("/for/admin/docs") for _ in range(100)]
    assert {answer.status_code for answer in answers} == {403}
    assert 20 <= len(await records(app)) < 40


# -- tokens ------------------------------------------------------------------------------


async def test_without_a_token_the_way_to_one_is_told(app: FastAPI, calling: Client) -> None:
    await a_token(app)
    async with calling() as client:
        answer = await client.get("/for/reader/x")
        problem = check(answer, 401, "UNAUTHENTICATED")
        assert "purveyor tokens create" in problem["detail"]
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="purveyor"'
        assert (await client.get("/for/anybody")).json() == "nobody"
    assert await records(app) == []


@pytest.mark.parametrize("path", ["/for/reader/x", "/for/anybody"])
@pytest.mark.parametrize("shown", ["", "x", "pvy_00000000_x", "\udcff", "x" * 10_000, "a b"])
async def test_a_token_that_opens_nothing_is_an_error_everywhere(
    app: FastAPI, calling: Client, path: str, shown: str
) -> None:
    await a_token(app)
    async with calling() as client:
        value = b"bearer " + shown.encode(errors="surrogateescape")
        answer = await client.get(path, headers=[(b"Authorization", value)])
    problem = check(answer, 401, "UNAUTHENTICATED")
    assert "unknown" in problem["detail"]
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert len(shown) < 3 or shown not in answer.text


async def test_a_key_matters_only_once_a_token_was_made(app: FastAPI, calling: Client) -> None:
    async with calling("some clients always send one") as client:
        assert (await client.get("/for/admin/x")).json() == "anonymous"
        await a_token(app)
        check(await client.get("/for/reader/x"), 401, "UNAUTHENTICATED")
    async with calling("x", address="192.0.2.7") as client:
        check(await client.get("/for/reader/x"), 401, "UNAUTHENTICATED")


async def test_a_revoked_token_opens_nothing(app: FastAPI, calling: Client) -> None:
    text = await a_token(app)
    async with calling(text) as client:
        assert (await client.get("/for/reader/x")).status_code == 200
        await app.state.parts.tokens().revoke("ci")
        problem = check(await client.get("/for/reader/x"), 401, "UNAUTHENTICATED")
    assert "was revoked" in problem["detail"]
    assert text not in problem["detail"]


async def test_another_scheme_is_no_token(calling: Client) -> None:
    async with calling() as client:
        answer = await client.get("/for/anybody", headers={"Authorization": "Basic eDp5"})
    assert answer.json() == "anonymous"


async def test_who_guesses_has_to_wait_and_who_has_a_token_has_not(
    app: FastAPI, calling: Client, caplog: pytest.LogCaptureFixture
) -> None:
    text = await a_token(app)
    async with calling("pvy_00000000_guess") as guesser, calling(text) as client:
        answers = [await guesser.get("/for/reader/x") for _ in range(50)]
        assert [answer.status_code for answer in answers[:20]] == [401] * 20
        check(answers[-1], 429, "TOO_MANY_REQUESTS")
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 5
        assert (await client.get("/for/reader/x")).status_code == 200
    async with calling("pvy_00000000_guess", address="192.0.2.1") as elsewhere:
        assert (await elsewhere.get("/for/reader/x")).status_code == 401
    lines = [one for one in caplog.messages if one.startswith("refused ")]
    assert 20 <= len(lines) < 40
    assert "guess" not in caplog.text
    assert await records(app) == []


async def test_no_line_of_the_log_is_forged_by_a_path(
    app: FastAPI, calling: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await a_token(app)
    async with calling() as client:
        await client.get("/for/reader/x%0Aall%20is%20well" + "y" * 5000)
    (line,) = [one for one in caplog.messages if one.startswith("refused ")]
    assert "\n" not in line
    assert len(line) < 400


# -- without any -------------------------------------------------------------------------


async def test_as_long_as_there_is_no_token_this_machine_needs_none(
    app: FastAPI, calling: Client
) -> None:
    async with calling() as client:
        assert (await client.get("/for/admin/x")).json() == "anonymous"
        await a_token(app)
        assert (await client.get("/for/admin/x")).status_code == 401
        await app.state.parts.tokens().revoke("ci")  # the last one
        assert (await client.get("/for/admin/x")).status_code == 401


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "http://LOCALHOST:8080", "http://127.0.0.1:8080", "http://127.1.2.3",
     "http://[::1]:8080"],
)  # fmt: skip
async def test_names_of_this_machine(calling: Client, url: str) -> None:
    async with calling(base_url=url) as client:
        assert (await client.get("/for/anybody")).json() == "anonymous"


@pytest.mark.parametrize(
    "url",
    ["http://rebound.example", "http://127.0.0.1.example:8080", "http://localhost.example",
     "http://192.0.2.1", "http://[2001:db8::1]", "http://0.0.0.0", "http://[::ffff:192.0.2.1]"],
)  # fmt: skip
async def test_a_page_whose_name_was_led_here_needs_a_token(calling: Client, url: str) -> None:
    async with calling(base_url=url) as client:
        assert (await client.get("/for/anybody")).json() == "nobody"
        assert (await client.get("/for/reader/x")).status_code == 401


@pytest.mark.parametrize("host", ["", "[::1", "[::1]evil.example", "127.0.0.1@evil.example", "::1"])
async def test_what_is_no_host_is_no_name_of_this_machine(calling: Client, host: str) -> None:
    async with calling() as client:
        answer = await client.get("/for/reader/x", headers={"Host": host})
        check(answer, 401, "UNAUTHENTICATED")
        (await client.post("/in", content="x", headers={"Host": host})).raise_for_status()


async def test_another_machine_needs_a_token_whatever_it_says(calling: Client) -> None:
    async with calling(address="192.0.2.1") as client:
        assert (await client.get("/for/anybody")).json() == "nobody"


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"])
async def test_who_comes_through_a_proxy_needs_a_token(calling: Client, header: str) -> None:
    async with calling() as client:
        answer = await client.get("/for/anybody", headers={header: "127.0.0.1"})
    assert answer.json() == "nobody"


# -- browsers ----------------------------------------------------------------------------


async def test_a_browser_keeps_its_token_where_no_script_finds_it(
    app: FastAPI, calling: Client
) -> None:
    text = await a_token(app)
    async with calling() as client:
        (cookie,) = (await client.post("/in", content=text)).headers.get_list("set-cookie")
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert parts == {"httponly", "path=/", "samesite=strict"}
        assert (await client.get("/for/reader/x")).json() == "ci"
        await client.post("/out")
        assert COOKIE not in client.cookies
        assert (await client.get("/for/reader/x")).status_code == 401


async def test_over_https_the_cookie_goes_nowhere_else(calling: Client) -> None:
    async with calling(base_url="https://purveyor.example") as client:
        (cookie,) = (await client.post("/in", content="x")).headers.get_list("set-cookie")
        (gone,) = (await client.post("/out")).headers.get_list("set-cookie")
    assert "; secure" in cookie.lower()
    assert "; secure" in gone.lower()


async def test_a_cookie_that_opens_nothing_is_an_error_too(app: FastAPI, calling: Client) -> None:
    await a_token(app)
    async with calling() as client:
        answer = await client.get("/for/anybody", headers={"Cookie": f"{COOKIE}=x; other=1"})
        check(answer, 401, "UNAUTHENTICATED")
        other = await client.get("/for/anybody", headers={"Cookie": "other=1; =; ;;"})
        assert other.json() == "nobody"


async def test_the_header_counts_more_than_the_cookie(app: FastAPI, calling: Client) -> None:
    one, other = await a_token(app, name="one"), await a_token(app, name="other")
    async with calling(one) as client:
        answer = await client.get("/for/reader/x", headers={"Cookie": f"{COOKIE}={other}"})
    assert answer.json() == "one"


async def test_no_page_of_another_site_uses_the_cookie(app: FastAPI, calling: Client) -> None:
    cookie = f"{COOKIE}={await a_token(app, Role.ADMIN)}"
    async with calling() as client:
        headers = {"Cookie": cookie, "Origin": "https://evil.example"}
        check(await client.post("/out", headers=headers), 403, "CROSS_ORIGIN")


# -- mounted -----------------------------------------------------------------------------


@pytest.fixture
def host(app: FastAPI) -> FastAPI:
    """Somebody's application, with ours in it."""
    host = FastAPI()
    host.mount("/purveyor", app)

    @host.get("/theirs")
    async def theirs() -> str:
        return "theirs"

    return host


async def test_it_works_within_another_application(host: FastAPI) -> None:
    transport: Any = httpx2.ASGITransport(app=host, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/purveyor/api/v1/providers/storage/filesystem")
        assert answer.json()["name"] == "filesystem"
        assert answer.headers["Cache-Control"] == "no-store"
        check(await client.get("/purveyor/none"), 404, "NOT_FOUND")
        check(await client.get("/purveyor/api/v1/providers/storage/none"), 404, "NOT_FOUND")
        assert "Cache-Control" not in (await client.get("/purveyor/static/none.css")).headers
        cookie = (await client.post("/purveyor/in", content="x")).headers["set-cookie"]
        assert "path=/purveyor;" in cookie.lower()
        document = (await client.get("/purveyor/openapi.json")).json()
        assert document["servers"] == [{"url": "/purveyor"}]
        assert (await client.get("/theirs")).json() == "theirs"
        assert "Content-Security-Policy" not in (await client.get("/theirs")).headers


async def test_nothing_of_a_token_is_in_the_openapi_document(app: FastAPI, calling: Client) -> None:
    text = await a_token(app)
    async with calling(text) as client:
        document = (await client.get("/openapi.json")).text
    assert "pvy_" not in document
    assert '"scheme":"bearer"' in document


async def test_the_log_has_no_token(
    app: FastAPI, calling: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = await a_token(app)
    async with calling(text) as client:
        await client.get("/for/admin/x")
        await client.get("/for/reader/x")
    async with calling(text + "x") as client:
        await client.get("/for/reader/x")
    kept = f"{caplog.text}{await records(app)}"
    assert text not in kept
    assert text.split("_", 2)[2] not in kept
