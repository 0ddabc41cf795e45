"""Delivery notices (RFC 3464) as mail servers write them, about the mail 7f3a@example.com; lines end in LF."""

from __future__ import annotations

POSTFIX = b"""Return-Path: <>
Received: by mx.example.net (Postfix) id 4XkZ1; Mon, 4 May 2026 08:30:00 +0000 (UTC)
Date: Mon, 4 May 2026 08:30:00 +0000 (UTC)
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: ada@example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4XkZ0.1777883400/mx.example.net"
Content-Transfer-Encoding: 8bit
Message-Id: <20260504083000.4XkZ1@mx.example.net>

This is a MIME-encapsulated message.

--4XkZ0.1777883400/mx.example.net
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.net.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients.

<bob@example.org>: host mail.example.org[192.0.2.7] said: 550 5.1.1
    <bob@example.org>: Recipient address rejected: User unknown (in reply to
    RCPT TO command)

--4XkZ0.1777883400/mx.example.net
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
X-Postfix-Queue-ID: 4XkZ0
X-Postfix-Sender: rfc822; ada@example.com
Arrival-Date: Mon,  4 May 2026 08:29:59 +0000 (UTC)

Final-Recipient: rfc822; bob@mail.example.org
Original-Recipient: rfc822;bob@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mail.example.org
Diagnostic-Code: smtp; 550 5.1.1 <bob@example.org>: Recipient address rejected:
    User unknown

Final-Recipient: rfc822; cy@example.org
Original-Recipient: rfc822;cy@example.org
Action: failed
Status: 4.4.1
Diagnostic-Code: X-Postfix; connect to mail.example.org[192.0.2.7]:25:
    Connection timed out

--4XkZ0.1777883400/mx.example.net
Content-Description: Undelivered Message
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Return-Path: <ada@example.com>
Message-ID: <7f3a@example.com>
Subject: Hello
From: ada@example.com
To: bob@example.org
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain

Hello
--inner--

--4XkZ0.1777883400/mx.example.net--
"""
EXCHANGE = b"""From: Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.com>
To: ada@example.com
Date: Mon, 4 May 2026 08:30:02 +0000
Content-Type: multipart/report; report-type=delivery-status;
 boundary="d8f2c0a5-8a8e-4b8f-9f0a"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-US
Message-ID: <b3c1@AM0PR01MB0001.eurprd01.prod.exchangelabs.com>
In-Reply-To: <7f3a@example.com>
References: <7f3a@example.com>
Subject: Undeliverable: Hello
Auto-Submitted: auto-replied
MIME-Version: 1.0

--d8f2c0a5-8a8e-4b8f-9f0a
Content-Type: multipart/alternative; differences=Content-Type;
 boundary="a1b2"

--a1b2
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

Your message to bob@example.org couldn't be delivered.=

--a1b2
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body>Your message couldn't be delivered.</body></html>

--a1b2--

--d8f2c0a5-8a8e-4b8f-9f0a
Content-Type: message/delivery-status

Reporting-MTA: dns;AM0PR01MB0001.eurprd01.prod.exchangelabs.com
Received-From-MTA: dns;AM9PR01MB0002.eurprd01.prod.exchangelabs.com
Arrival-Date: Mon, 4 May 2026 08:30:01 +0000

Original-Recipient: rfc822;bob@example.org
Final-Recipient: rfc822;bob@example.org
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient
 bob@example.org not found by SMTP address lookup
X-Display-Name: bob@example.org

--d8f2c0a5-8a8e-4b8f-9f0a
Content-Type: message/rfc822

From: Ada <ada@example.com>
To: "bob@example.org" <bob@example.org>
Subject: Hello
Message-ID: <7f3a@example.com>
MIME-Version: 1.0
Content-Type: text/plain

Hello

--d8f2c0a5-8a8e-4b8f-9f0a--
"""
GMAIL = b"""MIME-Version: 1.0
Date: Mon, 04 May 2026 01:30:00 -0700 (PDT)
Subject: Delivery Status Notification (Delay)
From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
To: ada@example.com
Auto-Submitted: auto-replied
In-Reply-To: <7f3a@example.com>
References: <7f3a@example.com>
Content-Type: multipart/report; boundary="000000000000aa"; report-type=delivery-status

--000000000000aa
Content-Type: multipart/related; boundary="000000000000bb"

--000000000000bb
Content-Type: multipart/alternative; boundary="000000000000cc"

--000000000000cc
Content-Type: text/plain; charset="UTF-8"

** Delivery incomplete **
--000000000000cc
Content-Type: text/html; charset="UTF-8"

<html><body>Delivery incomplete</body></html>
--000000000000cc--
--000000000000bb
Content-Type: image/png; name="icon.png"
Content-Disposition: attachment; filename="icon.png"
Content-Transfer-Encoding: base64
Content-ID: <icon.png>

iVBORw0KGgo=
--000000000000bb--
--000000000000aa
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.com
Arrival-Date: Sun, 03 May 2026 01:30:00 -0700 (PDT)
X-Original-Message-ID: <7f3a@example.com>

Final-Recipient: rfc822; bob@example.org
Action: delayed
Status: 4.4.1
Diagnostic-Code: smtp; The recipient server did not accept our requests to connect. Learn more at https://support.google.com/mail/answer/7720
 [mail.example.org. 192.0.2.7: timed out]
Last-Attempt-Date: Mon, 04 May 2026 01:30:00 -0700 (PDT)
Will-Retry-Until: Tue, 05 May 2026 01:30:00 -0700 (PDT)

--000000000000aa
Content-Type: message/rfc822

Message-ID: <7f3a@example.com>
Subject: Hello

Hello
--000000000000aa--
"""
DOVECOT = b"""Message-ID: <dovecot-1777883400-000001-0@mail.example.org>
Date: Mon, 04 May 2026 08:30:00 +0000
From: Mail Delivery Subsystem <postmaster@mail.example.org>
To: <ada@example.com>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4242/mail.example.org"
Subject: Rejected: Hello
Auto-Submitted: auto-replied (rejected)
Precedence: bulk

This is a MIME-encapsulated message

--4242/mail.example.org
Content-Type: text/plain; charset=utf-8
Content-Disposition: inline
Content-Transfer-Encoding: 8bit

Your message to <bob@example.org> was automatically rejected:
Quota exceeded (mailbox for user is full)
--4242/mail.example.org
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org
Original-Recipient: rfc822; bob@example.org
Final-Recipient: rfc822; bob@example.org
Action: failed
Status: 5.2.2

--4242/mail.example.org
Content-Type: text/rfc822-headers

Return-Path: <ada@example.com>
Subject: Hello
Message-ID: <7f3a@example.com>

--4242/mail.example.org--
"""
GLOBAL = """From: postmaster@example.net
Content-Type: multipart/report; report-type="delivery-status"; boundary=b

--b
Content-Type: text/plain; charset=utf-8

Sorry
--b
Content-Type: message/global-delivery-status
Content-Transfer-Encoding: 8bit

Reporting-MTA: dns; mx.example.net

Original-Recipient: utf-8; jürgen@bücher.example
Final-Recipient: rfc822; j-rgen@xn--bcher-kva.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 Empfänger unbekannt

Original-Recipient: utf-8; \\x{1F4EC}@example.org
Final-Recipient: utf-8; box@example.org
Action: Delivered (to mailbox)
Status: 2.0.0 (fine)

--b
Content-Type: message/global

Message-ID: <7f3a@example.com>
Subject: Grüße

Hallo
--b--
""".encode()
