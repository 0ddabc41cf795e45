"""What a way to a server is made of: secrets, TLS modes, proxies, certificates. Frozen, without I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import final


@final
class Secret:
    """A string that does not show itself in reprs, logs or tracebacks; `reveal` hands it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself; call it where it goes on the wire or under a cipher, nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Tls(enum.Enum):
    """How a connection is secured. STARTTLS is enforced: there is no falling back to NONE."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"
    NONE = "none"


class ProxyKind(enum.Enum):
    """How a proxy is asked for a connection: SOCKS5 (RFC 1928), or HTTP's CONNECT (RFC 9110 §9.3.6)."""

    SOCKS5 = "socks5"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy on the way to a server, with its password opened. Without a user name there is no login."""

    kind: ProxyKind
    host: str
    port: int
    username: str = ""
    password: Secret = field(default=Secret(""))


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The certificate a server showed. `pin` and `key_pin` are what `ssl_trust` may hold: the SHA-256 of the
    certificate and of its public key, each as `sha256:` and hexadecimal digits. `tls` names the protocol version.

    Of a certificate that cannot be parsed only `pin` is known: the names are empty, the dates None.
    """

    tls: str
    pin: str
    key_pin: str = ""
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
