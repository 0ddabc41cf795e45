"""A mailbox on the real servers, with a mail in it that has one of everything."""

from __future__ import annotations

import base64
from typing import Final

from servers.dovecot import Dovecot, User
from servers.smtp import Received, SmtpServer

PNG: Final = b"\x89PNG\r\n\x1a\n picture"
PDF: Final = b"%PDF-1.7"
HTML: Final = (
    '<h1>Hello</h1><p><a href="https://example.com/confirm?code=123456">confirm</a></p><img src="cid:picture@example">'
)
RICH: Final = b"""From: Ada Lovelace <ada@example.com>
To: me@example.com
Subject: rich
Message-ID: <rich@example.com>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=mixed

--mixed
Content-Type: multipart/alternative; boundary=either

--either
Content-Type: text/plain; charset=utf-8

Hello, there is a PDF inside
--either
Content-Type: text/html; charset=utf-8

%s
--either--
--mixed
Content-Type: image/png; name=picture.png
Content-ID: <picture@example>
Content-Disposition: inline; filename=picture.png
Content-Transfer-Encoding: base64

%s
--mixed
Content-Type: application/pdf
Content-Disposition: attachment; filename=report.pdf
Content-Transfer-Encoding: base64

%s
--mixed--
""" % (HTML.encode(), base64.b64encode(PNG), base64.b64encode(PDF))


def rich_mailbox(dovecot: Dovecot, smtp: SmtpServer) -> User:
    """A mailbox with the rich mail, into which the SMTP server delivers what is sent to it."""
    user = dovecot.user()
    dovecot.append(user, RICH.replace(b"\n", b"\r\n"))

    def deliver(mail: Received) -> None:
        if user.name in mail.rcpt_tos:
            dovecot.append(user, mail.content)

    smtp.deliver = deliver
    smtp.users[user.name] = user.password
    return user
