"""Logging in with a token, and out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ....providers.catalogue import TokenRefusedError
from ..identity import clear_cookie, set_cookie, verify
from .answers import PageRoute, form_of, page, redirect

__all__ = ["router"]

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/login")
async def login_form(request: Request) -> Response:
    """Ask for a token."""
    return page(request, "login.html", next=request.query_params.get("next", ""), refused="")


@router.post("/login")
async def login(request: Request) -> Response:
    """Keep a token in the browser, out of reach of scripts, if it opens anything."""
    form = await form_of(request)
    text, after = form.get("token", "").strip(), form.get("next", "")
    try:
        token = await verify(request, text)
    except TokenRefusedError as error:
        return page(request, "login.html", status=401, next=after, refused=error.message)
    response = redirect(request, _within(after), f"You are logged in as {token.name}.")
    set_cookie(response, request, text)
    return response


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Forget the browser's token."""
    response = redirect(request, "/login", "You are logged out.")
    clear_cookie(response, request)
    return response


def _within(path: str) -> str:
    """Return a path if it stays on this site, else that of the first page."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/"
