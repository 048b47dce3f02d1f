"""``purveyor ask``: ask a model, and see the answer as it comes."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .output import print_json, tell
from .session import FAILED, USAGE, Session, fail

if TYPE_CHECKING:
    from ...containers import ApplicationContainer
    from ...providers.ai.model import Completion, Prompt
    from ...services.chat import Briefing

__all__ = ["ask"]

_SIGNATURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


def ask(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="What is asked; - reads stdin.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="The AI provider; else the default one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model; else the provider's own.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instructions above the prompt.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens of the answer at most.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSON schema; the answer is JSON that follows it."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A picture to look at: PNG, JPEG, WebP or GIF."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:ITEM", help="Data to fetch first and to tell the model; patterns too."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the whole answer as JSON, with what it used.")
    ] = False,
) -> None:
    """
    Ask a model; its answer goes to stdout as it comes.

    What comes in by a pipe is asked too: below the prompt, if there is one.

    Example: git diff | purveyor ask 'Write a commit message for this change.'
    Example: purveyor ask --data 'sales:2026/*.csv' 'Which month was the best?'
    """
    from ...providers.ai.model import RequestOptions

    options = RequestOptions()
    if model is not None:
        options["model"] = model
    if system is not None:
        options["system"] = system
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    if schema is not None:
        options["schema"] = _schema(schema)
    asked = _prompt(prompt, image or ())
    whole = as_json or schema is not None

    fetched: list[dict[str, Any]] = []

    async def work(container: ApplicationContainer) -> Completion:
        asks, prompt = container.ai(provider), asked
        if data:
            from ...services.chat import brief

            told = await brief(data, container=container)
            _tell_what_is_left_out(told)
            fetched.extend(one.to_dict() for one in told.items)
            prompt = told.before(prompt)
        if whole:
            return await asks.complete(prompt, **options)
        return await _streamed(asks.stream(prompt, **options))

    session: Session = context.obj
    answer = session.run(work)
    if as_json:
        print_json({**_data(answer), "data_sources": fetched})
    elif schema is not None:
        print_json(answer.data)
    _tell_how_it_ended(answer)


def _prompt(prompt: str | None, pictures: Any) -> Prompt:
    """Return what is asked: the argument, what comes in, and pictures."""
    from ...providers.ai.model import Image, Message, Part, Text

    texts = [prompt] if prompt not in (None, "-") else []
    source: Any = sys.stdin  # None where it was closed
    if source is not None and (prompt == "-" or not source.isatty()):
        try:
            texts.append(source.buffer.read().decode())
        except UnicodeDecodeError:
            fail("what came in by stdin is no text in UTF-8; give a picture with --image.", USAGE)
    text = "\n\n".join(one.strip("\n") for one in texts if one and one.strip())
    if not text:
        fail("there is nothing to ask: give a prompt, or text by stdin.", USAGE)
    if not pictures:
        return text
    parts: list[Part] = [Image(data, media_type) for data, media_type in map(_picture, pictures)]
    return [Message("user", [*parts, Text(text)])]


def _picture(path: Path) -> tuple[bytes, str]:
    data = _read(path)
    for signature, media_type in _SIGNATURES.items():
        if data.startswith(signature):
            return data, media_type
    return fail(f"{str(path)!r} is no picture: it must be PNG, JPEG, WebP or GIF.", USAGE)


def _schema(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(_read(path))
    except ValueError as error:
        fail(f"{str(path)!r} is no JSON: {error}", USAGE)
    if not isinstance(found, dict):
        fail(f"{str(path)!r} is no JSON schema: it must be an object.", USAGE)
    return found  # pyright: ignore[reportUnknownVariableType]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{str(path)!r} cannot be read: {error.strerror}.", USAGE)


async def _streamed(chunks: Any) -> Completion:
    """Write an answer as it comes, and return it."""
    last, whole = "\n", None
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.text:
                    sys.stdout.write(chunk.text)
                    sys.stdout.flush()
                    last = chunk.text[-1]
                whole = chunk.completion
    finally:
        if last != "\n":  # also of a stream that broke off: what follows begins a line
            sys.stdout.write("\n")
            sys.stdout.flush()
    return cast("Completion", whole)  # a stream that ends without it raises


def _tell_what_is_left_out(told: Briefing) -> None:
    for one in told.items:
        if not one.is_text:
            tell(f"{one.source}:{one.item} is not text: the model is told its name only.")
        elif one.is_cut:
            tell(f"{one.source}:{one.item}: the model is told {one.told} of {one.size} bytes.")


def _tell_how_it_ended(answer: Completion) -> None:
    from ...providers.ai.model import FinishReason

    if answer.finish_reason is FinishReason.LENGTH:
        tell("The answer ends here because it has as many tokens as allowed: see --max-tokens.")
    if answer.finish_reason is FinishReason.REFUSED:
        tell("The model refused to answer.")
        raise typer.Exit(FAILED)


def _data(answer: Completion) -> dict[str, Any]:
    usage, cost = answer.usage, answer.usage.cost
    data = answer.data
    return {
        "text": answer.text,
        "data": data,
        "model": answer.model,
        "finish_reason": answer.finish_reason.value,
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "cost": None if cost is None else str(cost),
        },
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)}
            for call in answer.tool_calls
        ],
        "id": answer.id,
    }
