"""``purveyor image`` and ``purveyor pronounce``: one picture, one word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ...providers.registry import RegistryError
from .output import print_json, print_table, tell
from .session import USAGE, Session, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...containers import ApplicationContainer
    from ...providers.media.audio import Pronunciation, Recording
    from ...providers.media.images import GeneratedImage, ImageOptions

__all__ = ["image", "image_options", "pronounce"]

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")
]


def image_options(**given: str | None) -> ImageOptions:
    """Return what is said of a picture: what was given."""
    from ...providers.media.images import ImageOptions

    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return ImageOptions(**options)


def image(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is to be seen.")],
    output: Output = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="The image provider; else the default one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model; else the provider's own.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="In pixels, 1024x1024 say.")
    ] = None,
    format: Annotated[
        Literal["png", "jpeg", "webp"] | None,
        typer.Option(help="The file's format; else as its suffix says."),
    ] = None,
    quality: Annotated[
        str | None, typer.Option(metavar="WORD", help="In the service's own words.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=100, help="How many; the files are called FILE-1, FILE-2 ...")
    ] = 1,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Tell what it would cost, and ask nobody.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Have a picture made.

    Example: purveyor image 'a red fox in the snow' -o fox.png --size 1024x1024
    """
    options = image_options(model=model, size=size, format=format, quality=quality)
    session: Session = context.obj
    if estimate:

        async def price(container: ApplicationContainer) -> Any:
            return container.images(provider).estimate_cost(count=count, **options)

        cost = session.run(price)
        if as_json:
            print_json({"count": count, "cost": None if cost is None else str(cost)})
        else:
            typer.echo("unknown" if cost is None else str(cost))
        return
    if output is None:
        fail("there is no file to write: give -o FILE.", USAGE)
    path = output

    async def work(container: ApplicationContainer) -> Sequence[GeneratedImage]:
        return await container.images(provider).generate(prompt, count=count, path=path, **options)

    try:
        made = session.run(work)
    except RegistryError:  # a lost connection is an OSError too
        raise
    except OSError as error:
        fail(_reason(path, error))
    if as_json:
        print_json([_image_data(one) for one in made])
        return
    print_table(
        ("file", "size", "model", "cost"),
        [
            (
                one.path or "",
                f"{one.width}x{one.height}",
                one.model,
                "" if one.cost is None else one.cost,
            )
            for one in made
        ],
    )


def pronounce(
    context: typer.Context,
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word or a phrase.")],
    language: Annotated[str, typer.Argument(metavar="LANGUAGE", help="Its code, en say.")],
    output: Output = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="The audio provider; else the default one.")
    ] = None,
    country: Annotated[
        str | None, typer.Option(metavar="COUNTRY", help="Where the speaker is from.")
    ] = None,
    sex: Annotated[Literal["female", "male"] | None, typer.Option(help="Of the speaker.")] = None,
    min_votes: Annotated[
        int | None, typer.Option(metavar="N", help="Only recordings with so many votes.")
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the recordings there are; load none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Load how a word is pronounced: the best recording there is.

    Example: purveyor pronounce Eichhörnchen de -o word.mp3
    """
    which: dict[str, Any] = {"country": country, "sex": sex, "min_votes": min_votes}
    session: Session = context.obj
    if listed:

        async def recordings(container: ApplicationContainer) -> Sequence[Recording]:
            return await container.audio(provider).recordings(word, language, **which)

        _print_recordings(session.run(recordings), as_json=as_json)
        return
    if output is None:
        fail("there is no file to write: give -o FILE.", USAGE)
    path = output

    async def work(container: ApplicationContainer) -> Pronunciation:
        return await container.audio(provider).pronounce(word, language, path=path, **which)

    try:
        found = session.run(work)
    except RegistryError:  # a lost connection is an OSError too
        raise
    except OSError as error:
        fail(_reason(path, error))
    if as_json:
        print_json({**_recording_data(found.recording), "path": str(found.path or path)})
        return
    typer.echo(str(found.path or path))
    tell(_attribution(found.recording))


def _print_recordings(found: Sequence[Recording], *, as_json: bool) -> None:
    if as_json:
        print_json([_recording_data(one) for one in found])
        return
    print_table(
        ("id", "votes", "country", "sex", "speaker"),
        [(one.id, one.votes, one.country, one.sex or "", one.speaker) for one in found],
    )


def _attribution(recording: Recording) -> str:
    return recording.attribution or f"spoken by {recording.speaker or 'an unnamed speaker'}"


def _recording_data(one: Recording) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one)


def _image_data(one: GeneratedImage) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "media_type": one.media_type,
        "model": one.model,
        "width": one.width,
        "height": one.height,
        "cost": None if one.cost is None else str(one.cost),
        "revised_prompt": one.revised_prompt,
    }


def _reason(path: Path, error: OSError) -> str:
    return f"{str(path)!r} cannot be written: {error.strerror or error}"
