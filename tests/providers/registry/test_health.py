"""Is a provider well? One cheap question to its backend, answered in bounded time."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC
from typing import Any

import pytest

from purveyor.providers.registry import HealthStatus, NotFoundError, ProviderRegistry
from tests.providers.registry.samples import Backend, BackendError, Gate, SampleConfig, raising

Registry = ProviderRegistry[Any]


@pytest.fixture
def sample(registry: Registry, backend: Backend) -> Any:
    return registry.register_nowait("sample", SampleConfig(backend=backend))


@pytest.mark.requirement("S4.10")
@pytest.mark.usefixtures("sample")
async def test_a_well_one_is_healthy_and_was_connected(
    registry: Registry, backend: Backend
) -> None:
    result = await registry.get_provider_health("sample")
    assert (result.name, result.status, result.code) == ("sample", HealthStatus.HEALTHY, None)
    assert result.latency >= 0
    assert result.checked_at.tzinfo is UTC
    assert backend.connects == 1
    assert json.loads(json.dumps(result.to_dict()))["status"] == "healthy"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BackendError("lost"), "CONNECTION_FAILED", "check_health: lost"),
        (TimeoutError("too long"), "TIMEOUT", "too long"),
        (ZeroDivisionError("defect"), None, "ZeroDivisionError: defect"),
    ],
)
@pytest.mark.usefixtures("sample")
async def test_an_ill_one_is_told_and_never_raised(
    registry: Registry, backend: Backend, error: Exception, code: str | None, message: str
) -> None:
    backend.health = raising(error)
    result = await registry.get_provider_health("sample")
    assert (result.status, result.code) == (HealthStatus.UNHEALTHY, code)
    assert result.message == message


@pytest.mark.usefixtures("sample")
async def test_one_that_cannot_be_reached_is_unhealthy(
    registry: Registry, backend: Backend
) -> None:
    backend.connect = raising(BackendError("refused"))
    result = await registry.get_provider_health("sample")
    assert (result.status, result.message) == (HealthStatus.UNHEALTHY, "connect: refused")


@pytest.mark.usefixtures("sample")
async def test_one_that_does_not_answer_is_unhealthy_in_time(
    registry: Registry, backend: Backend
) -> None:
    backend.health = Gate()
    result = await registry.get_provider_health("sample", timeout=0.02)
    assert (result.code, result.message) == ("TIMEOUT", "no answer within 0.02 s")


@pytest.mark.usefixtures("sample")
async def test_a_cancelled_check_is_cancelled(registry: Registry, backend: Backend) -> None:
    backend.health = gate = Gate()
    check = asyncio.create_task(registry.get_provider_health("sample"))
    await gate.reached.wait()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check


async def test_the_providers_own_call_raises_what_went_wrong(sample: Any, backend: Backend) -> None:
    await sample.check_health()
    backend.health = raising(BackendError("lost"))
    with pytest.raises(Exception, match="check_health: lost"):
        await sample.check_health()


async def test_of_a_plain_object_nothing_is_known(registry: Registry) -> None:
    await registry.register_instance("thing", object())
    assert (await registry.get_provider_health("thing")).status is HealthStatus.UNKNOWN
    with pytest.raises(NotFoundError):
        await registry.get_provider_health("nobody")
