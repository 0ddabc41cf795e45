"""`inboxd demo`: an embedded mail server, the real daemon on SQLite, one connector, and mail one can watch arrive."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import signal
import smtplib
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, final

import click

from inboxd.ctl_client import Client, Failure
from inboxd.demo_server import LOOPBACK, MailServer, mail_server
from inboxd.mail.build import build
from inboxd.mails import Draft

_USER: Final = "ada@demo.example"
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0
_EVERY_SECONDS: Final = 3.0
_SUBJECTS: Final = (
    "Your order has shipped",
    "Grüße aus Köln",
    "Build 1041 is green",
    "Invoice for November",
    "会議の議事録",
    "Welcome aboard",
)


async def show(seconds: float | None, folder: Path | None) -> int:
    """Run the demo until Ctrl-C, or for `seconds`; 0 when mail arrived (or the user ended it), else 1."""
    place = _folder(folder)
    imap_port, smtp_port, api_port, metrics_port = _free_ports(8143, 8587, 8025, 9464)
    key = "demo-" + secrets.token_urlsafe(16)
    log = place / "inboxd.log"
    variables = {
        "INBOXD_STATE_DIR": str(place),
        "INBOXD_CONTROL__SOCKET": str(place / "control.sock"),
        "INBOXD_API__LISTEN": f"{LOOPBACK}:{api_port}",
        "INBOXD_API__KEY": key,
        "INBOXD_METRICS__LISTEN": f"{LOOPBACK}:{metrics_port}",
    }
    async with (
        mail_server(imap_port, smtp_port, _USER, secrets.token_urlsafe(12)) as server,
        _daemon(variables, log),
    ):
        client = Client(place / "control.sock")
        connector = await _connect(client, server)
        await _listening(client)
        _introduce(place, variables, connector)
        story = _Story(client, server, connector)
        return await _tell(story, seconds, place)


async def _tell(story: _Story, seconds: float | None, place: Path) -> int:
    ended_by_hand = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended_by_hand.set)
    async with asyncio.TaskGroup() as group:
        told = [group.create_task(story.watch()), group.create_task(story.go_on())]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended_by_hand.wait()
        for task in told:
            task.cancel()
    click.echo(f"\n{story.summary()}  The demo's files: {place}")
    return 0 if ended_by_hand.is_set() or story.flowed else 1


@final
class _Story:
    """What is shown: mails from outside, one mail sent out and back in, each with its latency."""

    def __init__(self, client: Client, server: MailServer, connector: dict[str, Any]) -> None:
        self._client = client
        self._server = server
        self._connector = connector
        self._accepted_at: dict[str, float] = {}
        self._latencies: list[float] = []
        self._came_back = False

    @property
    def flowed(self) -> bool:
        """Whether mail arrived from outside, and the one sent out came back in."""
        return bool(self._latencies) and self._came_back

    def summary(self) -> str:
        """How it went, in a line."""
        if not self._latencies:
            return "No mail arrived: see inboxd.log."
        middle = sorted(self._latencies)[len(self._latencies) // 2]
        back = "the mail sent out came back in" if self._came_back else "the mail sent out did not come back"
        return (
            f"{len(self._latencies)} mails arrived, median {middle * 1000:.0f} ms after the server took them; {back}."
        )

    async def watch(self) -> None:
        """Print a line for each mail as the daemon announces it."""
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        def follow() -> None:
            with suppress(Failure, RuntimeError):
                for row in self._client.stream("GET", "/control/watch"):
                    loop.call_soon_threadsafe(lines.put_nowait, row | {"seen": time.monotonic()})

        _in_background(follow)
        while True:
            self._print(await lines.get())

    def _print(self, row: dict[str, Any]) -> None:
        subject = str(row["subject"])
        took = row["seen"] - self._accepted_at.get(subject, row["seen"])
        self._latencies.append(took)
        self._came_back = self._came_back or subject.startswith("Out and back")
        click.echo(
            f"  {datetime.now().astimezone():%H:%M:%S}  {click.style(f'{took * 1000:5.0f} ms', fg='green')}"
            f"  {row['from']:<24}  {subject}"
        )

    async def go_on(self) -> None:
        """Mail from outside every few seconds; the second one is sent by the daemon itself."""
        number = 0
        while True:
            number += 1
            if number == 2:
                await asyncio.to_thread(self._send_out)
            else:
                subject = f"{_SUBJECTS[number % len(_SUBJECTS)]} (#{number})"
                await asyncio.to_thread(self._deliver, subject)
            await asyncio.sleep(_EVERY_SECONDS if number > 2 else 1.0)

    def _deliver(self, subject: str) -> None:
        text = "Hello Ada,\n\nthis mail came over SMTP and reached you over IMAP IDLE.\n"
        mail = build(Draft(sender="shop@outside.example", to=(_USER,), subject=subject, text=text))
        with smtplib.SMTP(LOOPBACK, self._server.smtp_port, local_hostname="outside.example") as outside:
            outside.sendmail(mail.sender, mail.recipients, mail.raw)
            self._accepted_at[subject] = time.monotonic()

    def _send_out(self) -> None:
        subject = "Out and back: sent through the connector"
        body = {"to": [_USER], "subject": subject, "text": "Sent by inboxd through the mailbox's own SMTP server."}
        self._client.call("POST", f"/control/connectors/{self._connector['id']}/send", body)
        self._accepted_at.setdefault(subject, time.monotonic())


async def _connect(client: Client, server: MailServer) -> dict[str, Any]:
    account = {"enabled": True, "startTls": False}
    imap = {"imapHost": LOOPBACK, "imapPort": server.imap_port, "imapSsl": False}
    smtp = {"smtpHost": LOOPBACK, "smtpPort": server.smtp_port, "smtpSsl": False}
    body = {
        "createConnectorOptions": {"name": "demo", "emailAddress": _USER, "enabled": True},
        "createConnectorImapConnectionOptions": account
        | imap
        | {"imapUsername": server.user, "imapPassword": server.password},
        "createConnectorSmtpConnectionOptions": account
        | smtp
        | {"smtpUsername": server.user, "smtpPassword": server.password},
        "createConnectorSyncSettingsOptions": {"syncEnabled": True},
    }
    return await asyncio.to_thread(client.call, "POST", "/connectors/withOptions", body)


async def _listening(client: Client) -> None:
    """Until the connector listens, so that the first mail's latency is a mail's and not a login's."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        status = await asyncio.to_thread(client.get, "/control/status")
        if any(row["state"].lower() == "idle" for row in status["connectors"]):
            return
        await asyncio.sleep(0.05)
    raise click.ClickException("the connector did not come to listen; see the daemon's log")


def _introduce(place: Path, variables: dict[str, str], connector: dict[str, Any]) -> None:
    control = variables["INBOXD_CONTROL__SOCKET"]
    ctl = f"{shlex.quote(str(Path(sys.executable).parent / 'inboxctl'))} --socket {shlex.quote(control)}"
    api, key = variables["INBOXD_API__LISTEN"], variables["INBOXD_API__KEY"]
    click.echo(f"""
inboxd demo: an embedded mail server, the real daemon, and one connector ({_USER})

  API             http://{api}   (x-api-key: {key})
  Inbox           {connector["inboxId"]}
  Control socket  {control}
  Metrics         http://{variables["INBOXD_METRICS__LISTEN"]}/metrics
  Folder          {place}

Try next, in another terminal:
  {ctl} status
  {ctl} emails demo
  curl -s -H 'x-api-key: {key}' 'http://{api}/emails?size=3&sort=DESC'

Mail as it arrives (milliseconds from the mail server taking it to the daemon announcing it); Ctrl-C ends the demo:
""")


@asynccontextmanager
async def _daemon(variables: dict[str, str], log: Path) -> AsyncGenerator[None]:
    """`inboxd run` in a process of its own, ready, until the block ends."""
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "inboxd", "run", env=_environment() | variables, stdout=sink, stderr=sink,
            start_new_session=True,
        )  # fmt: skip
        try:
            await _ready(variables["INBOXD_METRICS__LISTEN"], process, log)
            yield
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(metrics: str, process: asyncio.subprocess.Process, log: Path) -> None:
    host, _, port = metrics.partition(":")
    deadline = time.monotonic() + _START_SECONDS
    while process.returncode is None and time.monotonic() < deadline:
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
            answer = await reader.readline()
            writer.close()
        except OSError:
            answer = b""
        if b" 200 " in answer:
            return
        await asyncio.sleep(0.05)
    raise click.ClickException(f"the daemon did not start; see its log: {log}")


def _folder(wished: Path | None) -> Path:
    if wished is None:
        return Path(tempfile.mkdtemp(prefix="inboxd-demo-"))
    try:
        wished.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"--folder: {wished} cannot be made: {error.strerror}") from error
    return wished.resolve()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("INBOXD_")}


def _in_background(work: Callable[[], None]) -> None:
    """A daemon thread: it may sit in a read when the demo ends, and must not keep the process."""
    threading.Thread(target=work, daemon=True).start()


def _free_ports(*wished: int) -> list[int]:
    """A free loopback port for each wish, the wished one where it is free."""
    return [_free_port(port) for port in wished]


def _free_port(wished: int) -> int:
    for port in (wished, 0):
        with socket.socket() as trial, suppress(OSError):
            trial.bind((LOOPBACK, port))
            return int(trial.getsockname()[1])
    raise click.ClickException("no free port on this machine")
