"""The protocol of AnkiConnect, version 6: actions by HTTP, and what its errors mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import Field, SecretStr

from ....settings.branches import Count
from ...web.config import WebConfig
from ...web.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    OverloadedError,
    ServiceError,
)
from ...web.transport import Answer, Transport
from .errors import (
    CollectionNotOpenError,
    DeckNotFoundError,
    DuplicateNoteError,
    FlashcardError,
    NoteTypeNotFoundError,
)

__all__ = ["Action", "AnkiConfig", "AnkiConnect", "UnknownActionError", "groups"]

VERSION = 6
MOST_ACTIONS = 200
MOST_BYTES = 512 * 1024
"""Of one request: AnkiConnect's time to read one grows with the square of its size."""

Action = tuple[str, Mapping[str, Any]]
"""What to do, and with what."""
ItemT = TypeVar("ItemT")


class AnkiConfig(WebConfig):
    """Where Anki is, and where notes go."""

    aliases = {"url": "base_url"}  # noqa: RUF012 - as every config's

    base_url: str = Field(
        default="http://127.0.0.1:8765", description="Where AnkiConnect listens (also: url)."
    )
    api_key: SecretStr | None = Field(
        default=None, description="The apiKey of AnkiConnect's settings, if it has one."
    )
    deck: str | None = Field(default=None, description="Where notes go that name no deck.")
    note_type: str | None = Field(
        default=None, description="The type of notes that name none, Basic say."
    )
    media_by_path: bool | None = Field(
        default=None,
        description="Whether Anki reads files of this machine itself, which is much faster. By "
        "default where its address is of this machine.",
    )
    max_connections: Count = Field(
        default=2, ge=1, le=5, description="Connections at a time; Anki queues five."
    )
    retries: Count = Field(
        default=0,
        ge=0,
        le=10,
        description="How often a request is made again that found Anki not running.",
    )


class UnknownActionError(FlashcardError):
    """This version of AnkiConnect has no such action."""


class AnkiConnect:
    """
    Has actions carried out by an Anki that runs with the AnkiConnect add-on.

    Each request has a connection of its own: the add-on closes them without saying so.

    See https://git.sr.ht/~foosoft/anki-connect.
    """

    def __init__(self, config: AnkiConfig) -> None:
        self._config = config
        self._transport = Transport(
            config,
            headers=dict,
            explain=_explain,
            extra="media",
            remedy="Start Anki with the AnkiConnect add-on (code 2055492159), or correct url.",
            keep_alive=False,
        )

    async def close(self) -> None:
        """Let go of it."""
        await self._transport.close()

    async def call(self, action: str, **params: Any) -> Any:
        """
        Have an action carried out and return its result.

        Raises:
            FlashcardError: Anki refuses; the narrowest class for the reason.
            ServiceError: It does not answer, or refuses the key.
        """
        answer = await self._transport.json("POST", "", self._request(action, params))
        return _result(action, answer)

    async def calls(self, actions: Sequence[Action]) -> list[Any]:
        """
        Have actions carried out in order, with few requests.

        Returns:
            For each its result, or the :class:`FlashcardError` for its refusal.

        Raises:
            ServiceError: What keeps all of them from being done.
        """
        found: list[Any] = []
        requests = [self._request(action, params) for action, params in actions]
        for group in groups(requests, _size):
            answers: list[Any] = await self.call("multi", actions=group)
            if len(answers) != len(group):
                raise BadResponseError(f"AnkiConnect did not answer all of {len(group)} actions.")
            for request, answer in zip(group, answers, strict=True):
                try:
                    found.append(_result(request["action"], answer))
                except FlashcardError as error:
                    if error.is_backend_failure:
                        raise
                    found.append(error)
        return found

    def _request(self, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        # Each part of a `multi` is checked for the version and the key by itself.
        request: dict[str, Any] = {"action": action, "version": VERSION, "params": params}
        if self._config.api_key is not None:
            request["key"] = self._config.api_key.get_secret_value()
        return request


def groups(
    items: Iterable[ItemT], size: Callable[[ItemT], int], most: int = MOST_ACTIONS
) -> Iterator[list[ItemT]]:
    """Yield items in groups that fit into one request, by number and by their sizes in bytes."""
    group: list[ItemT] = []
    total = 0
    for item in items:
        more = size(item)
        if group and (len(group) == most or total + more > MOST_BYTES):
            yield group
            group, total = [], 0
        group.append(item)
        total += more
    if group:
        yield group


def _size(request: object) -> int:
    return len(json.dumps(request))


def _result(action: str, answer: Any) -> Any:
    match answer:
        case {"error": str() as reason, **_rest} if reason:
            raise _refusal(action, reason)
        case {"result": result, "error": _}:
            return result
        case _:
            raise BadResponseError(
                f"What answered {action} is not AnkiConnect, version {VERSION}. Check url, and "
                "update the add-on."
            )


def _refusal(action: str, reason: str) -> ServiceError:
    """Return the error for what AnkiConnect calls one by its text alone."""
    for text, kind, remedy in _REFUSALS:
        if text in reason.lower():
            told = f"Anki refuses {action}: {reason.rstrip('.')}."
            return kind(f"{told} {remedy}".rstrip())
    return FlashcardError(f"Anki refuses {action}: {reason.rstrip('.')}.")


_REFUSALS: tuple[tuple[str, type[ServiceError], str], ...] = (
    ("valid api key", AuthenticationError, "Set api_key to the apiKey of the add-on's settings."),
    ("auth not configured", AuthenticationError, "Press Sync in Anki and log in to AnkiWeb there."),
    ("permission", AccessDeniedError, "Allow it in Anki, or in the add-on's settings."),
    (
        "collection is not available",
        CollectionNotOpenError,
        "Open a profile in Anki; it may also be syncing or at a dialog.",
    ),
    ("unsupported action", UnknownActionError, "Update the AnkiConnect add-on."),
    ("deck was not found", DeckNotFoundError, ""),
    ("model was not found", NoteTypeNotFoundError, ""),
    ("is a duplicate", DuplicateNoteError, ""),
    ("sync status", FlashcardError, "Press Sync in Anki and choose a direction there."),
)


def _explain(answer: Answer) -> ServiceError:
    if answer.status == 403:
        return AccessDeniedError(
            "AnkiConnect lets this client do nothing. Add its address to webCorsOriginList in the "
            "add-on's settings."
        )
    if answer.status >= 500:
        reason = answer.object().get("error")
        told = f": {reason}" if isinstance(reason, str) else ""
        return OverloadedError(f"Anki failed inside{told}.")
    return BadResponseError(
        f"AnkiConnect answers with status 200, not with {answer.status}. Check url."
    )
