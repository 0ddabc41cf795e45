"""Changing the IMAP flags of a mail."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inboxd.api.wire.shapes import Request
from inboxd.errors import Invalid

_SEEN = "\\Seen"


class ImapFlagOperationOptions(Request):
    """What becomes of a mail's flags on its server. \\Seen alone can be changed, and all others stay as they are:
    SET_FLAGS of nothing takes \\Seen away.
    """

    flag_operation: Literal["SET_FLAGS", "ADD_FLAGS", "REMOVE_FLAGS"]
    flags: Annotated[list[str], Field(max_length=100)]

    def seen(self) -> bool | None:
        """Whether the mail is to be seen or unseen; None when nothing is to change. Invalid for any other flag."""
        for number, flag in enumerate(self.flags):
            if flag.lower() != _SEEN.lower():
                raise Invalid(f"flags.{number}", f"can only be {_SEEN}")
        if self.flag_operation == "SET_FLAGS":
            return bool(self.flags)
        return self.flag_operation == "ADD_FLAGS" if self.flags else None
