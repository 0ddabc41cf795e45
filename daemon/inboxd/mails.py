"""Mails as records, from the bytes a server handed over to what was sent. Frozen, without I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from inboxd.model import AttachmentId, ConnectorId, InboxId, MessageId, SentId, SentState


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox of an address header: its text as written, the bare address, the display name."""

    raw: str
    address: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment's description. `position` counts the attachments of its message from 0 in MIME order."""

    id: AttachmentId
    position: int
    name: str
    content_type: str
    size_bytes: int
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeptAttachment:
    """An attachment kept here: a part of the mail `message_id`, or, without one, an upload."""

    attachment: Attachment
    created_at: datetime
    inbox_id: InboxId | None = None
    message_id: MessageId | None = None


@dataclass(frozen=True, slots=True)
class Bounce:
    """What a delivery notice (RFC 3464) says of one recipient of the mail `message_id` (no angle brackets).

    `action`: failed, delayed, delivered, relayed or expanded. `status`: the enhanced code, `words` the diagnostic.
    """

    message_id: str
    recipient: str
    action: str
    status: str
    words: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What the parser made of a raw mail; everything in it can be derived from the bytes again.

    `defect` holds the reason when no parser could read the mail: then all else is empty. `words` is the visible text of
    the body, white space collapsed, at most 8,000 characters; `excerpt` its first 250. A digest out of the store has no
    `words` and no `bounces`, which are what a delivery notice says.
    """

    subject: str | None = None
    sender: Address | None = None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: str | None = None
    header_message_id: str | None = None
    in_reply_to: str | None = None
    date: datetime | None = None
    excerpt: str | None = None
    words: str = ""
    part_types: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    defect: str | None = None
    bounces: tuple[Bounce, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """A mail's readable content, parsed from its raw bytes when somebody asks."""

    text: str | None
    html: str | None
    headers: dict[str, list[str]]
    charset: str | None = None


class Spooled(ABC):
    """A mail too large to be held in memory: a file of `len` octets, gone when nobody holds this any more."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """The octets in order, some at a time; blocking, for a thread."""

    @abstractmethod
    def fileno(self) -> int:
        """The open file, to read from by position: where it stands is everybody's."""

    @abstractmethod
    async def written(self) -> None:
        """Until the file is complete, before which it must not be read; StoreError when it cannot be."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One message as the IMAP server handed it over.

    `raw` is byte-exact; what is large is `Spooled`. `received_at` is INTERNALDATE. When the message was larger than the
    limit, `raw` holds its header alone and `whole` is False; `size_bytes` is always the whole message's size. `labels`
    are Gmail's, readable.
    """

    uid: int
    raw: bytes | bytearray | Spooled
    size_bytes: int
    received_at: datetime | None
    flags: tuple[str, ...] = ()
    whole: bool = True
    labels: tuple[str, ...] = ()


class Tags(NamedTuple):
    """What a server keeps of a message and may change: its flags, and Gmail's labels, None when none were spoken of."""

    flags: tuple[str, ...]
    labels: tuple[str, ...] | None = None


def lasting(flags: Iterable[str]) -> tuple[str, ...]:
    """Flags without \\Recent, which tells of a session and not of a message (RFC 3501 §2.3.2)."""
    return tuple(flag for flag in flags if flag.lower() != "\\recent")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A fetched message with its digest and content hash (SHA-256 of `raw`), ready for the store."""

    fetched: Fetched
    digest: Digest
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox in one incarnation. UIDs mean nothing outside it (RFC 3501 §2.3.1.1)."""

    connector_id: ConnectorId
    mailbox: str
    uidvalidity: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a mailbox has been read: every UID up to `last_uid` was considered, but for those below
    `backfill_below` while its first load is under way.

    A message of that load counts as created so many microseconds after `backfill_epoch` as its UID says: newest first
    is how they come, not how they are listed. What became of the messages since is known up to the change `modseq`
    (RFC 7162), or, where the server does not count changes, as of `compared_at`.
    """

    uidvalidity: int
    last_uid: int
    backfill_below: int | None = None
    backfill_epoch: datetime | None = None
    modseq: int | None = field(default=None, compare=False)
    compared_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The UIDs from `first` to below `end` were considered by a first load; `first` is 0 when none are left."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A message the store has just committed."""

    id: MessageId
    uid: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch became: new rows, messages recognised under new UIDs, and those that were there already."""

    stored: tuple[Stored, ...]
    remapped: int
    known: int


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message without its bytes. `seq` counts all messages in order of arrival.

    `vanished_at`: when it was found to be gone from its mailbox, of which this is then the only copy.
    """

    id: MessageId
    seq: int
    inbox_id: InboxId
    connector_id: ConnectorId | None
    created_at: datetime
    updated_at: datetime
    received_at: datetime | None
    mailbox: str | None
    uidvalidity: int | None
    uid: int | None
    flags: tuple[str, ...]
    read: bool
    favourite: bool
    size_bytes: int
    digest: Digest
    vanished_at: datetime | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outline:
    """What a search examines of a stored message: those fields of its digest that were asked for, and its place."""

    seq: int
    created_at: datetime
    digest: Digest


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail to be built. Bodies: text, html, or both; `attachments` are (file name, content type, bytes).

    `sender` is a bare address; recipients and `reply_to` may be written with a name: `Ada <ada@example.org>`.
    `attachment_ids` names those attachments that are kept here too. `in_reply_to` and `references` are Message-IDs
    without angle brackets.
    """

    sender: str
    to: tuple[str, ...]
    subject: str = ""
    sender_name: str | None = None
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: str | None = None
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    attachments: tuple[tuple[str, str, bytes], ...] = ()
    attachment_ids: tuple[str, ...] = ()
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A mail handed to, or refused by, a connector's SMTP server.

    `attachments` are ids of attachments kept here; `reply` holds the server's words. Lists come without `body`.
    """

    id: SentId
    inbox_id: InboxId
    connector_id: ConnectorId | None
    created_at: datetime
    state: SentState
    sender: Address
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    subject: str | None
    header_message_id: str
    size_bytes: int
    sent_at: datetime | None = None
    reply_to: str | None = None
    body: str | None = None
    is_html: bool = False
    attachments: tuple[str, ...] = ()
    reply: str | None = None
    in_reply_to: str | None = None
    excerpt: str | None = None
