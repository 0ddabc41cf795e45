"""The only reader of the environment, the TOML file and the credentials directory.

Precedence: environment `INBOXD_<SECTION>__<KEY>`, then systemd credentials (file `inboxd.<section>.<key>` in
`$CREDENTIALS_DIRECTORY`), then the TOML file, then the defaults below. Unknown keys are refused by name. The result is
frozen: it is read once and handed on in parts.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, cast

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnusableSource

from inboxd.errors import SettingsError
from inboxd.sections import (
    AbsolutePath,
    ApiSettings,
    ConnectorSettings,
    ControlSettings,
    CredentialSettings,
    DashboardSettings,
    DiscoverySettings,
    ImapSettings,
    LogSettings,
    MetricsSettings,
    NetworkSettings,
    OutboxSettings,
    RelaySettings,
    Section,
    SmtpSettings,
    StoreSettings,
    VaultSettings,
    WebhookSettings,
)

PREFIX = "INBOXD_"
DEMO_VARIABLE = "INBOXD_DEMO_SECONDS"

_CREDENTIAL = "inboxd."
# How alike a name must be to what was written, of 1, to be suggested.
_ALIKE = 0.85
# How pydantic-settings names what it could not decode.
_FIELD = re.compile(r'.*field "(\w+)".*')

# What pydantic found wrong, by its error type, in words for whoever writes the configuration.
_WORDS = {
    "extra_forbidden": "no such setting",
    "model_type": "is a section: write [{key}] with keys below it",
    "path_type": "must be a path, in quotes",
    "string_type": "must be text, in quotes",
    "literal_error": "must be one of {expected}",
    "enum": "must be one of {expected}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "value_error": "{error}",
}


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

    state_dir: AbsolutePath = Field(default_factory=_default_state_dir, validate_default=True)
    store: StoreSettings = StoreSettings()
    vault: VaultSettings = VaultSettings()
    api: ApiSettings = ApiSettings()
    dashboard: DashboardSettings = DashboardSettings()
    control: ControlSettings = ControlSettings()
    connectors: ConnectorSettings = ConnectorSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    imap: ImapSettings = ImapSettings()
    smtp: SmtpSettings = SmtpSettings()
    outbox: OutboxSettings = OutboxSettings()
    relay: RelaySettings = RelaySettings()
    network: NetworkSettings = NetworkSettings()
    webhooks: WebhookSettings = WebhookSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    credentials: CredentialSettings = CredentialSettings()

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
    lines = [f"{name}: no such setting; {_advice(name)}" for name in unknown]
    values: dict[str, Any] = {}
    try:
        values = _read_toml(config) if config is not None else {}
        lines += [f"{name}: no such setting" for name in values if name not in Settings.model_fields]
        values = {name: value for name, value in values.items() if name in Settings.model_fields}
        _add_folder(values, config)
        lines += _add_credentials(values)
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError([*lines, *_lines(error, {name.upper() for name in unknown})]) from None
    except UnusableSource as error:
        raise SettingsError([*lines, _FIELD.sub(_not_json, str(error))]) from None
    except SettingsError as error:
        raise SettingsError([*lines, *error.lines]) from error
    if lines:
        raise SettingsError(lines)
    return settings


def _add_folder(values: dict[str, Any], config: Path | None) -> None:
    """A folder `connectors.d` beside the file is the one to read, unless the file names another."""
    beside = config.absolute().parent / "connectors.d" if config is not None else None
    section = values.setdefault("connectors", {})
    if beside is not None and beside.is_dir() and isinstance(section, dict):
        cast("dict[str, Any]", section).setdefault("folder", beside)


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


def _add_credentials(values: dict[str, Any]) -> Iterator[str]:
    """Lay the credentials over `values`; one line for each that is no setting."""
    for file in _credentials():
        section, _, key = file.name.removeprefix(_CREDENTIAL).partition(".")
        if f"{section}__{key}".upper() not in variable_names():
            yield f"credential {file.name}: no such setting"
        elif isinstance(section_values := values.setdefault(section, {}), dict):
            section_values[key] = _read_credential(file)


def _credentials() -> list[Path]:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        return []
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 Path.glob would take a folder it may not read for an empty one
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError([f"credentials directory {folder}: cannot be read: {error.strerror}"]) from error
    return [Path(folder, name) for name in names if name.startswith(_CREDENTIAL)]


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


def _advice(variable: str) -> str:
    """The one setting that is spelt much like `variable`, or where all of them are."""
    known = [PREFIX + name for name in variable_names() if name.lower() not in _sections()]
    (best, nearest), (second, _) = sorted(
        ((SequenceMatcher(None, variable.upper(), one).ratio(), one) for one in known), reverse=True
    )[:2]
    return f"did you mean {nearest}?" if best >= _ALIKE and best > second else "config/README.md lists them all"


def variable_names() -> Iterator[str]:
    """Every setting as it is spelt in the environment, without the prefix: `STATE_DIR`, `API__LISTEN`, …"""
    sections = _sections()
    for name in Settings.model_fields:
        yield name.upper()
        for key in sections[name].model_fields if name in sections else ():
            yield f"{name}__{key}".upper()


def _sections() -> dict[str, type[Section]]:
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _not_json(found: re.Match[str]) -> str:
    variable = f"{PREFIX}{found[1]}".upper()
    return f"{found[1]}: {variable} is not JSON; set its keys one by one: {variable}__ and the key's name"


def _lines(error: ValidationError, refused: set[str]) -> Iterator[str]:
    """One line a mistake, except for the variables refused already."""
    for mistake in error.errors(include_input=False, include_url=False):
        place = [str(part) for part in mistake["loc"]] or ["settings"]
        if PREFIX + "__".join(place).upper() in refused:
            continue
        words = _WORDS.get(mistake["type"], "cannot be used")
        yield f"{'.'.join(place)}: {words.format(key=place[-1], **mistake.get('ctx', {}))}"
