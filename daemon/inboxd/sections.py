"""The groups of settings: each key with its type, bounds, default and meaning."""

from __future__ import annotations

import base64
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from inboxd.model import Secret, Tls

_LISTEN = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_STORE_URL = re.compile(
    r"sqlite:///(?!:memory:)(?P<file>[^?]+)(?P<parameters>\?.*)?"
    r"|postgres(?:ql)?://(?:[^@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s:/?@\[\]]*)(?::(?P<port>[0-9]{1,5}))?(?:/[^?]*)?(?:\?.*)?",
    re.ASCII,
)


def host_port(listen: str) -> tuple[str, int]:
    """The host and port of a listen address, brackets of an IPv6 host removed."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _listen(value: str) -> str:
    parts = _LISTEN.fullmatch(value)
    if parts is None or int(parts["port"]) > 65535:
        raise ValueError("write it as HOST:PORT, for example 127.0.0.1:8025 or [::1]:8025")
    return value


def _store_url(value: str) -> str:
    """The URL, a SQLite file's relative path made absolute."""
    parts = _STORE_URL.fullmatch(value)
    if value and (parts is None or int(parts["port"] or 0) > 65535):
        raise ValueError("write it as sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME")
    if parts is None or parts["file"] is None:
        return value
    return f"sqlite:///{Path(parts['file']).absolute()}{parts['parameters'] or ''}"


def _vault_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        try:
            size = len(base64.b64decode(value.get_secret_value(), validate=True))
        except ValueError:
            size = -1
        if size != 32:
            raise ValueError("is not base64 of 32 bytes; make one with: openssl rand -base64 32")
    return value


def _api_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().strip():
        raise ValueError("is empty, which would let anybody in; leave it out to have no key here")
    return value


def _host_names(value: str) -> str:
    names = [name.strip() for name in value.lower().split(",") if name.strip()]
    if any(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name, re.ASCII) is None for name in names):
        raise ValueError("write host names without a port, separated by commas, for example mail.example.org")
    return ", ".join(names)


def _ispdb(value: str) -> str:
    if value and not re.fullmatch(r"https://[^\s/?#@]+/(?:[^\s?#]+/)?", value):
        raise ValueError("write it as https://HOST/FOLDER/, or leave it empty to ask nobody")
    return value


def _name_server(value: str) -> str:
    if value:
        try:
            ipaddress.ip_address(host_port(_listen(value))[0])
        except ValueError:
            raise ValueError("write it as ADDRESS:PORT, for example 127.0.0.1:53 or [::1]:53") from None
    return value


ListenAddress = Annotated[str, AfterValidator(_listen)]
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


class Section(BaseModel):
    """A group of settings: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoreSettings(Section):
    url: Annotated[str, AfterValidator(_store_url)] = Field(
        default="", description="Database URL; empty: SQLite in the state folder."
    )


class VaultSettings(Section):
    key: Annotated[SecretStr | None, AfterValidator(_vault_key)] = Field(
        default=None, description="Base64 of the 32 bytes that encrypt stored passwords."
    )
    previous_key: Annotated[SecretStr | None, AfterValidator(_vault_key)] = Field(
        default=None, description="The key before it, while what it encrypted is encrypted anew."
    )


class ApiSettings(Section):
    listen: ListenAddress = "127.0.0.1:8025"
    key: Annotated[SecretStr | None, AfterValidator(_api_key)] = Field(
        default=None, description="One API key accepted beside the created ones."
    )
    max_body_bytes: int = Field(default=50_000_000, ge=1_000, description="Largest request body accepted.")


class DashboardSettings(Section):
    hosts: Annotated[str, AfterValidator(_host_names)] = Field(
        default="", description="Names the dashboard is reached by, beside localhost and addresses."
    )

    @property
    def names(self) -> frozenset[str]:
        """The same one by one."""
        return frozenset(self.hosts.split(", "))


class ControlSettings(Section):
    socket: AbsolutePath | None = Field(default=None, description="Unix socket of inboxctl.")


class ConnectorSettings(Section):
    folder: AbsolutePath | None = Field(default=None, description="Folder of files that declare connectors.")


class MetricsSettings(Section):
    listen: ListenAddress = "127.0.0.1:9464"


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class ImapSettings(Section):
    idle_seconds: float = Field(default=240.0, gt=0, le=1740, description="IDLE is refreshed this often.")
    idle_jitter_seconds: float = Field(default=20.0, ge=0, description="Spread around idle_seconds.")
    poll_seconds: float = Field(default=60.0, gt=0, description="Interval for servers without IDLE.")
    sweep_seconds: float = Field(default=60.0, gt=0, description="Interval for a connector's other folders.")
    compare_seconds: float = Field(default=600.0, gt=0, description="Comparison where changes are not told.")
    compare_count: int = Field(default=2_000, ge=0, description="Newest mails whose flags are compared then.")
    connect_seconds: float = Field(default=15.0, gt=0, description="Deadline for name, TCP, TLS and greeting.")
    command_seconds: float = Field(default=30.0, gt=0, description="Longest silence while an answer is due.")
    done_seconds: float = Field(default=15.0, gt=0, description="Longest wait for the end of an IDLE.")
    stable_seconds: float = Field(default=300.0, ge=0, description="A session this old resets the back-off.")
    retry_first_seconds: float = Field(default=1.0, gt=0, description="First back-off after a failure.")
    retry_most_seconds: float = Field(default=600.0, gt=0, description="Longest back-off after failures.")
    max_message_bytes: int = Field(default=100_000_000, ge=1_000, description="Larger mails are kept as headers.")
    buffer_bytes: int = Field(default=4_194_304, ge=65_536, description="Received but not yet stored, a session.")
    compress: Literal["auto", "always", "never"] = Field(default="auto", description="COMPRESS=DEFLATE (RFC 4978).")
    connections: int = Field(default=3, ge=1, description="An account's at a time; a provider may allow others.")
    logins_at_once: int = Field(default=20, ge=1, description="IMAP logins under way at the same time.")
    logins_per_second: float = Field(default=50.0, ge=0, description="IMAP logins begun in a second; 0: no limit.")
    logins_per_host_second: float = Field(default=40.0, ge=0, description="The same at one host; 0: no limit.")
    logins_per_minute: int = Field(default=60, ge=0, description="The same of one account; 0: no limit.")
    bytes_per_day: int = Field(default=0, ge=0, description="Of one account; 0: as the provider allows.")


class SmtpSettings(Section):
    connect_seconds: float = Field(default=30.0, gt=0, description="Deadline for name, TCP and TLS.")
    greeting_seconds: float = Field(default=300.0, gt=0, description="Longest wait for the greeting (RFC 5321).")
    command_seconds: float = Field(default=300.0, gt=0, description="Longest wait for an answer (RFC 5321).")
    start_seconds: float = Field(default=120.0, gt=0, description="Longest wait for the answer to DATA (RFC 5321).")
    block_seconds: float = Field(default=180.0, gt=0, description="Longest wait to write 64 KiB of mail (RFC 5321).")
    data_seconds: float = Field(default=600.0, gt=0, description="Longest wait after the final dot (RFC 5321).")
    reuse_seconds: float = Field(default=20.0, ge=0, description="An idle connection is kept for the next mail.")


class OutboxSettings(Section):
    connections: int = Field(default=1, ge=1, le=50, description="SMTP connections at a time, a connector.")
    per_minute: int = Field(default=0, ge=0, description="Mails a minute, a connector; 0: as the provider allows.")
    per_day: int = Field(default=0, ge=0, description="Mails in 24 hours, a connector; 0: as the provider allows.")
    retry_first_seconds: float = Field(default=60.0, gt=0, description="First back-off of a deferred mail.")
    retry_most_seconds: float = Field(default=14_400.0, gt=0, description="Longest back-off of a deferred mail.")
    lifetime_seconds: float = Field(default=432_000.0, gt=0, le=10**9, description="Older mails fail.")
    confirm_seconds: float = Field(default=60.0, gt=0, le=3600, description="Longest wait for a first outcome.")
    unknown: Literal["hold", "resend"] = Field(default="hold", description="What becomes of unknown sends.")
    resolve_seconds: float = Field(default=900.0, ge=0, le=10**9, description="Unknown sends are looked for so long.")
    sent_copy: Literal["auto", "always", "never"] = Field(default="auto", description="Copies in the Sent mailbox.")
    copy_delay_seconds: float = Field(default=5.0, ge=0, description="Providers get so long to file their own copy.")
    copy_give_up_seconds: float = Field(default=86_400.0, gt=0, le=10**9, description="Filing is tried so long.")
    keep_keys_seconds: float = Field(default=604_800.0, gt=0, le=10**9, description="Idempotency keys live so long.")
    lease_seconds: float = Field(default=120.0, ge=1, description="A daemon that is silent so long has lost its mails.")
    stop_seconds: float = Field(default=8.0, ge=0, description="A mail on its way gets so long when the daemon stops.")


class RelaySettings(Section):
    host: str = Field(default="", description="SMTP server for sends with useFallback; empty: there is none.")
    port: int = Field(default=587, ge=1, le=65535)
    tls: Tls = Tls.STARTTLS
    username: str = ""
    password: SecretStr | None = Field(default=None, description="Secret.")

    @property
    def secret(self) -> Secret:
        """The password, for whoever logs in."""
        return Secret(self.password.get_secret_value() if self.password is not None else "")


class NetworkSettings(Section):
    allow_plaintext: bool = Field(
        default=False, description="Let passwords cross networks in clear to public addresses."
    )


def _folders(value: str) -> str:
    if any(not folder.startswith("/") for folder in value.split(":") if value):
        raise ValueError("write absolute folders, with colons between them")
    return value


class CredentialSettings(Section):
    folders: Annotated[str, AfterValidator(_folders)] = Field(
        default="", description="Folders whose files may hold connectors' passwords, with colons between them."
    )
    allow_commands: bool = Field(default=False, description="Let connectors get their passwords from commands.")
    command_seconds: float = Field(default=10.0, gt=0, le=60, description="Deadline of such a command, or file.")


class WebhookSettings(Section):
    timeout_seconds: float = Field(default=10.0, gt=0, description="Deadline of one post, from name to answer.")
    at_once: int = Field(default=50, ge=1, description="Posts under way at the same time, one for each webhook.")
    retry_first_seconds: float = Field(default=1.0, gt=0, description="First back-off after a failed post.")
    retry_most_seconds: float = Field(default=600.0, gt=0, description="Longest back-off after failed posts.")
    give_up_seconds: float = Field(default=259_200.0, ge=0, le=10**10, description="Older posts are not tried again.")
    keep_seconds: float = Field(default=604_800.0, ge=0, le=10**10, description="Results are kept this long.")
    allow_private: bool = Field(default=True, description="Post to loopback and private addresses, too.")


class DiscoverySettings(Section):
    ispdb: Annotated[str, AfterValidator(_ispdb)] = Field(
        default="https://autoconfig.thunderbird.net/v1.1/", description="Database of providers; empty: it is not asked."
    )
    name_server: Annotated[str, AfterValidator(_name_server)] = Field(
        default="", description="Name server for SRV and MX records; empty: the system's."
    )
    step_seconds: float = Field(default=5.0, gt=0, le=60, description="Deadline of each source of settings.")
    total_seconds: float = Field(default=8.0, gt=0, le=60, description="Deadline of finding settings.")
    allow_private: bool = Field(default=False, description="Ask, and find, private addresses, too.")
