"""The rules for the whole life: many at once, cancellation, secrets, the end."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, cast

import pytest

from ...providers.registry import InvalidStateError, RegistryError
from ..doubles import AIDouble, Fault, Reply
from .ai_case import AICase, AIModel, ai_test, both, drained, refusal, secrets_in, until

__all__ = ["RobustnessRules"]

AT_ONCE = 24


class RobustnessRules(AICase):
    """What a caller may rely on over the whole life of a model."""

    # -- many at once --------------------------------------------------------------------

    @ai_test
    async def test_many_at_once_are_not_mixed_up(self, model: AIModel, service: AIDouble) -> None:
        """Callers at the same time, the first of all, get each their own answer, whole."""

        async def ask(number: int) -> None:
            prompt = f"number {number} " * (number + 1)
            if number % 4 == 0:
                assert (await model.complete(prompt)).text == f"You said: {prompt}"
            else:
                assert (await drained(model.stream(prompt)))[0] == f"You said: {prompt}"

        await asyncio.gather(*map(ask, range(AT_ONCE)))
        assert len(service.heard) == AT_ONCE

    @ai_test
    async def test_who_is_cancelled_harms_no_other(self, model: AIModel, service: AIDouble) -> None:
        """One stream that is cancelled ends; those beside it come whole."""
        prompts = [f"number {number} " * 5 for number in range(4)]
        service.fail(*[Fault(hold_after=4)] * 4)
        tasks = [asyncio.create_task(drained(model.stream(prompt))) for prompt in prompts]
        await until(lambda: service.open_streams == 4, "four streams are open")
        tasks[1].cancel()
        await until(lambda: service.open_streams == 3, "the connection is closed")
        service.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(1), asyncio.CancelledError)
        texts = [cast("tuple[str, Any]", result)[0] for result in results]
        assert texts == [f"You said: {prompts[number]}" for number in (0, 2, 3)]

    # -- cancellation --------------------------------------------------------------------

    @ai_test
    async def test_cancelling_closes_the_connection(
        self, model: AIModel, service: AIDouble
    ) -> None:
        """The service learns at once that nobody listens to a stream any more."""
        service.reply(Reply("x" * 100, pieces=100))
        service.fail(Fault(stall_after=10))
        task = asyncio.create_task(drained(model.stream("Tell")))
        await until(lambda: service.open_streams == 1, "the stream is open")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: service.broken_streams == 1, "the connection is closed")

    @ai_test
    async def test_a_stream_may_be_left(self, model: AIModel, service: AIDouble) -> None:
        """Leaving a stream closes its connection; the model goes on."""
        service.reply(Reply("x" * 100, pieces=100))
        service.fail(Fault(stall_after=10))
        async with aclosing(cast("Any", model.stream("Tell"))) as chunks:
            await anext(chunks)
        await until(lambda: service.broken_streams == 1, "the connection is closed")
        assert (await model.complete("Hello")).text == "You said: Hello"

    @ai_test
    async def test_cancelled_calls_leave_the_model_usable(
        self, model: AIModel, service: AIDouble
    ) -> None:
        """Callers that are cancelled at any moment take nothing with them."""
        await model.initialize()
        for turn in range(12):
            tasks = [asyncio.ensure_future(call) for _, call in both(model, "Hello")]
            for _ in range(turn * 3):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (await model.complete("Hello")).text == "You said: Hello"
        assert (await drained(model.stream("Hello")))[0] == "You said: Hello"

    # -- life ----------------------------------------------------------------------------

    @ai_test
    async def test_a_disposed_model_refuses_work(self, model: AIModel, service: AIDouble) -> None:
        """Dispose may be called twice; every operation afterwards is an InvalidStateError."""
        await model.complete("Hello")
        await model.dispose()
        await model.dispose()
        asked = len(service.requests)
        for name, call in both(model, "Hello"):
            await refusal(InvalidStateError, name, call)
        await refusal(InvalidStateError, "models", model.models())
        assert len(service.requests) == asked

    @ai_test
    async def test_an_unused_model_can_be_disposed(self, model: AIModel, service: AIDouble) -> None:
        """Dispose is fine without an operation before, and when connected only."""
        await model.dispose()
        connected = self.make(service)
        await connected.initialize()
        await connected.dispose()
        assert service.heard == []

    # -- secrets -------------------------------------------------------------------------

    @ai_test
    async def test_secrets_are_shown_nowhere(
        self, model: AIModel, service: AIDouble, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No secret of the settings stands in a repr, log, error, traceback or pickle."""
        caplog.set_level(logging.DEBUG)
        config = model.config
        secrets = set(secrets_in(config))
        if not secrets:
            pytest.skip("the settings hold no secret")
        plain = self.provider_class(config)
        shown = {
            "repr of the settings": repr(config) + str(config),
            "JSON of the settings": config.model_dump_json() + str(config.model_dump()),
            "repr of the model": repr(plain) + repr(model) + str(plain) + str(model),
        }
        quoted = " ".join(secrets)
        echo: Callable[[int], Fault] = lambda status: Fault(  # noqa: E731
            status, {}, {"error": {"message": f"Not with {quoted}!", "type": quoted}}
        )
        faults = [*map(echo, (400, 401, 403, 404, 429, 500)), Fault(200, {}, quoted.encode())]
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "complete": lambda: model.complete("Hello"),
            "stream": lambda: drained(model.stream("Hello")),
            "models": model.models,
            "check_health": model.check_health,
        }
        for name, call in calls.items():
            shown[f"the answer of {name}"] = repr(await call())
            for fault in faults:
                service.fail(fault)
                try:
                    await call()
                except Exception as error:  # whichever it is
                    where = f"the error of {name} on {fault.status}"
                    shown[where] = str(error) + repr(error)
                    shown[f"the traceback of {where}"] = "".join(traceback.format_exception(error))
                    shown[f"the pickle of {where}"] = pickle.dumps(error).decode("latin-1")
                    if isinstance(error, RegistryError):
                        shown[f"the JSON of {where}"] = json.dumps(error.to_dict())
        with suppress(TypeError):  # better still
            shown["the pickled model"] = pickle.dumps(model).decode("latin-1")
        shown["the log"] = caplog.text
        leaks = [where for where, text in shown.items() if any(one in text for one in secrets)]
        assert leaks == [], "a secret is shown by: " + ", ".join(leaks)
