"""The catalogue of provider types: what could be configured, known without importing it."""

from __future__ import annotations

import abc
import copy
import json
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.registry import (
    AlreadyExistsError,
    Family,
    ImportFailedError,
    InvalidConfigError,
    NotFoundError,
    Provider,
    ProviderConfig,
    ProviderRegistry,
    ProviderType,
    ProviderTypes,
    import_extra,
    operation,
    register_provider,
)
from purveyor.providers.registry.types import ENTRY_POINT_GROUP
from tests.providers.registry.samples import Sample, SampleConfig, in_threads


def row(name: str, path: str, **traits: Any) -> ProviderType:
    return ProviderType("storage", name, path, **traits)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, whose modules are forgotten in the end."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(folder: Path, module: str, source: str) -> None:
    (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")


SHELF = """
    from purveyor.providers.registry import Provider, ProviderConfig, operation

    class ShelfConfig(ProviderConfig):
        width: int = 1

    class Shelf(Provider[ShelfConfig]):
        family = "storage"

        @operation
        async def echo(self, value):
            return value

    class Cupboard:
        Drawer = Shelf
    """


class TestDecorator:
    @pytest.mark.requirement("S0.2", "S0.3", "S0.4", "S0.5", "S0.9", "S0.10", "S0.12", "S0.36")
    def test_registers_class_config_and_metadata_in_one(self) -> None:
        catalogue = ProviderTypes(scan_entry_points=False)
        decorated = register_provider(
            name="s3",
            description="Amazon S3 compatible storage",
            metadata={"supports_encryption": True, "supports_versioning": True, "tier": 1},
            types=catalogue,
        )(Sample)
        assert decorated is Sample
        found = catalogue.get("storage", "s3")
        assert found.loaded_class is Sample
        assert found.config_class is SampleConfig
        assert found.description == "Amazon S3 compatible storage"
        assert found.metadata["supports_versioning"] is True
        assert found.capabilities == {"encryption", "versioning"}

    @pytest.mark.requirement("S0.11", "S0.15", "S0.5")
    def test_takes_a_holder_with_config_and_storage_class(self, types: ProviderTypes) -> None:
        class Narrow(SampleConfig):
            pass

        @register_provider("held", types=types)
        class Holder:
            config_class = Narrow
            storage_class = Sample

        found = types.get("storage", "held")
        assert Holder.storage_class is Sample
        assert (found.loaded_class, found.config_class) == (Sample, Narrow)

    @pytest.mark.requirement("S0.34")
    def test_another_class_of_the_name_is_refused_with_both_places(
        self, types: ProviderTypes
    ) -> None:
        class Another(Sample):
            pass

        with pytest.raises(AlreadyExistsError, match=r"^Provider type already registered") as e:
            register_provider("sample", types=types)(Another)
        message = str(e.value)
        assert message.count("samples.py:") == 1
        assert message.count("test_types.py:") == 1
        assert types.get("storage", "sample").loaded_class is Sample

    @pytest.mark.requirement("S0.34")
    def test_the_same_class_again_is_no_error(self, types: ProviderTypes) -> None:
        register_provider("sample", types=types)(Sample)
        assert types.names("storage") == ["sample"]

    def test_an_alias_that_is_taken_is_refused_and_nothing_is_added(
        self, types: ProviderTypes
    ) -> None:
        with pytest.raises(AlreadyExistsError):
            register_provider("other", aliases=["sample"], types=types)(Sample)
        assert types.find("storage", "other") is None

    def test_what_is_no_provider_is_refused(self, types: ProviderTypes) -> None:
        with pytest.raises(ImportFailedError, match="is no provider class: derive it from"):
            register_provider("odd", types=types)(int)

    def test_a_class_of_no_family_is_refused(self, types: ProviderTypes) -> None:
        class Stray(Provider[SampleConfig]):
            pass

        with pytest.raises(InvalidConfigError, match=r"'stray' .* is of no family"):
            register_provider("stray", types=types)(Stray)
        register_provider("stray", family="storage", types=types)(Stray)

    def test_an_abstract_class_is_refused_with_what_is_missing(self, types: ProviderTypes) -> None:
        class Half(Sample, abc.ABC):
            @operation
            @abc.abstractmethod
            async def other_half(self) -> None: ...

        with pytest.raises(ImportFailedError, match="does not implement other_half"):
            register_provider("half", types=types)(Half)

    def test_one_capability_may_be_given_as_a_string(self, types: ProviderTypes) -> None:
        register_provider("one", capabilities="Local_Storage", types=types)(Sample)
        assert types.get("storage", "one").capabilities == {"local-storage"}

    def test_the_default_catalogue_is_meant_where_none_is_given(self) -> None:
        from purveyor.providers.registry import default_types

        register_provider("sample-of-this-test", family="test-family")(Sample)
        try:
            assert default_types.get("test-family", "sample-of-this-test").loaded_class is Sample
        finally:
            default_types.remove("test-family", "sample-of-this-test")

    def test_a_class_without_source_is_told_by_its_module(self, types: ProviderTypes) -> None:
        made = type("Made", (Sample,), {"__module__": "nowhere"})
        register_provider("made", types=types)(made)
        with pytest.raises(AlreadyExistsError, match="@register_provider in nowhere; refused"):
            register_provider("made", types=types)(Sample)


class TestLookup:
    @pytest.mark.requirement("S0.6", "S0.7", "S0.8", "S0.18", "S0.37")
    def test_types_are_found_by_name_and_listed(self, types: ProviderTypes) -> None:
        register_provider("album", aliases=["book"], types=types)(Sample)
        assert types.names("storage") == ["album", "sample"]
        assert [one.name for one in types.all()] == ["sample", "album"]
        assert types.all("ai") == []
        assert types.get("storage", "book").name == "album"
        assert types.get("storage", "album").config_class is SampleConfig
        types.remove("storage", "book")
        assert types.find("storage", "album") is None
        types.remove("storage", "album")

    @pytest.mark.requirement("S0.35", "S2.13")
    def test_an_unknown_one_is_told_with_those_there_are(self, types: ProviderTypes) -> None:
        with pytest.raises(ValueError, match=r"^Unknown storage provider: s3\. .*: sample\.") as e:
            types.get("storage", "s3")
        assert isinstance(e.value, NotFoundError)
        with pytest.raises(NotFoundError, match="No ai provider type is installed"):
            types.get("ai", "x")

    def test_families_have_older_names(self, types: ProviderTypes) -> None:
        storage = types.family("storage")
        assert types.family("store") is storage
        assert types.families() == [storage]
        assert types.add_family(storage) is storage
        with pytest.raises(AlreadyExistsError, match="other traits: storage"):
            types.add_family(Family("storage"))
        with pytest.raises(NotFoundError, match="these families: none"):
            ProviderTypes().family("x")

    def test_embedded_types_are_those_that_need_no_settings(self, types: ProviderTypes) -> None:
        types.add(row("shelf", "shelf:Shelf", embedded=True))
        assert [one.name for one in types.embedded("storage")] == ["shelf"]


class TestImportMap:
    @pytest.mark.requirement("S2.2", "S2.9", "S2.10", "S0.1")
    async def test_a_type_is_imported_when_it_is_needed(
        self, types: ProviderTypes, folder: Path
    ) -> None:
        write(folder, "shelf_module", SHELF)
        types.add(row("shelf", "shelf_module:Shelf"))
        types.add(row("drawer", "shelf_module:Cupboard.Drawer"))
        registry = ProviderRegistry[Any]("storage", types=types)
        assert types.names("storage") == ["drawer", "sample", "shelf"]
        assert "shelf_module" not in sys.modules
        shelf = await registry.register("top", {"type": "shelf", "width": 3})
        assert "shelf_module" in sys.modules
        assert await shelf.echo(1) == 1
        assert (
            types.get("storage", "drawer").loaded_class
            is types.get("storage", "shelf").loaded_class
        )

    def test_the_same_path_again_is_no_error_and_another_one_is(self, types: ProviderTypes) -> None:
        first = types.add(row("shelf", "shelf_module:Shelf"))
        assert types.add(row("shelf", "shelf_module:Shelf")) is first
        with pytest.raises(AlreadyExistsError, match="shelf_module:Shelf from built in"):
            types.add(row("shelf", "other:Shelf"))

    def test_a_class_that_is_both_mapped_and_decorated_is_one_type(
        self, types: ProviderTypes
    ) -> None:
        path = f"{Sample.__module__}:{Sample.__qualname__}"
        types.add(row("sample", path))
        mapped = types.add(row("twice", path))
        register_provider("twice", types=types, capabilities={"search"})(Sample)
        found = types.get("storage", "twice")
        assert found.same_as(mapped)
        assert (found.origin, found.capabilities) == (mapped.origin, {"search"})
        register_provider("twice", types=types)(Sample)
        assert types.get("storage", "twice") is found

    @pytest.mark.requirement("S2.14", "S2.29", "S2.41")
    def test_a_broken_module_keeps_its_real_traceback(
        self, types: ProviderTypes, folder: Path
    ) -> None:
        write(folder, "broken_module", "def deep():\n    return 1 / 0\ndeep()")
        types.add(row("broken", "broken_module:X"))
        with pytest.raises(ImportError, match="ZeroDivisionError: division by zero") as caught:
            ProviderRegistry[Any]("storage", types=types).register_nowait("broken")
        assert isinstance(caught.value, ImportFailedError)
        assert caught.value.context["path"] == "broken_module:X"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        frames = [caught.value.__cause__.__traceback__]
        while frames[-1] is not None and frames[-1].tb_next:
            frames.append(frames[-1].tb_next)
        assert frames[-1] is not None
        assert frames[-1].tb_frame.f_code.co_name == "deep"

    def test_a_failed_import_is_tried_again(self, types: ProviderTypes, folder: Path) -> None:
        late = types.add(row("late", "late_module:Shelf"))
        with pytest.raises(ImportFailedError, match="No module named 'late_module'"):
            _ = late.loaded_class
        write(folder, "late_module", SHELF)
        sys.path_importer_cache.clear()
        assert late.loaded_class.__name__ == "Shelf"

    def test_a_missing_class_is_told(self, types: ProviderTypes) -> None:
        with pytest.raises(ImportFailedError, match="has no attribute 'Nothing'"):
            _ = types.add(row("odd", "json:Nothing")).loaded_class

    def test_a_missing_extra_is_told_with_its_install_line(
        self, types: ProviderTypes, folder: Path
    ) -> None:
        write(folder, "needs_module", "import a_library_that_is_not_there")
        needs = row("needs", "needs_module:X", extra="sftp")
        with pytest.raises(ImportFailedError, match=r"pip install 'purveyor\[sftp\]'") as caught:
            _ = needs.loaded_class
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)

    def test_what_the_module_says_of_a_missing_extra_passes(self, folder: Path) -> None:
        write(
            folder,
            "asks_module",
            """
            from purveyor.providers.registry import import_extra
            import_extra("a_library_that_is_not_there", extra="smb")
            """,
        )
        with pytest.raises(ImportFailedError, match=r"^'a_library_that_is_not_there' is not inst"):
            _ = row("asks", "asks_module:X").loaded_class

    def test_a_class_without_a_config_model_is_told(self, folder: Path) -> None:
        write(
            folder,
            "bare_module",
            "from purveyor.providers.registry import Provider\nclass Bare(Provider): pass",
        )
        with pytest.raises(ImportFailedError, match="has no config model: derive its class"):
            _ = row("bare", "bare_module:Bare").config_class

    def test_a_type_that_cannot_be_imported_is_not_the_one_of_an_object_at_hand(
        self, types: ProviderTypes
    ) -> None:
        class Loose(ProviderConfig):
            pass

        catalogue = ProviderTypes(scan_entry_points=False)
        catalogue.add(row("alien", "somewhere.else:X"))
        catalogue.add(row("broken", f"{__name__[:-1]}:X"))
        catalogue.add(ProviderType("ai", "x", "json:X"))
        assert catalogue.of_class("storage", Loose) is None
        assert types.of_class("storage", SampleConfig) is types.get("storage", "sample")

    def test_the_version_is_that_of_the_distribution(self) -> None:
        assert row("a", "b:C", distribution="pytest").version == pytest.__version__
        assert row("a", "b:C", distribution="nowhere-to-be-found").version == ""
        assert row("a", "b:C", distribution="").version == ""


class TestExtras:
    def test_what_is_installed_is_imported(self) -> None:
        assert import_extra("json", extra="x") is json

    def test_what_is_missing_is_told_with_its_install_line(self) -> None:
        with pytest.raises(ImportFailedError, match=r"pip install 'purveyor\[sftp\]'") as caught:
            import_extra("a_library_that_is_not_there.sub", extra="sftp")
        assert caught.value.context["module"] == "a_library_that_is_not_there.sub"

    def test_what_is_broken_tells_so_itself(self, folder: Path) -> None:
        write(folder, "half_there", "import its_own_requirement")
        with pytest.raises(ModuleNotFoundError, match="its_own_requirement") as caught:
            import_extra("half_there", extra="x")
        assert not isinstance(caught.value, ImportFailedError)


class TestEntryPoints:
    @pytest.fixture
    def installed(self, folder: Path) -> Path:
        """A distribution whose entry points add types, good and bad."""
        write(folder, "shelves", SHELF)
        info = folder / "shelves-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelves\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(
            f"[{ENTRY_POINT_GROUP}]\n"
            "storage.shelf = shelves:Shelf\n"
            "storage.sample = shelves:Shelf\n"
            "nameless = shelves:Shelf\n"
            "storage.drawer = shelves:Cupboard.Drawer [wood]\n"
        )
        return folder

    @pytest.fixture
    def catalogue(self, installed: Path) -> ProviderTypes:
        catalogue = ProviderTypes()
        catalogue.add_family(Family("storage"))
        register_provider("sample", types=catalogue)(Sample)
        return catalogue

    @pytest.mark.requirement("S0.39", "S0.44")
    async def test_add_types_that_are_imported_when_needed(self, catalogue: ProviderTypes) -> None:
        assert catalogue.names("storage") == ["drawer", "sample", "shelf"]
        assert "shelves" not in sys.modules
        registry = ProviderRegistry[Any]("storage", types=catalogue)
        shelf = await registry.register("shelf", {"width": 2})
        assert await shelf.echo(1) == 1
        info = registry.info("shelf")
        assert info.version == "1.2"
        found = catalogue.get("storage", "shelf")
        assert found.origin == "entry point 'storage.shelf' of shelves 1.2"
        assert catalogue.get("storage", "drawer").loaded_class is found.loaded_class

    def test_never_replace_a_type_and_a_bad_one_does_not_hide_the_rest(
        self, catalogue: ProviderTypes, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert catalogue.get("storage", "shelf").path == "shelves:Shelf"
        assert catalogue.get("storage", "sample").loaded_class is Sample
        conflict, nameless = sorted(caplog.messages, reverse=True)
        assert "'storage.sample' adds no provider type: Provider type already" in conflict
        assert "samples.py:" in conflict
        assert "of shelves 1.2" in conflict
        assert "must be named family.type" in nameless

    def test_are_there_for_all_threads_that_ask_at_once(self, installed: Path) -> None:
        for _ in range(5):
            catalogue = ProviderTypes()
            answers = in_threads(4, lambda _, types=catalogue: types.find("storage", "shelf"))
            assert None not in answers

    def test_are_not_read_for_what_is_known(self, catalogue: ProviderTypes) -> None:
        catalogue.get("storage", "sample")
        assert len(catalogue._types) == 1

    def test_may_name_a_class_that_is_decorated_too(self, folder: Path, installed: Path) -> None:
        catalogue = ProviderTypes()
        assert catalogue.find("storage", "shelf") is not None
        shelf = catalogue.get("storage", "shelf").loaded_class
        register_provider("shelf", types=catalogue)(shelf)


@pytest.mark.requirement("S0.41")
def test_a_catalogue_of_its_own_isolates_a_test(types: ProviderTypes) -> None:
    other = ProviderTypes(scan_entry_points=False)
    assert types.find("storage", "sample") is not None
    assert other.find("storage", "sample") is None


def test_a_copied_container_shares_the_catalogue(types: ProviderTypes) -> None:
    assert copy.deepcopy([types])[0] is types


def test_threads_that_add_the_same_type_add_it_once() -> None:
    catalogue = ProviderTypes(scan_entry_points=False)
    barrier = threading.Barrier(8)

    def add(_: int) -> ProviderType:
        barrier.wait()
        return catalogue.add(row("shelf", "shelves:Shelf"))

    assert len({id(one) for one in in_threads(8, add)}) == 1
