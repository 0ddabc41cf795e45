"""Structured logs: one snake_case event per decision plus fields, JSON in production, never a body or a secret."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, cast

import structlog

HIDDEN = "***"
_SECRET_KEYS = frozenset({"password", "secret", "key", "token", "api_key", "authorization", "url"})
_SECRET_ENDINGS = ("password", "secret", "token", "api_key")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# aioimaplib logs whole commands, passwords included; its session is traced by inboxd.imap instead.
_SILENCED = ("aioimaplib", "aioimaplib.aioimaplib")
_QUIET = ("aiosqlite", "aiosmtplib", "alembic", "sqlalchemy", "aiohttp.access", "asyncio")

Logger = structlog.stdlib.BoundLogger


def logger(room: str) -> Logger:
    """A logger that adds `room` to each event."""
    return structlog.stdlib.get_logger(room=room)


def set_up(level: str, form: Literal["json", "console"]) -> None:
    """Send everything, the libraries' records included, to standard error as one line an event."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, force_colors=False
        )
    )
    structlog.configure(
        # What nobody wants to read costs least when it is dropped first.
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
                if form == "json"
                else _escape,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Change how much is logged; effective at once."""
    logging.getLogger().setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, _LEVELS[level]))
    for name in _SILENCED:
        # Not by level: the library sets its own when it is imported, and adds a handler of its own.
        logging.getLogger(name).disabled = True


def _escape(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No value, a server's words say, can end its line or steer a terminal. For the console: JSON escapes by itself."""
    for field, value in event.items():
        if isinstance(value, str):
            event[field] = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    return event


def _mask(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field, value in event.items():
        if _is_secret(field):
            event[field] = HIDDEN
        elif isinstance(value, dict):
            event[field] = _mask(_logger, _name, dict(cast("dict[str, Any]", value)))
    return event


def _is_secret(field: str) -> bool:
    name = field.lower().replace("-", "_")
    return name in _SECRET_KEYS or name.endswith(_SECRET_ENDINGS)
