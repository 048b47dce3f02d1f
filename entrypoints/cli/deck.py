"""``purveyor deck``: flashcards from a table."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ...providers.registry import RegistryError
from .media import image_options
from .output import complain, print_json, tell
from .session import FAILED, Session, ended_by, exit_code_of, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...containers import ApplicationContainer
    from ...services.pipelines import CardsEvent, CardsResult

__all__ = ["app"]

app = typer.Typer(help="Flashcards.", no_args_is_help=True, rich_markup_mode=None)

Provider = Annotated[
    str | None, typer.Option(metavar="NAME", help="The flashcard provider; else the default one.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is no amount such as 0.50")
    return amount


@app.command("list")
def list_decks(context: typer.Context, provider: Provider = None, as_json: Json = False) -> None:
    """
    List the decks there are.

    Example: purveyor deck list
    """

    async def work(container: ApplicationContainer) -> Sequence[str]:
        return await container.flashcards(provider).decks()

    session: Session = context.obj
    decks = session.run(work)
    if as_json:
        print_json(list(decks))
    for name in decks if not as_json else ():
        typer.echo(name)


@app.command()
def push(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="UTF-8; the first line names the columns.")
    ],
    deck: Annotated[
        str | None, typer.Option(metavar="DECK", help="Where notes go; else the provider's own.")
    ] = None,
    note_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Their type; else the provider's own.")
    ] = None,
    duplicates: Annotated[
        Literal["skip", "update", "error"],
        typer.Option(help="What to do with notes that are there already."),
    ] = "skip",
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[=FIELD]", help="Make a picture of it for each row (image_prompt)."
        ),
    ] = None,
    sounds: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN[=FIELD]", help="Have it pronounced for each row (word)."),
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Make no pictures.")] = False,
    no_sounds: Annotated[bool, typer.Option("--no-sounds", help="Load no sounds.")] = False,
    language: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Of words, where the column language has none."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Cells are HTML, not text.")] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Push a row without what cannot be had for it.")
    ] = False,
    pipeline: Annotated[
        str, typer.Option(metavar="NAME", help="Whose providers make pictures and sounds.")
    ] = "cards",
    provider: Provider = None,
    image_provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who makes the pictures.")
    ] = None,
    audio_provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who has the sounds.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Of pictures.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Of pictures, in pixels.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(metavar="WORD", help="Of pictures, in the service's words.")
    ] = None,
    keep: Annotated[
        str, typer.Option(metavar="PLACE", help="Where pictures are kept, not to be paid twice.")
    ] = ":pipelines/",
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Services asked at a time.")] = 4,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHARACTER", help="Between cells: else , ; or tab.")
    ] = None,
    max_cost: Annotated[
        Decimal | None,
        typer.Option(parser=_amount, metavar="AMOUNT", help="What the pictures may cost."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Tell what it would do and cost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Make a note of each row, with a picture and a sound, and push it to a deck.

    Columns are fields of the note type; the column tags has tags. What is wrong with the file is
    told before anything is paid. Rows whose note is there already cost nothing. Run it again to
    go on where it was.

    Example: purveyor deck push words.csv --deck Spanish --images picture=Front --max-cost 2.50
    """
    from ...services.pipelines import CardOptions, Pipeline, push_cards, read_table

    options = CardOptions(
        deck=deck,
        note_type=note_type,
        duplicates=duplicates,
        images={} if no_images else _columns(images),
        sounds={} if no_sounds else _columns(sounds),
        language=language,
        html=html,
        incomplete=incomplete,
        image_provider=image_provider,
        audio_provider=audio_provider,
        image_options=image_options(model=model, size=size, quality=quality),
    )
    done = _Done(file.name, dry_run=dry_run, as_json=as_json)

    async def work(container: ApplicationContainer) -> CardsResult:
        return await push_cards(
            read_table(file, delimiter=delimiter),
            Pipeline(pipeline, container, keep=keep, concurrency=jobs),
            provider=provider,
            options=options,
            max_cost=max_cost,
            dry_run=dry_run,
            observer=done.observer,
        )

    session: Session = context.obj
    try:
        with _progress(wanted=not dry_run) as shown:
            done.shown = shown
            result = session.run(work)
    except RegistryError:  # a lost connection is an OSError too
        raise
    except OSError as error:
        fail(f"{str(file)!r} cannot be read: {error.strerror or error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        word, code = ended_by()
        complain(
            f"{word}: pushed so far: {done.pushed}; pictures that were made are kept. "
            "Run the same command again to go on."
        )
        raise typer.Exit(code) from None
    _print(result, as_json=as_json)
    if result.error is not None:
        raise typer.Exit(exit_code_of(result.error))
    if not result.success:
        raise typer.Exit(FAILED)


def _columns(given: list[str] | None) -> dict[str, str | None] | None:
    """Return columns with the field each is for, of ``COLUMN`` and ``COLUMN=FIELD``."""
    if not given:
        return None
    parts = (text.partition("=") for text in given)
    return {column: field or None for column, _, field in parts}


def _progress(*, wanted: bool) -> AbstractContextManager[Callable[[CardsEvent], None] | None]:
    if not wanted or not sys.stderr.isatty():
        return nullcontext()
    from .deck_progress import CardsProgress  # it takes a while to import
    from .progress import wants_progress

    return CardsProgress() if wants_progress() else nullcontext()


class _Done:
    """Says what became of each row, as far as it is worth a line."""

    def __init__(self, file: str, *, dry_run: bool, as_json: bool) -> None:
        self._file = file
        self._prints = dry_run and not as_json
        self.pushed = 0
        self.shown: Callable[[CardsEvent], None] | None = None

    def observer(self, event: CardsEvent) -> None:
        from ...services.pipelines import RowFinished, RowOutcome

        if isinstance(event, RowFinished):
            row = event.result
            if row.outcome in (RowOutcome.ADDED, RowOutcome.UPDATED):
                self.pushed += 1
            elif row.outcome is RowOutcome.FAILED:
                complain(f"{self._file}: line {row.line}: {row.reason}")
            elif row.outcome is RowOutcome.WOULD_PUSH and self._prints:
                typer.echo(f"push\t{row.line}\t{row.first}")
        if self.shown is not None:
            self.shown(event)


def _print(result: CardsResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result.to_dict())
    else:
        _print_summary(result)
    if result.error is not None:
        complain(result.error.message)


def _print_summary(result: CardsResult) -> None:
    from ...services.pipelines import RowOutcome

    words: dict[Any, str] = {one: one.value.replace("_", " ") for one in RowOutcome}
    counts = [(result.count(one), words[one]) for one in RowOutcome]
    parts = [f"{count} {word}" for count, word in counts if count]
    waiting = [row for row in result.rows if row.outcome is RowOutcome.NOT_DONE]
    if waiting:
        tell(f"not done from line {waiting[0].line} on: {waiting[0].reason}")
    if result.dry_run:
        tell(f"{', '.join(parts)}; {result.estimate}")  # stdout holds the rows
        return
    more = f" and {result.unknown} rows of unknown cost" if result.unknown else ""
    typer.echo(f"{', '.join(parts)}; cost {result.cost}{more}")
