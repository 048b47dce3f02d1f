"""From the rows of a table to notes, and to the pictures and sounds that they need."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...providers.media.flashcards import Duplicates, Note, NoteType
from ...providers.media.images import ImageOptions
from ...providers.registry.errors import nearest_first
from .errors import TableError, TableFault
from .jobs import ImageJob, Job, PronunciationJob
from .table import Row, Table

__all__ = ["CardOptions", "PlannedMedia", "PlannedNote", "plan_notes"]

Kind = Literal["image", "audio"]

_FIELDS: Mapping[Kind, Sequence[str]] = {
    "image": ("image", "picture"),
    "audio": ("audio", "sound", "pronunciation"),
}
_COLUMNS: Mapping[Kind, str] = {"image": "image_prompt", "audio": "word"}
_NAMES: Mapping[Kind, str] = {"image": "pictures", "audio": "sounds"}


@dataclass(frozen=True, slots=True)
class CardOptions:
    """
    How a table becomes notes.

    Columns and fields may be named in upper or lower case.

    Args:
        deck: Where they go; the provider's own when not given.
        note_type: Their type; the provider's own when not given.
        duplicates: For notes that are there already: leave them, change them, or call it a failure.
        images: Columns that hold what a picture is to show, and the field it is appended to; None
            is the field ``Image`` or ``Picture``, or the last one. When not given:
            ``image_prompt``, if there is such a column.
        sounds: Columns that hold a word to be pronounced, and the field the sound is appended to;
            None is the field ``Audio``, ``Sound`` or ``Pronunciation``, or the last one. When not
            given: ``word``, if there is such a column, and a language.
        language_column: The column that holds the word's language, ``en`` say.
        language: The language of all words; then the column is not needed.
        tags_column: The column of tags, separated by spaces.
        html: Cells are HTML; else they are text, as which it is shown.
        incomplete: A row whose picture or sound is not to be had is added without it; else it
            fails.
        image_provider: Who makes the pictures; the pipeline's preferred one when not given.
        audio_provider: Who has the sounds; likewise.
        image_options: What is said of every picture.
    """

    deck: str | None = None
    note_type: str | None = None
    duplicates: Duplicates = "skip"
    images: Mapping[str, str | None] | None = None
    sounds: Mapping[str, str | None] | None = None
    language_column: str = "language"
    language: str | None = None
    tags_column: str = "tags"
    html: bool = False
    incomplete: bool = False
    image_provider: str | None = None
    audio_provider: str | None = None
    image_options: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True, slots=True)
class PlannedMedia:
    """A picture or a sound that a note needs, and for which field."""

    kind: Kind
    field: str
    job: Job


@dataclass(frozen=True, slots=True)
class PlannedNote:
    """A note as a row of the table has it, what it needs, and what tells it apart."""

    line: int
    note: Note
    media: Sequence[PlannedMedia]
    first: str
    attribution: str | None = None
    """The field for what has to be said where a sound is used, if the type has one to spare."""


def plan_notes(table: Table, note_type: NoteType, options: CardOptions) -> list[PlannedNote]:
    """
    Return the notes that a table holds, in order.

    Raises:
        TableError: Of all that is wrong with its columns, then of all that is wrong with rows.
    """
    return _Plan(table, note_type, options).notes()


class _Plan:
    def __init__(self, table: Table, note_type: NoteType, options: CardOptions) -> None:
        self._table = table
        self._type = note_type
        self._options = options
        self._faults: list[TableFault] = []
        self._fields = {one: name for one in table.columns if (name := self._field(one))}
        self._language = self._column(options.language_column)
        self._tags = self._column(options.tags_column)
        self._images = self._media("image", options.images)
        self._sounds = self._media("audio", options.sounds)
        self._check_columns()

    def notes(self) -> list[PlannedNote]:
        planned = [self._note(row) for row in self._table.rows]
        self._raise_faults()
        return planned

    # -- columns -------------------------------------------------------------------------

    def _field(self, column: str) -> str | None:
        """Return the field that a column, or a user, means."""
        return _alike(column, self._type.fields)

    def _column(self, name: str) -> str | None:
        """Return the column that an option means."""
        return _alike(name, self._table.columns)

    def _media(self, kind: Kind, given: Mapping[str, str | None] | None) -> dict[str, str]:
        """Return which columns are for pictures, or for sounds, and the field of each."""
        if given is None:
            column = self._column(_COLUMNS[kind])
            language = self._options.language or self._language
            # Without a language a column of words may still be what the note type has a field for.
            wanted = column and (kind == "image" or language or self._field(column) is None)
            given = {_COLUMNS[kind]: None} if wanted else {}
        found: dict[str, str] = {}
        for wish, name in given.items():
            column = self._column(wish)
            if column is None:
                self._fault(f"there is no such column, of which {_NAMES[kind]} are made.", wish)
                continue
            target = self._usual_field(kind) if name is None else self._field(name)
            if target is None:
                self._fault(f"the note type {self._type.name!r} has no field {name!r}.", column)
            elif target in found.values():
                self._fault(f"the field {target!r} takes one {kind} only.", column)
            else:
                found[column] = target
        return found

    def _usual_field(self, kind: Kind) -> str:
        names = [self._field(name) for name in _FIELDS[kind]]
        return next(filter(None, names), self._type.fields[-1])

    def _check_columns(self) -> None:
        options, columns = self._options, self._table.columns
        usual = (*_COLUMNS.values(), options.language_column, options.tags_column)
        special = {column for name in usual if (column := self._column(name))}
        for column in columns:
            if column not in {*self._fields, *self._images, *self._sounds, *special}:
                near = nearest_first(column, [*self._type.fields, *usual])
                self._fault(
                    f"the note type {self._type.name!r} has no such field, and no option names "
                    f"the column. There are: {', '.join(near)}.",
                    column,
                )
        meant = set(self._fields.values())
        if len(meant) < len(self._fields):
            self._fault("two columns mean the same field; they differ in upper and lower case.")
        if self._type.fields[0] not in meant:
            self._fault(
                f"there is no column {self._type.fields[0]!r}, the field that tells notes of the "
                f"type {self._type.name!r} apart."
            )
        if self._sounds and not options.language and self._language is None:
            self._fault(
                "the language of the words is not known: give it (--language), or a column "
                f"{options.language_column!r}, or make no sounds (--no-sounds)."
            )
        self._raise_faults()

    # -- rows ----------------------------------------------------------------------------

    def _note(self, row: Row) -> PlannedNote:
        fields = {name: self._html(row.cells[column]) for column, name in self._fields.items()}
        first = fields[self._type.fields[0]].strip()
        if not first:
            column = next(one for one, name in self._fields.items() if name == self._type.fields[0])
            self._fault("is empty, and it is what tells notes apart.", column, row.line)
        options = self._options
        media: list[PlannedMedia] = []
        for column, target in self._images.items():
            if prompt := row.cells[column].strip():
                job = ImageJob(
                    f"{row.line}:{column}",
                    prompt,
                    options.image_options,
                    provider=options.image_provider,
                )
                media.append(PlannedMedia("image", target, job))
        for column, target in self._sounds.items():
            if word := row.cells[column].strip():
                given = row.cells.get(self._language or "", "").strip()
                language = given or options.language or ""
                if not language:
                    self._fault("is empty: which language?", self._language or "", row.line)
                job = PronunciationJob(
                    f"{row.line}:{column}", word, language, provider=options.audio_provider
                )
                media.append(PlannedMedia("audio", target, job))
        tags = row.cells.get(self._tags or "", "").split()
        spare = self._field("attribution")
        attribution = None if spare in fields else spare
        return PlannedNote(row.line, Note(fields, tags), media, first, attribution)

    def _html(self, text: str) -> str:
        if self._options.html:
            return text
        return html.escape(text, quote=False).replace("\r\n", "\n").replace("\n", "<br>")

    # -- faults --------------------------------------------------------------------------

    def _fault(self, reason: str, column: str = "", line: int | None = None) -> None:
        self._faults.append(TableFault(reason, line, column))

    def _raise_faults(self) -> None:
        if self._faults:
            raise TableError(self._table.name, self._faults)


def _alike(name: str, names: Sequence[str]) -> str | None:
    """Return the one of ``names`` that is meant: the same, or but for upper and lower case."""
    if name in names:
        return name
    alike = [one for one in names if one.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None
