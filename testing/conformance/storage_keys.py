"""The rules of keys: which work, and which every operation refuses."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from ...providers.storage import (
    Delete,
    InvalidKeyError,
    KeyConflictError,
    ObjectNotFoundError,
    Put,
)
from .storage_case import (
    Storage,
    StorageCase,
    calls_on,
    each,
    infos,
    keys,
    pieces,
    refusal,
    storage_test,
)

__all__ = ["ODD_KEYS", "KeyRules"]

ODD_KEYS = (
    "with space",
    " leading space",
    "trailing space ",
    "  ",
    "%",
    "%2F",
    "100%/50%25",
    "a%00b",
    "hash#tag",
    "question?mark=1&other=2",
    "plus+sign",
    "semi;colon:comma,",
    "equals=at@dollar$",
    "single'quote",
    'double"quote',
    "`backtick`",
    "back\\slash",
    "star*",
    "pipe|",
    "<less>",
    "[brackets]{braces}",
    "caret^tilde~",
    "-rf",
    ".hidden",
    "..two",
    "three...",
    "trailing dot.",
    "CON",
    "nul.txt",
    "ünïcödé",
    "日本語/漢字",
    "עברית",
    "emoji 👩‍💻",
    "\u00a0no-break",
    "\u200bzero-width",
    "\ufeffbyte order mark",
    "caf\u00e9",
    "cafe\u0301",
    "Case",
    "case",
    "CASE",
    "p" * 255,
    "é" * 127,
    "/".join(["k" * 127] * 7 + ["k" * 128]),
)
"""Keys that work on every type, and come back from ``list`` as they went in."""

REFUSED_KEYS: dict[str, Any] = {
    "empty": "",
    "a slash": "/",
    "a slash first": "/etc/passwd",
    "a slash last": "folder/",
    "two slashes": "a//b",
    "a dot": ".",
    "two dots": "..",
    "up and out": "../outside",
    "up in the middle": "a/../b",
    "up at the end": "a/..",
    "a dot in the middle": "a/./b",
    "null": "a\0b",
    "line feed": "a\nb",
    "escape": "a\x1bb",
    "delete": "a\x7fb",
    "reserved": ".purveyor-x",
    "reserved below": "a/.purveyor-x/b",
    "a part of 256 bytes": "p" * 256,
    "a part of 256 bytes in 128 letters": "é" * 128,
    "1,025 bytes": "/".join(["k" * 127] * 7 + ["k" * 129]),
    "a lone surrogate": "a\ud800b",
    "bytes": b"key",
    "none": None,
}

REFUSED_PREFIXES = ("/", "a//", "../", "a/../b", "a\0", ".purveyor-x/", "p" * 256, "a\ud800")


class KeyRules(StorageCase):
    """One rule of keys for all types, so that any object fits any backend."""

    odd_keys: ClassVar[tuple[str, ...]] = ODD_KEYS
    """Keys that must work. Take one out only with the reason why the backend cannot hold it."""

    @storage_test
    async def test_odd_keys_work(self, storage: Storage) -> None:
        """Every allowed key names an object of its own and comes back as it went in."""
        await each(lambda key: storage.put(key, key.encode()), self.odd_keys)
        assert await keys(storage) == sorted(self.odd_keys, key=str.encode)
        for key in self.odd_keys:
            assert await storage.get(key) == key.encode(), key
            assert (await storage.stat(key)).key == key
            assert await storage.exists(key), key
            assert key in await keys(storage, key)
        await each(storage.delete, self.odd_keys)
        assert await keys(storage) == []

    @storage_test
    async def test_odd_keys_can_be_copied_and_moved(self, storage: Storage) -> None:
        """Copy and move take every allowed key, as source and as target."""
        for key in self.odd_keys:
            await storage.put("plain", key.encode())
            assert (await storage.move("plain", key)).key == key
            await storage.copy(key, "copied")
            await storage.move(key, "moved")
            assert await storage.get("copied") == key.encode(), key
            assert await storage.get("moved") == key.encode(), key
        assert await keys(storage) == ["copied", "moved"]

    @pytest.mark.parametrize(
        ("first", "second"), [("Case", "case"), ("folder/a", "Folder/b"), ("é", "É")]
    )
    @storage_test
    async def test_keys_that_differ_in_case(
        self, storage: Storage, first: str, second: str
    ) -> None:
        """Case matters: a key in other letters is another key, or refused, never the same one."""
        await storage.put(first, b"first")
        await storage.put("other", b"other")
        for name, call in {
            "put": lambda: storage.put(second, b"second"),
            "put(overwrite=False)": lambda: storage.put(second, b"second", overwrite=False),
            "put of an iterator": lambda: storage.put(second, pieces(b"second")),
            "copy": lambda: storage.copy("other", second),
            "move": lambda: storage.move("other", second),
        }.items():
            assert not await storage.exists(second), name
            assert await keys(storage, second) == [], name
            await refusal(ObjectNotFoundError, name, storage.get(second))
            if self.case_sensitive:
                await call()
                assert await keys(storage, second) == [second], name
                await storage.delete(second)
                await storage.put("other", b"other")
            else:
                await refusal(KeyConflictError, name, call())
            assert await storage.get(first) == b"first", name
            assert await keys(storage) == sorted([first, "other"], key=str.encode), name

    @storage_test
    async def test_refused_keys_are_refused_by_all_operations(self, storage: Storage) -> None:
        """A key that breaks a rule is an InvalidKeyError everywhere, and nothing changes."""
        await storage.put("other", b"whole")
        for why, key in REFUSED_KEYS.items():
            for name, call in calls_on(storage, key, "other").items():
                error = await refusal(InvalidKeyError, f"{name} with {key!r:.40} ({why})", call())
                assert isinstance(error, ValueError)
                assert error.code == "INVALID_KEY"
            if "transactions" in self.capabilities:
                for change in (Put(key, b"x"), Delete(key)):
                    called = f"apply with {key!r:.40} ({why})"
                    await refusal(InvalidKeyError, called, storage.apply([change]))
            found = [(info.key, info.size) for info in await infos(storage)]
            assert found == [("other", 5)], f"{key!r:.40} ({why}) changed something"

    @storage_test
    async def test_refused_prefixes_are_refused(self, storage: Storage) -> None:
        """A prefix no key can begin with is an InvalidKeyError, not an empty list."""
        for prefix in REFUSED_PREFIXES:
            await refusal(InvalidKeyError, f"list with {prefix!r:.40}", keys(storage, prefix))
