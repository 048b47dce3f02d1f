"""Importing a plugin from memory: the verified bytes run, never what lies at the path by now."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.resources.abc import Traversable, TraversableResources
from io import BytesIO, TextIOWrapper
from operator import attrgetter
from types import CodeType, ModuleType
from typing import IO, Any, cast

from ..errors import ImportFailedError
from ..provider import Provider

__all__ = ["install", "package_of", "provider_class", "uninstall"]


def package_of(plugin: str) -> str:
    """Return the private name below which a plugin's modules are imported."""
    return f"purveyor_plugin_{plugin}"


def install(plugin: str, files: Mapping[str, bytes]) -> None:
    """Make a plugin's modules importable; the same bytes again keep what is imported already."""
    for finder in sys.meta_path:
        if isinstance(finder, PluginImporter) and finder.plugin == plugin:
            if finder.files == files:
                return
            uninstall(plugin)
            break
    sys.meta_path.insert(0, PluginImporter(plugin, dict(files)))


def uninstall(plugin: str) -> None:
    """Forget a plugin's modules; classes that are in use stay as they are."""
    package = package_of(plugin)
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if not (isinstance(finder, PluginImporter) and finder.plugin == plugin)
    ]
    for name in [one for one in sys.modules if one == package or one.startswith(f"{package}.")]:
        del sys.modules[name]


def provider_class(plugin: str, path: str, base: type[Provider[Any]]) -> type[Provider[Any]]:
    """
    Return the class that ``module:Class`` of an installed plugin names.

    Raises:
        ImportFailedError: The import failed (the cause is kept), there is no such class, or it is
            not derived from its family's base.
    """
    found = _imported(plugin, path)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ImportFailedError(
            f"Plugin {plugin!r}: {path} is not derived from {base.__name__}.",
            context={"plugin": plugin, "path": path},
        )
    return cast("type[Provider[Any]]", found)


def _imported(plugin: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return attrgetter(attribute)(importlib.import_module(f"{package_of(plugin)}.{module}"))
    except ImportFailedError:
        raise
    except Exception as error:
        raise ImportFailedError(
            f"Plugin {plugin!r} cannot be imported ({path}): {type(error).__name__}: {error}",
            context={"plugin": plugin, "path": path},
        ) from error


class PluginImporter(MetaPathFinder, InspectLoader):
    """Finds and loads the modules of one plugin among its verified files."""

    def __init__(self, plugin: str, files: Mapping[str, bytes]) -> None:
        self.plugin = plugin
        self.files = files
        self._package = package_of(plugin)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of one of the plugin's modules."""
        if fullname != self._package and not fullname.startswith(f"{self._package}."):
            return None
        file = self._file(fullname)
        is_package = file is None or file.endswith("__init__.py")
        if file is None and not self._is_folder(fullname):
            return None
        spec = ModuleSpec(fullname, self, origin=self._origin(file), is_package=is_package)
        spec.has_location = file is not None
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Run a module; whatever ends it is this plugin's failure and nobody else's."""
        code = self.get_code(module.__name__)
        if code is None:
            return
        try:
            exec(code, module.__dict__)  # noqa: S102 - this is what importing means
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit above all
            raise ImportFailedError(
                f"Plugin {self.plugin!r} cannot be imported: {module.__name__} raised "
                f"{type(error).__name__}({error})",
                context={"plugin": self.plugin},
            ) from error

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the compiled module; None for a folder without ``__init__.py``."""
        file = self._file(fullname)
        if file is None:
            return None
        return compile(self.files[file], self._origin(file), "exec", dont_inherit=True)

    def get_source(self, fullname: str) -> str | None:
        """Return a module's text, for tracebacks."""
        file = self._file(fullname)
        return None if file is None else importlib.util.decode_source(self.files[file])

    def is_package(self, fullname: str) -> bool:
        """Tell whether a module may hold others."""
        file = self._file(fullname)
        return file is None or file.endswith("__init__.py")

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a file of the plugin, by the path that ``__file__`` begins."""
        try:
            return self.files[path.removeprefix(self._origin(""))]
        except KeyError:
            raise FileNotFoundError(f"Plugin {self.plugin!r} has no verified file {path}") from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        """Return what ``importlib.resources`` reads the plugin's data files with."""
        return _Resources(_Node(self.files, self._folder(fullname)))

    def _folder(self, fullname: str) -> str:
        return "".join(f"{part}/" for part in fullname.split(".")[1:])

    def _file(self, fullname: str) -> str | None:
        folder = self._folder(fullname)
        names = (f"{folder}__init__.py", f"{folder[:-1]}.py")
        return next((name for name in names if name in self.files), None)

    def _is_folder(self, fullname: str) -> bool:
        folder = self._folder(fullname)
        return not folder or any(name.startswith(folder) for name in self.files)

    def _origin(self, file: str | None) -> str:
        return f"plugin:{self.plugin}/{file or ''}"


class _Resources(TraversableResources):
    def __init__(self, root: _Node) -> None:
        self._root = root

    def files(self) -> Traversable:
        return self._root


class _Node(Traversable):
    """A file or folder among the verified files."""

    def __init__(self, files: Mapping[str, bytes], path: str) -> None:
        self._files = files
        self._path = path.strip("/")

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    def iterdir(self) -> Iterator[_Node]:
        prefix = f"{self._path}/" if self._path else ""
        below = {
            name.removeprefix(prefix).partition("/")[0]
            for name in self._files
            if name.startswith(prefix)
        }
        return (_Node(self._files, prefix + name) for name in sorted(below))

    def is_file(self) -> bool:
        return self._path in self._files

    def is_dir(self) -> bool:
        return not self.is_file() and any(True for _ in self.iterdir())

    def joinpath(self, *descendants: Any) -> _Node:
        return _Node(self._files, "/".join([self._path, *map(str, descendants)]))

    __truediv__ = joinpath

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self.is_file():
            raise FileNotFoundError(self._path)
        data = BytesIO(self.read_bytes())
        return data if "b" in mode else TextIOWrapper(data, *args, **kwargs)

    def read_bytes(self) -> bytes:
        return self._files[self._path]

    def read_text(self, encoding: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8")
