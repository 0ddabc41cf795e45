"""Slows down who tries API keys: how many wrong ones came from where lately."""

from __future__ import annotations

import ipaddress
from typing import Final, final

from inboxd.allowance import Allowance
from inboxd.model import utc_now

MOST_GUESSES: Final = 10
PER_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 1_024
_IPV6_PREFIX: Final = 64  # what one customer gets at least (RFC 6177)


@final
class Guesses:
    """Wrong keys by the address they came from; the addresses of an IPv6 /64 are one.

    Beyond a number of addresses the one that was quiet longest is forgotten.
    """

    def __init__(self, most: int = MOST_GUESSES, seconds: float = PER_SECONDS) -> None:
        self._limit = (most, seconds)
        self._noted: dict[str, Allowance] = {}

    def wait_seconds(self, peer: str) -> float:
        """How long until the address may guess again; 0 when it may now."""
        noted = self._noted.get(_group(peer))
        return 0.0 if noted is None else noted.free(utc_now(), 1)[1]

    def note(self, peer: str) -> bool:
        """A wrong key came from the address. Whether that was the last one it may try for a while."""
        group, now = _group(peer), utc_now()
        noted = self._noted.pop(group, None) or Allowance([self._limit])
        self._noted[group] = noted
        noted.spend(now)
        if len(self._noted) > _MOST_ADDRESSES:
            del self._noted[next(iter(self._noted))]
        return noted.free(now, 1)[0] == 0


def _group(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 4 or address.ipv4_mapped is not None:
        return peer
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
