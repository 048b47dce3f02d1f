"""The settings of a PostgreSQL source: one database, said in one way or another."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from purveyor.providers.data_sources.postgresql import PostgreSQLConfig, PostgreSQLSource

ODD = "p@ss:w/rd%25#? hunter2"


def config(**settings: Any) -> PostgreSQLConfig:
    return PostgreSQLConfig.model_validate(settings)


def test_a_dsn_is_all_that_must_be_set():
    arguments = config(dsn="postgresql://ada:hunter2@db.example:6432/sales").connect_arguments()
    assert (arguments["host"], arguments["port"]) == (["db.example"], 6432)
    assert (arguments["user"], arguments["password"]) == ("ada", "hunter2")
    assert arguments["database"] == "sales"


def test_connection_string_is_an_older_name_of_dsn():
    assert config(connection_string="postgres://h/d").place == "'d' at h:5432"


def test_parts_say_the_same():
    parts = {"host": "h", "port": 5433, "database": "d", "user": "u", "password": "hunter2"}
    dsn = "postgresql://u:hunter2@h:5433/d"
    assert config(**parts).connect_arguments() == config(dsn=dsn).connect_arguments()
    assert config(dsn=dsn, **parts).address == config(dsn=dsn).address


def test_what_the_dsn_leaves_out_may_be_set_beside_it():
    settings = config(dsn="postgresql://u@h/d", password="hunter2", sslmode="require")
    assert settings.address.password == "hunter2"
    assert "sslmode=require" in settings.connect_arguments()["dsn"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "other"),
        ("port", 5432),
        ("database", "other"),
        ("user", "other"),
        ("password", "hunter3"),
        ("sslmode", "disable"),
    ],
)
def test_a_dsn_and_a_part_that_differ_are_refused(name: str, value: Any):
    dsn = "postgresql://u:hunter2@h:6432/d?sslmode=require"
    with pytest.raises(ValidationError, match=f"dsn and {name} are both set and differ") as caught:
        config(dsn=dsn, **{name: value})
    assert "hunter" not in str(caught.value)


def test_nothing_at_all_is_refused():
    with pytest.raises(ValidationError, match="set dsn, or host"):
        config(database="d")


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError, match="databse"):
        config(dsn="postgresql://h/d", databse="d")


@pytest.mark.parametrize("odd", [ODD, "[x]", "%", "ü€", "a:b", "=&+", "@" * 9])
def test_an_odd_password_that_is_quoted_is_what_was_meant(odd: str):
    settings = config(dsn=f"postgresql://u%40x:{quote(odd, safe='')}@h/d%2Fe")
    assert settings.address.password == odd
    assert (settings.address.user, settings.address.database) == ("u@x", "d/e")


@pytest.mark.parametrize(
    "odd",
    [ODD, "hunter2@", "hunter2/x", "hunter2?x", "hunter2#x", "hunter2%", "hunter2%zz", "1/hunter2"],
)
def test_an_odd_password_that_is_not_quoted_is_refused_and_not_shown(odd: str):
    with pytest.raises(ValidationError, match="%40 %3A %2F") as caught:
        config(dsn=f"postgresql://u:{odd}@h:5432/d")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.errors(include_url=False, include_input=False))


@pytest.mark.parametrize(
    ("dsn", "fault"),
    [
        ("host=h dbname=d password=hunter2", "must begin with postgresql://"),
        ("mysql://u:hunter2@h/d", "must begin with postgresql://"),
        ("postgresql+asyncpg://u:hunter2@h/d", "must begin with postgresql://"),
        ("postgresql://u@h:hunter2/d", "its host is not of the form"),
        ("postgresql://u@h:5432/d?hunter2", "name=value"),
        ("postgresql://u@h/d?hunter2=1", "an option that is not supported"),
        ("postgresql://u:hunter2%ff@h/d", "not UTF-8"),
        ("postgresql://h/d?port=hunter2", "its port is no number"),
    ],
)
def test_what_is_no_dsn_is_told_and_not_shown(dsn: str, fault: str):
    with pytest.raises(ValidationError, match=fault) as caught:
        config(dsn=dsn)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "host", "port"),
    [
        ("postgresql://h", ["h"], 5432),
        ("postgresql://[::1]:6000/d", ["::1"], 6000),
        ("postgresql://a,b:6000/d", ["a", "b"], [5432, 6000]),
        ("postgresql:///d", None, 5432),
        ("postgresql://%2Frun%2Fpg/d", ["/run/pg"], 5432),
        ("postgresql:///d?host=/run/pg&port=6000", ["/run/pg"], 6000),
    ],
)
def test_hosts_are_written_as_libpq_writes_them(dsn: str, host: Any, port: Any):
    arguments = config(dsn=dsn).connect_arguments()
    assert (arguments["host"], arguments["port"]) == (host, port)


def test_options_of_the_dsn_reach_the_server_and_those_without_effect_do_not():
    settings = config(dsn="postgresql://h/d?connect_timeout=3&application_name=x&sslmode=disable")
    dsn = settings.connect_arguments()["dsn"]
    assert dsn == "postgresql://?application_name=x&sslmode=disable"


@pytest.mark.parametrize("host", ["u:hunter2@h", "postgresql://h", "a b", "h/d"])
def test_a_host_is_a_host_alone(host: str):
    with pytest.raises(ValidationError, match="give the name or address alone") as caught:
        config(host=host)
    assert "hunter2" not in str(caught.value)


def test_no_password_of_this_machine_is_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    assert config(host="h").connect_arguments()["password"] == ""


def test_secrets_are_masked_wherever_settings_are_shown():
    settings = config(dsn="postgresql://u:hunter2@h/d", password="hunter2")
    shown = (settings, settings.model_dump_json(), settings.address, PostgreSQLSource(settings))
    assert "hunter2" not in "".join(map(repr, shown)) + settings.place
