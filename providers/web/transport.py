"""The one way to a web service: JSON and server-sent events over HTTP, by aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit

from ..registry.extras import import_extra
from ..registry.failover import stand_in_waits
from ..registry.redaction import remember, scrub
from .config import WebConfig, is_local, proxy_of
from .errors import (
    ApplicationNotRunningError,
    BadResponseError,
    InvalidRequestError,
    OverloadedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
)
from .retry import backoff
from .sse import Event, EventParser

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Answer", "Transport"]

MAX_BODY = 256 * 1024 * 1024
JSON = {"Content-Type": "application/json"}
_READ_ONLY = frozenset({"GET", "HEAD"})
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a service answered, whole.

    Args:
        status: The status of HTTP.
        headers: Found whatever their case.
        body: The bytes, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """What the body is said to be, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """
        Return the body, read as JSON.

        Raises:
            BadResponseError: It is none; the message says what it is.
        """
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(self.body)
        # Raised here, or it would carry the parser's error, which has the whole body.
        raise BadResponseError(
            f"The service answered {self.status} with {self._told()}, not with JSON. Check "
            "base_url, and whether a proxy answers in its place.",
            context={"status": self.status, "content_type": self.media_type},
        )

    def object(self) -> Mapping[str, Any]:
        """
        Return the body, read as a JSON object; empty if it is anything else.

        For reading errors, which may come from anybody on the way.
        """
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    def _told(self) -> str:
        if not self.body.strip():
            return "an empty body"
        if self.media_type.endswith("json"):
            return "broken JSON"
        title = _TITLE.search(self.body[:4096].decode("utf-8", "replace"))
        named = f" titled {title[1].strip()[:80]!r}" if title else ""
        return f"{self.media_type or 'something of no type'}{named}"


class Transport:
    """
    Sends requests to one service, over connections that are kept; of one event loop.

    What was not taken is sent again, as often as the settings say: a connection that could not be
    made, too many requests (429), a service that says it cannot now (503, 529), and for requests
    that change nothing whatever is no fault of theirs. Where another member of a failover group
    will be asked, nothing is sent again here. A caller that is cancelled breaks its connection.

    Args:
        config: Where, and how long.
        headers: What each request carries; called each time.
        explain: Makes the error of an answer whose status is not a good one.
        extra: The extra that installs what is needed.
        remedy: What to do if nothing listens at an address of this machine.
        keep_alive: Whether connections serve again; not for a service that drops them unsaid.
        pause: Waits so many seconds.
    """

    def __init__(
        self,
        config: WebConfig,
        *,
        headers: Callable[[], Mapping[str, str]],
        explain: Callable[[Answer], ServiceError],
        extra: str,
        remedy: str = "Start it, or correct base_url.",
        keep_alive: bool = True,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._headers = headers
        self._explain = explain
        self._remedy = remedy
        self._pause = pause
        self._place = urlsplit(config.base_url).netloc
        self._aiohttp = import_extra("aiohttp", extra=extra)
        self._url = import_extra("yarl", extra=extra).URL
        timeout = self._aiohttp.ClientTimeout
        self._whole = timeout(total=config.request_timeout, sock_connect=config.connect_timeout)
        self._streamed = timeout(
            total=config.request_timeout,
            sock_connect=config.connect_timeout,
            sock_read=config.first_byte_timeout,
        )
        self._session: aiohttp.ClientSession = self._aiohttp.ClientSession(
            connector=self._aiohttp.TCPConnector(
                limit=config.max_connections, force_close=not keep_alive
            ),
            cookie_jar=self._aiohttp.DummyCookieJar(),
        )
        self._proxy = proxy_of(config.base_url)
        remember(config)  # an instance built by hand masks its key too
        self._session._retry_connection = False  # retries are made here, and counted

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        await self._session.close()

    async def json(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Any:
        """
        Send a request and return the JSON it is answered with.

        Args:
            method: Of HTTP.
            path: Below ``base_url``, percent-encoded, with the query.
            body: Sent as JSON, if not None.
            headers: More of them.
            repeatable: Whether it changes nothing, though its method is not one that says so.

        Raises:
            ServiceError: Whatever went wrong.
        """
        answer = await self.send(method, path, body, headers=headers, repeatable=repeatable)
        return answer.json()

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and return the answer, whole; otherwise as :meth:`json`."""
        repeatable = repeatable or method in _READ_ONLY
        async with self._sent(method, path, body, headers, self._whole, repeatable) as response:
            return await self._read(response, self._whole)

    async def events(
        self,
        path: str,
        body: object,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """
        Post a request and yield the events it is answered with, to the end of the stream.

        A stream that breaks ends with an error; one that merely ends, ends. It is for the caller
        to know whether that was the end. Closing the generator breaks the connection.

        Raises:
            ServiceError: Whatever went wrong.
        """
        accept = {"Accept": "text/event-stream", **(headers or {})}
        async with self._sent("POST", path, body, accept, self._streamed, False) as response:
            if response.content_type != "text/event-stream":
                answer = await self._read(response, self._streamed)
                answer.json()  # which tells what else it is
                raise BadResponseError(
                    f"The service answered with {answer.media_type}, not with a stream of events."
                )
            parser = EventParser()
            try:
                async for piece in response.content.iter_any():
                    for event in parser.feed(piece):
                        yield event
            except (self._aiohttp.ClientError, TimeoutError, OSError) as error:
                self._fail(error, self._streamed)

    # -- one request ---------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _sent(
        self,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str] | None,
        timeout: Any,
        repeatable: bool,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        data = None if body is None else _encoded(body)
        for attempt in itertools.count(1):
            sends = {**self._headers(), **(JSON if data else {}), **(headers or {})}
            try:
                response = await self._session.request(
                    method,
                    self._url(self._config.base_url + path, encoded=True),
                    proxy=self._proxy,
                    data=data,
                    headers=sends,
                    timeout=timeout,
                    allow_redirects=False,  # a key is shown to nobody else
                )
            except (self._aiohttp.ClientError, TimeoutError, OSError) as error:
                failure, sent = self._fault(error, timeout), not self._is_unsent(error)
            except ValueError:
                raise InvalidRequestError(
                    "A setting that is sent in a header has a line's end or a control character "
                    "in it: correct it."
                ) from None
            else:
                async with response:
                    if 200 <= response.status < 300:
                        yield response
                        return
                    failure, sent = await self._refusal(response), True
            if (wait := self._wait(failure, attempt, repeatable, sent=sent)) is None:
                try:
                    raise failure
                finally:
                    del failure  # or its traceback would keep it alive
            await self._pause(wait)

    async def _refusal(self, response: aiohttp.ClientResponse) -> ServiceError:
        answer = await self._read(response, self._whole)
        if 300 <= answer.status < 400:
            return BadResponseError(
                f"{self._place} answered {answer.status}: it sends to another address. Redirects "
                "are not followed, for the key would be shown there. Correct base_url.",
                context={"status": answer.status},
            )
        failure = self._explain(answer)
        failure.context.setdefault("status", answer.status)
        return failure

    def _wait(
        self, failure: ServiceError, attempt: int, repeatable: bool, *, sent: bool
    ) -> float | None:
        """Return the seconds until a request is made again; None: it is not."""
        if attempt > self._config.retries or stand_in_waits():
            return None
        if isinstance(failure, RateLimitedError):
            wait = failure.retry_after
        elif isinstance(failure, OverloadedError):
            if failure.context.get("status") not in (503, 529) and not repeatable:
                return None  # it may have been done, and paid for
            wait = failure.retry_after
        elif isinstance(failure, (ServiceConnectionError, ServiceTimeoutError)):
            if sent and not repeatable:
                return None
            wait = None
        else:
            return None
        if wait is None:
            return backoff(attempt)
        return wait if wait <= self._config.max_retry_wait else None

    async def _read(self, response: aiohttp.ClientResponse, timeout: Any) -> Answer:
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > MAX_BODY:
                    raise BadResponseError(f"The answer has more than {MAX_BODY} bytes.")
        except (self._aiohttp.ClientError, TimeoutError, OSError) as error:
            self._fail(error, timeout)
        return Answer(response.status, response.headers, b"".join(pieces))

    # -- what went wrong -----------------------------------------------------------------

    def _is_unsent(self, error: Exception) -> bool:
        """Tell whether nothing of the request can have reached the service."""
        unsent = (self._aiohttp.ClientConnectorError, self._aiohttp.ConnectionTimeoutError)
        return isinstance(error, unsent)

    def _fail(self, error: Exception, timeout: Any) -> NoReturn:
        raise self._fault(error, timeout)

    def _fault(self, error: Exception, timeout: Any) -> ServiceError:
        failure = self._named(error, timeout)
        failure.__cause__ = scrub(error)
        return failure

    def _named(self, error: Exception, timeout: Any) -> ServiceError:
        place, config = self._place, self._config
        if isinstance(error, self._aiohttp.ConnectionTimeoutError):
            return ServiceTimeoutError(
                f"{place} took no connection within {config.connect_timeout:g} s "
                "(connect_timeout). Check the address and the network."
            )
        if isinstance(error, self._aiohttp.SocketTimeoutError):
            return ServiceTimeoutError(
                f"Nothing came from {place} for {config.first_byte_timeout:g} s "
                "(first_byte_timeout). Try again, or allow more."
            )
        if isinstance(error, TimeoutError):
            return ServiceTimeoutError(
                f"{place} did not answer within {timeout.total:g} s (request_timeout). Try again, "
                "ask for less, or allow more."
            )
        if isinstance(error, self._aiohttp.ClientConnectorError):
            reason: Exception = getattr(error, "os_error", error)
            told = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            if isinstance(reason, ConnectionRefusedError) and is_local(config.base_url):
                return ApplicationNotRunningError(
                    f"Nothing listens at {config.base_url}: the application is not running. "
                    f"{self._remedy}"
                )
            return ServiceConnectionError(
                f"{place} cannot be reached: {told}. Check base_url, the network and the proxy."
            )
        return ServiceConnectionError(
            f"The connection to {place} was lost: {type(error).__name__}. Try again."
        )


def _encoded(body: object) -> bytes:
    with contextlib.suppress(UnicodeEncodeError):
        return json.dumps(body, ensure_ascii=False).encode()
    # Raised here, or it would carry the encoder's error, which has the whole body.
    raise InvalidRequestError(
        "The text holds half a character, which UTF-8 has not: read it anew, as what it is."
    )
