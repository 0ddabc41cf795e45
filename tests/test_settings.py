"""Settings: where they come from, which source wins, what is refused and in which words, what is shown."""

from __future__ import annotations

import base64
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from inboxd.errors import SettingsError
from inboxd.sections import host_port
from inboxd.settings import Settings, in_force, load, mask_url, variable_names

KEY = base64.b64encode(bytes(range(32))).decode()
WriteToml = Callable[[str], Path]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine the tests run on reaches the settings."""
    for name in list(os.environ):
        if name.upper().startswith("INBOXD_") or name in {
            "STATE_DIRECTORY",
            "RUNTIME_DIRECTORY",
            "CREDENTIALS_DIRECTORY",
            "XDG_STATE_HOME",
        }:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def write_toml(tmp_path: Path) -> WriteToml:
    def write(text: str) -> Path:
        path = tmp_path / "inboxd.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def mistakes(config: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(config)
    return caught.value.lines


def test_defaults_alone_are_enough(tmp_path: Path) -> None:
    settings = load()
    assert settings.api.listen == "127.0.0.1:8025"
    assert settings.metrics.listen == "127.0.0.1:9464"
    assert settings.api.key is None
    assert settings.state_dir == tmp_path / "home/.local/state/inboxd"
    assert settings.control_socket == settings.state_dir / "control.sock"
    assert settings.store_url == f"sqlite:///{settings.state_dir}/inboxd.db"


def test_file_overrides_defaults(write_toml: WriteToml) -> None:
    settings = load(write_toml('state_dir = "/srv/inboxd"\n[imap]\nidle_seconds = 120\n'))
    assert settings.state_dir == Path("/srv/inboxd")
    assert settings.imap.idle_seconds == 120.0
    assert settings.imap.poll_seconds == 60.0


def test_credential_overrides_file(write_toml: WriteToml, credentials: Path) -> None:
    (credentials / "inboxd.api.key").write_text("from-credential\n", encoding="utf-8")
    settings = load(write_toml('[api]\nkey = "from-file"\nlisten = "127.0.0.1:1"\n'))
    assert settings.api.key is not None
    assert settings.api.key.get_secret_value() == "from-credential"
    assert settings.api.listen == "127.0.0.1:1"


def test_environment_overrides_credential(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (credentials / "inboxd.api.key").write_text("from-credential", encoding="utf-8")
    monkeypatch.setenv("INBOXD_API__KEY", "from-environment")
    settings = load()
    assert settings.api.key is not None
    assert settings.api.key.get_secret_value() == "from-environment"


def test_environment_overrides_file_key_by_key(write_toml: WriteToml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_IMAP__POLL_SECONDS", "5")
    monkeypatch.setenv("INBOXD_STATE_DIR", "/elsewhere")
    settings = load(write_toml('state_dir = "/srv"\n[imap]\npoll_seconds = 30\nidle_seconds = 120\n'))
    assert (settings.imap.poll_seconds, settings.imap.idle_seconds) == (5.0, 120.0)
    assert settings.state_dir == Path("/elsewhere")


def test_foreign_credentials_are_left_alone(credentials: Path) -> None:
    (credentials / "other.service.key").write_text("x", encoding="utf-8")
    (credentials / "inboxd.vault.key").write_text(KEY + "\n", encoding="utf-8")
    settings = load()
    assert settings.vault.key is not None
    assert settings.vault.key.get_secret_value() == KEY


def test_credential_of_no_setting_is_refused_by_name(credentials: Path) -> None:
    (credentials / "inboxd.api.token").write_text("x", encoding="utf-8")
    assert mistakes() == ["credential inboxd.api.token: no such setting"]


@pytest.mark.parametrize(
    "name",
    ["inboxd.nope", "inboxd.state_dir", "inboxd.api", "inboxd.api.", "inboxd.", "inboxd..", "inboxd.api.key.old"],
)
def test_credential_with_too_few_or_too_many_parts_is_refused_by_name(credentials: Path, name: str) -> None:
    (credentials / name).write_text("x", encoding="utf-8")
    (credentials / "inboxd.api.key").write_text("k", encoding="utf-8")
    assert mistakes() == [f"credential {name}: no such setting"]


def test_credential_that_is_no_text_is_named(credentials: Path) -> None:
    (credentials / "inboxd.api.key").write_bytes(b"\xff\xfe\x00")
    assert mistakes() == ["credential inboxd.api.key: cannot be read as text"]


def test_credentials_directory_that_is_gone_holds_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "gone"))
    assert load().vault.key is None


def test_unreadable_credentials_directory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Taken for empty, it would have a new vault key made beside the one that was meant."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "file"))
    assert mistakes() == [f"credentials directory {tmp_path}/file: cannot be read: Not a directory"]


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ('colour = "red"', "colour: no such setting"),
        ("[imapp]\nidle_seconds = 1", "imapp: no such setting"),
        ("[imap]\nidle = 1", "imap.idle: no such setting"),
        ("_case_sensitive = true", "_case_sensitive: no such setting"),
    ],
)
def test_unknown_key_in_file_is_refused_by_name(write_toml: WriteToml, toml: str, line: str) -> None:
    assert mistakes(write_toml(toml)) == [line]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("INBOXD_API__LISTENS", "did you mean INBOXD_API__LISTEN?"),
        ("INBOXD_STATEDIR", "did you mean INBOXD_STATE_DIR?"),
        ("inboxd_api_listen", "did you mean INBOXD_API__LISTEN?"),
        ("INBOXD_IDLE_SECONDS", "did you mean INBOXD_IMAP__IDLE_SECONDS?"),
        ("INBOXD_CONNECT_SECONDS", "config/README.md lists them all"),
        ("INBOXD_LISTEN", "config/README.md lists them all"),
        ("INBOXD_APIS", "config/README.md lists them all"),
        ("INBOXD_COLOUR", "config/README.md lists them all"),
    ],
)
def test_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, advice: str) -> None:
    monkeypatch.setenv(name, "x")
    assert mistakes() == [f"{name}: no such setting; {advice}"]


def test_every_variable_name_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INBOXD_DEMO_SECONDS", "5")
    values = {
        "STATE_DIR": str(tmp_path),
        "VAULT__KEY": KEY,
        "VAULT__PREVIOUS_KEY": KEY,
        "LOG__LEVEL": "error",
        "LOG__FORMAT": "console",
    }
    values |= {"STORE__URL": "sqlite:////srv/mail.db", "OUTBOX__UNKNOWN": "resend", "OUTBOX__SENT_COPY": "never"}
    values |= {"OUTBOX__CONNECTIONS": "2", "RELAY__PORT": "465", "RELAY__TLS": "implicit", "IMAP__COMPRESS": "never"}
    values |= {"DISCOVERY__ISPDB": "https://mirror.example/v1.1/", "DISCOVERY__NAME_SERVER": "[::1]:53"}
    values |= {"CREDENTIALS__FOLDERS": "/srv/a:/srv/b"}
    leaves = [name for name in variable_names() if "__" in name or name == "STATE_DIR"]
    for name in leaves:
        default = "127.0.0.1:1" if name.endswith("LISTEN") else "true" if "__ALLOW_" in name else "65536"
        if name.endswith("_SECONDS"):
            default = "3"
        monkeypatch.setenv(f"INBOXD_{name}", values.get(name, default))
    settings = load()
    assert settings.imap.idle_seconds == 3.0
    assert settings.network.allow_plaintext is True
    assert len(leaves) > 25


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ispdb", "http://mirror.example/", "write it as https://HOST/FOLDER/"),
        ("ispdb", "https://a:b@mirror.example/", "write it as https://HOST/FOLDER/"),
        ("ispdb", "https://mirror.example/v1.1", "write it as https://HOST/FOLDER/"),
        ("name_server", "9.9.9.9", "write it as ADDRESS:PORT"),
        ("name_server", "dns.example:53", "write it as ADDRESS:PORT"),
    ],
)
def test_where_discovery_asks_is_written_in_one_way(write_toml: WriteToml, key: str, value: str, words: str) -> None:
    (line,) = mistakes(write_toml(f'[discovery]\n{key} = "{value}"\n'))
    assert line.startswith(f"discovery.{key}: {words}")


def test_each_mistake_has_its_own_line(write_toml: WriteToml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_NONSENSE", "1")
    sections = '[api]\nlisten = "nowhere"\nmax_body_bytes = 1\n[log]\nlevel = "loud"\n[imap]\npoll_seconds = inf\n'
    lines = mistakes(write_toml("colour = 1\n" + sections))
    assert [line.split(":")[0] for line in lines] == [
        "INBOXD_NONSENSE",
        "colour",
        "api.listen",
        "api.max_body_bytes",
        "log.level",
        "imap.poll_seconds",
    ]
    assert all("\n" not in line for line in lines)


def test_section_given_as_a_value_is_one_line(write_toml: WriteToml, credentials: Path) -> None:
    (credentials / "inboxd.api.key").write_text("k", encoding="utf-8")
    assert mistakes(write_toml('api = "127.0.0.1:8025"')) == ["api: is a section: write [api] with keys below it"]


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("state_dir = 5", "state_dir: must be a path, in quotes"),
        ("[control]\nsocket = []", "control.socket: must be a path, in quotes"),
        ("[api]\nlisten = 8025", "api.listen: must be text, in quotes"),
        ("[api]\nkey = 12345", "api.key: must be text, in quotes"),
        ('[api]\nmax_body_bytes = "much"', "api.max_body_bytes: must be a whole number"),
        ("[api]\nmax_body_bytes = []", "api.max_body_bytes: must be a whole number"),
        ("[api]\nmax_body_bytes = 1000.5", "api.max_body_bytes: must be a whole number"),
        (f'[api]\nmax_body_bytes = "{"9" * 5000}"', "api.max_body_bytes: must be a whole number of fewer digits"),
        ("[api]\nmax_body_bytes = 999", "api.max_body_bytes: must be at least 1000"),
        ('[imap]\nidle_seconds = "four"', "imap.idle_seconds: must be a number"),
        ("[imap.idle_seconds]\nx = 1", "imap.idle_seconds: must be a number"),
        ("[imap]\nidle_seconds = 0", "imap.idle_seconds: must be more than 0"),
        ("[imap]\nidle_seconds = 1741", "imap.idle_seconds: must be at most 1740"),
        ("[imap]\nidle_seconds = nan", "imap.idle_seconds: must be a finite number"),
        ('[log]\nlevel = "loud"', "log.level: must be one of 'debug', 'info', 'warning' or 'error'"),
        ('[relay]\ntls = "maybe"', "relay.tls: must be one of 'implicit', 'starttls' or 'none'"),
        ('[network]\nallow_plaintext = "maybe"', "network.allow_plaintext: must be true or false"),
        ("[network]\nallow_plaintext = []", "network.allow_plaintext: must be true or false"),
    ],
)
def test_mistake_is_told_in_plain_words(write_toml: WriteToml, toml: str, line: str) -> None:
    assert mistakes(write_toml(toml)) == [line]


def test_missing_file_says_so(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path / "absent.toml")
    assert line == f"{tmp_path}/absent.toml: cannot be read: No such file or directory"


@pytest.mark.parametrize("content", [b"[api\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_broken_toml_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    (line,) = mistakes(path)
    assert line.startswith(f"{path}: is not TOML: ")


def test_half_json_section_variable_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_API", '{"key": "hunter2"')
    assert mistakes() == ["api: INBOXD_API is not JSON; set its keys one by one: INBOXD_API__ and the key's name"]


@pytest.mark.parametrize("key", ["short", "c2hvcnQ=", "€" * 44, KEY[:-1], KEY + "!", ""])
def test_bad_vault_key_says_what_would_do_and_never_shows_it(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("INBOXD_VAULT__KEY", key)
    assert mistakes() == ["vault.key: is not base64 of 32 bytes; make one with: openssl rand -base64 32"]


@pytest.mark.parametrize("key", ["", "  "])
def test_empty_api_key_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("INBOXD_API__KEY", key)
    (line,) = mistakes()
    assert line.startswith("api.key: is empty")


@pytest.mark.parametrize(
    ("listen", "parts"),
    [
        ("127.0.0.1:8025", ("127.0.0.1", 8025)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("mail.example.org:65535", ("mail.example.org", 65535)),
        ("[::1]:8025", ("::1", 8025)),
        ("[::]:80", ("::", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_listen_forms(monkeypatch: pytest.MonkeyPatch, listen: str, parts: tuple[str, int]) -> None:
    monkeypatch.setenv("INBOXD_API__LISTEN", listen)
    assert host_port(load().api.listen) == parts


@pytest.mark.parametrize(
    "listen",
    ["", "8025", ":8025", "localhost", "localhost:", "::1:8025", "[::1]", "[::1", "h:65536", "h:٣", "h:-1", "h x:1"],
)
def test_bad_listen_says_how_to_write_it(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("INBOXD_METRICS__LISTEN", listen)
    assert mistakes() == ["metrics.listen: write it as HOST:PORT, for example 127.0.0.1:8025 or [::1]:8025"]


def test_state_and_runtime_directories_of_the_service_are_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state:{tmp_path}/second")
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/run:{tmp_path}/second")
    settings = load()
    assert settings.state_dir == tmp_path / "state"
    assert settings.control_socket == tmp_path / "run/control.sock"


def test_explicit_places_win_over_the_service_directories(
    monkeypatch: pytest.MonkeyPatch, write_toml: WriteToml
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/inboxd")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/inboxd")
    settings = load(write_toml('state_dir = "/a"\n[control]\nsocket = "/b/c.sock"\n[store]\nurl = "sqlite:////d.db"\n'))
    assert settings.state_dir == Path("/a")
    assert settings.control_socket == Path("/b/c.sock")
    assert settings.store_url == "sqlite:////d.db"


def test_relative_places_start_at_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, write_toml: WriteToml, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(
        write_toml('state_dir = "state"\n[control]\nsocket = "c.sock"\n[store]\nurl = "sqlite:///mail.db"\n')
    )
    assert settings.state_dir == tmp_path / "state"
    assert settings.control_socket == tmp_path / "c.sock"
    assert settings.store_url == f"sqlite:///{tmp_path}/mail.db"
    assert tomllib.loads(in_force(settings))["state_dir"] == f"{tmp_path}/state"
    monkeypatch.setenv("XDG_STATE_HOME", "xdg")
    assert load().state_dir == tmp_path / "xdg/inboxd"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite:////var/lib/inboxd/mail.db",
        "sqlite:////srv/a.db?timeout=3",
        "postgresql://u:hunter2@db.example.org:5432/inboxd",
        "postgres://u:hunt/er2@[2001:db8::1]:5432/inboxd",
        "postgresql://inboxd@/mail?host=/run/postgresql",
    ],
)
def test_store_urls_of_both_databases_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("INBOXD_STORE__URL", url)
    assert load().store.url == url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@y/z",
        "inboxd.db",
        "sqlite://",
        "sqlite://inboxd.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:////a.db",
        "postgresql:/h/d",
        "postgresql://u:hunter2@h:port/d",
        "postgresql://h:65536/d",
    ],
)
def test_store_url_that_run_could_not_use_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("INBOXD_STORE__URL", url)
    assert mistakes() == ["store.url: write it as sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME"]


def test_state_home_of_the_desktop_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert load().state_dir == Path("/xdg/inboxd")


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.api.listen = "x:1"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="frozen"):
        settings.state_dir = Path("/")  # pyright: ignore[reportAttributeAccessIssue]


def test_in_force_masks_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_VAULT__KEY", KEY)
    monkeypatch.setenv("INBOXD_API__KEY", "hunter2-api")
    monkeypatch.setenv("INBOXD_STORE__URL", "postgresql://inboxd:hunter2-db@db.example.org:5432/inboxd")
    settings = load()
    shown = in_force(settings)
    for secret in (KEY, "hunter2-api", "hunter2-db"):
        assert secret not in shown
        assert secret not in repr(settings)[: repr(settings).find("store=")]
    assert "postgresql://inboxd:***@db.example.org:5432/inboxd" in shown


def test_in_force_is_toml_with_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INBOXD_STATE_DIR", f'{tmp_path}/a "quoted"\tfolder\\')
    settings = load()
    shown = in_force(settings)
    values = tomllib.loads(shown)
    assert values["state_dir"] == str(settings.state_dir)
    assert values["control"]["socket"] == str(settings.control_socket)
    assert values["store"]["url"] == settings.store_url
    for name in variable_names():
        if "__" in name:
            section, key = name.lower().split("__")
            assert key in values[section] or f"# {key} is not set" in shown, name


def test_in_force_loads_again(write_toml: WriteToml) -> None:
    settings = load()
    assert in_force(load(write_toml(in_force(settings)))) == in_force(settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/inboxd/inboxd.db", "sqlite:////var/lib/inboxd/inboxd.db"),
        ("postgresql://u:p@ss@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d?user=u&password=p%40ss", "postgresql://h/d?user=u&password=***"),
        ("postgresql://h/d?sslpassword=x&a=b", "postgresql://h/d?sslpassword=***&a=b"),
    ],
)
def test_database_url_is_shown_without_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_no_home_folder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container run under a number nobody is called: no HOME, no passwd entry."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert mistakes() == ["state_dir: is not set and this user has no home folder; set it"]
    monkeypatch.setenv("INBOXD_STATE_DIR", "/srv/inboxd")
    assert load().state_dir == Path("/srv/inboxd")


def test_names_of_sections_and_settings_are_unique() -> None:
    names = list(variable_names())
    assert len(names) == len(set(names))
    assert set(Settings.model_fields) == {name.lower() for name in names if "__" not in name}
