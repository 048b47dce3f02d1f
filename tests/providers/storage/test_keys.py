"""Which keys and prefixes there are."""

from __future__ import annotations

from typing import Any

import pytest

from purveyor.providers.storage.errors import InvalidKeyError
from purveyor.providers.storage.keys import (
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    check_key,
    check_prefix,
)

LONGEST = "/".join(["k" * 127] * 7 + ["k" * 128])


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a/b/c",
        " ",
        "with space",
        "...",
        ".hidden",
        "a..b",
        "trailing.",
        "%2F",
        "a\\b",
        "#?&+;:@=",
        "ünïcödé",
        "cafe\u0301",
        "日本語",
        "emoji 😀",
        "\x80",  # a control character only of the 1980s
        "purveyor-x",
        "x.purveyor-x",
        "p" * MAX_SEGMENT_BYTES,
        "é" * 127,
        LONGEST,
    ],
)
def test_any_text_is_a_key_and_stays_as_it_is(key: str):
    assert check_key(key) is key


def test_the_longest_key_has_1024_bytes():
    assert len(LONGEST.encode()) == MAX_KEY_BYTES == 1024
    with pytest.raises(InvalidKeyError, match="1025 bytes of UTF-8, at most 1024"):
        check_key(LONGEST + "k")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "it is empty"),
        ("/", "begins or ends with '/'"),
        ("/a", "begins or ends with '/'"),
        ("a/", "begins or ends with '/'"),
        ("a//b", "holds '//'"),
        (".", "it has a part '.'"),
        ("..", "it has a part '..'"),
        ("a/../b", "it has a part '..'"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x1fb", "control character"),
        ("a\x7fb", "control character"),
        ("a\uffffb", "U+FFFF"),
        ("a\ufffeb", "U+FFFE"),
        (".purveyor-", "are reserved"),
        ("a/.purveyor-x/b", "are reserved"),
        ("p" * 256, "a part has 256 bytes, at most 255"),
        ("é" * 128, "a part has 256 bytes"),
        ("a/" + "😀" * 64, "a part has 256 bytes"),
        ("\ud800", "cannot be encoded as UTF-8"),
        (b"key", "a key is a str, not bytes"),
        (None, "a key is a str, not NoneType"),
        (5, "a key is a str, not int"),
    ],
)
def test_a_key_that_breaks_a_rule_is_told_which(key: Any, reason: str):
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)
    assert reason in str(caught.value)
    assert reason in str(caught.value.context["reason"])
    assert caught.value.code == "INVALID_KEY"
    assert isinstance(caught.value, ValueError)


def test_a_long_key_is_shown_short():
    with pytest.raises(InvalidKeyError) as caught:
        check_key("p" * 5000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/b", "a/.", "a/..", ".", "..", ".hid", "log/2026-1", LONGEST]
)
def test_a_prefix_is_any_beginning_of_a_key(prefix: str):
    assert check_prefix(prefix) is prefix


@pytest.mark.parametrize(
    "prefix",
    ["/", "//", "a//", "./", "../", "a/../", "a\0", ".purveyor-x", ".purveyor-x/", "p" * 256],
)
def test_what_no_key_begins_with_is_no_prefix(prefix: str):
    with pytest.raises(InvalidKeyError, match="Invalid prefix"):
        check_prefix(prefix)


def test_a_prefix_is_text():
    wrong: Any = b"folder/"
    with pytest.raises((InvalidKeyError, TypeError)):
        check_prefix(wrong)
