"""The table of providers agrees with itself, and the engine does what its rows say."""

from __future__ import annotations

import re

import pytest

from inboxd import __version__, net, providers
from inboxd.imap.opening import open_session
from inboxd.model import Account, Kind, Secret, Tls
from inboxd.providers import PROVIDERS, LoginName, Provider, Wanted
from servers import LOOPBACK
from servers.scripted import Conversation, scripted
from servers.sessions import LIMITS

HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")
TLS_OF_PORT = {993: Tls.IMPLICIT, 465: Tls.IMPLICIT, 587: Tls.STARTTLS, 1143: Tls.STARTTLS, 1025: Tls.STARTTLS}


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda row: row.name)
def test_a_row_can_be_used_as_it_stands(provider: Provider) -> None:
    for server in (provider.imap, provider.smtp):
        assert TLS_OF_PORT[server.port] is server.tls
        assert HOST.fullmatch(server.host) or (provider.name, server.host) == ("PROTON", "127.0.0.1")
    assert provider.imap.port in (993, 1143)
    for domain in (*provider.domains, *provider.mx, *provider.aliases):
        assert HOST.fullmatch(domain), domain
    assert provider.domains or provider.mx, "nothing leads to this row"
    assert re.search(r"[a-z]\.[a-z]{2,}\b.*, 2026-\d\d$", provider.source), "where it is from, and when it was read"
    assert provider.title
    assert provider.how
    assert "\n" not in provider.how
    assert provider.wanted is not Wanted.OAUTH2 or provider.oauth2
    known = (*vars_of(provider.quirks), *vars_of(provider.habits))
    assert all(value > 0 for value in known if not isinstance(value, bool))


def vars_of(row: object) -> list[float]:
    values = [getattr(row, name) for name in getattr(type(row), "__slots__", ())]
    return [value for value in values if value is not None]


def test_no_name_stands_for_two_providers() -> None:
    assert len({row.name for row in PROVIDERS}) == len(PROVIDERS)
    for names in ([d for row in PROVIDERS for d in row.domains], [d for row in PROVIDERS for d in row.mx]):
        assert len(names) == len(set(names))


def test_where_two_share_a_host_its_limits_are_the_same() -> None:
    for row in PROVIDERS:
        for host in {*row.hosts} - {LOOPBACK}:
            found = providers.by_host(host)
            assert found is not None
            assert (found.quirks, found.habits) == (row.quirks, row.habits), host


@pytest.mark.parametrize(
    ("exchanger", "name"),
    [
        ("ASPMX.L.GOOGLE.COM.", "GOOGLE"),
        ("contoso-com.mail.protection.outlook.com", "MICROSOFT365"),
        ("contoso-com.k-v1.mx.microsoft", "MICROSOFT365"),
        ("eur.olc.protection.outlook.com", "MICROSOFT"),
        ("mx-aol.mail.gm0.yahoodns.net", "AOL"),
        ("mta5.am0.yahoodns.net", "YAHOO"),
        ("mx2.zoho.eu", "ZOHO_ZOHO_EU_PRO"),
        ("in1-smtp.messagingengine.com", "FASTMAIL"),
        ("notgoogle.com", None),
        ("google.com.attacker.example", None),
        ("com", None),
        ("", None),
    ],
)
def test_a_mail_exchanger_names_its_provider(exchanger: str, name: str | None) -> None:
    found = providers.by_exchanger(exchanger)
    assert (found.name if found is not None else None) == name


def test_what_the_engine_asks_of_the_table() -> None:
    gmail = providers.quirks("IMAP.gmail.com.")
    assert (gmail.connections, gmail.idle_seconds, gmail.bytes_per_day) == (15, 540.0, 2_500_000_000)
    assert providers.quirks("imap.example.com") == providers.Quirks()
    icloud = providers.by_domain("ICLOUD.com")
    assert icloud is not None
    assert icloud.imap.login.of("ann@icloud.com") == "ann"
    assert icloud.smtp.login.of("ann@icloud.com") == "ann@icloud.com"
    assert LoginName.LOCAL_PART.of('"a@b"@icloud.com') == '"a@b"'
    assert providers.habits("smtp.zoho.eu", None).files_copy
    assert providers.habits("smtp.mail.me.com", None).files_copy is None


@pytest.mark.parametrize(
    ("host", "capabilities", "sends"),
    [
        ("imap.163.com", b"IMAP4rev1 ID", True),
        ("imap.163.com", b"IMAP4rev1", False),
        ("imap.example.com", b"IMAP4rev1 ID", False),
    ],
)
async def test_the_id_command_goes_to_who_wants_it_and_offers_it(host: str, capabilities: bytes, sends: bool) -> None:
    listed = b"* CAPABILITY " + capabilities
    sent: list[bytes] = []

    async def script(server: Conversation) -> None:
        await server.send(b"* OK ready\r\n")
        await server.ok("CAPABILITY", listed)
        await server.ok("LOGIN .*")
        await server.ok("CAPABILITY", listed)
        if sends:
            await server.ok("ID .*", b'* ID ("name" "IMAP")')
            sent.append(server.received[-1])
        await server.line()

    account = Account(None, Kind.IMAP, host, 143, Tls.NONE, "ann", Secret("pw"))
    async with scripted(script) as port:
        sock = await net.connect(LOOPBACK, port, 5)
        async with open_session(sock, account, LIMITS, None):
            pass
    wanted = f'ID ("name" "inboxd" "version" "{__version__}")'.encode()
    assert [line.partition(b" ")[2] for line in sent] == ([wanted] if sends else [])


async def test_a_refused_id_command_ends_nothing() -> None:
    listed = b"* CAPABILITY IMAP4rev1 ID"

    async def script(server: Conversation) -> None:
        await server.send(b"* OK ready\r\n")
        await server.ok("CAPABILITY", listed)
        await server.ok("LOGIN .*")
        await server.ok("CAPABILITY", listed)
        tag = await server.command("ID .*")
        await server.send(f"{tag} NO not now\r\n".encode())
        await server.line()

    account = Account(None, Kind.IMAP, "imap.126.com", 143, Tls.NONE, "ann", Secret("pw"))
    async with scripted(script) as port:
        sock = await net.connect(LOOPBACK, port, 5)
        async with open_session(sock, account, LIMITS, None) as session:
            assert "ID" in session.capabilities


def test_an_idle_is_begun_anew_before_its_server_forgets_it() -> None:
    assert [providers.longest_idle_seconds(host) for host in ("imap.gmail.com", "mail.example.org")] == [540, 1740]
