"""A mail marked as seen or unseen: on a real Dovecot first, then here, and never here alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from api_site import MAIL, SDK, Site, open_site
from inboxd.mails import Message
from inboxd.model import InboxId, MessageFilter, MessageId, Window
from inboxd.store import messages
from servers.dovecot import Dovecot, User
from servers.scripted import Conversation, imap, scripted

OTHERS = {"\\Flagged", "\\Answered"}


@dataclass(frozen=True)
class Mailbox:
    """A synced mail and the account it came from."""

    site: Site
    dovecot: Dovecot
    user: User
    connector: dict[str, Any]
    mail: Message

    async def apply(self, operation: str, *flags: str) -> Any:
        """What MailSlurp's client gets."""
        options = SDK.ImapFlagOperationOptions(flag_operation=operation, flags=list(flags))
        return await self.site.sdk(
            lambda client: SDK.EmailControllerApi(client).apply_imap_flag_operation(str(self.mail.id), options)
        )

    async def refusal(self) -> tuple[int, str]:
        """Status and message of marking it as seen."""
        body = {"flagOperation": "ADD_FLAGS", "flags": ["\\Seen"]}
        answer = await self.site.ask("POST", f"/emails/{self.mail.id}/imap-flag-operation", body)
        return answer.status, answer.json["message"]

    async def on_server(self) -> set[str]:
        """The flags another client sees."""

        def look() -> set[str]:
            with self.dovecot.session(self.user) as other:
                other.select("INBOX", readonly=True)
                _, (answer,) = other.uid("FETCH", str(self.mail.uid), "(FLAGS)")
            assert isinstance(answer, bytes)
            return set(answer.decode().partition("FLAGS (")[2].partition(")")[0].split()) - {"\\Recent"}

        return await asyncio.to_thread(look)

    async def here(self) -> tuple[bool, set[str]]:
        """Whether it is read here, and its flags."""
        found = await messages.get(self.site.services.store, self.mail.id)
        return found.read, set(found.flags) - {"\\Recent"}


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


async def connect(site: Site, connector: dict[str, Any], host: str, port: int, user: str, password: str) -> None:
    connection = {"imapHost": host, "imapPort": port, "imapSsl": False, "startTls": False}
    login = {"imapUsername": user, "imapPassword": password}
    assert (await site.ask("POST", f"/connectors/{connector['id']}/imap", connection | login)).status == 201


@pytest_asyncio.fixture
async def synced(site: Site, dovecot: Dovecot) -> Mailbox:
    user = dovecot.user()
    dovecot.append(user, MAIL, flags=sorted(OTHERS))
    made = await site.new_connector()
    await connect(site, made, dovecot.starttls.host, dovecot.starttls.port, user.name, user.password)
    assert (await site.ask("POST", f"/connectors/{made['id']}/sync")).json["syncResult"]["emailSyncCount"] == 1
    chosen = MessageFilter((InboxId(UUID(made["inboxId"])),))
    (mail,) = (await messages.page(site.services.store, chosen, Window())).rows
    return Mailbox(site, dovecot, user, made, mail)


async def test_seen_is_written_through_and_nothing_else_changes(synced: Mailbox) -> None:
    for operation, flags, seen in (
        ("ADD_FLAGS", ["\\Seen"], True),
        ("ADD_FLAGS", ["\\SEEN"], True),
        ("REMOVE_FLAGS", [], True),
        ("REMOVE_FLAGS", ["\\seen"], False),
        ("ADD_FLAGS", [], False),
        ("SET_FLAGS", ["\\Seen"], True),
        ("SET_FLAGS", [], False),
    ):
        preview = await synced.apply(operation, *flags)
        assert (preview.id, preview.read) == (str(synced.mail.id), seen)
        wanted = {*OTHERS, *(["\\Seen"] if seen else [])}
        assert await synced.on_server() == wanted
        assert await synced.here() == (seen, wanted)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"flagOperation": "ADD_FLAGS", "flags": ["\\Deleted"]}, "flags.0"),
        ({"flagOperation": "ADD_FLAGS", "flags": ["\\Seen", "\\Flagged"]}, "flags.1"),
        ({"flagOperation": "ADD_FLAGS", "flags": ["\\Seen)\r\nA1 LOGOUT"]}, "flags.0"),
        ({"flagOperation": "ADD_FLAGS", "flags": "\\Seen"}, "flags"),
        ({"flagOperation": "ADD_FLAGS"}, "flags"),
        ({"flagOperation": "TOGGLE", "flags": ["\\Seen"]}, "flagOperation"),
        ({"flags": ["\\Seen"]}, "flagOperation"),
    ],
)
async def test_other_flags_and_operations_are_refused(site: Site, body: dict[str, object], field: str) -> None:
    (mail,) = await site.deliver(await site.new_connector(), MAIL)
    refused = await site.ask("POST", f"/emails/{mail.id}/imap-flag-operation", body)
    assert (refused.status, refused.json["message"].partition(":")[0]) == (400, field)
    assert not (await messages.get(site.services.store, mail.id)).read


async def test_a_client_is_told_of_an_unknown_mail_and_a_wrong_flag(synced: Mailbox) -> None:
    with pytest.raises(SDK.ApiException) as refused:
        await synced.apply("ADD_FLAGS", "\\Flagged")
    assert (refused.value.status, "flags.0" in refused.value.body) == (400, True)
    body = {"flagOperation": "ADD_FLAGS", "flags": ["\\Seen"]}
    assert (await synced.site.ask("POST", f"/emails/{uuid4()}/imap-flag-operation", body)).status == 404


async def test_a_mail_gone_from_its_server_stays_as_it_is_here(synced: Mailbox) -> None:
    await asyncio.to_thread(synced.dovecot.expunge, synced.user, synced.mail.uid or 0)
    status, message = await synced.refusal()
    assert (status, "no longer in the mailbox" in message) == (409, True)
    assert (await synced.here())[0] is False


async def test_a_renumbered_mailbox_is_not_touched(synced: Mailbox) -> None:
    await asyncio.to_thread(synced.dovecot.renumber, synced.user)
    status, message = await synced.refusal()
    assert (status, "renumbered" in message) == (409, True)
    assert "\\Seen" not in await synced.on_server()
    assert (await synced.site.ask("POST", f"/connectors/{synced.connector['id']}/sync")).status == 200
    assert (await synced.apply("ADD_FLAGS", "\\Seen")).read


async def test_without_its_connector_a_mail_has_no_flags_to_change(synced: Mailbox) -> None:
    connector = f"/connectors/{synced.connector['id']}"
    assert (await synced.site.ask("DELETE", f"{connector}/imap")).status == 204
    assert (await synced.refusal())[0] == 409
    assert (await synced.site.ask("DELETE", connector)).status == 204
    status, message = await synced.refusal()
    assert (status, "deleted" in message) == (409, True)


async def test_a_refused_login_is_the_accounts_fault(synced: Mailbox) -> None:
    synced.dovecot.set_password(synced.user, "another")
    assert (await synced.refusal())[0] == 422
    assert (await synced.here())[0] is False


async def test_a_server_out_of_reach_is_502(synced: Mailbox) -> None:
    await asyncio.to_thread(synced.dovecot.stop, kill=True)
    assert (await synced.refusal())[0] == 502
    assert (await synced.here())[0] is False


async def _scripted_mail(site: Site, port: int) -> MessageId:
    made = await site.new_connector()
    await connect(site, made, "127.0.0.1", port, "user", "x")
    (mail,) = await site.deliver(made, MAIL)
    return mail.id


async def _read_only(conversation: Conversation, tag: str) -> None:
    await conversation.send(b"* OK [UIDVALIDITY 7] ok\r\n", f"{tag} OK [READ-ONLY] shared\r\n".encode())


@pytest.mark.parametrize(
    ("select", "fetched", "words"),
    [
        (_read_only, b"", "may be read but not changed"),
        (b"* OK [UIDVALIDITY 7] ok\r\n", b"* 1 FETCH (UID 1 FLAGS ())\r\n", "did not keep"),
    ],
)
async def test_a_mailbox_that_keeps_no_change_is_said_so(site: Site, select: Any, fetched: bytes, words: str) -> None:
    async with scripted(imap({"SELECT": select, "UID FETCH": fetched})) as port:
        mail = await _scripted_mail(site, port)
        body = {"flagOperation": "SET_FLAGS", "flags": ["\\Seen"]}
        refused = await site.ask("POST", f"/emails/{mail}/imap-flag-operation", body)
    assert (refused.status, words in refused.json["message"]) == (422, True)
    assert not (await messages.get(site.services.store, mail)).read
