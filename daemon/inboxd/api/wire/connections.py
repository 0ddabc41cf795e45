"""ConnectorController: IMAP and SMTP connections."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr
from pydantic.alias_generators import to_camel

from inboxd.api.wire.search_terms import check_terms
from inboxd.api.wire.shapes import Answer, Date, Host, Line, Port, Request, Sparse, host_name, one_line
from inboxd.api.wire.wishes import Wish
from inboxd.certificates import PREFIX, pin_in
from inboxd.imap.choosing import problem_of
from inboxd.model import Connection, Kind, ProxyKind, Secret, Step, Tls

MOST_FOLDERS = 1_000
MECHANISMS = ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "CRAM-MD5")
PROTOCOLS = ("TLSv1.2", "TLSv1.3")
_SCHEMES = {"socks5": ProxyKind.SOCKS5, "socks5h": ProxyKind.SOCKS5, "http": ProxyKind.HTTP}
_MASK = re.compile(r"[*•]*")


def _password(given: SecretStr) -> SecretStr:
    one_line(given.get_secret_value())
    return given


def _mechanisms(names: list[str]) -> list[str]:
    upper = [name.upper() for name in names]
    if any(name not in MECHANISMS for name in upper):
        raise ValueError(f"use any of {', '.join(MECHANISMS)}")
    return upper


def _protocols(names: list[str]) -> list[str]:
    if any(name not in PROTOCOLS for name in names):
        raise ValueError(f"use any of {', '.join(PROTOCOLS)}")
    return names


def _trust(text: str) -> str:
    entries = [entry for entry in re.split(r"[,\s]+", text) if entry]
    pins = [entry for entry in entries if entry.lower().startswith(PREFIX)]
    if pins and len(pins) < len(entries):
        raise ValueError("pins stand alone: beside * or a host name they would mean nothing")
    if pins:
        return ",".join(pin_in(pin) for pin in pins)
    if any(not re.fullmatch(r"\*|[\w.:\[\]-]{1,253}", host) for host in entries):
        raise ValueError("use *, host names or pins (sha256:…) separated by commas")
    return "*" if "*" in entries else ",".join(entries)


def _hello_name(text: str) -> str:
    """The name said in EHLO: ASCII; empty for the machine's own."""
    if not text.isascii():
        raise ValueError("use ASCII; write international names in their xn-- form")
    return host_name(text) if text else text


def _folder(key: str) -> str:
    if (problem := problem_of(key)) is not None:
        raise ValueError(problem)
    return key


def _proxy_host(text: str) -> str:
    """A host name, for SOCKS5 as it is, with http:// before it for HTTP's CONNECT; empty for no proxy."""
    scheme, mark, host = text.rpartition("://")
    if not text:
        return text
    if mark and scheme.lower() not in _SCHEMES:
        raise ValueError("write the proxy's host name, for HTTP CONNECT with http:// before it")
    return ("http://" if scheme.lower() == "http" else "") + host_name(host)


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("must be an absolute path on the daemon's machine")
    return text


Password = Annotated[SecretStr, AfterValidator(_password), Field(max_length=65_536)]
HelloName = Annotated[str, AfterValidator(_hello_name)]
Mechanisms = Annotated[
    list[str],
    AfterValidator(_mechanisms),
    Field(json_schema_extra={"items": {"type": "string", "enum": list(MECHANISMS)}}),
]
Protocols = Annotated[
    list[str],
    AfterValidator(_protocols),
    Field(json_schema_extra={"items": {"type": "string", "enum": list(PROTOCOLS)}}),
]
Trust = Annotated[Line, AfterValidator(_trust)]
ProxyHost = Annotated[Line, AfterValidator(_proxy_host)]
LocalPath = Annotated[Line, AfterValidator(_path)]
SearchKeys = Annotated[Line, AfterValidator(check_terms)]
Folders = Annotated[list[Annotated[Line, AfterValidator(_folder)]], Field(max_length=MOST_FOLDERS)]


class ConnectionOptions(Request):
    """The fields IMAP and SMTP spell alike. From `proxyUsername` on MailSlurp does not have them.

    Those that name something on the daemon's machine are taken over its control socket alone.
    """

    enabled: bool | None = None
    start_tls: bool | None = None
    local_host_name: HelloName | None = None
    proxy_host: ProxyHost | None = None
    proxy_port: Port | None = None
    proxy_enabled: bool | None = None
    ssl_trust: Trust | None = None
    ssl_protocols: Protocols | None = None
    proxy_username: Line | None = None
    proxy_password: Password | None = None
    ca_file: LocalPath | None = None
    client_certificate: LocalPath | None = None
    client_key: LocalPath | None = None
    password_source: Line | None = None

    def local_fields(self) -> tuple[str, ...]:
        """What was given that only the control socket may give."""
        return tuple(to_camel(name) for name in _LOCAL if getattr(self, name) is not None)

    def _way(self) -> dict[str, Any]:
        """What of a wish IMAP and SMTP spell alike."""
        kind, host = None, self.proxy_host
        if host:
            scheme, _, host = host.rpartition("://")
            kind = _SCHEMES.get(scheme, ProxyKind.SOCKS5)
        return {
            "enabled": self.enabled,
            "start_tls": self.start_tls,
            "local_host_name": self.local_host_name,
            "ssl_trust": self.ssl_trust,
            "ssl_protocols": self.ssl_protocols,
            "ca_file": self.ca_file,
            "client_certificate": self.client_certificate,
            "client_key": self.client_key,
            "password_source": self.password_source,
            "proxy_enabled": self.proxy_enabled,
            "proxy_kind": kind,
            "proxy_host": host,
            "proxy_port": self.proxy_port,
            "proxy_username": self.proxy_username,
            "proxy_password": _secret(self.proxy_password),
        }


_LOCAL = ("ca_file", "client_certificate", "client_key", "password_source")


class CreateConnectorImapConnectionOptions(ConnectionOptions):
    """MailSlurp has neither `folders`, the mailboxes to follow instead of `selectFolder`, nor `mirror`: whether a mail
    that is deleted in the external mailbox is deleted here, too.
    """

    imap_host: Host | None = None
    imap_port: Port | None = None
    imap_ssl: bool | None = None
    imap_username: Line | None = None
    imap_password: Password | None = None
    select_folder: Line | None = None
    search_terms: SearchKeys | None = None
    folders: Folders | None = None
    mirror: bool | None = None
    mechanisms: Mechanisms | None = None

    def wish(self) -> Wish:
        """What it asks for."""
        return Wish(
            kind=Kind.IMAP,
            host=self.imap_host,
            port=self.imap_port,
            ssl=self.imap_ssl,
            username=self.imap_username,
            password=_secret(self.imap_password),
            mechanisms=self.mechanisms,
            select_folder=self.select_folder,
            search_terms=self.search_terms,
            folders=self.folders,
            mirror=self.mirror,
            **self._way(),
        )


class CreateConnectorSmtpConnectionOptions(ConnectionOptions):
    smtp_host: Host | None = None
    smtp_port: Port | None = None
    smtp_ssl: bool | None = None
    smtp_username: Line | None = None
    smtp_password: Password | None = None
    smtp_mechanisms: Mechanisms | None = None

    def wish(self) -> Wish:
        """What it asks for."""
        return Wish(
            kind=Kind.SMTP,
            host=self.smtp_host,
            port=self.smtp_port,
            ssl=self.smtp_ssl,
            username=self.smtp_username,
            password=_secret(self.smtp_password),
            mechanisms=self.smtp_mechanisms,
            **self._way(),
        )


def _secret(given: SecretStr | None) -> Secret | None:
    """The password, or None when there is none or only the mask a form shows in its place."""
    if given is None or _MASK.fullmatch(given.get_secret_value()):
        return None
    return Secret(given.get_secret_value())


def _way_of(connection: Connection) -> dict[str, Any]:
    """What MailSlurp calls the proxy, and the fields it does not have."""
    before = "http://" if connection.proxy_kind is ProxyKind.HTTP else ""
    return {
        "proxy_host": before + connection.proxy_host if connection.proxy_host else None,
        "proxy_port": connection.proxy_port,
        "proxy_enabled": connection.proxy_enabled,
        "proxy_username": connection.proxy_username,
        "ca_file": connection.ca_file,
        "client_certificate": connection.client_certificate,
        "client_key": connection.client_key,
        "password_source": connection.password_source,
    }


class ConnectorImapConnectionDto(Answer):
    """A stored IMAP connection; its password never leaves."""

    id: UUID
    connector_id: UUID
    imap_host: str
    imap_port: int
    imap_username: str | None
    imap_password: None = None
    imap_ssl: bool
    select_folder: str | None
    search_terms: str | None
    folders: list[str]
    mirror: bool
    start_tls: bool
    proxy_host: str | None = None
    proxy_port: int | None = None
    proxy_enabled: bool = False
    proxy_username: str | None = None
    proxy_password: None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    password_source: str | None = None
    local_host_name: str | None
    mechanisms: list[str]
    ssl_protocols: list[str]
    ssl_trust: str | None
    enabled: bool
    created_at: Date

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """The wire form of an IMAP connection."""
        return cls(
            id=connection.id,
            connector_id=connection.connector_id,
            imap_host=connection.host,
            imap_port=connection.port,
            imap_username=connection.username,
            imap_ssl=connection.tls is Tls.IMPLICIT,
            select_folder=connection.select_folder,
            search_terms=connection.search_terms,
            folders=list(connection.folders),
            mirror=connection.mirror,
            start_tls=connection.tls is Tls.STARTTLS,
            local_host_name=connection.local_host_name,
            mechanisms=list(connection.mechanisms),
            ssl_protocols=list(connection.ssl_protocols),
            ssl_trust=connection.ssl_trust,
            enabled=connection.enabled,
            created_at=connection.created_at,
            **_way_of(connection),
        )


class ConnectorSmtpConnectionDto(Answer):
    """A stored SMTP connection; its password never leaves."""

    id: UUID
    connector_id: UUID
    smtp_host: str
    smtp_port: int
    smtp_username: str | None
    smtp_password: None = None
    smtp_ssl: bool
    start_tls: bool
    smtp_mechanisms: list[str]
    local_host_name: str | None
    proxy_host: str | None = None
    proxy_port: int | None = None
    proxy_enabled: bool = False
    proxy_username: str | None = None
    proxy_password: None = None
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    password_source: str | None = None
    ssl_protocols: list[str]
    ssl_trust: str | None
    enabled: bool
    created_at: Date

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """The wire form of an SMTP connection."""
        return cls(
            id=connection.id,
            connector_id=connection.connector_id,
            smtp_host=connection.host,
            smtp_port=connection.port,
            smtp_username=connection.username,
            smtp_ssl=connection.tls is Tls.IMPLICIT,
            start_tls=connection.tls is Tls.STARTTLS,
            smtp_mechanisms=list(connection.mechanisms),
            local_host_name=connection.local_host_name,
            ssl_protocols=list(connection.ssl_protocols),
            ssl_trust=connection.ssl_trust,
            enabled=connection.enabled,
            created_at=connection.created_at,
            **_way_of(connection),
        )


class OptionalConnectorImapConnectionDto(Sparse):
    present: bool
    result: ConnectorImapConnectionDto | None = None


class OptionalConnectorSmtpConnectionDto(Sparse):
    present: bool
    result: ConnectorSmtpConnectionDto | None = None


class ConnectionTestResult(Answer):
    """How a staged test went; `error` is set exactly when it failed."""

    success: bool
    error: str | None = None
    message: str | None = None
    logs: list[str]

    @classmethod
    def of(cls, steps: list[Step], logs: list[str]) -> Self:
        """The summary of all steps; the first failed one gives the error."""
        failed = next((step for step in steps if not step.ok), None)
        summary = ", ".join(
            f"{step.name} {step.detail if step.ok else 'failed'} {step.seconds:.2f} s" for step in steps
        )
        error = None
        if failed is not None:
            error = f"{failed.name}: {failed.detail}; likely cause: {failed.cause}; what to do: {failed.fix}"
        return cls(success=bool(steps) and failed is None, error=error, message=summary or None, logs=logs)


class ConnectorImapConnectionTestResult(ConnectionTestResult):
    pass


class ConnectorSmtpConnectionTestResult(ConnectionTestResult):
    pass
