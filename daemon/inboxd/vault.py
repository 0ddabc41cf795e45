"""Encryption of credentials at rest: AES-256-GCM, with the row and field as associated data.

A sealed value is `version (1) | key id (8) | nonce (12) | ciphertext and tag`. Because the place is authenticated, a
ciphertext copied to another row or field does not open. Anything unknown is an error, never taken for cleartext.

A vault seals under one key and opens under every key it knows, so that nothing is out of reach while the key changes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from inboxd.errors import Conflict, Invalid, SecretUnreadable, SettingsError
from inboxd.model import Secret

KEY_FILE = "vault.key"
# The key that takes its place, while secrets are being sealed anew; and the one before it.
NEXT_FILE = "vault.key.next"
PREVIOUS_FILE = "vault.key.previous"
_VERSION = b"\x01"
_KEY_ID = slice(1, 9)
_NONCE = slice(9, 21)
_SEALED = slice(21, None)
_SHORTEST = 21 + 16


class Vault:
    """Seals under the first key; opens what any of the keys sealed. Keys have 256 bits."""

    def __init__(self, key: bytes, *older: bytes) -> None:
        self._ciphers = {_key_id(one): AESGCM(one) for one in (key, *older)}
        self._first = _key_id(key)

    @property
    def mark(self) -> bytes:
        """What everything begins with that was sealed under the first key."""
        return _VERSION + self._first

    @property
    def has_older(self) -> bool:
        """Whether it opens what another key sealed."""
        return len(self._ciphers) > 1

    def seal(self, secret: Secret, place: str) -> bytes:
        """The ciphertext of `secret`, which opens only at `place` (for example `connection/<id>/password`).

        Invalid, naming the last part of the place, when the secret holds half a surrogate pair.
        """
        nonce = os.urandom(12)
        try:
            clear = secret.reveal().encode()
        except UnicodeEncodeError:
            raise Invalid(place.rpartition("/")[2], "is not text that can be written as UTF-8") from None
        return self.mark + nonce + self._ciphers[self._first].encrypt(nonce, clear, self.mark + place.encode())

    def open(self, sealed: bytes, place: str) -> Secret:
        """The secret sealed at `place`; SecretUnreadable when the key is another one or the bytes were changed."""
        if sealed[:1] != _VERSION or len(sealed) < _SHORTEST:
            raise SecretUnreadable(f"{place}: the stored secret has an unknown format")
        cipher = self._ciphers.get(sealed[_KEY_ID])
        if cipher is None:
            raise SecretUnreadable(f"{place}: the stored secret was encrypted with another vault key; restore that key")
        try:
            clear = cipher.decrypt(sealed[_NONCE], sealed[_SEALED], sealed[:9] + place.encode())
        except InvalidTag as error:
            raise SecretUnreadable(f"{place}: the stored secret was changed or belongs to another row") from error
        return Secret(clear.decode())

    def reseal(self, sealed: bytes, place: str) -> bytes:
        """The same secret under the first key; SecretUnreadable."""
        return self.seal(self.open(sealed, place), place)


def open_vault(configured: str | None, state_dir: Path, previous: str | None = None) -> Vault:
    """The vault under the configured key (base64 of 32 bytes) or the one in the state folder, made there once (0600).

    It opens, too, what was sealed under the `previous` key and under the other keys in the state folder. While one
    waits there to take the key's place, that one seals.

    SettingsError when a configured key is not one; SecretUnreadable when a file holds none, or can be neither read nor
    made.
    """
    older = [] if previous is None else [_configured("vault.previous_key", previous)]
    names = (NEXT_FILE, KEY_FILE, PREVIOUS_FILE)
    if configured is not None:
        return Vault(_configured("vault.key", configured), *older, *_readable(state_dir / name for name in names))
    path = state_dir / KEY_FILE
    try:
        if not path.exists():
            _make_key(path, os.urandom(32))
    except OSError as error:
        raise _unusable(path, error) from error
    first, *others = [read_key(state_dir / name) for name in names if (state_dir / name).exists()]
    return Vault(first, *others, *older)


def read_key(path: Path) -> bytes:
    """The key in this file; SecretUnreadable."""
    try:
        key = _decode(path.read_bytes())
    except OSError as error:
        raise _unusable(path, error) from error
    if key is None:
        raise SecretUnreadable(f"{path}: is not base64 of 32 bytes; restore the key this store was written with")
    return key


def prepare_next(state_dir: Path, key: bytes | None = None) -> None:
    """Put the key (a fresh one when None) where it waits to take the present one's place, unless one waits already.

    Conflict when the one that waits is another than `key`; SecretUnreadable when it cannot be written.
    """
    path = state_dir / NEXT_FILE
    try:
        if not path.exists():
            _make_key(path, key or os.urandom(32))
    except OSError as error:
        raise _unusable(path, error) from error
    if key is not None and read_key(path) != key:
        raise Conflict(
            f"{path}: a change to that key is not finished; finish it without naming a key, then change again"
        )


def promote_next(state_dir: Path) -> None:
    """Let the key that waits, if there is one, take the place of the present one, which is kept as the previous one.

    Whenever it is interrupted, both are there, and the same call goes on.
    """
    path, waiting, draft = (state_dir / name for name in (KEY_FILE, NEXT_FILE, f".{PREVIOUS_FILE}"))
    if not waiting.exists():
        return
    draft.unlink(missing_ok=True)
    os.link(path, draft)
    draft.replace(state_dir / PREVIOUS_FILE)
    draft.unlink(missing_ok=True)  # it is still there when both names were of one file
    _sync(state_dir)
    waiting.replace(path)
    _sync(state_dir)


def _configured(setting: str, text: str) -> bytes:
    key = _decode(text.encode(errors="replace"))
    if key is None:
        raise SettingsError([f"{setting}: is not base64 of 32 bytes; make one with: openssl rand -base64 32"])
    return key


def _readable(paths: Iterable[Path]) -> Iterator[bytes]:
    """The keys in those files that hold one: beside a configured key none of them has to."""
    for path in paths:
        with contextlib.suppress(SecretUnreadable):
            yield read_key(path)


def _unusable(path: Path, error: OSError) -> SecretUnreadable:
    return SecretUnreadable(f"{path}: the vault key can be neither read nor made: {error.strerror}")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"inboxd key id" + key).digest()[:8]


def _decode(text: bytes) -> bytes | None:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        return None
    return key if len(key) == 32 else None


def _make_key(path: Path, key: bytes) -> None:
    """Put the key at `path` unless one appears there first. Nobody, whenever they look, sees half a key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Return once the folder's names are on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
