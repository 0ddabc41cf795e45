"""What goes wrong before a server is spoken to: the secret's place, the proxy, the name, the port, the protocol.

The words are this program's own and libc's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inboxd.causes.record import Diagnosis, Failure
from inboxd.errors import (
    ConnectionLost,
    CredentialFailed,
    CredentialRefused,
    Insecure,
    Invalid,
    ProtocolError,
    ProxyFailed,
    Stalled,
    Throttled,
    Unreachable,
)
from inboxd.model import Kind

_OTHER_PROTOCOL: Final = ("tls", "greeting", "capabilities")


def _speaks(*starts: str, to: Kind | None = None) -> Callable[[Failure], bool]:
    """Whether the port's first words begin so, when spoken to as `to`."""
    return lambda failure: (to is None or failure.account.kind is to) and failure.answer.upper().startswith(starts)


def _of_own_protocol(failure: Failure) -> bool:
    """Whether the port spoke, without TLS, as the protocol it is meant for."""
    return bool(failure.spoken) and _speaks("* " if failure.account.kind is Kind.IMAP else "220")(failure)


_CREDENTIALS: Final = (
    Diagnosis(
        "credential_not_allowed",
        "the settings do not allow the place that is to hold the password, or it can never hold one",
        "correct the source, or allow it: see credentials.folders and credentials.allow_commands in the settings",
        kinds=(CredentialRefused,),
    ),
    Diagnosis(
        "credential_command_failed",
        "the command that is to print the password failed",
        "run it by hand as the daemon's user and mend what it complains of; it must end within the time allowed",
        kinds=(CredentialFailed,),
        words=("the command",),
    ),
    Diagnosis(
        "credential_missing",
        "the file that is to hold the password does not exist",
        "put the password there, or correct the path of its source",
        kinds=(CredentialFailed,),
        words=("no such file",),
    ),
    Diagnosis(
        "credential_unreadable",
        "the place that holds the password cannot be read, or its first line is empty",
        "let the daemon's user read it, and write the password on its first line, in UTF-8",
        kinds=(CredentialFailed,),
    ),
)
_PROXY: Final = (
    Diagnosis(
        "proxy_login",
        "the proxy wants another user name or password",
        "correct proxyUsername and proxyPassword; a proxy without accounts wants neither",
        kinds=(ProxyFailed,),
        words=("user name", "password", "login of another kind"),
    ),
    Diagnosis(
        "proxy_down",
        "nothing answers at the proxy's address",
        "correct proxyHost and proxyPort, or start the proxy",
        kinds=(ProxyFailed,),
        words=("the proxy cannot be reached",),
    ),
    Diagnosis(
        "proxy_forbids",
        "the proxy's rules do not let {host} port {port} be reached",
        "allow it in the proxy's rules; many HTTP proxies allow port 443 alone",
        kinds=(ProxyFailed,),
        words=("not allowed by its rules", "(403", "(405", "(501"),
    ),
    Diagnosis(
        "proxy_other_kind",
        "what listens there is no proxy of the kind that is set",
        "write the proxy as socks5:// or http://, as whoever runs it says, and check its port",
        kinds=(ProxyFailed,),
        words=("does not speak", "closed the connection"),
    ),
    Diagnosis(
        "proxy_cannot_reach",
        "the proxy works, but cannot reach {host} port {port}: a wrong name or port, or a firewall behind the proxy",
        "check host and port; then ask whoever runs the proxy",
        steps=("proxy",),
    ),
)
_CONNECTING: Final = (
    Diagnosis(
        "clear_text",
        "the password would cross the network in clear",
        "use implicit TLS (port {implicit_port}) or STARTTLS (port {starttls_port}); the operator may set"
        " network.allow_plaintext",
        steps=("connect", "proxy"),
        kinds=(Insecure,),
    ),
    Diagnosis(
        "name_server_down",
        "this machine's name server does not answer",
        "check this machine's network and /etc/resolv.conf, then try again",
        steps=("resolve",),
        words=("temporary failure", "did not resolve within"),
    ),
    Diagnosis(
        "name_unknown",
        "no server has the name {host}: it is misspelt, or this machine's name server does not know it",
        "correct the host name; inboxctl discover finds the servers of a mail address",
        steps=("resolve",),
    ),
    Diagnosis(
        "bridge_down",
        "Proton Mail Bridge does not run on this machine, or listens on another port",
        "start Proton Mail Bridge and log in there; its settings show the ports",
        steps=("connect",),
        kinds=(Unreachable,),
        when=lambda failure: failure.is_bridge,
    ),
    Diagnosis(
        "connection_refused",
        "the machine is there, but nothing listens on port {port}: a wrong port, or the server is down",
        "check the port ({implicit_port} with implicit TLS, {starttls_port} with STARTTLS), then the server",
        steps=("connect",),
        words=("connection refused", "connect call failed"),
    ),
    Diagnosis(
        "network_unreachable",
        "this machine has no way to {host}: no network, no route, or only IPv6 where there is none",
        "check this machine's network and routes",
        steps=("connect",),
        words=("unreachable", "no route"),
    ),
    Diagnosis(
        "firewall",
        "nothing answers at {host} port {port}: a firewall drops the packets, or the address is wrong",
        "allow outgoing connections to port {port}; some hosters block mail ports until asked",
        steps=("connect",),
        kinds=(Stalled,),
    ),
    Diagnosis(
        "connect_failed",
        "a wrong port, a firewall, or the server is down",
        "check host and port, then the firewall",
        steps=("connect",),
    ),
)
_WRONG_PROTOCOL: Final = (
    Diagnosis(
        "pop3_port",
        "port {port} speaks POP3, not {protocol}",
        "use the port for {protocol}: {implicit_port} with implicit TLS, {starttls_port} with STARTTLS",
        steps=_OTHER_PROTOCOL,
        when=_speaks("+OK", "-ERR"),
    ),
    Diagnosis(
        "http_port",
        "port {port} speaks HTTP: it is a web server's",
        "use the port for {protocol}: {implicit_port} with implicit TLS, {starttls_port} with STARTTLS",
        steps=_OTHER_PROTOCOL,
        when=_speaks("HTTP/", "<!DOCTYPE", "<HTML"),
    ),
    Diagnosis(
        "smtp_port",
        "port {port} speaks SMTP, which sends mail, not IMAP",
        "use the IMAP port: 993 with implicit TLS, 143 with STARTTLS",
        steps=_OTHER_PROTOCOL,
        when=_speaks("220", to=Kind.IMAP),
    ),
    Diagnosis(
        "imap_port",
        "port {port} speaks IMAP, which reads mail, not SMTP",
        "use the SMTP port: 465 with implicit TLS, 587 with STARTTLS",
        steps=_OTHER_PROTOCOL,
        when=_speaks("* ", to=Kind.SMTP),
    ),
    Diagnosis(
        "tls_from_the_start",
        "port {port} expects TLS from the start, and was spoken to without",
        "use implicit TLS on this port, not STARTTLS and not clear text",
        when=lambda failure: failure.begins_tls,
    ),
    Diagnosis(
        "no_tls_on_port",
        "port {port} speaks {protocol} without TLS at the start",
        "use STARTTLS on this port, or implicit TLS on port {implicit_port}",
        steps=("tls",),
        when=_of_own_protocol,
    ),
    Diagnosis(
        "unknown_protocol",
        "port {port} speaks something that is not {protocol}",
        "use the port for {protocol}: {implicit_port} with implicit TLS, {starttls_port} with STARTTLS",
        steps=("greeting",),
        kinds=(ProtocolError,),
    ),
)
GREETING: Final = (
    Diagnosis(
        "blocklisted",
        "the server does not take connections from this machine's address: it is on a blocklist",
        "look the address up at the list the server names; or send through a provider, with a login",
        steps=("greeting", "ehlo"),
        words=("spamhaus", "blocked", "blacklist", "block list", "blocklist", "dnsbl", "poor reputation"),
    ),
    Diagnosis(
        "greylisted_at_connect",
        "the server turns strangers away for a few minutes at first",
        "wait five minutes and try again; a provider's submission port (465, 587) does not do that",
        steps=("greeting", "ehlo"),
        words=("greylist", "graylist", "try again in", "come back later"),
    ),
    Diagnosis(
        "connections_used_up",
        "too many connections are open for this account or address",
        "close other mail programs on the account, or lower the number of connections; it passes by itself",
        steps=("greeting",),
        kinds=(Throttled,),
        words=("too many", "maximum", "concurrent", "limit"),
    ),
    Diagnosis(
        "server_busy",
        "the server takes nobody at the moment, or not from here",
        "wait a while and try again",
        steps=("greeting", "ehlo"),
        kinds=(Throttled,),
    ),
    Diagnosis(
        "preauth_in_clear",
        "the server claims that we are logged in before TLS began: somebody may be in between",
        "use implicit TLS on port {implicit_port}",
        steps=("greeting",),
        kinds=(Insecure,),
    ),
    Diagnosis(
        "greeting_silent",
        "the port took the connection and said nothing: it expects TLS from the start, is overloaded, or is another's",
        "check port and TLS mode: {implicit_port} with implicit TLS, {starttls_port} with STARTTLS",
        steps=("greeting", "capabilities"),
        kinds=(Stalled, ConnectionLost),
    ),
    Diagnosis(
        "connection_unwanted",
        "the server turns this machine away",
        "read its words; most often the address is not allowed to send from here",
        steps=("greeting",),
    ),
    Diagnosis(
        "local_name_unusable",
        "localHostName is no host name",
        "set localHostName to a name like mail.example.org, or leave it out",
        steps=("ehlo",),
        kinds=(Invalid,),
    ),
    Diagnosis(
        "local_name_refused",
        "the server does not accept the name this client greets it with",
        "set localHostName to a name that resolves to this machine's address",
        steps=("ehlo",),
    ),
)
REACHING: Final = (*_CREDENTIALS, *_PROXY, *_CONNECTING, *_WRONG_PROTOCOL)
