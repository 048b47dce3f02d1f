"""All settings, from all places they can come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast, get_origin

from pydantic import BaseModel, Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .branches import (
    AISettings,
    CatalogueSettings,
    CredentialSettings,
    FamilySettings,
    OptionalPath,
    RegistrySettings,
    RequiredPath,
)
from .chat import ChatSettings
from .errors import Problem, SettingsError
from .explain import UNKNOWN, Keys, annotation_at, explain, nearest
from .files import from_file
from .http import HttpSettings
from .sources import (
    DELIMITER,
    PREFIX,
    Source,
    Tree,
    from_arguments,
    from_dotenv,
    from_secrets,
    from_variables,
    merged,
    read_dotenv,
    under_options,
    variable,
)
from .telemetry import TelemetrySettings

__all__ = ["Settings", "load_settings"]


@dataclass(frozen=True, slots=True)
class _Provenance:
    """The sources of settings; no part of what makes two settings equal."""

    sources: tuple[Source, ...] = field(default=(), compare=False, repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    def __deepcopy__(self, _: object) -> _Provenance:
        return self

    def __reduce__(self) -> tuple[type[_Provenance], tuple[()]]:
        return (_Provenance, ())  # where it was read means nothing in another process


class _Masked(dict[str, Any]):
    """A tree that pydantic-settings may log without telling a secret."""

    def __repr__(self) -> str:
        return f"<{len(self)} settings>"


class _Merged(InitSettingsSource):
    """Hands the tree that our sources make to pydantic-settings."""

    def __call__(self) -> Tree:
        return _Masked(cast(Tree, self.init_kwargs))  # pyright: ignore[reportUnknownMemberType]


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
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    storage: FamilySettings = Field(
        default_factory=FamilySettings, description="Storage providers."
    )
    data_sources: FamilySettings = Field(
        default_factory=FamilySettings, description="Data source providers."
    )
    ai: AISettings = Field(default_factory=AISettings, description="AI providers.")
    images: FamilySettings = Field(default_factory=FamilySettings, description="Image providers.")
    audio: FamilySettings = Field(default_factory=FamilySettings, description="Audio providers.")
    flashcards: FamilySettings = Field(
        default_factory=FamilySettings, description="Flashcard providers."
    )
    registry: RegistrySettings = Field(
        default_factory=RegistrySettings, description="What holds for all registries."
    )
    credentials: CredentialSettings = Field(
        default_factory=CredentialSettings,
        description="The keys that credentials at rest are encrypted with.",
    )
    catalogue: CatalogueSettings = Field(
        default_factory=CatalogueSettings,
        description="Where registrations made through code, command line or HTTP are kept.",
    )
    http: HttpSettings = Field(
        default_factory=HttpSettings, description="The HTTP API and the dashboard."
    )
    chat: ChatSettings = Field(
        default_factory=ChatSettings, description="Asking models about data."
    )
    telemetry: TelemetrySettings = Field(
        default_factory=TelemetrySettings, description="Traces and metrics of operations."
    )
    home: RequiredPath = Field(
        default=Path(".purveyor"),
        description="The folder below which providers keep their data by default.",
    )
    config_file: OptionalPath = Field(
        default=None, description="A TOML, YAML or JSON file with the same tree."
    )
    secrets_dir: OptionalPath = Field(
        default=None, description="A directory with one file a value."
    )

    _provenance: _Provenance = PrivateAttr(default_factory=_Provenance)

    def __init__(self, **values: Any) -> None:
        sources = _read(values)
        problems = [problem for source in sources for problem in source.problems]
        tree = merged([source.tree for source in sources])
        for key in [key for key in tree if key.startswith("_")]:  # BaseSettings' own arguments
            del tree[key]
            reason = f"{UNKNOWN}; none begins with _"
            problems += [Problem(one.label((key,)), reason) for one in sources if key in one.tree]
        try:
            super().__init__(**tree)
        except ValidationError as error:
            told = {problem.location for problem in problems}
            problems += [one for one in _problems(error, sources) if one.location not in told]
        else:
            problems += _hiding(self.ai, sources)
        if problems:  # raised here, or the error would carry pydantic's, which has the values
            raise SettingsError(problems)
        self._provenance = _Provenance(sources, values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what our own sources found: they know where each value came from."""
        return (_Merged(settings_cls, init_settings()),)

    def origin(self, path: tuple[str, ...]) -> str:
        """
        Return where a setting comes from, or where it would be set.

        Args:
            path: Keys from the root: ``("storage", "providers", "backups", "bucket")``.

        Returns:
            A variable's name (with ``.env: `` before it if it stands there), ``file: dotted.key``,
            a secrets file, ``argument dotted.key``, or ``default``. For a setting that has no
            default and that nobody set, where it would be set beside those that are.
        """
        return _origin(self._provenance.sources, path)

    def reread(self) -> Self:
        """
        Return the settings as they are now: the same arguments, everything else read anew.

        Raises:
            SettingsError: With every fault of every source.
        """
        return type(self)(**self._provenance.arguments)

    def watched(self) -> list[Path]:
        """Return the files and folders that settings are read from, whether they exist or not."""
        named = (self.config_file, self.secrets_dir, self.registry.discovery.config_path)
        return [Path(".env"), *(path for path in named if path is not None)]


def load_settings(**values: Any) -> Settings:
    """
    Return the settings of this process; arguments come before all other sources.

    Raises:
        SettingsError: With every fault of every source.
    """
    return Settings(**values)


def _families() -> frozenset[str]:
    return frozenset(
        name
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, FamilySettings)
    )


def _is_branch(keys: Keys) -> bool:
    annotation = annotation_at(Settings, keys)
    return get_origin(annotation) is dict or (
        isinstance(annotation, type) and issubclass(annotation, BaseModel)
    )


def _read(values: Mapping[str, Any]) -> tuple[Source, ...]:
    """Read all sources, the first in rank first."""
    dotenv = Path(".env")
    faults: list[Problem] = []
    in_dotenv = read_dotenv(dotenv, faults)
    sources = [
        from_arguments(values),
        from_variables(os.environ, _is_branch),
        from_dotenv(dotenv, in_dotenv, faults, _is_branch),
    ]
    path = _named("config_file", sources)
    if path is not None:
        sources.append(_without(from_file(path, {**in_dotenv, **os.environ}), "config_file"))
    folder = _named("secrets_dir", sources)
    if folder is not None:
        sources.append(_without(from_secrets(folder, _is_branch), "config_file", "secrets_dir"))
    families = _families()
    return tuple(source.settle(families) for source in sources)


def _without(source: Source, *names: str) -> Source:
    """Refuse what comes too late: the file or folder that it would name has been sought."""
    for name in names:
        if source.tree.pop(name, None) is not None:
            reason = f"cannot be set here; set {variable((name,))}"
            source.problems.append(Problem(source.label((name,)), reason, (name,)))
    return source


def _named(key: str, sources: list[Source]) -> Path | None:
    """Return the path that the first source to say something names, if it is one."""
    given = next((source.tree[key] for source in sources if key in source.tree), None)
    if not given or not isinstance(given, (str, Path)):
        return None
    try:
        return Path(given).expanduser()
    except RuntimeError:
        return None  # told as a fault of the setting


def _problems(error: ValidationError, sources: tuple[Source, ...]) -> list[Problem]:
    problems: list[Problem] = []
    for path, reason in explain(error, Settings):
        if reason.startswith(UNKNOWN):
            problems += _unknown(path, reason, sources)
        else:
            problems.append(Problem(_origin(sources, path), reason, path))
    return problems


def _hiding(ai: AISettings, sources: tuple[Source, ...]) -> list[Problem]:
    """Return the aliases that have the name of a provider."""
    problems: list[Problem] = []
    for name in sorted(ai.aliases.keys() & ai.providers.keys()):
        path, provider = ("ai", "aliases", name), ("ai", "providers", name)
        reason = f"has the name of a provider, set at {_origin(sources, provider)}; rename one"
        problems.append(Problem(_origin(sources, path), reason, path))
    return problems


def _unknown(path: Keys, reason: str, sources: tuple[Source, ...]) -> list[Problem]:
    """Return an unknown setting once for each place where it stands."""
    meant = nearest(path[-1], annotation_at(Settings, path[:-1]))
    problems: list[Problem] = []
    for source in sources:
        for leaf in source.leaves(path) if source.contains(path) else ():
            if meant is not None:
                spelling = source.spell(source.written((*path[:-1], meant, *leaf[len(path) :])))
                reason = f"{UNKNOWN}; did you mean {spelling!r}?"
            problems.append(Problem(source.where(leaf), reason, path))
    return problems


def _origin(sources: tuple[Source, ...], path: Keys) -> str:
    place = under_options(path, _families())
    spellings = [place]
    if place == path and len(path) > 3 and path[1] == "providers" and path[3] != "options":
        spellings.append((*path[:3], "options", *path[3:]))  # a type may have a key of that name
    for spelling in spellings:
        for source in sources:
            if source.contains(spelling):
                return source.where(spelling)
    is_entry = len(place) == 3 and place[1] == "providers"
    is_option = len(place) > 4 and place[3] == "options"
    if not (is_entry or is_option) and annotation_at(Settings, place) is not None:
        return "default"
    for length in range(len(place) - 1, 0, -1):
        for source in sources:
            if source.contains(place[:length]):
                return source.where(place)
    return variable(path)
