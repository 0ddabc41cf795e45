"""Logs: one parsable line an event, no secret in it, no line forged by a value."""

from __future__ import annotations

import importlib.util
import json
import logging
from typing import Any, Literal

import pytest
import structlog

from inboxd import logs
from inboxd.model import Secret

pytestmark = pytest.mark.usefixtures("logs_as_before")


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_event_is_one_json_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    logs.logger("sync").info("batch_stored", connector="c-1", messages=3, path="ü")
    (event,) = written(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "batch_stored",
        "level": "info",
        "room": "sync",
        "connector": "c-1",
        "messages": 3,
        "path": "ü",
    }


def test_bound_and_contextual_fields_are_on_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    structlog.contextvars.bind_contextvars(request="r-1")
    log = logs.logger("connector").bind(connector="c-2")
    log.info("connected")
    log.warning("disconnected", reason="lost")
    assert [(e["connector"], e["request"], e["level"]) for e in written(capsys)] == [
        ("c-2", "r-1", "info"),
        ("c-2", "r-1", "warning"),
    ]


def test_level_hides_what_is_below_and_changes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warning", "json")
    log = logs.logger("x")
    log.info("hidden")
    logs.set_level("debug")
    log.debug("shown")
    logs.set_level("error")
    log.warning("hidden_again")
    assert [event["event"] for event in written(capsys)] == ["shown"]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "field",
    [
        "password",
        "secret",
        "key",
        "token",
        "api_key",
        "authorization",
        "url",
        "Authorization",
        "x-api-key",
        "imap_password",
    ],
)
def test_secret_fields_are_masked(
    capsys: pytest.CaptureFixture[str], field: str, form: Literal["json", "console"]
) -> None:
    logs.set_up("info", form)
    logs.logger("x").info("logged_in", **{field: "hunter2"})
    logs.logger("x").info("logged_in", connection={"host": "h", field: "hunter2", "deeper": {field: "hunter2"}})
    logging.getLogger("foreign").warning("it said %s", {"a": 1}, extra={field: "hunter2"})
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert shown.count(logs.HIDDEN) == 3


def test_masking_does_not_change_what_was_handed_in(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    mine = {"password": "hunter2"}
    logs.logger("x").info("e", connection=mine)
    assert mine == {"password": "hunter2"}
    assert written(capsys)[0]["connection"] == {"password": logs.HIDDEN}


@pytest.mark.parametrize("form", ["json", "console"])
def test_secret_values_do_not_show_themselves(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    logs.set_up("info", form)
    logs.logger("x").info("e", account=Secret("hunter2"), accounts=[Secret("hunter2")])
    logging.getLogger("foreign").warning("account %s", Secret("hunter2"))
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "console"])
def test_exception_is_logged_without_locals(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    logs.set_up("info", form)

    def fail() -> None:
        remembered = "hunter" + str(2)
        raise ValueError(f"went wrong after {len(remembered)}")

    try:
        fail()
    except ValueError:
        logs.logger("x").exception("failed")
        logging.getLogger("foreign").exception("failed too")
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert shown.count("went wrong after 7") >= 2
    assert "fail" in shown
    assert "ValueError" in shown


def test_exception_stays_on_its_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    try:
        int("first\nsecond")
    except ValueError:
        logs.logger("x").exception("failed")
    (event,) = written(capsys)
    assert event["exception"][0]["exc_type"] == "ValueError"


FORGED = 'ok\n{"event": "forged", "level": "info"}\r\n2026-01-01 [info] forged\x1b[2J\u2028\x85'


@pytest.mark.parametrize("form", ["json", "console"])
def test_newline_in_a_value_cannot_forge_a_line(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    logs.set_up("info", form)
    logs.logger("x").info("server_said", reply=FORGED)
    logging.getLogger("foreign").warning("server said %s", FORGED)
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 2
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize("form", ["json", "console"])
def test_strange_values_never_stop_a_line(capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]) -> None:
    logs.set_up("info", form)
    logs.logger("x").info(
        "e", raw=b"\xff\x00", surrogate="\udc80", nothing=None, nested={"a": {1, 2}}, error=OSError("x")
    )
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_library_records_become_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    logging.getLogger("aiohttp.server").error("Error handling %s", "request")
    (event,) = written(capsys)
    assert (event["event"], event["level"]) == ("Error handling request", "error")


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
@pytest.mark.parametrize(
    "name", ["aiosqlite", "aiosmtplib", "alembic.runtime.migration", "sqlalchemy.engine", "asyncio"]
)
def test_chatty_libraries_are_heard_from_warning_on(capsys: pytest.CaptureFixture[str], name: str, level: str) -> None:
    logs.set_up(level, "json")
    logging.getLogger(name).info("executing INSERT … with parameters")
    logging.getLogger(name).warning("trouble")
    assert [event["event"] for event in written(capsys)] == ["trouble"]


def test_chatty_libraries_obey_the_error_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("error", "json")
    logging.getLogger("aiosqlite").warning("trouble")
    assert written(capsys) == []


@pytest.mark.parametrize("imported", ["before", "after"])
def test_aioimaplib_never_logs_a_command(capsys: pytest.CaptureFixture[str], imported: str) -> None:
    """It logs whole commands; on import it also sets its own level and adds a handler of its own."""
    logs.set_up("debug", "json")
    if imported == "after":
        spec = importlib.util.find_spec("aioimaplib.aioimaplib")
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))  # beside the one that others have changed
    for name in ("aioimaplib", "aioimaplib.aioimaplib"):
        for level in (logging.DEBUG, logging.WARNING, logging.CRITICAL):
            logging.getLogger(name).log(level, "LOGIN user hunter2")
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


def test_set_up_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    logs.set_up("info", "json")
    logs.logger("x").info("once")
    assert len(written(capsys)) == 1
