"""What a plugin says of itself: its manifest, ``plugin.toml``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticUndefined

from ....settings import explain
from ..errors import PluginRejectedError
from ..provider import ProviderConfig

__all__ = [
    "MANIFEST",
    "PLUGIN_API",
    "Fault",
    "PluginManifest",
    "PluginProvider",
    "PluginSetting",
    "PluginType",
    "parsed_manifest",
    "rejection",
]

MANIFEST = "plugin.toml"
"""Name of the manifest in a plugin's folder."""
PLUGIN_API = 1
"""Version of what a plugin may rely on; raised when a plugin made for an older one may break."""

PluginName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Fault(_Part):
    """One reason to reject a plugin: where it is, what is wrong, and what mends it."""

    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}. {self.remedy}"


def rejection(name: str, faults: list[Fault]) -> PluginRejectedError:
    """Return the error that tells all faults of a plugin at once."""
    lines = "".join(f"\n  {fault}" for fault in faults)
    return PluginRejectedError(
        f"Plugin {name!r} is rejected; nothing of it ran:{lines}",
        context={"plugin": name, "reasons": [fault.model_dump() for fault in faults]},
    )


_SETTING_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "path": Path,
    "secret": SecretStr,
    "list": list[str],
    "table": dict[str, Any],
}


class PluginSetting(_Part):
    """
    One setting of a type, as far as it must be known without running the plugin.

    The type's own config model says more; it has the last word, in the plugin's process.
    """

    type: Literal["string", "integer", "number", "boolean", "path", "secret", "list", "table"] = (
        "string"
    )
    required: bool = False
    default: Any = None
    description: str = ""

    @model_validator(mode="after")
    def _check_default(self) -> PluginSetting:
        if self.default is not None:
            if self.required or self.type == "secret":
                what = "a required setting" if self.required else "a secret"
                raise ValueError(f"{what} has no default")
            TypeAdapter(_SETTING_TYPES[self.type]).validate_python(self.default)
        return self

    def field(self) -> tuple[Any, Any]:
        """Return annotation and field of a pydantic model."""
        annotation = _SETTING_TYPES[self.type]
        if not self.required and self.default is None:
            annotation |= None
        default = PydanticUndefined if self.required else self.default
        return annotation, Field(
            default=default, description=self.description or None, validate_default=True
        )


class PluginType(_Part):
    """A provider type of a plugin; ``class`` is ``module:Class`` inside its folder."""

    family: Text
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
    path: Annotated[
        str, Field(alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
    ]
    capabilities: frozenset[str] = frozenset()
    display_name: str = ""
    description: str = ""
    settings: dict[str, PluginSetting] = Field(default_factory=dict[str, PluginSetting])

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, settings: dict[str, PluginSetting]) -> dict[str, PluginSetting]:
        for name in settings:
            if not name.isidentifier() or name.startswith(("_", "model_")):
                raise ValueError(f"{name!r} cannot be the name of a setting")
            if hasattr(ProviderConfig, name):
                raise ValueError(f"{name!r} is taken by pydantic; give the setting another name")
        return settings

    def config_model(self, base: type[BaseModel]) -> type[BaseModel]:
        """Return a config model of the settings, made without running the plugin."""
        fields: dict[str, Any] = {name: one.field() for name, one in self.settings.items()}
        name = f"{self.path.partition(':')[2]}Settings"
        return create_model(name, __base__=base, __doc__=f"Settings of {self.type!r}.", **fields)


class PluginProvider(_Part):
    """A provider that a plugin brings along, under a name, with its settings."""

    name: Text
    family: Text
    type: Text
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])


class PluginManifest(_Part):
    """The manifest: every key it may have."""

    name: PluginName
    version: Text
    api_version: int
    description: str = ""
    types: tuple[PluginType, ...] = Field(min_length=1)
    providers: tuple[PluginProvider, ...] = ()

    @field_validator("types")
    @classmethod
    def _check_types(cls, types: tuple[PluginType, ...]) -> tuple[PluginType, ...]:
        seen: set[tuple[str, str]] = set()
        for one in types:
            if (one.family, one.type) in seen:
                raise ValueError(f"{one.family} type {one.type!r} stands there twice")
            seen.add((one.family, one.type))
        return types


def parsed_manifest(data: bytes, where: str) -> PluginManifest | list[Fault]:
    """Return the manifest of these bytes, or all that is wrong with it."""
    try:
        # As JSON, for its arrays pass for tuples and sets where pydantic is strict.
        raw: dict[str, Any] = tomllib.loads(data.decode())
        text = json.dumps(raw, default=str)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        return [Fault(where=where, reason=f"is no TOML: {error}", remedy="Correct the file.")]
    api = raw.get("api_version")
    if type(api) is int and api != PLUGIN_API:
        # Told alone: a manifest of another version may rightly have other keys.
        return [
            Fault(
                where=f"{where}: api_version",
                reason=f"is {api}, and this Purveyor has plugin API {PLUGIN_API}",
                remedy="Install a release of the plugin, or of Purveyor, that fits.",
            )
        ]
    try:
        return PluginManifest.model_validate_json(text)
    except ValidationError as error:
        return [
            Fault(
                where=f"{where}: {'.'.join(path)}" if path else where,
                reason=reason,
                remedy="Correct the manifest; docs/plugins.md has all its keys.",
            )
            for path, reason in explain(error, cast("type[BaseModel]", PluginManifest))
        ]
