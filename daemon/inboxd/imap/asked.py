"""A command and what the server answers to it: aioimaplib's, with whole responses instead of loose lines."""

# aioimaplib is only partly annotated; its unknown types end in this file.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import Final, cast

from aioimaplib import aioimaplib

from inboxd.errors import MailServerError, ProtocolError
from inboxd.imap.lines import Part, Skipped, printable

ANSWER_BYTES: Final = 64 << 20  # of the responses one command collects, or that nobody asked for
aioimaplib.Commands["COMPRESS"] = aioimaplib.Cmd("COMPRESS", ("AUTH", "SELECTED"), aioimaplib.Exec.is_sync)
aioimaplib.Commands["NOTIFY"] = aioimaplib.Cmd("NOTIFY", ("AUTH", "SELECTED"), aioimaplib.Exec.is_sync)
_PART_BYTES: Final = 200  # what a short response costs beside its octets


def cost_bytes(response: list[Part]) -> int:
    """What keeping a response takes, or would take; what was read and dropped already takes nothing."""
    return sum(_PART_BYTES + (0 if isinstance(part, Skipped) else len(part)) for part in response)


class Asked(aioimaplib.Command):
    """A command that collects the untagged responses meant for it, each whole: line, literal, line, …

    `spools`: large literals go to a file on their way to it.
    """

    spools = False

    def __init__(
        self, name: str, tag: str, *args: str, prefix: str = "", answer: str = "", room_bytes: int | None = None
    ) -> None:
        super().__init__(name, tag, *args, prefix=prefix, untagged_resp_name=answer or name)
        self.responses: list[list[Part]] = []
        self._room_bytes = ANSWER_BYTES if room_bytes is None else room_bytes

    def __repr__(self) -> str:
        return f"{self.tag} {self.name}"

    @property
    def line(self) -> str:
        """The command as it goes on the wire; it may hold a secret, which its repr must not."""
        return super().__repr__()

    def receive(self, response: list[Part]) -> None:
        """Take one untagged response; ProtocolError when there are too many of them."""
        self.responses.append(response)
        self.spend(cost_bytes(response))

    def spend(self, count: int) -> None:
        """Count octets of the answer, kept or not; ProtocolError when there are too many of them."""
        self._room_bytes -= count
        if self._room_bytes < 0:
            raise ProtocolError("read", f"the server's answer to {self.name} has no end")

    def take_whole(self, data: bytes, at: int) -> int:
        """Take responses that lie whole in `data` from `at` on, without their being looked at before; where they end.

        ProtocolError as by `receive`.
        """
        del data
        return at

    def proceed(self, _challenge: bytes) -> bytes | None:
        """What to send, as a line, after a continuation request; None sends nothing. ProtocolError on nonsense."""
        return None

    def make_way(self) -> bool:
        """End a command that waits for nothing but its end, so that another can be sent behind it; whether it is one.

        (RFC 3501 §5.5: a client may go on before the answer came, where no answer could be taken for another's.)
        """
        return False

    @property
    def done(self) -> bool:
        """Whether the tagged answer came, or the connection went."""
        return self._event.is_set()

    @property
    def result(self) -> str:
        """The tagged answer's word: OK, NO or BAD."""
        return self._resp_result

    @property
    def words(self) -> str:
        """The tagged answer's text."""
        return printable(bytes(self._resp_lines[-1])) if self._resp_lines else ""

    @property
    def failure(self) -> MailServerError | None:
        """Why no tagged answer will come."""
        return cast("MailServerError | None", self._exception)

    def fail(self, error: MailServerError) -> None:
        """Wake whoever waits with `error`."""
        if not self._event.is_set():
            self._exception = error
            self._event.set()
