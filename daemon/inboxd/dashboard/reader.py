"""One mail: shown in a frame that runs and loads nothing, or as text, source, headers, parts and raw bytes."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final
from uuid import UUID

from aiohttp import web

from inboxd.api import answers
from inboxd.api.answers import File
from inboxd.dashboard import guard, mail, search
from inboxd.dashboard.page import Moved, Shown, Visit
from inboxd.errors import NotFound
from inboxd.mail import glean, parse
from inboxd.mails import Body, Message
from inboxd.model import MessageFilter, MessageId
from inboxd.store import marks, messages, neighbours

VIEWS: Final = ("html", "text", "source", "headers", "parts", "raw")
MAX_SHOWN: Final = 1 << 20  # characters of source or raw bytes on a page
# A frame of its own origin without scripts, forms or anything from elsewhere, whatever the mail holds.
_FRAME: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline';"
    " img-src data:{remote}; font-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_AROUND: Final = (
    '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    '<base target="_blank"><style>body{margin:1rem;font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere;'
    "background:#fff;color:#1c2422}img{max-width:100%;height:auto}pre{white-space:pre-wrap}</style>"
)


async def show(visit: Visit) -> Shown:
    """The mail; reading it marks it as read."""
    message = await _message(visit)
    raw = await messages.raw(visit.services.store, message.id)
    body = await asyncio.to_thread(parse.body, raw)
    view = visit.given("view")
    if view not in VIEWS:
        view = "html" if body.html is not None else "text"
    found = search.read(visit.given("q"), MessageFilter(inbox_ids=mail.inbox_of(visit)))
    newer, older = await neighbours.of(visit.services.store, found.chosen, message)
    if not message.read:
        message = await messages.mark_read(visit.services.store, message.id, read=True)
        visit.counts.forget()
        visit.services.bus.publish(message.id)
    return Shown(
        "message.html",
        {
            "message": message,
            "digest": message.digest,
            "body": body,
            "view": view,
            "views": [one for one in VIEWS if one != "html" or body.html is not None],
            "shown": _shown(view, raw, body),
            "most": MAX_SHOWN,
            "remote": visit.given("remote") == "1",
            "newer": newer,
            "older": older,
            "context": mail.context(visit),
            "back": mail.address(visit),
        },
    )


def _shown(view: str, raw: bytes, body: Body) -> str:
    """The text of a view that is text."""
    if view == "text":
        return (body.text if body.text is not None else "\n".join(glean.lines_of_html(body.html or "")))[:MAX_SHOWN]
    if view == "source":
        return (body.html or body.text or "")[:MAX_SHOWN]
    if view == "raw":
        return raw[:MAX_SHOWN].decode("utf-8", "replace")
    return ""


async def frame(visit: Visit) -> web.StreamResponse:
    """The mail's HTML with its own images; others are loaded when `remote` says so, and by nobody else's leave."""
    raw = await messages.raw(visit.services.store, _id(visit))
    html = await asyncio.to_thread(_html, raw)
    remote = " https: http:" if visit.given("remote") == "1" else ""
    headers = {**guard.HEADERS, "Content-Security-Policy": _FRAME.format(remote=remote)}
    headers |= {"X-Frame-Options": "SAMEORIGIN", "Content-Type": "text/html; charset=utf-8"}
    headers |= {"Referrer-Policy": "no-referrer"}
    return web.Response(text=_AROUND + html, headers=headers)


def _html(raw: bytes) -> str:
    body = parse.body(raw)
    if body.html is None:
        return glean.html_of_text(body.text or "")
    return glean.with_images(glean.disarmed(body.html), parse.images(raw))


async def attachment(visit: Visit) -> web.StreamResponse:
    """An attachment, to be saved."""
    message = await _message(visit)
    position = visit.request.match_info["position"]
    found = [one for one in message.digest.attachments if str(one.position) == position]
    if not found:
        raise NotFound("the mail has no such attachment")
    raw = await messages.raw(visit.services.store, message.id)
    content = await asyncio.to_thread(parse.attachment, raw, found[0].position)
    return answers.whole(HTTPStatus.OK, File(content, answers.OCTETS, found[0].name), answers.OCTETS)


async def raw(visit: Visit) -> web.StreamResponse:
    """The mail as the server handed it over, to be saved."""
    message_id = _id(visit)
    content = await messages.raw(visit.services.store, message_id)
    return answers.whole(HTTPStatus.OK, File(content, "message/rfc822", f"{message_id}.eml"), answers.OCTETS)


async def unread(visit: Visit) -> Moved:
    """Back to the list, the mail unread again."""
    await messages.mark_read(visit.services.store, _id(visit), read=False)
    return Moved(mail.address(visit))


async def favourite(visit: Visit) -> Moved:
    """The mail among the favourites, or no longer."""
    message = await _message(visit)
    await marks.set_favourite(visit.services.store, message.id, not message.favourite)
    return Moved(f"/ui/mail/{message.id}{mail.context(visit)}")


async def delete(visit: Visit) -> Moved:
    """Delete the mail here; the mailbox keeps it."""
    await messages.remove(visit.services.store, _id(visit))
    visit.session.tell("The mail is deleted here; the mailbox it came from still has it.")
    return Moved(mail.address(visit))


async def _message(visit: Visit) -> Message:
    return await messages.get(visit.services.store, _id(visit))


def _id(visit: Visit) -> MessageId:
    given = visit.request.match_info["id"]
    try:
        return MessageId(UUID(given))
    except ValueError as error:
        raise NotFound(f"there is no message {given[:80]}") from error
