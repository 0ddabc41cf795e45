"""EmailController: what is in a mail's body."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inboxd.api.wire.shapes import Answer, Request

Selector = Annotated[str, Field(max_length=1_000)]


class HtmlQuery(Request):
    replace_cid_images: bool = False


class LinksQuery(Request):
    selector: Selector | None = None


class TextLinesQuery(Request):
    """How lines are made: unless said otherwise, character references are decoded in HTML and nowhere else."""

    decode_html_entities: bool | None = None
    line_separator: Annotated[str, Field(max_length=1_000)] = "\n"


class HtmlSelectorQuery(Request):
    html_selector: Selector


class PartQuery(Request):
    """Which part is wanted: the one at `index`, from 0, among those of a content type."""

    content_type: Annotated[str, Field(max_length=1_000)]
    strict: bool = False
    index: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class ContentMatchOptions(Request):
    pattern: str


class EmailHtmlDto(Answer):
    subject: str | None
    body: str


class EmailLinksResult(Answer):
    """Links, and the body they were found in."""

    links: list[str]
    body: str


class EmailTextLinesResult(Answer):
    """Lines, and the body they are of."""

    lines: list[str]
    body: str


class EmailContentMatchResult(Answer):
    """The whole match and then its groups; nothing without a match."""

    pattern: str
    matches: list[str]


class EmailContentPartResult(Answer):
    content: str
