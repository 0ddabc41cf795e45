"""From a mail address to its servers: each source, their order, and everything a hostile one may answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from inboxd import net
from inboxd.discover import autoconfig
from inboxd.discover.found import Endpoint, Found, Nothing, Source
from inboxd.discover.hosts import domain_of
from inboxd.discover.search import discover
from inboxd.discover.web import open_web
from inboxd.errors import Invalid, NotFound, Unreachable
from inboxd.model import Tls
from inboxd.sections import DiscoverySettings
from servers import LOOPBACK
from servers.names import BROKEN, name_server
from servers.scripted import Conversation, scripted
from servers.web import Answer, Site, https_site

DOMAIN = "corp.example"
ADDRESS = f"ann@{DOMAIN}"
OWN = f"autoconfig.{DOMAIN}/mail/config-v1.1.xml"
WELL_KNOWN = f"{DOMAIN}/.well-known/autoconfig/mail/config-v1.1.xml"
ISPDB = "ispdb.example/v1.1/"
NAMES = (
    DOMAIN, "autoconfig.corp.example", "imap.corp.example", "mail.corp.example", "smtp.corp.example", "ispdb.example",
    "elsewhere.example", "autoconfig.xn--bcher-kva.example",
)  # fmt: skip


def server(
    kind: str, host: str, port: int = 993, tls: str = "SSL", auth: str = "password-cleartext", user: str = ""
) -> str:
    """A server's element of an autoconfig file."""
    tag = "incomingServer" if kind == "imap" else "outgoingServer"
    methods = "".join(f"<authentication>{one}</authentication>" for one in auth.split())
    return (
        f'<{tag} type="{kind}"><hostname>{host}</hostname><port>{port}</port><socketType>{tls}</socketType>'
        f"<username>{user or '%EMAILADDRESS%'}</username>{methods}</{tag}>"
    )


def document(*servers: str, before: str = "") -> bytes:
    """An autoconfig file."""
    provider = f'<emailProvider id="x"><domain>x</domain>{"".join(servers)}</emailProvider>'
    return f'<?xml version="1.0"?>{before}<clientConfig version="1.1">{provider}</clientConfig>'.encode()


def both(name: str) -> bytes:
    """A file with IMAP and SMTP at hosts of that name."""
    return document(server("imap", f"{name}.corp.example"), server("smtp", f"{name}.corp.example", 465))


class World:
    """The part of the internet that a search sees.

    `site`, the `zone` of its DNS, the `hosts` there are, and the `ports` at which loopback stands in for others.
    """

    def __init__(self, site: Site, context: ssl.SSLContext, zone: dict[tuple[str, str], list[str] | None]) -> None:
        self.site = site
        self.context = context
        self.zone = zone
        self.hosts = {*NAMES}
        self.ports = {443: site.port}
        self.settings: dict[str, Any] = {}

    async def lookup(self, host: str, port: int) -> list[net.AddressInfo]:
        """Where a host is."""
        if host not in self.hosts:
            raise Unreachable("resolve", f"the host name {host!r} does not resolve (no such host)")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOOPBACK, self.ports.get(port, port)))]

    async def discover(self, address: str = ADDRESS, **changed: Any) -> Found:
        """What is found with these settings."""
        return await discover(address, DiscoverySettings.model_validate(self.settings | changed), self.lookup)

    async def reasons(self, **changed: Any) -> str:
        """Why nothing is."""
        with pytest.raises(NotFound) as told:
            await self.discover(**changed)
        return str(told.value)

    def serve(self, url: str, body: bytes, **more: Any) -> None:
        """Let a URL answer."""
        self.site.answers[url] = Answer(body, **more)


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[World]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    zone: dict[tuple[str, str], list[str] | None] = {}
    async with AsyncExitStack() as stack:
        made = World(stack.enter_context(https_site(context)), context, zone)
        port = stack.enter_context(name_server(zone))
        made.settings = {
            "ispdb": f"https://{ISPDB}",
            "name_server": f"{LOOPBACK}:{port}",
            "allow_private": True,
            "step_seconds": 5.0,
        }
        yield made


# --- the order --------------------------------------------------------------------------------------------------------


async def test_the_table_needs_nobody(world: World) -> None:
    found = await world.discover("ann@iCloud.com")
    assert found.offer.source is Source.TABLE
    assert found.offer.imap == Endpoint("imap.mail.me.com", 993, Tls.IMPLICIT, "ann")
    assert found.offer.smtp == Endpoint("smtp.mail.me.com", 587, Tls.STARTTLS, "ann@iCloud.com")
    assert (found.oauth2_only, (await world.discover("ann@hotmail.com")).oauth2_only) == (False, True)
    assert world.site.asked == []


async def test_the_first_in_order_wins_though_it_is_the_last_to_answer(world: World) -> None:
    others = threading.Event()
    world.serve(OWN, both("own"), first=lambda: others.wait(10))
    world.serve(WELL_KNOWN, both("own"))
    world.serve(ISPDB + DOMAIN, both("known"), first=others.set)
    world.hosts |= {"own.corp.example", "known.corp.example"}
    found = await world.discover()
    assert (found.offer.source, found.offer.where) == (Source.AUTOCONFIG, f"https://{OWN}")
    assert found.offer.imap == Endpoint("own.corp.example", 993, Tls.IMPLICIT, ADDRESS)
    assert found.notes == ()
    assert Source.WELL_KNOWN not in {one.source for one in found.alternatives}, "it says the same"
    own = next(url for url in world.site.asked if url.startswith("autoconfig."))
    assert own in (f"{OWN}?emailaddress=ann@corp.example", f"{OWN}?emailaddress=ann%40corp.example")
    assert not any("ann" in url for url in world.site.asked if url != own), "nobody else learns who it is"
    assert not any({"Cookie", "User-Agent", "Accept-Encoding"} & set(headers) for headers in world.site.headers)


async def test_each_source_is_believed_only_when_those_before_it_have_nothing(world: World) -> None:
    world.zone |= {
        ("_imaps._tcp.corp.example", "SRV"): ["0 1 993 imap.corp.example."],
        ("corp.example", "MX"): ["10 aspmx.l.google.com."],
    }
    for url in (OWN, WELL_KNOWN, ISPDB + DOMAIN):
        world.serve(url, both("mail"))
    sources: list[Source] = []
    for url in (OWN, WELL_KNOWN, ISPDB + DOMAIN, None):
        sources.append((await world.discover()).offer.source)
        world.site.answers.pop(url or "", None)
    del world.zone["_imaps._tcp.corp.example", "SRV"]
    found = await world.discover()
    assert [*sources, found.offer.source] == [
        Source.AUTOCONFIG, Source.WELL_KNOWN, Source.ISPDB, Source.SRV, Source.MX,
    ]  # fmt: skip
    assert found.provider is not None
    assert found.provider.name == "GOOGLE"
    assert {one.source for one in found.vain} == {
        Source.AUTOCONFIG, Source.WELL_KNOWN, Source.ISPDB, Source.SRV,
    }  # fmt: skip


async def test_a_server_for_sending_may_come_from_another_source(world: World) -> None:
    world.serve(OWN, document(server("imap", "imap.corp.example")))
    world.zone["_submissions._tcp.corp.example", "SRV"] = ["0 1 465 smtp.corp.example."]
    found = await world.discover()
    assert found.offer.source is Source.AUTOCONFIG
    assert found.offer.smtp == Endpoint("smtp.corp.example", 465, Tls.IMPLICIT, ADDRESS)
    assert found.notes == ("the SMTP server comes from another source: SRV",)


async def test_ispdb_is_not_asked_when_it_is_switched_off(world: World) -> None:
    world.serve(ISPDB + DOMAIN, both("mail"))
    world.zone["corp.example", "MX"] = ["10 mx.elsewhere.example."]
    assert "ISPDB" not in await world.reasons(ispdb="")
    assert not any(url.startswith(ISPDB) for url in world.site.asked)


# --- autoconfig files -------------------------------------------------------------------------------------------------


async def test_the_first_server_that_can_be_used_is_taken_with_its_placeholders_filled(world: World) -> None:
    world.serve(
        "autoconfig.xn--bcher-kva.example/mail/config-v1.1.xml",
        document(
            server("pop3", "pop.corp.example"),
            server("imap", "imap.corp.example", 143, "plain"),
            server("imap", "imap.corp.example", 993, "SSL", "password-encrypted GSSAPI"),
            server("imap", "imap.%EMAILDOMAIN%", 143, "STARTTLS", "OAuth2 password-cleartext", "%EMAILLOCALPART%"),
            server("smtp", "smtp.corp.example", 587, "STARTTLS", "OAuth2", "%EMAILLOCALPART%+%EMAILDOMAIN%"),
        ),
    )
    world.hosts |= {"autoconfig.xn--bcher-kva.example", "imap.xn--bcher-kva.example"}
    found = await world.discover("ann@Bücher.example")
    assert found.offer.imap == Endpoint("imap.xn--bcher-kva.example", 143, Tls.STARTTLS, "ann", oauth2=True)
    assert found.offer.smtp == Endpoint(
        "smtp.corp.example", 587, Tls.STARTTLS, "ann+Bücher.example", password=False, oauth2=True
    )
    assert not found.oauth2_only


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
HOSTILE = {
    "entities": (document(server("imap", "&c;"), before=BOMB), "declares a document type"),
    "external": (document(before='<!DOCTYPE a SYSTEM "file:///etc/passwd">'), "declares a document type"),
    "not XML": (b"<html><body>Not here<br></html>", "is not XML"),
    "unknown encoding": (b'<?xml version="1.0" encoding="x-none"?><a/>', "is not XML"),
    "empty": (b"", "is not XML"),
    "another document": (b"<rss/>", "is no autoconfig file"),
    "too large": (b" " * 65_537, "more than 65536 bytes"),
    "no TLS": (document(server("imap", "imap.corp.example", 143, "plain")), "names no IMAP or SMTP server"),
    "no password": (document(server("imap", "imap.corp.example", auth="NTLM")), "names no IMAP or SMTP server"),
    "an address": (document(server("imap", "10.0.0.1")), "names no IMAP or SMTP server"),
    "a number": (document(server("imap", "2130706433")), "names no IMAP or SMTP server"),
    "no host": (document(server("imap", "a b")), "names no IMAP or SMTP server"),
    "a line": (document(server("imap", "imap.corp.example", user="a&#10;b")), "names no IMAP or SMTP server"),
    "a placeholder": (document(server("imap", "imap.corp.example", user="%REALNAME%")), "names no IMAP or SMTP"),
    "a port": (document(server("imap", "imap.corp.example", 65_536)), "names no IMAP or SMTP server"),
    "nowhere": (document(server("imap", "nowhere.corp.example")), "does not resolve"),
}


@pytest.mark.parametrize(("body", "words"), HOSTILE.values(), ids=HOSTILE)
async def test_what_cannot_be_used_is_refused_with_its_reason(world: World, body: bytes, words: str) -> None:
    world.serve(OWN, body)
    assert words in await world.reasons()


@given(st.binary(max_size=200) | st.text(alphabet="<>&;!?/[]ab \"'=", max_size=60).map(str.encode))
def test_any_bytes_are_a_file_or_no_file(content: bytes) -> None:
    with pytest.raises(Nothing):
        autoconfig.read(content, ADDRESS, DOMAIN)


# --- the way there ----------------------------------------------------------------------------------------------------


async def test_redirects_are_followed_to_https_alone_and_not_for_ever(world: World) -> None:
    for count in range(4):
        world.serve(f"elsewhere.example/{count}", b"", status=302, headers={"Location": f"/{count + 1}"})
    world.serve(OWN, b"", status=301, headers={"Location": "https://elsewhere.example/2"})
    world.serve("elsewhere.example/4", both("mail"))
    assert (await world.discover()).offer.source is Source.AUTOCONFIG
    world.serve(OWN, b"", status=301, headers={"Location": "https://elsewhere.example/1"})
    assert "redirects more than 3 times" in await world.reasons()
    for location in ("http://elsewhere.example/4", "https://a:b@elsewhere.example/4", "https://elsewhere.example:22/4",
                     "file:///etc/passwd", "//[", ""):  # fmt: skip
        world.serve(OWN, b"", status=302, headers={"Location": location})
        assert "redirects" in await world.reasons()


async def test_private_addresses_are_neither_asked_nor_found(world: World) -> None:
    for url in (OWN, WELL_KNOWN, ISPDB + DOMAIN):
        world.serve(url, both("mail"))
    world.zone["_imaps._tcp.corp.example", "SRV"] = ["0 1 993 imap.corp.example."]
    reasons = await world.reasons(allow_private=False)
    for source in ("autoconfig", "well-known", "ISPDB", "SRV"):
        assert f"{source}: " in reasons
    assert reasons.count("private or reserved") == 4
    assert world.site.asked == []


async def test_a_certificate_of_another_name_is_refused(world: World) -> None:
    world.zone["other.example", "MX"] = ["10 mx.elsewhere.example."]
    world.hosts |= {"autoconfig.other.example"}
    world.serve("autoconfig.other.example/mail/config-v1.1.xml", both("mail"))
    with pytest.raises(NotFound, match=r"the certificate of autoconfig\.other\.example was refused"):
        await world.discover("ann@other.example")


async def test_who_does_not_answer_is_not_waited_for(world: World) -> None:
    ever = threading.Event()
    world.serve(OWN, b"", first=ever.wait)
    world.serve(WELL_KNOWN, both("mail"))
    world.zone |= {("_imaps._tcp.corp.example", "SRV"): None, ("corp.example", "MX"): None}
    began = monotonic()
    try:
        found = await world.discover(step_seconds=0.3)
        assert monotonic() - began < 3
        assert found.offer.source is Source.WELL_KNOWN
        assert (Source.AUTOCONFIG, "no answer within 0.3 s") in [(one.source, one.words) for one in found.vain]
        del world.site.answers[WELL_KNOWN]
        assert "SRV: no answer within 0.3 s" in await world.reasons(step_seconds=0.3, total_seconds=0.5)
        assert monotonic() - began < 6
    finally:
        ever.set()


def connections_to(port: int) -> int:
    """The ends that this process has open of connections to a port of loopback."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[9] != "0" for row in rows)


async def test_who_is_cut_off_leaves_no_connection_behind(world: World) -> None:
    for turns in range(300):
        async with open_web(DiscoverySettings(allow_private=True), world.lookup) as web:
            asking = asyncio.create_task(web.get(f"https://{WELL_KNOWN}"))
            for _ in range(turns % 60):
                await asyncio.sleep(0)
            asking.cancel()
            with suppress(asyncio.CancelledError, Nothing):
                await asking
        assert connections_to(world.site.port) == 0


# --- DNS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "imap", "smtp"),
    [
        (  # the lower priority, then the greater weight
            {"_imaps": ["20 9 993 c", "10 1 993 a", "10 5 1993 b"], "_submissions": ["0 0 465 s"]},
            ("b", 1993, Tls.IMPLICIT), ("s", 465, Tls.IMPLICIT),
        ),
        ({"_imaps": ["0 0 0 ."], "_imap": ["0 0 143 a"]}, ("a", 143, Tls.STARTTLS), None),
        ({"_imaps": ["0 0 993 a"], "_imap": ["0 9 143 b"]}, ("a", 993, Tls.IMPLICIT), None),
        ({"_imaps": ["5 0 993 a"], "_imap": ["0 0 143 b"]}, ("b", 143, Tls.STARTTLS), None),
        (  # the port of implicit TLS under the name of STARTTLS
            {"_imaps": ["0 0 993 a"], "_submission": ["0 0 465 s"]}, ("a", 993, Tls.IMPLICIT), ("s", 465, Tls.IMPLICIT)
        ),
        ({"_imaps": ["0 0 993 a"], "_submission": ["0 0 587 s"]}, ("a", 993, Tls.IMPLICIT), ("s", 587, Tls.STARTTLS)),
    ],
)  # fmt: skip
async def test_service_records_are_read_by_their_rules(
    world: World, records: dict[str, list[str]], imap: tuple[Any, ...], smtp: tuple[Any, ...] | None
) -> None:
    for name, texts in records.items():
        full = [text if text.endswith(".") else f"{text}.corp.example." for text in texts]
        world.zone[f"{name}._tcp.corp.example", "SRV"] = full
    world.hosts |= {f"{name}.corp.example" for name in "abcs"}
    offer = (await world.discover()).offer
    assert offer.source is Source.SRV
    for found, wanted in ((offer.imap, imap), (offer.smtp, smtp)):
        assert (found and (found.host.partition(".")[0], found.port, found.tls)) == wanted


async def test_a_record_that_is_broken_leaves_the_others(world: World) -> None:
    world.zone |= {
        ("_imaps._tcp.corp.example", "SRV"): ["0 0 993 imap.corp.example."],
        ("_imap._tcp.corp.example", "SRV"): [*BROKEN],
        ("_submissions._tcp.corp.example", "SRV"): [r"0 0 465 a\032b.corp.example."],
    }
    offer = (await world.discover()).offer
    assert (offer.imap and offer.imap.host, offer.smtp) == ("imap.corp.example", None)
    world.zone["_imaps._tcp.corp.example", "SRV"] = [*BROKEN]
    assert "the name server does not answer for _imaps._tcp.corp.example" in await world.reasons()


async def test_a_server_outside_the_domain_is_told_of(world: World) -> None:
    world.zone["_imaps._tcp.corp.example", "SRV"] = ["0 0 993 elsewhere.example."]
    assert "DNS alone names elsewhere.example, which is outside corp.example" in (await world.discover()).notes[0]
    world.zone["_imaps._tcp.corp.example", "SRV"] = ["0 0 993 imap.corp.example."]
    assert not any("DNS alone" in note for note in (await world.discover()).notes)


async def test_the_mail_exchanger_is_a_hint_for_table_and_ispdb(world: World) -> None:
    world.zone["corp.example", "MX"] = ["20 mx.nobody.example.", "10 corp-example.mail.protection.outlook.com."]
    found = await world.discover()
    assert found.provider is not None
    assert (found.provider.name, found.oauth2_only) == ("MICROSOFT365", True)
    assert found.offer.where == "corp-example.mail.protection.outlook.com"
    assert found.notes == (f"concluded from the mail exchanger {found.offer.where}, which may only filter or forward",)
    world.zone["corp.example", "MX"] = ["10 mx1.mail.hoster.example."]
    world.serve(f"{ISPDB}hoster.example", both("mail"))
    offer = (await world.discover()).offer
    assert (offer.source, offer.imap and offer.imap.host) == (Source.MX, "mail.corp.example")
    assert [url for url in world.site.asked if "hoster" in url] == [
        f"{ISPDB}mail.hoster.example", f"{ISPDB}hoster.example",
    ]  # fmt: skip
    world.zone["corp.example", "MX"] = ["0 ."]
    assert "corp.example has no mail exchangers" in await world.reasons()


# --- guesses ----------------------------------------------------------------------------------------------------------


async def _greet_imap(server: Conversation) -> None:
    await server.send(b"* OK ready\r\n")
    await server.closed()


async def _greet_smtp(server: Conversation) -> None:
    await server.send(b"220 mail ESMTP\r\n")
    await server.closed()


async def test_a_guess_counts_where_a_mail_server_greets_under_its_name(world: World) -> None:
    async with (
        scripted(_greet_imap, context=world.context) as imap,
        scripted(_greet_smtp, context=world.context) as smtp,
    ):
        world.ports |= {993: imap, 465: smtp}
        world.hosts -= {"imap.corp.example", "smtp.corp.example"}
        found = await world.discover()
        assert found.offer.source is Source.GUESS
        assert found.offer.imap == Endpoint("mail.corp.example", 993, Tls.IMPLICIT, ADDRESS)
        assert found.offer.smtp == Endpoint("mail.corp.example", 465, Tls.IMPLICIT, ADDRESS)
        world.hosts |= {"imap.corp.example"}
        assert (offer := (await world.discover()).offer).imap
        assert offer.imap.host == "imap.corp.example"
        world.ports[993] = smtp
        assert "no mail server answers at imap.corp.example or mail.corp.example" in await world.reasons()
        world.ports[993] = imap
        assert "no mail server answers" in await world.reasons(allow_private=False)


async def test_a_guess_with_the_certificate_of_another_counts_for_nothing(world: World) -> None:
    async with scripted(_greet_imap, context=world.context) as imap:
        world.ports[993] = imap
        world.hosts |= {"imap.other.example"}
        with pytest.raises(NotFound, match="guess: no mail server answers"):
            await world.discover("ann@other.example")


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["", "ann", "@corp.example", "ann@", "ann@localhost", "ann@10.0.0.1", "ann@[10.0.0.1]", "ann@corp..example",
     "ann@corp.example/x", "ann@corp.example:1", "a b@corp.example", "ann\r\n@corp.example", "ann@-corp.example",
     "ann@" + "a" * 64 + ".example", "ann@127.1", "ann@corp.0x7f"],
)  # fmt: skip
def test_an_address_without_a_domain_is_refused(address: str) -> None:
    with pytest.raises(Invalid, match="write a mail address with a domain"):
        domain_of(address)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("ann@Corp.Example.", "corp.example"),
        ("ann@straße.de", "xn--strae-oqa.de"),
        ('"a@b"@corp.example', "corp.example"),
    ],
)
def test_the_domain_is_the_last_part_in_ascii(address: str, domain: str) -> None:
    assert domain_of(address) == domain
