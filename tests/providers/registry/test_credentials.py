"""Credentials at rest: what is encrypted, under which key, for whom, and what is refused."""

from __future__ import annotations

import base64
import contextlib
import copy
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from purveyor.providers.registry import CredentialError, CredentialManager, Owner, mask
from purveyor.providers.registry.credentials import is_sealed, key_id_of
from purveyor.settings import CredentialSettings

KEY, OLD, OTHER = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in range(3))
OWNER = Owner("data_sources", "warehouse", "password")
SECRET = "correct horse battery staple"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture
def manager() -> CredentialManager:
    return CredentialManager([KEY])


def refusal(sealed: str, manager: CredentialManager, owner: Owner = OWNER) -> CredentialError:
    """Return the error of decrypting, which names the owner and never holds the value."""
    with pytest.raises(CredentialError) as caught:
        manager.decrypt(sealed, owner)
    error = caught.value
    assert SECRET not in f"{error}{error.to_dict()}"
    assert sealed not in f"{error}{error.to_dict()}"
    assert error.provider_name == owner.provider
    assert error.context["field"] == owner.field
    assert owner.provider in error.message
    assert owner.field in error.message
    return error


class TestEncrypting:
    @pytest.mark.requirement("S3.4", "S3.27")
    def test_gives_a_fernet_token_with_version_and_key_id(self, manager: CredentialManager) -> None:
        version, key_id, token = manager.encrypt(SECRET, OWNER).split(":")
        assert (version, key_id) == ("v1", manager.key_ids[0])
        assert SECRET.encode() in Fernet(KEY).decrypt(token)

    @pytest.mark.requirement("S3.4", "S3.27")
    @given(value=json_values, names=st.tuples(st.text(), st.text(), st.text()))
    def test_comes_back_as_it_was(self, value: Any, names: tuple[str, str, str]) -> None:
        manager = CredentialManager([KEY])
        sealed = manager.encrypt(value, Owner(*names))
        assert is_sealed(sealed)
        assert manager.decrypt(sealed, Owner(*names)) == value

    def test_twice_gives_two_texts(self, manager: CredentialManager) -> None:
        assert manager.encrypt(SECRET, OWNER) != manager.encrypt(SECRET, OWNER)

    @pytest.mark.parametrize("value", [SecretStr(SECRET), {SECRET}, {"n": float("nan")}, b"bytes"])
    def test_refuses_what_json_cannot_hold(self, manager: CredentialManager, value: Any) -> None:
        with pytest.raises(CredentialError, match="'password' of data_sources provider") as caught:
            manager.encrypt(value, OWNER)
        assert SECRET not in str(caught.value)

    def test_a_text_that_is_not_encrypted_does_not_look_so(self) -> None:
        for text in ("", "v1:", "v1:short:x", "postgresql://u:p@h/d", f"v1:{KEY}"):
            assert not is_sealed(text)


class TestKeys:
    def test_the_id_is_made_of_the_key(self) -> None:
        assert CredentialManager([KEY]).key_ids == CredentialManager([KEY.encode()]).key_ids
        assert CredentialManager([SecretStr(KEY), OLD]).key_ids == (
            *CredentialManager([KEY]).key_ids,
            *CredentialManager([OLD]).key_ids,
        )

    def test_a_generated_one_is_a_fernet_key(self) -> None:
        key = CredentialManager.generate_key()
        Fernet(key)
        assert key != CredentialManager.generate_key()

    @pytest.mark.requirement("S3.27")
    @pytest.mark.parametrize(
        "bad", ["", "secret-secret", KEY[:-1], KEY + KEY, "ä" * 44, b"\xff" * 44]
    )
    def test_a_malformed_one_is_named_by_its_place(self, bad: Any) -> None:
        with pytest.raises(CredentialError, match="key 2 given") as caught:
            CredentialManager([KEY, bad]).encrypt(SECRET, OWNER)
        assert "purveyor credentials generate-key" in caught.value.message
        assert KEY not in caught.value.message
        assert not bad or str(bad) not in caught.value.message

    def test_two_equal_ones_are_refused(self) -> None:
        with pytest.raises(CredentialError, match="key 3 given and key 1 given are the same key"):
            _ = CredentialManager([KEY, OLD, KEY]).key_ids

    @pytest.mark.requirement("S3.27")
    def test_none_at_all_is_refused(self) -> None:
        with pytest.raises(CredentialError, match="PURVEYOR_CREDENTIALS__KEYS"):
            CredentialManager(()).encrypt(SECRET, OWNER)

    def test_are_shown_nowhere(self, manager: CredentialManager) -> None:
        _ = manager.key_ids
        for text in (repr(manager), str(manager), f"{manager}"):
            assert KEY not in text
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="holds keys"):
                way(manager)


class TestDecrypting:
    @pytest.mark.requirement("S3.4")
    def test_uses_whichever_key_it_needs(self) -> None:
        sealed = CredentialManager([OLD]).encrypt(SECRET, OWNER)
        assert CredentialManager([KEY, OLD]).decrypt(sealed, OWNER) == SECRET

    def test_names_the_key_that_is_missing(self, manager: CredentialManager) -> None:
        old = CredentialManager([OLD])
        error = refusal(old.encrypt(SECRET, OWNER), manager)
        assert error.context["key_id"] == old.key_ids[0]
        assert old.key_ids[0] in error.message
        assert "PURVEYOR_CREDENTIALS__KEYS" in error.message

    @pytest.mark.parametrize("field", Owner._fields)
    def test_refuses_a_value_that_was_moved(self, manager: CredentialManager, field: str) -> None:
        sealed = manager.encrypt(SECRET, OWNER._replace(**{field: "another"}))
        assert "moved" in refusal(sealed, manager).message

    @pytest.mark.parametrize("at", [12, 40, -10])
    def test_refuses_a_damaged_token(self, manager: CredentialManager, at: int) -> None:
        sealed = manager.encrypt(SECRET, OWNER)
        changed = "A" if sealed[at] != "A" else "B"
        damaged = sealed[:at] + changed + sealed[at:][1:]
        assert "damaged" in refusal(damaged, manager).message

    def test_refuses_a_token_cut_short(self, manager: CredentialManager) -> None:
        assert "damaged" in refusal(manager.encrypt(SECRET, OWNER)[:-20], manager).message

    def test_refuses_what_another_program_encrypted_with_the_key(
        self, manager: CredentialManager
    ) -> None:
        for content in (SECRET.encode(), b"{}", b"[]", b'{"owner": ["a"]}'):
            token = Fernet(KEY).encrypt(content).decode()
            assert "damaged" in refusal(f"v1:{manager.key_ids[0]}:{token}", manager).message

    def test_refuses_a_version_it_does_not_know(self, manager: CredentialManager) -> None:
        error = refusal(manager.encrypt(SECRET, OWNER).replace("v1:", "v2:"), manager)
        assert "v2" in error.message

    @pytest.mark.parametrize("text", ["", "plain", "v1:", "v1:zz:zz"])
    def test_refuses_what_was_never_encrypted(self, manager: CredentialManager, text: str) -> None:
        with pytest.raises(CredentialError, match="damaged"):
            manager.decrypt(text, OWNER)
        with pytest.raises(CredentialError, match="damaged"):
            key_id_of(text)


class TestRotating:
    def test_encrypts_under_the_first_key(self) -> None:
        old, both, new = CredentialManager([OLD]), CredentialManager([KEY, OLD]), [KEY]
        sealed = old.encrypt(SECRET, OWNER)
        rotated = both.rotate(sealed, OWNER)
        assert key_id_of(sealed) == old.key_ids[0]
        assert key_id_of(rotated) == both.key_ids[0]
        assert CredentialManager(new).decrypt(rotated, OWNER) == SECRET

    def test_leaves_what_is_under_the_first_key(self, manager: CredentialManager) -> None:
        sealed = manager.encrypt(SECRET, OWNER)
        assert manager.rotate(sealed, OWNER) is sealed

    def test_does_not_give_a_moved_value_a_new_owner(self) -> None:
        sealed = CredentialManager([OLD]).encrypt(SECRET, OWNER)
        with pytest.raises(CredentialError, match="moved"):
            CredentialManager([KEY, OLD]).rotate(sealed, OWNER._replace(provider="another"))


class TestKeysOfTheSettings:
    def test_come_before_those_of_the_key_file(self, tmp_path: Path) -> None:
        path = key_file(tmp_path / "keys", f"# of last year\n\n{OLD}\n")
        settings = CredentialSettings(keys=(SecretStr(KEY),), key_file=path)
        manager = CredentialManager.from_settings(settings, embedded=False)
        assert manager.key_ids == CredentialManager([KEY, OLD]).key_ids

    def test_are_those_of_the_environment_by_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURVEYOR_CREDENTIALS__KEYS", f"{KEY},{OLD}")
        assert CredentialManager().key_ids == CredentialManager([KEY, OLD]).key_ids

    def test_are_masked_in_messages(self) -> None:
        settings = CredentialSettings(keys=(SecretStr(KEY),))
        _ = CredentialManager.from_settings(settings, embedded=False).key_ids
        assert mask(f"the key is {KEY}") == "the key is **********"

    def test_a_malformed_one_is_named_by_the_variable(self) -> None:
        settings = CredentialSettings(keys=(SecretStr(KEY), SecretStr("nonsense")))
        with pytest.raises(CredentialError, match="key 2 of PURVEYOR_CREDENTIALS__KEYS"):
            _ = CredentialManager.from_settings(settings, embedded=False).key_ids

    @pytest.mark.requirement("S3.27")
    def test_must_be_there_for_a_database_of_many_machines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        manager = CredentialManager.from_settings(CredentialSettings(), embedded=False)
        with pytest.raises(CredentialError, match="Set PURVEYOR_CREDENTIALS__KEYS"):
            manager.encrypt(SECRET, OWNER)
        assert not [*tmp_path.iterdir()]


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


class TestKeyFile:
    @pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o644, 0o601])
    def test_that_others_may_use_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = key_file(tmp_path / "keys", KEY, mode)
        with pytest.raises(CredentialError, match=f"chmod 600 {path}"):
            _ = from_file(path).key_ids

    @pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n"])
    def test_that_is_empty_is_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(CredentialError, match="holds no key"):
            _ = from_file(key_file(tmp_path / "keys", text)).key_ids

    @pytest.mark.parametrize("text", ["nonsense", "\N{SNOWMAN}" * 44])
    def test_with_a_malformed_line_names_it(self, tmp_path: Path, text: str) -> None:
        path = key_file(tmp_path / "keys", f"{KEY}\n{text}\n")
        with pytest.raises(CredentialError, match=f"line 2 of {path}"):
            _ = from_file(path).key_ids

    def test_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialError, match="cannot be read: No such file"):
            _ = from_file(tmp_path / "keys").key_ids
        assert not [*tmp_path.iterdir()]


def from_file(path: Path) -> CredentialManager:
    return CredentialManager.from_settings(CredentialSettings(key_file=path), embedded=True)


FIRST_USE = """
from purveyor.providers.registry import CredentialManager, Owner
manager = CredentialManager()
print("ready", flush=True)
input()
print(manager.encrypt("{}", Owner(*{})))
"""


class TestEmbeddedKeyFile:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.delenv("PURVEYOR_CREDENTIALS__KEYS", raising=False)
        return tmp_path

    def test_is_made_when_first_needed_for_the_owner_alone(
        self, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager = CredentialManager()
        assert not [*home.iterdir()]
        sealed = manager.encrypt(SECRET, OWNER)
        path = home / "purveyor" / "credentials.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert [*path.parent.iterdir()] == [path]
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert str(path) in record.getMessage()
        assert "Back it up" in record.getMessage()
        assert path.read_text().strip() not in record.getMessage()
        assert CredentialManager().decrypt(sealed, OWNER) == SECRET
        assert len(caplog.records) == 1

    def test_is_below_the_home_folder_by_default(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
        monkeypatch.setenv("HOME", str(home))
        _ = CredentialManager().key_ids
        assert (home / ".config" / "purveyor" / "credentials.key").exists()

    def test_that_cannot_be_made_is_an_error_with_a_remedy(self, home: Path) -> None:
        (home / "purveyor").write_text("a file in the place of the folder")
        with pytest.raises(CredentialError, match="Set PURVEYOR_CREDENTIALS__KEYS"):
            _ = CredentialManager().key_ids

    def test_that_eight_processes_make_at_once_is_one(self, home: Path) -> None:
        program = [sys.executable, "-c", FIRST_USE.format(SECRET, (*OWNER,))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with contextlib.ExitStack() as stack:
            started: list[Any] = [
                stack.enter_context(subprocess.Popen(program, **pipes)) for _ in range(8)
            ]
            assert [process.stdout.readline() for process in started] == ["ready\n"] * 8
            for process in started:
                process.stdin.write("\n")
                process.stdin.flush()
            sealed = [process.communicate(timeout=60)[0].strip() for process in started]
        assert [process.returncode for process in started] == [0] * 8
        assert {CredentialManager().decrypt(one, OWNER) for one in sealed} == {SECRET}
        assert [path.name for path in (home / "purveyor").iterdir()] == ["credentials.key"]
