"""Django's file storage, in a small Django project of its own."""

from __future__ import annotations

import asyncio
import io
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation, SynchronousOnlyOperation
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage, storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection, models
from django.db.migrations.writer import MigrationWriter
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from purveyor.containers import ApplicationContainer
from purveyor.containers.process import process_container

BACKEND = "purveyor.integrations.django.PurveyorStorage"
MIB = 1024 * 1024

services = ApplicationContainer()

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.staticfiles"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
    MEDIA_URL="/media/",
    STATIC_URL="/static/",
    STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
    STORAGES={
        "default": {"BACKEND": BACKEND, "OPTIONS": {"provider": "sqlite"}},
        "staticfiles": {
            "BACKEND": f"{__name__}.HashedStatics",
            "OPTIONS": {"location": "static", "base_url": "/static/", "allow_overwrite": True},
        },
        "named": {"BACKEND": BACKEND, "OPTIONS": {"container": f"{__name__}.services"}},
    },
)
django.setup()

from django.contrib.staticfiles.storage import ManifestFilesMixin  # noqa: E402

from purveyor.integrations.django import PurveyorStorage  # noqa: E402


class HashedStatics(ManifestFilesMixin, PurveyorStorage):
    """Static files under names that change with their content."""


class Report(models.Model):
    file = models.FileField(upload_to="reports/%Y")
    image = models.ImageField(width_field="width", height_field="height", null=True)
    width = models.IntegerField(null=True)
    height = models.IntegerField(null=True)

    class Meta:
        app_label = "shop"


def upload(request: HttpRequest) -> HttpResponse:
    report = Report.objects.create(file=request.FILES["file"])
    return HttpResponse(report.file.name)


async def read(request: HttpRequest) -> HttpResponse:
    name = request.GET["name"]
    if "directly" in request.GET:
        default_storage.exists(name)
    return HttpResponse(await sync_to_async(lambda: default_storage.open(name).read())())


urlpatterns = [path("upload", upload), path("read", read)]


@pytest.fixture
def storage() -> PurveyorStorage:
    return PurveyorStorage("sqlite")


@pytest.fixture
def table() -> Iterator[None]:
    with connection.schema_editor() as editor:
        editor.create_model(Report)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Report)
    connection.close()


class TestFiles:
    def test_saving_opening_and_deleting(self, storage: PurveyorStorage) -> None:
        assert storage.save("docs/a.txt", ContentFile(b"hello")) == "docs/a.txt"
        assert storage.exists("docs/a.txt")
        assert storage.size("docs/a.txt") == 5
        with storage.open("docs/a.txt") as file:
            assert (file.read(), file.size, file.name) == (b"hello", 5, "docs/a.txt")
        storage.delete("docs/a.txt")
        storage.delete("docs/a.txt")
        assert not storage.exists("docs/a.txt")

    def test_text_is_utf_8(self, storage: PurveyorStorage) -> None:
        storage.save("a.txt", ContentFile("één\n"))
        with storage.open("a.txt", "r") as file:
            assert list(file) == ["één\n"]
        with storage.open("b.txt", "w") as file:
            file.write("twee")
        assert storage.open("b.txt").read() == b"twee"

    def test_what_is_not_there_is_not_found(self, storage: PurveyorStorage) -> None:
        for call in (storage.open, storage.size, storage.get_modified_time):
            with pytest.raises(FileNotFoundError):
                call("none.txt")

    @pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "..", "a\\..\\..\\b"])
    def test_no_name_leads_out_of_the_location(self, name: str) -> None:
        storage = PurveyorStorage("sqlite", location="media")
        for call in (storage.exists, storage.open, storage.delete, storage.listdir):
            with pytest.raises(SuspiciousFileOperation):
                call(name)
        with pytest.raises(SuspiciousFileOperation):
            storage.save(name, ContentFile(b"x"))

    def test_all_of_it_is_below_the_location(self) -> None:
        storage = PurveyorStorage("sqlite", location="/media/")
        storage.save("a/b.txt", ContentFile(b"x"))
        storage.save("c.txt", ContentFile(b"x"))
        process_container().blocking.storage("sqlite").put("elsewhere", b"x")
        assert process_container().blocking.storage("sqlite").get("media/a/b.txt") == b"x"
        assert storage.listdir("") == (["a"], ["c.txt"])
        assert storage.listdir("a") == ([], ["b.txt"])
        assert storage.listdir("none") == ([], [])
        assert [storage.exists(name) for name in ("", "a", "b")] == [True, True, False]

    def test_the_time_of_change_has_a_zone_if_django_uses_them(
        self, storage: PurveyorStorage
    ) -> None:
        storage.save("a", ContentFile(b"x"))
        assert abs(storage.get_modified_time("a") - datetime.now(UTC)) < timedelta(minutes=1)
        with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
            naive = storage.get_modified_time("a")
        ahead = naive - datetime.now(UTC).replace(tzinfo=None)
        assert abs(ahead - timedelta(hours=9)) < timedelta(minutes=1)

    def test_urls(self) -> None:
        assert PurveyorStorage().url("docs/a b#1.txt") == "/media/docs/a%20b%231.txt"
        elsewhere = PurveyorStorage(base_url="https://cdn.example.com/files")
        assert elsewhere.url("a.txt") == "https://cdn.example.com/files/a.txt"
        with override_settings(MEDIA_URL=""), pytest.raises(ValueError, match="base_url"):
            PurveyorStorage().url("a.txt")
        with pytest.raises(NotImplementedError):
            PurveyorStorage().path("a.txt")

    @pytest.mark.parametrize("mode", ["a", "r+b", "wb+", "q"])
    def test_modes_that_an_object_cannot_have_are_refused(
        self, storage: PurveyorStorage, mode: str
    ) -> None:
        with pytest.raises(ValueError, match="mode"):
            storage.open("a", mode)

    def test_a_file_is_read_in_blocks_at_any_place(self, storage: PurveyorStorage) -> None:
        content = bytes(range(256)) * 8192
        storage.save("big", ContentFile(content))
        with storage.open("big") as file:
            file.seek(1_500_000)
            assert file.read(100) == content[1_500_000:1_500_100]
            file.seek(-10, 2)
            assert file.read() == content[-10:]
            assert b"".join(file.chunks()) == content
        file.open()
        assert file.read(4) == content[:4]
        file.close()

    def test_writing_appears_at_the_end_or_not_at_all(self, storage: PurveyorStorage) -> None:
        with storage.open("a", "wb") as file:
            file.write(b"first")
            assert not storage.exists("a")
        with pytest.raises(ZeroDivisionError), storage.open("a", "wb") as file:
            file.write(b"second")
            _ = 1 / 0
        assert storage.open("a").read() == b"first"
        with pytest.raises(FileExistsError), storage.open("a", "xb") as file:
            file.write(b"third")

    def test_the_content_type_is_kept_where_the_storage_keeps_one(
        self, storage: PurveyorStorage
    ) -> None:
        storage.save("a.png", ContentFile(b"x"))
        storage.save("b", SimpleUploadedFile("b", b"x", content_type="text/x-thing"))
        kept = process_container().blocking.storage("sqlite")
        assert kept.stat("a.png").content_type == "image/png"
        assert kept.stat("b").content_type == "text/x-thing"
        PurveyorStorage("filesystem").save("a.png", ContentFile(b"x"))  # which keeps none

    def test_contents_are_streamed(self, tmp_path: Path) -> None:
        storage = PurveyorStorage("filesystem")
        source = tmp_path / "source"
        with source.open("wb") as file:
            file.truncate(64 * MIB)
        storage.save("warm", ContentFile(b"x"))
        tracemalloc.start()
        try:
            with source.open("rb") as file:
                storage.save("big", File(file))
            with storage.open("big") as file:
                assert sum(len(chunk) for chunk in file.chunks()) == 64 * MIB
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB


class TestNames:
    def test_a_taken_name_gets_another_that_is_like_it(self, storage: PurveyorStorage) -> None:
        names = {storage.save("a.txt", ContentFile(b"%d" % number)) for number in range(3)}
        assert len(names) == 3
        assert all(name.startswith("a") and name.endswith(".txt") for name in names)
        assert storage.open("a.txt").read() == b"0"

    def test_of_many_who_save_at_once_none_replaces_another(self, storage: PurveyorStorage) -> None:
        ready = threading.Barrier(8)
        names: dict[str, bytes] = {}

        def save(number: int) -> None:
            content = b"%d" % number
            ready.wait()
            names[storage.save("a.txt", ContentFile(content), max_length=20)] = content

        threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(names) == 8
        assert all(storage.open(name).read() == content for name, content in names.items())
        assert all(len(name) <= 20 for name in names)

    def test_a_name_taken_after_it_was_looked_for_is_not_replaced(self) -> None:
        class Late(PurveyorStorage):
            def exists(self, name: str) -> bool:
                found = super().exists(name)
                if not found and name == "a.txt":  # another process is faster
                    process_container().blocking.storage().put("a.txt", b"theirs")
                return found

        name = Late().save("a.txt", ContentFile(b"ours"))
        assert name != "a.txt"
        assert Late().open("a.txt").read() == b"theirs"
        assert Late().open(name).read() == b"ours"

    def test_what_cannot_be_read_again_is_not_saved_under_another_name(self) -> None:
        class Late(PurveyorStorage):
            def exists(self, name: str) -> bool:
                return False

        class Stream(io.BytesIO):
            def seekable(self) -> bool:
                return False

        Late().save("a.txt", ContentFile(b"theirs"))
        with pytest.raises(FileExistsError):
            Late().save("a.txt", File(Stream(b"ours"), "a.txt"))

    def test_overwriting_has_to_be_allowed(self) -> None:
        storage = PurveyorStorage(allow_overwrite=True)
        assert [storage.save("a", ContentFile(b"%d" % n)) for n in range(2)] == ["a", "a"]
        assert storage.open("a").read() == b"1"
        assert len(storage.save("very-long-name.txt", ContentFile(b"x"), max_length=16)) <= 16

    def test_a_folder_takes_its_name(self) -> None:
        storage = PurveyorStorage("filesystem")
        storage.save("a/b", ContentFile(b"x"))
        assert storage.save("a", ContentFile(b"y")) != "a"


@pytest.mark.usefixtures("table")
class TestModels:
    def test_a_file_field_keeps_its_file(self) -> None:
        report = Report(file=ContentFile(b"content", "year end.txt"))
        report.save()
        again = Report.objects.get(pk=report.pk)
        assert again.file.name == f"reports/{datetime.now(UTC):%Y}/year_end.txt"
        assert again.file.read() == b"content"
        assert again.file.url == f"/media/{again.file.name}"
        again.file.close()
        with again.file.open() as file:
            assert file.read(3) == b"con"
        again.file.delete()
        assert not default_storage.exists(report.file.name)

    def test_an_image_field_knows_the_size(self) -> None:
        image = pytest.importorskip("PIL.Image")
        picture = io.BytesIO()
        image.new("RGB", (30, 20)).save(picture, "PNG")
        Report.objects.create(image=ContentFile(picture.getvalue(), "small.png"))
        report: Any = Report.objects.get()
        assert (report.width, report.height) == (30, 20)
        assert (report.image.width, report.image.height) == (30, 20)
        with report.image.open() as file:
            assert image.open(file).size == (30, 20)

    def test_an_upload_reaches_the_storage(self) -> None:
        answers = [
            Client().post("/upload", {"file": SimpleUploadedFile("a.bin", bytes([n]) * 3 * MIB)})
            for n in (1, 2)
        ]
        names = [answer.content.decode() for answer in answers]
        assert len({*names}) == 2
        assert default_storage.open(names[0]).read() == b"\x01" * 3 * MIB


class TestProcess:
    def test_asynchronous_views_go_through_a_thread(self) -> None:
        default_storage.save("a.txt", ContentFile(b"hello"))

        async def ask() -> bytes:
            return (await AsyncClient().get("/read?name=a.txt")).content

        async def ask_directly() -> None:
            await AsyncClient().get("/read?name=a.txt&directly")

        assert asyncio.run(ask()) == b"hello"
        with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
            asyncio.run(ask_directly())

    def test_a_container_may_be_named(self) -> None:
        with services.blocking as blocking:
            storages["named"].save("a", ContentFile(b"x"))
            assert blocking.storage().get("a") == b"x"

    def test_a_storage_can_stand_in_a_migration(self) -> None:
        serialized: Any = MigrationWriter.serialize(PurveyorStorage("sqlite", location="m"))
        text, imports = serialized
        assert text == f"{BACKEND}('sqlite', location='m')"
        assert imports == {"import purveyor.integrations.django"}

    def test_static_files_are_collected_under_hashed_names(self, tmp_path: Path) -> None:
        (tmp_path / "site" / "css").mkdir(parents=True)
        (tmp_path / "site" / "css" / "main.css").write_text("body { background: url(dot.png) }")
        (tmp_path / "site" / "css" / "dot.png").write_bytes(b"dot")
        statics: Any = storages["staticfiles"]
        with override_settings(STATICFILES_DIRS=[tmp_path / "site"]):
            for arguments in ({}, {}, {"clear": True}):
                call_command("collectstatic", interactive=False, verbosity=0, **arguments)
        fresh = HashedStatics(location="static", base_url="/static/")
        url = fresh.url("css/main.css")
        assert url.startswith("/static/css/main.")
        assert url != "/static/css/main.css"
        content = statics.open(url.removeprefix("/static/")).read().decode()
        assert "dot.png" not in content
        assert statics.exists("staticfiles.json")
