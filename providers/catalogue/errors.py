"""What can be wrong with the catalogue itself."""

from __future__ import annotations

from ..registry.errors import ConnectionFailedError, RegistryError

__all__ = ["CatalogueError", "CatalogueUnavailableError", "ConflictError", "TokenRefusedError"]


class CatalogueError(RegistryError):
    """A database that is no catalogue, or one that this release does not know."""

    def __init__(self, message: str) -> None:
        super().__init__("CATALOGUE_UNUSABLE", message)


class CatalogueUnavailableError(ConnectionFailedError):
    """The database cannot be reached, read or written at the moment."""

    default_code = "CATALOGUE_UNAVAILABLE"


class ConflictError(RegistryError):
    """
    Somebody else changed the entry first.

    ``context`` has the version that was ``expected`` and the ``version`` there is now, None if
    the entry is gone.
    """

    def __init__(self, family: str, name: str, expected: int, version: int | None) -> None:
        now = "removed it" if version is None else f"changed it to version {version}"
        super().__init__(
            "CONFLICT",
            f"The {family} provider {name!r} was not changed: since version {expected} somebody "
            f"else {now}. Look at what is there now, and change that.",
            name,
            {"family": family, "expected": expected, "version": version},
        )


class TokenRefusedError(RegistryError):
    """The token that a caller has shown opens nothing."""

    def __init__(self, message: str) -> None:
        super().__init__("UNAUTHENTICATED", message)
