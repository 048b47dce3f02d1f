"""The cache: how long values live, how many, and that they are asked for once."""

from __future__ import annotations

import asyncio

import pytest

from purveyor.providers.registry.cache import TTLCache


class Clock:
    """Seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.requirement("S3.5", "S3.25")
def test_a_value_lives_for_the_ttl_and_not_a_moment_longer(clock: Clock) -> None:
    cache = TTLCache[str, int](300, clock=clock)
    cache.put("a", 1)
    clock.now += 299.999
    assert cache.get("a") == 1
    clock.now += 0.001
    assert cache.get("a") is None
    assert len(cache) == 0


def test_asking_does_not_make_a_value_live_longer(clock: Clock) -> None:
    cache = TTLCache[str, int](10, clock=clock)
    cache.put("a", 1)
    for _ in range(10):
        clock.now += 1
        cache.get("a")
    assert cache.get("a") is None


def test_a_ttl_of_0_is_expired_at_once(clock: Clock) -> None:
    cache = TTLCache[str, int](0, clock=clock)
    cache.put("a", 1)
    assert cache.get("a") is None


def test_a_value_can_have_a_ttl_of_its_own(clock: Clock) -> None:
    cache = TTLCache[str, int](300, clock=clock)
    cache.put("a", 1, ttl=5)
    clock.now += 5
    assert cache.get("a") is None


def test_of_too_many_the_one_goes_that_nobody_asked_for() -> None:
    cache = TTLCache[str, int](max_entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


@pytest.mark.requirement("S3.17")
def test_clearing_takes_all_or_those_that_are_meant() -> None:
    cache = TTLCache[tuple[str, str], int]()
    for key in (("a", "x"), ("a", "y"), ("b", "x")):
        cache.put(key, 1)
    assert cache.clear(lambda key: key[0] == "a") == 2
    assert cache.get(("b", "x")) == 1
    assert cache.clear() == 1


@pytest.mark.parametrize(("ttl", "most"), [(-1, 1), (1, 0)])
def test_nonsense_is_refused(ttl: float, most: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        TTLCache[str, int](ttl, max_entries=most)


class Source:
    """Makes values slowly, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.asked


async def test_many_who_ask_at_once_share_one_answer() -> None:
    cache, source = TTLCache[str, int](), Source()
    asking = [asyncio.create_task(cache.get_or_make("a", source)) for _ in range(50)]
    await asyncio.sleep(0)
    source.go.set()
    assert await asyncio.gather(*asking) == [1] * 50
    assert await cache.get_or_make("a", source) == 1


async def test_different_keys_do_not_wait_for_each_other() -> None:
    cache, slow, quick = TTLCache[str, int](), Source(), Source()
    quick.go.set()
    waiting = asyncio.create_task(cache.get_or_make("slow", slow))
    assert await cache.get_or_make("quick", quick) == 1
    waiting.cancel()


async def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    cache, source = TTLCache[str, int](), Source()
    source.error = ConnectionError("gone")
    asking = [asyncio.create_task(cache.get_or_make("a", source)) for _ in range(3)]
    await asyncio.sleep(0)
    source.go.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 3
    source.error = None
    assert await cache.get_or_make("a", source) == 2


async def test_one_who_goes_away_does_not_disturb_the_others() -> None:
    cache, source = TTLCache[str, int](), Source()
    first = asyncio.create_task(cache.get_or_make("a", source))
    second = asyncio.create_task(cache.get_or_make("a", source))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.go.set()
    assert await second == 1


async def test_the_last_who_goes_away_ends_the_work_and_the_next_begins_anew() -> None:
    cache, source = TTLCache[str, int](), Source()
    only = asyncio.create_task(cache.get_or_make("a", source))
    await asyncio.sleep(0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    source.go.set()
    assert await cache.get_or_make("a", source) == 2


async def test_what_is_cleared_while_it_is_made_is_given_and_not_kept() -> None:
    cache, source = TTLCache[str, int](), Source()
    asking = asyncio.create_task(cache.get_or_make("a", source))
    await asyncio.sleep(0)
    cache.clear()
    source.go.set()
    assert await asking == 1
    assert cache.get("a") is None


def test_another_event_loop_makes_its_own() -> None:
    cache, source = TTLCache[str, int](0), Source()

    async def leave_behind() -> None:
        asyncio.create_task(cache.get_or_make("a", source))  # noqa: RUF006 - the loop ends first
        await asyncio.sleep(0)

    async def ask() -> int:
        source.go = asyncio.Event()
        source.go.set()
        return await cache.get_or_make("a", source)

    asyncio.run(leave_behind())
    assert asyncio.run(ask()) == 2
