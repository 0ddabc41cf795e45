"""What all wire models share: camelCase names, MailSlurp's dates, page envelopes, and text that is safe to use.

Requests: null means absent, unknown fields are ignored, empty query values never arrive. Answers: dates are
yyyy-MM-ddTHH:mm:ss.SSSZ and absent values null, except in `Sparse` models, which leave them out.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from inboxd.mail.addresses import read as read_addresses
from inboxd.mails import Address
from inboxd.model import Page, Window

R = TypeVar("R")
T = TypeVar("T", bound="Answer")

# Beyond these a value is a mistake, and an overflow in some database.
MOST_PAGE = 1_000_000_000
MOST_ROWS = 1_000
MOST_MAILS = 100
MOST_MILLISECONDS = 299_999
_NO_DATE = "is not a date such as 2026-01-31T12:00:00Z"
_SPACE_FOR_PLUS = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")
# PostgreSQL keeps no NUL in text, and half a character (bytes of a query that are not UTF-8) is no text at all.
FOUL_TEXT: Final = "foul_text"
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_HOST = re.compile(r"[^\s/\\@:,;\"<>()\[\]\x00-\x1f\x7f]{1,253}")
_ADDRESS = re.compile(r"[^@\s,;<>()\x00-\x1f\x7f]{1,200}@[^@\s,;<>()\x00-\x1f\x7f]{1,253}")


class Wire(BaseModel):
    """A JSON object of the API: snake_case here, camelCase there."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class Request(Wire):
    """What a client sends, as a body or as a query."""

    def local_fields(self) -> tuple[str, ...]:
        """What was given that names something on the daemon's machine: over the control socket alone."""
        return ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        present = {name: value for name, value in cast("dict[str, object]", given).items() if value is not None}
        for name, value in present.items():
            if _NO_TEXT.search(_text_in(value)):
                raise PydanticCustomError(FOUL_TEXT, "not text", {"path": (name,)})
        return present


def _text_in(value: object) -> str:
    if isinstance(value, str):
        return value
    return "".join(_text_in(item) for item in cast("list[object]", value)) if isinstance(value, list) else ""


class Answer(Wire):
    """What the server sends."""


class Sparse(Answer):
    """An answer that leaves out what it does not have."""

    @model_serializer(mode="wrap")
    def _without_nulls(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


def read_date(given: object) -> object:
    """The aware UTC time of an ISO 8601 text; without an offset it is read as UTC."""
    if isinstance(given, datetime):
        return given
    if not isinstance(given, str):
        raise ValueError(_NO_DATE)  # noqa: TRY004
    try:
        # A client that forgot to percent-encode +00:00 sends a space.
        read = datetime.fromisoformat(_SPACE_FOR_PLUS.sub("+", given) if "T" in given else given)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(_NO_DATE) from error


def write_date(moment: datetime) -> str:
    """The time as MailSlurp writes it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def one_line(text: str) -> str:
    """The text, which goes into a protocol line or a header: CR, LF and NUL would end or forge it."""
    if any(mark in text for mark in "\r\n\x00"):
        raise ValueError("must be one line: remove CR, LF and NUL")
    return text


def host_name(text: str) -> str:
    """The host name or IP address, nothing around it."""
    if _HOST.fullmatch(text):
        return text
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError as error:
        raise ValueError("write a host name or IP address alone, for example imap.example.com") from error


def email_address(text: str) -> str:
    """The bare mail address."""
    if not is_email_address(text):
        raise ValueError("write a mail address, for example name@example.com")
    return text


def is_email_address(text: str) -> bool:
    """Whether it looks like a bare mail address; what a mail may really be sent to is for `mail.build` to say."""
    return _ADDRESS.fullmatch(text) is not None


def _upper(given: object) -> object:
    return given.upper() if isinstance(given, str) else given


def _at_most(most: int) -> AfterValidator:
    return AfterValidator(lambda size: min(size, most))


class Sort(enum.Enum):
    """The order of a list by creation time."""

    ASC = "ASC"
    DESC = "DESC"


Date = Annotated[
    datetime,
    BeforeValidator(read_date),
    PlainSerializer(write_date, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Line = Annotated[str, Field(max_length=4_096), AfterValidator(one_line)]
Host = Annotated[str, AfterValidator(host_name)]
MailAddress = Annotated[
    str, AfterValidator(one_line), AfterValidator(email_address), Field(json_schema_extra={"format": "email"})
]
Port = Annotated[int, Field(ge=1, le=65_535)]
SortOrder = Annotated[Sort, BeforeValidator(_upper)]
Milliseconds = Annotated[int, Field(ge=0, le=2**63 - 1), _at_most(MOST_MILLISECONDS)]
Size = Annotated[int, Field(ge=1, le=2**31 - 1), _at_most(MOST_ROWS)]
MailSize = Annotated[int, Field(ge=1, le=2**31 - 1), _at_most(MOST_MAILS)]


class Span(Request):
    """The part of a list query that every list has. Sizes above the greatest page are cut to it."""

    sort: SortOrder = Sort.ASC
    since: Date | None = None
    before: Date | None = None


class PageQuery(Span):
    """Which page of a list is wanted."""

    page: Annotated[int, Field(ge=0, le=MOST_PAGE)] = 0
    size: Size = 20

    def window(self) -> Window:
        """The rows it asks for."""
        return Window(self.page, self.size, self.sort is Sort.ASC, self.since, self.before)


class SortObject(Answer):
    """Spring's description of an order."""

    sorted: bool = True
    unsorted: bool = False
    empty: bool = False


class PageableObject(Answer):
    """Spring's description of a page request."""

    offset: int
    page_number: int
    page_size: int
    sort: SortObject = SortObject()
    paged: bool = True
    unpaged: bool = False


class PageOf(Answer, Generic[T]):
    """Spring's page envelope."""

    content: list[T]
    total_pages: int
    total_elements: int
    size: int
    number: int
    number_of_elements: int
    first: bool
    last: bool
    empty: bool
    sort: SortObject
    pageable: PageableObject

    @classmethod
    def of(cls, window: Window, page: Page[R], write: Callable[[R], T]) -> Self:
        """The envelope around the rows of `page`, each written by `write`."""
        total_pages = -(-page.total // window.size)
        return cls(
            content=[write(row) for row in page.rows],
            total_pages=total_pages,
            total_elements=page.total,
            size=window.size,
            number=window.page,
            number_of_elements=len(page.rows),
            first=window.page == 0,
            last=window.page + 1 >= total_pages,
            empty=not page.rows,
            sort=SortObject(),
            pageable=PageableObject(offset=window.page * window.size, page_number=window.page, page_size=window.size),
        )


class Person(Answer):
    """An address as written, bare, and its display name."""

    raw_value: str
    email_address: str
    name: str | None = None

    @classmethod
    def of(cls, address: Address) -> Self:
        """The wire form of a parsed address."""
        return cls(raw_value=address.raw, email_address=address.address, name=address.name)

    @classmethod
    def read(cls, text: str) -> Self:
        """The wire form of an address as a sender wrote it."""
        found = read_addresses([text])
        return cls.of(found[0]) if found else cls(raw_value=text, email_address=text)


class Sender(Person):
    """Whom a mail is from."""


class Recipient(Person):
    """Whom a mail is for."""


class EmailRecipients(Answer):
    """All recipients of a mail, by header."""

    to: list[Recipient]
    cc: list[Recipient]
    bcc: list[Recipient]
