"""The one family of errors: what happened, to which provider, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar

from .redaction import mask, mask_within

__all__ = [
    "AlreadyExistsError",
    "CircuitOpenError",
    "ConnectionFailedError",
    "CreationFailedError",
    "CredentialError",
    "HookFailedError",
    "ImportFailedError",
    "InUseError",
    "InvalidConfigError",
    "InvalidNameError",
    "InvalidStateError",
    "NotFoundError",
    "OperationTimeoutError",
    "PermissionDeniedError",
    "PluginRejectedError",
    "ProviderError",
    "RegistrationFailedError",
    "RegistryError",
    "ShuttingDownError",
    "UnsupportedCapabilityError",
    "is_backend_failure",
    "nearest_first",
]


class RegistryError(Exception):
    """
    Anything that goes wrong in a registry or in a provider it guards.

    Args:
        code: Stable, upper-case reason, for programs (``NOT_FOUND``).
        message: For people: what happened, why, and what to do. Known secrets are masked.
        provider_name: The provider it happened to, if there is one.
        context: JSON-safe details. Known secrets are masked.

    ``is_backend_failure`` says whose fault it was: True counts against the backend
    (timeout, lost connection, server error), False is the caller's affair (not found,
    invalid argument, refused credentials) or the registry's own refusal.
    """

    is_backend_failure: ClassVar[bool] = False

    def __init__(
        self,
        code: str,
        message: str,
        provider_name: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        self.message = mask(message)
        super().__init__(self.message)
        self.code = code
        self.provider_name = provider_name
        self.context: dict[str, object] = mask_within(dict(context or {}))

    @property
    def hold(self) -> float | None:
        """
        Seconds for which the backend takes no calls, if the error says so.

        No call is made for so long, though that is no failure; where it counts as one
        (``is_backend_failure``), it is that alone.
        """
        return None

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.provider_name, self.context))

    def to_dict(self) -> dict[str, object]:
        """Return the error as JSON-safe data: code, message, provider name and context."""
        return {
            "code": self.code,
            "message": self.message,
            "provider_name": self.provider_name,
            "context": self.context,
        }


def _rebuild(
    cls: type[RegistryError],
    code: str,
    message: str,
    provider_name: str | None,
    context: dict[str, object],
) -> RegistryError:
    error = cls.__new__(cls, message)
    RegistryError.__init__(error, code, message, provider_name, context)
    return error


class _CodedError(RegistryError):
    """A subclass with a code of its own, so that raising it needs only the message."""

    default_code: ClassVar[str]

    def __init__(
        self,
        message: str,
        provider_name: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(self.default_code, message, provider_name, context)


class InvalidNameError(_CodedError, ValueError):
    """A provider name that is empty, not a string, or not usable as a name."""

    default_code = "INVALID_NAME"


class AlreadyExistsError(_CodedError):
    """The name or type is taken; the message names both origins."""

    default_code = "ALREADY_EXISTS"


class NotFoundError(_CodedError, LookupError, ValueError):
    """No provider, provider type or family of that name; the message lists those there are."""

    default_code = "NOT_FOUND"


class InUseError(_CodedError):
    """The provider is leased or has live instances; the message counts and names the holders."""

    default_code = "IN_USE"


class InvalidConfigError(_CodedError, ValueError):
    """Settings a provider type refuses; ``context["problems"]`` lists every fault."""

    default_code = "INVALID_CONFIG"


class CreationFailedError(_CodedError):
    """The provider type could not build an instance."""

    default_code = "CREATION_FAILED"


class RegistrationFailedError(_CodedError):
    """A registration that was rolled back."""

    default_code = "REGISTRATION_FAILED"


class ImportFailedError(_CodedError, ImportError):
    """The module of a provider type, or an extra it needs, cannot be imported."""

    default_code = "IMPORT_FAILED"


class HookFailedError(_CodedError):
    """An initialisation hook raised; the registration was rolled back."""

    default_code = "HOOK_FAILED"


class PermissionDeniedError(_CodedError, PermissionError):
    """The caller, or the credentials in use, may not do this."""

    default_code = "PERMISSION_DENIED"


class PluginRejectedError(_CodedError):
    """A plugin that failed verification; none of its code ran."""

    default_code = "PLUGIN_REJECTED"


class CredentialError(_CodedError):
    """A credential that cannot be decrypted or used."""

    default_code = "CREDENTIAL_ERROR"


class UnsupportedCapabilityError(_CodedError):
    """The provider type does not have the capability the call needs."""

    default_code = "UNSUPPORTED_CAPABILITY"


class InvalidStateError(_CodedError, RuntimeError):
    """The instance is disposed, or belongs to another event loop."""

    default_code = "INVALID_STATE"


class ShuttingDownError(_CodedError, RuntimeError):
    """The registry takes no new work: it is shutting down."""

    default_code = "SHUTTING_DOWN"


class ProviderError(_CodedError):
    """What an operation of a provider raises; each family derives its own set."""

    default_code = "OPERATION_FAILED"
    is_backend_failure = True


class ConnectionFailedError(ProviderError, ConnectionError):
    """The backend cannot be reached, or the connection to it was lost."""

    default_code = "CONNECTION_FAILED"


class OperationTimeoutError(ProviderError, TimeoutError):
    """The backend did not answer in time."""

    default_code = "TIMEOUT"


class CircuitOpenError(_CodedError):
    """
    Refused without asking the backend: it failed too often of late, or asked to be left alone.

    ``context`` has the breaker's ``state``, ``retry_after`` (seconds to wait; None: until
    somebody resets it) and ``last_error`` (the type of the last error that counted).
    """

    default_code = "CIRCUIT_OPEN"

    @property
    def retry_after(self) -> float | None:
        """Seconds until the backend will be asked again; None: until somebody resets it."""
        wait = self.context.get("retry_after")
        return wait if isinstance(wait, float) else None


def is_backend_failure(error: BaseException) -> bool:
    """
    Tell whether an error counts against the backend.

    Errors of a registry or family say so themselves; of others a lost connection and a timeout
    count.
    """
    if isinstance(error, RegistryError):
        return error.is_backend_failure
    return isinstance(error, (ConnectionError, TimeoutError))


def nearest_first(wanted: str, names: Iterable[str]) -> list[str]:
    """Return ``names`` for an error message: those that resemble ``wanted`` first, then A to Z."""
    ordered = sorted(names)
    near = difflib.get_close_matches(wanted, ordered, n=3, cutoff=0.6)
    return [*near, *(name for name in ordered if name not in near)]
