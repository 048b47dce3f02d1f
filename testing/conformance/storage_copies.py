"""The rules of copy and move."""

from __future__ import annotations

import pytest

from ...providers.storage import ObjectExistsError
from .storage_case import Storage, StorageCase, keys, refusal, storage_test

__all__ = ["CopyRules"]


class CopyRules(StorageCase):
    """What copy and move do, and what they leave alone."""

    @pytest.mark.parametrize("operation", ["copy", "move"])
    @storage_test
    async def test_copy_and_move(self, storage: Storage, operation: str) -> None:
        """The target is the source's content, new or replaced; a copy leaves the source."""
        for data in (b"", b"small", bytes(range(251)) * 12_537):
            for target in ("new", "taken"):
                await storage.put("source", data)
                await storage.put("taken", b"old")
                info = await getattr(storage, operation)("source", target)
                assert (info.key, info.size) == (target, len(data))
                assert await storage.get(target) == data
                assert await storage.exists("source") is (operation == "copy")

    @pytest.mark.parametrize("operation", ["copy", "move"])
    @storage_test
    async def test_copy_and_move_onto_itself(self, storage: Storage, operation: str) -> None:
        """An object copied or moved onto itself is what it was."""
        await storage.put("object", b"content")
        info = await getattr(storage, operation)("object", "object")
        assert (info.key, info.size) == ("object", 7)
        assert await storage.get("object") == b"content"
        assert await keys(storage) == ["object"]

    @pytest.mark.parametrize("operation", ["copy", "move"])
    @storage_test
    async def test_copy_and_move_without_overwrite(self, storage: Storage, operation: str) -> None:
        """overwrite=False refuses a taken target, and leaves both objects whole."""
        transfer = getattr(storage, operation)
        await storage.put("source", b"new")
        await storage.put("target", b"old")
        error = await refusal(
            ObjectExistsError, operation, transfer("source", "target", overwrite=False)
        )
        assert "'target'" in str(error)
        assert await storage.get("source") == b"new"
        assert await storage.get("target") == b"old"
        await transfer("source", "free", overwrite=False)
        assert await storage.get("free") == b"new"
