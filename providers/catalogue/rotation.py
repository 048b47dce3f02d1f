"""From an old key to a new one: how many secrets are under which, and encrypting them anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..registry.credentials import CredentialManager, Owner, is_sealed, key_id_of
from ..registry.errors import CredentialError
from .catalogue import Catalogue

if TYPE_CHECKING:
    from .rows import Sealed

__all__ = ["KeyStatus", "Rotation", "key_status", "rotate"]

_BATCH = 500
_ERRORS = 20


@dataclass(slots=True)
class KeyStatus:
    """
    The keys in use, and how many secrets are under each.

    Args:
        keys: The ids of the keys that are set; the first encrypts. Empty where there is no
            catalogue, which needs none.
        values: How many secrets are under each key, also those that are not set.
        damaged: How many are in no form that is known.
    """

    keys: tuple[str, ...]
    values: Counter[str] = field(default_factory=Counter[str])
    damaged: int = 0

    @property
    def total(self) -> int:
        """How many secrets there are."""
        return self.values.total() + self.damaged

    @property
    def waiting(self) -> int:
        """How many need another key than the first still."""
        return self.values.total() - sum(self.values[key] for key in self.keys[:1])

    @property
    def missing(self) -> list[str]:
        """The ids of keys that secrets are under and that are not set."""
        return sorted(key for key in self.values if key not in self.keys)


@dataclass(slots=True)
class Rotation:
    """
    What became of the secrets.

    Args:
        rotated: How many were encrypted anew, or would be.
        unchanged: How many are under the first key already.
        failed: How many cannot be decrypted; they stay as they were.
        errors: Why, of the first twenty of these.
    """

    rotated: int = 0
    unchanged: int = 0
    failed: int = 0
    errors: list[CredentialError] = field(default_factory=list[CredentialError])

    def add(self, other: Rotation) -> None:
        """Count in what became of others."""
        self.rotated += other.rotated
        self.unchanged += other.unchanged
        self.failed += other.failed
        self.errors += other.errors[: _ERRORS - len(self.errors)]


async def key_status(catalogue: Catalogue, *, batch_size: int = _BATCH) -> KeyStatus:
    """Count the secrets under each key; nothing is decrypted."""
    status = KeyStatus(catalogue.credentials.key_ids if catalogue.is_present() else ())
    async for batch in catalogue.sealed(batch_size):
        for token in (token for one in batch for token in one.secrets.values()):
            if is_sealed(token):
                status.values[key_id_of(token)] += 1
            else:
                status.damaged += 1
    return status


async def rotate(
    catalogue: Catalogue,
    *,
    dry_run: bool = False,
    batch_size: int = _BATCH,
    progress: Callable[[Rotation], object] | None = None,
) -> Rotation:
    """
    Encrypt every secret under the first key that is not yet.

    Each batch is a transaction. One that was interrupted, however hard, leaves whole batches;
    begun again, it goes on with what is left. Others may read and change entries meanwhile.

    Args:
        catalogue: With the new key first among its keys, and the old ones after it.
        dry_run: Only find out what would become of each.
        batch_size: Entries at a time; more than that are never in memory.
        progress: Called after each batch.

    Raises:
        CredentialError: There is no key, or none that is of use.
        CatalogueUnavailableError: The database cannot be reached or written; what was done until
            then is done.
    """
    done = Rotation()
    credentials = catalogue.credentials
    if catalogue.is_present():
        _ = credentials.key_ids  # raises what is wrong with them
    async for batch in catalogue.sealed(batch_size):
        waiting = batch
        while waiting:
            outcomes = {one.key: _sealed_anew(credentials, one) for one in waiting}
            changed = [new for new, outcome in outcomes.values() if outcome.rotated]
            # What somebody changed meanwhile is looked at again.
            waiting = [] if dry_run or not changed else await catalogue.reseal(changed)
            for again in waiting:
                del outcomes[again.key]
            for _, outcome in outcomes.values():
                done.add(outcome)
        if progress is not None:
            progress(done)
    return done


def _sealed_anew(credentials: CredentialManager, one: Sealed) -> tuple[Sealed, Rotation]:
    secrets: dict[str, str] = {}
    outcome = Rotation()
    for name, token in one.secrets.items():
        secrets[name] = token
        try:
            secrets[name] = credentials.rotate(token, Owner(one.family, one.name, name))
        except CredentialError as error:
            outcome.failed += 1
            outcome.errors.append(error)
        else:
            outcome.rotated += secrets[name] != token
            outcome.unchanged += secrets[name] == token
    return one._replace(secrets=secrets), outcome
