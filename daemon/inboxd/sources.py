"""Passwords that are kept outside: in a file, behind a command, or among systemd's credentials.

A source is written `file:/path`, `command:program argument…` or `credential:NAME`. It is read anew for every login, so
a password that is changed outside counts from the next one on. Whoever may have connectors could otherwise have any
file of this machine sent to a server of theirs, or any program run: files count only in `credentials.folders`, commands
only with `credentials.allow_commands`, and of the credentials never the daemon's own, named `inboxd.…`.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import re
import shlex
import signal
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from inboxd import logs
from inboxd.errors import AuthRefused, CredentialFailed, CredentialRefused, Invalid, PasswordStale
from inboxd.model import Account, Secret
from inboxd.sections import CredentialSettings

_MOST_BYTES: Final = 65_536
_MOST_WORDS: Final = 300
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,254}", re.ASCII)
_OWN: Final = "inboxd."
_ENVIRONMENT: Final = "INBOXD_"  # settings, with their secrets
_log = logs.logger("sources")


async def with_password(account: Account, rules: CredentialSettings) -> Account:
    """The account with the password its source holds now; as it is without a source.

    CredentialFailed when the source cannot be read for now; CredentialRefused when only a person can mend it.
    """
    if account.password_source is None:
        return account
    kind, rest = _parted(account.password_source)
    try:
        async with asyncio.timeout(rules.command_seconds):
            content = await _READERS[kind](rest, rules)
    except TimeoutError as error:
        raise CredentialFailed("credential", f"the {kind} gave no password in {rules.command_seconds:g} s") from error
    return replace(account, password=_first_line(content, kind))


def stale(account: Account, error: AuthRefused) -> AuthRefused:
    """What a refused login means: a password from outside may be changed any moment, so it is worth another try."""
    if account.password_source is None:
        return error
    kind = account.password_source.partition(":")[0]
    message = f"{error}; the password came from the {kind} named, which is read again for the next try"
    again = PasswordStale(error.stage, message)
    again.reply = error.reply
    return again


def check(source: str, rules: CredentialSettings) -> None:
    """Return when the settings allow such a source; else Invalid, naming passwordSource. It is not read."""
    try:
        kind, rest = _parted(source)
        _CHECKS[kind](rest, rules)
    except CredentialRefused as error:
        raise Invalid("passwordSource", str(error)) from error


def _parted(source: str) -> tuple[str, str]:
    kind, _, rest = source.partition(":")
    if kind not in _READERS or not rest.strip() or not rest.isprintable():
        raise CredentialRefused(
            "credential", "a source of passwords is written file:/path, command:program argument… or credential:NAME"
        )
    return kind, rest


def _first_line(content: bytes, kind: str) -> Secret:
    """The password: the first line, without its end."""
    line = content.partition(b"\n")[0].removesuffix(b"\r")
    try:
        password = line.decode()
    except UnicodeDecodeError:
        password = ""
    if not password or "\0" in password:
        raise CredentialFailed("credential", f"the {kind} holds no password: its first line must be one, in UTF-8")
    return Secret(password)


# --- files and credentials --------------------------------------------------------------------------------------------


def _check_file(path: str, rules: CredentialSettings) -> Path:
    """The real path; CredentialRefused when no folder of the settings holds it, whatever links lead there."""
    if not path.startswith("/"):
        raise CredentialRefused("credential", "file: wants an absolute path on the daemon's machine")
    real = Path(os.path.realpath(path))  # Path.resolve raises where links go in a circle
    folders = [Path(os.path.realpath(folder)) for folder in rules.folders.split(":") if folder]
    if not any(folder in real.parents for folder in folders) or _is_own(real):
        raise CredentialRefused(
            "credential", "the file is in none of the folders that the setting credentials.folders names"
        )
    return real


def _is_own(real: Path) -> bool:
    """Whether it is one of the daemon's own secrets."""
    return real.name.startswith(_OWN) or real.name == "vault.key"


async def _read_file(path: str, rules: CredentialSettings) -> bytes:
    return await asyncio.to_thread(lambda: _content(_check_file(path, rules), "file"))


def _check_credential(name: str, _rules: CredentialSettings) -> Path:
    if not _NAME.fullmatch(name) or name.startswith(_OWN):
        raise CredentialRefused(
            "credential",
            f"credential: wants the name of one of the service's credentials; those of {_OWN}… are its own",
        )
    return Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), name)


async def _read_credential(name: str, rules: CredentialSettings) -> bytes:
    path = _check_credential(name, rules)
    if not path.is_absolute():
        raise CredentialRefused("credential", "the service has no credentials: name one with LoadCredential=")
    return await asyncio.to_thread(_content, path, "credential")


def _content(path: Path, kind: str) -> bytes:
    """Up to 64 KiB of a regular file: a pipe or a device would keep the reader waiting."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise CredentialRefused("credential", f"the {kind} is no ordinary file")
            if found.st_mode & stat.S_IROTH:
                _log.warning("password_readable_by_all", path=str(path))
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CredentialFailed("credential", f"the {kind} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise CredentialFailed("credential", f"the {kind} is larger than {_MOST_BYTES} bytes")
    return content


# --- commands ---------------------------------------------------------------------------------------------------------


def _check_command(command: str, rules: CredentialSettings) -> list[str]:
    if not rules.allow_commands:
        raise CredentialRefused("credential", "commands are off: the operator may set credentials.allow_commands")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CredentialRefused("credential", f"the command cannot be read: {error}") from error
    if not words or not words[0].startswith("/"):
        raise CredentialRefused("credential", "command: wants the absolute path of a program, then its arguments")
    return words


async def _read_command(command: str, rules: CredentialSettings) -> bytes:
    """What the program prints. Whatever happens, none of its processes outlives this, unless it left its session.

    It prints into memory of a fixed size, not into pipes: nobody has to drain those of a program that hangs, and one
    that goes on printing meets an error.
    """
    words = _check_command(command, rules)
    with _room() as printed, _room() as complaint:
        status = await _run(words, printed.fileno(), complaint.fileno())
        content = _written(printed)
        if len(content) > _MOST_BYTES:
            raise CredentialFailed("credential", f"the command printed more than {_MOST_BYTES} bytes")
        if status != 0:
            said = _printable(_written(complaint))
            raise CredentialFailed("credential", f"the command failed with status {status}{': ' if said else ''}{said}")
        return content


async def _run(words: list[str], stdout: int, stderr: int) -> int:
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={name: value for name, value in os.environ.items() if not name.startswith(_ENVIRONMENT)},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialFailed("credential", f"the command cannot be run: {error.strerror}") from error
    try:
        return await process.wait()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _room() -> io.FileIO:
    """A file in memory that cannot grow, somewhat larger than what may be printed."""
    file = io.FileIO(os.memfd_create("password", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+")
    file.truncate(4 * _MOST_BYTES)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return file


def _written(file: io.FileIO) -> bytes:
    file.seek(0)
    return file.readall().rstrip(b"\0")


def _printable(complaint: bytes) -> str:
    text = " ".join(complaint.decode(errors="replace").split())
    return "".join(sign if sign.isprintable() else "?" for sign in text[-_MOST_WORDS:])


_READERS: Final[dict[str, Callable[[str, CredentialSettings], Awaitable[bytes]]]] = {
    "file": _read_file,
    "command": _read_command,
    "credential": _read_credential,
}
_CHECKS: Final[dict[str, Callable[[str, CredentialSettings], object]]] = {
    "file": _check_file,
    "command": _check_command,
    "credential": _check_credential,
}
