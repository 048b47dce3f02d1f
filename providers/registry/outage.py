"""One error for the failures of several providers, none of which could answer a call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import inf

from .errors import (
    CircuitOpenError,
    ConnectionFailedError,
    CreationFailedError,
    ImportFailedError,
    InvalidConfigError,
    InvalidStateError,
    NotFoundError,
    OperationTimeoutError,
    ProviderError,
    RegistryError,
    UnsupportedCapabilityError,
    is_backend_failure,
)

__all__ = ["outage", "reason_of"]

_NOT_THERE = (
    CreationFailedError,
    ImportFailedError,
    InvalidConfigError,
    InvalidStateError,
    NotFoundError,
)


def outage(operation: str, provider: str, errors: Mapping[str, Exception]) -> RegistryError:
    """
    Return the error for a call that no member could answer; its message names each, and why.

    It is of the kind that tells most: of a backend's failure (the last one), else of what else a
    backend answered (too many requests, say), else of a breaker's refusal (the shortest wait),
    else of a capability they lack, else of members that are not there. ``context["members"]`` has
    code and message of each.

    Args:
        operation: What was called.
        provider: The name of the provider they are members of.
        errors: What each member raised, in the order of the members.
    """
    cause = max(list(errors.values())[::-1], key=_weight)
    error = _of_the_kind_of(cause)
    message = f"{operation} of provider {provider!r} failed: no member could answer."
    members: dict[str, object] = {}
    for name, one in errors.items():
        reason = reason_of(one)
        message += f"\n  {name}: " + reason.replace("\n", "\n  ")
        code = one.code if isinstance(one, RegistryError) else type(one).__name__
        members[name] = {"code": code, "message": reason}
    RegistryError.__init__(
        error, error.code, message, provider, {**error.context, "members": members}
    )
    error.__cause__ = cause
    return error


def reason_of(error: Exception) -> str:
    """Return what an error says, with its type where that is not one of ours."""
    return error.message if isinstance(error, RegistryError) else f"{type(error).__name__}: {error}"


def _weight(error: Exception) -> tuple[int, float]:
    if isinstance(error, CircuitOpenError):
        return 2, -inf if error.retry_after is None else -error.retry_after
    if isinstance(error, UnsupportedCapabilityError):
        return 1, 0.0
    if isinstance(error, _NOT_THERE):
        return 0, 0.0
    return (4 if is_backend_failure(error) else 3), 0.0


def _of_the_kind_of(error: Exception) -> RegistryError:
    if isinstance(error, NotFoundError | InvalidConfigError):
        return CreationFailedError("")  # for nobody to take it for an object that is not there
    if isinstance(error, RegistryError):
        return copy.copy(error)  # others may have been given the very same one
    if isinstance(error, TimeoutError):
        return OperationTimeoutError("")
    return ConnectionFailedError("") if isinstance(error, ConnectionError) else ProviderError("")
