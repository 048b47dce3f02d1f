"""The arguments of a call that may have to be made again: what of them can be read only once?"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

__all__ = ["Arguments"]

ResultT = TypeVar("ResultT")

_PLAIN = frozenset({str, bytes, bytearray, memoryview, int, float, bool, list, tuple, dict})
_HARMLESS = frozenset({"closed", "encoding", "mode", "name", "readable", "seekable", "writable"})


class Arguments:
    """
    What a call is given, and what to give it once more.

    Async iterables, iterators and open files are handed out behind a stand-in that knows
    whether any of it was read, and that gives nothing more once its call is over. What lies
    deeper, in a list say, is not seen.

    Args:
        args: As the caller gave them.
        kwargs: As the caller gave them.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.kwargs: dict[str, Any]
        self.args = tuple([_stand_in(value) for value in args])
        self.kwargs = {name: _stand_in(value) for name, value in kwargs.items()}

    def again(self) -> object | None:
        """Make ready for another call; return what cannot be read again, if that is so."""
        readings = [
            value for value in (*self.args, *self.kwargs.values()) if isinstance(value, _Reading)
        ]
        for reading in readings:
            if not reading.end():
                return reading.source
        if readings:
            self.args = tuple([_renewed(value) for value in self.args])
            self.kwargs = {name: _renewed(value) for name, value in self.kwargs.items()}
        return None


def _stand_in(value: Any) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, AsyncIterable):
        return _AsyncItems(cast(Any, value))
    if callable(getattr(value, "read", None)):
        return _File(value)
    return _Items(cast(Any, value)) if isinstance(value, Iterator) else value


def _renewed(value: Any) -> Any:
    return _stand_in(value.source) if isinstance(value, _Reading) else value


class _Reading:
    """One call's reading of a source; any use of it that is not known counts as reading."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self._read = False
        self._over = False

    def end(self) -> bool:
        """Give nothing more; tell whether the source stands where it stood."""
        self._over = True
        return not self._read

    def _begin(self) -> None:
        if self._over:
            raise RuntimeError("The call that this argument was given to is over.")
        self._read = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.source, name)
        if name not in _HARMLESS:
            self._begin()
        return found


class _AsyncItems(_Reading):
    _items: AsyncIterator[Any] | None = None

    def __aiter__(self) -> _AsyncItems:
        self._items = aiter(self.source)
        return self

    async def __anext__(self) -> Any:
        self._begin()
        if self._items is None:
            self._items = aiter(self.source)
        return await anext(self._items)


class _Items(_Reading):
    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> Any:
        self._begin()
        return next(self.source)


class _File(_Reading):
    """
    An open file; one that is seekable can be wound back.

    Not while a thread still reads: a call that was given up leaves its threads behind, and what
    they read would be missing from the next one's.
    """

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._lock = threading.Lock()
        self._under_way = 0
        self._lost = False
        try:
            self._start = source.tell() if source.seekable() else None
        except (AttributeError, OSError, ValueError):
            self._start = None

    def end(self) -> bool:
        with self._lock:
            self._over = True
            if self._under_way or self._lost:
                return False
        if not self._read:
            return True
        try:
            if self._start is not None:
                self.source.seek(self._start)
        except (OSError, ValueError):  # closed meanwhile
            return False
        return self._start is not None

    def _use(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        with self._lock:
            self._begin()
            self._under_way += 1
        try:
            return function(*args)
        finally:
            with self._lock:
                self._under_way -= 1

    def read(self, *args: Any) -> Any:
        return self._use(self.source.read, *args)

    def readinto(self, buffer: Any) -> int:
        return self._use(self.source.readinto, buffer)

    def readline(self, *args: Any) -> Any:
        return self._use(self.source.readline, *args)

    def seek(self, *args: Any) -> int:
        return self._use(self.source.seek, *args)

    def tell(self) -> int:
        return self.source.tell()

    def __iter__(self) -> _File:
        return self

    def __next__(self) -> Any:
        return self._use(next, self.source)

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        self._lost = self._lost or name not in _HARMLESS  # its descriptor, say
        return found
