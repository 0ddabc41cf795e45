"""What a connection may say of its way: proxies by anybody with a key, files and commands by the operator alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from api_site import Site, open_site
from inboxd.accounts import open_account
from inboxd.model import Account, ConnectorId, Kind
from inboxd.store import connectors
from inboxd.ways import ProxyKind
from servers.certs import Certificates

IMAP = {"imapHost": "imap.example.com", "imapUsername": "me", "imapPassword": "secret-canary"}
PROXY = {
    "proxyHost": "http://proxy.example",
    "proxyPort": 3128,
    "proxyUsername": "who",
    "proxyPassword": "pr0xy-canary",
}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def stored(site: Site, made: dict[str, Any]) -> Account:
    connection = await connectors.connection(site.services.store, ConnectorId(UUID(made["id"])), Kind.IMAP)
    assert connection is not None
    return open_account(site.services.vault, connection)


async def connected(site: Site, **more: object) -> dict[str, Any]:
    """A connector with an IMAP connection, made by the operator."""
    made: dict[str, Any] = await site.new_connector()
    answer = await site.ask_control("POST", f"/connectors/{made['id']}/imap", IMAP | more)
    assert answer.status == 201, answer.body
    return made


async def test_a_proxy_is_kept_with_its_password_sealed(site: Site) -> None:
    made = await connected(site, **PROXY)
    shown = await site.ask("GET", f"/connectors/{made['id']}/imap")
    result = shown.json["result"]
    assert (result["proxyHost"], result["proxyPort"]) == ("http://proxy.example", 3128)
    assert (result["proxyEnabled"], result["proxyUsername"], result["proxyPassword"]) == (True, "who", None)
    assert b"canary" not in shown.body
    proxy = (await stored(site, made)).proxy
    assert proxy is not None
    assert (proxy.kind, proxy.host, proxy.port) == (ProxyKind.HTTP, "proxy.example", 3128)
    assert (proxy.username, proxy.password.reveal()) == ("who", "pr0xy-canary")
    again = {name: result[name] for name in ("imapHost", "proxyHost", "proxyPort", "proxyUsername")}
    assert (await site.ask("PATCH", f"/connectors/{made['id']}/imap", again)).status == 200
    assert (await stored(site, made)).proxy == proxy


@pytest.mark.parametrize("change", [{"proxyHost": "elsewhere.example"}, {"proxyPort": 1}, {"proxyUsername": "x"}])
async def test_a_proxys_stored_password_goes_nowhere_else(site: Site, change: dict[str, object]) -> None:
    made = await connected(site, **PROXY)
    route = f"/connectors/{made['id']}/imap"
    refused = await site.ask("PATCH", route, change)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, next(iter(change)))
    assert (await site.ask("PATCH", route, change | {"proxyPassword": "other"})).status == 200


async def test_a_proxy_that_could_read_the_stored_password_wants_it_anew(site: Site) -> None:
    made = await connected(site, imapHost="127.0.0.1", imapSsl=False, startTls=False)
    route = f"/connectors/{made['id']}/imap"
    refused = await site.ask("PATCH", route, {"proxyHost": "elsewhere.example"})
    assert refused.status == 400
    assert "imapPassword" in refused.json["message"]
    assert (await site.ask("PATCH", route, {"proxyHost": "elsewhere.example", "proxyEnabled": False})).status == 200
    assert (await site.ask("PATCH", route, {"proxyEnabled": True})).status == 400


async def test_a_proxy_is_switched_off_and_forgotten(site: Site) -> None:
    made = await connected(site, **PROXY)
    route = f"/connectors/{made['id']}/imap"
    assert (await site.ask("PATCH", route, {"proxyEnabled": False})).json["proxyHost"] == "http://proxy.example"
    assert (await stored(site, made)).proxy is None
    assert (await site.ask("PATCH", route, {"proxyEnabled": True})).status == 200
    assert (await stored(site, made)).proxy is not None
    assert (await site.ask("PATCH", route, {"proxyHost": ""})).json["proxyHost"] is None
    assert (await stored(site, made)).proxy is None


@pytest.mark.parametrize("field", ["caFile", "clientCertificate", "clientKey", "passwordSource"])
async def test_what_is_on_this_machine_is_named_by_the_operator_alone(site: Site, field: str) -> None:
    """Else an API key would open any file, or send it to a server of its holder's."""
    made = await site.new_connector()
    wanted: dict[str, object] = {"imapHost": "imap.example.com", field: "/etc/passwd"}
    whole = {"createConnectorOptions": {"name": "x"}, "createConnectorImapConnectionOptions": wanted}
    for path, body in (
        (f"/connectors/{made['id']}/imap", wanted),
        (f"/connectors/{made['id']}/imap/test", wanted),
        ("/connectors/connections/imap/test", wanted),
        ("/connectors/withOptions", whole),
    ):
        refused = await site.ask("POST", path, body)
        assert refused.status == 400, path
        assert refused.json["message"].startswith(f"{field}: names something on the daemon's machine")


async def test_files_are_looked_at_before_they_are_kept(site: Site, certificates: Certificates, tmp_path: Path) -> None:
    chain, key = str(certificates.client.chain), str(certificates.client.key)
    made = await connected(site, caFile=str(certificates.ca_file), clientCertificate=chain, clientKey=key)
    account = await stored(site, made)
    assert (account.ca_file, account.client_certificate, account.client_key) == (str(certificates.ca_file), chain, key)
    route = f"/connectors/{made['id']}/imap"
    for wrong in ({"caFile": str(tmp_path)}, {"clientKey": str(certificates.good.key)}, {"clientCertificate": "x.pem"}):
        refused = await site.ask_control("PATCH", route, wrong)
        assert (refused.status, refused.json["message"].partition(":")[0]) == (400, next(iter(wrong)))
    assert (await site.ask_control("PATCH", route, {"caFile": ""})).json["caFile"] is None


async def test_a_file_that_is_gone_keeps_nobody_from_switching_off(
    site: Site, certificates: Certificates, tmp_path: Path
) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(certificates.ca_file.read_bytes())
    made = await connected(site, caFile=str(own))
    own.unlink()
    assert (await site.ask("PATCH", f"/connectors/{made['id']}/imap", {"enabled": False})).status == 200
    tested = await site.ask("POST", f"/connectors/{made['id']}/imap/test")
    assert "caFile" in tested.json["error"]


async def test_a_source_takes_the_passwords_place_and_is_guarded_like_one(
    site: Site,
) -> None:
    made = await connected(site)
    route = f"/connectors/{made['id']}/imap"
    for source in ("credential:inboxd.vault.key", "file:/etc/passwd", "command:/bin/true", "nonsense"):
        refused = await site.ask_control("PATCH", route, {"passwordSource": source})
        assert (refused.status, refused.json["message"].partition(":")[0]) == (400, "passwordSource")
    taken = await site.ask_control("PATCH", route, {"passwordSource": "credential:work"})
    assert taken.json["passwordSource"] == "credential:work"
    account = await stored(site, made)
    assert (account.password_source, account.password.reveal()) == ("credential:work", "")
    for change in ({"imapHost": "evil.example"}, {"sslTrust": "*"}):
        assert (await site.ask("PATCH", route, change)).status == 400
    assert (await site.ask("PATCH", route, {"imapHost": "new.example", "imapPassword": "own"})).status == 200
    account = await stored(site, made)
    assert (account.password_source, account.password.reveal()) == (None, "own")
