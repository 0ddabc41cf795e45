"""The fixtures of every test: real servers, started once a run or once a test.

This folder is on the import path (pytest puts it there for this file), hence `import corpus`, `import servers`.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator

import hypothesis
import pytest
import structlog

# Before the first of them is imported, so that it does not matter which plugin imports which.
pytest.register_assert_rewrite("servers")

pytest_plugins = [
    "servers.browser",
    "servers.certs",
    "servers.cradle",
    "servers.daemon",
    "servers.dovecot",
    "servers.oauth",
    "servers.python",
    "servers.smtp",
    "servers.stores",
]

# An example may take its time on a busy machine; what is too slow is caught by the time limit of the test.
hypothesis.settings.register_profile("inboxd", deadline=None)
hypothesis.settings.load_profile("inboxd")


def pytest_collection_finish() -> None:
    """Spare every collection of garbage the modules and tests, which stay to the end anyhow."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def logs_as_before() -> Generator[None]:
    """What a test sets up of logging is undone after it."""
    root = logging.getLogger()
    names = ["", *logging.root.manager.loggerDict]
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).disabled) for name in names}
    handlers = root.handlers[:]
    yield
    root.handlers[:] = handlers
    for name, (level, disabled) in before.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).disabled = disabled
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
