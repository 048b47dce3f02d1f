"""What Azure's answers mean, also those that no server for tests gives."""

from __future__ import annotations

import re
import traceback
from typing import Any

import pytest

from purveyor.providers.azure.config import AzureBlobConfig
from purveyor.providers.azure.faults import Fault, ServiceError, fault_of

KEY = "c2VjcmV0LWNhbmFyeS1rZXk="
URL = "https://nightly.blob.core.windows.net"
SIGNATURE = "canary%2Bsignature"


def fault(error: Exception, **credentials: Any) -> Fault:
    values = {"container": "reports", "account_url": URL, **(credentials or {"account_key": KEY})}
    return fault_of(error, AzureBlobConfig.model_validate(values))


@pytest.mark.parametrize(
    ("status", "code", "kind", "remedy"),
    [
        (404, "ContainerNotFound", "no-container", "correct the setting container"),
        (409, "ContainerBeingDeleted", "no-container", "correct the setting container"),
        (404, "ResourceNotFound", "no-container", "Correct the setting container"),
        (404, "BlobNotFound", "no-blob", ""),
        (409, "BlobAlreadyExists", "exists", ""),
        (412, "ConditionNotMet", "changed", "Try again"),
        (400, "InvalidBlockList", "changed", "Try again"),
        (412, "LeaseIdMissing", "refused", "a lease"),
        (409, "BlobImmutableDueToPolicy", "refused", "A policy"),
        (416, "InvalidRange", "past-end", ""),
        (400, "OutOfRangeInput", "invalid-name", ""),
        (403, "AuthenticationFailed", "refused", "The key is not the account's"),
        (403, "AuthorizationPermissionMismatch", "refused", "to read and to list"),
        (403, "AuthorizationSourceIPMismatch", "refused", "this machine's address"),
        (403, "AccountIsDisabled", "refused", "Enable the account"),
        (403, "SomethingNew", "refused", "Give them to the credentials"),
        (409, "BlobArchived", "service", "rehydrated"),
        (503, "ServerBusy", "service", "try again later"),
        (500, "OperationTimedOut", "timeout", "raise connect_timeout or timeout"),
        (504, None, "timeout", "raise connect_timeout or timeout"),
        (500, None, "service", ""),
        (None, None, "unreachable", "Check that it is reachable"),
    ],
)
def test_an_answer_has_a_meaning_and_a_remedy(
    status: int | None, code: str | None, kind: str, remedy: str
):
    found = fault(ServiceError(status, code))
    assert found.kind == kind
    assert remedy in found.remedy
    assert found.context == {
        "container": "reports",
        **({"azure_code": code} if code else {}),
        **({"http_status": status} if status else {}),
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "ResourceNotFound"),
        (409, "PublicAccessNotPermitted"),
        (401, "NoAuthenticationInformation"),
        (403, "AuthorizationFailure"),
    ],
)
def test_who_asks_without_credentials_is_told_to_set_some(status: int, code: str):
    found = fault(ServiceError(status, code), account_key=None)
    assert found.kind == "refused"
    assert "account_key or sas_token" in found.remedy


def test_a_key_in_a_connection_string_is_told_to_be_there():
    text = f"AccountName=nightly;AccountKey={KEY}"
    refused = ServiceError(403, "AuthenticationFailed")
    found = fault(refused, account_url=None, connection_string=text)
    assert found.remedy.endswith("correct it in connection_string.")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('HTTP error: error sending request\n"dns error"', "the host of .* is not known"),
        ("HTTP error: error sending request\ninvalid peer certificate", "is not trusted"),
        ("HTTP error: request or response body error", "no connection"),
    ],
)
def test_why_there_is_no_answer_is_told(text: str, why: str):
    found = fault(RuntimeError(text))
    assert found.kind == "unreachable"
    assert re.search(why, found.why)


def test_of_an_answer_nothing_is_kept_that_repeats_a_signature():
    error = RuntimeError(
        f"Generic error: performing GET {URL}/reports?sv=1&sig={SIGNATURE} in 1ms - Server "
        "returned non-2xx status code: 403 Forbidden: <Error><Code>AuthenticationFailed</Code>"
        f"<AuthenticationErrorDetail>not {SIGNATURE}</AuthenticationErrorDetail></Error>"
    )
    found = fault(error)
    assert (found.kind, found.context["http_status"]) == ("refused", 403)
    assert SIGNATURE not in f"{found} {error} {error.args}"


def test_of_what_an_error_came_of_nothing_is_kept_either():
    first = PermissionError(f"refused at {URL}/reports?sig={SIGNATURE} <Error>{SIGNATURE}</Error>")
    second = ValueError(f"refused again at {URL}/reports?sig={SIGNATURE}")
    second.__context__ = first
    first.__context__ = second  # however they hang together
    fault(second)
    told = "".join(traceback.format_exception(second))
    assert SIGNATURE not in told
    assert "refused again" in told


def test_an_error_that_nobody_knows_is_told_by_its_first_line():
    found = fault(RuntimeError("Something new: happened\nDebug source: ..."))
    assert (found.kind, found.why) == ("service", "Something new: happened")
