"""From an address and its password to flowing mail: the real daemon, a name server, Dovecot and an SMTP server."""

from __future__ import annotations

import json

from inboxd.model import Tls
from servers import LOOPBACK
from servers.certs import Certificates
from servers.daemon import Daemon
from servers.dovecot import Dovecot
from servers.names import name_server
from servers.smtp import smtp_server


def test_an_address_and_its_password_make_mail_flow(
    daemon: Daemon, dovecot: Dovecot, certificates: Certificates
) -> None:
    user = dovecot.user("ann", "canary-3f9a word")
    dovecot.append(user, b"Subject: hello\r\n\r\nbody\r\n")
    users, context = {user.name: user.password}, certificates.good.server_context()
    with smtp_server(Tls.IMPLICIT, context=context, users=users) as smtp:
        zone = {
            ("_imaps._tcp.example.test", "SRV"): [f"0 1 {dovecot.tls.port} localhost."],
            ("_submissions._tcp.example.test", "SRV"): [f"0 1 {smtp.port} localhost."],
        }
        with name_server(zone) as port:
            daemon.settings |= {
                "INBOXD_DISCOVERY__NAME_SERVER": f"{LOOPBACK}:{port}",
                "INBOXD_DISCOVERY__ISPDB": "",
                "INBOXD_DISCOVERY__ALLOW_PRIVATE": "true",
                "INBOXD_DISCOVERY__STEP_SECONDS": "1",
            }
            daemon.start()
            found = json.loads(daemon.ctl("discover", user.name, "--json"))
            assert (found["source"], found["imap"]["host"], found["smtp"]["port"]) == ("SRV", "localhost", smtp.port)
            made = json.loads(
                daemon.ctl("connector", "add", "--email", user.name, "--password-stdin", "--json", stdin=user.password)
            )
        daemon.await_count(made, 1)
        daemon.ctl("send", user.name, "--to", "friend@example.net", "--subject", "out", "--text", "x")
        assert [mail.rcpt_tos for mail in smtp.wait_for()] == [("friend@example.net",)]
    assert "settings_found" in daemon.log
    assert user.password not in daemon.log
    refused = daemon.ctl("discover", "ann@localhost", status=2)
    assert "write a mail address with a domain" in refused
