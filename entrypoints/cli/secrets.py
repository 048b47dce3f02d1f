"""A provider's settings from the command line; secret ones never from an argument."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic import BaseModel, SecretStr

from ...providers.registry import secret_fields_of
from .session import USAGE, fail

__all__ = ["AskFor", "FromFile", "FromVariable", "json_of", "settings_from"]

AskFor = Annotated[
    list[str] | None, typer.Option("--secret", metavar="KEY", help="Ask for a secret setting.")
]
FromFile = Annotated[
    list[str] | None,
    typer.Option("--secret-file", metavar="KEY=PATH", help="Read one from a file; - is stdin."),
]
FromVariable = Annotated[
    list[str] | None,
    typer.Option("--secret-env", metavar="KEY=VARIABLE", help="Read one from the environment."),
]


def settings_from(
    arguments: Sequence[str],
    model: type[BaseModel] | None,
    *,
    ask: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
) -> dict[str, Any]:
    """
    Return a provider's settings, secret ones typed as such.

    Ends the command with a message if one of them is given twice, or where it does not belong.

    Args:
        arguments: ``key=text`` or ``key:=JSON``, of what is not secret.
        model: The type's config model, which knows what is secret.
        ask: Keys to ask for, without showing what is typed.
        files: ``key=path`` each; without the line breaks at the end.
        variables: ``key=VARIABLE`` each.
    """
    secret = secret_fields_of(model) if model else frozenset[str]()
    found: dict[str, Any] = {}

    def take(key: str, value: Any) -> None:
        if key in found:
            fail(f"{key} is given twice", USAGE)
        found[key] = value

    for argument in arguments:
        key, value = _pair(argument, "KEY=VALUE")
        if key.rstrip(":") == "type":  # without it nobody knows what is secret
            fail("type is no setting here: give it as --type TYPE", USAGE)
        if key.rstrip(":") in secret:
            _refuse(key.rstrip(":"))
        if key.endswith(":"):
            key, value = key[:-1], json_of(key[:-1], value)
            if isinstance(value, dict):
                for inner in secret.intersection(cast("dict[str, Any]", value)):
                    _refuse(inner)
        take(key, value)
    for argument in files or ():
        key, path = _pair(argument, "KEY=PATH")
        take(key, _secret(key, _read(key, path)))
    for argument in variables or ():
        key, variable = _pair(argument, "KEY=VARIABLE")
        if variable not in os.environ:
            fail(f"{key}: the environment has no variable {variable}", USAGE)
        take(key, _secret(key, os.environ[variable]))
    for key in ask or ():
        if not sys.stdin.isatty():
            fail(f"{key}: nobody can be asked here; use --secret-file or --secret-env", USAGE)
        take(key, _secret(key, typer.prompt(key, hide_input=True, err=True)))
    return found


def _pair(argument: str, form: str) -> tuple[str, str]:
    key, separator, value = argument.partition("=")
    if not separator or not key:
        fail(f"{argument.partition('=')[0]!r} is not of the form {form}", USAGE)
    return key, value


def _refuse(key: str) -> None:
    fail(
        f"{key} is secret, and every user of this machine can see arguments: use --secret {key} to "
        f"be asked, --secret-file {key}=PATH or --secret-env {key}=VARIABLE. Since it was given, "
        "the shell may have kept it in its history.",
        USAGE,
    )


def json_of(key: str, text: str) -> Any:
    """Return what JSON says; ends the command if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        fail(f"{key}: what follows := is no JSON", USAGE)


def _read(key: str, path: str) -> str:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).expanduser().read_text("utf-8")
    except OSError as error:
        fail(f"{key}: {path} cannot be read: {error.strerror}", USAGE)
    except (UnicodeDecodeError, RuntimeError):
        fail(f"{key}: {path} cannot be read as text", USAGE)
    return text.rstrip("\r\n")


def _secret(key: str, text: str) -> SecretStr:
    if not text:
        fail(f"{key}: it is empty", USAGE)
    return SecretStr(text)
