"""One registration of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...settings import ProviderSettings
from ..registry.credentials import is_sealed, key_id_of
from ..registry.errors import RegistryError
from ..registry.redaction import MASK

__all__ = ["Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A provider as the catalogue has it.

    Args:
        family: The family.
        name: The provider's name.
        version: What :meth:`Catalogue.update` wants to be told; higher with every change.
        updated_at: When it was last changed.
        settings: As settings would say it. ``options`` holds the secrets encrypted: they are
            decrypted when ``options.get_secret_value()`` is called, which the registry does when
            it validates the provider.
        fault: Why the settings cannot be read on this machine, if they cannot; they say no more
            than the type then.
    """

    family: str
    name: str
    version: int
    updated_at: datetime
    settings: ProviderSettings
    fault: RegistryError | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """What is stored but secrets, as it is stored."""
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The encrypted form of each secret."""

    @property
    def type(self) -> str:
        """The provider type."""
        return self.settings.type or self.name

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of the keys that its secrets are encrypted with."""
        return frozenset(key_id_of(token) for token in self.secrets.values() if is_sealed(token))

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON-safe data, secrets masked."""
        options: dict[str, Any] = {**self.config.get("options", {})}
        return {
            "family": self.family,
            "name": self.name,
            "type": self.type,
            "version": self.version,
            "updated_at": self.updated_at.isoformat(),
            "settings": {**self.config, "options": options | dict.fromkeys(self.secrets, MASK)},
            "key_ids": sorted(self.key_ids),
            "fault": self.fault.to_dict() if self.fault else None,
        }
