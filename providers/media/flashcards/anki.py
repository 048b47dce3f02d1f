"""Anki, the application on this machine, by its AnkiConnect add-on."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from ...registry.provider import operation
from ...web.config import is_local
from ...web.errors import BadResponseError, InvalidRequestError
from .adding import Adding, Collection, Draft
from .ankiconnect import VERSION, AnkiConfig, AnkiConnect
from .base import Duplicates, FlashcardProvider, Media, Note, NoteResult, NoteType
from .errors import DeckNotFoundError, FlashcardError, NoteTypeNotFoundError
from .names import safe_name

__all__ = ["Anki", "AnkiConfig"]

LARGE = 64 * 1024
"""Bytes from which on a file on the disk is faster than base64 in a request."""


class Anki(FlashcardProvider[AnkiConfig]):
    """
    The collection that is open in an Anki with the AnkiConnect add-on.

    Nothing is sent a second time that may have been done: a call that fails half-way says how far
    it came, and can be made again.
    """

    _anki: AnkiConnect

    async def _connect(self) -> None:
        self._anki = AnkiConnect(self.config)

    async def _close(self) -> None:
        if hasattr(self, "_anki"):
            await self._anki.close()

    async def check_health(self) -> None:
        """Ask for the protocol's version, and whether a collection is open."""
        version, decks = await self._anki.calls([("version", {}), ("deckNames", {})])
        if not isinstance(version, int) or version < VERSION:
            raise BadResponseError(
                f"AnkiConnect speaks version {version!s:.20} of its protocol, not {VERSION}. "
                "Update the add-on."
            )
        if isinstance(decks, FlashcardError):
            raise decks

    @operation
    async def decks(self) -> Sequence[str]:
        """Return the names of all decks, A to Z."""
        return sorted(await self._anki.call("deckNames"))

    @operation
    async def note_types(self) -> Sequence[NoteType]:
        """Return all note types, by name."""
        names = sorted(await self._anki.call("modelNames"))
        fields = await self._fields_of(names)
        return [NoteType(name, tuple(fields[name])) for name in names]

    @operation
    async def create_deck(self, name: str) -> None:
        """
        Make a deck; one that is there already stays as it is.

        Args:
            name: With ``::`` between a deck and one within it.

        Raises:
            InvalidRequestError: It is empty.
        """
        if not name.strip():
            raise InvalidRequestError("A deck needs a name.")
        await self._anki.call("createDeck", deck=name)

    @operation
    async def existing(
        self, notes: Sequence[Note], *, note_type: str | None = None
    ) -> Sequence[int | None]:
        """
        Tell which notes are there already, in whatever deck.

        Raises:
            NoteTypeNotFoundError: There is no such note type, or it lacks a field.
            InvalidRequestError: A note has no type.
            ServiceError: Anki does not answer, or refuses the key.
        """
        note_type = note_type or self.config.note_type
        drafts = [
            Draft(note, "", _given(note.note_type or note_type, "note_type", place))
            for place, note in enumerate(notes, 1)
        ]
        if not drafts:
            return []
        collection = await self._collection(drafts)
        return await Adding(self._anki, collection, "skip", self._store).ids(drafts)

    @operation
    async def add_notes(
        self,
        notes: Sequence[Note],
        *,
        deck: str | None = None,
        note_type: str | None = None,
        duplicates: Duplicates = "skip",
    ) -> Sequence[NoteResult]:
        """
        Add notes; what is wrong with one of them keeps none of the others out.

        Media go into the collection first, only of notes that are added or updated. With
        ``update`` the tags are added to those that are there, and the cards stay in their deck.

        Args:
            notes: Any number; they are sent 200 at a time.
            deck: For notes that name none; the provider's when not given. It must be there.
            note_type: For notes that name none; the provider's when not given.
            duplicates: For notes whose first field is there already, in a note of the same type,
                in whatever deck: leave it, change its other fields, or call it a failure.

        Raises:
            DeckNotFoundError: There is no such deck; nothing was added.
            NoteTypeNotFoundError: There is no such note type, or it lacks a field; nothing was
                added.
            InvalidRequestError: A note has no deck or no type; nothing was added.
            ServiceError: Anki does not answer, or refuses the key.
        """
        if duplicates not in get_args(Duplicates):
            choice = ", ".join(get_args(Duplicates))
            raise InvalidRequestError(f"duplicates must be one of {choice}, not {duplicates!r}.")
        deck, note_type = deck or self.config.deck, note_type or self.config.note_type
        drafts = [
            Draft(
                note,
                _given(note.deck or deck, "deck", place),
                _given(note.note_type or note_type, "note_type", place),
            )
            for place, note in enumerate(notes, 1)
        ]
        if not drafts:
            return []
        collection = await self._collection(drafts)
        await Adding(self._anki, collection, duplicates, self._store).add(drafts)
        return [draft.result for draft in drafts if draft.result is not None]

    @operation
    async def store_media(self, media: Media) -> str:
        """
        Keep a file in the collection; return the name it got there.

        A file of that name that has another content stays, and this one gets another name.

        Raises:
            InvalidRequestError: The name is none, or there are both bytes and a path, or neither.
            OSError: The file cannot be read.
        """
        return await self._store(media)

    @operation
    async def sync(self) -> None:
        """Have Anki synchronise the collection with AnkiWeb, if it is logged in there."""
        await self._anki.call("sync")

    # -- what is there -------------------------------------------------------------------

    async def _collection(self, drafts: Sequence[Draft]) -> Collection:
        """Return what is known of the collection, having seen that the drafts have a place."""
        answers = await self._anki.calls([("deckNamesAndIds", {}), ("modelNamesAndIds", {})])
        for answer in answers:
            if isinstance(answer, FlashcardError):
                raise answer
        decks, note_types = answers
        wanted = sorted({draft.note_type for draft in drafts})
        for name in sorted({draft.deck for draft in drafts if draft.deck}):
            if name not in decks:
                raise DeckNotFoundError(
                    f"There is no deck {name!r}. There are {_listed(decks)}. Make it first."
                )
        for name in wanted:
            if name not in note_types:
                raise NoteTypeNotFoundError(
                    f"There is no note type {name!r}. There are {_listed(note_types)}."
                )
        fields = await self._fields_of(wanted)
        for draft in drafts:
            used = {*draft.note.fields, *draft.note.images, *draft.note.audio}
            if lacking := sorted(used - {*fields[draft.note_type]}):
                raise NoteTypeNotFoundError(
                    f"The note type {draft.note_type!r} has no field {lacking[0]!r}. It has "
                    f"{_listed(fields[draft.note_type])}."
                )
        return Collection(decks, note_types, fields)

    async def _fields_of(self, note_types: Sequence[str]) -> dict[str, list[str]]:
        actions = [("modelFieldNames", {"modelName": name}) for name in note_types]
        found = await self._anki.calls(actions)
        for answer in found:
            if isinstance(answer, FlashcardError):
                raise answer
        return dict(zip(note_types, found, strict=True))

    # -- media ---------------------------------------------------------------------------

    async def _store(self, media: Media) -> str:
        name = safe_name(media.name)
        if (media.data is None) == (media.path is None):
            raise InvalidRequestError(f"The media file {name!r} needs either data or a path.")
        by_path = self.config.media_by_path
        if by_path is None:
            by_path = is_local(self.config.base_url)
        if media.path is not None and not await asyncio.to_thread(_size, media.path):
            raise InvalidRequestError(f"The media file {media.path} is empty.")
        if by_path:
            try:
                if media.path is not None:
                    return await self._stored(name, path=str(media.path.resolve()))
                if media.data is not None and len(media.data) >= LARGE:
                    return await self._stored_from_disk(name, media.data)
            except FlashcardError as error:
                if error.is_backend_failure:
                    raise  # else it may be that Anki does not see the file: within a container say
        data = media.data
        if media.path is not None:
            data = await asyncio.to_thread(media.path.read_bytes)
        if not data:
            raise InvalidRequestError(f"The media file {name!r} is empty.")
        return await self._stored(name, data=base64.b64encode(data).decode())

    async def _stored_from_disk(self, name: str, data: bytes) -> str:
        path = await asyncio.to_thread(_written, data)
        try:
            return await self._stored(name, path=path)
        finally:
            await asyncio.shield(asyncio.to_thread(os.unlink, path))

    async def _stored(self, name: str, **source: Any) -> str:
        try:
            stored = await self._anki.call(
                "storeMediaFile", filename=name, deleteExisting=False, **source
            )
        except FlashcardError as error:
            if "deleteExisting" not in error.message:
                raise
            # It knows no such option, and deletes nothing: so did AnkiConnect until 2021.
            stored = await self._anki.call("storeMediaFile", filename=name, **source)
        return stored if isinstance(stored, str) else name


def _size(path: Path) -> int:
    """Return a file's size, having seen that it can be read."""
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size


def _written(data: bytes) -> str:
    with tempfile.NamedTemporaryFile(prefix="purveyor-", delete=False) as file:
        file.write(data)
    return file.name


def _given(value: str | None, setting: str, place: int) -> str:
    if not value:
        raise InvalidRequestError(
            f"Note {place} has no {setting}: give it one, pass {setting}=, or set {setting} in the "
            "provider's settings."
        )
    return value


def _listed(names: Any) -> str:
    found = sorted(names)
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    return ", ".join(map(repr, found[:20])) + more
