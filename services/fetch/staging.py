"""All or nothing: a workspace is made beside its place, and put there when it is whole."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from .errors import FetchError
from .manifest import MANIFEST, Manifest

__all__ = ["Staging"]


class Staging:
    """
    A workspace in the making.

    Its place must be free, empty, or hold an earlier workspace, which is replaced as a whole; a
    folder that holds anything else is refused. An earlier one is moved aside for the moment of
    the exchange; should the process end just then, the next fetch into the same place moves it
    back.

    Args:
        place: Where the workspace will be.
    """

    def __init__(self, place: Path) -> None:
        self.place = place.absolute()
        beside = self.place.parent / f".{self.place.name}.{secrets.token_hex(6)}"
        self.folder = beside.with_name(f"{beside.name}.part")
        """What is fetched into."""
        self._old = beside.with_name(f"{beside.name}.old")

    def begin(self) -> None:
        """
        Make the folder to fetch into.

        Raises:
            FetchError: The place holds something else, or cannot be written.
        """
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self._recover()
            if self.place.is_symlink() or (self.place.exists() and not self._is_replaceable()):
                raise FetchError(
                    f"{self.place} holds something that is no workspace. Choose another folder, "
                    "or remove it first; nothing of it was touched.",
                    code="INVALID_PLACE",
                )
            self.folder.mkdir()
        except OSError as error:
            raise self._failure(error) from error

    def finish(self, manifest: Manifest) -> None:
        """
        Put the workspace in its place, with its manifest.

        Raises:
            FetchError: It cannot be put there; an earlier one is there as before.
        """
        old = self._old
        try:
            with (self.folder / MANIFEST).open("x", encoding="utf-8") as file:
                file.write(f"{manifest.model_dump_json(indent=2)}\n")
                file.flush()
                os.fsync(file.fileno())
            if self.place.exists():
                self.place.rename(old)
            try:
                self.folder.rename(self.place)
            except OSError:
                with suppress(FileNotFoundError):
                    old.rename(self.place)
                raise
        except OSError as error:
            raise self._failure(error) from error

    def tidy(self) -> None:
        """Remove what is not in its place: an unfinished workspace, or the one before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.place.exists():
            shutil.rmtree(self._old, ignore_errors=True)

    def _is_replaceable(self) -> bool:
        return self.place.is_dir() and (
            (self.place / MANIFEST).is_file() or not any(self.place.iterdir())
        )

    def _recover(self) -> None:
        """Move back what a process left aside when it ended in the midst of an exchange."""
        for old in sorted(self.place.parent.glob(f".{_literal(self.place.name)}.*.old")):
            if self.place.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(self.place)

    def _failure(self, error: OSError) -> FetchError:
        reason = error.strerror or type(error).__name__
        return FetchError(
            f"Cannot make the workspace {self.place}: {reason}. Make the folder above it "
            "writable for this user, or choose another one.",
            code="WORKSPACE_FAILED",
        )


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
