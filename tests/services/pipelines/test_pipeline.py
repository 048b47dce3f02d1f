"""Pipelines: who may be asked, what is made, what is kept, and what it costs."""

from __future__ import annotations

import asyncio
import logging
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from purveyor.containers import ApplicationContainer
from purveyor.providers.media.audio import WordNotFoundError
from purveyor.providers.registry import (
    InvalidConfigError,
    NotFoundError,
    PermissionDeniedError,
)
from purveyor.providers.storage import StorageRootNotFoundError
from purveyor.providers.web.errors import (
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    OverloadedError,
    QuotaExhaustedError,
    ServiceError,
    ServiceTimeoutError,
)
from purveyor.services.pipelines import (
    BatchEvent,
    BatchResult,
    ImageJob,
    ItemFinished,
    ItemOutcome,
    ItemStarted,
    Pipeline,
    Product,
    PronunciationJob,
)
from purveyor.services.pipelines.kept import Kept
from purveyor.settings import load_settings
from tests.services.pipelines.conftest import Open
from tests.services.pipelines.samples import PNG, Painter, PainterConfig, World, sample_types


def pictures(*prompts: str, **options: Any) -> list[ImageJob]:
    return [ImageJob(prompt, prompt, **options) for prompt in prompts]


def outcomes(result: BatchResult) -> list[str]:
    return [item.outcome.value for item in result.items]


class TestAssignment:
    """Which providers reach a pipeline."""

    @pytest.fixture
    async def assigned(self, open_container: Open) -> ApplicationContainer:
        return await open_container(
            images={
                "providers": {
                    "openai": {"pipelines": ["vocabulary"]},
                    "runware": {"pipelines": ["covers"], "priority": 90},
                    "spare": {"type": "openai"},
                }
            }
        )

    @pytest.mark.requirement("S2.34")
    async def test_only_those_that_name_it_and_those_for_all(
        self, assigned: ApplicationContainer, world: World
    ) -> None:
        vocabulary = Pipeline("vocabulary", assigned)
        assert vocabulary.names("images") == ["openai", "spare"]
        assert Pipeline("covers", assigned).names("images") == ["runware", "spare"]

        await vocabulary.run(pictures("fox", provider="openai"))
        with pytest.raises(PermissionDeniedError) as refused:
            await vocabulary.run([*pictures("hen"), *pictures("fox", provider="runware")])

        assert str(refused.value) == (
            "Pipeline 'vocabulary': the images provider 'runware' is not assigned to it. The "
            "pipeline has these images providers: openai, spare. Add 'vocabulary' to its "
            "pipelines setting."
        )
        assert world.prompts == ["fox"]  # and no hen

    async def test_one_that_does_not_exist_is_told_with_those_it_has(
        self, assigned: ApplicationContainer, world: World
    ) -> None:
        with pytest.raises(NotFoundError) as missing:
            await Pipeline("covers", assigned).run(pictures("fox", provider="runwere"))
        assert str(missing.value).startswith("Pipeline 'covers': Provider not found: runwere.")
        assert "The pipeline has these images providers: runware, spare." in str(missing.value)
        assert world.prompts == []

    async def test_without_a_name_it_is_the_default_or_the_preferred_one(
        self, assigned: ApplicationContainer
    ) -> None:
        assert Pipeline("covers", assigned).provider("images").name == "runware"
        assigned.images.registry.set_default("spare")
        assert Pipeline("covers", assigned).provider("images").name == "spare"
        assigned.images.registry.set_default("openai")  # which is not assigned to it
        assert Pipeline("covers", assigned).provider("images").name == "runware"

    async def test_none_at_all_says_what_to_set(self, open_container: Open) -> None:
        container = await open_container(images={"providers": {"openai": {"pipelines": ["x"]}}})
        with pytest.raises(NotFoundError, match=r"assigned to the pipeline .y.\..*: openai\."):
            Pipeline("y", container).provider("images")
        with pytest.raises(NotFoundError, match="PURVEYOR_AUDIO__PROVIDERS__<NAME>__TYPE"):
            await Pipeline("y", container).run([PronunciationJob("1", "gato", "es")])

    async def test_faults_of_its_settings_are_told(self, open_container: Open) -> None:
        container = await open_container(images={"providers": {"openai": {"modell": "x"}}})
        with pytest.raises(InvalidConfigError, match="modell"):
            await Pipeline("y", container).run(pictures("fox"))

    async def test_an_override_is_asked_in_place_of_the_provider(
        self, container: ApplicationContainer
    ) -> None:
        mine = Painter(PainterConfig(model="mine"))
        with container.images.override_provider("openai", mine):
            result = await Pipeline("y", container).run(pictures("fox"))
        assert result.items[0].product is not None
        assert result.items[0].product.details["model"] == "mine"


class TestOldFiles:
    """Configuration files of older media applications, as they are."""

    FILE = """
providers:
  audio: {forvo: {type: audio, api_key: a, pipelines: [vocabulary]}}
  image:
    openai: {type: image, api_key: b, pipelines: ["*"]}
    runware: {type: image, api_key: c, price: much, pipelines: [vocabulary]}
  sync: {anki: {type: sync, deck: Spanish, pipelines: [vocabulary, covers]}}
"""

    @pytest.mark.requirement("S2.18", "S2.32", "S2.33", "S2.34", "S2.35", "S2.44")
    async def test_are_set_up_in_their_order_and_assigned_as_they_say(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "config.yaml"
        file.write_text(self.FILE)
        settings = load_settings(config_file=file, home=tmp_path / "home")
        container = ApplicationContainer(settings=settings, types=sample_types())

        with caplog.at_level(logging.INFO, "purveyor"):
            async with container.lifespan():
                vocabulary, covers = (
                    Pipeline("vocabulary", container),
                    Pipeline("covers", container),
                )
                result = await vocabulary.run(
                    [*pictures("fox"), PronunciationJob("w", "sol", "es")]
                )
                assert result.success
                assert covers.names("audio") == []
                assert covers.names("sync") == vocabulary.names("sync") == ["anki"]
                openai = container.images("openai")
                assert covers.provider("image").handle is openai is container.images("openai")

        told = [record.getMessage() for record in caplog.records]
        assert [line for line in told if " provider" in line and "storage" not in line][:4] == [
            "Registered audio provider: forvo (type forvo)",
            "Registered images provider: openai (type openai)",
            "Registered flashcards provider: anki (type anki)",
            next(line for line in told if line.startswith("Failed to create images provider runw")),
        ]


class TestBatches:
    """Many items at a time."""

    async def test_results_come_in_the_order_of_the_jobs(
        self, container: ApplicationContainer
    ) -> None:
        jobs = [*pictures("fox"), PronunciationJob("word", "gato", "es"), *pictures("hen")]
        result = await Pipeline("cards", container).run(jobs)

        assert result.success
        assert [item.key for item in result.items] == ["fox", "word", "hen"]
        fox, word, _ = (item.product for item in result.items)
        assert fox is not None
        assert word is not None
        assert (fox.data[:12], fox.media_type, fox.suffix) == (PNG + b"fox ", "image/png", ".png")
        assert fox.details["width"] == 64
        assert (word.data, word.suffix) == (b"ID3 gato es", ".mp3")
        assert word.details["attribution"] == "ana, CC BY-NC-SA"

    async def test_so_many_and_no_more_are_under_way(
        self, container: ApplicationContainer, world: World
    ) -> None:
        jobs = pictures(*map(str, range(21)))
        world.together = asyncio.Barrier(3)
        await Pipeline("cards", container, concurrency=3).run(jobs)
        assert world.most == 3
        with pytest.raises(ValueError, match="at least 1"):
            Pipeline("cards", container, concurrency=0)

    async def test_an_item_that_fails_stops_no_other(
        self, container: ApplicationContainer, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.faults = {
            "bad": ContentRefusedError("The service refuses the prompt."),
            "busy": OverloadedError("Too much to do."),
        }
        jobs = [*pictures("fox", "bad", "hen", "busy"), PronunciationJob("w", "xyzzy", "es")]
        result = await Pipeline("cards", container).run(jobs)

        assert outcomes(result) == ["made", "failed", "made", "failed", "failed"]
        assert not result.success
        assert (result.items[1].code, result.items[1].reason) == (
            "CONTENT_REFUSED",
            "The service refuses the prompt.",
        )
        assert result.items[4].code == WordNotFoundError.default_code

    async def test_a_defect_of_a_type_fails_its_item_alone(
        self, container: ApplicationContainer, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.faults = {"bad": ZeroDivisionError("oh")}
        result = await Pipeline("cards", container).run(pictures("bad", "fox"))
        assert outcomes(result) == ["failed", "made"]
        assert "oh" in result.items[0].reason

    @pytest.mark.parametrize(
        "error", [QuotaExhaustedError("Used up."), AuthenticationError("Wrong key.")]
    )
    async def test_a_provider_that_takes_no_more_is_asked_no_further(
        self,
        error: Exception,
        open_container: Open,
        world: World,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        container = await open_container(
            images={"providers": {"openai": {}, "runware": {}}, "default": "openai"}
        )
        world.faults = {"2": error}
        jobs = [*pictures("1", "2", "3", "4"), *pictures("other", provider="runware")]
        result = await Pipeline("cards", container, concurrency=1).run(jobs)

        assert outcomes(result) == ["made", "failed", "not_done", "not_done", "made"]
        assert world.prompts == ["1", "2", "other"]
        assert result.items[3].reason == str(error)
        assert result.warnings == [f"Provider 'openai' was asked no further: {error}"]

    async def test_progress_is_told_and_a_raising_observer_stops_nothing(
        self, container: ApplicationContainer, caplog: pytest.LogCaptureFixture
    ) -> None:
        events: list[BatchEvent] = []

        def observe(event: BatchEvent) -> None:
            events.append(event)
            raise RuntimeError("no")

        pipeline = Pipeline("cards", container, concurrency=1)
        with caplog.at_level(logging.CRITICAL):
            result = await pipeline.run(pictures("fox", "hen"), observer=observe)

        assert events == [
            ItemStarted("fox", "openai"),
            ItemFinished(result.items[0], 1, 2, Decimal("0.25")),
            ItemStarted("hen", "openai"),
            ItemFinished(result.items[1], 2, 2, Decimal("0.50")),
        ]

    async def test_files_are_written_whole_and_their_bytes_let_go(
        self, container: ApplicationContainer, tmp_path: Path, world: World
    ) -> None:
        path = tmp_path / "fox.png"
        result = await Pipeline("cards", container).run([ImageJob("1", "fox", path=path)])
        assert path.read_bytes() == PNG + b"fox 1"
        assert result.items[0].product is not None
        assert (result.items[0].product.data, result.items[0].product.path) == (b"", path)
        assert {*os.listdir(tmp_path)} == {"home", "fox.png"}  # noqa: PTH208

        with pytest.raises(FileNotFoundError):
            await Pipeline("cards", container).run(
                [*pictures("hen"), ImageJob("1", "fox", path=tmp_path / "no" / "fox.png")]
            )
        assert world.prompts == ["fox"]  # nothing was asked for

    def test_results_are_json(self) -> None:
        assert BatchResult([]).to_dict() == {
            "success": True,
            "made": 0,
            "kept": 0,
            "failed": 0,
            "not_done": 0,
            "cost": "0",
            "unknown": 0,
            "items": [],
            "warnings": [],
        }


class TestKeeping:
    """What was made is not paid for twice."""

    async def test_the_same_wish_has_the_same_result(
        self, container: ApplicationContainer, world: World
    ) -> None:
        first = await Pipeline("cards", container).run(pictures("fox", "hen", "fox"))
        again = await Pipeline("cards", container).run(pictures("hen", "fox", "cat"))

        assert outcomes(first) == ["made", "made", "kept"]
        assert outcomes(again) == ["kept", "kept", "made"]
        assert sorted(world.prompts) == ["cat", "fox", "hen"]
        assert (first.cost, again.cost) == (Decimal("0.50"), Decimal("0.25"))
        assert first.items[0].product == first.items[2].product == again.items[1].product

    async def test_what_changes_the_result_is_another_wish_and_what_does_not_is_not(
        self, open_container: Open, world: World
    ) -> None:
        async def made(**settings: Any) -> int:
            container = await open_container(images={"providers": {"openai": settings}})
            before = len(world.prompts)
            await Pipeline("cards", container).run(pictures("fox"))
            return len(world.prompts) - before

        assert await made(api_key="one") == 1
        assert await made(api_key="another", priority=10, timeout=5) == 0
        assert await made(model="pencil") == 1
        assert await made(model="pencil") == 0

    async def test_an_option_counts_as_the_setting_it_stands_for(
        self, open_container: Open, world: World
    ) -> None:
        one = await open_container(images={"providers": {"openai": {"model": "pencil"}}})
        await Pipeline("cards", one).run(pictures("fox"))
        other = await open_container(images={"providers": {"openai": {}}})
        same = await Pipeline("cards", other).run(pictures("fox", options={"model": "pencil"}))
        assert outcomes(same) == ["kept"]
        seeds = [*pictures("fox", options={"seed": 1}), *pictures("fox", options={"seed": 2})]
        assert outcomes(await Pipeline("cards", other).run(seeds)) == ["made", "made"]

    async def test_audio_is_kept_only_where_the_terms_allow_it(
        self, open_container: Open, world: World
    ) -> None:
        container = await open_container(
            audio={"providers": {"forvo": {}, "free_speech": {}}, "default": "forvo"}
        )
        pipeline = Pipeline("cards", container)
        for _ in range(2):
            await pipeline.run(
                [
                    PronunciationJob("1", "gato", "es"),
                    PronunciationJob("2", "perro", "es", provider="free_speech"),
                ]
            )
        assert world.words == ["gato", "perro", "gato"]

    async def test_of_a_group_only_where_the_terms_of_all_members_do(
        self, open_container: Open, world: World
    ) -> None:
        group = {"type": "failover", "members": ["free_speech", "forvo"]}
        container = await open_container(
            audio={"providers": {"forvo": {}, "free_speech": {}, "group": group}}
        )
        for _ in range(2):
            job = PronunciationJob("1", "gato", "es", provider="group")
            await Pipeline("cards", container).run([job])
        assert world.words == ["gato", "gato"]

    async def test_a_folder_or_any_storage_keeps_and_none_keeps_nothing(
        self, container: ApplicationContainer, world: World, tmp_path: Path
    ) -> None:
        for keep in (tmp_path / "kept", "sqlite:a/b", None):
            for _ in range(2):
                await Pipeline("cards", container, keep=keep).run(pictures("fox"))
        assert len(world.prompts) == 1 + 1 + 2
        assert len([*(tmp_path / "kept").glob("??/*")]) == 1
        keys = [info.key async for info in container.storage("sqlite").list("a/b/")]
        assert len(keys) == 1

    async def test_a_damaged_result_is_made_anew(
        self, container: ApplicationContainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        pipeline = Pipeline("cards", container, keep=tmp_path / "kept")
        await pipeline.run(pictures("fox"))
        (path,) = (tmp_path / "kept").glob("??/*")
        whole = path.read_bytes()
        for damaged in (whole[:-1], b"", b"[]\n", whole.replace(b'"cost": "', b'"cost": "x')):
            path.write_bytes(damaged)
            assert outcomes(await pipeline.run(pictures("fox"))) == ["made"]
        assert outcomes(await pipeline.run(pictures("fox"))) == ["kept"]

    async def test_what_was_made_before_a_kill_is_there_after_it(
        self, container: ApplicationContainer, world: World
    ) -> None:
        def kill(prompt: str) -> None:
            if prompt == "3":
                task.cancel()

        world.before = kill
        pipeline = Pipeline("cards", container, concurrency=1)
        task = asyncio.create_task(pipeline.run(pictures("1", "2", "3", "4")))
        with pytest.raises(asyncio.CancelledError):
            await task

        world.before = lambda _: None
        again = await pipeline.run(pictures("1", "2", "3", "4"))
        assert outcomes(again) == ["kept", "kept", "made", "made"]
        assert world.prompts == ["1", "2", "3", "3", "4"]

    async def test_what_cannot_be_kept_is_given_with_a_warning(
        self, container: ApplicationContainer, tmp_path: Path, world: World
    ) -> None:
        kept = tmp_path / "kept"
        world.before = lambda _: (kept.rmdir(), kept.write_bytes(b""), None)[-1]
        result = await Pipeline("cards", container, keep=kept).run(pictures("fox"))
        assert outcomes(result) == ["made"]
        assert "fox was made and could not be kept" in result.warnings[0]

    async def test_a_place_that_is_not_well_is_told_before_anything_is_paid(
        self, container: ApplicationContainer, tmp_path: Path, world: World
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        for keep in (tmp_path / "file", "nowhere:a"):
            with pytest.raises((NotFoundError, StorageRootNotFoundError)):
                await Pipeline("cards", container, keep=keep).run(pictures("fox"))
        assert world.prompts == []


class TestCosts:
    """What a batch will cost, and a limit of it."""

    async def test_are_known_before(self, open_container: Open, world: World) -> None:
        container = await open_container(
            images={
                "default": "openai",
                "providers": {"openai": {}, "mute": {"type": "openai", "price": None}},
            },
            audio={"providers": {"forvo": {}}},
        )
        pipeline = Pipeline("cards", container)
        await pipeline.run(pictures("fox"))
        jobs = [
            *pictures("fox", "hen", "hen", "cat"),
            *pictures("cow", provider="mute"),
            PronunciationJob("w", "gato", "es"),
        ]
        estimate = await pipeline.estimate(jobs)
        assert estimate.to_dict() == {
            "items": 6,
            "kept": 1,
            "calls": {"openai": 2, "mute": 1, "forvo": 1},
            "cost": "0.50",
            "unknown": 1,
        }
        assert str(estimate).endswith(
            "2 of openai, 1 of mute, 1 of forvo; 0.50 and 1 of unknown cost"
        )
        assert world.prompts == ["fox"]

    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_a_limit_ends_a_batch_before_it_would_be_passed(
        self, concurrency: int, container: ApplicationContainer, world: World
    ) -> None:
        pipeline = Pipeline("cards", container, concurrency=concurrency)
        await pipeline.run(pictures("9"))
        jobs = [*pictures(*"123459"), PronunciationJob("w", "gato", "es")]

        result = await pipeline.run(jobs, max_cost=Decimal("0.60"))

        assert sorted(outcomes(result)[:5]) == ["made"] * 2 + ["not_done"] * 3
        assert outcomes(result)[5:] == ["kept", "made"]
        assert result.cost == Decimal("0.50")
        (reason,) = {item.reason for item in result.items if item.code == "COST_LIMIT"}
        assert reason.startswith("The cost limit of 0.60 is reached.")
        again = await pipeline.run(jobs)
        assert sorted(outcomes(again)[:5]) == ["kept"] * 2 + ["made"] * 3

    async def test_where_prices_are_told_afterwards_one_item_alone_may_pass_it(
        self, open_container: Open, world: World
    ) -> None:
        container = await open_container(images={"providers": {"openai": {"price": None}}})
        pipeline = Pipeline("cards", container, concurrency=8)
        result = await pipeline.run(pictures(*"123456789"), max_cost=Decimal("1.20"))
        assert sorted(outcomes(result)) == ["made"] * 3 + ["not_done"] * 6
        assert (result.cost, world.most) == (Decimal("1.5"), 1)

    async def test_where_they_are_never_told_a_limit_ends_after_the_first(
        self, open_container: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        container = await open_container(
            images={"providers": {"openai": {"price": None, "tells_cost": False}}}
        )
        pipeline = Pipeline("cards", container)
        result = await pipeline.run(pictures(*"123"), max_cost=Decimal(9))
        assert sorted(outcomes(result)) == ["made", "not_done", "not_done"]
        assert {item.code for item in result.items} == {"", "COST_UNKNOWN"}
        assert (result.cost, result.unknown) == (Decimal(0), 1)
        again = await pipeline.run(pictures(*"123"))
        assert sorted(outcomes(again)) == ["kept", "made", "made"]

    async def test_a_limit_of_nothing_gives_what_is_kept(
        self, container: ApplicationContainer, world: World
    ) -> None:
        pipeline = Pipeline("cards", container)
        await pipeline.run(pictures("fox"))
        result = await pipeline.run(pictures("hen", "fox"), max_cost=Decimal(0))
        assert outcomes(result) == ["not_done", "kept"]
        assert result.count(ItemOutcome.NOT_DONE) == 1

    @pytest.mark.parametrize("error", [ServiceTimeoutError("late"), BadResponseError("what?")])
    async def test_what_may_have_been_paid_for_counts_against_a_limit(
        self, container: ApplicationContainer, world: World, error: ServiceError
    ) -> None:
        world.faults = dict.fromkeys("12345", error)
        pipeline = Pipeline("cards", container, concurrency=1)
        result = await pipeline.run(pictures(*"12345"), max_cost=Decimal("0.50"))
        assert sorted(outcomes(result)) == ["failed"] * 2 + ["not_done"] * 3

    async def test_what_was_certainly_not_done_costs_nothing(
        self, container: ApplicationContainer, world: World
    ) -> None:
        world.faults = {"1": ContentRefusedError("no")}
        pipeline = Pipeline("cards", container, concurrency=1)
        result = await pipeline.run(pictures("1", "2"), max_cost=Decimal("0.25"))
        assert outcomes(result) == ["failed", "made"]

    async def test_what_is_being_kept_is_kept_though_the_batch_is_cancelled(
        self, container: ApplicationContainer, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        putting, go_on, put = asyncio.Event(), asyncio.Event(), Kept.put

        async def slow(self: Kept, digest: str, product: Product) -> None:
            putting.set()
            await go_on.wait()
            await put(self, digest, product)

        monkeypatch.setattr(Kept, "put", slow)
        pipeline = Pipeline("cards", container)
        task = asyncio.create_task(pipeline.run(pictures("hen")))
        await putting.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcomes(await pipeline.run(pictures("hen"))) == ["kept"]
        assert world.prompts == ["hen"]

    async def test_a_limit_holds_for_all_jobs_of_a_batch(
        self, container: ApplicationContainer
    ) -> None:
        async with Pipeline("cards", container).batch(max_cost=Decimal("0.50")) as batch:
            assert [one.outcome for one in await batch.run(pictures("1"))] == ["made"]
            later = await batch.run(pictures("2", "3"))
            assert sorted(one.outcome for one in later) == ["made", "not_done"]
            assert batch.spent == Decimal("0.50")
