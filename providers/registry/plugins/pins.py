"""The pins: which plugins are trusted, byte by byte."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import PluginRejectedError
from .files import PluginFiles, read_alone
from .manifest import Fault

__all__ = ["PINS", "Pin", "Pins", "pin_faults", "read_pins", "write_pins"]

PINS = "pins.json"
"""Name of the file of pins in the folder of plugins, where the settings name no other."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Pin(_Part):
    """What is trusted of one plugin: a version, and the SHA-256 of each of its files."""

    version: str
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]


class Pins(_Part):
    """The file of pins."""

    version: Literal[1] = 1
    plugins: dict[str, Pin] = Field(default_factory=dict[str, Pin])


def read_pins(path: Path) -> Pins:
    """
    Return the pins; none where there is no file yet.

    Raises:
        PluginRejectedError: The file cannot be trusted or understood.
    """
    try:
        data, faults = read_alone(path)
    except FileNotFoundError:
        return Pins()
    except OSError as error:
        data, faults = b"", [_fault(path, f"cannot be read: {error.strerror or error}")]
    if not faults:
        try:
            return Pins.model_validate_json(data)
        except ValidationError:
            faults = [_fault(path, "is no file of pins")]
    raise PluginRejectedError(
        f"The pins cannot be trusted: {'; '.join(map(str, faults))}",
        context={"reasons": [fault.model_dump() for fault in faults]},
    )


def _fault(path: Path, reason: str) -> Fault:
    return Fault(
        where=str(path),
        reason=reason,
        remedy="Restore it, or remove it and pin anew: purveyor plugins pin NAME",
    )


def write_pins(path: Path, pins: Pins) -> None:
    """Write the pins, all or nothing, readable by this user alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(pins.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - both are paths already
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - as above
        raise


def pin_faults(name: str, files: PluginFiles, pin: Pin | None, folder: Path) -> list[Fault]:
    """Return every difference between a folder and its pin."""
    again = f"If you trust it as it is now: purveyor plugins pin {name}"
    if pin is None:
        return [
            Fault(
                where=str(folder),
                reason="is not pinned",
                remedy=f"Read what it does; then: purveyor plugins pin {name}",
            )
        ]
    differences: Iterable[tuple[set[str], str]] = (
        (pin.files.keys() - files.hashes.keys(), "is pinned and missing"),
        (files.hashes.keys() - pin.files.keys(), "is not pinned: an extra file"),
        (
            {one for one in pin.files.keys() & files.hashes if pin.files[one] != files.hashes[one]},
            "has changed since it was pinned",
        ),
    )
    return [
        Fault(where=str(folder / file), reason=reason, remedy=again)
        for names, reason in differences
        for file in sorted(names)
    ]
