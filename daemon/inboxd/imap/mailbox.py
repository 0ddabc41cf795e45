"""An open mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox as EXAMINE showed it. `uidvalidity`, `uidnext` and `modseq` are 0 where the server would not say.

    `modseq` (HIGHESTMODSEQ, RFC 7162) moves with each change of a message.
    """

    name: str
    exists: int
    uidvalidity: int
    uidnext: int
    modseq: int = 0
