"""Values as bytes and back, for a reader that does not trust the writer: no pickle, no code."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, cast, get_type_hints

from .shape import UnfitValueError, checked, strict_adapter

__all__ = ["Codec", "SourceRef"]

Parts = list[memoryview]

_SIZE = struct.Struct("!I")
MAX_JSON = 4 * 1024 * 1024
"""Bytes of a message beside its binary parts: as objects they take many times the memory."""


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Stands for a stream in a call's arguments; its chunks come under this number."""

    number: int


class Codec:
    """
    JSON with binary parts, for the plain types and an allow-list of dataclasses and enums.

    What JSON has no word for is an object of one key, its tag, which is why a dict is tagged
    too.

    Args:
        values: The frozen dataclasses and enums that may cross.
        source: Makes of a :class:`SourceRef`'s number what stands for the stream on this side.
    """

    def __init__(
        self, values: Iterable[type] = (), source: Callable[[int], Any] | None = None
    ) -> None:
        self._values = {one.__name__: one for one in values}
        self._fields = {
            name: {field: strict_adapter(hint) for field, hint in get_type_hints(one).items()}
            for name, one in self._values.items()
            if is_dataclass(one)
        }
        self._source = source
        self._decoders: dict[str, Callable[[Any, Parts], Any]] = {
            "bytes": lambda index, parts: bytes(parts[_natural(index)]),
            "tuple": lambda items, parts: tuple(self._list(items, parts)),
            "set": lambda items, parts: set(self._list(items, parts)),
            "frozenset": lambda items, parts: frozenset(self._list(items, parts)),
            "dict": self._dict,
            "datetime": lambda text, _: datetime.fromisoformat(text),
            "path": lambda text, _: Path(text),
            "enum": lambda pair, _: self._values[pair[0]](pair[1]),
            "value": self._value,
            "source": lambda number, _: self._open_source(number),
        }

    def dumps(self, value: Any) -> list[bytes]:
        """
        Return a value as bytes, in pieces to be written one after the other.

        Raises:
            TypeError: A part of it is of a type that cannot cross.
        """
        parts: list[bytes] = []
        body = self._encode(value, parts)
        head = json.dumps([body, list(map(len, parts))], separators=(",", ":")).encode()
        if len(head) > MAX_JSON:
            raise TypeError(f"a value of {len(head)} bytes is too large to cross as one; stream it")
        return [_SIZE.pack(len(head)), head, *parts]

    def loads(self, data: bytes | bytearray) -> Any:
        """
        Return the value that :meth:`dumps` wrote.

        Raises:
            UnfitValueError: Well-formed, but a field is of the wrong type.
            ValueError: Anything else.
        """
        try:
            view = memoryview(data)
            end = 4 + cast(int, _SIZE.unpack_from(view)[0])
            if end > 4 + MAX_JSON:
                raise ValueError("is too large")
            body, sizes = json.loads(bytes(view[4:end]))
            parts: list[memoryview] = []
            for size in sizes:
                parts.append(view[end : end + _natural(size)])
                end += size
            if end != len(view):
                raise ValueError(f"has {len(view)} bytes and speaks of {end}")
            return self._decode(body, parts)
        except UnfitValueError:
            raise
        except Exception as error:
            raise ValueError(f"no message: {type(error).__name__}: {error}") from error

    # -- writing -------------------------------------------------------------------------

    def _encode(self, value: Any, parts: list[bytes]) -> Any:
        kind = cast("type[Any]", type(value))
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self._encode(item, parts) for item in value]
        if isinstance(value, bytes | bytearray | memoryview):
            parts.append(bytes(cast(bytes, value)))
            return {"bytes": len(parts) - 1}
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {"dict": [[self._encode(k, parts), self._encode(v, parts)] for k, v in pairs]}
        if self._values.get(kind.__name__) is kind:
            return self._encode_value(value, kind, parts)
        if isinstance(value, datetime):
            return {"datetime": value.isoformat()}
        if isinstance(value, PurePath):
            return {"path": str(value)}
        if isinstance(value, SourceRef):
            return {"source": value.number}
        if isinstance(value, tuple):
            return {"tuple": self._encode(list(cast("tuple[Any, ...]", value)), parts)}
        if isinstance(value, AbstractSet):
            tag = "set" if isinstance(value, set) else "frozenset"
            return {tag: self._encode(list(cast("AbstractSet[Any]", value)), parts)}
        if isinstance(value, list):
            return self._encode(list(cast("list[Any]", value)), parts)
        for plain in (str, int, float):
            if isinstance(value, plain) and not isinstance(value, Enum):
                return plain(value)
        raise TypeError(f"{kind.__qualname__!r} cannot cross to or from a plugin's process")

    def _encode_value(self, value: Any, kind: type[Any], parts: list[bytes]) -> Any:
        if isinstance(value, Enum):
            return {"enum": [kind.__name__, self._encode(value.value, parts)]}
        content = {one.name: self._encode(getattr(value, one.name), parts) for one in fields(value)}
        return {"value": [kind.__name__, content]}

    # -- reading -------------------------------------------------------------------------

    def _decode(self, body: Any, parts: Parts) -> Any:
        if isinstance(body, list):
            return self._list(cast("list[Any]", body), parts)
        if isinstance(body, dict):
            ((tag, content),) = cast("dict[str, Any]", body).items()
            return self._decoders[tag](content, parts)
        return body

    def _list(self, items: list[Any], parts: Parts) -> list[Any]:
        return [self._decode(item, parts) for item in items]

    def _dict(self, items: list[Any], parts: Parts) -> dict[Any, Any]:
        pairs = [self._list(pair, parts) for pair in items]
        return {key: value for key, value in pairs}  # noqa: C416 - refuses what is no pair

    def _value(self, pair: list[Any], parts: Parts) -> Any:
        name, content = pair
        adapters = self._fields[name]
        made = {field: self._decode(item, parts) for field, item in content.items()}
        for field, item in made.items():
            checked(adapters[field], item, f"{name}.{field}")
        return self._values[name](**made)

    def _open_source(self, number: Any) -> Any:
        if self._source is None:
            raise ValueError("a source comes from the wrong side")
        return self._source(_natural(number))


def _natural(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("no size, index or number of a stream")
    return number
