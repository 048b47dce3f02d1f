"""Access tokens: who may call, kept as digests only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..registry.access import Role
from ..registry.errors import AlreadyExistsError, InvalidNameError, NotFoundError, nearest_first
from .audit import utc
from .errors import TokenRefusedError

if TYPE_CHECKING:
    from .catalogue import Catalogue

__all__ = ["Token", "Tokens"]

PREFIX = "pvy"
_FRESH = 5.0
"""Seconds after which a process looks whether another one made or revoked tokens."""
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; the token itself is known to its holder alone."""

    id: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it opens anything now."""
        expired = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        return self.revoked_at is None and not expired

    def to_dict(self) -> dict[str, object]:
        """Return the same as JSON-safe data."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role.name.lower(),
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "revoked_at": self.revoked_at.isoformat() if self.revoked_at else None,
        }


class Tokens:
    """
    The access tokens of a catalogue, the same for all processes that share it.

    A token is ``pvy_<id>_<256 random bits>``. Its SHA-256 is kept: of so much chance that is as
    good as a slow hash. A process that another one tells nothing sees its changes within 5 s.

    Args:
        catalogue: Whose database they are in.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: Mapping[str, tuple[Token, str]] = {}
        self._known_until = 0.0
        self._reading = asyncio.Lock()

    async def create(
        self, name: str, role: Role, *, lifetime: timedelta | None = None
    ) -> tuple[Token, str]:
        """
        Make a token.

        Args:
            name: For people, and for the records of changes; no two valid tokens share one.
            role: What its holder may do.
            lifetime: For how long; until it is revoked when not given.

        Returns:
            What is known of it, and the token itself, which is not kept.

        Raises:
            AlreadyExistsError: A valid token has the name.
            InvalidNameError: The name is empty, too long or holds control characters.
            CatalogueUnavailableError: The database cannot be reached or written.
        """
        if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise InvalidNameError(
                f"A token cannot be named {name!r}: give 1 to {_LONGEST_NAME} printable characters."
            )
        created = datetime.now(UTC)
        expires = None if lifetime is None else created + lifetime
        token = Token(secrets.token_hex(4), name, role, created, expires)
        text = f"{PREFIX}_{token.id}_{secrets.token_urlsafe(32)}"
        from .model import tokens as table

        async with self._catalogue.store().writing_aside() as connection:
            rows = await connection.execute(table.select().where(table.c.name == name))
            if any(_token(row).is_valid for row in rows):
                raise AlreadyExistsError(
                    f"There is a token {name!r} already. Choose another name, or revoke it first: "
                    f"purveyor tokens revoke {name}"
                )
            values = {
                "id": token.id,
                "name": name,
                "role": role.name.lower(),
                "digest": _digest(text),
                "created_at": created,
                "expires_at": expires,
                "revoked_at": None,
            }
            await connection.execute(table.insert().values(**values))
        self._known_until = 0.0
        return token, text

    async def list(self) -> list[Token]:
        """Return all tokens, also those that are expired or revoked, oldest first."""
        return [token for token, _ in (await self._read()).values()]

    async def revoke(self, name: str) -> Token:
        """
        End a token, given its name or its id.

        Raises:
            NotFoundError: There is no valid token of that name or id.
        """
        valid = [token for token in await self.list() if token.is_valid]
        found = next((token for token in valid if name in (token.name, token.id)), None)
        if found is None:
            names = nearest_first(name, [token.name for token in valid])
            there_are = f"There are these: {', '.join(names)}." if names else "There is none."
            raise NotFoundError(f"No valid token has the name or id {name!r}. {there_are}")
        from .model import tokens as table

        async with self._catalogue.store().writing_aside() as connection:
            await connection.execute(
                table.update().where(table.c.id == found.id).values(revoked_at=datetime.now(UTC))
            )
        self._known_until = 0.0
        return found

    async def exist(self) -> bool:
        """Tell whether any valid token was made."""
        return any(token.is_valid for token, _ in (await self._recent()).values())

    async def verify(self, text: str) -> Token:
        """
        Return the token that a caller has shown.

        Raises:
            TokenRefusedError: It is unknown, expired or revoked.
            CatalogueUnavailableError: The database cannot be reached.
        """
        _, _, rest = text.partition("_")
        token, digest = (await self._recent()).get(rest.partition("_")[0], (None, ""))
        if token is None or not hmac.compare_digest(digest, _digest(text)):
            raise TokenRefusedError("The token is unknown. Ask an operator for one.")
        if not token.is_valid:
            why = "was revoked" if token.revoked_at else "has expired"
            raise TokenRefusedError(f"The token {token.name!r} {why}. Ask an operator for another.")
        return token

    async def _recent(self) -> Mapping[str, tuple[Token, str]]:
        if monotonic() < self._known_until:
            return self._known
        async with self._reading:
            if monotonic() >= self._known_until:
                self._known = await self._read()
                self._known_until = monotonic() + _FRESH
        return self._known

    async def _read(self) -> Mapping[str, tuple[Token, str]]:
        if not self._catalogue.is_present():
            return {}
        store = self._catalogue.store()
        from .model import tokens as table

        async with store.reading() as connection:
            rows = await connection.execute(table.select().order_by(table.c.created_at))
            return {row.id: (_token(row), row.digest) for row in rows}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _token(row: Any) -> Token:
    return Token(
        row.id,
        row.name,
        Role[row.role.upper()],
        utc(row.created_at),
        row.expires_at and utc(row.expires_at),
        row.revoked_at and utc(row.revoked_at),
    )
