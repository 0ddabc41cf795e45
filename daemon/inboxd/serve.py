"""The composition root: everything is opened here, in order, and closed in reverse."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, final

from aiohttp import web

from inboxd import (
    __version__,
    beat,
    chores,
    indexer,
    logs,
    metering,
    metrics,
    poster,
    resealing,
    scrape,
    sender,
    sweeper,
)
from inboxd.api import app as api
from inboxd.api.wire.payloads import write_payload
from inboxd.bus import Bus
from inboxd.connector_files import read_file
from inboxd.dashboard import app as dashboard
from inboxd.dashboard.sessions import Sessions
from inboxd.declared import Declarations, Declared
from inboxd.errors import InUse, SettingsError, StoreBusy
from inboxd.mail.beside import Parsers
from inboxd.model import utc_now
from inboxd.notify import Notifier, watchdog_seconds
from inboxd.roster import Roster
from inboxd.sections import host_port
from inboxd.services import Services
from inboxd.settings import Settings
from inboxd.store import installation
from inboxd.store.engine import open_store
from inboxd.tokens import open_tokens

_GRACE_SECONDS: Final = 5.0
_SWITCH_SECONDS: Final = 0.0005  # threads that parse mails would else keep the loop waiting for 5 ms at a time
_MOST_LINE_BYTES: Final = 65_536  # a thousand ids in a query; aiohttp's own limit is 8,190
_RELOADED: Final = frozenset({"log.level", "connectors.folder"})
_log = logs.logger("serve")


async def serve(settings: Settings, reload: Callable[[], Settings]) -> None:
    """Run the daemon until SIGTERM or SIGINT. `reload` reads the settings again, for SIGHUP.

    Raises SettingsError, InUse, StoreError or SecretUnreadable when it cannot start, before anything is served.
    """
    notifier = Notifier()
    metrics.set_up()
    stop = asyncio.Event()
    state = _Readiness()
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(settings))
        await stack.enter_async_context(open_sites(services, state))
        async with asyncio.TaskGroup() as group:
            workers = [
                group.create_task(services.roster.run()),
                group.create_task(poster.run(services, write_payload)),
                group.create_task(sender.run(services)),
                group.create_task(chores.run(services)),
                group.create_task(metering.run(services.store, services.budgets)),
                group.create_task(beat.measure_lag()),
                group.create_task(beat.try_writing(services.store, state.note_store)),
                group.create_task(sweeper.run(services.store)),
                group.create_task(indexer.run(services.store, services.bus)),
            ]
            if services.declarations is not None:
                workers.append(group.create_task(services.declarations.run()))
            period = watchdog_seconds()
            if period is not None:
                workers.append(group.create_task(beat.feed_watchdog(notifier, services.store, period)))
            with _signals(stop, lambda: _reload(notifier, services, reload)):
                settle_down()
                notifier.status(f"serving on {settings.api.listen}")
                state.phase = None
                notifier.ready()
                _log.info("started", version=__version__, api=settings.api.listen, metrics=settings.metrics.listen)
                await stop.wait()
            state.phase = "stopping"
            notifier.stopping()
            _log.info("stopping")
            for worker in workers:
                worker.cancel()
    _log.info("stopped")


def settle_down() -> None:
    """Ready to work: other threads hand the interpreter on soon, and what was made until now is never looked through
    for garbage, which takes a tenth of a second each time.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()


@final
class _Readiness:
    """Why the daemon is not ready, for /readyz: the phase it is in, else what its store lacks."""

    def __init__(self) -> None:
        self.phase: str | None = "starting"
        self._store: str | None = None

    def note_store(self, trouble: str | None) -> None:
        """What keeps the store from taking writes; None when nothing does."""
        self._store = trouble

    def reason(self) -> str | None:
        """The reason, None when it is ready."""
        return self.phase or self._store


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncGenerator[Services]:
    """The store, the vault and the workers' shared parts, in a locked state folder."""
    with locked(settings.state_dir):
        vault = resealing.vault_of(settings)
        async with open_store(settings.store_url, observe=metrics.TRANSACTION_SECONDS.observe) as store:
            await resealing.finish(settings, store, vault)
            bus = Bus()
            with Parsers() as parsers:
                async with open_tokens(store, vault) as tokens:
                    roster = Roster(settings, store, vault, bus, parsers, tokens)
                    user_id = await installation.user_id(store)

                    async def read(path: Path) -> Declared:
                        return await read_file(services, path)

                    declarations = Declarations(settings.connectors.folder, store, vault, roster, read)
                    services = Services(
                        settings, store, vault, bus, roster, user_id, utc_now(), parsers, declarations, tokens
                    )
                    await metering.recall(store, roster.budgets)
                    yield services
                    await metering.keep(store, roster.budgets)


@asynccontextmanager
async def open_sites(services: Services, state: _Readiness) -> AsyncGenerator[None]:
    """The control socket, the API's TCP port and the metrics port."""
    settings = services.settings
    async with AsyncExitStack() as stack:
        pages = partial(dashboard.mount, services=services, sessions=Sessions())
        application = web.AppRunner(
            api.build(services, pages), access_log=None, shutdown_timeout=_GRACE_SECONDS, max_line_size=_MOST_LINE_BYTES
        )
        await application.setup()
        stack.push_async_callback(application.cleanup)
        control = stack.enter_context(_control_socket(settings.control_socket))
        await web.SockSite(application, control).start()
        await _listen(application, "api.listen", settings.api.listen)
        scraped = web.AppRunner(scrape.build(state.reason), access_log=None, shutdown_timeout=1.0)
        await scraped.setup()
        stack.push_async_callback(scraped.cleanup)
        await _listen(scraped, "metrics.listen", settings.metrics.listen)
        yield


async def _listen(runner: web.AppRunner, setting: str, address: str) -> None:
    host, port = host_port(address)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise InUse(f"{setting}: cannot listen on {address}: {reason}") from error


@contextmanager
def locked(state_dir: Path) -> Generator[None]:
    """Nobody else uses the state folder, which is made if need be. StoreBusy when a daemon does, SettingsError."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError([f"state_dir: {state_dir} cannot be used: {error.strerror}"]) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise StoreBusy(f"another inboxd is running on {state_dir}; stop it, or set state_dir") from error
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _control_socket(path: Path) -> Generator[socket.socket]:
    """Bound with mode 0660 from its first moment; a dead daemon's socket is replaced, anything else left alone."""
    _remove_stale(path)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        control.bind(str(path))
    except OSError as error:
        control.close()
        raise SettingsError([f"control.socket: cannot make {path}: {error.strerror or error}"]) from error
    finally:
        os.umask(mask)
    mine = path.stat()
    try:
        yield control
    finally:
        if path.exists() and (path.stat().st_ino, path.stat().st_dev) == (mine.st_ino, mine.st_dev):
            path.unlink()


def _remove_stale(path: Path) -> None:
    if not (path.exists() or path.is_symlink()):
        return
    if not path.is_socket():
        raise SettingsError([f"control.socket: {path} exists and is not a socket; move it away or choose another path"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise SettingsError([f"control.socket: {path} cannot be checked: {error.strerror}"]) from error
        else:
            raise InUse(f"control.socket: another program is serving {path}")


@contextmanager
def _signals(stop: asyncio.Event, on_hangup: Callable[[], None]) -> Generator[None]:
    loop = asyncio.get_running_loop()
    actions: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: stop.set,
        signal.SIGINT: stop.set,
        signal.SIGHUP: on_hangup,
    }
    for name, action in actions.items():
        loop.add_signal_handler(name, action)
    try:
        yield
    finally:
        for name in actions:
            loop.remove_signal_handler(name)


def _reload(notifier: Notifier, services: Services, read: Callable[[], Settings]) -> None:
    """The log level changes at once, and declared connectors soon; whatever else changed needs a restart, and is said
    to. Mistakes in the settings change nothing; the files of connectors are read all the same.
    """
    notifier.reloading()
    try:
        fresh = read()
    except SettingsError as error:
        _log.error("reload_refused", mistakes=error.lines)
    else:
        logs.set_level(fresh.log.level)
        changed = sorted(_changed(services.settings, fresh))
        _log.info("reloaded", log_level=fresh.log.level, restart_needed_for=changed)
        if services.declarations is not None:
            services.declarations.folder = fresh.connectors.folder
    if services.declarations is not None:
        services.declarations.read_again()
    notifier.ready()


def _changed(running: Settings, fresh: Settings) -> set[str]:
    before, after = _flat(running.model_dump()), _flat(fresh.model_dump())
    return {name for name, value in after.items() if before.get(name) != value} - _RELOADED


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= _flat(cast("dict[str, Any]", value), f"{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
