"""What a user says about a mailbox, by options or by a TOML file, as one flat form, and the JSON it becomes.

One table of keys feeds both: `imap.host` is `--imap-host` on the command line and `host` under `[imap]` in the file.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from inboxd.ctl_client import BadInput, Refused, Row

Form = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])
HALVES = ("imap", "smtp")
_TLS_FLAGS = {"implicit": (True, False), "starttls": (False, True), "none": (False, False)}
_LONGEST_SECRET_BYTES = 65_536
_PORT = click.IntRange(1, 65_535)
_TLS = click.Choice(list(_TLS_FLAGS))
_FILE = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Key:
    """One thing to say about a mailbox. `wire` is MailSlurp's field for it, where there is exactly one."""

    name: str
    type: click.ParamType[Any]
    help: str
    metavar: str | None = None
    wire: str | None = None
    many: bool = False

    @property
    def flag(self) -> str:
        """The option's spelling. What is an IMAP matter alone goes without the half; one option is one of many."""
        return "--" + _SHORT.get(self.name, self.name).replace(".", "-").replace("_", "-")

    @property
    def toml_type(self) -> type:
        """What the key must hold in a TOML file."""
        if self.many or isinstance(self.type, click.types.BoolParamType):
            return list if self.many else bool
        return int if isinstance(self.type, click.IntRange) else str


_SHORT = {
    "imap.search": "search",
    "imap.folders": "folder",
    "imap.mirror": "mirror",
    "tls_protocols": "tls-protocol",
    "smtp.tls_protocols": "smtp-tls-protocol",
    "mechanisms": "mechanism",
    "smtp.mechanisms": "smtp-mechanism",
}
# What both halves have; the same behind smtp. is SMTP's alone, where it differs.
_SHARED = (
    Key(
        "password_from",
        click.STRING,
        "Where the daemon reads the password at each login: file:/path, command:program …, or credential:NAME.",
        "SOURCE",
        "passwordSource",
    ),
    Key("proxy", click.STRING, "Proxy: socks5://USER@HOST:PORT or http://USER@HOST:PORT; '' for none.", "URL"),
    Key("proxy_password_file", _FILE, "File whose one line is the password at the proxy.", "FILE"),
    Key(
        "trust",
        click.STRING,
        "Certificates to accept unverified: pins (sha256:…), host names, or * for any; '' for none.",
        "PINS",
        "sslTrust",
    ),
    Key("ca_file", click.STRING, "Authorities instead of the system's: a PEM file of the daemon's.", "PATH", "caFile"),
    Key("client_certificate", click.STRING, "Certificate to show: a PEM file there.", "PATH", "clientCertificate"),
    Key("client_key", click.STRING, "Its key, if that is another file.", "PATH", "clientKey"),
    Key(
        "tls_protocols",
        click.STRING,
        "TLS version allowed, TLSv1.2 or TLSv1.3. Repeat it for more; '' for both.",
        "VERSION",
        "sslProtocols",
        many=True,
    ),
    Key(
        "mechanisms",
        click.STRING,
        "Way to log in that may be used, e.g. PLAIN. Repeat it for more; '' for any.",
        "NAME",
        "mechanisms",
        many=True,
    ),
    Key("local_name", click.STRING, "Name the daemon gives itself (EHLO).", "HOST", "localHostName"),
)
NAME = Key("name", click.STRING, "Name of the connector.")
SYNC = Key("sync", click.BOOL, "Fetch new mail by itself.")
ENABLED = Key("enabled", click.BOOL, "Work at all.")
OAUTH = Key("oauth", click.BOOL, "Log in by OAuth2, not by a password.")
KEYS = (
    Key("email", click.STRING, "Email address of the mailbox.", "ADDRESS", "emailAddress"),
    Key("imap.host", click.STRING, "IMAP server.", "HOST", "imapHost"),
    Key("imap.port", _PORT, "Its port; by default the one of the TLS mode.", "PORT", "imapPort"),
    Key("imap.tls", _TLS, "How the connection is secured; by default what the port stands for, else implicit."),
    Key("imap.user", click.STRING, "Login name; by default the email address.", "USER", "imapUsername"),
    Key("imap.folder", click.STRING, "Folder to read; INBOX by default.", "FOLDER", "selectFolder"),
    Key(
        "imap.folders",
        click.STRING,
        "Folder to follow instead, a pattern with *, or a special use such as \\Sent; behind a - to leave it out. "
        "Repeat it for more; '' for none.",
        "FOLDER",
        "folders",
        many=True,
    ),
    Key(
        "imap.mirror",
        click.BOOL,
        "Delete here, too, what is deleted in the mailbox: true or false, the default.",
        "BOOL",
        "mirror",
    ),
    Key("imap.search", click.STRING, "Only mails an IMAP SEARCH finds, e.g. 'UNSEEN'.", "TERMS", "searchTerms"),
    Key("smtp.host", click.STRING, "SMTP server.", "HOST", "smtpHost"),
    Key("smtp.port", _PORT, "Its port; by default the one of the TLS mode.", "PORT", "smtpPort"),
    Key("smtp.tls", _TLS, "How the connection is secured; by default what the port stands for, else implicit."),
    Key("smtp.user", click.STRING, "Login name; by default the one of IMAP.", "USER", "smtpUsername"),
    Key("interval", click.IntRange(1), "Minutes between the safety-net syncs beside IDLE.", "MINUTES", "syncInterval"),
    Key("password_file", _FILE, "File whose one line is the password.", "FILE"),
    Key("smtp.password_file", _FILE, "The same for SMTP, when its password is another one.", "FILE"),
    *_SHARED,
    *(replace(key, name=f"smtp.{key.name}", help=f"The same for SMTP: {key.help}") for key in _SHARED),
)
_OF_BOTH = frozenset(key.name for key in _SHARED)
_PROXY = re.compile(
    r"(?P<scheme>socks5h?|http)://(?:(?P<user>[^:@/]+)@)?(?P<host>\[[^\]]+\]|[^:@/]+)(?::(?P<port>\d{1,5}))?/?"
)
_PATH = re.compile(r"\bcreateConnector\w*Options\.")
_WORDS = {key.wire: key.flag for key in reversed(KEYS) if key.wire} | {
    "proxyHost": "--proxy",
    "proxyPort": "--proxy",
    "proxyUsername": "--proxy",
    "proxyPassword": "--proxy-password-file",
    "smtpMechanisms": "--smtp-mechanism",
    "imapSsl": "--imap-tls",
    "smtpSsl": "--smtp-tls",
    "startTls": "TLS",
    "imapPassword": "the IMAP password",
    "smtpPassword": "the SMTP password",
}
_FIELD = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_KEY_OF = {key.wire: key.name for key in reversed(KEYS) if key.wire} | {
    "imapSsl": "imap.tls",
    "smtpSsl": "smtp.tls",
}
_WIRE = re.compile(rf"\b({'|'.join(_KEY_OF)})\b")
_IN_FILE = {key.name: key for key in (NAME, ENABLED, OAUTH, SYNC, *KEYS)}
_NEVER_IN_FILE = frozenset({"password", "imap.password", "smtp.password"})


def account_options(command: F) -> F:
    """Decorates a command with an option for each key; the command gets them as `given`, to be put into `form`."""
    for key in reversed(KEYS):
        name = key.name.replace(".", "__")
        option = click.option(key.flag, name, type=key.type, metavar=key.metavar, help=key.help, multiple=key.many)
        command = option(command)
    command = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")(command)
    return click.option("--file", "toml", type=_FILE, metavar="FILE", help="Read all this from a TOML file.")(command)


def form(given: Form, toml: Path | None) -> Form:
    """The file's keys with the options laid over them; only what was said is in it."""
    options = {name.replace("__", "."): value for name, value in given.items() if value is not None and value != ()}
    many = [key.name for key in KEYS if key.many and key.name in options]
    options |= {name: _listed(options[name]) for name in many}
    return (read_toml(toml) if toml is not None else {}) | options


def _listed(values: Iterable[str]) -> list[str]:
    """What was given more than once; an empty text stands for none."""
    return [value for value in values if value]


def read_toml(path: Path) -> Form:
    """The form in a connector file; BadInput names the first key that is unknown or holds the wrong thing."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"{path}: is not TOML: {error}") from error
    filled: Form = {}
    for name, value in _flattened(document):
        key = _IN_FILE.get(name)
        if name in _NEVER_IN_FILE:
            raise BadInput(f"{path}: {name}: a password never stands here; name the file that holds it: password_file")
        if key is None:
            raise BadInput(f"{path}: there is no key {name!r}; known are {', '.join(_IN_FILE)}")
        filled[name] = _checked(path, key, value)
    return filled


def _flattened(document: Row) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if name in HALVES and isinstance(value, dict):
            section = cast("dict[str, Any]", value)
            yield from ((f"{name}.{inner}", each) for inner, each in section.items())
        else:
            yield name, value


def _checked(path: Path, key: Key, value: Any) -> Any:
    entries: list[Any] = value if key.many and type(value) is key.toml_type else []
    if type(value) is not key.toml_type or any(type(entry) is not str for entry in entries):
        raise BadInput(f"{path}: {key.name} must be {_TOML_WORDS[key.toml_type]}")
    if key.many:
        return _listed(entries)
    try:
        converted = key.type.convert(value, None, None)
    except click.BadParameter as error:
        raise BadInput(f"{path}: {key.name}: {error.message}") from error
    return path.parent / converted.expanduser() if isinstance(converted, Path) else converted


_TOML_WORDS = {
    bool: "true or false",
    int: "a whole number",
    str: "text in quotes",
    list: "a list of texts, in brackets",
}


def connection_json(filled: Form, half: str) -> Row:
    """What the form says about one half's connection, in MailSlurp's fields, without the password."""
    body = {key.wire: filled[key.name] for key in KEYS if key.wire and key.name in filled and _is_of(key, half)}
    if half == "smtp" and "mechanisms" in body:
        body["smtpMechanisms"] = body.pop("mechanisms")
    body |= _proxy_json(filled, half)
    if (tls := filled.get(f"{half}.tls")) is not None:
        body |= tls_flags(half, tls)
    return {str(field): value for field, value in body.items()}


def _proxy_json(filled: Form, half: str) -> Row:
    """The proxy's fields; BadInput for a URL that is none, or that holds a password, which everybody would see."""
    url: str | None = filled.get(f"{half}.proxy", filled.get("proxy"))
    if url is None:
        return {}
    if not url:
        return {"proxyHost": "", "proxyEnabled": False}
    parts = _PROXY.fullmatch(url)
    if parts is None:
        raise BadInput("write the proxy as socks5://USER@HOST:PORT or http://USER@HOST:PORT; its password into a file")
    host = ("http://" if parts["scheme"] == "http" else "") + parts["host"]
    body: Row = {"proxyHost": host, "proxyUsername": parts["user"] or "", "proxyEnabled": True}
    if parts["port"]:
        body["proxyPort"] = int(parts["port"])
    if (file := filled.get(f"{half}.proxy_password_file", filled.get("proxy_password_file"))) is not None:
        body["proxyPassword"] = read_secret(file)
    return body


def new_connection_json(filled: Form, half: str, login: str | None, passwords: Passwords | None) -> Row:
    """The whole of a new connection: as `connection_json`, with login and password, which is not asked for where the
    daemon is to read it, or there are no `passwords`. The daemon knows the defaults.
    """
    body = {f"{half}Username": login} | connection_json(filled, half)
    if not body[f"{half}Username"]:
        raise BadInput(f"who logs in? give --{half}-user or --email")
    secret = {} if passwords is None or body.get("passwordSource") else {f"{half}Password": passwords.of(half)}
    return body | secret | {"enabled": True}


def sync_json(minutes: int | None, *, enabled: bool = True) -> Row:
    """Automatic sync, at least every so many minutes."""
    return {"syncEnabled": enabled, "syncScheduleType": "INTERVAL", "syncInterval": minutes}


@contextmanager
def in_options() -> Generator[None]:
    """What the daemon refuses in the block is told by the options the user typed instead of the wire's fields."""
    try:
        yield
    except Refused as error:
        raise type(error)(as_options(error.message)) from error


def as_keys(message: str) -> str:
    """A message with `createConnectorImapConnectionOptions.imapHost` and `imapHost` as `imap.host`, the file's key."""
    return _WIRE.sub(lambda field: _KEY_OF[field[0]], _PATH.sub("", message))


def as_options(message: str) -> str:
    """A message with `createConnectorImapConnectionOptions.imapHost` and `imapHost` as `--imap-host`."""
    return _FIELD.sub(lambda field: _WORDS[field[0]], _PATH.sub("", message))


def tls_flags(half: str, mode: str) -> Row:
    """A TLS mode as MailSlurp's two booleans."""
    ssl, starttls = _TLS_FLAGS[mode]
    return {f"{half}Ssl": ssl, "startTls": starttls}


def tls_mode(row: Row, half: str) -> str:
    """MailSlurp's two booleans as words for people."""
    if row.get(f"{half}Ssl") and row.get("startTls"):
        return "implicit TLS" if row.get(f"{half}Port") in (465, 993) else "STARTTLS"
    if row.get(f"{half}Ssl"):
        return "implicit TLS"
    return "STARTTLS" if row.get("startTls") else "no TLS"


def _is_of(key: Key, half: str) -> bool:
    return key.name in _OF_BOTH or key.name.startswith(f"{half}.")


class Passwords:
    """Where the passwords of one call come from. Each source is read once and only when its password is asked for."""

    def __init__(self, filled: Form, *, stdin: bool, prompt: bool, ask: bool = True) -> None:
        self._ask = ask
        self._file: Path | None = filled.get("password_file")
        self._smtp_file: Path | None = filled.get("smtp.password_file")
        if stdin and self._file is not None:
            raise BadInput("give one of --password-file and --password-stdin")
        self._stdin = stdin
        self._prompt = prompt
        self._account: str | None = None

    @property
    def named(self) -> bool:
        """Whether the user named a source for the account's password."""
        return self._stdin or self._prompt or self._file is not None

    @property
    def smtp_named(self) -> bool:
        """Whether SMTP was given a password of its own."""
        return self._smtp_file is not None

    def of(self, half: str) -> str:
        """The password of that half; BadInput when there is none to be had."""
        if half == "smtp" and self._smtp_file is not None:
            return read_secret(self._smtp_file)
        if self._account is None:
            self._account = self._read_account()
        return self._account

    def _read_account(self) -> str:
        if not self._ask and self._file is None:
            raise BadInput("where is the password? name the file that holds it: password_file")
        if self._file is not None:
            return read_secret(self._file)
        if self._stdin:
            return _one_line(sys.stdin.buffer.read(_LONGEST_SECRET_BYTES), "standard input")
        if not sys.stdin.isatty():
            raise BadInput(
                "this needs the password: give --password-file or --password-stdin, or be asked on a terminal"
            )
        return click.prompt("Password", hide_input=True, err=True)


def read_secret(path: Path) -> str:
    """The one line of a secret's file; BadInput when it holds none, or more."""
    try:
        with path.open("rb") as file:
            return _one_line(file.read(_LONGEST_SECRET_BYTES), str(path))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def _one_line(content: bytes, source: str) -> str:
    try:
        secret = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadInput(f"{source}: the password is not UTF-8") from None
    if not secret:
        raise BadInput(f"{source}: holds no password")
    if any(sign in secret for sign in "\r\n\0"):
        raise BadInput(f"{source}: a password is one line, and this holds more")
    return secret
