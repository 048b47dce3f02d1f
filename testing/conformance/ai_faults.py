"""The rules of what goes wrong: every fault has its error, and none passes for an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ...providers.ai.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadResponseError,
    ContentRefusedError,
    ContextTooLongError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    QuotaExhaustedError,
    RateLimitedError,
    ServiceConnectionError,
    ServiceError,
    ServiceTimeoutError,
    StreamInterruptedError,
)
from ..doubles import AIDouble, Fault, Reply
from ..doubles.ai import ErrorKind
from .ai_case import (
    PROVIDER_NAME,
    AICase,
    AIModel,
    ai_test,
    both,
    drained,
    refusal,
    service_test,
    until,
)

__all__ = ["FaultRules"]

ERRORS: dict[ErrorKind, tuple[type[ServiceError], bool]] = {
    "authentication": (AuthenticationError, False),
    "permission": (AccessDeniedError, False),
    "model_not_found": (ModelNotFoundError, False),
    "invalid": (InvalidRequestError, False),
    "too_long": (ContextTooLongError, False),
    "refused": (ContentRefusedError, False),
    "rate_limit": (RateLimitedError, False),
    "quota": (QuotaExhaustedError, False),
    "server": (OverloadedError, True),
    "overloaded": (OverloadedError, True),
}
"""What each fault is, and whether it counts against the backend."""

HTML = {"Content-Type": "text/html"}
PAGE = b"<html><head><title>Sign in</title></head><body>Who are you?</body></html>"
NONSENSE: dict[str, Fault] = {
    "HTML": Fault(200, HTML, PAGE),
    "an empty body": Fault(200),
    "no JSON": Fault(200, {}, b'{"id": "1", '),
    "a list": Fault(200, {}, []),
    "an empty object": Fault(200, {}, {}),
    "another object": Fault(200, {}, {"status": "ok", "choices": None, "content": None}),
}
STORY = "Once upon a time"


class FaultRules(AICase):
    """What a caller may rely on when something goes wrong."""

    # -- errors of the service -----------------------------------------------------------

    @pytest.mark.parametrize("kind", ERRORS)
    @ai_test
    async def test_errors_have_their_class(
        self, model: AIModel, service: AIDouble, kind: ErrorKind
    ) -> None:
        """What the service says is wrong is the error for that, whole or streamed."""
        expected, counts = ERRORS[kind]
        for name, call in both(model, "Hello"):
            service.fail(service.fault(kind))
            error = await refusal(expected, f"{name} on {kind}", call)
            assert error.is_backend_failure is counts
            assert error.provider_name == PROVIDER_NAME
            told = json.loads(json.dumps(error.to_dict()))
            assert told["code"] == expected.default_code
        assert len(service.requests) == 2

    @service_test
    async def test_a_wrong_key_is_told(self, service: AIDouble) -> None:
        """A key the service does not accept is an AuthenticationError; nobody is shown it."""
        key, service.key = service.key, "another-key-than-the-one-of-the-settings"
        async with self.made(service) as stranger:
            service.key = key
            for name, call in both(stranger, "Hello"):
                error = await refusal(AuthenticationError, name, call)
                assert isinstance(error, PermissionError)
                assert "another-key" not in f"{error}{error.context}"
            await refusal(AuthenticationError, "check_health", stranger.check_health())

    @ai_test
    async def test_how_long_to_wait_is_told(self, model: AIModel, service: AIDouble) -> None:
        """``retry_after`` has the seconds of `Retry-After`, and is None without one."""
        service.fail(service.fault("rate_limit", headers={"Retry-After": "7"}))
        error = await refusal(RateLimitedError, "complete", model.complete("Hello"))
        assert error.retry_after == 7.0
        service.fail(service.fault("rate_limit"))
        error = await refusal(RateLimitedError, "complete", model.complete("Hello"))
        assert error.retry_after is None

    @service_test
    async def test_what_was_not_taken_is_asked_again(self, service: AIDouble) -> None:
        """Too many requests and overload are tried again, as often as the settings say."""
        again = {"Retry-After": "0"}
        async with self.made(service, retries=2) as patient:
            for name, call in both(patient, "Hello"):
                service.requests.clear()
                service.fail(
                    service.fault("rate_limit", headers=again),
                    service.fault("overloaded", headers=again),
                )
                assert await call, name
                assert len(service.requests) == 3
            service.requests.clear()
            service.fail(*[service.fault("rate_limit", headers=again)] * 3)
            await refusal(RateLimitedError, "complete", patient.complete("Hello"))
            assert len(service.requests) == 3

    @pytest.mark.parametrize("kind", ["quota", "authentication", "invalid", "server"])
    @service_test
    async def test_what_asking_again_cures_not_is_asked_once(
        self, service: AIDouble, kind: ErrorKind
    ) -> None:
        """A spent quota, a wrong key, a mistake, and what may have been done: one request."""
        again = {"Retry-After": "0"}
        async with self.made(service, retries=3) as patient:
            for name, call in both(patient, "Hello"):
                service.requests.clear()
                service.fail(service.fault(kind, headers=again))
                await refusal(ERRORS[kind][0], name, call)
                assert len(service.requests) == 1

    # -- errors of the way ---------------------------------------------------------------

    @pytest.mark.parametrize("fault", NONSENSE.values(), ids=NONSENSE)
    @ai_test
    async def test_nonsense_is_no_answer(
        self, model: AIModel, service: AIDouble, fault: Fault
    ) -> None:
        """A good status with anything but an answer is a BadResponseError, which counts."""
        for name, call in both(model, "Hello"):
            service.fail(fault)
            error = await refusal(BadResponseError, name, call)
            assert error.is_backend_failure
        service.fail(fault)
        await refusal(BadResponseError, "models", model.models())

    @ai_test
    async def test_a_page_of_a_proxy_is_an_outage(self, model: AIModel, service: AIDouble) -> None:
        """A 502 with HTML is an OverloadedError all the same."""
        for name, call in both(model, "Hello"):
            service.fail(Fault(502, HTML, PAGE))
            await refusal(OverloadedError, name, call)

    @pytest.mark.parametrize("fault", [Fault(hang_up=True), Fault(cut_after=5)], ids=["no", "half"])
    @ai_test
    async def test_a_lost_connection_is_told(
        self, model: AIModel, service: AIDouble, fault: Fault
    ) -> None:
        """A connection that breaks before the answer is whole: ServiceConnectionError."""
        service.fail(fault)
        error = await refusal(ServiceConnectionError, "complete", model.complete("Hello"))
        assert isinstance(error, ConnectionError)
        assert error.is_backend_failure

    @service_test
    async def test_a_late_answer_is_told(self, service: AIDouble) -> None:
        """An answer that does not come in time: ServiceTimeoutError."""
        async with self.made(service, request_timeout=0.2, first_byte_timeout=0.2) as hasty:
            for name, call in both(hasty, "Hello"):
                service.fail(Fault(delay=5))
                error = await refusal(ServiceTimeoutError, name, call)
                assert isinstance(error, TimeoutError)
                assert error.is_backend_failure

    @service_test
    async def test_nobody_there_is_told(self, service: AIDouble) -> None:
        """Where nothing listens: ServiceConnectionError, for every operation."""
        with self.make_service() as gone:
            pass
        async with self.made(gone) as lonely:
            for name, call in both(lonely, "Hello"):
                await refusal(ServiceConnectionError, name, call)
            await refusal(ServiceConnectionError, "models", lonely.models())
            await refusal(ServiceConnectionError, "check_health", lonely.check_health())

    # -- errors of streams ---------------------------------------------------------------

    @ai_test
    async def test_a_truncated_stream_is_no_answer(self, model: AIModel, service: AIDouble) -> None:
        """A stream that ends before its end: StreamInterruptedError with what had come."""
        for pieces in (0, 2, 3):
            service.reply(Reply(STORY, pieces=4, ends_after=pieces))
            told, error = await self._interrupted(model)
            assert error.partial == told == STORY[: 4 * pieces]

    @ai_test
    async def test_a_broken_stream_is_told(self, model: AIModel, service: AIDouble) -> None:
        """A connection lost in mid-stream: StreamInterruptedError with what had come."""
        service.reply(Reply("x" * 100, pieces=100))
        service.fail(Fault(cut_after=50))
        told, error = await self._interrupted(model)
        assert error.partial == told
        assert 30 < len(told) <= 50
        assert isinstance(error.__cause__, ServiceConnectionError)

    @service_test
    async def test_a_silent_stream_is_told(self, service: AIDouble) -> None:
        """A stream that falls silent: StreamInterruptedError with what had come."""
        async with self.made(service, first_byte_timeout=0.5) as hasty:
            service.reply(Reply("x" * 100, pieces=100))
            service.fail(Fault(stall_after=50))
            told, error = await self._interrupted(hasty)
            assert error.partial == told
            assert 0 < len(told) <= 50
            assert isinstance(error.__cause__, ServiceTimeoutError)

    @pytest.mark.parametrize("kind", ["overloaded", "rate_limit", "authentication"])
    @ai_test
    async def test_an_error_in_mid_stream_is_told(
        self, model: AIModel, service: AIDouble, kind: ErrorKind
    ) -> None:
        """An error the stream itself brings is that error; ``context`` has what had come."""
        service.reply(Reply(STORY, pieces=4, fails_after=2, fails_with=kind))
        error = await refusal(ERRORS[kind][0], "stream", drained(model.stream("Tell")))
        assert error.context["partial"] == "Once upo"
        assert len(service.requests) == 1

    @ai_test
    async def test_a_model_goes_on_after_faults(self, model: AIModel, service: AIDouble) -> None:
        """Whatever went wrong, the next call is served."""
        faults: list[Any] = [Fault(500), Fault(hang_up=True), Fault(cut_after=3), Fault(200)]
        for fault in faults:
            service.fail(fault)
            await refusal(ServiceError, "complete", model.complete("Hello"))
            assert (await model.complete("Hello")).text == "You said: Hello"
            assert (await drained(model.stream("Hello")))[0] == "You said: Hello"
        await until(lambda: service.open_streams == 0, "the service has closed its streams")

    async def _interrupted(self, model: AIModel) -> tuple[str, StreamInterruptedError]:
        """Return the text of the chunks that came, and the error after them."""
        told: list[str] = []

        async def listen() -> None:
            async for chunk in model.stream("Tell"):
                assert chunk.completion is None, "half an answer was given as a whole one"
                told.append(chunk.text)

        error = await refusal(StreamInterruptedError, "stream", listen())
        assert error.is_backend_failure
        return "".join(told), error
