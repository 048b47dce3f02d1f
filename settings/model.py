"""The tree of settings: names, types, defaults, ranges and units."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Secret,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .errors import Problem, SettingsError
from .explain import explain
from .sources import (
    Source,
    contains,
    from_dotenv,
    from_environment,
    from_file,
    from_secrets,
    variable,
)

__all__ = [
    "BreakerSettings",
    "CredentialSettings",
    "DiscoverySettings",
    "FamilySettings",
    "HealthSettings",
    "LifecycleSettings",
    "ProviderSettings",
    "RegistrySettings",
    "Settings",
    "load_settings",
]

logger = logging.getLogger(__name__)

_SECTIONS = {"audio": "audio", "image": "images", "sync": "flashcards", "data": "data_sources"}
"""Sections below ``providers`` in configuration files of media applications, and their families."""


def _listed(value: Any) -> Any:
    """Take a list, a JSON list, or texts separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return [part.strip() for part in value.split(",") if part.strip()]


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Branch(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class BreakerSettings(_Branch):
    """When calls to a failing backend are refused for a while."""

    enabled: bool = True
    """Whether there is a circuit breaker."""
    failure_threshold: int = Field(default=5, ge=1)
    """Failures within the monitoring period that open it."""
    recovery_timeout: Seconds = 300.0
    """Seconds after the last failure until a probe may pass."""
    monitoring_period: Seconds = 60.0
    """Seconds within which failures are counted."""
    half_open_max_calls: int = Field(default=1, ge=1)
    """Probes in flight at most."""
    success_threshold: int = Field(default=1, ge=1)
    """Successful probes that close it."""
    reset_on_success: bool = True
    """Whether a success while closed forgets the failures."""


class HealthSettings(_Branch):
    """How providers are checked."""

    check_interval: Seconds = 30.0
    """Seconds between two checks of a provider."""
    timeout: Seconds = 10.0
    """Seconds a check may take."""
    retries: int = Field(default=1, ge=0, le=10)
    """Further attempts before a check counts as failed."""


class ProviderSettings(_Branch):
    """
    One provider: what every registration takes, and beside it the settings of its type.

    The type's own settings may stand flat beside the others or under ``options``; they are kept
    in ``options``, masked, since only the type knows which of them are secret.
    """

    type: str | None = None
    """The provider type; the provider's name where it is not given."""
    enabled: bool = True
    """Whether it is registered."""
    priority: int = Field(default=50, ge=0, le=100)
    """Which one to prefer among several that can do the same: the higher."""
    required: bool = False
    """Whether the application is not ready without it."""
    depends_on: Names = ()
    """Providers that must be started before it."""
    pipelines: Names = ("*",)
    """Pipelines that may use it; `*` is all."""
    timeout: Seconds | None = None
    """Seconds an operation may take; of a stream each step."""
    circuit_breaker: dict[str, Any] | None = None
    """What differs from `registry.circuit_breaker`."""
    health: dict[str, Any] | None = None
    """What differs from `registry.health`."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Anything to be kept with the registration."""
    options: Secret[dict[str, Any]] = Secret({})
    """The settings of its type."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        values = {str(key): value for key, value in cast("Mapping[Any, Any]", data).items()}
        given: Any = values.pop("options", {})
        if isinstance(given, Secret):
            given = cast("Secret[Any]", given).get_secret_value()
        if not isinstance(given, Mapping):
            raise ValueError("options must be a table of settings, not a single value")
        options = dict(cast("Mapping[str, Any]", given))
        for key in [key for key in values if key not in cls.model_fields]:
            value = values.pop(key)
            if key in options and options[key] != value:
                raise ValueError(f"{key!r} is set both beside and under options, and differs")
            options[key] = value
        return {**values, "options": options}

    @model_validator(mode="after")
    def _check_overrides(self) -> Self:
        for name, model in (("circuit_breaker", BreakerSettings), ("health", HealthSettings)):
            try:
                model.model_validate(getattr(self, name) or {})
            except ValidationError as error:
                faults = [f"{'.'.join((name, *path))} {why}" for path, why in explain(error, model)]
                raise ValueError("; ".join(faults)) from None
        return self


class FamilySettings(_Branch):
    """The providers of one family."""

    default: str | None = None
    """Name of the default provider."""
    providers: dict[str, ProviderSettings] = Field(default_factory=dict)
    """The providers by name."""


class DiscoverySettings(_Branch):
    """Where providers are found beside the settings."""

    config_path: Path | None = None
    """A further file of providers."""
    plugin_path: Path | None = None
    """The folder of plugins."""
    auto_refresh_interval: Seconds | None = None
    """Seconds between two looks for changes; none without it."""
    enable_environment_discovery: bool = False
    """Whether well-known variables such as `ANTHROPIC_API_KEY` make providers."""


class LifecycleSettings(_Branch):
    """How long starting and ending may take."""

    init_timeout: Seconds = 30.0
    """Seconds connecting a provider may take."""
    dispose_timeout: Seconds = 10.0
    """Seconds closing a provider may take."""
    graceful_shutdown_timeout: Seconds = 30.0
    """Seconds closing all of them may take."""


class RegistrySettings(_Branch):
    """What holds for all registries."""

    discovery: DiscoverySettings = Field(default_factory=DiscoverySettings)
    """Where providers are found beside the settings."""
    health: HealthSettings = Field(default_factory=HealthSettings)
    """How providers are checked."""
    circuit_breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    """When calls to a failing backend are refused for a while."""
    lifecycle: LifecycleSettings = Field(default_factory=LifecycleSettings)
    """How long starting and ending may take."""


class CredentialSettings(_Branch):
    """The keys that credentials at rest are encrypted with."""

    keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)] = ()
    """Fernet keys; the first encrypts, all decrypt."""
    key_file: Path | None = None
    """A file that holds them, one a line."""


class _Tree(PydanticBaseSettingsSource):
    """Hands one of our sources to pydantic-settings."""

    def __init__(self, settings_cls: type[BaseSettings], source: Source) -> None:
        super().__init__(settings_cls)
        self._source = source

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._source.tree.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._source.tree


class Settings(BaseSettings):
    """
    All settings.

    ``Settings(...)`` takes those given from its arguments and the others, in order, from the
    environment, ``.env`` in the current folder, the file named by ``PURVEYOR_CONFIG_FILE``, the
    directory named by ``PURVEYOR_SECRETS_DIR``, and the defaults.

    Raises:
        SettingsError: With every fault of every source.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=False,
    )

    storage: FamilySettings = Field(default_factory=FamilySettings)
    """Storage providers."""
    data_sources: FamilySettings = Field(default_factory=FamilySettings)
    """Data source providers."""
    ai: FamilySettings = Field(default_factory=FamilySettings)
    """AI providers."""
    images: FamilySettings = Field(default_factory=FamilySettings)
    """Image providers."""
    audio: FamilySettings = Field(default_factory=FamilySettings)
    """Audio providers."""
    flashcards: FamilySettings = Field(default_factory=FamilySettings)
    """Flashcard providers."""
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    """What holds for all registries."""
    credentials: CredentialSettings = Field(default_factory=CredentialSettings)
    """The keys that credentials at rest are encrypted with."""
    home: Path = Path(".purveyor")
    """The folder below which providers keep their data by default."""
    config_file: Path | None = None
    """A TOML, YAML or JSON file with the same tree."""
    secrets_dir: Path | None = None
    """A directory with one file a value."""

    _sources: tuple[Source, ...] = PrivateAttr(default=())

    def __init__(self, **values: Any) -> None:
        sources = _read(values)
        problems = [problem for source in sources for problem in source.problems]
        token = _reading.set(sources)
        try:
            super().__init__()
        except ValidationError as error:
            faulty = {problem.path for problem in problems}
            found = [
                Problem(_origin(sources, leaf), reason, path)
                for path, reason in explain(error, Settings)
                if path not in faulty
                for leaf in _leaves(sources, path)
            ]
            raise SettingsError([*problems, *found]) from None  # its text might quote a value
        finally:
            _reading.reset(token)
        if problems:
            raise SettingsError(problems)
        self._sources = sources

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read our own sources, which remember where each value came from."""
        return tuple(_Tree(settings_cls, source) for source in _reading.get())

    def origin(self, path: tuple[str, ...]) -> str:
        """
        Return where a setting comes from, or where it would be set.

        Args:
            path: Keys from the root: ``("storage", "providers", "backups", "bucket")``.

        Returns:
            A variable's name, ``file: dotted.key``, a secrets file or ``argument dotted.key``.
        """
        return _origin(self._sources, path)


_reading: ContextVar[tuple[Source, ...]] = ContextVar("reading", default=())


def load_settings(**values: Any) -> Settings:
    """
    Return the settings of this process; arguments come before all other sources.

    Raises:
        SettingsError: With every fault of every source.
    """
    return Settings(**values)


def _read(values: dict[str, Any]) -> tuple[Source, ...]:
    """Read all sources, the first in rank first."""
    sources = [
        Source(values, lambda keys: f"argument {'.'.join(keys)}"),
        from_environment(os.environ),
        from_dotenv(Path(".env")),
    ]
    named = {
        key: next((source.tree[key] for source in sources if source.tree.get(key)), None)
        for key in ("config_file", "secrets_dir")
    }
    if named["config_file"]:
        source = from_file(Path(named["config_file"]).expanduser())
        source.tree = _families_of_sections(source.tree)
        sources.append(source)
    if named["secrets_dir"]:
        sources.append(from_secrets(Path(named["secrets_dir"]).expanduser()))
    return tuple(sources)


def _families_of_sections(tree: dict[str, Any]) -> dict[str, Any]:
    """Read a media application's ``providers: {audio: ..., image: ..., sync: ...}`` as families."""
    sections = tree.get("providers")
    if not isinstance(sections, dict):
        return tree
    tree = {key: value for key, value in tree.items() if key != "providers"}
    for section, family in _SECTIONS.items():
        entries = cast("dict[str, Any]", sections).get(section)
        if not isinstance(entries, dict):
            continue
        providers: dict[str, Any] = {}
        for name, entry in cast("dict[str, Any]", entries).items():
            if isinstance(entry, dict):
                providers[name] = entry
            else:
                logger.warning("Skipped providers.%s.%s: it is no table of settings", section, name)
        below = dict(tree.get(family) or {})
        tree[family] = {**below, "providers": {**providers, **dict(below.get("providers") or {})}}
    return tree


def _leaves(sources: tuple[Source, ...], path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return what somebody wrote at or below a path: a fault of a branch is told at each leaf."""
    branch: Any = {}
    for source in sources:
        if contains(source.tree, path):
            branch = source.tree
            for key in path:
                branch = branch[key]
            break
    if not isinstance(branch, dict) or not branch:
        return [path]
    keys = list(cast("dict[str, Any]", branch))
    return [leaf for key in keys for leaf in _leaves(sources, (*path, key))]


def _origin(sources: tuple[Source, ...], path: tuple[str, ...]) -> str:
    spellings = [path]
    if len(path) > 3 and path[1] == "providers":  # a type's own settings may stand under options
        spellings.append((*path[:3], "options", *path[3:]))
    for source in sources:
        for spelling in spellings:
            if contains(source.tree, spelling):
                return source.name(spelling)
    for length in range(len(path) - 1, 0, -1):
        for source in sources:
            if contains(source.tree, path[:length]):
                return source.name(path)
    return variable(path)
