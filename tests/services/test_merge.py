from __future__ import annotations

import tracemalloc
from collections.abc import AsyncGenerator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.services.sync import SyncError
from purveyor.services.sync.merge import Entry, merged

paths = st.sets(st.text(max_size=6))


async def listing(names: Iterable[str]) -> AsyncGenerator[Entry]:
    for name in names:
        yield Entry(name)


@given(paths, paths)
async def test_every_path_comes_once_in_order_with_its_equal(
    left: set[str], right: set[str]
) -> None:
    found = [
        (one.path if one else None, other.path if other else None)
        async for one, other in merged(listing(sorted(left)), listing(sorted(right)))
    ]
    expected = [
        (path if path in left else None, path if path in right else None)
        for path in sorted(left | right)
    ]
    assert found == expected


async def test_a_listing_out_of_order_is_refused() -> None:
    with pytest.raises(SyncError, match="'a' after 'b'"):
        _ = [pair async for pair in merged(listing(["b", "a"]), listing([]))]


async def test_memory_does_not_grow_with_the_listings() -> None:
    async def count(size: int) -> int:
        tracemalloc.start()
        try:
            pairs = merged(
                listing(f"{number:08}" for number in range(size)),
                listing(f"{number:08}" for number in range(0, size, 2)),
            )
            found = 0
            async for _ in pairs:
                found += 1
            assert found == size
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await count(10)  # what is allocated once
    assert await count(20_000) < await count(200) + 20_000
