"""All there is to know to run a plugin's provider type in a process, and how its errors look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

from ....settings import PluginSettings
from ..errors import ProviderError, RegistryError
from .shape import FamilyShape

__all__ = ["Mask", "PluginLaunch"]

MASK = "**********"
TEXT_SHOWN = 4_000
"""Characters of a plugin's own text that an error shows at most."""


@dataclass(frozen=True)
class PluginLaunch:
    """
    All there is to know to run one provider type of a plugin in a process.

    Args:
        plugin: Name of the plugin.
        path: The provider class, ``module:Class``.
        files: The verified bytes.
        secrets: Names of the settings that the manifest declares secret.
        shape: What the family's calls are made of.
        settings: The limits.
        patience: Seconds a process with work to do may show no sign of life, as one in an endless
            loop does.
        cancel_grace: Seconds a cancelled call may take to end in the plugin.
        close_grace: Seconds a plugin may take to close itself before its process is killed.
    """

    plugin: str
    path: str
    files: Mapping[str, bytes] = field(repr=False)
    secrets: frozenset[str]
    shape: FamilyShape
    settings: PluginSettings
    patience: float = 30.0
    cancel_grace: float = 5.0
    close_grace: float = 5.0

    def failure(self, text: str) -> ProviderError:
        """Return the family's general error, naming the plugin."""
        return self.shape.error_class(ProviderError)(
            f"Plugin {self.plugin!r} failed: {text}", context={"plugin": self.plugin}
        )

    def raised(self, told: Any, mask: Mask) -> RegistryError:
        """
        Return the error that a plugin raised, as its process tells it.

        Its own class if that is one of the family's or the registry's, else the family's
        general one with the type's name and text.
        """
        name, code, message, context = cast("tuple[object, ...]", told)
        text = mask(str(message)[: TEXT_SHOWN * 2])[:TEXT_SHOWN]
        known = self.shape.errors_by_name.get(name) if isinstance(name, str) else None
        if known is None:
            return self.failure(f"{str(name)[:100]}: {text}" if name else text)
        error = known.__new__(known, text)
        RegistryError.__init__(error, str(code)[:100], text, None, _plain(context, mask))
        return error


class Mask:
    """
    Hides known secret values in text that a plugin's process wrote.

    Args:
        secrets: The values; the forms they take in URLs, JSON and reprs are hidden too.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {
            form
            for one in secrets
            if one
            for form in (one, quote(one, safe=""), json.dumps(one)[1:-1], repr(one)[1:-1])
        }
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return ``text`` without the secret values."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text


def _plain(context: object, mask: Mask) -> dict[str, object]:
    """Return a context a plugin sent as JSON-safe data of bounded size, empty if it is not."""
    text = mask(json.dumps(context, default=str))
    found: object = json.loads(text) if len(text) <= TEXT_SHOWN else {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}
