"""Thunderbird's autoconfig file, version 1.1 (draft-ietf-mailmaint-autoconfig), read with suspicion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from inboxd.discover.found import Endpoint, Nothing
from inboxd.discover.hosts import host_name
from inboxd.model import Tls

_TLS: Final = {"SSL": Tls.IMPLICIT, "STARTTLS": Tls.STARTTLS}
_PASSWORD: Final = frozenset({"password-cleartext", "plain"})
_OAUTH2: Final = "oauth2"
_SIGNS: Final = 320  # RFC 5321 §4.5.3.1: 64 before the @, 255 after it
Pair = tuple[Endpoint | None, Endpoint | None]


def read(document: bytes, address: str, domain: str) -> Pair:
    """The first IMAP and the first SMTP server that can be used; Nothing when neither is there.

    Servers without TLS are passed over, and those that take neither passwords under TLS nor OAuth2.
    """
    root = _parse(document)
    values = {
        "%EMAILADDRESS%": address,
        "%EMAILLOCALPART%": address.rpartition("@")[0],
        "%EMAILDOMAIN%": address.rpartition("@")[2],
    }
    provider = root.find("emailProvider")
    if root.tag != "clientConfig" or provider is None:
        raise Nothing("the answer is no autoconfig file")
    incoming = _first(provider, "incomingServer", "imap", values, domain)
    outgoing = _first(provider, "outgoingServer", "smtp", values, domain)
    if incoming is None and outgoing is None:
        raise Nothing("the autoconfig file names no IMAP or SMTP server with TLS and a password or OAuth2")
    return incoming, outgoing


def _parse(document: bytes) -> Element:
    """The document's root; Nothing for what is no XML, and for a document type, in which entities are declared."""
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise Nothing(f"the answer is not XML ({error})") from error
    return builder.close()


def _refuse(*_declared: object) -> None:
    raise Nothing("the XML declares a document type, which an autoconfig file has no need of")


def _first(provider: Element, tag: str, kind: str, values: dict[str, str], domain: str) -> Endpoint | None:
    servers = (server for server in provider.findall(tag) if server.get("type") == kind)
    return next((found for server in servers for found in _endpoint(server, values, domain)), None)


def _endpoint(server: Element, values: dict[str, str], domain: str) -> Iterator[Endpoint]:
    """The server as it can be used; nothing when it cannot."""
    tls = _TLS.get(_text(server, "socketType").upper())
    port = _text(server, "port")
    methods = {(method.text or "").strip().lower() for method in server.findall("authentication")}
    username = _filled(_text(server, "username") or "%EMAILADDRESS%", values)
    try:
        host = host_name(_filled(_text(server, "hostname"), values | {"%EMAILDOMAIN%": domain}))
    except Nothing:
        return
    usable = methods & {*_PASSWORD, _OAUTH2}
    if tls is None or not usable or not _is_port(port) or not _is_login(username):
        return
    yield Endpoint(host, int(port), tls, username, password=bool(methods & _PASSWORD), oauth2=_OAUTH2 in methods)


def _text(server: Element, tag: str) -> str:
    return (server.findtext(tag) or "").strip()


def _filled(text: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65_536


def _is_login(text: str) -> bool:
    """Whether it is a user name with every placeholder known."""
    return text.isprintable() and "%" not in text and 0 < len(text) <= _SIGNS
