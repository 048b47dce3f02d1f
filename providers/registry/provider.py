"""The base of every provider, its settings, and the mark that tells the guard what to watch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from .errors import is_backend_failure
from .metadata import HealthStatus
from .redaction import secret_fields_of

if TYPE_CHECKING:
    from .events import Events
    from .health import HealthReport
    from .metadata import ProviderInfo
    from .types import Family

__all__ = [
    "Call",
    "Composite",
    "ConfigT",
    "Provider",
    "ProviderConfig",
    "Siblings",
    "is_operation",
    "is_shared",
    "operation",
]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def operation(function: FunctionT) -> FunctionT:
    """
    Mark a method as an operation: what callers ask of the backend.

    An instance from a registry runs its operations guarded (connected on first use, leased,
    timed, errors mapped). The mark changes nothing else: on an instance built by hand the
    method is the plain function. Coroutine functions, async generator functions and plain
    functions can be marked; an override of a marked method is an operation too.
    """
    function.__operation__ = True  # type: ignore[attr-defined]
    return function


def is_operation(cls: type, name: str) -> bool:
    """Tell whether ``name`` is an operation of ``cls``, marked there or on a base."""
    return any(getattr(base.__dict__.get(name), "__operation__", False) for base in cls.__mro__)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that failed, for :meth:`Provider._translate`."""

    operation: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    provider_name: str

    def argument(self, position: int, name: str) -> Any:
        """Return an argument by its place or its name, None when it was not given."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else None


class ProviderConfig(BaseModel):
    """
    Base of the settings of a provider type.

    Unknown keys are refused, values are frozen, secrets are typed ``SecretStr`` or
    ``SecretBytes``, and no error echoes a value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    aliases: ClassVar[Mapping[str, str]] = {}
    """Older names of fields, as ``{"bucket_name": "bucket"}``. Both given and different is an
    error."""
    addresses: ClassVar[frozenset[str]] = frozenset(
        (
            *("account_url", "base_url", "connection_string", "dsn", "endpoint_url", "host"),
            *("port", "url"),
            *("allow_http", "host_key", "host_key_checking", "known_hosts", "sslmode"),
            "sslrootcert",
        )
    )
    """Fields that say whom credentials are shown to, and how it is known that it is he: stored
    ones are not shown to another."""

    @model_validator(mode="before")
    @classmethod
    def _rename_aliases(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not cls.aliases:
            return cast(Any, data)
        values = dict(cast("Mapping[str, Any]", data))
        for alias, field in cls.aliases.items():
            if alias not in values:
                continue
            value = values.pop(alias)
            if field in values and values[field] != value:
                raise PydanticCustomError(
                    "conflicting_alias",
                    "{field} and its older name {alias} are both set and differ; set only {field}",
                    {"field": repr(field), "alias": repr(alias)},
                )
            values[field] = value
        return values

    def __reduce__(self) -> Any:
        if secret_fields_of(type(self)):
            raise TypeError(
                f"{type(self).__name__} cannot be pickled: it holds secrets. Pass the provider's "
                "name and select it again on the other side."
            )
        return super().__reduce__()


def home_of(info: ValidationInfo) -> Path:
    """Return the folder below which a type keeps its data by default (``PURVEYOR_HOME``)."""
    return Path(_context(info).get("home", ".purveyor"))


def name_of(info: ValidationInfo, default: str) -> str:
    """Return the provider name the settings are validated for."""
    return _context(info).get("name", default)


def is_shared(info: ValidationInfo) -> bool:
    """
    Tell whether others than who runs this process may have written the settings.

    What a type does with more than data, starting a program say, it refuses to take from them.
    """
    return bool(_context(info).get("shared"))


def _context(info: ValidationInfo) -> Mapping[str, Any]:
    return cast("Mapping[str, Any] | None", info.context) or {}


ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Provider(Generic[ConfigT]):
    """
    Base of all providers, one per family derives from it.

    A provider type derives from its family's base with its config model as the type argument
    (``class SFTPStorage(StorageProvider[SFTPConfig])``) and implements ``_connect``,
    ``_close``, ``check_health`` and the operations. Building an instance does no I/O.

    An instance built by hand is used as ``async with SFTPStorage(config) as storage:`` and
    has no guard: errors of the backend's library may come out raw. ``registry.create(...)``
    and :func:`~purveyor.providers.registry.guarded` give guarded ones.
    """

    family: ClassVar[str]
    """Name of the family, set by the family's base class."""
    config_class: ClassVar[type[BaseModel]]
    """The config model: taken from the type argument."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, BaseModel):
                    cls.config_class = argument

    def __init__(self, config: ConfigT) -> None:
        self._config = config

    @property
    def config(self) -> ConfigT:
        """The settings this instance was built with; secrets stay masked."""
        return self._config

    @classmethod
    def settings_beside(cls, own: type[BaseModel]) -> type[BaseModel]:
        """Return the settings the type takes, whose own are ``own``; a family may add some."""
        return own

    @classmethod
    def class_for(cls, config: BaseModel) -> type[Provider[Any]]:
        """Return the class to build with some settings; a family may put one before another."""
        return cls

    @classmethod
    def capabilities_by(cls, config: BaseModel) -> frozenset[str]:
        """Return what some settings add to the capabilities of the type."""
        return frozenset()

    async def _connect(self) -> None:
        """Acquire what operations need. Runs once, before the first operation."""

    async def _close(self) -> None:
        """Release what ``_connect`` acquired, also after it failed half-way."""

    async def check_health(self) -> HealthStatus | None:
        """
        Ask the backend one cheap question, free of charge; raise what went wrong.

        Returns:
            None if all is well; ``HealthStatus.DEGRADED`` if it answers, but not as it should;
            ``HealthStatus.UNKNOWN`` if nothing was asked, since no question is free.
        """
        return None

    def _translate(self, error: Exception, call: Call) -> Exception | None:
        """
        Return the family's error for one that the backend's library raised.

        Returns:
            The error to raise in its place (the guard chains the cause), or None to let
            ``error`` through as it is.
        """
        return None

    def _is_failure(self, error: Exception) -> bool:
        """Tell whether an error counts against the backend, for the circuit breaker."""
        return is_backend_failure(error)

    async def initialize(self) -> None:
        """Connect now; what a failure leaves half-made is closed."""
        try:
            await self._connect()
        except BaseException:
            await self._close()
            raise

    async def dispose(self) -> None:
        """Close for good."""
        await self._close()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.dispose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Siblings(Protocol):
    """The providers of a family, as far as a composite of them has to know: their registry."""

    @property
    def family(self) -> Family: ...

    @property
    def events(self) -> Events: ...

    def info(self, name: str) -> ProviderInfo: ...

    def health(self, name: str) -> HealthReport: ...


class Composite(Provider[ConfigT]):
    """
    A provider made of other providers of its family, which its settings name.

    It opens nothing of its own: what it does, its members do, each with its own guard.
    """

    _name: str
    _lookup: Callable[[str], Any]
    _siblings: Siblings | None

    @classmethod
    @abstractmethod
    def members_of(cls, config: Any) -> Sequence[str]:
        """Return the names of the members that settings name."""

    def bind(
        self, name: str, lookup: Callable[[str], Any], siblings: Siblings | None = None
    ) -> Self:
        """
        Take what a composite needs; the engine calls it once, before anything else.

        Args:
            name: Its own name.
            lookup: Finds a member by name.
            siblings: Tells of the members, and whom to tell; nothing is known without it.
        """
        self._name = name
        self._lookup = lookup
        self._siblings = siblings
        return self

    def member(self, name: str) -> Any:
        """
        Return a member, guarded.

        Raises:
            NotFoundError: The family has no provider of that name.
        """
        return self._lookup(name)
