"""What a second look at a server shows after a test failed: its certificate, and what its port really speaks.

Nobody logs in here, and no secret is sent.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final

from inboxd import net
from inboxd.causes import Failure
from inboxd.dial import shown_certificate
from inboxd.errors import ConnectionLost, MailServerError, PinRefused, ProtocolError, Stalled, TlsFailed
from inboxd.model import Account, Tls
from inboxd.settings import Settings

_LOOK_SECONDS: Final = 5.0
_LISTEN_SECONDS: Final = 1.5
_FIRST_BYTES: Final = 200
# What a web server answers, and a mail server takes for an unknown command.
_QUESTION: Final = b"OPTIONS / HTTP/1.0\r\n\r\n"


async def gathered(failure: Failure, settings: Settings) -> Failure:
    """The failure, with what another connection or two to the server add to it. Never raises for what a server does."""
    with suppress(MailServerError, TimeoutError):
        async with asyncio.timeout(_LOOK_SECONDS):
            return await _looked(failure, settings)
    return failure


async def _looked(failure: Failure, settings: Settings) -> Failure:
    error, account = failure.error, failure.account
    if isinstance(error, PinRefused):
        return replace(failure, certificate=error.seen)
    if failure.certificate is None and isinstance(error, TlsFailed) and "certificate of" in failure.words:
        return replace(failure, certificate=await shown_certificate(account, settings))
    if failure.certificate is not None or failure.answer or not _may_be_another_protocol(failure):
        return failure
    if account.tls is not Tls.IMPLICIT:
        with suppress(MailServerError):
            seen = await shown_certificate(replace(account, tls=Tls.IMPLICIT), settings)
            return replace(failure, certificate=seen, begins_tls=True)
    return replace(failure, spoken=await _first_words(account, settings))


def _may_be_another_protocol(failure: Failure) -> bool:
    """Whether nothing was understood on the connection yet."""
    error = failure.error
    if failure.step == "tls" and failure.account.tls is Tls.IMPLICIT:
        return not isinstance(error, TlsFailed) or "may not speak tls" in failure.words
    return failure.step == "greeting" and isinstance(error, (Stalled, ConnectionLost, ProtocolError))


async def _first_words(account: Account, settings: Settings) -> str:
    """What the port says without TLS, by itself or when asked in HTTP; empty when it says nothing."""
    bare = replace(account, tls=Tls.NONE)  # in clear, whatever the settings: nothing that is secret is said
    loop = asyncio.get_running_loop()
    seconds = min(_LISTEN_SECONDS, settings.imap.connect_seconds)
    with closing(await net.connect_account(bare, _LOOK_SECONDS, allow_plaintext=True)) as sock:
        for said in (b"", _QUESTION):
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(seconds):
                    await loop.sock_sendall(sock, said)
                    if heard := await loop.sock_recv(sock, _FIRST_BYTES):
                        return _printable(heard)
    return ""


def _printable(heard: bytes) -> str:
    line = heard.decode("latin-1").partition("\r\n")[0]
    return "".join(sign if sign.isprintable() else "?" for sign in line)
