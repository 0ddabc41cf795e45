"""Encryption of credentials at rest: AES-256-GCM, with the row and field as associated data.

A sealed value is `version (1) | key id (8) | nonce (12) | ciphertext and tag`. Because the place is authenticated, a
ciphertext copied to another row or field does not open. Anything unknown is an error, never taken for cleartext.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from inboxd.errors import Invalid, SecretUnreadable, SettingsError
from inboxd.model import Secret

KEY_FILE = "vault.key"
_VERSION = b"\x01"
_KEY_ID = slice(1, 9)
_NONCE = slice(9, 21)
_SEALED = slice(21, None)
_SHORTEST = 21 + 16


class Vault:
    """Seals and opens secrets under one 256-bit key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"inboxd key id" + key).digest()[:8]

    def seal(self, secret: Secret, place: str) -> bytes:
        """The ciphertext of `secret`, which opens only at `place` (for example `connection/<id>/password`).

        Invalid, naming the last part of the place, when the secret holds half a surrogate pair.
        """
        nonce = os.urandom(12)
        header = _VERSION + self._key_id
        try:
            clear = secret.reveal().encode()
        except UnicodeEncodeError:
            raise Invalid(place.rpartition("/")[2], "is not text that can be written as UTF-8") from None
        return header + nonce + self._cipher.encrypt(nonce, clear, header + place.encode())

    def open(self, sealed: bytes, place: str) -> Secret:
        """The secret sealed at `place`; SecretUnreadable when the key is another one or the bytes were changed."""
        if sealed[:1] != _VERSION or len(sealed) < _SHORTEST:
            raise SecretUnreadable(f"{place}: the stored secret has an unknown format")
        if sealed[_KEY_ID] != self._key_id:
            raise SecretUnreadable(f"{place}: the stored secret was encrypted with another vault key; restore that key")
        try:
            clear = self._cipher.decrypt(sealed[_NONCE], sealed[_SEALED], sealed[:9] + place.encode())
        except InvalidTag as error:
            raise SecretUnreadable(f"{place}: the stored secret was changed or belongs to another row") from error
        return Secret(clear.decode())


def open_vault(configured: str | None, state_dir: Path) -> Vault:
    """The vault under the configured key (base64 of 32 bytes) or the one in the state folder, made there once (0600).

    SettingsError when the configured key is not one; SecretUnreadable when the file holds none, or can be neither read
    nor made.
    """
    if configured is not None:
        key = _decode(configured.encode(errors="replace"))
        if key is None:
            raise SettingsError(["vault.key: is not base64 of 32 bytes; make one with: openssl rand -base64 32"])
        return Vault(key)
    path = state_dir / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        key = _decode(path.read_bytes())
    except OSError as error:
        raise SecretUnreadable(f"{path}: the vault key can be neither read nor made: {error.strerror}") from error
    if key is None:
        raise SecretUnreadable(f"{path}: is not base64 of 32 bytes; restore the key this store was written with")
    return Vault(key)


def _decode(text: bytes) -> bytes | None:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        return None
    return key if len(key) == 32 else None


def _make_key(path: Path) -> None:
    """Put a fresh key at `path` unless one appears there first. Nobody, whenever they look, sees half a key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.b64encode(os.urandom(32)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
