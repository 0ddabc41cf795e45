"""A real Dovecot on random loopback ports, run as an ordinary user (`nobody` when the tests run as root)."""

from __future__ import annotations

import base64
import grp
import hashlib
import imaplib
import itertools
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any, cast

import pytest

from servers import LOOPBACK, Listener, await_listener, free_port
from servers.certs import Certificate, Certificates
from servers.dovecot_config import (
    CAPPED_HOST,
    CONFIG,
    EXPIRED_HOST,
    NO_TLS_HOST,
    OAUTH2,
    PASSDB,
    STRICT_HOST,
    WRONG_NAME_HOST,
)

LOG_LINES = 60
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"


@dataclass(frozen=True, slots=True)
class User:
    """A fresh account. `home` holds its Maildir."""

    name: str
    password: str
    home: Path


class Dovecot:
    """A Dovecot whose users, mail and ports stay the same over `stop` and `start`.

    `starttls` offers STARTTLS and takes plain logins too; `tls` is implicit TLS; `no_tls` never offers STARTTLS;
    `strict` refuses a login before STARTTLS; `capped` has room for two connections of a user; `expired` and
    `wrong_name` are implicit TLS with a bad certificate. Whom a token is for it asks at `oauth_port`.
    `more` is configuration of a test's own; `$ca` is the authority's file.
    """

    def __init__(self, base: Path, certificates: Certificates, *, more: str = "") -> None:
        self.base = base
        self.log_file = base / "dovecot.log"
        self._config = base / "dovecot.conf"
        self._passwords = base / "passwords"
        self._numbers = itertools.count(1)
        self._owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._master: subprocess.Popen[bytes] | None = None
        plain_port, tls_port = free_port(), free_port()
        self.oauth_port = free_port()
        self.starttls = Listener(LOOPBACK, plain_port)
        self.no_tls = Listener(NO_TLS_HOST, plain_port)
        self.strict = Listener(STRICT_HOST, plain_port)
        self.capped = Listener(CAPPED_HOST, plain_port)
        self.tls = Listener(LOOPBACK, tls_port)
        self.expired = Listener(EXPIRED_HOST, tls_port)
        self.wrong_name = Listener(WRONG_NAME_HOST, tls_port)
        self._lay_out(certificates, more)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._master is not None and self._master.poll() is None

    @property
    def log(self) -> str:
        """Everything Dovecot logged."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Run it, on the same ports and mail as before; returns when it answers."""
        self._master = subprocess.Popen(
            [*self._become_owner(), "dovecot", "-F", "-c", str(self._config)],
            env={"PATH": PATH},
            cwd=self.base,
            start_new_session=True,
        )
        try:
            await_listener(self.starttls)
            await_listener(self.tls)
        except TimeoutError as error:
            self.stop(kill=True)
            raise RuntimeError(f"Dovecot did not start:\n{self.log}") from error

    def stop(self, *, kill: bool = False) -> None:
        """End it with a BYE to every client, or without one (`kill`); returns when its ports are free."""
        master, self._master = self._master, None
        if master is None:
            return
        if not kill:
            master.terminate()
            with suppress(subprocess.TimeoutExpired):
                master.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(master.pid, signal.SIGKILL)
        master.wait(10)
        _await_silence(self.tls)
        _await_silence(self.starttls)

    def restart(self, *, kill: bool = False) -> None:
        """Stop and start."""
        self.stop(kill=kill)
        self.start()

    def user(self, name: str = "user", password: str = "correct horse") -> User:
        """A new account with an empty mailbox; `name` gets a number to make it unique. Any password will do."""
        unique = f"{name}{next(self._numbers)}@example.test"
        return self.set_password(User(unique, password, self.base / "mail" / _md5(unique)), password)

    def set_password(self, user: User, password: str) -> User:
        """The same account under a new password."""
        file = self._passwords / _md5(user.name)
        file.write_text(json.dumps({"password": f"{{PLAIN}}{password}"}, ensure_ascii=False), encoding="utf-8")
        self._own(file)
        return User(user.name, password, user.home)

    @contextmanager
    def session(self, user: User) -> Generator[imaplib.IMAP4]:
        """A logged-in client, independent of the code under test."""
        client = imaplib.IMAP4(self.starttls.host, self.starttls.port, timeout=30)
        try:
            client.authenticate("PLAIN", lambda _: f"\0{user.name}\0{user.password}".encode())
            yield client
        finally:
            with suppress(imaplib.IMAP4.error, OSError):
                client.logout()
            with suppress(OSError):
                client.shutdown()

    def append(
        self,
        user: User,
        raw: bytes,
        mailbox: str = "INBOX",
        flags: Iterable[str] = (),
        date: datetime | None = None,
    ) -> int:
        """File a mail by APPEND; the server makes CRLF of bare line ends. Returns its UID."""
        with self.session(user) as client:
            client.literal = raw  # type: ignore[attr-defined]  # IMAP4.append rewrites line ends; this does not
            when = imaplib.Time2Internaldate(date) if date else None
            command = cast("Any", client)._simple_command
            _, reply = _accepted(command("APPEND", quoted(mailbox), f"({' '.join(flags)})", when))
        match = re.search(rb"APPENDUID \d+ (\d+)", reply[0])
        assert match, reply
        return int(match[1])

    def bulk_load(self, user: User, messages: Iterable[bytes], mailbox: str = "INBOX") -> int:
        """Write Maildir files directly, UIDs in the order given; bare LF becomes CRLF when read. Returns how many."""
        folder = user.home / "Maildir" / ("" if mailbox == "INBOX" else f".{mailbox.replace('/', '.')}")
        for name in ("cur", "new", "tmp"):
            self._make_folder(folder / name)
        start = time.time_ns() // 1000
        count = 0
        for count, raw in enumerate(messages, 1):
            seconds, micros = divmod(start + count, 1_000_000)
            exact = f",W={len(raw)}" if raw.count(b"\n") == raw.count(b"\r\n") else ""
            name = f"{seconds}.M{micros:06}P{os.getpid()}.tests,S={len(raw)}{exact}"
            (folder / "tmp" / name).write_bytes(raw)
            self._own(folder / "tmp" / name)
            (folder / "tmp" / name).rename(folder / "new" / name)
        return count

    def fetch_all(self, user: User, mailbox: str = "INBOX") -> dict[int, bytes]:
        """What the server holds: each UID's bytes as another client reads them."""
        found: dict[int, bytes] = {}
        with self.session(user) as client:
            _accepted(client.select(quoted(mailbox), readonly=True))
            _, (uids, *_) = _accepted(client.uid("SEARCH", "ALL"))
            for batch in _batches(cast("bytes", uids).decode().split(), 200):
                _, parts = _accepted(client.uid("FETCH", ",".join(batch), "(UID BODY.PEEK[])"))
                found.update(_bodies(parts))
        return found

    def uidvalidity(self, user: User, mailbox: str = "INBOX") -> int:
        """The mailbox's UIDVALIDITY."""
        with self.session(user) as client:
            _, reply = _accepted(client.status(quoted(mailbox), "(UIDVALIDITY)"))
        match = re.search(rb"UIDVALIDITY (\d+)", reply[0])
        assert match, reply
        return int(match[1])

    def renumber(self, user: User, mailbox: str = "INBOX") -> None:
        """Lose the UIDs, as a restored backup does: same mails, new UIDVALIDITY, UIDs from 1."""
        before = self.uidvalidity(user, mailbox)
        self.doveadm("kick", user.name, check=False)
        folder = user.home / "Maildir" / ("" if mailbox == "INBOX" else f".{mailbox.replace('/', '.')}")
        for pattern in ("dovecot-uidlist", "dovecot.index*"):
            for file in folder.glob(pattern):
                file.unlink(missing_ok=True)
        self.doveadm("mailbox", "update", "-u", user.name, "--uid-validity", str(before + 1), mailbox)

    def expunge(self, user: User, *uids: int, mailbox: str = "INBOX") -> None:
        """Remove mails as another client would."""
        self.doveadm("expunge", "-u", user.name, "mailbox", mailbox, "uid", ",".join(map(str, uids)))

    def kick(self, user: User) -> None:
        """End the user's sessions."""
        self.doveadm("kick", user.name)

    def doveadm(self, *arguments: str, check: bool = True) -> str:
        """What `doveadm` with these arguments printed; CalledProcessError when it failed and `check` is on."""
        done = subprocess.run(
            [*self._become_owner(), "doveadm", "-c", str(self._config), *arguments],
            env={"PATH": PATH},
            cwd=self.base,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"doveadm {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def _lay_out(self, certificates: Certificates, more: str) -> None:
        self._make_folder(self.base)
        values = {
            "base": self.base,
            "user": self._owner.pw_name,
            "group": grp.getgrgid(self._owner.pw_gid).gr_name,
            "uid": self._owner.pw_uid,
            "gid": self._owner.pw_gid,
            "no_tls_host": NO_TLS_HOST,
            "strict_host": STRICT_HOST,
            "expired_host": EXPIRED_HOST,
            "wrong_name_host": WRONG_NAME_HOST,
            "capped_host": CAPPED_HOST,
            "plain_hosts": " ".join((LOOPBACK, NO_TLS_HOST, STRICT_HOST, CAPPED_HOST)),
            "tls_hosts": " ".join((LOOPBACK, EXPIRED_HOST, WRONG_NAME_HOST)),
            "plain_port": self.starttls.port,
            "tls_port": self.tls.port,
            "ca": shutil.copyfile(certificates.ca_file, self.base / "ca.pem"),
            "oauth_port": self.oauth_port,
            **self._copy("good", certificates.good),
            **self._copy("expired", certificates.expired),
            **self._copy("wrong_name", certificates.wrong_name),
        }
        self._config.write_text(Template(CONFIG.template + more).substitute(values), encoding="utf-8")
        (self.base / "passdb.conf").write_text(PASSDB.substitute(values), encoding="utf-8")
        (self.base / "oauth2.conf").write_text(OAUTH2.substitute(values), encoding="utf-8")
        for folder in (self.base / "run", self.base / "state", self.base / "mail", self._passwords):
            self._make_folder(folder)
        for file in self.base.iterdir():
            self._own(file)

    def _copy(self, name: str, certificate: Certificate) -> dict[str, Path]:
        chain, key = self.base / f"{name}.pem", self.base / f"{name}.key"
        shutil.copyfile(certificate.chain, chain)
        shutil.copyfile(certificate.key, key)
        return {f"{name}_chain": chain, f"{name}_key": key}

    def _become_owner(self) -> list[str]:
        death = ["setpriv", "--pdeathsig=KILL"]
        if os.getuid() != 0:
            return death
        return [*death, f"--reuid={self._owner.pw_uid}", f"--regid={self._owner.pw_gid}", "--clear-groups"]

    def _make_folder(self, path: Path) -> None:
        if not path.exists():
            if not path.parent.exists():
                self._make_folder(path.parent)
            path.mkdir()
        self._own(path)

    def _own(self, path: Path) -> None:
        if os.getuid() == 0:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)


def quoted(mailbox: str) -> str:
    """A mailbox name as a quoted string in modified UTF-7 (RFC 3501 §5.1.3)."""

    def shifted(run: re.Match[str]) -> str:
        return "&" + base64.b64encode(run[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"

    encoded = re.sub(r"[^\x20-\x7e]+", shifted, mailbox.replace("&", "&-"))
    return '"' + encoded.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _md5(name: str) -> str:
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def _accepted(reply: tuple[str, Any]) -> tuple[str, list[Any]]:
    assert reply[0] == "OK", reply
    return reply


def _batches(uids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(uids), size):
        yield uids[start : start + size]


def _bodies(parts: list[Any]) -> Iterator[tuple[int, bytes]]:
    for part in parts:
        if isinstance(part, tuple):
            head, body = cast("tuple[bytes, bytes]", part)
            match = re.search(rb"UID (\d+)", head)
            assert match, head
            yield int(match[1]), body


def _await_silence(listener: Listener, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((listener.host, listener.port), timeout=1).close()
        except ConnectionRefusedError:
            return
        except OSError:
            continue
        time.sleep(0.01)
    raise TimeoutError(f"{listener.host}:{listener.port} still answers")


@pytest.fixture(scope="session")
def dovecot_session(certificates: Certificates) -> Generator[Dovecot]:
    """The one Dovecot of the run; `dovecot` hands it out running."""
    with dovecot_of_its_own(certificates) as server:
        yield server


@contextmanager
def dovecot_of_its_own(certificates: Certificates, *, more: str = "") -> Generator[Dovecot]:
    """A running Dovecot with configuration that the shared one cannot have; it takes half a second to start."""
    # In /tmp whatever TMPDIR says: Unix socket paths are short, and the owner must be able to get there.
    base = Path(tempfile.mkdtemp(prefix="inboxd-dovecot-", dir="/tmp"))
    server = Dovecot(base, certificates, more=more)
    try:
        server.start()
        yield server
    finally:
        server.stop(kill=True)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def dovecot(dovecot_session: Dovecot) -> Dovecot:
    """The running Dovecot, started again if the test before stopped it."""
    if not dovecot_session.running:
        dovecot_session.start()
    return dovecot_session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failed test that used Dovecot with the end of Dovecot's log."""
    report = yield
    server = getattr(item, "funcargs", {}).get("dovecot")
    if report.failed and isinstance(server, Dovecot):
        report.sections.append(("Dovecot log", "\n".join(server.log.splitlines()[-LOG_LINES:])))
    return report
