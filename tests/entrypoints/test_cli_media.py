"""``purveyor ask``, ``image``, ``pronounce`` and ``deck``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from purveyor.providers.ai.base import AIConfig, AIProvider, Request
from purveyor.providers.ai.model import (
    Chunk,
    Completion,
    FinishReason,
    Image,
    ModelInfo,
    Text,
    Usage,
)
from purveyor.providers.registry import default_types, register_provider
from purveyor.providers.web.errors import (
    ApplicationNotRunningError,
    QuotaExhaustedError,
    ServiceConnectionError,
    StreamInterruptedError,
)
from purveyor.testing.doubles import Fault
from purveyor.testing.doubles.anthropic import AnthropicDouble
from tests.entrypoints.conftest import Run
from tests.services.pipelines import samples
from tests.services.pipelines.samples import PNG, World

ROOT = Path(__file__).parents[2]


class EchoConfig(AIConfig):
    base_url: str = "http://127.0.0.1:1"


class Echo(AIProvider[EchoConfig]):
    """Says what it was asked, word for word; breaks off after the word ``break``."""

    async def check_health(self) -> None:
        """Ask nothing."""

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo("echo")]

    async def _complete(self, request: Request) -> Completion:
        pictures = [part for part in request.messages[-1].parts if isinstance(part, Image)]
        text = "".join(part.text for part in request.messages[-1].parts if isinstance(part, Text))
        said = "".join(f"[{one.media_type}]" for one in pictures) + text
        if request.system:
            said = f"{request.system}: {said}"
        if request.schema is not None:
            said = json.dumps({"answer": said})
        words = said.split()
        reason = FinishReason.STOP
        if request.max_tokens is not None and len(words) > request.max_tokens:
            said, reason = " ".join(words[: request.max_tokens]), FinishReason.LENGTH
        if "REFUSE" in said:
            said, reason = "", FinishReason.REFUSED
        return Completion(said, request.model, reason, Usage(len(words), len(words)))

    async def _stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        whole = await self._complete(request)
        for word in whole.text.splitlines(keepends=True):
            yield Chunk(word)
            if word.strip() == "break":
                raise StreamInterruptedError("The stream broke off.", partial=word)
        yield Chunk(completion=whole)


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Providers of sample types in every family, as the environment has them."""
    made = World()
    monkeypatch.setattr(samples, "WORLD", made)
    classes: dict[str, Any] = {
        "AI": Echo,
        "IMAGES": samples.Painter,
        "AUDIO": samples.Speaker,
        "FLASHCARDS": samples.Box,
    }
    for family, cls in classes.items():
        register_provider(f"sample_{family.lower()}", capabilities={"vision", "json-schema"})(cls)
        variable = f"PURVEYOR_{family}__PROVIDERS__MINE__TYPE"
        monkeypatch.setenv(variable, f"sample_{family.lower()}")
    monkeypatch.setenv("PURVEYOR_AI__PROVIDERS__MINE__MODEL", "echo-1")
    yield made
    for family in classes:
        default_types.remove(family.lower(), f"sample_{family.lower()}")


class TestAsk:
    def test_the_answer_goes_to_stdout_as_text(self, cli: Run) -> None:
        result = cli("ask", "Say hello", stdin=b"")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "Say hello\n", "")

    @pytest.mark.parametrize(
        ("arguments", "stdin", "said"),
        [
            (["-"], b"from a pipe\n", "from a pipe\n"),
            ([], b"from a pipe", "from a pipe\n"),
            (["Summarise:"], b"a text\n", "Summarise:\n\na text\n"),
            (["x", "--system", "Be brief"], b"", "Be brief: x\n"),
        ],
    )
    def test_a_prompt_and_what_comes_in_are_asked_together(
        self, arguments: list[str], stdin: bytes, said: str, cli: Run
    ) -> None:
        assert cli("ask", *arguments, stdin=stdin).stdout == said

    def test_json_has_the_whole_answer(self, cli: Run) -> None:
        result = cli("ask", "one two", "--provider", "mine", "--model", "echo-2", "--json")
        assert json.loads(result.stdout) == {
            "text": "one two",
            "data": None,
            "model": "echo-2",
            "finish_reason": "stop",
            "usage": {"input_tokens": 2, "output_tokens": 2, "cached_tokens": 0, "cost": None},
            "tool_calls": [],
            "id": "",
            "data_sources": [],
        }

    @pytest.mark.requirement("S3.35")
    def test_data_is_fetched_first_and_told(
        self, cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PURVEYOR_DATA_SOURCES__PROVIDERS__FILES__TYPE", "local_file")
        monkeypatch.setenv("PURVEYOR_DATA_SOURCES__PROVIDERS__FILES__ROOT", str(folder))
        monkeypatch.setenv("PURVEYOR_CHAT__ITEM_BYTES", "10")
        (folder / "a.csv").write_text("n\n1\n")
        (folder / "b.csv").write_text("n\n" + "2\n" * 50)
        (folder / "c.bin").write_bytes(b"\0")
        result = cli("ask", "Why?", "--data", "files:*.csv", "--data", "files:c.bin", "--json")
        answer = json.loads(result.stdout)
        told = [(one["item"], one["told"]) for one in answer["data_sources"]]
        assert told == [("a.csv", 4), ("b.csv", 10), ("c.bin", 0)]
        assert answer["text"].endswith("Why?")
        assert "\nn\n1\nEND DATA" in answer["text"]
        assert "files:b.csv: the model is told 10 of 102 bytes." in result.stderr
        assert "files:c.bin is not text" in result.stderr
        failed = cli("ask", "Why?", "--data", "files:a.csv", "--data", "files:no-such")
        assert (failed.exit_code, failed.stdout) == (1, "")
        assert "files:no-such: There is no" in failed.stderr

    def test_a_schema_makes_the_answer_data(self, cli: Run, folder: Path) -> None:
        (folder / "answer.json").write_text('{"type": "object"}')
        result = cli("ask", "x", "--schema", "answer.json")
        assert json.loads(result.stdout) == {"answer": "x"}

    def test_pictures_are_shown_to_it(self, cli: Run, folder: Path) -> None:
        (folder / "fox").write_bytes(PNG)
        (folder / "hen").write_bytes(b"\xff\xd8\xff\xe0")
        result = cli("ask", "What is it?", "--image", "fox", "--image", "hen")
        assert result.stdout == "[image/png][image/jpeg]What is it?\n"

    def test_how_it_ended_is_told_where_it_matters(self, cli: Run) -> None:
        cut = cli("ask", "one two three", "--max-tokens", "2")
        assert (cut.exit_code, cut.stdout) == (0, "one two\n")
        assert "--max-tokens" in cut.stderr
        refused = cli("ask", "REFUSE")
        assert (refused.exit_code, refused.stderr) == (1, "The model refused to answer.\n")

    def test_a_stream_that_breaks_off_fails_after_what_had_come(self, cli: Run) -> None:
        result = cli("ask", "-", stdin=b"first\nbreak\nlast")
        assert (result.exit_code, result.stdout) == (1, "first\nbreak\n")
        assert result.stderr == "error: mine: The stream broke off.\n"

    @pytest.mark.parametrize(
        ("arguments", "stdin", "expected"),
        [
            ([], b"", "there is nothing to ask"),
            (["-"], b" \n", "there is nothing to ask"),
            (["x"], b"\xff\xfe", "no text in UTF-8"),
            (["x", "--schema", "none.json"], b"", "'none.json' cannot be read"),
            (["x", "--schema", "list.json"], b"", "it must be an object"),
            (["x", "--schema", "bad.json"], b"", "is no JSON"),
            (["x", "--image", "bad.json"], b"", "is no picture"),
            (["x", "--provider", "nobody"], b"", "Provider not found: nobody"),
            (["x", "--max-tokens", "0"], b"", "--max-tokens"),
        ],
    )
    def test_wrong_usage_is_one_message(
        self, arguments: list[str], stdin: bytes, expected: str, cli: Run, folder: Path
    ) -> None:
        (folder / "list.json").write_text("[]")
        (folder / "bad.json").write_text("{")
        result = cli("ask", *arguments, stdin=stdin)
        assert (result.exit_code, result.stdout) == (2, "")
        assert expected in result.stderr


class TestImage:
    def test_is_written_to_the_file(self, cli: Run, folder: Path) -> None:
        result = cli("image", "a fox", "-o", "fox.png", "--model", "pencil")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1] == "fox.png\t64x64\tpencil\t0.25"
        assert (folder / "fox.png").read_bytes() == PNG + b"a fox 1"
        data = json.loads(cli("image", "a fox", "-o", "fox.png", "--json").stdout)
        assert (data[0]["path"], data[0]["cost"]) == ("fox.png", "0.25")

    def test_an_estimate_asks_nobody(self, cli: Run, world: World) -> None:
        assert cli("image", "a fox", "--estimate", "--count", "3").stdout == "0.75\n"
        assert json.loads(cli("image", "a fox", "--estimate", "--json").stdout)["cost"] == "0.25"
        assert world.prompts == []

    def test_what_is_wrong_is_one_message(self, cli: Run, world: World) -> None:
        assert "give -o FILE" in cli("image", "a fox").stderr
        missing = cli("image", "a fox", "-o", "no/fox.png")
        assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
        world.faults = {"a hen": QuotaExhaustedError("Used up until tomorrow.")}
        failed = cli("image", "a hen", "-o", "hen.png")
        assert (failed.exit_code, failed.stderr) == (1, "error: mine: Used up until tomorrow.\n")
        world.faults = {"a hen": ServiceConnectionError("The connection was lost.")}
        lost = cli("image", "a hen", "-o", "hen.png")
        assert (lost.exit_code, lost.stderr) == (1, "error: mine: The connection was lost.\n")


class TestPronounce:
    def test_is_written_to_the_file_and_the_speaker_is_told(self, cli: Run, folder: Path) -> None:
        result = cli("pronounce", "gato", "es", "-o", "gato.mp3", "--country", "Mexico")
        assert (result.exit_code, result.stdout) == (0, "gato.mp3\n")
        assert result.stderr == "ana, CC BY-NC-SA\n"
        assert (folder / "gato.mp3").read_bytes() == b"ID3 gato es"

    def test_recordings_can_be_listed(self, cli: Run, world: World) -> None:
        result = cli("pronounce", "gato", "es", "--list", "--sex", "female")
        assert result.stdout.splitlines()[1] == "7\t3\tSpain\tfemale\tana"
        assert (
            json.loads(cli("pronounce", "gato", "es", "--list", "--json").stdout)[0]["votes"] == 3
        )
        assert world.words == []

    def test_what_is_wrong_is_one_message(self, cli: Run) -> None:
        assert "give -o FILE" in cli("pronounce", "gato", "es").stderr
        unknown = cli("pronounce", "xyzzy", "es", "-o", "x.mp3")
        assert (unknown.exit_code, unknown.stderr) == (
            1,
            "error: mine: There is no recording of 'xyzzy'.\n",
        )
        missing = cli("pronounce", "gato", "es", "-o", "no/gato.mp3")
        assert missing.stderr.startswith("error: 'no/gato.mp3' cannot be written")


WORDS = "Front,Back,image_prompt\ngato,cat,a cat\nperro,dog,a dog\n"


class TestDeck:
    @pytest.fixture(autouse=True)
    def words(self, folder: Path) -> Path:
        path = folder / "words.csv"
        path.write_text(WORDS)
        return path

    def test_list(self, cli: Run) -> None:
        assert cli("deck", "list").stdout == "Default\nSpanish\n"
        assert json.loads(cli("deck", "list", "--json").stdout) == ["Default", "Spanish"]

    def test_push_makes_notes_and_a_second_one_costs_nothing(self, cli: Run, world: World) -> None:
        arguments = ("deck", "push", "words.csv", "--deck", "Spanish", "--note-type", "Basic")
        first, second = cli(*arguments), cli(*arguments)
        assert (first.exit_code, first.stdout) == (0, "2 added; cost 0.50\n")
        assert (second.exit_code, second.stdout) == (0, "2 skipped; cost 0\n")
        pictures = [note.images["Back"].data or b"" for note in world.notes.values()]
        assert [data[:-2] for data in pictures] == [PNG + b"a cat", PNG + b"a dog"]

    def test_columns_are_chosen_with_their_fields(
        self, cli: Run, world: World, words: Path
    ) -> None:
        words.write_text("Front;Back;look;say\ngato;cat;a cat;gato\n")
        result = cli(
            *("deck", "push", "words.csv", "--note-type", "Basic", "--images", "look=Front"),
            *("--sounds", "say", "--language", "es", "--delimiter", ";"),
        )
        assert (result.exit_code, result.stderr) == (0, "")
        (note,) = world.notes.values()
        assert (note.images.keys(), note.audio.keys()) == ({"Front"}, {"Back"})

    def test_costs_nobody_knows_are_told(self, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        unpriced = '{"price": null, "tells_cost": false}'
        monkeypatch.setenv("PURVEYOR_IMAGES__PROVIDERS__MINE__OPTIONS", unpriced)
        result = cli("deck", "push", "words.csv", "--note-type", "Basic")
        assert result.stdout == "2 added; cost 0 and 2 rows of unknown cost\n"

    def test_a_dry_run_tells_rows_and_costs(self, cli: Run, world: World) -> None:
        arguments = ("deck", "push", "words.csv", "--note-type", "Basic", "--dry-run")
        result = cli(*arguments)
        assert (result.exit_code, result.stdout) == (0, "push\t2\tgato\npush\t3\tperro\n")
        assert "2 would push" in result.stderr
        assert "2 of mine; 0.50" in result.stderr
        assert json.loads(cli(*arguments, "--json").stdout)["estimate"]["cost"] == "0.50"
        assert (world.prompts, world.notes) == ([], {})

    def test_a_cost_limit_leaves_rows_undone(self, cli: Run) -> None:
        arguments = ("deck", "push", "words.csv", "--note-type", "Basic", "--max-cost", "0.30")
        result = cli(*arguments, "--jobs", "1")
        assert (result.exit_code, result.stdout) == (1, "1 added, 1 not done; cost 0.25\n")
        assert result.stderr.startswith("not done from line 3 on: The cost limit of 0.30")

    def test_rows_that_fail_are_named_by_line(self, cli: Run, world: World) -> None:
        world.faults = {"a dog": QuotaExhaustedError("Used up.")}
        result = cli("deck", "push", "words.csv", "--note-type", "Basic", "--json", "--jobs", "1")
        assert result.exit_code == 1
        assert "error: words.csv: line 3: Used up.\n" in result.stderr
        data = json.loads(result.stdout)
        assert [row["outcome"] for row in data["rows"]] == ["added", "failed"]

    @pytest.mark.parametrize(
        ("text", "arguments", "expected"),
        [
            (WORDS, ["--note-type", "Basik"], "There is no note type 'Basik'"),
            (WORDS, ["--note-type", "Basic", "--deck", "x"], "There is no deck 'x'"),
            (WORDS, [], "No note type is named"),
            (WORDS, ["--note-type", "Basic", "--max-cost", "x"], "no amount such as 0.50"),
            ("Front\na\n,\n", ["--note-type", "Basic"], "words.csv: line 3: there are 2 cells"),
            ("Frond\na\n", ["--note-type", "Basic"], "column 'Frond'"),
        ],
    )
    def test_what_cannot_begin_is_told_before_anything_is_paid(
        self,
        text: str,
        arguments: list[str],
        expected: str,
        cli: Run,
        world: World,
        words: Path,
    ) -> None:
        words.write_text(text)
        result = cli("deck", "push", "words.csv", *arguments)
        assert result.exit_code in (1, 2)
        assert expected in result.stderr
        assert world.prompts == []

    def test_a_collection_that_goes_away_is_told_as_it_says(self, cli: Run, world: World) -> None:
        world.faults = {"push": ApplicationNotRunningError("Start Anki.")}
        result = cli("deck", "push", "words.csv", "--note-type", "Basic")
        assert (result.exit_code, result.stdout) == (1, "2 failed; cost 0.50\n")
        assert result.stderr.splitlines()[-1] == "error: Start Anki."

    def test_a_file_that_is_not_there_is_one_message(self, cli: Run) -> None:
        result = cli("deck", "push", "none.csv", "--note-type", "Basic")
        assert (result.exit_code, result.stderr) == (
            1,
            "error: 'none.csv' cannot be read: No such file or directory\n",
        )


HANGING = """
import sys
sys.path.insert(0, {root!r})
from purveyor.providers.registry import register_provider
from tests.services.pipelines import samples

class Slow(samples.World):
    async def work(self, what):
        if what == "a dog":
            print("painting", flush=True)
            await __import__("asyncio").Event().wait()

samples.WORLD = Slow()
for name, cls in (("images", samples.Painter), ("flashcards", samples.Box)):
    register_provider("sample_" + name)(cls)
from purveyor.entrypoints.cli import run
sys.argv = ["purveyor", "deck", "push", "words.csv", "--note-type", "Basic", "--jobs", "1"]
run()
"""


def test_ctrl_c_ends_a_push_cleanly_and_what_was_made_is_kept(folder: Path) -> None:
    (folder / "words.csv").write_text(WORDS)
    child = subprocess.Popen(
        [sys.executable, "-c", HANGING.format(root=str(ROOT))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "painting\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=20)
    assert child.returncode == 130
    assert errors == (
        "error: interrupted: pushed so far: 0; pictures that were made are kept. "
        "Run the same command again to go on.\n"
    )
    kept = [*(folder / ".purveyor/storage/filesystem/pipelines").glob("??/*")]
    assert len(kept) == 1


def test_ctrl_c_ends_an_answer_where_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AnthropicDouble() as service:
        service.fail(Fault(stall_after=5))
        for name, value in {
            "TYPE": "anthropic",
            "BASE_URL": service.base_url,
            "API_KEY": service.key,
            "MODEL": min(service.models),
        }.items():
            monkeypatch.setenv(f"PURVEYOR_AI__PROVIDERS__MINE__{name}", value)
        child = subprocess.Popen(
            [sys.executable, "-m", "purveyor", "ask", "Say hello to all the world"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ},
        )
        with child:
            assert child.stdout is not None
            begun = child.stdout.read(8)
            child.send_signal(signal.SIGINT)
            rest, errors = child.communicate(timeout=20)
    assert (child.returncode, errors) == (130, b"error: interrupted\n")
    assert begun == b"You said"
    assert rest.endswith(b"\n")


class TestProvidersTest:
    """``purveyor providers test`` for these families."""

    def test_names_are_looked_up_in_all_families(self, cli: Run) -> None:
        result = cli("providers", "test", "mine", "--json")
        assert {one["family"] for one in json.loads(result.stdout)} == {
            "ai",
            "images",
            "audio",
            "flashcards",
        }
        one = cli("providers", "test", "mine", "--family", "ai")
        assert one.stdout.splitlines()[1].split("\t")[0::4] == ["mine", "ai"]

    def test_one_that_is_nowhere_is_told_with_those_that_are(self, cli: Run) -> None:
        result = cli("providers", "test", "mime")
        assert result.exit_code == 2
        assert "Provider not found: mime. There are these in all families: mine," in result.stderr
