"""Mail addresses and host names as others write them, made plain or refused; what hosts may be connected to."""

from __future__ import annotations

import re
from typing import Final

import idna

from inboxd import net
from inboxd.discover.found import Nothing
from inboxd.errors import Invalid, Unreachable
from inboxd.outward import Lookup, is_forbidden

# RFC 1123 §2.1; the last label has a letter, so that no number is taken for an address (WHATWG URL, host parsing).
_HOST: Final = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*(?!\d+$|0x)[a-z0-9-]{1,63}", re.ASCII
)


def domain_of(address: str) -> str:
    """The domain of a mail address in ASCII (IDNA 2008); Invalid when it has none that mail could go to."""
    local, at, domain = address.rpartition("@")
    if local and at and address.isprintable() and not any(sign.isspace() for sign in address):
        try:
            name = idna.encode(domain.rstrip("."), uts46=True).decode()
        except idna.IDNAError:
            name = ""
        if "." in name and _HOST.fullmatch(name):
            return name
    raise Invalid("emailAddress", "write a mail address with a domain, for example name@example.com")


def host_name(written: str) -> str:
    """A host name in lower case, without its last dot; Nothing when it is none. IP addresses are none."""
    name = written.strip().lower().removesuffix(".")
    if not _HOST.fullmatch(name):
        raise Nothing(f"{written.strip()[:80]!r} is no host name")
    return name


async def addresses(host: str, port: int, lookup: Lookup, *, allow_private: bool) -> list[net.AddressInfo]:
    """Where a host is; Nothing when it is nowhere, or one of its addresses must not be connected to."""
    try:
        found = await lookup(host, port)
    except Unreachable as error:
        raise Nothing(str(error)) from error
    if any(is_forbidden(place[4][0], allow_private=allow_private) for place in found):
        raise Nothing(f"{host} is at a private or reserved address (setting discovery.allow_private; link-local never)")
    return found
