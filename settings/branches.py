"""The branches of the tree of settings: names, types, defaults, ranges and units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Secret,
    SecretStr,
    field_validator,
    model_validator,
)

__all__ = [
    "AISettings",
    "BreakerSettings",
    "CatalogueSettings",
    "CredentialSettings",
    "DiscoverySettings",
    "FamilySettings",
    "HealthSettings",
    "LifecycleSettings",
    "OptionalPath",
    "PluginSettings",
    "ProviderSettings",
    "RegistrySettings",
    "RequiredPath",
    "gathered",
]

ValueT = TypeVar("ValueT")


def _listed(value: Any) -> Any:
    """Take a list, a JSON list, or texts separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(
                "must be a list: JSON, or texts separated by commas; it begins like JSON and is "
                "not well-formed"
            ) from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _no_boolean(value: ValueT) -> ValueT:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _path(value: Any) -> Any:
    if not isinstance(value, (str, Path)):
        return value
    if not str(value):
        raise ValueError("must not be empty")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and there is no such home directory") from None


def _asked(value: str) -> str:
    provider, colon, model = value.partition(":")
    if not provider.strip() or (colon and not model.strip()):
        raise ValueError("must be PROVIDER:MODEL, or PROVIDER alone")
    return value


def _optional_path(value: Any) -> Any:
    return None if value == "" else _path(value)


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Seconds = Annotated[
    float, BeforeValidator(_no_boolean), Field(gt=0, le=31_536_000, allow_inf_nan=False)
]
Count = Annotated[int, BeforeValidator(_no_boolean)]
Factor = Annotated[float, BeforeValidator(_no_boolean), Field(le=1000, allow_inf_nan=False)]
RequiredPath = Annotated[Path, BeforeValidator(_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(_optional_path)]


class _Branch(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def with_overrides(self, overrides: Self | None) -> Self:
        """Return these settings, replaced by those that ``overrides`` was given."""
        if overrides is None:
            return self
        return self.model_copy(update=overrides.model_dump(exclude_unset=True))


class BreakerSettings(_Branch):
    """When calls to a failing backend are refused for a while."""

    enabled: bool = Field(default=True, description="Whether there is a circuit breaker.")
    failure_threshold: Count = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Failures within the monitoring period that open it.",
    )
    recovery_timeout: Seconds = Field(
        default=300.0, description="Seconds after the last failure until a probe may pass."
    )
    monitoring_period: Seconds = Field(
        default=60.0, description="Seconds within which failures are counted."
    )
    half_open_max_calls: Count = Field(
        default=1, ge=1, le=1000, description="Probes in flight at most."
    )
    success_threshold: Count = Field(
        default=1, ge=1, le=1000, description="Successful probes that close it."
    )
    reset_on_success: bool = Field(
        default=True, description="Whether a success while closed forgets the failures."
    )
    probe_ttl: Seconds = Field(
        default=60.0, description="Seconds after which a probe without an answer loses its place."
    )
    recovery_factor: Factor = Field(
        default=1.0,
        ge=1.0,
        description="What the wait is multiplied by at each trip soon after the last one.",
    )
    recovery_cap: Seconds = Field(
        default=3600.0, description="Seconds the wait grows to at most; never below the first wait."
    )
    recovery_jitter: Factor = Field(
        default=0.0, ge=0.0, le=1.0, description="Part of the wait that chance may add to it."
    )


class HealthSettings(_Branch):
    """How providers are checked."""

    check_interval: Seconds = Field(
        default=30.0, description="Seconds between two checks of a provider."
    )
    timeout: Seconds = Field(default=10.0, description="Seconds a check may take.")
    retries: Count = Field(
        default=1, ge=0, le=10, description="Further attempts before a check counts as failed."
    )
    monitor: bool = Field(
        default=True,
        description="Whether providers that are in use or required are checked in the background.",
    )
    jitter: Factor = Field(
        default=0.1,
        ge=0.0,
        le=0.5,
        description="Part of the interval by which chance may move a check.",
    )
    max_concurrent: Count = Field(
        default=32, ge=1, le=1000, description="Checks under way at most, all providers together."
    )
    unhealthy_threshold: Count = Field(
        default=2,
        ge=1,
        le=100,
        description="Failed checks in a row until a provider is unhealthy; until then degraded.",
    )
    healthy_threshold: Count = Field(
        default=1,
        ge=1,
        le=100,
        description="Good checks in a row until an unhealthy provider is healthy again.",
    )
    stale_after: Factor = Field(
        default=3.0, ge=1.0, description="Intervals after which a result says nothing any more."
    )
    history: Count = Field(default=20, ge=1, le=1000, description="Results kept of each provider.")


class ProviderSettings(_Branch):
    """
    One provider: what every registration takes, and beside it the settings of its type.

    The type's own settings may stand flat beside the others or under ``options``; they are kept
    in ``options``, masked, since only the type knows which of them are secret.
    """

    type: str | None = Field(
        default=None, description="The provider type; the provider's name where it is not given."
    )
    enabled: bool = Field(default=True, description="Whether it is registered.")
    priority: Count = Field(
        default=50,
        ge=0,
        le=100,
        description="Which one to prefer among several that can do the same: the higher.",
    )
    required: bool = Field(
        default=False, description="Whether the application is not ready without it."
    )
    depends_on: Names = Field(default=(), description="Providers that must be started before it.")
    pipelines: Names = Field(default=("*",), description="Pipelines that may use it; `*` is all.")
    timeout: Seconds | None = Field(
        default=None, description="Seconds an operation may take; of a stream each step."
    )
    circuit_breaker: BreakerSettings | None = Field(
        default=None,
        description="What differs from `registry.circuit_breaker`; only keys that are set count.",
    )
    health: HealthSettings | None = Field(
        default=None,
        description="What differs from `registry.health`; only keys that are set count.",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description="Anything to be kept with the registration."
    )
    options: Secret[dict[str, Any]] = Field(
        default=Secret({}), description="The settings of its type."
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        entry, differing = gathered(cast("Mapping[Any, Any]", data))
        if differing:
            raise ValueError(
                f"sets {', '.join(differing)} both beside and under options, and differently; "
                "keep one of the two"
            )
        return entry


def gathered(data: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a provider's settings, its type's own under ``options``, and the keys that clash."""
    entry = {str(key): value for key, value in data.items()}
    given = entry.get("options", {})
    if isinstance(given, Secret):
        given = cast("Secret[Any]", given).get_secret_value()
    if not isinstance(given, Mapping):  # told as a fault of its own
        return {key: entry[key] for key in entry if key in ProviderSettings.model_fields}, []
    options = {str(key): value for key, value in cast("Mapping[Any, Any]", given).items()}
    differing: list[str] = []
    for key in [key for key in entry if key not in ProviderSettings.model_fields]:
        value = entry.pop(key)
        if options.setdefault(key, value) != value:
            differing.append(key)
    return {**entry, "options": options}, differing


class FamilySettings(_Branch):
    """The providers of one family."""

    default: str | None = Field(default=None, description="Name of the default provider.")
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict[str, ProviderSettings], description="The providers by name."
    )


class AISettings(FamilySettings):
    """The AI providers."""

    aliases: dict[str, Annotated[str, AfterValidator(_asked)]] = Field(
        default_factory=dict[str, str],
        description="Further names: each is a provider of type `alias`, written `PROVIDER:MODEL`.",
    )

    @property
    def alias_providers(self) -> dict[str, ProviderSettings]:
        """The aliases, as the providers they are."""
        made: dict[str, ProviderSettings] = {}
        for name, asked in self.aliases.items():
            provider, _, model = asked.partition(":")
            options = {"provider": provider.strip(), "model": model.strip()}
            made[name] = ProviderSettings(type="alias", options=Secret(options))
        return made


class DiscoverySettings(_Branch):
    """Where providers are found beside the settings."""

    config_path: OptionalPath = Field(default=None, description="A further file of providers.")
    plugin_path: OptionalPath = Field(default=None, description="The folder of plugins.")
    auto_refresh_interval: Seconds | None = Field(
        default=None, description="Seconds between two looks for changes; none without it."
    )
    enable_environment_discovery: bool = Field(
        default=False,
        description="Whether well-known variables such as `ANTHROPIC_API_KEY` make providers.",
    )


class PluginSettings(_Branch):
    """Which plugins may run, and how far they are trusted."""

    allowed: Names = Field(
        default=(), description="Names of the plugins that may run; `*` is every pinned one."
    )
    pins: OptionalPath = Field(
        default=None,
        description="The file of pins; `pins.json` in the folder of plugins without it.",
    )
    isolation: Literal["process", "in_process"] = Field(
        default="process",
        description="`process`: each in a process of its own; `in_process`: trusted like the "
        "application itself.",
    )
    memory: Count = Field(
        default=512 * 1024 * 1024,
        ge=64 * 1024 * 1024,
        description="Bytes of address space a plugin's process may use.",
    )
    cpu_seconds: Count = Field(
        default=3600, ge=1, description="Seconds of processor time a plugin's process may use."
    )
    open_files: Count = Field(
        default=64, ge=16, le=65536, description="Files a plugin's process may have open."
    )
    network: bool = Field(
        default=False, description="Whether a plugin's process may use the network."
    )
    start_timeout: Seconds = Field(
        default=10.0, description="Seconds a plugin's process may take to start."
    )


class LifecycleSettings(_Branch):
    """How long starting and ending may take."""

    init_timeout: Seconds = Field(
        default=30.0, description="Seconds connecting a provider may take."
    )
    dispose_timeout: Seconds = Field(
        default=10.0, description="Seconds closing a provider may take."
    )
    graceful_shutdown_timeout: Seconds = Field(
        default=30.0, description="Seconds closing all of them may take."
    )


class RegistrySettings(_Branch):
    """What holds for all registries."""

    discovery: DiscoverySettings = Field(
        default_factory=DiscoverySettings,
        description="Where providers are found beside the settings.",
    )
    plugins: PluginSettings = Field(
        default_factory=PluginSettings,
        description="Which plugins may run, and how far they are trusted.",
    )
    health: HealthSettings = Field(
        default_factory=HealthSettings, description="How providers are checked."
    )
    circuit_breaker: BreakerSettings = Field(
        default_factory=BreakerSettings,
        description="When calls to a failing backend are refused for a while.",
    )
    lifecycle: LifecycleSettings = Field(
        default_factory=LifecycleSettings, description="How long starting and ending may take."
    )


class CredentialSettings(_Branch):
    """The keys that credentials at rest are encrypted with."""

    keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Fernet keys; the first encrypts, all decrypt."
    )
    key_file: OptionalPath = Field(default=None, description="A file that holds them, one a line.")


class CatalogueSettings(_Branch):
    """Where registrations are kept that were made through code, command line or HTTP."""

    url: SecretStr | None = Field(
        default=None,
        description="`sqlite:///path` or `postgresql://user:password@host/database`; "
        "`catalogue.db` below `home` without it.",
    )

    @field_validator("url", mode="after")
    @classmethod
    def _known_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        text = url.get_secret_value() if url else ""
        scheme, separator, rest = text.partition("://")
        file = scheme == "sqlite" and rest.startswith("/") and len(rest) > 1
        server = scheme in ("postgresql", "postgres") and bool(rest)
        if text and not (separator and (file or server)):
            raise ValueError(
                "must be sqlite:///path (sqlite:////path from the root) or "
                "postgresql://user:password@host/database"
            )
        return url if text else None
