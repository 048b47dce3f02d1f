"""How the pages answer: templates, redirections with a message, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .... import __version__
from ....providers.registry.errors import RegistryError
from ....providers.registry.events import event_classes
from ....providers.registry.redaction import mask
from ..identity import Caller
from ..problem import Problem
from . import happened, text

__all__ = ["PageRoute", "base_of", "form_of", "page", "redirect"]

_MESSAGE = "purveyor_message"
_MOST_FIELDS = 100
_LONGEST = 600
"""Characters of a message that a cookie carries."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    auto_reload=False,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(
    clock=text.clock,
    event_detail=happened.detail,
    event_kind=happened.kind,
    latency=text.latency,
    segment=text.segment,
    shortened=text.shortened,
    value=text.value,
    wait=text.wait,
)
_GLOBALS: dict[str, Any] = {
    "age": text.age,
    "count": text.count,
    "event_names": " ".join([*event_classes(), "missed"]),
}
_templates.globals.update(_GLOBALS)


def base_of(request: Request) -> str:
    """Return the path that all pages are below, as the browser sees it; empty at the top."""
    return quote(request.scope.get("root_path", "").rstrip("/"))


async def form_of(request: Request) -> dict[str, str]:
    """
    Return the fields of a form that was sent.

    Raises:
        Problem: It has more of them than any form here (422).
    """
    body = (await request.body()).decode(errors="replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise Problem(422, "INVALID_REQUEST", "The form has too many fields.") from None


def page(
    request: Request,
    template: str,
    *,
    caller: Caller | None = None,
    status: int = 200,
    **values: Any,
) -> Response:
    """
    Return a page, with the message of the action before it.

    Args:
        request: What it answers.
        template: The file.
        caller: Who sees it, if that is known.
        status: The HTTP status.
        values: What the template names.
    """
    seen = request.headers.get("sec-fetch-dest", "document") == "document"  # not by the script
    told = request.cookies.get(_MESSAGE, "") if seen else ""
    kind, _, message = unquote(told).partition(":")
    now = datetime.now(UTC)
    html = _templates.get_template(template).render(
        base=base_of(request),
        caller=caller,
        message=message,
        message_kind="bad" if kind == "bad" else "good",
        now=now,
        version=__version__,
        **values,
    )
    response = HTMLResponse(html, status)
    if message:
        response.delete_cookie(_MESSAGE, path=base_of(request) or "/")
    return response


def redirect(request: Request, path: str, message: str = "", *, bad: bool = False) -> Response:
    """
    Send the browser to another page, which it then gets.

    Args:
        request: What it answers.
        path: The page, below the base; quoted.
        message: What the page says first; it is kept for one page, and for a minute at most.
        bad: Whether the message tells that something failed.
    """
    response = RedirectResponse(base_of(request) + path, 303)
    if message:
        told = f"{'bad' if bad else 'good'}:{text.shortened(mask(message), _LONGEST)}"
        response.set_cookie(
            _MESSAGE,
            quote(told),
            max_age=60,
            path=base_of(request) or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
    return response


class PageRoute(APIRoute):
    """A route whose problems are told on a page; who is not known is asked for a token."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as error:
                problem = error
            except RegistryError as error:
                problem = Problem.of(error)
            if problem.status == 401:
                return _to_login(request)
            title = HTTPStatus(problem.status).phrase
            return page(
                request, "problem.html", status=problem.status, problem=problem, title=title
            )

        return answer


def _to_login(request: Request) -> Response:
    scope = request.scope
    here = quote(scope["path"].removeprefix(scope.get("root_path", "")))
    if request.url.query:
        here = f"{here}?{request.url.query}"
    asked = f"?next={quote(here, safe='/')}" if request.method == "GET" and here != "/" else ""
    return redirect(request, f"/login{asked}")
