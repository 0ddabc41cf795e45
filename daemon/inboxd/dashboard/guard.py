"""What keeps other sites out of the dashboard: headers on every answer, and checks of where a request comes from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Final

from inboxd.api.gate import Refusal

# Nothing from elsewhere, no inline script or style; mail is shown in frames of this server with a policy of their own.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_BRACKETED: Final = re.compile(r"(\[[^]]*\])(?::\d*)?")
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",  # the names in a mail's links are looked up by nobody who only reads it
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers hide from us too where a form comes from
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def check_host(host: str, allowed: Collection[str]) -> None:
    """Refuse a name that is not ours: a site whose name is made to point here (DNS rebinding) sends its own.

    Addresses and localhost are always ours; other names are the setting `dashboard.hosts`.
    """
    name = _name_of(host)
    if name in allowed or name == "localhost" or name.endswith(".localhost") or _is_address(name):
        return
    words = f"this server does not know itself as {name!r}: add it to the setting dashboard.hosts"
    raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, words)


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a change that a page of another site asks for."""
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site", "same-origin")
    same = site in {"same-origin", "none"} if origin is None else origin.partition("://")[2] == headers.get("Host")
    if not same:
        raise Refusal(HTTPStatus.FORBIDDEN, "this form was sent by a page of another site")


def _name_of(host: str) -> str:
    address = _BRACKETED.fullmatch(host)
    return address[1] if address else host.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
