"""Whether two places hold the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.services.sync import Filters, SyncOptions, VerifyResult, sync, verify
from tests.services.conftest import tree


def found(result: VerifyResult) -> dict[str, str]:
    return {difference.path: difference.kind for difference in result.differences}


@pytest.mark.parametrize("full", [False, True])
async def test_equal_places_verify(docs: Path, container: ApplicationContainer, full: bool) -> None:
    await sync(docs, "sqlite:docs", container=container)
    result = await verify(docs, "sqlite:docs", container=container, full=full)
    assert result.success
    assert result.same == len(tree(docs))
    assert result.bytes == sum((docs / name).stat().st_size for name in tree(docs))


@pytest.mark.parametrize("full", [False, True])
async def test_every_difference_is_told(
    docs: Path, container: ApplicationContainer, full: bool
) -> None:
    await sync(docs, ":docs", container=container)
    storage = container.storage()
    time = (docs / "a.txt").stat().st_mtime_ns
    (docs / "a.txt").write_bytes(b"z")
    os.utime(docs / "a.txt", ns=(time, time))  # as a disk does that loses a bit
    (docs / "readme.md").write_bytes(b"longer than it was before")
    await storage.delete("docs/empty.txt")
    await storage.put("docs/beyond", b"x")
    result = await verify(docs, ":docs", container=container, full=full)
    assert not result.success
    assert found(result) == {
        "a.txt": "content",
        "beyond": "extra",
        "empty.txt": "missing",
        "readme.md": "size",
    }
    data = result.to_dict()
    assert data["differences"][0]["path"] == "a.txt"
    assert data["same"] == len(tree(docs)) - 3


async def test_two_single_objects_are_compared_whatever_they_are_called(
    docs: Path, container: ApplicationContainer
) -> None:
    await container.storage().put("other.txt", b"a")
    assert (await verify(docs / "a.txt", ":other.txt", container=container)).success
    await container.storage().put("other.txt", b"b")
    result = await verify(docs / "a.txt", ":other.txt", container=container)
    assert list(found(result).values()) == ["content"]


async def test_what_is_left_out_is_not_compared(
    docs: Path, container: ApplicationContainer
) -> None:
    filters = Filters(["- *.bin"])
    await sync(docs, ":docs", container=container, options=SyncOptions(filters=filters))
    assert not (await verify(docs, ":docs", container=container)).success
    assert (await verify(docs, ":docs", container=container, filters=filters)).success


async def test_a_place_that_is_not_there_is_an_error(container: ApplicationContainer) -> None:
    result = await verify("nowhere", ":docs", container=container)
    assert result.error is not None
    assert result.error.code == "SOURCE_NOT_FOUND"
    assert not result.success
