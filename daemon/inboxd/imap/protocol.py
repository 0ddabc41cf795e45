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
from pathlib import Path
from typing import Final, cast

from aioimaplib import aioimaplib

from inboxd import metrics
from inboxd.errors import ConnectionLost, MailServerError, ProtocolError
from inboxd.imap import throttling
from inboxd.imap.asked import ANSWER_BYTES, Asked, cost_bytes
from inboxd.imap.changes import gone_count
from inboxd.imap.deflate import Inflating, packed
from inboxd.imap.lines import (
    Part,
    Skipped,
    continued_literal_size,
    first_line,
    is_fetch,
    literal_size,
    printable,
    response_code,
)
from inboxd.imap.literal import Literal
from inboxd.imap.patience import Patience
from inboxd.net import tls_alert
from inboxd.spool import Spool

_SCRATCH_VIEW: Final = memoryview(bytearray(256 << 10))  # one for all: a read is filled and consumed without a pause
_LINE_BYTES: Final = 256 << 10  # of all lines of a response together
_LIST_LINE_BYTES: Final = 32 << 20  # SEARCH of a mailbox of millions is one line
_PARTS: Final = 512
_LITERAL_ALWAYS_BYTES: Final = 1 << 20
_BACKLOG_BYTES: Final = 4 << 20  # of a literal that comes faster than the disk takes it
_LITERAL_MOST_BYTES: Final = (1 << 32) - 1  # the largest number there is (RFC 3501 §9)
_ALERTS: Final = 100
_ENDS: Final = ((b"OK", b"NO", b"BAD"), (b"OK",))  # of a command; of one that made way
_BYTES_IN, _BYTES_OUT = metrics.IMAP_BYTES.labels("in"), metrics.IMAP_BYTES.labels("out")

Trace = Callable[[str], None]


class Protocol(aioimaplib.IMAP4ClientProtocol, asyncio.BufferedProtocol):
    """One IMAP connection.

    `pushes` counts EXISTS, `arrivals` what they added, `changes` what was said of messages known before; `news` is set
    by anything a waiter may care for. After `bye` nothing more is to be expected. `writable` is off while much waits.
    `leaving` has made way for the command under way, and its answer is still to come before that one's.
    """

    def __init__(self, trace: Trace | None, literal_bytes: int, folder: Path | None = None) -> None:
        self.clock = asyncio.get_running_loop()
        super().__init__(self.clock)
        del self.idle_queue, self._idle_event, self.state_condition  # of no use here, and 5 KB a session
        self.trace = trace
        self.literal_limit_bytes = literal_bytes
        self._folder = folder  # of large literals
        self.hidden: tuple[bytes, ...] = ()  # while logging in: what no answer may repeat into logs and errors
        self.greeting: bytes | None = None
        self.failure: MailServerError | None = None
        self.news = asyncio.Event()
        self.patience = Patience(self.clock)
        self.pushes = self.arrivals = self.exists = self.changes = 0
        self.pushed_at = 0.0
        self.bye: MailServerError | None = None
        self.leaving: Asked | None = None
        self.alerts: list[str] = []
        self.overhear: Callable[[list[Part]], None] | None = None  # is shown every untagged response
        self._partial = bytearray()
        self._response: list[Part] = []
        self._lines_bytes = self._unasked_bytes = 0
        self._literal: Literal | None = None
        self.disturbed = self._disk_holds = self._upgrading = self._lost = False
        self._inflating: Inflating | None = None
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
        self._literal = None
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

    def hold(self) -> None:
        """Read nothing more for the present; the server's silence is then ours and not counted."""
        if self.patience.hold():
            (self._inflating or self.transport).pause_reading()

    def go_on(self) -> None:
        """Read again, once this was called for each `hold`."""
        if self.patience.go_on() and self.failure is None:
            (self._inflating or self.transport).resume_reading()

    def _feed(self, data: bytes) -> None:
        _BYTES_IN.inc(len(data))
        self.patience.note(len(data))
        (self._read if self._inflating is None else self._inflating.take)(data)

    def _read(self, data: bytes) -> None:
        at, end, inflating = 0, len(data), self._inflating
        while at < end and self.failure is None:
            if self._inflating is not None and inflating is None:  # this came together with the answer to COMPRESS
                self._inflating.take(data[at:])
                return
            if self._upgrading:
                self.abort(ProtocolError("starttls", "the server sent bytes before the TLS handshake"))
            elif self._literal is not None:
                at = self._collect(self._literal, data, at, end)
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
        listing = (bytes(self._partial[:9]) + piece[:9]).upper().startswith((b"* SEARCH", b"* ESEARCH"))
        return listing and not self._response and count <= _LIST_LINE_BYTES

    def _collect(self, literal: Literal, data: bytes, at: int, end: int) -> int:
        stop = literal.take(data, at, end)
        self._hold_for(literal.backlog_bytes)
        if literal.missing_bytes == 0:
            self._response.append(literal.part())
            self._literal = None
        return stop

    def _spool(self, size: int) -> Spool:
        assert self._folder is not None
        return Spool(self._folder, size, self._hold_for)

    def _hold_for(self, backlog_bytes: int) -> None:
        """Read nothing more while much of a literal waits for the disk."""
        holds = backlog_bytes > _BACKLOG_BYTES
        if holds != self._disk_holds:
            self._disk_holds = holds
            (self.hold if holds else self.go_on)()

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
            self._begin_literal(size)

    def _begin_literal(self, size: int) -> None:
        spools = self._folder is not None and (command := self.pending) is not None and command.spools
        self._literal = Literal(size, self._literal_room(), self._spool if spools else None)
        if size == 0:
            self._collect(self._literal, b"", 0, 0)

    def _literal_room(self) -> int:
        """The limit is of all literals of a response together."""
        kept = sum(len(part) for part in self._response[1::2] if not isinstance(part, Skipped))
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
        elif (gone := gone_count(line)) is not None:
            self.exists, self.changes = max(0, self.exists - gone), self.changes + 1
        elif len(response) == 1 and is_fetch(line):
            self.changes += 1
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
            self.bye = throttling.bye(printable(text))
        elif kind in (b"NO", b"BAD"):
            self.disturbed = True

    def _response_done(self, line: bytes) -> None:
        tag, _, status = line.partition(b" ")
        command, word = self.leaving or self.pending, status[:3].upper().rstrip()
        if command is None or command.tag.encode() != tag or word not in _ENDS[command is self.leaving]:
            self.abort(ProtocolError("read", "the server answered a command that was not asked", reply=printable(line)))
            return
        if command is self.leaving:
            self.leaving = None
            return
        if command.name == "STARTTLS" and word == b"OK":
            self._upgrading = True
            self.transport.pause_reading()
        elif command.name == "COMPRESS" and word == b"OK":
            self._inflating = Inflating(self.transport, self._read, self.abort)
        super()._response_done(tag + b" " + word + b" " + status[3:].lstrip())

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
        if self.pending is not None and self.pending.make_way():
            self.leaving, self.pending_sync_command = self.pending, None
        if self.state not in rule.valid_states or self.pending is not None:
            raise ProtocolError("command", f"{command.name} cannot be sent in state {self.state}")
        if rule.exec == aioimaplib.Exec.is_sync:
            self.pending_sync_command = command
        else:
            self.pending_async_commands[command.untagged_resp_name] = command
        self.news.clear()
        self._unasked_bytes = 0
        self.patience.begin()
        self._write(f"{command.line}\r\n".encode(), f"C: {shown or command.line}")

    def send_line(self, line: str) -> None:
        """Send a line outside any command, such as DONE."""
        self.patience.begin()
        self._write(f"{line}\r\n".encode(), f"C: {line}")

    def send_block(self, octets: bytes | memoryview) -> None:
        """Send a piece of a literal; the next one when the transport is `writable` again."""
        self.patience.begin()
        self._send(octets)

    def _write(self, line: bytes, shown: str) -> None:
        if self.trace is not None:
            self.trace(printable(shown.encode()))
        self._send(line)

    def _send(self, octets: bytes | memoryview) -> None:
        sent = octets if self._inflating is None else packed(octets)
        _BYTES_OUT.inc(len(sent))
        self.transport.write(sent)

    def secured(self, transport: asyncio.BaseTransport) -> None:
        """STARTTLS is done: go on over the encrypted `transport`, with nothing remembered from before."""
        self.transport = cast("asyncio.Transport", transport)
        self._upgrading = False
        self._partial.clear()
        self.alerts.clear()
        self.bye, self.disturbed = None, False
