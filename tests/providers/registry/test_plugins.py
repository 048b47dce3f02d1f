"""Before one byte of a plugin runs: what is verified, and what is imported after that."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from purveyor.providers.registry import (
    ImportFailedError,
    NotFoundError,
    PluginRejectedError,
    ProviderTypes,
)
from purveyor.providers.registry.plugins import PluginLoader, PluginState
from purveyor.providers.registry.plugins.importing import uninstall
from purveyor.settings.branches import PluginSettings
from tests.providers.registry.plugin_samples import copy_example, loader, storage, write_plugin

MARK = "purveyor_test_plugin_ran"


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    """Each plugin that must not run would leave its mark in ``sys``."""
    vars(sys).pop(MARK, None)
    yield
    vars(sys).pop(MARK, None)
    for finder in [one for one in sys.meta_path if type(one).__name__ == "PluginImporter"]:
        uninstall(finder.plugin)  # type: ignore[attr-defined]


def ran() -> bool:
    return hasattr(sys, MARK)


def marking(plugins: Path, name: str = "sample", extra: str = "") -> Path:
    return write_plugin(plugins, name, f"sys.{MARK} = True\n" + storage(extra=extra))


def refused(found: PluginLoader, name: str = "sample") -> PluginRejectedError:
    """Return the error of a load that must fail before anything runs; the report says the same."""
    with pytest.raises(PluginRejectedError) as caught:
        found.load(name)
    assert not ran()
    report = found.report(name)
    assert report.error is not None
    assert report.error.message == caught.value.message
    assert caught.value.code == "PLUGIN_REJECTED"
    json.dumps(caught.value.to_dict())
    return caught.value


def reasons(error: PluginRejectedError) -> list[str]:
    found = error.context["reasons"]
    assert isinstance(found, list)
    return [f"{Path(one['where']).name} {one['reason']}" for one in found]


# -- what may run ------------------------------------------------------------------------


@pytest.mark.requirement("S1.36", "S4.25")
@pytest.mark.parametrize("isolation", ["process", "in_process"])
def test_a_pinned_plugin_gives_its_types(plugins: Path, isolation: str) -> None:
    copy_example(plugins)
    found = loader(plugins, isolation=isolation)
    assert [report.state for report in found.discover()] == [PluginState.PINNED]
    loaded = found.load("memory")
    (row,) = loaded.types
    assert (row.family, row.name) == ("storage", "memory-plugin")
    assert row.capabilities == {"local-storage", "flat-keys"}
    assert row.config_class.model_validate({}).model_dump() == {"max_objects": 10_000}
    assert row.metadata["plugin"] == "memory"
    types = ProviderTypes(scan_entry_points=False)
    types.add(row)
    types.add(found.load("memory").types[0] if isolation == "in_process" else row)


def test_loading_an_isolated_plugin_runs_none_of_it(plugins: Path) -> None:
    marking(plugins)
    loader(plugins).load("sample")
    assert not ran()


def test_a_plugin_declares_providers(plugins: Path) -> None:
    text = '[[providers]]\nname = "scratch"\nfamily = "storage"\ntype = "sample-type"\n'
    write_plugin(plugins, "sample", storage(), manifest=text + "[providers.settings]\nsize = 3\n")
    assert loader(plugins).load("sample").providers == (
        ("storage", "scratch", {"type": "sample-type", "options": {"size": 3}}),
    )


def test_no_folder_holds_no_plugins(tmp_path: Path) -> None:
    assert PluginLoader(tmp_path / "none", PluginSettings()).discover() == []


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginRejectedError, match="plugin_path"):
        PluginLoader(tmp_path / "file", PluginSettings()).discover()


def test_an_unknown_plugin_is_told_with_those_there_are(plugins: Path) -> None:
    marking(plugins)
    with pytest.raises(NotFoundError, match="There are: sample"):
        loader(plugins).load("sampel")


def test_one_bad_plugin_hides_no_other(plugins: Path) -> None:
    copy_example(plugins)
    found = loader(plugins)
    (plugins / "broken").mkdir(mode=0o755)
    assert {one.name: one.state for one in found.discover()} == {
        "broken": PluginState.REJECTED,
        "memory": PluginState.PINNED,
    }


def test_watched_names_everything_a_change_can_be_in(plugins: Path) -> None:
    folder = copy_example(plugins)
    assert set(loader(plugins).watched()) == {
        plugins,
        plugins / "pins.json",
        folder,
        folder / "plugin.toml",
        folder / "memory_storage.py",
    }


# -- what may not ------------------------------------------------------------------------


@pytest.mark.requirement("S1.39", "S4.52")
def test_an_unpinned_plugin(plugins: Path) -> None:
    marking(plugins)
    found = loader(plugins, pin=False, isolation="in_process")
    assert reasons(refused(found)) == ["sample is not pinned"]
    assert "purveyor plugins pin sample" in refused(found).message
    assert found.report("sample").state is PluginState.UNPINNED


@pytest.mark.requirement("S1.39", "S4.52")
def test_a_plugin_that_is_not_allowed(plugins: Path) -> None:
    marking(plugins)
    loader(plugins)
    found = loader(plugins, pin=False, allowed=("other",), isolation="in_process")
    assert reasons(refused(found)) == ["sample is not allowed"]
    assert "PURVEYOR_REGISTRY__PLUGINS__ALLOWED" in refused(found).message
    assert found.report("sample").state is PluginState.NOT_ALLOWED


def change_a_byte(folder: Path) -> str:
    module = folder / "sample.py"
    data = bytearray(module.read_bytes())
    data[-1] ^= 1
    module.write_bytes(data)
    return "sample.py has changed since it was pinned"


def add_a_file(folder: Path) -> str:
    (folder / "more.py").write_text("")
    (folder / "more.py").chmod(0o644)
    return "more.py is not pinned: an extra file"


def add_compiled_code(folder: Path) -> str:
    (folder / "__pycache__").mkdir(mode=0o755)
    (folder / "__pycache__" / "sample.cpython-311.pyc").write_bytes(b"")
    (folder / "__pycache__" / "sample.cpython-311.pyc").chmod(0o644)
    return "sample.cpython-311.pyc is not pinned: an extra file"


def remove_a_file(folder: Path) -> str:
    (folder / "data.py").unlink()
    return "data.py is pinned and missing"


@pytest.mark.requirement("S1.39", "S4.52")
@pytest.mark.parametrize("change", [change_a_byte, add_a_file, add_compiled_code, remove_a_file])
@pytest.mark.parametrize("isolation", ["process", "in_process"])
def test_any_change_since_it_was_pinned(
    plugins: Path, change: Callable[[Path], str], isolation: str
) -> None:
    folder = marking(plugins)
    (folder / "data.py").write_text("")
    (folder / "data.py").chmod(0o644)
    found = loader(plugins, isolation=isolation)
    expected = change(folder)
    assert reasons(refused(found)) == [expected]
    assert found.report("sample").state is PluginState.CHANGED


@pytest.mark.requirement("S1.39", "S4.52")
@pytest.mark.parametrize("target", ["outside", "inside", "folder"])
def test_a_symlink_in_the_folder(plugins: Path, tmp_path: Path, target: str) -> None:
    folder = marking(plugins)
    outside = tmp_path / "outside"
    outside.mkdir()
    where = {"outside": outside / "x", "inside": folder / "sample.py", "folder": outside}[target]
    (folder / "link").symlink_to(where)
    found = loader(plugins, pin=False, isolation="in_process")
    with pytest.raises(PluginRejectedError, match="is a symlink"):
        found.pinnable("sample")
    assert any(one.startswith("link is a symlink") for one in reasons(refused(found)))


def test_a_folder_that_is_a_symlink(plugins: Path, tmp_path: Path) -> None:
    marking(tmp_path / "elsewhere")
    plugins.mkdir(mode=0o755)
    (plugins / "sample").symlink_to(tmp_path / "elsewhere" / "sample")
    found = loader(plugins, pin=False)
    assert any("sample cannot be read" in one for one in reasons(refused(found)))


def test_what_is_no_regular_file(plugins: Path) -> None:
    folder = marking(plugins)
    os.mkfifo(folder / "pipe", 0o600)
    assert "pipe cannot be read: is no regular file" in reasons(refused(loader(plugins, pin=False)))


@pytest.mark.requirement("S1.39", "S4.52")
@pytest.mark.parametrize("mode", [0o775, 0o757])
@pytest.mark.parametrize("what", ["plugins", "folder", "file", "pins"])
def test_what_others_can_write(plugins: Path, what: str, mode: int) -> None:
    folder = marking(plugins)
    found = loader(plugins, isolation="in_process")
    places = {"plugins": plugins, "folder": folder, "file": folder / "sample.py"}
    path = places.get(what, plugins / "pins.json")
    path.chmod(mode)
    error = refused(found)
    assert reasons(error) == [f"{path.name} can be written by others (mode {mode:04o})"]
    assert f"chmod go-w {path}" in error.message or what == "pins"
    assert found.report("sample").state is PluginState.REJECTED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["plugins", "folder", "file", "pins"])
def test_what_belongs_to_somebody_else(plugins: Path, what: str) -> None:
    folder = marking(plugins)
    found = loader(plugins, isolation="in_process")
    places = {"plugins": plugins, "folder": folder, "file": folder / "sample.py"}
    path = places.get(what, plugins / "pins.json")
    os.chown(path, 4321, 4321)
    assert f"{path.name} belongs to user 4321, who may change it at any time" in reasons(
        refused(found)
    )


@pytest.mark.requirement("S4.52")
def test_a_wrong_api_version_is_told_alone(plugins: Path) -> None:
    folder = marking(plugins)
    manifest = folder / "plugin.toml"
    text = manifest.read_text().replace("api_version = 1", "api_version = 2\nunheard_of = 1")
    manifest.write_text(text)
    found = loader(plugins, pin=False, allowed=("sample",), isolation="in_process")
    assert reasons(refused(found)) == [
        "plugin.toml: api_version is 2, and this Purveyor has plugin API 1",
        "sample is not pinned",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "sample"', 'name = "other"', "name is 'other', and the folder is 'sample'"),
        ('version = "1.0"', "version = 1", "version must be text"),
        ('version = "1.0"', "", "version is required"),
        ("api_version = 1", 'api_version = "1"', "api_version must be a whole number"),
        ('"storage"', '"storage"\ncolour = "red"', "types.0.colour unknown setting"),
        ("sample:Storage", "sample.py", "types.0.class"),
        ("sample:Storage", "nowhere:Storage", "names a module that is not there"),
        ("api_version = 1", "api_version = ", "is no TOML"),
        ("[[types]]", "[[kinds]]", "types is required"),
        (
            'capabilities = ["local-storage"]',
            '[types.settings.copy]\ntype = "string"',
            "'copy' is taken by pydantic",
        ),
        (
            'capabilities = ["local-storage"]',
            '[types.settings.key]\ntype = "secret"\ndefault = "x"',
            "a secret has no default",
        ),
    ],
)
def test_a_fault_of_the_manifest_is_told_with_file_and_key(
    plugins: Path, old: str, new: str, expected: str
) -> None:
    manifest = marking(plugins) / "plugin.toml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))
    told = reasons(refused(loader(plugins, pin=False)))
    assert any(one.startswith("plugin.toml") and expected in one for one in told), told


def test_no_manifest(plugins: Path) -> None:
    (marking(plugins) / "plugin.toml").unlink()
    assert "plugin.toml is missing" in reasons(refused(loader(plugins, pin=False)))


def test_a_family_nobody_knows(plugins: Path) -> None:
    manifest = marking(plugins) / "plugin.toml"
    manifest.write_text(manifest.read_text().replace('"storage"', '"weather"', 1))
    with pytest.raises(PluginRejectedError, match="no family 'weather'"):
        loader(plugins).load("sample")


def test_all_reasons_are_told_at_once(plugins: Path) -> None:
    folder = marking(plugins)
    loader(plugins)
    change_a_byte(folder)
    add_a_file(folder)
    (folder / "more.py").chmod(0o666)
    told = reasons(refused(loader(plugins, pin=False, allowed=())))
    assert sorted(told) == [
        "more.py can be written by others (mode 0666)",
        "more.py is not pinned: an extra file",
        "sample is not allowed",
        "sample.py has changed since it was pinned",
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"plugins": {"a": {}}}'])
def test_pins_that_are_none(plugins: Path, text: str) -> None:
    marking(plugins)
    found = loader(plugins)
    found.pins_path.write_text(text)
    assert reasons(refused(found)) == ["pins.json is no file of pins"]


def test_pins_are_written_for_this_user_alone(plugins: Path, tmp_path: Path) -> None:
    marking(plugins)
    found = loader(plugins, pins=tmp_path / "trusted.json")
    assert found.pins_path.stat().st_mode & 0o777 == 0o600
    assert not (plugins / "pins.json").exists()
    found.pins_path.chmod(0o644)
    assert found.report("sample").state is PluginState.PINNED
    assert {path.name for path in tmp_path.iterdir()} == {"plugins", "trusted.json"}


# -- what runs is what was verified ------------------------------------------------------


@pytest.mark.requirement("S4.52")
def test_what_runs_is_what_was_verified(plugins: Path) -> None:
    """A file that is replaced after it was read is not what is imported, however late."""
    folder = marking(plugins, extra="def late():\n    from .later import VALUE\n    return VALUE")
    (folder / "later.py").write_text("VALUE = 'verified'\n")
    (folder / "later.py").chmod(0o644)
    found = loader(plugins, isolation="in_process")
    (row,) = found.load("sample").types
    (folder / "later.py").write_text("VALUE = 'replaced'\n")
    assert sys.modules[row.loaded_class.__module__].late() == "verified"
    assert not list(folder.rglob("__pycache__"))


def test_modules_and_data_come_from_memory(plugins: Path) -> None:
    folder = write_plugin(
        plugins,
        "sample",
        storage(extra="from .inner.deep import DEPTH\nfrom . import inner"),
    )
    (folder / "inner").mkdir(mode=0o755)
    for name, text in {"deep.py": "DEPTH = 2\n", "words.txt": "größe"}.items():
        (folder / "inner" / name).write_text(text, encoding="utf-8")
        (folder / "inner" / name).chmod(0o644)
    (row,) = loader(plugins, isolation="in_process").load("sample").types
    (folder / "inner" / "words.txt").write_text("replaced")
    package = "purveyor_plugin_sample"
    assert row.loaded_class.__module__ == f"{package}.sample"
    assert sys.modules[f"{package}.sample"].DEPTH == 2
    words = files(f"{package}.inner") / "words.txt"
    assert words.read_text(encoding="utf-8") == "größe"
    assert words.open("rb").read() == "größe".encode()
    assert [one.name for one in files(package).iterdir()] == ["inner", "plugin.toml", "sample.py"]
    loader_of: Any = sys.modules[f"{package}.sample"].__loader__
    assert loader_of.get_data("plugin:sample/inner/words.txt") == "größe".encode()
    with pytest.raises(FileNotFoundError):
        loader_of.get_data("plugin:sample/secret.txt")


def test_the_same_bytes_again_are_the_same_class(plugins: Path) -> None:
    folder = marking(plugins)
    found = loader(plugins, isolation="in_process")
    first, second = (found.load("sample").types[0].loaded_class for _ in range(2))
    assert first is second
    (folder / "sample.py").write_text((folder / "sample.py").read_text() + "\n")
    found.pin([found.pinnable("sample")])
    assert found.load("sample").types[0].loaded_class is not first


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("sys.exit(3)", "SystemExit"),
        ("raise asyncio.CancelledError", "CancelledError"),
        ("import nowhere_at_all", "nowhere_at_all"),
        ("from .other import thing", "ImportError"),
        ("def deeper(): return deeper()\ndeeper()", "RecursionError"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_a_failing_import_is_this_plugins_failure(plugins: Path, code: str, told: str) -> None:
    other = "from .bad import thing\n"
    write_plugin(plugins, "bad", f"{code}\n{storage()}", other=other)
    copy_example(plugins)
    found = loader(plugins, isolation="in_process")
    with pytest.raises(ImportFailedError, match="Plugin 'bad'") as caught:
        found.load("bad")
    assert told in str(caught.value)
    assert found.load("memory").types


@pytest.mark.parametrize("code", ["Storage = 3", "class Storage: pass", ""])
def test_a_class_that_is_none_of_its_family(plugins: Path, code: str) -> None:
    write_plugin(plugins, "bad", code)
    with pytest.raises(ImportFailedError, match="Plugin 'bad'"):
        loader(plugins, isolation="in_process").load("bad")


# -- settings of an isolated type --------------------------------------------------------


def test_declared_settings_are_checked_without_the_plugin(plugins: Path) -> None:
    settings = (
        '[types.settings.token]\ntype = "secret"\nrequired = true\n'
        '[types.settings.root]\ntype = "path"\n'
        '[types.settings.ratio]\ntype = "number"\ndefault = 0.5\n'
    )
    write_plugin(plugins, "sample", storage(), manifest=settings)
    (row,) = loader(plugins).load("sample").types
    assert row.secret_fields == {"token"}
    config = row.config_class.model_validate({"token": "hush", "root": "below"})
    assert "hush" not in repr(config) + config.model_dump_json()
    values, secrets = config.revealed()  # type: ignore[attr-defined]
    assert values == {"token": "hush", "root": Path.cwd() / "below", "ratio": 0.5}
    assert secrets == {"hush"}
    assert isinstance(config.token, SecretStr)  # type: ignore[attr-defined]
    for wrong in ({}, {"token": "x", "colour": "red"}, {"token": "x", "ratio": "much"}):
        with pytest.raises(ValueError, match="validation error"):
            row.config_class.model_validate(wrong)
