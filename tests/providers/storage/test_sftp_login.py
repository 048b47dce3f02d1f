"""SFTP storage: its settings, logging in, and whether the server is who it should be."""

from __future__ import annotations

import logging
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from purveyor.providers.registry import guarded
from purveyor.providers.storage.errors import (
    StorageConnectionError,
    StoragePermissionError,
    StorageRootNotFoundError,
    StorageTimeoutError,
)
from purveyor.providers.storage.sftp import (
    HostKeyChangedError,
    HostKeyUnknownError,
    SFTPConfig,
    SFTPStorage,
)
from purveyor.testing.servers import OpenSSH
from purveyor.testing.servers.openssh import make_key
from tests.conftest import require
from tests.servers import FaultyProxy
from tests.sftp_servers import Account, PythonSFTP

pytestmark = pytest.mark.server("openssh")

PINNED = "SHA256:" + "A" * 43


def config(**changes: Any) -> SFTPConfig:
    return SFTPConfig.model_validate(
        {"host": "files.example.com", "username": "ada", "host_key": PINNED, **changes}
    )


async def try_login(settings: SFTPConfig) -> None:
    async with guarded(SFTPStorage(settings), name="backups") as storage:
        await storage.exists("a")


def changed(settings: SFTPConfig, **changes: Any) -> SFTPConfig:
    """Return checked settings that differ; None takes one out."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set} | changes
    return SFTPConfig.model_validate({k: v for k, v in values.items() if v is not None})


def ssh_keygen(*arguments: str) -> str:
    command = ["ssh-keygen", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# -- settings ----------------------------------------------------------------------------


def test_host_and_username_are_all_that_must_be_set():
    settings = SFTPConfig(host="files.example.com", username="ada")
    assert (settings.port, settings.root, settings.host_key_checking) == (22, ".", True)


def test_remote_path_is_an_older_name_of_root():
    assert config(remote_path="/srv").root == "/srv"


@pytest.mark.parametrize("host", ["sftp://files", "ada@files", "files/srv", "two words", ""])
def test_a_host_is_a_name_alone(host: str):
    with pytest.raises(ValidationError, match="host"):
        config(host=host)


def test_a_passphrase_needs_a_key_and_is_not_echoed():
    with pytest.raises(ValidationError, match="without private_key") as caught:
        config(passphrase="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["MD5:aa:bb", "ssh-ed25519", "ssh-ed25519 AAAA", "AAAA", "x y"])
def test_a_pinned_key_is_a_fingerprint_or_a_public_key(key: str):
    with pytest.raises(ValidationError, match=r"ssh-keygen -l"):
        config(host_key=key)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"host_key_checking": False}, "would do nothing"),
        ({"host_key_checking": False, "host_key": None, "known_hosts": "/k"}, "would do nothing"),
        ({"known_hosts": "/k"}, "both set"),
    ],
)
def test_settings_of_host_keys_that_contradict_each_other_are_refused(
    changes: dict[str, Any], fault: str
):
    with pytest.raises(ValidationError, match=fault):
        config(**changes)


# -- logging in --------------------------------------------------------------------------


async def test_a_private_key_may_be_the_path_of_its_file(sftp_config: SFTPConfig, openssh: OpenSSH):
    await try_login(changed(sftp_config, private_key=str(openssh.client_key)))


@pytest.mark.parametrize("encrypted", [False, True])
async def test_another_key_is_refused_and_the_message_says_what_was_tried(
    sftp_config: SFTPConfig, tmp_path: Path, encrypted: bool
):
    key = make_key(tmp_path / "key", "hunter2" if encrypted else "")
    settings = changed(
        sftp_config, private_key=str(key), passphrase="hunter2" if encrypted else None
    )
    with pytest.raises(StoragePermissionError, match=r"refused the login.*tried: private_key"):
        await try_login(settings)


async def test_a_key_with_its_passphrase_logs_in(
    sftp_config: SFTPConfig, openssh: OpenSSH, tmp_path: Path
):
    key = tmp_path / "key"
    key.write_bytes(openssh.client_key.read_bytes())
    key.chmod(0o600)
    ssh_keygen("-q", "-p", "-P", "", "-N", "hunter2", "-f", str(key))
    await try_login(changed(sftp_config, private_key=key.read_text(), passphrase="hunter2"))


@pytest.mark.parametrize(
    ("passphrase", "text", "fault"),
    [
        ("wrong-hunter2", None, "Incorrect passphrase"),
        (None, None, "Passphrase must be specified"),
        (None, "-----BEGIN NONSENSE-----\nhunter2\n", "Give a private key"),
        (None, "/nowhere/key", "cannot be read: No such file"),
    ],
)
async def test_a_key_that_cannot_be_used_says_why_and_shows_nothing(
    sftp_config: SFTPConfig, tmp_path: Path, passphrase: str | None, text: str | None, fault: str
):
    key = make_key(tmp_path / "key", "hunter2").read_text()
    settings = changed(sftp_config, private_key=text or key, passphrase=passphrase)
    with pytest.raises(StoragePermissionError, match=fault) as caught:
        await try_login(settings)
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert key.splitlines()[1] not in shown


@pytest.mark.parametrize("interactive", [False, True])
async def test_a_password_logs_in_and_a_wrong_one_does_not(tmp_path: Path, interactive: bool):
    async with PythonSFTP(tmp_path, interactive=interactive) as server:
        settings = SFTPConfig.model_validate(server.login)
        async with SFTPStorage(settings) as storage:
            await storage.put("a", b"1")
        assert (tmp_path / "a").read_bytes() == b"1"
        wrong = Account.password[::-1]
        with pytest.raises(StoragePermissionError, match="tried: password") as caught:
            await try_login(changed(settings, password=wrong))
        assert Account.username in str(caught.value)
        assert wrong not in "".join(traceback.format_exception(caught.value))


@pytest.fixture
def agent(openssh: OpenSSH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent that holds the client's key."""
    socket = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as process:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        while not Path(socket).exists():
            assert process.poll() is None
        subprocess.run(["ssh-add", "-q", str(openssh.client_key)], check=True, capture_output=True)
        yield
        process.terminate()


@pytest.mark.usefixtures("agent")
async def test_without_password_and_key_the_agent_is_asked(
    sftp_config: SFTPConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = changed(sftp_config, private_key=None)
    await try_login(settings)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(StoragePermissionError, match=r"Set password or private_key"):
        await try_login(settings)


# -- host keys ---------------------------------------------------------------------------


def entry(openssh: OpenSSH) -> str:
    return f"[127.0.0.1]:{openssh.port} {openssh.host_key}\n"


def fingerprint(openssh: OpenSSH) -> str:
    return ssh_keygen("-l", "-f", str(openssh.folder / "host.pub")).split()[1]


async def test_a_key_of_known_hosts_is_accepted(
    sftp_config: SFTPConfig, openssh: OpenSSH, tmp_path: Path
):
    file = tmp_path / "known_hosts"
    file.write_text(f"# comment\nother.example.com {openssh.host_key}\n{entry(openssh)}")
    await try_login(changed(sftp_config, host_key=None, known_hosts=file))
    ssh_keygen("-q", "-H", "-f", str(file))
    assert "127.0.0.1" not in file.read_text()
    await try_login(changed(sftp_config, host_key=None, known_hosts=file))


@pytest.mark.parametrize("content", [None, "", "other.example.com {key}\n"])
async def test_an_unknown_key_is_refused_and_the_message_says_all_one_needs(
    sftp_config: SFTPConfig, openssh: OpenSSH, tmp_path: Path, content: str | None
):
    file = tmp_path / "known_hosts"
    if content is not None:
        file.write_text(content.format(key=openssh.host_key))
    with pytest.raises(HostKeyUnknownError) as caught:
        await try_login(changed(sftp_config, host_key=None, known_hosts=file))
    told = str(caught.value)
    for part in (f"127.0.0.1:{openssh.port}", fingerprint(openssh), str(file), "ssh-keyscan"):
        assert part in told
    assert caught.value.code == "HOST_KEY_UNKNOWN"
    assert not file.exists() or "127.0.0.1" not in file.read_text()  # nothing was added

    file.write_text(entry(openssh))
    await try_login(changed(sftp_config, host_key=None, known_hosts=file))


async def test_a_changed_key_is_refused_and_names_both(
    sftp_config: SFTPConfig, openssh: OpenSSH, tmp_path: Path
):
    other = " ".join(make_key(tmp_path / "other").with_suffix(".pub").read_text().split()[:2])
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{openssh.port} {other}\n")
    with pytest.raises(HostKeyChangedError) as caught:
        await try_login(changed(sftp_config, host_key=None, known_hosts=file))
    told = str(caught.value)
    for part in (fingerprint(openssh), str(file), "knows another: SHA256:", "ssh-keygen -R"):
        assert part in told
    with pytest.raises(HostKeyChangedError, match="pins another"):
        await try_login(changed(sftp_config, host_key=other))
    with pytest.raises(HostKeyChangedError, match="pins another"):
        await try_login(changed(sftp_config, host_key=PINNED))


async def test_a_file_that_holds_no_known_hosts_is_not_shown(
    sftp_config: SFTPConfig, tmp_path: Path
):
    file = tmp_path / "passwords"
    file.write_text("user:hunter2:0\n")
    with pytest.raises(StoragePermissionError, match="passwords is none of known host") as caught:
        await try_login(changed(sftp_config, host_key=None, known_hosts=file))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no file without an end")
@pytest.mark.parametrize(
    "endless", [{"private_key": "/dev/zero"}, {"host_key": None, "known_hosts": "/dev/zero"}]
)
async def test_a_file_that_never_ends_is_not_read(sftp_config: SFTPConfig, endless: dict[str, Any]):
    with pytest.raises(StoragePermissionError, match="cannot be read: File too large"):
        await try_login(changed(sftp_config, **endless))


async def test_a_revoked_key_is_refused(sftp_config: SFTPConfig, openssh: OpenSSH, tmp_path: Path):
    file = tmp_path / "known_hosts"
    file.write_text(f"{entry(openssh)}@revoked * {openssh.host_key}\n")
    with pytest.raises(HostKeyChangedError, match="revoked"):
        await try_login(changed(sftp_config, host_key=None, known_hosts=file))


async def test_a_key_is_pinned_by_fingerprint_too(sftp_config: SFTPConfig, openssh: OpenSSH):
    await try_login(changed(sftp_config, host_key=fingerprint(openssh)))


async def test_the_default_file_is_that_of_the_account(
    sftp_config: SFTPConfig, openssh: OpenSSH, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = changed(sftp_config, host_key=None)
    with pytest.raises(HostKeyUnknownError, match=str(tmp_path / ".ssh" / "known_hosts")):
        await try_login(settings)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(entry(openssh))
    await try_login(settings)


async def test_checking_can_be_turned_off_which_is_warned_of(
    sftp_config: SFTPConfig, openssh: OpenSSH, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "purveyor"):
        await try_login(changed(sftp_config, host_key=None, host_key_checking=False))
    assert fingerprint(openssh) in caplog.text
    assert "was not checked" in caplog.text


# -- no server, no folder ----------------------------------------------------------------


async def test_nobody_listens(sftp_config: SFTPConfig):
    async with FaultyProxy(9) as proxy:
        await proxy.stop()
        with pytest.raises(StorageConnectionError, match=f"127.0.0.1:{proxy.port}.*address"):
            await try_login(changed(sftp_config, port=proxy.port))


async def test_a_host_that_does_not_exist(sftp_config: SFTPConfig):
    with pytest.raises(StorageConnectionError, match=r"files\.invalid:22"):
        await try_login(changed(sftp_config, host="files.invalid", port=22))


async def test_a_server_that_never_greets(sftp_config: SFTPConfig):
    async with FaultyProxy(9) as proxy:
        proxy.silent = True
        settings = changed(sftp_config, port=proxy.port, connect_timeout=0.5)
        with pytest.raises(StorageTimeoutError, match="raise connect_timeout"):
            await try_login(settings)


@pytest.mark.parametrize("name", ["missing", "file", "missing/below"])
async def test_a_missing_root_is_told(sftp_config: SFTPConfig, name: str):
    async with SFTPStorage(sftp_config) as storage:
        await storage.put("file", b"x")
    settings = changed(sftp_config, root=f"{sftp_config.root}/{name}")
    with pytest.raises(StorageRootNotFoundError, match=f"{name}.*set root to another folder"):
        await try_login(settings)


async def test_a_server_without_sftp_is_told():
    require(OpenSSH)
    with OpenSSH(subsystem="/bin/false") as server:
        settings = SFTPConfig.model_validate(server.login)
        with pytest.raises(StorageConnectionError, match="opens no SFTP session"):
            await try_login(settings)


async def test_a_server_that_greets_with_more_than_sftp_is_told():
    require(OpenSSH)
    with OpenSSH(subsystem="/bin/echo welcome to our server, make yourself at home") as server:
        settings = SFTPConfig.model_validate(server.login)
        with pytest.raises(StorageConnectionError, match="what is no SFTP"):
            await try_login(settings)
