"""The API in a thread of its own with one of everything in its store, for clients that know nothing of event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from api_site import MAIL, Site, open_site
from servers import LOOPBACK

T = TypeVar("T")
_SECONDS = 30.0
WITH_ATTACHMENT = (
    b"From: ada@example.com\r\nTo: me@example.com\r\nSubject: Welcome\r\nMessage-ID: <two@example.com>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
    b"<p>Hello <a href='https://example.com/'>you</a></p>\r\n--b\r\nContent-Type: text/csv; name=a.csv\r\n"
    b"Content-Disposition: attachment; filename=a.csv\r\n\r\n1,2\r\n--b--\r\n"
)


@dataclass(frozen=True, slots=True)
class Threaded:
    """A site and the loop it runs in."""

    site: Site
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of `work` in the site's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_SECONDS)


@contextmanager
def threaded_site(folder: Path) -> Generator[Threaded]:
    """A site that runs while the block does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="site", daemon=True)
    thread.start()
    stack = AsyncExitStack()
    try:
        site = asyncio.run_coroutine_threadsafe(stack.enter_async_context(open_site(folder)), loop).result(_SECONDS)
        yield Threaded(site, loop)
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True, slots=True)
class Seeds:
    """Ids of what exists: by the beginning of a path for its parameters, and by name for queries and bodies."""

    places: dict[str, dict[str, str]]
    names: dict[str, str]

    def in_path(self, path: str) -> dict[str, str]:
        """The ids for the parameters of a path template."""
        fitting = [place for place in self.places if path.startswith(place)]
        return self.places[max(fitting, key=len)] if fitting else {}


async def sow(site: Site, smtp_port: int, closed_port: int) -> Seeds:
    """Store one of everything anew."""
    connector = await site.new_connector(name="seed", emailAddress="me@example.com")
    place = f"/connectors/{connector['id']}"
    smtp = {"smtpHost": LOOPBACK, "smtpPort": smtp_port, "smtpSsl": False, "startTls": False}
    assert (await site.ask("POST", f"{place}/smtp", smtp)).status == 201
    imap = {"imapHost": LOOPBACK, "imapPort": closed_port, "imapSsl": False, "startTls": False}
    assert (await site.ask("POST", f"{place}/imap", imap)).status == 201
    mail, _ = await site.deliver(connector, WITH_ATTACHMENT, MAIL)
    options = {"to": ["ada@example.com"], "subject": "Hello", "body": "Good morning"}
    sent = (await site.ask("POST", f"{place}/send", options)).json
    event = (await site.ask("GET", f"{place}/events")).json["content"][0]
    inbox, email = connector["inboxId"], str(mail.id)
    upload = {"filename": "a.txt", "contentType": "text/plain", "base64Contents": "aGVsbG8="}
    (uploaded,) = (await site.ask("POST", "/attachments", upload)).json
    hook = {"url": f"http://{LOOPBACK}:{closed_port}/", "eventName": "NEW_EMAIL"}
    webhook = (await site.ask("POST", f"/inboxes/{inbox}/webhooks", hook)).json["id"]
    attachment = str(mail.digest.attachments[0].id)
    return Seeds(
        {
            "/attachments/": {"attachmentId": uploaded},
            "/connectors/": {"id": connector["id"]},
            "/connectors/events/": {"id": event["id"]},
            "/emails/": {"emailId": email, "attachmentId": attachment},
            "/inboxes/": {"inboxId": inbox, "webhookId": webhook},
            "/sent/": {"id": sent["id"], "emailId": sent["id"]},
            "/webhooks/": {"webhookId": webhook},
        },
        {"id": connector["id"], "inboxId": inbox, "inboxIds": inbox, "senderId": inbox, "emailId": email,
         "sentEmailId": sent["id"], "attachmentId": attachment, "attachments": uploaded},
    )  # fmt: skip
