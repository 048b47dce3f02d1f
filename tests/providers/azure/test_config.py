"""The settings of Azure Blob Storage: where, who asks, and what is refused."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.azure.config import AzureBlobConfig
from purveyor.providers.registry.redaction import secret_fields_of

KEY = "c2VjcmV0LWNhbmFyeS1rZXk="
SAS = "sv=2022-11-02&sp=rl&se=2030-01-01T00:00:00Z&sig=Y2FuYXJ5%2B%2F%3D"
URL = "https://nightly.blob.core.windows.net"
FULL = f"DefaultEndpointsProtocol=https;AccountName=nightly;AccountKey={KEY}"


def config(**values: Any) -> AzureBlobConfig:
    return AzureBlobConfig.model_validate({"container": "reports", **values})


def reasons(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        config(**values)
    return "; ".join(error["msg"] for error in caught.value.errors())


@pytest.mark.requirement("S3.38")
def test_container_name_is_an_older_name_of_container():
    values = {"container_name": "reports", "account_url": URL}
    assert AzureBlobConfig.model_validate(values).container == "reports"
    with pytest.raises(ValidationError, match="both set and differ"):
        AzureBlobConfig.model_validate({**values, "container": "others"})


def test_secrets_are_secret_by_their_type():
    secret = {"connection_string", "account_key", "sas_token"}
    assert secret_fields_of(AzureBlobConfig) == secret


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        (FULL, "nightly", URL),
        (f"{FULL};EndpointSuffix=core.chinacloudapi.cn", "nightly", None),
        (f" accountname = nightly ; ACCOUNTKEY={KEY} ;; ", "nightly", URL),
        (f"AccountKey={KEY};BlobEndpoint={URL}/", "nightly", URL),
        (f"{FULL};QueueEndpoint=https://q.example;TableEndpoint=https://t.example", "nightly", URL),
        (f"AccountName=shop;AccountKey={KEY};BlobEndpoint=https://blobs.example", "shop", None),
        (
            f"DefaultEndpointsProtocol=http;AccountName=dev;AccountKey={KEY};"
            "BlobEndpoint=http://127.0.0.1:10000/dev;",
            "dev",
            "http://127.0.0.1:10000/dev",
        ),
    ],
)
def test_a_connection_string_says_where_and_who(text: str, name: str, url: str | None):
    account = config(connection_string=text).account
    assert account.name == name
    assert account.key is not None
    if url is not None:
        assert account.url == url


def test_a_connection_string_may_hold_a_shared_access_signature():
    account = config(connection_string=f"BlobEndpoint={URL};SharedAccessSignature={SAS}").account
    assert account.key is None
    assert dict(account.sas_pairs)["sig"] == "Y2FuYXJ5+/="


def test_an_endpoint_suffix_makes_the_address():
    text = f"{FULL};EndpointSuffix=core.usgovcloudapi.net"
    account = config(connection_string=text).account
    assert account.url == "https://nightly.blob.core.usgovcloudapi.net"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AccountName=nightly", "neither of AccountKey and SharedAccessSignature"),
        (f"{FULL};SharedAccessSignature={SAS}", "both of AccountKey and SharedAccessSignature"),
        (f"AccountKey={KEY}", "neither AccountName nor BlobEndpoint"),
        (f"{FULL};AccountName=other", "AccountName is in it twice"),
        ("AccountName=nightly;AccountKey=", "AccountKey has no value"),
        ("AccountName=nightly;AccountKey=canarY", "AccountKey: the key is not in base"),
        ("AccountName=nightly;AccountKey=canary9=", "AccountKey: the key is not in base"),
        ("AccountName=nightly;AccountKey=canary-not-base64", "AccountKey: the key is not in base"),
        (f"AccountName=No/Way;AccountKey={KEY}", "AccountName is 3 to 24"),
        (f"AccountName=nightly;AccountKey={KEY};canary", "its part 3 is none of AccountKey"),
        (f"AccountName=nightly;AccountKey={KEY};canary=1", "its part 3 is none of AccountKey"),
        (f"{FULL};EndpointSuffix=x/canary", "BlobEndpoint: the address goes on"),
        (f"DefaultEndpointsProtocol=ftp;AccountName=abc;AccountKey={KEY}", "is http or https"),
        ("UseDevelopmentStorage=true", "give the emulator's whole connection string"),
        (f"BlobEndpoint={URL};SharedAccessSignature=canary", "SharedAccessSignature: a SAS token"),
        (f"BlobEndpoint={URL}?{SAS};AccountKey={KEY}", "BlobEndpoint: the address goes on"),
    ],
)
def test_faults_of_a_connection_string_are_named_by_key_never_by_value(text: str, reason: str):
    told = reasons(connection_string=text)
    assert reason in told
    assert "connection_string: " in told
    for value in (KEY, "canary", SAS, "No/Way"):
        assert value not in told


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "nightly"),
        (f"{URL}/", "nightly"),
        ("https://nightly.z1.blob.storage.azure.net", "nightly"),
        ("https://nightly.privatelink.blob.core.windows.net", "nightly"),
        ("http://127.0.0.1:10000/dev", "dev"),
        ("http://[::1]:10000/dev", "dev"),
        ("http://localhost:10000/dev", "dev"),
        ("https://azurite/dev", "dev"),
    ],
)
def test_an_account_url_names_the_account(url: str, name: str):
    assert config(account_url=url).account.name == name


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nightly.blob.core.windows.net", "does not begin with http"),
        ("ftp://nightly.blob.core.windows.net", "does not begin with http"),
        (f"{URL}/reports", "the container is set as container"),
        ("http://127.0.0.1:10000/dev/reports", "the container is set as container"),
        ("http://127.0.0.1:10000", "does not name the account"),
        ("http://localhost:10000", "does not name the account"),
        (f"{URL}/?{SAS}", "a signature is set as sas_token"),
        ("https://user:canary@nightly.blob.core.windows.net", "credentials do not belong"),
        ("https://nightly.dfs.core.windows.net", "write blob in place of dfs"),
        ("https://nightly.blob.core.windows.net:canary", "cannot be parsed"),
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str, reason: str):
    told = reasons(account_url=url)
    assert reason in told
    assert "canary" not in told
    assert "Y2FuYXJ5" not in told


def test_without_an_address_there_is_nothing_to_ask():
    assert "connection_string or account_url is missing" in reasons()


@pytest.mark.parametrize("other", ["account_url", "account_key", "sas_token"])
def test_a_connection_string_stands_alone(other: str):
    value = {"account_url": URL, "account_key": KEY, "sas_token": SAS}[other]
    told = reasons(connection_string=FULL, **{other: value})
    assert f"connection_string and {other} are both set" in told


def test_a_key_and_a_signature_are_not_both_set():
    told = reasons(account_url=URL, account_key=KEY, sas_token=SAS)
    assert "account_key and sas_token are both set" in told


@pytest.mark.parametrize("token", ["canary", f"{URL}?{SAS}", "sv=1", "sv=1&sig=a b", "sv&sig=1"])
def test_what_is_no_sas_token_is_refused_without_repeating_it(token: str):
    told = reasons(account_url=URL, sas_token=token)
    assert "a SAS token" in told
    assert token not in told


def test_a_sas_token_may_begin_with_a_question_mark():
    token = config(account_url=URL, sas_token=f"?{SAS}").account.sas
    assert token is not None
    assert token.get_secret_value() == SAS


@pytest.mark.parametrize("token", ["sv=1&sig=x", "sv=1&sig=x&se=tomorrow"])
def test_a_sas_token_need_not_say_when_it_ends(token: str):
    assert config(account_url=URL, sas_token=token).account.sas_expiry is None


def test_a_sas_token_may_end_on_a_day():
    expiry = config(account_url=URL, sas_token="sv=1&sig=x&se=2030-01-01").account.sas_expiry
    assert expiry is not None
    assert expiry.isoformat() == "2030-01-01T00:00:00+00:00"


def test_plain_http_to_another_machine_must_be_asked_for():
    url = "http://nightly.blob.core.windows.net"
    assert "set allow_http to true" in reasons(account_url=url)
    assert "set allow_http to true" in reasons(connection_string=FULL.replace("https", "http"))
    assert config(account_url=url, allow_http=True).account.url == url


@pytest.mark.parametrize(
    "container", ["ab", "Reports", "a--b", "-ab", "ab-", "a" * 64, "a/b", "https://x", "$any"]
)
def test_containers_that_cannot_be_are_refused(container: str):
    assert "a container's name is 3 to 63" in reasons(container=container, account_url=URL)


@pytest.mark.parametrize("container", ["abc", "a-1", "a" * 63, "$root", "$web"])
def test_containers_that_can_be_are_taken(container: str):
    assert config(container=container, account_url=URL).container == container


@pytest.mark.parametrize("prefix", ["a//b", "a/../b", "./a"])
def test_prefixes_that_are_no_folder_are_refused(prefix: str):
    assert "no part of a prefix" in reasons(prefix=prefix, account_url=URL)


@pytest.mark.parametrize("credentials", [{}, {"account_key": KEY}, {"sas_token": SAS}])
def test_the_store_never_takes_credentials_from_the_environment(
    credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    from obstore.store import AzureStore

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "stranger")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "https://stranger.example")
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    store = AzureStore(**config(account_url=URL, **credentials).store_arguments())
    told: Mapping[str, object] = {**store.config}
    assert told["account_name"] == "nightly"
    assert told["endpoint"] == URL
    assert told["skip_signature"] == str(not credentials).lower()


@pytest.mark.requirement("S3.28", "S3.30")
def test_no_secret_shows(caplog: pytest.LogCaptureFixture):
    for values in (
        {"connection_string": FULL},
        {"account_url": URL, "account_key": KEY},
        {"account_url": URL, "sas_token": SAS},
    ):
        made = config(**values)
        with caplog.at_level(logging.DEBUG):
            logging.getLogger("test").debug("%r %s %r", made, made.account, made.model_dump())
        shown = f"{made!r} {made} {made.account!r} {made.model_dump_json()} {copy.copy(made)!r}"
        for secret in (KEY, SAS, "Y2FuYXJ5"):
            assert secret not in shown + caplog.text
