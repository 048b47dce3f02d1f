"""The rules of asking: what is said arrives, and what is answered comes back."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest

from ...providers.ai import FinishReason, Message, Price, Text, Usage
from ...providers.ai.errors import ContextTooLongError, InvalidRequestError, ModelNotFoundError
from ..doubles import AIDouble, Fault, Reply
from .ai_case import AICase, AIModel, ai_test, both, drained, refusal, service_test

__all__ = ["AskingRules"]

TEXT = 'First line\nüñí 日本 \U0001f600 <b>&amp;</b> data: [DONE] "quoted" {} \\'
ANSWER = Reply(TEXT, input_tokens=20, output_tokens=5, cached_tokens=8)
PRICE = Price(input=Decimal(3), output=Decimal(15), cached=Decimal("0.3"))
COST = Decimal("0.0001134")  # 12 * 3 + 8 * 0.3 + 5 * 15 in a million

NOTHING: dict[str, Any] = {
    "an empty text": "",
    "no message": [],
    "an empty message": [Message("user", "")],
    "instructions alone": [Message("system", "Be brief.")],
}


class AskingRules(AICase):
    """What a caller may rely on in ``complete`` and ``stream``."""

    # -- answers -------------------------------------------------------------------------

    @ai_test
    async def test_complete_returns_the_answer(self, model: AIModel, service: AIDouble) -> None:
        """The text as it is, the model that gave it, why it ended; no data without a schema."""
        service.reply(ANSWER)
        answer = await model.complete("Hello")
        assert answer.text == TEXT
        assert answer.model == service.models[0]
        assert answer.finish_reason is FinishReason.STOP
        assert answer.tool_calls == ()
        assert answer.data is None
        assert service.heard[-1].said == [("user", "Hello")]

    @ai_test
    async def test_usage_is_told(self, model: AIModel, service: AIDouble) -> None:
        """Input is all that was read, cached tokens among them; no cost without prices."""
        service.reply(ANSWER, ANSWER)
        assert (await model.complete("Hello")).usage == Usage(20, 5, 8)
        _, streamed = await drained(model.stream("Hello"))
        assert streamed.usage == Usage(20, 5, 8)

    @ai_test
    async def test_a_stream_is_the_same_answer(self, model: AIModel, service: AIDouble) -> None:
        """The chunks make up the text, and the last one has the answer `complete` returns."""
        service.reply(ANSWER, ANSWER)
        whole = await model.complete("Hello")
        text, streamed = await drained(model.stream("Hello"))
        assert text == TEXT
        assert replace(streamed, id="") == replace(whole, id="")
        assert [heard.stream for heard in service.heard] == [False, True]

    @ai_test
    async def test_a_stream_comes_as_it_is_written(self, model: AIModel, service: AIDouble) -> None:
        """The first chunk is there while the service still writes the others."""
        service.reply(Reply("x" * 100, pieces=100))
        service.fail(Fault(stall_after=50))
        async with aclosing(cast("Any", model.stream("Count"))) as chunks:
            assert (await anext(chunks)).text == "x"

    @pytest.mark.parametrize(
        ("finish", "reason"), [("length", FinishReason.LENGTH), ("refused", FinishReason.REFUSED)]
    )
    @ai_test
    async def test_why_it_ended_is_told(
        self, model: AIModel, service: AIDouble, finish: Any, reason: FinishReason
    ) -> None:
        """An answer that was cut off, or refused, says so, whole or streamed."""
        service.reply(*[Reply("No more", finish=finish)] * 2)
        assert (await model.complete("Hello")).finish_reason is reason
        _, streamed = await drained(model.stream("Hello"))
        assert streamed.finish_reason is reason

    @ai_test
    async def test_an_answer_may_be_empty(self, model: AIModel, service: AIDouble) -> None:
        """A model that says nothing is no error."""
        service.reply(Reply(""), Reply(""))
        assert (await model.complete("Hello")).text == ""
        assert (await drained(model.stream("Hello")))[0] == ""

    @ai_test
    async def test_what_nobody_knows_is_passed_by(self, model: AIModel, service: AIDouble) -> None:
        """Fields and events of a later version change nothing."""
        service.reply(Reply(TEXT, noise=True), Reply(TEXT, noise=True))
        assert (await model.complete("Hello")).text == TEXT
        assert (await drained(model.stream("Hello")))[0] == TEXT

    @pytest.mark.parametrize("name", ["", "*"], ids=["of the model", "of any"])
    @service_test
    async def test_costs_are_told(self, service: AIDouble, name: str) -> None:
        """With prices: the cost by what was used, those of the model before those of ``*``."""
        other = Price(input=Decimal(1), output=Decimal(1))
        async with self.made(
            service, prices={"*": other, name or service.models[0]: PRICE}
        ) as priced:
            service.reply(ANSWER, ANSWER)
            assert (await priced.complete("Hello")).usage.cost == COST
            _, streamed = await drained(priced.stream("Hello"))
            assert streamed.usage.cost == COST

    # -- questions -----------------------------------------------------------------------

    @ai_test
    async def test_a_conversation_arrives(self, model: AIModel, service: AIDouble) -> None:
        """Turns in their order, texts as they are; instructions from both places, in order."""
        prompt = [
            Message("system", "Answer in verse."),
            Message("user", TEXT),
            Message("assistant", "A rose"),
            Message("user", [Text("is"), Text("what?")]),
        ]
        await model.complete(prompt, system="Be brief.")
        heard = service.heard[-1]
        assert heard.said == [
            *(("user", TEXT), ("assistant", "A rose")),
            *(("user", "is"), ("user", "what?")),
        ]
        assert heard.system.index("Be brief.") < heard.system.index("Answer in verse.")

    @ai_test
    async def test_an_answer_continues_the_conversation(
        self, model: AIModel, service: AIDouble
    ) -> None:
        """The answer's ``message`` is the next turn."""
        answer = await model.complete("One")
        await model.complete([Message("user", "One"), answer.message, Message("user", "Two")])
        assert service.heard[-1].said == [
            *(("user", "One"), ("assistant", "You said: One"), ("user", "Two")),
        ]

    @ai_test
    async def test_options_arrive(self, model: AIModel, service: AIDouble) -> None:
        """What a call says is sent, in a stream too; what it does not say is not."""
        options: Any = {"model": service.models[1], "max_tokens": 17, "stop": ["END", "."]}
        answer = await model.complete("Hello", **options)
        await drained(model.stream("Hello", **options))
        assert answer.model == service.models[1]
        for heard in service.heard:
            assert (heard.model, heard.max_tokens) == (service.models[1], 17)
            assert list(heard.stop) == ["END", "."]
        await model.complete("Hello")
        heard = service.heard[-1]
        assert (heard.model, heard.system, heard.tools) == (service.models[0], "", {})
        assert (heard.temperature, heard.tool_choice, heard.schema) == (None, None, None)
        assert not heard.stop

    @service_test
    async def test_the_settings_limit_an_answer(self, service: AIDouble) -> None:
        """``max_tokens`` of the settings holds where a call does not say."""
        async with self.made(service, max_tokens=23) as limited:
            await limited.complete("Hello")
            await limited.complete("Hello", max_tokens=29)
        assert [heard.max_tokens for heard in service.heard] == [23, 29]

    # -- what is refused -----------------------------------------------------------------

    @pytest.mark.parametrize("prompt", NOTHING.values(), ids=NOTHING)
    @ai_test
    async def test_a_prompt_that_says_nothing_is_refused(
        self, model: AIModel, service: AIDouble, prompt: Any
    ) -> None:
        """An empty prompt is an InvalidRequestError, a ValueError; the service is not asked."""
        for name, call in both(model, prompt):
            error = await refusal(InvalidRequestError, f"{name} of {prompt!r}", call)
            assert isinstance(error, ValueError)
        assert service.requests == []

    @ai_test
    async def test_an_unknown_model_is_told(self, model: AIModel, service: AIDouble) -> None:
        """A model the service has not is a ModelNotFoundError, a LookupError."""
        for name, call in both(model, "Hello", model="no-such-model"):
            error = await refusal(ModelNotFoundError, name, call)
            assert isinstance(error, LookupError)
            assert not error.is_backend_failure
        assert service.heard == []

    @service_test
    async def test_a_model_must_be_named(self, service: AIDouble) -> None:
        """Where neither the call nor the settings name a model: InvalidRequestError."""
        async with self.made(service, model="") as unnamed:
            await refusal(InvalidRequestError, "complete", unnamed.complete("Hello"))
            assert (await unnamed.complete("Hello", model=service.models[1])).text

    @ai_test
    async def test_a_prompt_over_the_context_is_told(
        self, model: AIModel, service: AIDouble
    ) -> None:
        """A prompt the model cannot take is a ContextTooLongError, no failure of the backend."""
        service.context = 1000
        long = "word " * 1000
        for name, call in both(model, long):
            error = await refusal(ContextTooLongError, name, call)
            assert not error.is_backend_failure
