"""What NAME:item means, and which items a pattern means."""

from __future__ import annotations

import pytest

from purveyor.services.fetch import FetchError, Wanted, parse_wanted


@pytest.mark.parametrize(
    ("text", "source", "item"),
    [
        ("warehouse:public.orders", "warehouse", "public.orders"),
        (":a.csv", None, "a.csv"),
        ("files:2024/*.csv", "files", "2024/*.csv"),
        ("files:a:b", "files", "a:b"),
    ],
)
def test_a_text_names_a_source_and_its_items(text: str, source: str | None, item: str) -> None:
    assert parse_wanted(text) == Wanted(source, item)
    assert str(parse_wanted(text)) == text


@pytest.mark.parametrize("text", ["", "warehouse", "warehouse:", "a/b:c", "a b:c"])
def test_a_text_that_names_none_is_refused(text: str) -> None:
    with pytest.raises(FetchError, match="write NAME:item"):
        parse_wanted(text)


@pytest.mark.parametrize(
    ("pattern", "meant", "not_meant"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csvx", "acsv"]),
        ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/b/c"], ["a/bc", "b/a/c"]),
        ("**", ["a", "a/b", "a\nb"], []),
        ("**/*.csv", ["a.csv", "x/y/a.csv"], ["a.txt"]),
        ("?.csv", ["a.csv"], ["ab.csv", "/.csv"]),
        ("public.[x]*", ["public.[x]1"], ["public.x1"]),
        ("a+b*", ["a+bc"], ["aab"]),
    ],
)
def test_a_pattern_means_items(pattern: str, meant: list[str], not_meant: list[str]) -> None:
    wanted = Wanted("s", pattern)
    assert wanted.is_pattern
    assert [one for one in [*meant, *not_meant] if wanted.matches(one)] == meant
    assert all(one.startswith(wanted.prefix) for one in meant)


def test_a_name_is_no_pattern() -> None:
    assert not Wanted("s", "a/b.csv").is_pattern
    assert Wanted("s", "2024/q*/a.csv").prefix == "2024/q"
