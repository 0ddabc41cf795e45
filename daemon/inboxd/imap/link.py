"""Commands on one IMAP connection, one at a time, each under a deadline; and waiting for what the server says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeVar, final

from inboxd import metrics
from inboxd.budgets import Place
from inboxd.errors import CommandMalformed, CommandRefused, ServerSaidBye, Stalled
from inboxd.imap.asked import Asked
from inboxd.imap.protocol import Protocol
from inboxd.imap.throttling import throttled, throttles

_LOGINS: Final = ("LOGIN", "AUTHENTICATE")  # what is refused there is judged by who logs in
C = TypeVar("C", bound=Asked)


@final
class Link:
    """A connection and its one owner. After any deadline, cancellation or surprise the connection is dropped: a late
    answer would be taken for the next command's. A clean NO or BAD (CommandRefused) leaves it usable.
    """

    def __init__(self, protocol: Protocol, host: str, silence_seconds: float) -> None:
        self.protocol = protocol
        self._host = host
        self._silence_seconds = silence_seconds
        self.round_trip_seconds = 0.0  # the quickest answer while logging in
        self.place: Place | None = None  # in the account's budget
        self.dismissed = False  # who listens stops doing so

    def tag(self) -> str:
        """A fresh tag."""
        return self.protocol.new_tag()

    def abort(self) -> None:
        """Drop the connection, if it still stands."""
        self.protocol.abort(ServerSaidBye("closed", "the session is over"))

    async def run(self, command: C, shown: str | None = None) -> C:
        """Send a command and wait for its tagged answer; `shown` replaces it in the trace.

        Raises CommandRefused (NO, BAD), Throttled (the same, when it is about more than this command), ConnectionLost,
        Stalled, ProtocolError.
        """
        with self.owning(), metrics.COMMAND_SECONDS.labels(command.name).time():
            self.protocol.begin(command, shown)
            await self.until(lambda: command.done)
            check(command)
        return command

    @contextmanager
    def owning(self) -> Generator[None]:
        """Whatever leaves this block other than CommandRefused drops the connection."""
        try:
            yield
        except CommandRefused:
            raise
        except BaseException:
            self.abort()
            raise

    async def until(
        self, met: Callable[[], object], *, watched: bool = True, silence_seconds: float | None = None
    ) -> None:
        """Wait for a condition on what the server says; Stalled after too long a silence, when `watched`.

        ServerSaidBye, or Throttled, as soon as it said BYE and the condition is not met by what it said before.
        """
        protocol, patience = self.protocol, self.protocol.patience
        patience.silence_seconds = silence_seconds or self._silence_seconds
        patience.watched = watched
        counted = watched and not patience.is_held
        try:
            async with asyncio.timeout(patience.silence_seconds if counted else None) as patience.watch:
                while not met():
                    if protocol.bye is not None:
                        protocol.abort(protocol.bye)
                    if protocol.failure is not None:
                        raise protocol.failure
                    protocol.news.clear()
                    await protocol.news.wait()
        except TimeoutError as error:
            stalled = Stalled("answer", f"{self._host} did not answer in {patience.silence_seconds:g} s")
            protocol.abort(stalled)
            raise stalled from error
        finally:
            patience.watch = None


def check(command: Asked) -> None:
    """Raise what ended the command, unless it was OK."""
    if command.failure is not None:
        raise command.failure
    if command.result != "OK":
        if command.name not in _LOGINS and throttles(command.name, command.words):
            message = f"the server answered {command.result} to {command.name}"
            raise throttled(command.name.lower(), message, command.words)
        kind = CommandMalformed if command.result == "BAD" else CommandRefused
        raise kind(command.name.lower(), f"the server answered {command.result} to {command.name}", reply=command.words)
