"""Pydantic's errors in a user's words, for any model: the registry uses it for types' settings."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from purveyor.settings import explain


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Login(Strict):
    user: str
    password: str = ""


class Cat(Strict):
    kind: Literal["cat"]


class Dog(Strict):
    kind: Literal["dog"]


class Config(Strict):
    bucket: str = Field("b", min_length=1, max_length=3, pattern="^[a-z]+$")
    port: int = Field(default=1, ge=1, le=2_000_000)
    ratio: float = Field(default=0.5, gt=0.25, lt=1)
    mode: Literal["fast", "slow"] = "fast"
    one: Literal["only"] = "only"
    colour: Colour = Colour.RED
    login: Login | None = None
    logins: dict[str, Login] = {}
    several: list[Login] = []
    either: int | Login = 1
    other: int | list[int] = 1
    wait: timedelta = Field(default=timedelta(0), le=timedelta(days=1))
    number: UUID | None = None
    old: int = Field(default=1, alias="older")
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")
    names: tuple[str, ...] = ()
    pair: list[int] = Field([1], min_length=1, max_length=2)
    checked: str = ""

    @field_validator("checked")
    @classmethod
    def _check(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("must be good")
        return str(int(value))


class Needed(Strict):
    key: str
    login: Login


def told(model: type[BaseModel], values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    return {".".join(path): reason for path, reason in explain(caught.value, model)}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"port": 0}, {"port": "must be at least 1"}),
        ({"port": 3_000_000}, {"port": "must be at most 2000000"}),
        ({"port": "x"}, {"port": "must be a whole number"}),
        ({"ratio": 0}, {"ratio": "must be greater than 0.25"}),
        ({"ratio": 1}, {"ratio": "must be less than 1"}),
        ({"mode": "x"}, {"mode": "must be one of 'fast' or 'slow'"}),
        ({"one": "x"}, {"one": "must be 'only'"}),
        ({"colour": "x"}, {"colour": "must be one of 'red' or 'blue'"}),
        ({"wait": 100_000}, {"wait": "must be at most 1 day"}),
        ({"number": "hunter2"}, {"number": "must be a UUID"}),
        ({"names": 3}, {"names": "must be a list"}),
        ({"names": [3]}, {"names.0": "must be text"}),
        ({"pair": []}, {"pair": "must have at least 1 entry"}),
        ({"pair": [1, 2, 3]}, {"pair": "must have at most 2 entries"}),
        ({"bucket": ""}, {"bucket": "must have at least 1 character"}),
        ({"bucket": "A"}, {"bucket": "must match pattern '^[a-z]+$'"}),
        ({"bukket": "x"}, {"bukket": "unknown setting; did you mean 'bucket'?"}),
        (
            {"login": {"user": "u", "pass": 1}},
            {"login.pass": "unknown setting; did you mean 'password'?"},
        ),
        (
            {"logins": {"a": {"usr": 1}}},
            {
                "logins.a.user": "is required",
                "logins.a.usr": "unknown setting; did you mean 'user'?",
            },
        ),
        (
            {"several": [{"user": "u", "x": 1}]},
            {"several.0.x": "unknown setting; there are: password, user"},
        ),
        ({"login": 3}, {"login": "must be a table of settings, not a single value"}),
        (
            {"either": "hunter2"},
            {"either": "must be a whole number or must be a table of settings, not a single value"},
        ),
        (
            {"either": {"usr": 1}},
            {
                "either": "must be a whole number",
                "either.user": "is required",
                "either.usr": "unknown setting; did you mean 'user'?",
            },
        ),
        ({"other": "hunter2"}, {"other": "must be a whole number or must be a list"}),
        ({"pet": {"kind": "hunter2"}}, {"pet": "must be one of 'cat', 'dog'"}),
        ({"older": "x"}, {"older": "must be a whole number"}),
        ({"checked": "bad"}, {"checked": "must be good"}),
        ({"checked": "hunter2"}, {"checked": "is not valid"}),
    ],
)
def test_says_what_is_allowed(values: dict[str, Any], expected: dict[str, str]) -> None:
    assert told(Config, values) == expected


def test_says_all_that_is_wrong() -> None:
    assert told(Needed, {"login": {}, "kee": 1}) == {
        "key": "is required",
        "login.user": "is required",
        "kee": "unknown setting; did you mean 'key'?",
    }
