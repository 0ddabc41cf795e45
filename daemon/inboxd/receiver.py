"""A webhook's receiver as it is posted to: its secrets opened, its headers written."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Final

from inboxd import __version__
from inboxd.logs import HIDDEN
from inboxd.model import Secret
from inboxd.post import Client, Reply
from inboxd.vault import Vault
from inboxd.webhooks import Credentials, Webhook, WebhookEvent, WebhookId

AUTHORIZATION: Final = "Authorization"


def sealed(vault: Vault, webhook: Webhook, credentials: Credentials) -> Webhook:
    """The webhook with these credentials, and no others, as ciphertext."""
    password = headers = None
    if credentials.password is not None:
        password = vault.seal(credentials.password, _place(webhook.id, "password"))
    if credentials.headers:
        clear = json.dumps([(name, value.reveal()) for name, value in credentials.headers])
        headers = vault.seal(Secret(clear), _place(webhook.id, "headers"))
    names = tuple(name for name, _ in credentials.headers)
    return replace(webhook, sealed_password=password, sealed_headers=headers, header_names=names)


def opened(vault: Vault, webhook: Webhook) -> Credentials:
    """The webhook's credentials in clear; SecretUnreadable."""
    password, headers = None, ()
    if webhook.sealed_password is not None:
        password = vault.open(webhook.sealed_password, _place(webhook.id, "password"))
    if webhook.sealed_headers is not None:
        clear = vault.open(webhook.sealed_headers, _place(webhook.id, "headers"))
        headers = tuple((name, Secret(value)) for name, value in json.loads(clear.reveal()))
    return Credentials(password, headers)


async def post(client: Client, vault: Vault, webhook: Webhook, event: WebhookEvent, body: bytes) -> Reply:
    """Post a payload to the webhook's URL; PostFailed, SecretUnreadable."""
    credentials = opened(vault, webhook)
    headers = plain_headers(event) | {name: value.reveal() for name, value in credentials.headers}
    if credentials.password is not None:
        pair = f"{webhook.username}:{credentials.password.reveal()}"
        headers[AUTHORIZATION] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return await client.post(webhook.url, body, headers, verify=webhook.verify_tls)


def plain_headers(event: WebhookEvent) -> dict[str, str]:
    """The headers without a secret in them. `X-Event` is the one that MailSlurp documents."""
    return {"Content-Type": "application/json", "User-Agent": f"inboxd/{__version__}", "X-Event": event.value}


def shown_headers(webhook: Webhook, event: WebhookEvent) -> dict[str, str]:
    """The headers of a post with the secrets hidden."""
    names = (*webhook.header_names, *((AUTHORIZATION,) if webhook.sealed_password is not None else ()))
    return plain_headers(event) | dict.fromkeys(names, HIDDEN)


def _place(webhook_id: WebhookId, secret: str) -> str:
    return f"webhook/{webhook_id}/{secret}"
