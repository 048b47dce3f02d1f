"""Files from addresses that a service names: from nowhere it has no business to send us."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

from ..registry.extras import import_extra
from .config import WebConfig, is_local, proxy_of
from .errors import BadResponseError, ServiceConnectionError, ServiceTimeoutError
from .transport import Answer

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Downloads"]

MOST_REDIRECTS = 3


class Downloads:
    """
    Gets files from where the answers of a service say, without any of its credentials.

    What a service answers is not trusted with this machine's network: a file comes from the
    service's own host, or from an address of the internet; never from this machine, a private
    network or a cloud's metadata service, however the name is resolved and redirected.

    Args:
        config: Of the service.
        extra: The extra that installs what is needed.
        max_bytes: Of one file.
    """

    def __init__(self, config: WebConfig, *, extra: str, max_bytes: int) -> None:
        self._aiohttp = import_extra("aiohttp", extra=extra)
        self._url = import_extra("yarl", extra=extra).URL
        self._max_bytes = max_bytes
        self._timeout = config.request_timeout
        self._direct = is_local(config.base_url)
        proxies = {urlsplit(address).hostname for address in getproxies().values()}
        self._trusted = proxies | {urlsplit(config.base_url).hostname}
        self._session: aiohttp.ClientSession = self._aiohttp.ClientSession(
            connector=self._aiohttp.TCPConnector(
                limit=config.max_connections, resolver=self._resolver()
            ),
            cookie_jar=self._aiohttp.DummyCookieJar(),
            timeout=self._aiohttp.ClientTimeout(
                total=config.request_timeout, sock_connect=config.connect_timeout
            ),
        )
        self._session._retry_connection = False  # what is asked for may count, and be paid for

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, url: str) -> Answer:
        """
        Return what is at an address, whatever its status.

        Raises:
            BadResponseError: The address is none to go to, or what is there is too large.
            ServiceTimeoutError: It did not come in time.
            ServiceConnectionError: It cannot be reached, or the connection was lost.
        """
        try:
            for _ in range(1 + MOST_REDIRECTS):
                self._check(url)
                target = self._url(url, encoded=True)
                proxy = None if self._direct else proxy_of(url)
                async with self._session.get(
                    target, allow_redirects=False, proxy=proxy
                ) as response:
                    elsewhere = response.headers.get("Location")
                    if elsewhere is None or not 300 <= response.status < 400:
                        return await self._read(response)
                    url = urljoin(url, elsewhere)
        except TimeoutError as error:
            raise ServiceTimeoutError(
                f"A file did not come within {self._timeout:g} s (request_timeout). Try again, or "
                "allow more."
            ) from error
        except ValueError:
            raise _none() from None
        except (self._aiohttp.ClientError, OSError) as error:
            refused: Any = getattr(error, "os_error", error)
            if isinstance(refused, _ForbiddenError):
                raise _forbidden(str(refused)) from None
            raise ServiceConnectionError(
                f"A file that the service named cannot be loaded: {type(error).__name__}. Try "
                "again, and check the network and the proxy."
            ) from error
        raise BadResponseError("What names a file sends on and on to other addresses.")

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise _none()
        if parts.hostname not in self._trusted and not _is_public(parts.hostname):
            raise _forbidden(parts.hostname)

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise BadResponseError(f"A file is larger than {self._max_bytes} bytes.")
        return Answer(response.status, response.headers, b"".join(pieces))

    def _resolver(self) -> Any:
        """Return a resolver that knows no address to which nothing is to be sent."""
        trusted, plain = self._trusted, self._aiohttp.resolver.DefaultResolver()

        class Resolver(self._aiohttp.abc.AbstractResolver):
            async def resolve(self, host: str, *args: Any, **kwargs: Any) -> Any:
                found = await plain.resolve(host, *args, **kwargs)
                if host not in trusted and not all(_is_public(one["host"]) for one in found):
                    raise _ForbiddenError(host)
                return found

            async def close(self) -> None:
                await plain.close()

        return Resolver()


class _ForbiddenError(OSError):
    """A name that leads to where nothing is to be sent."""


def _none() -> BadResponseError:
    return BadResponseError("What the service names as a file's address is none.")


def _forbidden(host: str) -> BadResponseError:
    return BadResponseError(
        f"The service names a file at {host!r}, which is an address of this machine or of a "
        "private network. Nothing is asked there."
    )


def _is_public(host: str) -> bool:
    """Tell whether an address is one of the internet; a name may be."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # 127.1 and 2130706433 are addresses to the system, which no name server is asked for.
        is_number = host.replace(".", "").isdigit() or host.startswith("0x")
        return not is_number and host != "localhost" and not host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global
