"""AnkiConnect, version 6, with the quirks that its versions have."""

from __future__ import annotations

import base64
import functools
import hashlib
import inspect
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

from aiohttp import web

from .base import Double

__all__ = ["AnkiDouble", "HeldNote"]

_IMAGE = re.compile(r"""<img[^>]*src=["']?([^"'>]*)["']?[^>]*>""", re.IGNORECASE)
_TERM = re.compile(r'"(?:\\.|[^"\\])*"|\S+')


@dataclass(slots=True)
class HeldNote:
    """A note in the collection; it has one card, whose id is the note's and one million."""

    note_type: str
    deck: str
    fields: dict[str, str]
    tags: list[str] = field(default_factory=list[str])


class _RefusedError(Exception):
    """What AnkiConnect answers as an error."""


class AnkiDouble(Double):
    """
    Anki with the add-on, and a collection of its own.

    Args:
        api_key: What the add-on's settings have.
        collection_open: Whether a profile is open.
        logged_in: Whether it has an AnkiWeb account.
        keeps_alive: Connections stay; the real one closes them without saying so.
        tells_why: Has ``canAddNotesWithErrorDetail``, as versions since 2024 have.
        all_or_nothing: ``addNotes`` adds none if one is bad, as versions since 2024 do.
        forgets_deck: Puts cards into the default deck, whatever the note says.
        reads_files: Sees the files of the client's machine.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        collection_open: bool = True,
        logged_in: bool = True,
        keeps_alive: bool = False,
        tells_why: bool = True,
        all_or_nothing: bool = True,
        forgets_deck: bool = False,
        reads_files: bool = True,
    ) -> None:
        super().__init__()
        self.api_key = api_key
        self.collection_open = collection_open
        self.logged_in = logged_in
        self.keeps_alive = keeps_alive
        self.tells_why = tells_why
        self.all_or_nothing = all_or_nothing
        self.forgets_deck = forgets_deck
        self.reads_files = reads_files
        self.decks: dict[str, int] = {"Default": 1, "Languages::Spanish": 2}
        """The decks: ids by name."""
        self.note_types: dict[str, tuple[int, list[str]]] = {
            "Basic": (1001, ["Front", "Back"]),
            "Sentence": (1002, ["Text", "Meaning", "Picture", "Sound"]),
        }
        """The note types: ids and fields by name."""
        self.notes: dict[int, HeldNote] = {}
        """The notes by id."""
        self.media: dict[str, bytes] = {}
        """The media files."""
        self.syncs = 0
        """How often it was synchronised."""
        self._ids = itertools.count(1_700_000_000_001)

    @property
    def actions(self) -> list[str]:
        """The actions asked for so far, the parts of ``multi`` as ``multi:ACTION``."""
        found: list[str] = []
        for asked in self.requests:
            request = asked.json
            inner = request.get("params", {}).get("actions", [])
            found += [f"multi:{one['action']}" for one in inner] or [request["action"]]
        return found

    def routes(self) -> list[web.RouteDef]:
        """Return the one there is."""
        return [web.post("/", self._serve_action)]

    async def _serve_action(self, request: web.Request) -> web.Response:
        try:
            asked = json.loads(await request.read())
        except ValueError as error:
            reply: Any = {"result": None, "error": str(error)}
        else:
            reply = self._handle(asked)
        response = web.json_response(reply)
        if not self.keeps_alive:
            await response.prepare(request)
            await response.write_eof()
            if request.transport is not None:
                request.transport.close()
        return response

    def _handle(self, request: Any) -> Any:
        name, version = request.get("action", ""), request.get("version", 4)
        try:
            if request.get("key") != self.api_key:
                raise _RefusedError("valid api key must be provided")
            method = getattr(self, _method(name), None)
            if method is None or (name == "canAddNotesWithErrorDetail" and not self.tells_why):
                raise _RefusedError("unsupported action")
            if not self.collection_open and name not in ("version", "multi"):
                raise _RefusedError("collection is not available")
            params = request.get("params", {})
            try:
                inspect.signature(method).bind(**params)
            except TypeError as error:
                raise _RefusedError(f"AnkiConnect.{name}() {error}") from None
            result = method(**params)
        except _RefusedError as error:
            return {"result": None, "error": str(error)}
        return result if version <= 4 else {"result": result, "error": None}

    # -- actions, by the names they have there -------------------------------------------

    def action_version(self) -> int:
        return 6

    def action_multi(self, actions: Sequence[Any]) -> list[Any]:
        return [self._handle(action) for action in actions]

    def action_sync(self) -> None:
        if not self.logged_in:
            raise _RefusedError("sync: auth not configured")
        self.syncs += 1

    def action_deck_names(self) -> list[str]:
        return list(self.decks)

    def action_deck_names_and_ids(self) -> dict[str, int]:
        return self.decks

    def action_create_deck(self, deck: str) -> int:
        return self.decks.setdefault(deck, max(self.decks.values()) + 1)

    def action_change_deck(self, cards: Sequence[int], deck: str) -> None:
        self.action_create_deck(deck)
        for card in cards:
            self.notes[card - 1_000_000].deck = deck

    def action_model_names(self) -> list[str]:
        return list(self.note_types)

    def action_model_names_and_ids(self) -> dict[str, int]:
        return {name: number for name, (number, _) in self.note_types.items()}

    def action_model_field_names(self, modelName: str) -> list[str]:  # noqa: N803 - its name there
        if modelName not in self.note_types:
            raise _RefusedError(f"model was not found: {modelName}")
        return self.note_types[modelName][1]

    def action_add_note(self, note: Mapping[str, Any]) -> int:
        held = self._made(note)
        number = next(self._ids)
        self.notes[number] = held
        return number

    def action_add_notes(self, notes: Sequence[Mapping[str, Any]]) -> list[int | None]:
        results: list[int | None] = []
        errors: list[str] = []
        for note in notes:
            try:
                results.append(self.action_add_note(note))
            except _RefusedError as error:
                errors.append(str(error))
                results.append(None)
        if errors and self.all_or_nothing:
            for number in results:
                self.notes.pop(number or 0, None)
            raise _RefusedError(str(errors))
        return results

    def action_can_add_notes(self, notes: Sequence[Mapping[str, Any]]) -> list[bool]:
        return [one["canAdd"] for one in self.action_can_add_notes_with_error_detail(notes)]

    def action_can_add_notes_with_error_detail(
        self, notes: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for note in notes:
            try:
                self._made(note)
                found.append({"canAdd": True})
            except _RefusedError as error:
                found.append({"canAdd": False, "error": str(error)})
        return found

    def action_update_note_fields(self, note: Mapping[str, Any]) -> None:
        held = self.notes.get(note["id"])
        if held is None:
            raise _RefusedError(f"Note was not found: {note['id']}")
        for name, value in note["fields"].items():
            if name in held.fields:
                held.fields[name] = value

    def action_add_tags(self, notes: Sequence[int], tags: str) -> None:
        for number in notes:
            held = self.notes[number]
            held.tags = sorted({*held.tags, *tags.split()})

    def action_find_notes(self, query: str) -> list[int]:
        return [number for number, held in self.notes.items() if self._found(number, held, query)]

    def action_find_cards(self, query: str) -> list[int]:
        return [number + 1_000_000 for number in self.action_find_notes(query)]

    def action_notes_info(self, notes: Sequence[int]) -> list[dict[str, Any]]:
        return [self._told(number) for number in notes]

    def action_store_media_file(
        self,
        filename: str,
        data: str | None = None,
        path: str | None = None,
        deleteExisting: bool = True,  # noqa: N803 - its name there
    ) -> str:
        if data:
            content = base64.b64decode(data)
        elif path:
            try:
                if not self.reads_files:
                    raise FileNotFoundError(2, "No such file or directory", path)
                content = Path(path).read_bytes()
            except OSError as error:
                raise _RefusedError(str(error)) from None
        else:
            raise _RefusedError('You must provide a "data", "path", or "url" field.')
        name = re.sub(r'[\[\]<>:"/?*^\\|\0\r\n]', "", unicodedata.normalize("NFC", filename))
        if deleteExisting:
            self.media.pop(name, None)
        if self.media.get(name, content) != content:
            stem, _, ending = name.rpartition(".")
            name = f"{stem}-{hashlib.sha1(content, usedforsecurity=False).hexdigest()}.{ending}"
        self.media[name] = content
        return name

    # -- what Anki does ------------------------------------------------------------------

    def _made(self, note: Mapping[str, Any]) -> HeldNote:
        name, deck = note["modelName"], note["deckName"]
        fields = dict.fromkeys(self.action_model_field_names(name), "")
        if deck not in self.decks:
            raise _RefusedError(f"deck was not found: {deck}")
        for given, value in note["fields"].items():
            for known in fields:
                if known.lower() == given.lower():
                    fields[known] = value
        first = next(iter(fields.values()))
        if not re.sub(r"<br ?/?>", "", unescape(first)).strip():
            raise _RefusedError("cannot create note because it is empty")
        plain = _plain(first)
        if any(
            held.note_type == name and _plain(next(iter(held.fields.values()))) == plain
            for held in self.notes.values()
        ):
            raise _RefusedError("cannot create note because it is a duplicate")
        return HeldNote(name, "Default" if self.forgets_deck else deck, fields, [*note["tags"]])

    def _told(self, number: int) -> dict[str, Any]:
        held = self.notes.get(number)
        if held is None:
            return {}
        fields = {
            name: {"value": value, "order": order}
            for order, (name, value) in enumerate(held.fields.items())
        }
        return {
            "noteId": number,
            "modelName": held.note_type,
            "tags": held.tags,
            "fields": fields,
            "cards": [number + 1_000_000],
        }

    def _found(self, number: int, held: HeldNote, query: str) -> bool:
        return all(self._fits(number, held, term) for term in _terms(query))

    def _fits(self, number: int, held: HeldNote, term: str) -> bool:
        kind, _, text = term.partition(":")
        note_type = self.note_types[held.note_type][0]
        match kind:
            case "nid":
                return str(number) in text.split(",")
            case "did":
                return str(self.decks[held.deck]) == text
            case "mid":
                return str(note_type) == text
            case "dupe":
                wanted, _, first = text.partition(",")
                plain = _plain(re.sub(r'\\([\\"])', r"\1", first))
                return str(note_type) == wanted and plain == _plain(
                    next(iter(held.fields.values()))
                )
            case _ if kind in held.fields:
                return re.fullmatch(_pattern(text), held.fields[kind], re.DOTALL) is not None
            case _:
                raise _RefusedError(f"Invalid search: {term} is not understood.")


def _method(action: str) -> str:
    return "action_" + re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", action)


def _terms(query: str) -> Iterator[str]:
    """Yield the terms of a search; whatever is blank in it is a space, as with Anki."""
    for term in _TERM.findall(re.sub(r"\s", " ", query)):
        yield term[1:-1] if term.startswith('"') else term


def _pattern(text: str) -> str:
    special = {"_": ".", "*": ".*"}
    parts: list[str] = re.findall(r"\\.|.", text)
    return "".join(
        re.escape(part[1:]) if part.startswith("\\") else special.get(part, re.escape(part))
        for part in parts
    )


@functools.lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Return a field without markup, with the names of its pictures, as Anki compares it."""
    return unescape(re.sub(r"<[^>]*>", "", _IMAGE.sub(r" \1 ", text)))
