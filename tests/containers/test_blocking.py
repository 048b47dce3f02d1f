"""The same interface without await."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.registry import InvalidStateError
from purveyor.providers.registry.provider import is_operation
from purveyor.providers.storage import (
    BlockingStorage,
    ObjectNotFoundError,
    StorageConnectionError,
    StorageProvider,
)
from purveyor.settings import Settings


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Any]:
    with ApplicationContainer(settings=Settings(home=tmp_path)).blocking as services:
        yield services.storage("sqlite")


def test_operations_are_plain_calls(storage: Any) -> None:
    assert storage.put("a", b"content").size == 7
    assert storage.get("a") == b"content"
    assert storage.exists("a")
    with pytest.raises(ObjectNotFoundError):
        storage.get("b")


def test_async_iterators_are_plain_iterators(storage: Any) -> None:
    for name in ("a", "b", "c"):
        storage.put(name, b"content")
    assert [item.key for item in storage.list()] == ["a", "b", "c"]
    assert b"".join(storage.stream("a")) == b"content"


def test_an_iterator_that_is_left_early_is_closed(storage: Any) -> None:
    storage.put("a", b"x" * 5_000_000)
    chunks = storage.stream("a")
    next(chunks)
    assert storage._provider._guard.in_flight == 1
    chunks.close()
    assert storage._provider._guard.in_flight == 0


def test_errors_of_an_iterator_are_those_of_the_family(container: Any) -> None:
    with container.blocking as services, pytest.raises(StorageConnectionError):
        list(services.storage("first").list())


def test_values_and_configs_are_handed_through(container: Any) -> None:
    with container.blocking as services:
        assert services.storage("first").config.label == "one"
        assert "blocking" in repr(services.storage("first"))


def test_threads_share_it(storage: Any) -> None:
    def work(number: int) -> None:
        for step in range(20):
            storage.put(f"{number}/{step}", b"x" * step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(storage.list())) == 200


async def test_it_refuses_to_run_inside_an_event_loop(container: Any) -> None:
    with pytest.raises(InvalidStateError, match=r"Leave out \.blocking"):
        container.blocking.storage("first").get("key")


def test_closing_disposes_and_it_can_be_used_again(container: Any) -> None:
    for closings in (1, 2):
        with container.blocking as services:
            assert services.storage().get("key") == b"one"
            instance = container.storage()._guard.peek()
        assert instance.closed == 1 if closings == 1 else instance.closed >= 1
        assert not [t for t in threading.enumerate() if t.name == "purveyor-blocking"]


def test_overrides_hold_for_it_too(container: Any) -> None:
    class Fake:
        async def get(self, key: str) -> bytes:
            return key.encode()

    with (
        container.blocking as services,
        container.storage.override_provider("first", Fake()),
    ):
        assert services.storage("first").get("key") == b"key"


def test_its_protocol_has_every_operation_with_the_same_parameters() -> None:
    operations = [name for name in dir(StorageProvider) if is_operation(StorageProvider, name)]
    for name in operations:
        blocking = inspect.signature(getattr(BlockingStorage, name)).parameters
        expected = inspect.signature(getattr(StorageProvider, name)).parameters
        assert list(blocking) == list(expected), name
        assert [p.default for p in blocking.values()] == [p.default for p in expected.values()]
