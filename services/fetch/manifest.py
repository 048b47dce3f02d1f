"""The manifest: what a workspace holds, where it came from, and how to know that it is that."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import FetchError

__all__ = ["MANIFEST", "Manifest", "ManifestItem", "read_manifest"]

MANIFEST = "manifest.json"


class ManifestItem(BaseModel):
    """
    One file of a workspace.

    ``path`` is relative to the workspace, with slashes; ``size`` is in bytes, ``rows`` None where
    they were not counted, ``sha256`` in hexadecimal, ``fetched_at`` in UTC. ``query`` is the
    statement whose answer it is, None for an item; its parameters are not kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    item: str
    path: str
    size: int
    rows: int | None
    sha256: str
    fetched_at: datetime
    query: str | None = None


class Manifest(BaseModel):
    """What a workspace holds; ``seconds`` is how long it took to fetch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    fetched_at: datetime
    seconds: float
    items: tuple[ManifestItem, ...]


def read_manifest(workspace: Path) -> Manifest:
    """
    Return the manifest of a workspace.

    Raises:
        FetchError: There is none, or it is none of this release.
    """
    path = workspace / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FetchError(
            f"{workspace} has no manifest that can be read: {error.strerror}. `purveyor sources "
            "fetch` makes one.",
            code="INVALID_MANIFEST",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise FetchError(
            f"{path} is no manifest of this release: {where}: {first['msg']}. Fetch anew.",
            code="INVALID_MANIFEST",
        ) from error
