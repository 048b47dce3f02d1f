"""Files that a service names: from its own host or the internet, never from within."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web

from purveyor.providers.web.config import WebConfig
from purveyor.providers.web.download import Downloads
from purveyor.providers.web.errors import (
    BadResponseError,
    ServiceConnectionError,
    ServiceTimeoutError,
)
from purveyor.testing.doubles import Double, Fault

METADATA = "http://169.254.169.254/latest/meta-data"


class Files(Double):
    """A service with files, some of which are elsewhere."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/{path:.*}", self.file)]

    async def file(self, request: web.Request) -> web.Response:
        match request.match_info["path"].split("/", 1):
            case ["to", place]:
                raise web.HTTPFound(request.query.get("url", f"/{place}"))
            case ["round", _]:
                raise web.HTTPFound("/round/about")
            case _:
                return web.Response(body=b"x" * 1000, content_type="audio/mpeg")


@pytest.fixture
def double() -> Iterator[Files]:
    with Files() as double:
        yield double


@pytest.fixture
async def downloads(double: Files) -> AsyncIterator[Downloads]:
    downloads = made(double.url)
    yield downloads
    await downloads.close()


def made(url: str, *, max_bytes: int = 1000, **settings: Any) -> Downloads:
    return Downloads(WebConfig(base_url=url, **settings), extra="media", max_bytes=max_bytes)


async def test_a_file_comes_without_any_credential(downloads: Downloads, double: Files) -> None:
    answer = await downloads.get(f"{double.url}/a%2Fb.mp3")
    assert (answer.status, answer.media_type, answer.body) == (200, "audio/mpeg", b"x" * 1000)
    assert double.last.path == "/a%2Fb.mp3"
    assert not {"authorization", "cookie", "referer"} & {
        name.lower() for name in double.last.headers
    }


async def test_redirects_are_followed_a_few_times(downloads: Downloads, double: Files) -> None:
    assert (await downloads.get(f"{double.url}/to/to/to/file")).body == b"x" * 1000
    with pytest.raises(BadResponseError, match="on and on"):
        await downloads.get(f"{double.url}/round/about")
    assert len(double.requests) == 4 + 4


async def test_a_redirect_leads_nowhere_within(downloads: Downloads, double: Files) -> None:
    with pytest.raises(BadResponseError, match=r"169\.254\.169\.254"):
        await downloads.get(f"{double.url}/to/x?url={METADATA}")
    with pytest.raises(BadResponseError, match="is none"):
        await downloads.get(f"{double.url}/to/x?url=file:///etc/passwd")


@pytest.mark.parametrize(
    "url",
    [
        METADATA,
        "http://127.0.0.1:1/x",
        "http://0.0.0.0/x",
        "http://[::1]/x",
        "http://[::ffff:10.0.0.1]/x",
        "http://[fe80::1%25eth0]/x",
        "http://192.168.1.1/x",
        "http://100.64.0.1/x",
        "https://localhost/x",
        "https://printer.localhost/x",
    ],
)
async def test_a_service_of_the_internet_names_no_file_within(url: str) -> None:
    downloads = made("https://api.example.com")
    try:
        with pytest.raises(BadResponseError, match="of this machine or of a private network"):
            await downloads.get(url)
    finally:
        await downloads.close()


async def test_a_name_that_leads_within_is_not_followed() -> None:
    name = socket.gethostname()
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(name, 80)}
    except OSError:
        pytest.skip("this machine's name leads nowhere")
    if any(ip_address(one).is_global for one in found):
        pytest.skip("this machine's name leads to the internet")
    downloads = made("https://api.example.com")
    with pytest.raises(BadResponseError, match=f"'{name}', which is an address of this machine"):
        await downloads.get(f"http://{name}:1/x")
    await downloads.close()


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://forvo.com/x", "http:///x", "http://a:b@c/x", "http://[::1/x"),
        "http://x:99999/",
    ],
)
async def test_what_is_no_address_is_not_asked(downloads: Downloads, url: str) -> None:
    with pytest.raises(BadResponseError, match="is none"):
        await downloads.get(url)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0", "017700000001", "0x7f000001"])
async def test_a_number_is_an_address_however_it_is_written(
    downloads: Downloads, host: str
) -> None:
    with pytest.raises(BadResponseError):
        await downloads.get(f"http://{host}/x")


async def test_a_file_has_a_largest_size(double: Files) -> None:
    downloads = made(double.url, max_bytes=999)
    with pytest.raises(BadResponseError, match="larger than 999 bytes"):
        await downloads.get(f"{double.url}/x")
    await downloads.close()


async def test_what_goes_wrong_has_its_name_and_is_not_tried_again(double: Files) -> None:
    downloads = made(double.url, request_timeout=0.2)
    double.fail(Fault(hang_up=True), Fault(cut_after=10), Fault(delay=5), Fault(404))
    for kind in (ServiceConnectionError, ServiceConnectionError, ServiceTimeoutError):
        with pytest.raises(kind):
            await downloads.get(f"{double.url}/x")
    assert (await downloads.get(f"{double.url}/x")).status == 404
    assert len(double.requests) == 4
    await downloads.close()
