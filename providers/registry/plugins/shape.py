"""What of a family may cross to a plugin's process: its operations, values and errors."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import cached_property
from operator import attrgetter
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from .. import errors as registry_errors
from ..errors import RegistryError
from ..provider import Provider, is_operation
from ..types import ProviderTypes

__all__ = ["FamilyShape", "Operation", "UnfitValueError", "shape_of"]

ErrorT = TypeVar("ErrorT", bound=RegistryError)


class UnfitValueError(ValueError):
    """A value from the other side that is well-formed and of the wrong type."""


@dataclass(frozen=True)
class Operation:
    """
    One operation of a family, as its base declares it.

    ``sources`` are the parameters that take a stream (bytes, a path, a file or an async
    iterator); ``is_stream`` says that it answers with one.
    """

    name: str
    function: Callable[..., Any]
    is_stream: bool
    sources: frozenset[str]
    answer: Any

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature, without ``self``."""
        _, *parameters = inspect.signature(self.function).parameters.values()
        return inspect.Signature(parameters)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        return strict_adapter(self.answer)

    def checked(self, value: Any) -> Any:
        """Return an answer, or an item of one, if its type is what the family says it is."""
        return checked(self._adapter, value, f"the answer to {self.name}")


@dataclass(frozen=True)
class FamilyShape:
    """
    What a family's calls are made of.

    Args:
        base: The family's base class.
        values: Frozen dataclasses and enums that may cross in either direction.
        errors: Error classes that a plugin may raise as they are, beside the registry's own.
    """

    base: type[Provider[Any]]
    values: tuple[type, ...] = ()
    errors: tuple[type[RegistryError], ...] = ()

    @classmethod
    def of(cls, base: type[Provider[Any]]) -> FamilyShape:
        """Return the shape of a family: what its operations' types and its package name."""
        values: dict[type, None] = {}
        for _, function in _operations_of(base):
            for hint in _hints(function).values():
                values.update(dict.fromkeys(_values_in(hint, set())))
        package = base.__module__.rpartition(".")[0]
        errors = [
            error
            for name, module in list(sys.modules.items())
            if name.startswith(f"{package}.")
            for error in vars(module).values()
            if isinstance(error, type)
            and issubclass(error, RegistryError)
            and error.__module__ == name
            and not error.__name__.startswith("_")
        ]
        return cls(base, tuple(values), tuple(dict.fromkeys(errors)))

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """The family's operations by name; plain functions, which cannot wait, are left out."""
        found: dict[str, Operation] = {}
        for name, function in _operations_of(self.base):
            hints = _hints(function)
            answer = hints.pop("return", Any)
            is_stream = get_origin(answer) is not None and issubclass(
                get_origin(answer), AsyncIterator
            )
            if not is_stream and not inspect.iscoroutinefunction(function):
                continue
            sources = frozenset(name for name, hint in hints.items() if _takes_stream(hint))
            answer = get_args(answer)[0] if is_stream else answer
            found[name] = Operation(name, function, is_stream, sources, answer)
        return found

    @cached_property
    def errors_by_name(self) -> dict[str, type[RegistryError]]:
        """Every error class that may cross, the family's and the registry's, by its name."""
        own = (getattr(registry_errors, name) for name in registry_errors.__all__)
        known = [one for one in own if isinstance(one, type) and issubclass(one, RegistryError)]
        return {one.__name__: one for one in (*known, *self.errors)}

    def error_class(self, kind: type[ErrorT]) -> type[ErrorT]:
        """Return the family's own class for a kind of error, the most general one it has."""
        own = [error for error in self.errors if issubclass(error, kind)]
        return min(own, key=lambda error: len(error.__mro__), default=kind)

    def to_wire(self) -> dict[str, Any]:
        """Return the names of all classes, for the other side to import."""
        return {
            "base": _path(self.base),
            "values": [_path(one) for one in self.values],
            "errors": [_path(one) for one in self.errors],
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> FamilyShape:
        """Import what :meth:`to_wire` names."""
        return cls(
            _at(data["base"]), tuple(map(_at, data["values"])), tuple(map(_at, data["errors"]))
        )


def shape_of(family: str, types: ProviderTypes) -> FamilyShape | None:
    """Return the shape of a family by the types it has: their base that names the family."""
    for row in types.all(family):
        if not row.origin.startswith("plugin"):
            for base in row.loaded_class.__mro__:
                if vars(base).get("family") == family and base is not row.loaded_class:
                    return FamilyShape.of(base)
    return None


def strict_adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Return what checks values of a type; None for a type that cannot be checked."""
    try:
        if hasattr(hint, "__dataclass_fields__") or hasattr(hint, "model_config"):
            return TypeAdapter(hint)  # it may have a configuration of its own
        return TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:
        return None


def checked(adapter: TypeAdapter[Any] | None, value: Any, what: str) -> Any:
    """
    Return ``value`` if it is of the adapter's type, as it is.

    Raises:
        UnfitValueError: It is not; the message quotes no value.
    """
    if adapter is not None:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise UnfitValueError(
                f"{what} is unfit: {place and place + ': '}{fault['msg']}"
            ) from None
    return value


def _operations_of(base: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    return ((name, getattr(base, name)) for name in dir(base) if is_operation(base, name))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def _takes_stream(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(map(_takes_stream, get_args(hint)))
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, AsyncIterable)


def _values_in(hint: Any, seen: set[Any]) -> Iterator[type]:
    """Yield the dataclasses and enums that a type is made of, those in their fields too."""
    if isinstance(hint, type) and hint not in seen:
        cls = cast("type[Any]", hint)
        seen.add(cls)
        if issubclass(cls, Enum):
            yield cls
        elif is_dataclass(cls):
            yield cls
            for inner in get_type_hints(cls).values():
                yield from _values_in(inner, seen)
    for part in get_args(hint):
        yield from _values_in(part, seen)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _at(path: str) -> Any:
    module, _, name = path.partition(":")
    return attrgetter(name)(importlib.import_module(module))
