"""Handlers that look into a mail's body: its HTML, text, links, lines, matches and parts. None marks it as read."""

from __future__ import annotations

from asyncio import to_thread

from inboxd import patterns
from inboxd.api.wire.contents import (
    ContentMatchOptions,
    EmailContentMatchResult,
    EmailContentPartResult,
    EmailHtmlDto,
    EmailLinksResult,
    EmailTextLinesResult,
    HtmlQuery,
    HtmlSelectorQuery,
    LinksQuery,
    PartQuery,
    TextLinesQuery,
)
from inboxd.errors import NotFound
from inboxd.mail import confined, glean, parse
from inboxd.mails import Body
from inboxd.model import MessageId
from inboxd.services import Services
from inboxd.store import messages


async def get_html(services: Services, email_id: MessageId, query: HtmlQuery) -> str:
    """The mail's HTML, or its text as HTML; with its own images in it if asked for."""
    raw = await messages.raw(services.store, email_id)
    return await to_thread(_html, raw, with_images=query.replace_cid_images)


async def get_html_json(services: Services, email_id: MessageId, query: HtmlQuery) -> EmailHtmlDto:
    """The same, with the subject."""
    message = await messages.get(services.store, email_id)
    return EmailHtmlDto(subject=message.digest.subject, body=await get_html(services, email_id, query))


def _html(raw: bytes, *, with_images: bool) -> str:
    body = parse.body(raw)
    if body.html is None:
        return glean.html_of_text(body.text or "")
    return glean.with_images(body.html, parse.images(raw)) if with_images else body.html


async def download_body(services: Services, email_id: MessageId) -> str:
    """The mail's HTML, or its text."""
    return _shown(await _body(services, email_id))


async def download_body_bytes(services: Services, email_id: MessageId) -> bytes:
    """The same in UTF-8."""
    return (await download_body(services, email_id)).encode()


async def get_links(services: Services, email_id: MessageId, query: LinksQuery) -> EmailLinksResult:
    """The links of the HTML, or within the elements `selector` matches; the URLs of a mail that is text alone."""
    body = await _body(services, email_id)
    if body.html is not None or query.selector is not None:
        links = await to_thread(confined.links, _html_of(body), query.selector)
    else:
        links = await to_thread(glean.links_of_text, body.text or "")
    return EmailLinksResult(links=links, body=_shown(body))


async def get_text_lines(services: Services, email_id: MessageId, query: TextLinesQuery) -> EmailTextLinesResult:
    """The lines of visible text, without empty ones."""
    body = await _body(services, email_id)
    return EmailTextLinesResult(lines=await to_thread(_lines, body, query), body=_shown(body))


def _lines(body: Body, query: TextLinesQuery) -> list[str]:
    decode = query.decode_html_entities
    if body.html is None:
        return glean.lines_of_text(body.text or "", decode=bool(decode), separator=query.line_separator)
    return glean.lines_of_html(body.html, decode=decode is not False, separator=query.line_separator)


async def query_html(services: Services, email_id: MessageId, query: HtmlSelectorQuery) -> EmailTextLinesResult:
    """The lines of visible text of the elements that match; none when nothing does."""
    source = _html_of(await _body(services, email_id))
    return EmailTextLinesResult(lines=await to_thread(confined.lines, source, query.html_selector), body=source)


async def match_content(services: Services, email_id: MessageId, body: ContentMatchOptions) -> EmailContentMatchResult:
    """The first match of a regular expression in the mail's HTML, or its text, and its groups."""
    pattern = await to_thread(patterns.compile, "pattern", body.pattern)
    matches = await to_thread(patterns.search, pattern, _shown(await _body(services, email_id)))
    return EmailContentMatchResult(pattern=body.pattern, matches=matches or [])


async def get_part(services: Services, email_id: MessageId, query: PartQuery) -> EmailContentPartResult:
    """The text of one part."""
    return EmailContentPartResult(content=await get_part_content(services, email_id, query))


async def get_part_content(services: Services, email_id: MessageId, query: PartQuery) -> str:
    """The text of one part as it is."""
    raw = await messages.raw(services.store, email_id)
    return await to_thread(parse.part, raw, query.content_type, query.index, strict=query.strict)


async def _body(services: Services, email_id: MessageId) -> Body:
    return await to_thread(parse.body, await messages.raw(services.store, email_id))


def _shown(body: Body) -> str:
    return body.html if body.html is not None else body.text or ""


def _html_of(body: Body) -> str:
    if body.html is None:
        raise NotFound("the mail has no HTML in which a selector could match; ask for its textLines instead")
    return body.html
