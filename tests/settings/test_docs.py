"""docs/settings.md has every setting with its type, default, range and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import pytest
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from purveyor.settings import (
    AISettings,
    BreakerSettings,
    FamilySettings,
    HealthSettings,
    ProviderSettings,
    Settings,
    SettingsError,
)

from .conftest import Write

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

TYPES = {
    bool: "true or false",
    int: "whole number",
    float: "seconds",
    str: "text",
    Path: "path",
    SecretStr: "secret",
    tuple[str, ...]: "list of texts",
    tuple[SecretStr, ...]: "list of secrets",
    dict[str, Any]: "table",
    dict[str, str]: "table of texts",
    BreakerSettings: "table",
    HealthSettings: "table",
}


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the rows of the table; of all families' settings once, and what AI has beside."""
    for name, field in model.model_fields.items():
        kind = type_of(field)
        if kind is AISettings:
            for key in AISettings.model_fields.keys() - FamilySettings.model_fields.keys():
                yield row(f"{name}.{key}", AISettings.model_fields[key])
            continue
        if kind is FamilySettings and name != "storage":
            continue
        if get_origin(kind) is dict and get_args(kind)[1] is ProviderSettings:
            yield from rows(ProviderSettings, f"{prefix}{name}.<name>.")
        elif kind is FamilySettings:
            yield from rows(FamilySettings, "<family>.")
        elif (
            isinstance(kind, type) and issubclass(kind, BaseModel) and field.is_required() is False
        ):
            if field.default is None:
                yield row(prefix + name, field)
            else:
                yield from rows(kind, f"{prefix}{name}.")
        else:
            yield row(prefix + name, field)


def row(key: str, field: FieldInfo) -> str:
    kind = type_of(field)
    described = "table" if key.endswith("options") else described_type(kind, field)
    cells = (f"`{key}`", described, default_of(field), range_of(field), field.description or "")
    return f"| {' | '.join(cells)} |"


def described_type(kind: Any, field: FieldInfo) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if kind is float and "seconds" not in (field.description or "").lower():
        return "number"
    return TYPES[kind]


def type_of(field: FieldInfo) -> Any:
    if get_origin(field.annotation) is dict and get_args(field.annotation)[1] is not Any:
        key, value = get_args(field.annotation)
        return dict[key, get_args(value)[0] if get_origin(value) is Annotated else value]
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    is_optional = type(None) in get_args(field.annotation)
    kind = kinds[0] if is_optional else field.annotation
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def default_of(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        value = ", ".join(value)
    if isinstance(value, float):
        value = f"{value:g}"
    if value is None or str(value) in ("", "{}"):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def range_of(field: FieldInfo) -> str:
    found: list[str] = []
    metadata = list(field.metadata)
    for kind in get_args(field.annotation):
        metadata += getattr(kind, "__metadata__", ())
    for one in metadata:
        for mark in getattr(one, "metadata", [one]):
            match mark:
                case annotated_types.Gt(gt=bound):
                    found.append(f"more than {bound}")
                case annotated_types.Ge(ge=bound):
                    found.append(f"at least {bound}")
                case annotated_types.Le(le=bound):
                    found.append(f"at most {bound}")
                case _:
                    pass
    return ", ".join(found) or "-"


@pytest.mark.parametrize("expected", list(rows(Settings)))
def test_the_table_has_every_setting(expected: str) -> None:
    assert expected in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_table_has_no_other_settings() -> None:
    text = PAGE.read_text(encoding="utf-8")
    told = re.findall(r"^\| (`[^|]*`) \|.*\|.*\|.*\|.*\|$", text, flags=re.MULTILINE)
    assert told == [line.split(" | ")[0].removeprefix("| ") for line in rows(Settings)]


def test_the_page_has_every_family() -> None:
    families = [
        name
        for name, field in Settings.model_fields.items()
        if field.annotation in (FamilySettings, AISettings)
    ]
    assert ", ".join(f"`{name}`" for name in families) in PAGE.read_text(encoding="utf-8")


def test_the_example_of_an_error_is_what_is_told(
    folder: Path, configure: Write, secret: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURVEYOR_REGISTRY__HEALTH__CHECK_INTERVAL", "0")
    (folder / ".env").write_text("PURVEYOR_STORGE__DEFAULT=x")
    configure("[storage.providers.backups]\npriority = 101\nsecret_key = '${S3_SECRET}'")
    secret("registry__health__timeout", "x")
    monkeypatch.delenv("S3_SECRET", raising=False)
    with pytest.raises(SettingsError) as caught:
        Settings()
    text = PAGE.read_text(encoding="utf-8")
    example = text.split("```\nConfiguration")[1].split("\n```")[0]
    assert sorted(str(caught.value).splitlines()) == sorted(f"Configuration{example}".splitlines())
