"""The vault: what is sealed opens where it belongs, with its key, unchanged, and nowhere else."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.errors import Invalid, SecretUnreadable, SettingsError
from inboxd.model import Secret
from inboxd.vault import KEY_FILE, Vault, open_vault

PLACE = "connection/5d1f/password"
KEY = bytes(range(32))
PRINT_KEY_ID = """
import pathlib, sys
from inboxd.model import Secret
from inboxd.vault import open_vault
sys.stdin.readline()
print(open_vault(None, pathlib.Path(sys.argv[1])).seal(Secret(""), "x")[1:9].hex())
"""


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_sealed_secret_opens_at_its_place(text: str) -> None:
    vault = Vault(KEY)
    assert vault.open(vault.seal(Secret(text), PLACE), PLACE).reveal() == text


def test_sealing_twice_gives_different_bytes_without_the_secret() -> None:
    vault = Vault(KEY)
    first, second = (vault.seal(Secret("hunter2"), PLACE) for _ in range(2))
    assert first != second
    assert b"hunter2" not in first


def test_ciphertext_moved_to_another_row_is_refused() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(Secret("hunter2"), PLACE)
    with pytest.raises(SecretUnreadable, match="belongs to another row"):
        vault.open(sealed, "connection/77aa/password")


def test_wrong_key_is_named_as_the_reason() -> None:
    sealed = Vault(KEY).seal(Secret("hunter2"), PLACE)
    with pytest.raises(SecretUnreadable, match="another vault key"):
        Vault(bytes(32)).open(sealed, PLACE)


def test_every_flipped_bit_is_refused() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(Secret("hunter2"), PLACE)
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SecretUnreadable):
            vault.open(bytes(changed), PLACE)


def test_every_truncation_and_extension_is_refused() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(Secret("hunter2"), PLACE)
    for length in range(len(sealed)):
        with pytest.raises(SecretUnreadable):
            vault.open(sealed[:length], PLACE)
    with pytest.raises(SecretUnreadable):
        vault.open(sealed + b"\0", PLACE)


@pytest.mark.parametrize("cleartext", [b"hunter2", b"", b"\x01hunter2", "pässword" * 9])
def test_cleartext_is_never_taken_for_a_secret(cleartext: bytes | str) -> None:
    stored = cleartext if isinstance(cleartext, bytes) else cleartext.encode()
    with pytest.raises(SecretUnreadable, match=PLACE):
        Vault(KEY).open(stored, PLACE)


def test_half_a_surrogate_pair_is_refused_without_showing_the_secret() -> None:
    with pytest.raises(Invalid) as caught:
        Vault(KEY).seal(Secret("hunter2\ud800"), PLACE)
    assert caught.value.field == "password"
    assert "hunter2" not in repr(caught.getrepr(showlocals=False, style="line"))
    assert caught.value.__cause__ is None


def test_configured_key_is_used_and_no_file_is_made(tmp_path: Path) -> None:
    vault = open_vault(base64.b64encode(KEY).decode(), tmp_path)
    assert vault.open(Vault(KEY).seal(Secret("s"), PLACE), PLACE) == Secret("s")
    assert list(tmp_path.iterdir()) == []


def test_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = open_vault(None, tmp_path)
    finally:
        os.umask(before)
    path = tmp_path / KEY_FILE
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(content)) == 32
    second = open_vault(None, tmp_path)
    assert path.read_bytes() == content
    assert second.open(first.seal(Secret("s"), PLACE), PLACE) == Secret("s")
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]


def test_processes_starting_at_once_agree_on_one_key(tmp_path: Path) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT_KEY_ID, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(6)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    key_ids = {starter.communicate()[0].strip() for starter in starters}
    assert all(starter.returncode == 0 for starter in starters)
    assert len(key_ids) == 1
    assert [file.name for file in tmp_path.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("content", [b"", b"not base64!", b"c2hvcnQ=\n", b"A" * 43, b"\xff" * 44, b"====", b"A" * 88])
def test_bad_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    with pytest.raises(SecretUnreadable, match=rf"^{path}: is not base64 of 32 bytes; restore the key"):
        open_vault(None, tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("configured", ["", "short", "é"])
def test_bad_configured_key_is_refused(tmp_path: Path, configured: str) -> None:
    with pytest.raises(SettingsError, match=r"vault\.key"):
        open_vault(configured, tmp_path)


def test_missing_state_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SecretUnreadable, match=r"absent/vault\.key: the vault key can be neither read nor made: No such file"
    ):
        open_vault(None, tmp_path / "absent")


def test_key_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(SecretUnreadable, match="neither read nor made"):
        open_vault(None, tmp_path)
