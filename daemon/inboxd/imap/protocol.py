"""aioimaplib's state machine over our own reader.

aioimaplib 2.0.3 keeps the tags, the legal states of commands and the pending command. Below it, this class replaces how
bytes become responses: iteratively, each byte looked at once, literals joined once from what was read, limits on
everything. It also fails whatever waits when the connection ends, and records what the server says unasked.

One owner issues one command at a time (`session.Session`); a response is handed whole to the command that is pending.
"""

# aioimaplib is only partly annotated; its unknown types end in this file.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false, reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from aioimaplib import aioimaplib

from inboxd import metrics
from inboxd.errors import ConnectionLost, MailServerError, ProtocolError, ServerSaidBye
from inboxd.imap.asked import ANSWER_BYTES, Asked, cost_bytes
from inboxd.imap.lines import (
    Part,
    Skipped,
    continued_literal_size,
    first_line,
    literal_size,
    printable,
    response_code,
)
from inboxd.net import tls_alert

_SCRATCH: Final = bytearray(256 << 10)  # one for all sessions: a read is filled and consumed without a pause
_SCRATCH_VIEW: Final = memoryview(_SCRATCH)
_LINE_BYTES: Final = 256 << 10  # of all lines of a response together
_LIST_LINE_BYTES: Final = 32 << 20  # SEARCH of a mailbox of millions is one line
_PARTS: Final = 512
_PIECES: Final = 64  # of a literal; more are joined when they are small, for each costs memory beside its octets
_PIECE_BYTES: Final = 4096
_LITERAL_ALWAYS_BYTES: Final = 1 << 20
_LITERAL_MOST_BYTES: Final = (1 << 32) - 1  # the largest number there is (RFC 3501 §9)
_ALERTS: Final = 100
_SLOWEST_BYTES_PER_SECOND: Final = 1000
_PATIENCE: Final = 10  # a command may take this many times the longest silence, and a second more a kilobyte
_BYTES_IN = metrics.IMAP_BYTES.labels("in")
_BYTES_OUT = metrics.IMAP_BYTES.labels("out")

Trace = Callable[[str], None]


class Protocol(aioimaplib.IMAP4ClientProtocol, asyncio.BufferedProtocol):
    """One IMAP connection.

    `pushes` counts EXISTS, `arrivals` what they added; `news` is set by anything a waiter may care for. `bye` is set
    once the server said it: nothing more is to be expected then. `writable` is off while much waits to be written.
    """

    def __init__(self, trace: Trace | None, literal_bytes: int) -> None:
        self.clock = asyncio.get_running_loop()
        super().__init__(self.clock)
        del self.idle_queue, self._idle_event, self.state_condition  # of no use here, and 5 KB a session
        self.trace = trace
        self.literal_limit_bytes = literal_bytes
        self.hidden: tuple[bytes, ...] = ()  # while logging in: what no answer may repeat into logs and errors
        self.greeting: bytes | None = None
        self.failure: MailServerError | None = None
        self.news = asyncio.Event()
        self.watch: asyncio.Timeout | None = None
        self.silence_seconds = 30.0
        self.pushes = self.arrivals = self.exists = 0
        self.pushed_at = 0.0
        self.disturbed = False
        self.bye: ServerSaidBye | None = None
        self.alerts: list[str] = []
        self.overhear: Callable[[list[Part]], None] | None = None  # is shown every untagged response
        self.last_received = self.clock.time()
        self.received_bytes = 0
        self._partial = bytearray()
        self._response: list[Part] = []
        self._lines_bytes = self._unasked_bytes = self._literal_bytes = 0
        self._missing_bytes = 0  # of the literal, which is collected in pieces or skipped
        self._pieces: list[bytes] = []
        self._skipping: Skipped | None = None
        self._upgrading = self._lost = False
        self._begun_at = self.clock.time()
        self._begun_bytes = 0
        self._held_at = 0.0
        self.writable = True

    # --- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.state = aioimaplib.CONNECTED

    def get_buffer(self, _sizehint: int) -> memoryview:
        return _SCRATCH_VIEW

    def buffer_updated(self, nbytes: int) -> None:
        self._feed(bytes(_SCRATCH_VIEW[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """uvloop drives a class that is also a Protocol through here, whatever get_buffer offers."""
        self._feed(data)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self.bye is not None:
            self._fail(self.bye)
        elif exc is not None:
            self._fail(tls_alert("the server", exc) or ConnectionLost("connection", f"the connection broke ({exc})"))
        else:
            self._fail(ConnectionLost("connection", "the server closed the connection"))

    def abort(self, error: MailServerError) -> None:
        """Drop the connection now; every waiter gets `error`."""
        self._fail(error)
        if self.connected and not self._lost:
            self.transport.abort()

    @property
    def connected(self) -> bool:
        """Whether there ever was a transport; aioimaplib starts with none."""
        return cast("asyncio.Transport | None", self.transport) is not None

    def _fail(self, error: MailServerError) -> None:
        self.failure = self.failure or error
        if (pending := self.pending) is not None:
            pending.fail(self.failure)
        self.news.set()

    # --- bytes to responses -----------------------------------------------------------------------------------------

    def _note(self, count: int) -> None:
        now = self.clock.time()
        self.last_received = now
        self.received_bytes += count
        _BYTES_IN.inc(count)
        if self.watch is not None and self.watch.when() is not None and not self.watch.expired():
            self.watch.reschedule(min(now + self.silence_seconds, self._allowed_until()))

    def _allowed_until(self) -> float:
        """A server that drips single bytes is never silent: it must average a kilobyte a second all the same."""
        grown = (self.received_bytes - self._begun_bytes) / _SLOWEST_BYTES_PER_SECOND
        return self._begun_at + _PATIENCE * self.silence_seconds + grown

    def hold(self) -> None:
        """Read nothing more for the present; the server's silence is then ours and not counted."""
        self._held_at = self.clock.time()
        if self.watch is not None and not self.watch.expired():
            self.watch.reschedule(None)
        self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again after `hold`."""
        self._begun_at += self.clock.time() - self._held_at
        if self.failure is None:
            self.transport.resume_reading()

    def _feed(self, data: bytes) -> None:
        end = len(data)
        self._note(end)
        at = 0
        while at < end and self.failure is None:
            if self._upgrading:
                self.abort(ProtocolError("starttls", "the server sent bytes before the TLS handshake"))
            elif self._missing_bytes:
                at = self._collect(data, at, end)
            elif self._partial or self._response or (taken := self._take_whole(data, at)) == at:
                at = self._take_line(data, at, end)
            else:
                at = taken

    def _take_whole(self, data: bytes, at: int) -> int:
        """Let the command under way take whole responses by itself, which is quicker; where those end."""
        command = self.pending
        if command is None or self.hidden:
            return at
        try:
            taken = command.take_whole(data, at)
        except ProtocolError as error:
            self.abort(error)
            return len(data)
        if taken > at:
            self.news.set()
        return taken

    def _take_line(self, data: bytes, at: int, end: int) -> int:
        stop = data.find(b"\n", at, end)
        piece = data[at : stop if stop >= 0 else end]
        count = len(self._partial) + len(piece)
        if count > _LINE_BYTES - self._lines_bytes and not self._may_be_long(piece, count):
            self.abort(ProtocolError("read", "the server sent a line without end"))
            return end
        if stop < 0:
            self._partial += piece
            return end
        if self._partial:
            self._partial += piece
            piece = bytes(self._partial)
            self._partial.clear()
        self._on_line(piece[:-1] if piece.endswith(b"\r") else piece)
        return stop + 1

    def _may_be_long(self, piece: bytes, count: int) -> bool:
        start = bytes(self._partial[:9]) + piece[:9]
        return (
            not self._response and count <= _LIST_LINE_BYTES and start.upper().startswith((b"* SEARCH", b"* ESEARCH"))
        )

    def _collect(self, data: bytes, at: int, end: int) -> int:
        count = min(self._missing_bytes, end - at)
        self._missing_bytes -= count
        if self._skipping is None:
            self._pieces.append(data[at : at + count])
            if len(self._pieces) > _PIECES + (self._literal_bytes - self._missing_bytes) // _PIECE_BYTES:
                self._pieces = [b"".join(self._pieces)]
        if self._missing_bytes == 0:
            self._end_literal()
        return at + count

    def _end_literal(self) -> None:
        self._response.append(self._skipping or b"".join(self._pieces))
        self._skipping, self._pieces = None, []

    def _on_line(self, line: bytes) -> None:
        if self.hidden and not line.upper().startswith(b"* CAPABILITY"):
            tag, space, text = line.partition(b" ")
            for secret in self.hidden:
                text = text.replace(secret, b"***")
            line = tag + space + text
        size = continued_literal_size(line) if self._response else literal_size(line)
        self.note_line(line)
        self._response.append(line)
        self._lines_bytes += len(line)
        if size is None:
            response, self._response, self._lines_bytes = self._response, [], 0
            self._on_response(response)
        elif size > _LITERAL_MOST_BYTES:
            self.abort(ProtocolError("read", f"the server announced {size} bytes at once"))
        elif len(self._response) > _PARTS:
            self.abort(ProtocolError("read", "the server sent a response with too many literals"))
        else:
            self._skipping = Skipped(size) if size > self._literal_room() else None
            self._literal_bytes = self._missing_bytes = size
            if size == 0:
                self._end_literal()

    def _literal_room(self) -> int:
        """The limit is of all literals of a response together."""
        kept = sum(len(part) for part in self._response[1::2] if isinstance(part, bytes))
        return max(self.literal_limit_bytes, _LITERAL_ALWAYS_BYTES) - kept

    def note_line(self, line: bytes) -> None:
        """Show the trace a line of the server's."""
        if self.trace is not None:
            self.trace(f"S: {printable(line)}")

    # --- responses to whoever waits ---------------------------------------------------------------------------------

    @property
    def pending(self) -> Asked | None:
        """The command under way."""
        waiting = self.pending_sync_command or next(iter(self.pending_async_commands.values()), None)
        return cast("Asked | None", waiting)

    def _on_response(self, response: list[Part]) -> None:
        try:
            self._hand_over(response)
        except ProtocolError as error:
            self.abort(error)
        self.news.set()

    def _hand_over(self, response: list[Part]) -> None:
        line = first_line(response)
        greets = self.greeting is None and line != b""
        if greets:
            self.greeting = line.removeprefix(b"* ")
        if line.startswith(b"* "):
            self._on_untagged(response)
        elif line.startswith(b"+"):
            self._continuation(line)
        elif line and not greets:
            self._response_done(line)
        else:
            self._spend(response)

    def _spend(self, response: list[Part]) -> None:
        """Count what nobody keeps: it must not go on without end either."""
        if (pending := self.pending) is not None:
            pending.spend(cost_bytes(response))
            return
        self._unasked_bytes += cost_bytes(response)
        if self._unasked_bytes > ANSWER_BYTES:
            raise ProtocolError("read", "the server talks without end though nothing was asked")

    def _on_untagged(self, response: list[Part]) -> None:
        line = first_line(response)
        word, _, rest = line[2:].partition(b" ")
        kind = word.upper()
        if word.isdigit() and rest.upper() == b"EXISTS" and len(word) <= 10:
            self.arrivals += max(0, int(word) - self.exists)
            self.exists = int(word)
            self.pushes += 1
            self.pushed_at = self.clock.time()
        elif word.isdigit() and rest.upper() == b"EXPUNGE":
            self.exists = max(0, self.exists - 1)
        elif kind in (b"OK", b"NO", b"BAD", b"BYE"):
            self._on_status(kind, rest)
        if self.overhear is not None:
            self.overhear(response)
        if (pending := self.pending) is not None:
            pending.receive(response)
        else:
            self._spend(response)

    def _on_status(self, kind: bytes, text: bytes) -> None:
        if response_code(text)[0] == "ALERT":
            self.alerts = [*self.alerts[1 - _ALERTS :], printable(text)]
        if kind == b"BYE":
            self.bye = ServerSaidBye("bye", "the server closes the connection", reply=printable(text))
        elif kind in (b"NO", b"BAD"):
            self.disturbed = True

    def _response_done(self, line: bytes) -> None:
        tag, _, status = line.partition(b" ")
        command = self.pending
        if command is None or command.tag.encode() != tag or status[:3].upper().rstrip() not in (b"OK", b"NO", b"BAD"):
            self.abort(ProtocolError("read", "the server answered a command that was not asked", reply=printable(line)))
            return
        if command.name == "STARTTLS" and status[:2].upper() == b"OK":
            self._upgrading = True
            self.transport.pause_reading()
        super()._response_done(tag + b" " + status[:3].upper().rstrip() + b" " + status[3:].lstrip())

    def _continuation(self, line: bytes) -> None:
        command = self.pending
        self._spend([line])
        if command is not None and (answer := command.proceed(line[1:].strip())) is not None:
            self._write(answer + b"\r\n", "C: ***")

    # --- commands ---------------------------------------------------------------------------------------------------

    def begin(self, command: Asked, shown: str | None = None) -> None:
        """Send `command`, its answer still to come. `shown` replaces it in the trace where it carries a secret."""
        if self.failure is not None:
            raise self.failure
        rule = aioimaplib.Commands[command.name]
        if self.state not in rule.valid_states or self.pending is not None:
            raise ProtocolError("command", f"{command.name} cannot be sent in state {self.state}")
        if rule.exec == aioimaplib.Exec.is_sync:
            self.pending_sync_command = command
        else:
            self.pending_async_commands[command.untagged_resp_name] = command
        self.news.clear()
        self._unasked_bytes = 0
        self._start_clock()
        self._write(f"{command.line}\r\n".encode(), f"C: {shown or command.line}")

    def send_line(self, line: str) -> None:
        """Send a line outside any command, such as DONE."""
        self._start_clock()
        self._write(f"{line}\r\n".encode(), f"C: {line}")

    def send_block(self, octets: bytes | memoryview) -> None:
        """Send a piece of a literal; the next one when the transport is `writable` again."""
        self._start_clock()
        _BYTES_OUT.inc(len(octets))
        self.transport.write(octets)

    def _start_clock(self) -> None:
        """The server's time to answer begins; an IDLE lasts as long as it likes, its DONE does not."""
        self._begun_at, self._begun_bytes = self.clock.time(), self.received_bytes

    def _write(self, line: bytes, shown: str) -> None:
        if self.trace is not None:
            self.trace(printable(shown.encode()))
        _BYTES_OUT.inc(len(line))
        self.transport.write(line)

    def secured(self, transport: asyncio.BaseTransport) -> None:
        """STARTTLS is done: go on over the encrypted `transport`, with nothing remembered from before."""
        self.transport = cast("asyncio.Transport", transport)
        self._upgrading = False
        self._partial.clear()
        self.alerts.clear()
        self.bye, self.disturbed = None, False
