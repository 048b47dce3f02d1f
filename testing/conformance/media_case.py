"""What the tests of the audio and flashcard kits share: how one runs, and what is looked for."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, SecretStr

from ...providers.registry import InvalidStateError
from ...providers.registry.provider import Provider
from ...providers.web.errors import (
    AuthenticationError,
    ServiceConnectionError,
    ServiceError,
)
from .case import PROVIDER_NAME, Case, provider_test, refusal, secrets_in

__all__ = ["MediaCase", "expect_told", "media_test", "nobody_at_home"]

CANARY = "canary-3f9c1b72e5"


class MediaCase(Case):
    """What an author tells of the type under test."""

    provider_class: ClassVar[type[Provider[Any]]]
    """The class under test."""

    @pytest.fixture
    def provider_config(self) -> BaseModel:
        """Return the settings of a provider that works."""
        raise NotImplementedError(
            f"{type(self).__name__} must define a fixture provider_config that returns the "
            f"settings of a {self.provider_class.__name__} that works."
        )

    def make_provider(self, config: Any) -> Any:
        """Return a guarded instance, as a registry would give it, named ``conformance``."""
        return self.guarded(config)

    def calls_on(self, provider: Any) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return every operation, as calls that are right."""
        raise NotImplementedError

    # -- what is true of every family ----------------------------------------------------

    def test_capabilities_are_declared(self) -> None:
        """Capabilities are lower-case names."""
        assert all(name and name == name.lower() for name in self.capabilities)

    def test_a_service_that_is_not_there_is_told(
        self, provider_config: BaseModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody at the address: a ServiceConnectionError for every call, without a secret."""
        caplog.set_level(logging.DEBUG)
        with nobody_at_home(provider_config) as config:
            self._expect_everywhere(config, ServiceConnectionError, caplog, is_failure=True)

    def test_a_wrong_key_is_told(
        self, provider_config: BaseModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A key that is not accepted: an AuthenticationError for every call, and never shown."""
        caplog.set_level(logging.DEBUG)
        if getattr(provider_config, "api_key", None) is None:
            pytest.skip(f"{self.provider_class.__name__} is used without a key here")
        config = provider_config.model_copy(update={"api_key": SecretStr(CANARY)})
        self._expect_everywhere(config, AuthenticationError, caplog, is_failure=False)

    def test_a_disposed_provider_refuses(self, provider_config: BaseModel) -> None:
        """After dispose every call is refused, and disposing again is no error."""

        async def use(provider: Any) -> None:
            await provider.initialize()
            await provider.dispose()
            await provider.dispose()
            for name, call in self.calls_on(provider).items():
                await refusal(InvalidStateError, name, call())

        self.run_with(lambda: self.make_provider(provider_config), use)

    def test_cancelling_is_not_swallowed(self, provider_config: BaseModel) -> None:
        """A cancelled call ends as cancelled, and the provider goes on."""

        async def use(provider: Any) -> None:
            for name, call in self.calls_on(provider).items():
                await provider.initialize()
                task = asyncio.ensure_future(call())
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled(), f"{name} went on when it was cancelled"
            first = next(iter(self.calls_on(provider).values()))
            await first()

        self.run_with(lambda: self.make_provider(provider_config), use)

    # -- running -------------------------------------------------------------------------

    def _expect_everywhere(
        self,
        config: BaseModel,
        kind: type[ServiceError],
        caplog: pytest.LogCaptureFixture,
        *,
        is_failure: bool,
    ) -> None:
        async def use(provider: Any) -> None:
            for name, call in self.calls_on(provider).items():
                error = await refusal(kind, name, call())
                expect_told(error)
                assert error.is_backend_failure is is_failure
                shown = "".join(traceback.format_exception(error)) + repr(error.to_dict())
                for secret in secrets_in(config):
                    assert secret not in shown + caplog.text, f"{name} shows a secret"

        self.run_with(lambda: self.make_provider(config), use)


def expect_told(error: ServiceError) -> None:
    """See that an error names the provider and can be told to anybody as JSON."""
    assert error.provider_name == PROVIDER_NAME
    told = json.loads(json.dumps(error.to_dict()))
    assert told["code"] == error.code
    assert told["message"]


@contextmanager
def nobody_at_home(config: BaseModel) -> Generator[BaseModel]:
    """Yield the settings with an address of this machine at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and so nobody else's; nobody listens
        port = taken.getsockname()[1]
        yield config.model_copy(update={"base_url": f"http://127.0.0.1:{port}", "retries": 0})


media_test = provider_test("provider_config", "make_provider")
"""Make a coroutine method that takes a provider into a plain test that takes its settings."""
