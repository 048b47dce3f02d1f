"""The one family of errors."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from purveyor.providers import registry as engine
from purveyor.providers.registry import (
    Capability,
    HealthStatus,
    ProviderMetadata,
    RegistryError,
)

ERRORS = [
    one
    for one in vars(engine).values()
    if inspect.isclass(one) and issubclass(one, RegistryError) and one is not RegistryError
]


@pytest.mark.requirement("S4.67")
def test_carries_code_message_provider_and_context() -> None:
    error = RegistryError("ODD", "something odd", "backups", {"count": 2})
    assert type(error).__name__ == "RegistryError"
    assert str(error) == error.message == "something odd"
    assert json.loads(json.dumps(error.to_dict())) == {
        "code": "ODD",
        "message": "something odd",
        "provider_name": "backups",
        "context": {"count": 2},
    }
    assert RegistryError("ODD", "x").to_dict()["context"] == {}


@pytest.mark.requirement("S4.67")
@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_code_of_its_own_and_can_be_sent_elsewhere(
    kind: type[RegistryError],
) -> None:
    error = kind("what happened", "backups", {"count": 2})  # type: ignore[call-arg,arg-type]
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert again.to_dict() == error.to_dict()
        assert str(again) == "what happened"


def test_codes_are_those_that_programs_know() -> None:
    assert {one.default_code for one in ERRORS} == {  # type: ignore[attr-defined]
        "INVALID_NAME", "ALREADY_EXISTS", "NOT_FOUND", "IN_USE", "INVALID_CONFIG",
        "CREATION_FAILED", "REGISTRATION_FAILED", "IMPORT_FAILED", "CONNECTION_FAILED",
        "HOOK_FAILED", "TIMEOUT", "CIRCUIT_OPEN", "PERMISSION_DENIED", "PLUGIN_REJECTED",
        "CREDENTIAL_ERROR", "UNSUPPORTED_CAPABILITY", "SHUTTING_DOWN", "INVALID_STATE",
        "OPERATION_FAILED",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (engine.NotFoundError, LookupError),
        (engine.NotFoundError, ValueError),
        (engine.OperationTimeoutError, TimeoutError),
        (engine.ImportFailedError, ImportError),
        (engine.PermissionDeniedError, PermissionError),
        (engine.InvalidConfigError, ValueError),
        (engine.ConnectionFailedError, ConnectionError),
        (engine.InvalidStateError, RuntimeError),
    ],
)
def test_is_what_a_python_programmer_catches(kind: type, builtin: type) -> None:
    assert issubclass(kind, builtin)


@pytest.mark.requirement("S1.7")
def test_the_capabilities_every_family_shares_are_these_eight() -> None:
    assert {str(one) for one in Capability} == {
        "compression", "encryption", "streaming", "transactions", "remote-storage",
        "local-storage", "search", "replication",
    }  # fmt: skip
    assert json.loads(json.dumps({Capability.SEARCH: Capability.SEARCH})) == {"search": "search"}
    assert Capability("search") is Capability.SEARCH == "search"
    assert hash(Capability.SEARCH) == hash("search")


@pytest.mark.requirement("S1.6")
def test_metadata_can_be_copied_printed_and_read_back() -> None:
    metadata = ProviderMetadata(
        name="backups",
        display_name="Backups",
        version="1.2",
        description="Nightly",
        capabilities=frozenset({"search"}),
        registered_at=datetime(2026, 11, 21, tzinfo=UTC),
        extra=MappingProxyType({"tier": 1}),
    )
    assert ProviderMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert copy.copy(metadata) == metadata
    assert "backups" in repr(metadata)


def test_health_has_four_statuses() -> None:
    assert [one.value for one in HealthStatus] == ["healthy", "degraded", "unhealthy", "unknown"]
