"""How notes get into Anki: checked, with their media first, each by itself, into their deck."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...web.errors import InvalidRequestError, ServiceError
from .ankiconnect import Action, AnkiConnect, UnknownActionError, groups
from .base import Duplicates, Media, Note, NoteOutcome, NoteResult
from .errors import DuplicateNoteError, FlashcardError
from .names import image_in, safe_name, sound_in

__all__ = ["Adding", "Collection", "Draft"]

DEFAULT_DECK = 1
_BLANK = re.compile(r"[^\S ]")
_SPECIAL = re.compile(r'([\\"*_:])')


@dataclass(frozen=True, slots=True)
class Collection:
    """What is known of a collection: ids of decks and note types by name, and the types' fields."""

    decks: Mapping[str, int]
    note_types: Mapping[str, int]
    fields: Mapping[str, Sequence[str]]


@dataclass(slots=True)
class Draft:
    """
    A note on its way: where it goes, what its fields hold, and what has become of it.

    ``twin`` is the id of the note that is there already, once it was found.
    """

    note: Note
    deck: str
    note_type: str
    fields: dict[str, str] = field(init=False)
    twin: int | None = None
    result: NoteResult | None = None

    def __post_init__(self) -> None:
        self.fields = dict(self.note.fields)

    @property
    def media(self) -> list[tuple[str, Media, Callable[[str], str]]]:
        """The media by field, each with how a field shows it."""
        return [
            *((name, media, image_in) for name, media in self.note.images.items()),
            *((name, media, sound_in) for name, media in self.note.audio.items()),
        ]

    def fill(self, names: Sequence[str]) -> None:
        """Have the fields show the media, by the names the collection has them under."""
        self.fields = dict(self.note.fields)
        for (name, _, shown), stored in zip(self.media, names, strict=True):
            self.fields[name] = self.fields.get(name, "") + shown(stored)

    def fail(self, reason: object) -> None:
        """Note that nothing comes of it."""
        self.result = NoteResult(NoteOutcome.FAILED, reason=str(reason))

    def request(self) -> dict[str, Any]:
        """Return it as AnkiConnect takes it."""
        return {
            "deckName": self.deck,
            "modelName": self.note_type,
            "fields": self.fields,
            "tags": list(self.note.tags),
            "options": {"allowDuplicate": False},
        }


class Adding:
    """
    One call that adds notes.

    Args:
        connection: To Anki.
        collection: What is known of it.
        duplicates: What to do with those that are there already.
        store: Keeps a file in the collection and returns its name there.
    """

    def __init__(
        self,
        connection: AnkiConnect,
        collection: Collection,
        duplicates: Duplicates,
        store: Callable[[Media], Awaitable[str]],
    ) -> None:
        self._anki = connection
        self._collection = collection
        self._duplicates = duplicates
        self._store = store
        self._tells_why = True

    async def add(self, drafts: Sequence[Draft]) -> None:
        """
        Give each draft its result.

        Raises:
            ServiceError: Anki does not answer any more; a note of it, and ``notes_done`` in its
                context, tell how far this came.
        """
        done = 0
        try:
            for group in groups(drafts, _size):
                await self._add(group)
                done += len(group)
        except ServiceError as error:
            error.context["notes_done"] = done
            error.add_note(
                f"{done} of {len(drafts)} notes were done. Add them all again: those that are "
                "there already are duplicates then."
            )
            raise

    async def _add(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            _check(draft)
        first, again = self._each_once([one for one in drafts if one.result is None])
        new, present = await self._told_apart(first)
        for draft in [*new, *(present if self._duplicates == "update" else ())]:
            await self._keep_media(draft)
        new = [draft for draft in new if draft.result is None]
        added: list[Draft] = []
        late: list[Draft] = []  # somebody else added them just now
        answers = await self._anki.calls([("addNote", {"note": one.request()}) for one in new])
        for draft, answer in zip(new, answers, strict=True):
            if isinstance(answer, DuplicateNoteError):
                late.append(draft)
            elif isinstance(answer, int):
                draft.result = NoteResult(NoteOutcome.ADDED, answer)
                added.append(draft)
            else:
                draft.fail(answer or "Anki does not take it, and does not say why.")
        await self._move(added)
        await self._find_twins(late)
        await self._settle([one for one in (*present, *late) if one.result is None])
        if again:
            await self._add(again)

    def _each_once(self, drafts: Sequence[Draft]) -> tuple[list[Draft], list[Draft]]:
        """Return the first draft with each first field, and the others."""
        first: dict[tuple[str, str], Draft] = {}
        again = [
            draft
            for draft in drafts
            if first.setdefault((draft.note_type, self._first(draft)), draft) is not draft
        ]
        return list(first.values()), again

    async def _told_apart(self, drafts: Sequence[Draft]) -> tuple[list[Draft], list[Draft]]:
        """Return those that can be added, and those that are there; what else there is fails."""
        new: list[Draft] = []
        present: list[Draft] = []
        unclear: list[Draft] = []
        for draft, reason in zip(drafts, await self._reasons(drafts), strict=True):
            if reason is None:
                new.append(draft)
            elif "is a duplicate" in reason:
                present.append(draft)
            elif reason:
                draft.fail(f"Anki does not take it: {reason}.")
            else:
                unclear.append(draft)
        await self._find_twins([*present, *unclear])
        for draft in unclear:
            if draft.twin is not None:
                present.append(draft)
            else:
                draft.fail(
                    "Anki does not take it, its first field being empty perhaps; this version of "
                    "AnkiConnect does not say why."
                )
        return new, present

    async def _reasons(self, drafts: Sequence[Draft]) -> list[str | None]:
        """Return why Anki would not take notes: empty if it does not say, None if it would."""
        if not drafts:
            return []
        notes = [draft.request() for draft in drafts]
        if self._tells_why:
            try:
                told = await self._anki.call("canAddNotesWithErrorDetail", notes=notes)
                return [None if one["canAdd"] else str(one.get("error", "")) for one in told]
            except UnknownActionError:  # before 2024
                self._tells_why = False
        return [None if can else "" for can in await self._anki.call("canAddNotes", notes=notes)]

    async def _keep_media(self, draft: Draft) -> None:
        try:
            draft.fill([await self._store(media) for _, media, _ in draft.media])
        except (FlashcardError, InvalidRequestError, OSError) as error:
            if isinstance(error, ServiceError) and error.is_backend_failure:
                raise
            draft.fail(f"Its media cannot be kept: {error}")

    async def _settle(self, drafts: Sequence[Draft]) -> None:
        """Deal with notes that are there already."""
        actions: list[Action] = []
        owners: list[Draft] = []
        for draft in drafts:
            if self._duplicates == "skip":
                draft.result = NoteResult(NoteOutcome.SKIPPED, draft.twin)
            elif self._duplicates == "error" or draft.twin is None:
                draft.fail(f"A {draft.note_type} note with this first field is there already.")
            else:
                draft.result = NoteResult(NoteOutcome.UPDATED, draft.twin)
                changes = self._changes(draft, draft.twin)
                actions += changes
                owners += [draft] * len(changes)
        for draft, answer in zip(owners, await self._anki.calls(actions), strict=True):
            if isinstance(answer, FlashcardError):
                draft.fail(answer)

    def _changes(self, draft: Draft, found: int) -> list[Action]:
        first = self._collection.fields[draft.note_type][0]
        others = {name: text for name, text in draft.fields.items() if name != first}
        actions: list[Action] = []
        if others:
            actions.append(("updateNoteFields", {"note": {"id": found, "fields": others}}))
        if draft.note.tags:
            actions.append(("addTags", {"notes": [found], "tags": " ".join(draft.note.tags)}))
        return actions

    # -- looking for notes ---------------------------------------------------------------

    async def ids(self, drafts: Sequence[Draft]) -> list[int | None]:
        """Return the ids of the notes that have the drafts' first fields."""
        await self._find_twins(drafts)
        return [draft.twin for draft in drafts]

    async def _find_twins(self, drafts: Sequence[Draft]) -> None:
        """Find the notes that have the drafts' first fields."""
        actions = [("findNotes", {"query": self._search(draft)}) for draft in drafts]
        for draft, answer in zip(drafts, await self._anki.calls(actions), strict=True):
            ids = [] if isinstance(answer, FlashcardError) else sorted(answer)
            if ids and _BLANK.search(self._first(draft)):
                ids = await self._with_first(draft, ids)
            draft.twin = ids[0] if ids else None

    def _first(self, draft: Draft) -> str:
        return draft.fields.get(self._collection.fields[draft.note_type][0], "")

    def _search(self, draft: Draft) -> str:
        """
        Return the search for notes with the draft's first field.

        ``dupe:`` is Anki's own notion of that, by an index. But a search's line breaks, tabs and
        ideographic spaces become spaces, so that it finds no text that has them.
        """
        note_type = self._collection.note_types[draft.note_type]
        text = self._first(draft)
        if not _BLANK.search(text):
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            return f'"dupe:{note_type},{escaped}"'
        name = _SPECIAL.sub(r"\\\1", self._collection.fields[draft.note_type][0])
        any_blank = _BLANK.sub("_", _SPECIAL.sub(r"\\\1", text))
        return f'mid:{note_type} "{name}:{any_blank}"'

    async def _with_first(self, draft: Draft, ids: Sequence[int]) -> list[int]:
        name = self._collection.fields[draft.note_type][0]
        notes = await self._anki.call("notesInfo", notes=ids)
        text = self._first(draft)
        return [note["noteId"] for note in notes if note["fields"][name]["value"] == text]

    # -- after they are added ------------------------------------------------------------

    async def _move(self, added: Sequence[Draft]) -> None:
        """Move cards to their decks that a version of AnkiConnect put into the default one."""
        by_deck: dict[str, list[int]] = {}
        for draft in added:
            if (
                draft.result
                and draft.result.id
                and self._collection.decks[draft.deck] != DEFAULT_DECK
            ):
                by_deck.setdefault(draft.deck, []).append(draft.result.id)
        searches: list[Action] = [
            ("findCards", {"query": f"did:{DEFAULT_DECK} nid:{','.join(map(str, ids))}"})
            for ids in by_deck.values()
        ]
        moves: list[Action] = []
        for deck, cards in zip(by_deck, await self._anki.calls(searches), strict=True):
            if isinstance(cards, FlashcardError):
                raise cards
            if cards:
                moves.append(("changeDeck", {"cards": cards, "deck": deck}))
        for answer in await self._anki.calls(moves):
            if isinstance(answer, FlashcardError):
                raise answer


def _check(draft: Draft) -> None:
    """Fail a draft for what can be told without asking; show its media by their likely names."""
    for tag in draft.note.tags:
        if not tag or re.search(r"\s", tag):
            draft.fail(f"The tag {tag!r} is empty or has spaces: write my_tag or my::tag.")
            return
    try:
        draft.fill([safe_name(media.name) for _, media, _ in draft.media])
    except InvalidRequestError as error:
        draft.fail(error)


def _size(draft: Draft) -> int:
    return len(json.dumps(draft.request()))
