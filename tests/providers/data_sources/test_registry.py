"""The registry of data sources by its names in S3."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from purveyor.providers.data_sources import (
    Connector,
    DataSource,
    DataSourceConfig,
    DataSourceConnectionError,
    DataSourceRegistry,
    DataSourceType,
    FetchedItem,
    ItemInfo,
    ItemMetadata,
    ItemNotFoundError,
    Table,
    Target,
)
from purveyor.providers.registry import (
    AlreadyExistsError,
    CredentialError,
    CredentialManager,
    InUseError,
    InvalidConfigError,
    InvalidNameError,
    InvalidStateError,
    NotFoundError,
    ProviderConfig,
    RegistrationFailedError,
    is_sealed,
)

CANARY = "canary-6f1d-secret"


class ShelfConfig(ProviderConfig):
    aliases = {"pin": "token"}  # noqa: RUF012  # a ClassVar of the base

    token: SecretStr
    items: tuple[str, ...] = ("a", "b")
    broken: bool = False


class Shelf(DataSource[ShelfConfig]):
    """A source in memory that counts what is asked of it."""

    made = 0
    asked = 0
    closed = 0
    began: asyncio.Event
    hold: asyncio.Event | None = None

    def __init__(self, config: ShelfConfig) -> None:
        super().__init__(config)
        type(self).made += 1

    async def _connect(self) -> None:
        if self.config.broken:
            raise DataSourceConnectionError("The shelf is broken.")

    async def _close(self) -> None:
        type(self).closed += 1

    async def list_items(self, prefix: str = "") -> AsyncIterator[ItemInfo]:
        for name in self.config.items:
            if name.startswith(prefix):
                yield ItemInfo(name, "file")

    async def get_metadata(self, item: str) -> ItemMetadata:
        type(self).asked += 1
        self.began.set()
        if self.hold is not None:
            await self.hold.wait()
        if item not in self.config.items:
            raise ItemNotFoundError(f"There is no item {item!r}.")
        return ItemMetadata(ItemInfo(item, "file"), rows=type(self).asked)

    async def preview(self, item: str, *, rows: int = 20) -> Table:
        return Table((), ())

    async def fetch(self, item: str, target: Target, *, format: Any = None) -> FetchedItem:
        raise ItemNotFoundError(item)

    async def query(
        self, statement: str, parameters: Sequence[Any] = (), *, limit: int | None = None
    ) -> Table:
        return Table((), ((self.config.token.get_secret_value() == CANARY,),))


@pytest.fixture
def registry() -> DataSourceRegistry:
    Shelf.made = Shelf.asked = Shelf.closed = 0
    Shelf.hold = None
    Shelf.began = asyncio.Event()
    made = DataSourceRegistry(CredentialManager([CredentialManager.generate_key()]))
    made.register_connector_class("shelf", Shelf)
    return made


def shelf(source_id: str = "prod", **config: Any) -> DataSourceConfig:
    return DataSourceConfig(source_id, "shelf", "Production", {"token": CANARY, **config})


# -- classes -----------------------------------------------------------------------------


@pytest.mark.requirement("S3.1", "S3.2", "S3.22")
def test_a_new_registry_is_empty_and_knows_the_types_that_come_with_purveyor() -> None:
    registry = DataSourceRegistry()
    assert registry.list_data_sources() == []
    assert {*DataSourceType} == {"azure_blob", "postgresql", "local_file"}


@pytest.mark.requirement("S3.8")
async def test_a_connector_class_makes_a_type_known(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    assert isinstance((await registry.get_connector("prod")).source, Shelf)


def test_the_same_class_again_is_no_error(registry: DataSourceRegistry) -> None:
    registry.register_connector_class("shelf", Shelf)


def test_another_class_of_a_type_is_refused_and_the_first_stays(
    registry: DataSourceRegistry,
) -> None:
    class Other(Shelf):
        pass

    with pytest.raises(AlreadyExistsError, match="data_sources type 'shelf'"):
        registry.register_connector_class("shelf", Other)


def test_a_built_in_type_takes_its_own_class_again(registry: DataSourceRegistry) -> None:
    from purveyor.providers.data_sources.local_file import LocalFileSource

    registry.register_connector_class(DataSourceType.LOCAL_FILE, LocalFileSource)


# -- registering -------------------------------------------------------------------------


@pytest.mark.requirement("S3.9", "S3.32")
async def test_registering_connects_nothing(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    assert registry.exists("prod")
    assert Shelf.made == 0


@pytest.mark.requirement("S3.9")
async def test_registering_can_test_the_connection(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf(), test_connection=True)
    assert (await registry.get_connector("prod")).is_connected


@pytest.mark.requirement("S3.9")
async def test_a_failed_test_registers_nothing_and_says_why(registry: DataSourceRegistry) -> None:
    with pytest.raises(RegistrationFailedError, match="The shelf is broken") as caught:
        await registry.register_data_source(shelf(broken=True), test_connection=True)
    assert isinstance(caught.value.__cause__, DataSourceConnectionError)
    assert not registry.exists("prod")
    await registry.register_data_source(shelf())


@pytest.mark.requirement("S3.19")
async def test_an_id_is_taken_once(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    with pytest.raises(AlreadyExistsError, match="Provider already registered: prod"):
        await registry.register_data_source(shelf(items=("c",)))
    assert [one.name for one in await (await registry.get_connector("prod")).list_items()] == [
        "a",
        "b",
    ]


@pytest.mark.requirement("S3.6", "S3.31")
async def test_of_many_who_take_an_id_at_once_one_succeeds(registry: DataSourceRegistry) -> None:
    tries = [registry.register_data_source(shelf(), test_connection=True) for _ in range(20)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == [
        *["AlreadyExistsError"] * 19,
        "NoneType",
    ]
    assert Shelf.made == 1


async def test_an_unknown_type_is_refused_with_those_there_are(
    registry: DataSourceRegistry,
) -> None:
    with pytest.raises(NotFoundError, match=r"Unknown data_sources provider: shelv\..*shelf"):
        await registry.register_data_source(DataSourceConfig("x", "shelv"))


@pytest.mark.parametrize("name", ["", "a b", "../etc", "x" * 200])
async def test_an_id_that_is_no_name_is_refused(registry: DataSourceRegistry, name: str) -> None:
    with pytest.raises(InvalidNameError):
        await registry.register_data_source(shelf(name))


async def test_settings_with_faults_are_refused_all_at_once(registry: DataSourceRegistry) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        await registry.register_data_source(
            DataSourceConfig("prod", "shelf", config={"broken": "perhaps", "colour": "red"})
        )
    assert {one["where"] for one in caught.value.context["problems"]} == {  # type: ignore[attr-defined]
        "token",
        "broken",
        "colour",
    }
    assert not registry.exists("prod")


# -- connectors --------------------------------------------------------------------------


@pytest.mark.requirement("S3.7", "S3.11", "S3.23")
async def test_the_connector_of_a_source_is_always_the_same(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    first, *others = await asyncio.gather(*(registry.get_connector("prod") for _ in range(20)))
    assert all(one is first for one in others)
    await first.list_items()
    assert Shelf.made == 1


@pytest.mark.requirement("S3.31")
async def test_threads_get_the_same_connector(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    found: list[Connector] = []
    start = threading.Barrier(8)

    def get() -> None:
        start.wait()
        found.append(asyncio.run(registry.get_connector("prod")))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(found) == 8
    assert all(one is found[0] for one in found)


@pytest.mark.requirement("S3.3", "S3.32")
async def test_a_connector_connects_when_first_used(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    connector = await registry.get_connector("prod")
    assert not connector.is_connected
    await connector.list_items()
    assert connector.is_connected


@pytest.mark.requirement("S3.19", "S3.23")
async def test_a_connector_that_was_disconnected_is_connected_again(
    registry: DataSourceRegistry,
) -> None:
    await registry.register_data_source(shelf())
    connector = await registry.get_connector("prod")
    await connector.connect()
    await connector.disconnect()
    assert not connector.is_connected
    with pytest.raises(InvalidStateError):
        await connector.list_items()
    assert await registry.get_connector("prod") is connector
    assert [one.name for one in await connector.list_items("a")] == ["a"]
    assert Shelf.made == 2


async def test_a_connector_has_the_operations_of_its_source(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    connector = await registry.get_connector("prod")
    assert (await connector.query("is it the token?")).rows == ((True,),)
    assert "prod" in repr(connector)
    assert CANARY not in repr(connector)
    with pytest.raises(AttributeError):
        _ = connector.nonsense


@pytest.mark.requirement("S3.14")
async def test_testing_a_connection(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    assert await registry.test_connection("prod") is True
    await registry.register_data_source(shelf("broken", broken=True))
    with pytest.raises(DataSourceConnectionError, match="The shelf is broken"):
        await registry.test_connection("broken")


@pytest.mark.requirement("S3.10")
async def test_unregistering_closes_and_forgets(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    connector = await registry.get_connector("prod")
    await connector.get_metadata("a")
    await registry.unregister_data_source("prod")
    assert not registry.exists("prod")
    assert Shelf.closed == 1
    assert registry.get_cached_metadata("prod", item="a") is None
    with pytest.raises(InvalidStateError):
        await connector.list_items()
    await registry.register_data_source(shelf())


async def test_one_that_nobody_used_can_be_unregistered(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    await registry.unregister_data_source("prod")
    assert (Shelf.made, registry.list_data_sources()) == (0, [])


async def test_one_whose_calls_do_not_end_stays(registry: DataSourceRegistry) -> None:
    Shelf.hold = asyncio.Event()
    await registry.register_data_source(shelf())
    connector = await registry.get_connector("prod")
    busy = asyncio.create_task(connector.get_metadata("a"))
    await Shelf.began.wait()
    with pytest.raises(InUseError, match="1 call in flight"):
        await registry.unregister_data_source("prod", timeout=0.01)
    assert registry.exists("prod")
    Shelf.hold.set()
    assert (await busy).item.name == "a"
    await registry.disconnect_all()


@pytest.mark.requirement("S3.15", "S3.26")
async def test_disconnecting_all_leaves_them_registered(registry: DataSourceRegistry) -> None:
    for name in ("one", "two"):
        await registry.register_data_source(shelf(name), test_connection=True)
    report = await registry.disconnect_all()
    assert report.clean
    assert sorted(report.disposed) == ["data_sources:one", "data_sources:two"]
    assert Shelf.closed == 2
    assert (await registry.get_connector("one")).is_connected


async def test_the_block_disconnects_all(registry: DataSourceRegistry) -> None:
    async with registry:
        await registry.register_data_source(shelf(), test_connection=True)
    assert Shelf.closed == 1


@pytest.mark.requirement("S3.13", "S3.18", "S3.19")
@pytest.mark.parametrize(
    "method", ["get_connector", "get_config", "test_connection", "unregister_data_source"]
)
async def test_an_unknown_id_is_told_with_those_there_are(
    registry: DataSourceRegistry, method: str
) -> None:
    await registry.register_data_source(shelf())
    assert not registry.exists("prud")
    with pytest.raises(NotFoundError, match=r"Provider not found: prud\. There are: prod\."):
        answer = getattr(registry, method)("prud")
        await answer


# -- settings and their secrets ----------------------------------------------------------


@pytest.mark.requirement("S3.12", "S3.28")
async def test_settings_are_shown_with_their_secrets_masked(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    shown = registry.get_config("prod")
    assert shown.config == {"token": "**********"}
    assert registry.list_data_sources() == [shown]


@pytest.mark.requirement("S3.12", "S3.29", "S3.37")
async def test_settings_can_be_had_as_they_were_given(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf(items=["x"]))
    assert registry.get_config("prod", sanitize=False, decrypt=True) == shelf(items=["x"])


@pytest.mark.requirement("S3.4", "S3.24", "S3.27")
async def test_secrets_are_stored_encrypted(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    stored = registry.get_config("prod", sanitize=False)
    assert is_sealed(stored.config["token"])
    assert CANARY not in repr(vars(registry))


async def test_an_older_name_of_a_secret_is_a_secret_too(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(DataSourceConfig("old", "shelf", config={"pin": CANARY}))
    assert is_sealed(registry.get_config("old", sanitize=False).config["pin"])
    assert (await (await registry.get_connector("old")).query("?")).rows == ((True,),)


async def test_a_typed_secret_is_taken_too(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf(token=SecretStr(CANARY)))
    assert (await (await registry.get_connector("prod")).query("?")).rows == ((True,),)


async def test_without_a_key_nothing_with_a_secret_is_registered() -> None:
    registry = DataSourceRegistry(CredentialManager([]))
    registry.register_connector_class("shelf", Shelf)
    with pytest.raises(CredentialError, match="PURVEYOR_CREDENTIALS__KEYS"):
        await registry.register_data_source(shelf())
    assert not registry.exists("prod")


@pytest.mark.requirement("S3.30")
async def test_secrets_reach_no_log_and_no_error(
    registry: DataSourceRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await registry.register_data_source(shelf(), test_connection=True)
    with pytest.raises(AlreadyExistsError) as taken:
        await registry.register_data_source(shelf())
    with pytest.raises(RegistrationFailedError) as failed:
        await registry.register_data_source(shelf("other", broken=True), test_connection=True)
    told = [repr(shelf()), caplog.text, *(repr(one.value.to_dict()) for one in (taken, failed))]
    assert not [text for text in told if CANARY in text]
    await registry.disconnect_all()


# -- metadata ----------------------------------------------------------------------------


@pytest.mark.requirement("S3.16", "S3.25")
async def test_metadata_is_kept_for_each_source(registry: DataSourceRegistry) -> None:
    for name in ("one", "two"):
        await registry.register_data_source(shelf(name))
    registry.cache_metadata("one", {"tables": 3})
    assert registry.get_cached_metadata("one") == {"tables": 3}
    assert registry.get_cached_metadata("two") is None


@pytest.mark.requirement("S3.17")
async def test_the_cache_is_cleared_for_one_or_for_all(registry: DataSourceRegistry) -> None:
    for name in ("one", "two"):
        await registry.register_data_source(shelf(name))
        registry.cache_metadata(name, name)
    assert registry.clear_cache("one") == 1
    assert registry.get_cached_metadata("two") == "two"
    assert registry.clear_cache() == 1


@pytest.mark.requirement("S3.5", "S3.19")
async def test_metadata_expires() -> None:
    registry = DataSourceRegistry(
        CredentialManager([CredentialManager.generate_key()]), cache_ttl=0
    )
    registry.register_connector_class("shelf", Shelf)
    await registry.register_data_source(shelf())
    registry.cache_metadata("prod", 1)
    assert registry.get_cached_metadata("prod") is None


async def test_metadata_of_an_item_is_asked_for_once(registry: DataSourceRegistry) -> None:
    await registry.register_data_source(shelf())
    connector = await registry.get_connector("prod")
    answers = await asyncio.gather(*(connector.get_metadata("a") for _ in range(10)))
    assert Shelf.asked == 1
    assert registry.get_cached_metadata("prod", item="a") is answers[0]
    with pytest.raises(ItemNotFoundError):
        await connector.get_metadata("z")
    await connector.disconnect()
    assert registry.get_cached_metadata("prod", item="a") is None


async def test_metadata_of_an_unknown_source_is_refused(registry: DataSourceRegistry) -> None:
    with pytest.raises(NotFoundError):
        registry.cache_metadata("nobody", 1)


# -- one does not hold up another --------------------------------------------------------


async def test_a_source_that_hangs_delays_no_other(registry: DataSourceRegistry) -> None:
    Shelf.hold = asyncio.Event()
    for name in ("slow", "quick"):
        await registry.register_data_source(shelf(name))
    slow = await registry.get_connector("slow")
    hanging = asyncio.create_task(slow.get_metadata("a"))
    await Shelf.began.wait()
    async with asyncio.timeout(1):
        quick = await registry.get_connector("quick")
        assert len(await quick.list_items()) == 2
        await registry.register_data_source(shelf("third"), test_connection=True)
        await registry.unregister_data_source("quick")
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    await registry.disconnect_all()


async def test_local_files_by_the_usual_way(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    async with DataSourceRegistry() as registry:
        await registry.register_data_source(
            DataSourceConfig("files", DataSourceType.LOCAL_FILE, config={"root": str(tmp_path)}),
            test_connection=True,
        )
        connector = await registry.get_connector("files")
        assert [item.name for item in await connector.list_items()] == ["a.csv"]
