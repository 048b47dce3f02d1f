"""What goes wrong in a storage, the same for every backend."""

from __future__ import annotations

from ..registry.errors import (
    ConnectionFailedError,
    InvalidStateError,
    OperationTimeoutError,
    PermissionDeniedError,
    ProviderError,
)

__all__ = [
    "EncryptionKeyError",
    "ForeignObjectError",
    "InvalidKeyError",
    "InvalidMetadataError",
    "InvalidRangeError",
    "KeyConflictError",
    "ObjectChangedError",
    "ObjectDamagedError",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "StorageConnectionError",
    "StorageError",
    "StorageFullError",
    "StoragePermissionError",
    "StorageRootNotFoundError",
    "StorageTimeoutError",
    "not_connected",
]


class StorageError(ProviderError):
    """Base of what a storage operation raises; raised itself where nothing narrower fits."""

    default_code = "STORAGE_FAILED"


class ObjectNotFoundError(StorageError, LookupError):
    """No object has that key."""

    default_code = "OBJECT_NOT_FOUND"
    is_backend_failure = False


class ObjectExistsError(StorageError):
    """``overwrite=False``, and the key is taken; the object there is untouched."""

    default_code = "OBJECT_EXISTS"
    is_backend_failure = False


class ObjectChangedError(StorageError):
    """Another writer was faster; nothing was kept of this one, and trying again may help."""

    default_code = "OBJECT_CHANGED"
    is_backend_failure = False


class InvalidKeyError(StorageError, ValueError):
    """The key breaks a rule of :func:`~purveyor.providers.storage.keys.check_key`."""

    default_code = "INVALID_KEY"
    is_backend_failure = False


class InvalidMetadataError(StorageError, ValueError):
    """Breaks a rule of :func:`~purveyor.providers.storage.metadata.check_metadata`."""

    default_code = "INVALID_METADATA"
    is_backend_failure = False


class KeyConflictError(StorageError):
    """
    The backend cannot hold this key beside one it already holds: ``a`` and ``a/b`` on a
    file system. Types with the capability ``flat-keys`` never raise it.
    """

    default_code = "KEY_CONFLICT"
    is_backend_failure = False


class InvalidRangeError(StorageError, ValueError):
    """The asked range starts past the object's end, or is not a range."""

    default_code = "INVALID_RANGE"
    is_backend_failure = False


class StoragePermissionError(StorageError, PermissionDeniedError):
    """The backend refuses: wrong credentials, or no right to do this."""

    default_code = "PERMISSION_DENIED"
    is_backend_failure = False


class StorageRootNotFoundError(StorageError):
    """The bucket, container, share or folder the provider is configured for does not exist."""

    default_code = "STORAGE_ROOT_NOT_FOUND"
    is_backend_failure = False


class StorageFullError(StorageError):
    """No space left where the object should go; what was there before is untouched."""

    default_code = "STORAGE_FULL"


class StorageConnectionError(StorageError, ConnectionFailedError):
    """The storage cannot be reached, or the connection broke in the middle."""

    default_code = "CONNECTION_FAILED"


class StorageTimeoutError(StorageError, OperationTimeoutError):
    """The storage did not answer in time."""

    default_code = "TIMEOUT"


class ObjectDamagedError(StorageError):
    """
    What is stored is not what was put: damaged, cut off or tampered with.

    Only providers with layers can tell. Nothing of the damaged part is handed out.
    """

    default_code = "OBJECT_DAMAGED"
    is_backend_failure = False


class ForeignObjectError(StorageError):
    """The provider is encrypted, and this object was not stored through it."""

    default_code = "FOREIGN_OBJECT"
    is_backend_failure = False


class EncryptionKeyError(StorageError, PermissionDeniedError):
    """No key that the provider has can read the object."""

    default_code = "ENCRYPTION_KEY"
    is_backend_failure = False


def not_connected() -> InvalidStateError:
    """Return the error of who uses a storage that is not open."""
    return InvalidStateError(
        "The storage is not connected: it was closed, or never opened. Use it inside "
        "'async with', or take it from a container."
    )
