"""Is a provider well? One cheap question to its backend, answered in bounded time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import perf_counter

from .errors import RegistryError
from .guard import Guard
from .metadata import HealthResult, HealthStatus

__all__ = ["check"]


async def check(name: str, guard: Guard | None, timeout: float) -> HealthResult:
    """Check one provider, connecting it if need be; never raises for what the check finds."""
    checked_at, started = datetime.now(UTC), perf_counter()
    status, message, code = HealthStatus.HEALTHY, "", None
    if guard is None:
        status, message = HealthStatus.UNKNOWN, "a registered object without a health check"
    else:
        try:
            async with asyncio.timeout(timeout):
                await guard.check_health()
        except TimeoutError as error:
            status, message, code = HealthStatus.UNHEALTHY, str(error), "TIMEOUT"
            message = message or f"no answer within {timeout:g} s"
        except RegistryError as error:
            status, message, code = HealthStatus.UNHEALTHY, error.message, error.code
        except Exception as error:  # a provider's own defect is a finding, not ours to raise
            status, message = HealthStatus.UNHEALTHY, f"{type(error).__name__}: {error}"
    return HealthResult(name, status, perf_counter() - started, checked_at, message, code)
