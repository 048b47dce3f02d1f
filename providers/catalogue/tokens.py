"""Access tokens: who may call, kept as digests only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import shlex
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..registry.access import Role
from ..registry.errors import AlreadyExistsError, InvalidNameError, NotFoundError, nearest_first
from .audit import ANONYMOUS, CLI, utc
from .errors import CatalogueUnavailableError, TokenRefusedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from .catalogue import Catalogue

__all__ = ["Token", "Tokens"]

PREFIX = "pvy"
_FRESH = 5.0
"""Seconds after which a process looks whether another one made or revoked tokens."""
_AWAY = 300.0
"""Seconds for which what is known goes on to count, while the database cannot be read."""
_LONGEST_NAME = 100
_LONGEST_LIFE = timedelta(days=36_500)


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


@dataclass(frozen=True, slots=True)
class _Known:
    """All tokens as they were read, by their ids, each with its digest."""

    tokens: Mapping[str, tuple[Token, str]]
    read_at: float

    def find(self, text: str) -> Token | None:
        _, _, rest = text.partition("_")
        token, digest = self.tokens.get(rest.partition("_")[0], (None, ""))
        return token if hmac.compare_digest(digest, _digest(text)) else None


class Tokens:
    """
    The access tokens of a catalogue, the same for all processes that share it.

    A token is ``pvy_<id>_<256 random bits>``. Its SHA-256 is kept: of so much chance that is as
    good as a slow hash. A process that another one tells nothing sees its changes within 5 s.

    While the database cannot be read, tokens that are known go on to open, for 5 minutes at most:
    an operator is not shut out by the failure he comes to look at. Of others nobody can tell.

    Args:
        catalogue: Whose database they are in.
        clock: The time in seconds, of no particular beginning.
    """

    def __init__(self, catalogue: Catalogue, *, clock: Callable[[], float] = monotonic) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._known: _Known | None = None
        self._look_at = 0.0
        self._fault = ""
        self._changes = 0
        self._were_made = False

    async def create(
        self, name: str, role: Role, *, lifetime: timedelta | None = None
    ) -> tuple[Token, str]:
        """
        Make a token.

        Args:
            name: For people, and for the records of changes; no two valid tokens share one.
            role: What its holder may do.
            lifetime: For how long, 100 years at most; until it is revoked when not given.

        Returns:
            What is known of it, and the token itself, which is not kept.

        Raises:
            AlreadyExistsError: A valid token has the name.
            InvalidNameError: The name is empty, too long, that of no token in the records of
                changes (``anonymous``, ``cli:...``), or holds control characters.
            ValueError: The lifetime is not positive, or too long.
            CatalogueUnavailableError: The database cannot be reached or written.
        """
        if name != name.strip() or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise InvalidNameError(
                f"A token cannot be named {name!r}: give 1 to {_LONGEST_NAME} printable characters."
            )
        if name == ANONYMOUS or name.startswith(CLI):
            raise InvalidNameError(
                f"A token cannot be named {name!r}: so the records of changes name those who have "
                "none. Choose another name."
            )
        if lifetime is not None and not timedelta(0) < lifetime <= _LONGEST_LIFE:
            raise ValueError("A token lives longer than no time, and 100 years at most.")
        created = datetime.now(UTC)
        expires = None if lifetime is None else created + lifetime
        token = Token(secrets.token_hex(4), name, role, created, expires)
        text = f"{PREFIX}_{token.id}_{secrets.token_urlsafe(32)}"
        from .model import tokens as table

        async with self._changing() as connection:
            rows = await connection.execute(table.select().where(table.c.name == name))
            if any(_token(row).is_valid for row in rows):
                raise AlreadyExistsError(
                    f"There is a token {name!r} already. Choose another name, or revoke it first: "
                    f"purveyor tokens revoke {shlex.quote(name)}"
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
        return token, text

    async def list(self) -> list[Token]:
        """Return all tokens, also those that are expired or revoked, oldest first."""
        return [token for token, _ in (await self._read()).values()]

    async def revoke(self, name: str) -> Token:
        """
        End a token, given its name or its id.

        Returns:
            What is known of it.

        Raises:
            NotFoundError: There is no valid token of that name or id.
            CatalogueUnavailableError: The database cannot be reached or written.
        """
        from .model import tokens as table

        if not self._catalogue.is_present():
            raise _unknown(name, [])
        async with self._changing() as connection:
            rows = await connection.execute(table.select().order_by(table.c.created_at))
            valid = [token for token in map(_token, rows) if token.is_valid]
            named = [token for token in valid if token.name == name]
            found = next(iter(named or [token for token in valid if token.id == name]), None)
            if found is None:
                raise _unknown(name, valid)
            now = datetime.now(UTC)
            await connection.execute(
                table.update().where(table.c.id == found.id).values(revoked_at=now)
            )
        return replace(found, revoked_at=now)

    async def were_made(self) -> bool:
        """Tell whether there ever was a token, be it expired, revoked or lost with its file."""
        if not self._were_made:
            self._were_made = bool((await self._recent()).tokens)
        return self._were_made

    async def are_valid(self) -> bool:
        """Tell whether any token opens anything now."""
        return any(token.is_valid for token, _ in (await self._recent()).tokens.values())

    async def verify(self, text: str) -> Token:
        """
        Return the token that a caller has shown.

        Raises:
            TokenRefusedError: It is unknown, expired or revoked.
            CatalogueUnavailableError: The database cannot be reached, and it is not known.
        """
        token = (await self._recent()).find(text)
        if token is None and self._fault:
            raise CatalogueUnavailableError(
                f"Nobody can tell at the moment whether the token opens anything: {self._fault}"
            )
        if token is None:
            raise TokenRefusedError("The token is unknown. Ask an operator for one.")
        if not token.is_valid:
            why = "was revoked" if token.revoked_at else "has expired"
            raise TokenRefusedError(f"The token {token.name!r} {why}. Ask an operator for another.")
        return token

    def peek(self, text: str) -> Token | None:
        """Return the valid token that a caller has shown if it is known already; never waits."""
        token = self._known and self._known.find(text)
        return token if token and token.is_valid else None

    # -- inside --------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self) -> AsyncGenerator[AsyncConnection]:
        """Give a transaction, one at a time: the row of the revision is locked for its length."""
        from sqlalchemy import select

        from .model import revision

        async with self._catalogue.store().writing_aside() as connection:
            await connection.execute(select(revision.c.number).with_for_update())
            yield connection
        self._changes += 1
        self._known = None

    async def _recent(self) -> _Known:
        """
        Return what is known; one caller at a time looks anew.

        The others do not wait for him, unless what is known is older than a look may take.
        """
        known, now = self._known, self._clock()
        is_recent = known is not None and (self._fault or now - known.read_at < 2 * _FRESH)
        if known is not None and is_recent and now < self._look_at:
            return known
        self._look_at, changes = now + _FRESH, self._changes
        try:
            found = _Known(await self._read(), now)
        except asyncio.CancelledError:
            self._look_at = now  # so the next one looks
            raise
        except CatalogueUnavailableError as error:
            if known is None or changes != self._changes or now - known.read_at > _AWAY:
                self._known = None
                raise
            self._fault = error.message
            return known
        self._fault = ""
        if changes == self._changes:
            self._known = found
        return found

    async def _read(self) -> Mapping[str, tuple[Token, str]]:
        if not self._catalogue.is_present():
            return {}
        from .model import tokens as table

        async with self._catalogue.store().reading() as connection:
            rows = await connection.execute(table.select().order_by(table.c.created_at))
            return {row.id: (_token(row), row.digest) for row in rows}


def _unknown(name: str, valid: Iterable[Token]) -> NotFoundError:
    names = nearest_first(name, [token.name for token in valid])
    there_are = f"There are these: {', '.join(names)}." if names else "There is none."
    return NotFoundError(f"No valid token has the name or id {name!r}. {there_are}")


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
