"""What is shipped beside the code says nothing the code does not do: configuration, unit, documentation."""

from __future__ import annotations

import enum
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr

from inboxd import cli, ctl, providers
from inboxd.connector_files import declaration
from inboxd.ctl_account import KEYS, read_toml
from inboxd.sections import Section
from inboxd.settings import Settings, load, variable_names
from shipped import ROOT, code_lines, commands_in, links_in, markdown_files, mistake_in, slugs_of, table

EXAMPLE = ROOT / "config" / "inboxd.toml"
UNIT = ROOT / "systemd" / "inboxd.service"
CONNECTORS = sorted((ROOT / "config" / "connectors").glob("*.toml"))
PROGRAMS = {"inboxd": cli.command, "inboxctl": ctl.cli}
NO_FIXED_DEFAULT = {
    "state_dir",
    "store.url",
    "vault.key",
    "vault.previous_key",
    "api.key",
    "control.socket",
    "relay.password",
    "connectors.folder",
}
SETTING = re.compile(r"#([a-z_]+ = .+)")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("INBOXD_") or name.endswith(("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)


def switched_on(path: Path) -> str:
    """The file with every `#key = value` in force."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(match[1] if (match := SETTING.fullmatch(line)) else line for line in lines)


def flat(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in cast("dict[str, Any]", value).items()}
        else:
            found[name] = value
    return found


def settings_names() -> set[str]:
    return {
        name.lower().replace("__", ".")
        for name in variable_names()
        if "__" in name or name.lower() not in {field for field, _ in sections()}
    }


def sections() -> Iterator[tuple[str, type[Section]]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def defaults() -> dict[str, Any]:
    found = {f"{name}.{key}": field.default for name, kind in sections() for key, field in kind.model_fields.items()}
    written = {name: value.value if isinstance(value, enum.Enum) else value for name, value in found.items()}
    return {name: value for name, value in written.items() if name not in NO_FIXED_DEFAULT}


# --- config/ ----------------------------------------------------------------------------------------------------------


def test_example_configuration_loads_as_it_stands_and_changes_nothing() -> None:
    assert load(EXAMPLE) == load()


def test_example_configuration_names_every_setting_once_at_its_default() -> None:
    example = flat(tomllib.loads(switched_on(EXAMPLE)))
    assert set(example) == settings_names()
    assert {name: value for name, value in example.items() if name not in NO_FIXED_DEFAULT} == defaults()


def test_example_configuration_loads_with_everything_switched_on(tmp_path: Path) -> None:
    everything = tmp_path / "inboxd.toml"
    everything.write_text(switched_on(EXAMPLE).replace("BASE64 OF 32 BYTES", "A" * 43 + "="), encoding="utf-8")
    settings = load(everything)
    assert settings.state_dir == Path("/var/lib/inboxd")
    assert settings.control_socket == Path("/run/inboxd/control.sock")


def test_placeholders_of_secrets_do_not_work_as_secrets() -> None:
    assert 'key = "BASE64 OF 32 BYTES"' in switched_on(EXAMPLE)


def test_configuration_readme_lists_every_setting_with_its_true_default() -> None:
    rows = table(ROOT / "config" / "README.md", "Setting")
    assert [row["Variable"] for row in rows] == [
        f"`INBOXD_{name.upper().replace('.', '__')}`" for name in names_of(rows)
    ]
    assert set(names_of(rows)) == settings_names()
    assert len(rows) == len(settings_names())
    shown = {name: row["Default"] for name, row in zip(names_of(rows), rows, strict=True)}
    for name, value in defaults().items():
        assert tomllib.loads(f"v = {shown[name].strip('`')}")["v"] == value, name
    assert all(row["Meaning"] and row["Unit"] and row["Default"] for row in rows)


def names_of(rows: list[dict[str, str]]) -> list[str]:
    return [row["Setting"].strip("`") for row in rows]


@pytest.mark.parametrize("path", CONNECTORS, ids=lambda path: path.name)
@pytest.mark.parametrize("everything", [False, True])
def test_connector_example_is_accepted_by_inboxctl(path: Path, everything: bool, tmp_path: Path) -> None:
    text = switched_on(path) if everything else path.read_text(encoding="utf-8")
    copy = tmp_path / path.name
    copy.write_text(text, encoding="utf-8")
    form = read_toml(copy)
    assert {"name", "email", "imap.host", "smtp.host", "imap.tls", "smtp.tls"} <= set(form)
    assert "password" not in flat(tomllib.loads(text))
    secret = tomllib.loads(text).get("password_file")
    assert form.get("password_file") == (tmp_path / secret if secret else None)
    assert secret or form["oauth"] is True


@pytest.mark.parametrize("path", CONNECTORS, ids=lambda path: path.name)
@pytest.mark.parametrize("everything", [False, True])
def test_connector_example_declares_a_connector(path: Path, everything: bool, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(switched_on(path) if everything else path.read_text(encoding="utf-8"), encoding="utf-8")
    for key, file in read_toml(copy).items():
        if key.endswith("password_file"):
            file.write_text("word")
    asked = declaration(copy)
    assert asked.create_connector_options.name
    assert [wish.kind.value for wish in asked.wishes()] == ["imap", "smtp"]
    keyless = tomllib.loads(copy.read_text(encoding="utf-8")).get("oauth", False)
    assert all((wish.password is None and not wish.password_source) is keyless for wish in asked.wishes())


def test_one_connector_example_shows_every_key() -> None:
    shown = set(flat(tomllib.loads(switched_on(ROOT / "config" / "connectors" / "dovecot.toml"))))
    assert {key.name for key in KEYS} | {"name", "enabled", "sync"} == shown


def test_connector_examples_agree_with_the_provider_table() -> None:
    for file, provider in (("gmail.toml", providers.GOOGLE), ("microsoft365.toml", providers.MICROSOFT)):
        values = flat(tomllib.loads((ROOT / "config" / "connectors" / file).read_text(encoding="utf-8")))
        assert values["imap.host"] == provider.imap.host
        assert (values["imap.port"], values["imap.tls"]) == (provider.imap.port, provider.imap.tls.value)
        assert (values["smtp.port"], values["smtp.tls"]) == (provider.smtp.port, provider.smtp.tls.value)


def test_every_connector_example_is_introduced() -> None:
    linked = set(links_in(ROOT / "config" / "README.md"))
    assert {f"connectors/{path.name}" for path in CONNECTORS} <= linked
    assert len(CONNECTORS) >= 4


# --- systemd/ ---------------------------------------------------------------------------------------------------------


def unit_values(name: str) -> list[str]:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def test_unit_starts_a_real_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (start,) = unit_values("ExecStart")
    program, *_ = start.split()
    assert program == "/opt/inboxd/bin/inboxd"
    assert Path(program).name in project["scripts"]
    assert list(commands_in([start])), "the command is checked below"


def test_unit_hands_over_real_secrets() -> None:
    secrets = {
        f"inboxd.{name}.{key}"
        for name, kind in sections()
        for key, field in kind.model_fields.items()
        if SecretStr.__name__ in str(field.annotation)
    }
    assert set(unit_values("LoadCredential")) == secrets
    readme = table(ROOT / "systemd" / "README.md", "Credential")
    assert {row["Credential"].strip("`") for row in readme} == secrets
    assert {f"inboxd.{row['Setting'].strip('`')}" for row in readme} == secrets


def test_unit_restarts_after_the_statuses_its_readme_says() -> None:
    title = "`systemctl status inboxd` says"
    rows = {row[title]: row["Then"] for row in table(UNIT.parent / "README.md", title)}
    said = {int(match[1]): row for name, row in rows.items() if (match := re.match(r"`status=(\d{1,2})/", name))}
    assert set(said) == {1, cli.USAGE_STATUS, os.EX_CONFIG}
    (never,) = unit_values("RestartPreventExitStatus")
    assert {int(status) for status in never.split()} == {
        status for status, row in said.items() if "not restarted" in row
    }


def test_unit_and_its_readme_agree_on_the_paths() -> None:
    readme = (ROOT / "systemd" / "README.md").read_text(encoding="utf-8")
    (start,) = unit_values("ExecStart")
    (group,) = unit_values("Group")
    for word in (start.split()[0].removesuffix("inboxd") + "pip", start.split()[-1], f"groupadd --system {group}"):
        assert word in readme


# --- what people are told to type -------------------------------------------------------------------------------------


def texts() -> dict[str, list[str]]:
    """The code in the documentation, and whole files whose every line may hold a command."""
    found = {str(path.relative_to(ROOT)): code_lines(path) for path in markdown_files()}
    for path in (UNIT, EXAMPLE, *CONNECTORS):
        found[str(path.relative_to(ROOT))] = [
            code for line in path.read_text(encoding="utf-8").splitlines() for code in in_comment(line)
        ]
    return found


def in_comment(line: str) -> list[str]:
    """The commands in a comment: in backticks, or after two blanks."""
    if not line.startswith("#"):
        return [line]
    return re.findall(r"`([^`]+)`", line) + re.split(r" {2,}", line.removeprefix("#"))[1:]


def test_documentation_exists_where_a_reader_looks_for_it() -> None:
    present = {str(path.relative_to(ROOT)) for path in markdown_files()}
    assert {"README.md", "config/README.md", "metrics/README.md", "systemd/README.md"} <= present


@pytest.mark.parametrize(("file", "lines"), texts().items(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_written_down_exists(file: str, lines: list[str]) -> None:
    mistakes = [
        f"{' '.join(words)}: {mistake}" for words in commands_in(lines) if (mistake := mistake_in(PROGRAMS, words))
    ]
    assert mistakes == [], file


def test_commands_are_really_found() -> None:
    commands = [words[:2] for lines in texts().values() for words in commands_in(lines)]
    for expected in (["inboxd", "run"], ["inboxd", "check-config"], ["inboxctl", "key"], ["inboxctl", "connector"]):
        assert expected in commands


def test_every_make_target_written_down_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = {
        word
        for path in markdown_files()
        for line in code_lines(path)
        if (match := re.fullmatch(r"(?:\$ |sudo )?make((?: [a-z-]+)+)(?: .*)?", line.strip()))
        for word in match[1].split()
    }
    assert named <= targets
    assert {"demo", "test"} <= named


@pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_resolve(path: Path) -> None:
    for link in links_in(path):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in slugs_of(target), link
