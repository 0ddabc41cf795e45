"""The only reader of the environment, the TOML file and the credentials directory.

Precedence: environment `INBOXD_<SECTION>__<KEY>`, then systemd credentials (file `inboxd.<section>.<key>` in
`$CREDENTIALS_DIRECTORY`), then the TOML file, then the defaults below. Unknown keys are refused by name. The result is
frozen: it is read once and handed on in parts.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnusableSource

from inboxd.errors import SettingsError

PREFIX = "INBOXD_"
DEMO_VARIABLE = "INBOXD_DEMO_SECONDS"


_LISTEN = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>[0-9]{1,5})", re.ASCII
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


ListenAddress = Annotated[str, AfterValidator(_listen)]


class Section(BaseModel):
    """A group of settings: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoreSettings(Section):
    url: str = Field(default="", description="Database URL; empty: SQLite in the state folder.")


class VaultSettings(Section):
    key: Annotated[SecretStr | None, AfterValidator(_vault_key)] = Field(
        default=None, description="Base64 of the 32 bytes that encrypt stored passwords."
    )


class ApiSettings(Section):
    listen: ListenAddress = "127.0.0.1:8025"
    key: Annotated[SecretStr | None, AfterValidator(_api_key)] = Field(
        default=None, description="One API key accepted beside the created ones."
    )
    max_body_bytes: int = Field(default=50_000_000, ge=1_000, description="Largest request body accepted.")


class ControlSettings(Section):
    socket: Path | None = Field(default=None, description="Unix socket of inboxctl.")


class MetricsSettings(Section):
    listen: ListenAddress = "127.0.0.1:9464"


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class ImapSettings(Section):
    idle_seconds: float = Field(default=240.0, gt=0, le=1740, description="IDLE is refreshed this often.")
    idle_jitter_seconds: float = Field(default=20.0, ge=0, description="Spread around idle_seconds.")
    poll_seconds: float = Field(default=60.0, gt=0, description="Interval for servers without IDLE.")
    connect_seconds: float = Field(default=15.0, gt=0, description="Deadline for name, TCP, TLS and greeting.")
    command_seconds: float = Field(default=30.0, gt=0, description="Longest silence while an answer is due.")
    done_seconds: float = Field(default=15.0, gt=0, description="Longest wait for the end of an IDLE.")
    stable_seconds: float = Field(default=300.0, ge=0, description="A session this old resets the back-off.")
    retry_first_seconds: float = Field(default=1.0, gt=0, description="First back-off after a failure.")
    retry_most_seconds: float = Field(default=600.0, gt=0, description="Longest back-off after failures.")
    max_message_bytes: int = Field(default=100_000_000, ge=1_000, description="Larger mails are kept as headers.")
    buffer_bytes: int = Field(default=33_554_432, ge=65_536, description="Received but not yet stored, a session.")
    logins_at_once: int = Field(default=20, ge=1, description="IMAP logins under way at the same time.")


class SmtpSettings(Section):
    connect_seconds: float = Field(default=30.0, gt=0, description="Deadline for name, TCP, TLS and greeting.")
    command_seconds: float = Field(default=300.0, gt=0, description="Longest wait for an answer (RFC 5321).")
    data_seconds: float = Field(default=600.0, gt=0, description="Longest wait after the final dot (RFC 5321).")


class NetworkSettings(Section):
    allow_plaintext: bool = Field(
        default=False, description="Let passwords cross networks in clear to public addresses."
    )


def _default_state_dir() -> Path:
    if granted := os.environ.get("STATE_DIRECTORY"):
        return Path(granted.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local" / "state") / "inboxd"
    except RuntimeError as error:
        raise SettingsError(["state_dir: is not set and this user has no home folder; set it"]) from error


class Settings(BaseSettings):
    """Everything an operator can set. Field names are the TOML keys and, upper-cased, the variables' names."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    state_dir: Path = Field(default_factory=_default_state_dir)
    store: StoreSettings = StoreSettings()
    vault: VaultSettings = VaultSettings()
    api: ApiSettings = ApiSettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    imap: ImapSettings = ImapSettings()
    smtp: SmtpSettings = SmtpSettings()
    network: NetworkSettings = NetworkSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 the framework names the four
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first; what `load` hands in (credentials over the file) below it. No dotenv."""
        return (env_settings, init_settings)

    @property
    def store_url(self) -> str:
        """The database URL in force."""
        return self.store.url or f"sqlite:///{self.state_dir / 'inboxd.db'}"

    @property
    def control_socket(self) -> Path:
        """The control socket's path in force."""
        if self.control.socket is not None:
            return self.control.socket
        granted = os.environ.get("RUNTIME_DIRECTORY")
        return (Path(granted.split(":")[0]) if granted else self.state_dir) / "control.sock"


def load(config: Path | None = None) -> Settings:
    """The settings in force, or SettingsError with one line per mistake."""
    unknown = list(_unknown_variables(os.environ))
    lines = [f"{name}: no such setting; `inboxd check-config` lists them all" for name in unknown]
    values: dict[str, Any] = {}
    try:
        values = _read_toml(config) if config is not None else {}
        lines += [f"{name}: no such setting" for name in values if name not in Settings.model_fields]
        values = {name: value for name, value in values.items() if name in Settings.model_fields}
        for section, key, value in _credentials():
            if isinstance(section_values := values.setdefault(section, {}), dict):
                section_values[key] = value
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError([*lines, *_lines(error, {name.upper() for name in unknown})]) from None
    except UnusableSource as error:
        raise SettingsError([*lines, str(error)]) from None
    except SettingsError as error:
        raise SettingsError([*lines, *error.lines]) from error
    if lines:
        raise SettingsError(lines)
    return settings


def in_force(settings: Settings) -> str:
    """The settings as TOML, secrets masked, defaults resolved."""
    values = settings.model_dump(mode="json")
    values["store"]["url"] = mask_url(settings.store_url)
    values["control"]["socket"] = str(settings.control_socket)
    top = [f"state_dir = {_toml(str(settings.state_dir))}"]
    for name, section in values.items():
        if isinstance(section, dict):
            top += ["", f"[{name}]", *_section_lines(cast("dict[str, Any]", section))]
    return "\n".join(top)


def mask_url(url: str) -> str:
    """A database URL without its password, be it before the host or among the parameters."""
    url = re.sub(r"(?i)([?&][^=&]*password=)[^&]*", r"\1***", url)
    scheme, mark, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{user.split(':')[0]}:***@{place}" if at and ":" in user else url


def _section_lines(section: dict[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        if value is None:
            yield f"# {key} is not set"
        else:
            yield f"{key} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: is not TOML: {error}"]) from error


def _credentials() -> Iterator[tuple[str, str, str]]:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        return
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 Path.glob would take a folder it may not read for an empty one
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError([f"credentials directory {folder}: cannot be read: {error.strerror}"]) from error
    for name in names:
        prefix, *place = name.split(".", 2)
        if prefix == "inboxd" and len(place) == 2:
            yield place[0], place[1], _read_credential(Path(folder, name))


def _read_credential(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"credential {file.name}: cannot be read as text"]) from error


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    known = {f"{PREFIX}{name}".upper() for name in variable_names()} | {DEMO_VARIABLE}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            yield name


def variable_names() -> Iterator[str]:
    """Every setting as it is spelt in the environment, without the prefix: `STATE_DIR`, `API__LISTEN`, …"""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield name.upper()
            for key in section.model_fields:
                yield f"{name}__{key}".upper()
        else:
            yield name.upper()


def _lines(error: ValidationError, refused: set[str]) -> Iterator[str]:
    """One line a mistake, except for the variables refused already."""
    for mistake in error.errors(include_input=False, include_url=False):
        if PREFIX + "__".join(str(part) for part in mistake["loc"]).upper() in refused:
            continue
        where = ".".join(str(part) for part in mistake["loc"]) or "settings"
        what = "no such setting" if mistake["type"] == "extra_forbidden" else mistake["msg"]
        yield f"{where}: {what.removeprefix('Value error, ')}"
