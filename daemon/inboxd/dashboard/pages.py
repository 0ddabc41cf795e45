"""Every page and action of the dashboard, one row each."""

from __future__ import annotations

from typing import Final

from inboxd.dashboard import compose, connectors, live, mail, outbox, reader, setup, signing, system
from inboxd.dashboard.page import Row

ROWS: Final = (
    Row("GET", "/", signing.home),
    Row("GET", "/ui/live", live.stream),
    Row("GET", "/ui/connectors", connectors.show_all),
    Row("GET", "/ui/connectors/new", setup.ask),
    Row("POST", "/ui/connectors/new", setup.answer),
    Row("GET", "/ui/connectors/{id}", connectors.show),
    Row("GET", "/ui/connectors/{id}/edit", setup.edit),
    Row("POST", "/ui/connectors/{id}/edit", setup.change),
    Row("GET", "/ui/connectors/{id}/sign-in", signing.show),
    Row("POST", "/ui/connectors/{id}/sign-in", signing.answer),
    Row("POST", "/ui/connectors/{id}/sign-out", signing.sign_out),
    Row("GET", "/ui/connectors/{id}/log", connectors.show_log),
    Row("POST", "/ui/connectors/{id}/{action}", connectors.act),
    Row("GET", "/ui/events/{event}", connectors.show_event),
    Row("GET", "/ui/mail", mail.show),
    Row("POST", "/ui/mail/change", mail.change),
    Row("GET", "/ui/mail/{id}", reader.show),
    Row("GET", "/ui/mail/{id}/frame", reader.frame),
    Row("GET", "/ui/mail/{id}/raw", reader.raw),
    Row("GET", "/ui/mail/{id}/attachments/{position}", reader.attachment),
    Row("POST", "/ui/mail/{id}/unread", reader.unread),
    Row("POST", "/ui/mail/{id}/favourite", reader.favourite),
    Row("POST", "/ui/mail/{id}/delete", reader.delete),
    Row("GET", "/ui/compose", compose.show),
    Row("POST", "/ui/compose", compose.send, compose.MOST_BYTES),
    Row("GET", "/ui/outbox", outbox.show_all),
    Row("GET", "/ui/outbox/{id}", outbox.show),
    Row("GET", "/ui/outbox/{id}/raw", outbox.raw),
    Row("POST", "/ui/outbox/{id}/{decision}", outbox.decide),
    Row("GET", "/ui/system", system.show),
    Row("POST", "/ui/system/keys", system.create_key),
    Row("POST", "/ui/system/keys/{key}/revoke", system.revoke_key),
)
