"""The AI kit has teeth: each broken type fails exactly the rules it breaks."""

from __future__ import annotations

from pathlib import Path

from .teeth import expect, report_of

BROKEN = '''
import asyncio
import logging
from dataclasses import replace

from purveyor.providers.ai import Chunk
from purveyor.providers.ai.errors import RateLimitedError, ServiceError
from purveyor.providers.ai.openai import CHAT, OpenAIConfig, OpenAIProvider
from purveyor.providers.ai.openai_chat import ChatReducer
from purveyor.providers.ai.wire import chunks_of
from purveyor.testing.conformance import AIConformance
from purveyor.testing.doubles import OpenAIDouble


class Case(AIConformance):
    capabilities = frozenset({"streaming", "tools", "json-schema", "vision"})
    timeout = 10

    def make_service(self):
        return OpenAIDouble()

    def make_config(self, service, **changes):
        return OpenAIConfig(base_url=service.base_url, api_key=service.key, **changes)


class Believer(ChatReducer):
    def completion(self):
        self.ended = True
        return super().completion()


class Gullible(OpenAIProvider):
    """Takes what has come of a stream for all of it."""

    def _stream(self, request):
        events = self._connected().stream(CHAT, self._body(request, stream=True))
        return chunks_of(events, Believer())


class TestGullible(Case):
    provider_class = Gullible


class Raw(OpenAIProvider):
    """Lets a lost connection through as it is."""

    async def _stream(self, request):
        reducer = ChatReducer()
        events = self._connected().stream(CHAT, self._body(request, stream=True))
        try:
            async for event in events:
                if text := reducer.take(event):
                    yield Chunk(text)
        except ServiceError as error:
            error.context["partial"] = reducer.text
            raise
        finally:
            await events.aclose()
        yield Chunk(completion=reducer.completion())


class TestRaw(Case):
    provider_class = Raw


class Whole(OpenAIProvider):
    """Yields a stream when it is over."""

    async def _stream(self, request):
        for chunk in [chunk async for chunk in super()._stream(request)]:
            yield chunk


class TestWhole(Case):
    timeout = 1.5
    provider_class = Whole


class Shared(OpenAIProvider):
    """Puts the answers of all callers together in one place."""

    async def _connect(self):
        await super()._connect()
        self.told = []

    async def _stream(self, request):
        self.told.clear()
        async for chunk in super()._stream(request):
            if chunk.completion is None:
                self.told.append(chunk.text)
                yield chunk
            else:
                yield Chunk(completion=replace(chunk.completion, text="".join(self.told)))


class TestShared(Case):
    provider_class = Shared


class Eager(OpenAIProvider):
    """Takes a spent quota for a limit that passes."""

    def _explain(self, answer):
        error = super()._explain(answer)
        if error.code == "QUOTA_EXHAUSTED":
            return RateLimitedError(str(error), retry_after=0.0)
        return error


class TestEager(Case):
    provider_class = Eager


class Telling(OpenAIProvider):
    """Logs the key it asks with."""

    def _body(self, request, *, stream=False):
        logging.getLogger("purveyor.telling").warning("asked with %s", self._key)
        return super()._body(request, stream=stream)


class TestTelling(Case):
    provider_class = Telling


class Forgetful(OpenAIProvider):
    """Does not send at what to stop."""

    def _body(self, request, *, stream=False):
        return super()._body(replace(request, stop=()), stream=stream)


class TestForgetful(Case):
    provider_class = Forgetful


class Dear(OpenAIProvider):
    """Counts what was cached as if it were read anew."""

    def _finished(self, request, completion):
        usage = replace(completion.usage, cached_tokens=0)
        return super()._finished(request, replace(completion, usage=usage))


class TestDear(Case):
    provider_class = Dear


class Chatty(OpenAIProvider):
    """Asks how it is."""

    async def check_health(self):
        await self._connected().complete(
            CHAT, {"model": self.config.model, "messages": [{"role": "user", "content": "Well?"}]}
        )


class TestChatty(Case):
    provider_class = Chatty


class Deaf(OpenAIProvider):
    """Does not notice that nobody listens any more."""

    def _stream(self, request):
        return self._heard(request)

    async def _heard(self, request):
        queue = asyncio.Queue()

        async def pump():
            try:
                async for chunk in super(Deaf, self)._stream(request):
                    queue.put_nowait(chunk)
            except Exception as error:
                queue.put_nowait(error)

        self.pumps = [*getattr(self, "pumps", ()), asyncio.create_task(pump())]
        while True:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if item.completion:
                return

    async def _close(self):
        for task in getattr(self, "pumps", ()):
            task.cancel()
        await asyncio.gather(*getattr(self, "pumps", ()), return_exceptions=True)
        await super()._close()


class TestDeaf(Case):
    timeout = 1.5
    provider_class = Deaf


class TestUndeclared(Case):
    provider_class = type("Undeclared", (OpenAIProvider,), {})
    capabilities = frozenset({"streaming"})
'''

FAILURES = {
    "Gullible": {"a_truncated_stream_is_no_answer"},
    "Raw": {"a_broken_stream_is_told", "a_silent_stream_is_told"},
    "Whole": {
        "a_stream_comes_as_it_is_written",
        "a_stream_may_be_left",
        "a_truncated_stream_is_no_answer",
        "a_broken_stream_is_told",
        "a_silent_stream_is_told",
    },
    "Shared": {"many_at_once_are_not_mixed_up", "who_is_cancelled_harms_no_other"},
    "Eager": {"errors_have_their_class", "what_asking_again_cures_not_is_asked_once"},
    "Telling": {"secrets_are_shown_nowhere"},
    "Forgetful": {"options_arrive"},
    "Dear": {"usage_is_told", "costs_are_told"},
    "Chatty": {"health_costs_nothing"},
    "Deaf": {
        "cancelling_closes_the_connection",
        "a_stream_may_be_left",
        "who_is_cancelled_harms_no_other",
    },
    "Undeclared": {
        "undeclared_tools_are_refused",
        "undeclared_schemas_are_refused",
        "undeclared_pictures_are_refused",
    },
}

SELECTED = (
    "Eager or not ((Whole or Deaf) and not (stream or cancel) or errors_have or nonsense or "
    "says_nothing or choice_of or against_the or late or page_of or goes_on or passed_by or "
    "broken_call or lost_connection or why_it or leave_the)"
)
"""The many cases of some rules only where they are in question, to save time."""


def test_each_fails_exactly_the_rules_it_breaks_and_says_which(tmp_path: Path) -> None:
    report = report_of(tmp_path, BROKEN, select=SELECTED)
    expect(report, FAILURES)
    told = report["Gullible"]["a_truncated_stream_is_no_answer"]
    assert "half an answer was given as a whole one" in told
