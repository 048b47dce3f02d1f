from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from purveyor.entrypoints.cli import plugins as plugin_commands
from purveyor.entrypoints.cli.session import CommandGroup, Session
from tests.providers.registry.plugin_samples import copy_example, write_plugin

Run = Callable[..., Any]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one plugin, which the settings name."""
    copy_example(tmp_path / "plugins")
    monkeypatch.setenv("PURVEYOR_REGISTRY__DISCOVERY__PLUGIN_PATH", str(tmp_path / "plugins"))
    monkeypatch.setenv("PURVEYOR_REGISTRY__PLUGINS__ALLOWED", "memory")
    return tmp_path / "plugins"


@pytest.fixture
def cli() -> Run:
    app = typer.Typer(cls=CommandGroup, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = Session()

    app.add_typer(plugin_commands.app, name="plugins")

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["plugins", *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def states(cli: Run) -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(cli("list", "--json").stdout)}


def test_list_shows_all_with_their_state(
    cli: Run, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(cli) == {"memory": "unpinned"}
    assert cli("pin", "memory", "--yes").exit_code == 0
    assert states(cli) == {"memory": "pinned"}
    (plugins / "memory" / "memory_storage.py").write_text("")
    assert states(cli) == {"memory": "changed"}
    cli("pin", "memory", "--yes")
    monkeypatch.setenv("PURVEYOR_REGISTRY__PLUGINS__ALLOWED", "")
    assert states(cli) == {"memory": "not allowed"}
    plugins.chmod(0o777)
    assert states(cli) == {"memory": "rejected"}
    lines = cli("list").stdout.splitlines()
    assert lines[1].startswith("memory\t1.0\trejected\tstorage/memory-plugin")


def test_pin_shows_what_will_be_trusted(cli: Run, plugins: Path) -> None:
    result = cli("pin", "memory", "--yes")
    for part in (
        "memory 1.0",
        "storage type memory-plugin",
        "flat-keys, local-storage",
        "plugin.toml",
        "memory_storage.py",
    ):
        assert part in result.stdout
    pins = json.loads((plugins / "pins.json").read_text())
    for digest in pins["plugins"]["memory"]["files"].values():
        assert digest in result.stdout


def test_pin_asks_nobody_where_nobody_can_answer(cli: Run, plugins: Path) -> None:
    result = cli("pin", "memory")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert not (plugins / "pins.json").exists()


def test_pin_tells_of_a_plugin_that_is_not_allowed_yet(
    cli: Run, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__PLUGINS__ALLOWED", "other")
    result = cli("pin", "memory", "--yes")
    assert result.exit_code == 0
    assert "not allowed to run yet" in result.stderr


def test_pin_refuses_what_breaks_another_rule(cli: Run, plugins: Path) -> None:
    (plugins / "memory" / "memory_storage.py").chmod(0o666)
    result = cli("pin", "memory", "--yes")
    assert result.exit_code == 1
    assert "can be written by others" in result.stderr
    assert not (plugins / "pins.json").exists()


def test_pin_keeps_the_other_pins(cli: Run, plugins: Path) -> None:
    write_plugin(plugins, "other", "")
    cli("pin", "memory", "--yes")
    cli("pin", "other", "--yes")
    assert set(json.loads((plugins / "pins.json").read_text())["plugins"]) == {"memory", "other"}


def test_verify_exits_with_1_and_the_reasons(cli: Run, plugins: Path) -> None:
    cli("pin", "memory", "--yes")
    assert cli("verify").exit_code == 0
    assert cli("verify", "memory").exit_code == 0
    (plugins / "memory" / "extra.py").write_text("")
    (plugins / "memory" / "extra.py").chmod(0o644)
    result = cli("verify", "memory")
    assert result.exit_code == 1
    assert "extra.py: is not pinned: an extra file" in result.stderr
    (report,) = json.loads(cli("verify", "--json").stdout)
    assert report["state"] == "changed"
    assert report["reasons"][0]["where"].endswith("extra.py")


def test_an_unknown_plugin_is_wrong_usage(cli: Run, plugins: Path) -> None:
    for command in ("verify", "pin"):
        result = cli(command, "memroy")
        assert result.exit_code == 2
        assert "There are: memory" in result.stderr


def test_no_folder_of_plugins_is_wrong_usage(cli: Run) -> None:
    result = cli("list")
    assert result.exit_code == 2
    assert "PURVEYOR_REGISTRY__DISCOVERY__PLUGIN_PATH" in result.stderr
