"""What DNS says of a domain's mail: SRV records of its servers, and its mail exchangers. The only importer of dns."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast, final

import dns.asyncresolver
import dns.exception
import dns.resolver

from inboxd.discover.found import Endpoint, Nothing
from inboxd.discover.hosts import host_name
from inboxd.model import Tls
from inboxd.sections import DiscoverySettings, host_port

_IMAP: Final = (("_imaps._tcp", Tls.IMPLICIT), ("_imap._tcp", Tls.STARTTLS))
_SMTP: Final = (("_submissions._tcp", Tls.IMPLICIT), ("_submission._tcp", Tls.STARTTLS))
# Some publish the port of implicit TLS under the name of STARTTLS.
_IMPLICIT_PORTS: Final = frozenset({465, 993})
Pair = tuple[Endpoint | None, Endpoint | None]


@final
class Names:
    """Questions to the name server of the settings, else to the system's."""

    def __init__(self, settings: DiscoverySettings) -> None:
        self._settings = settings
        self._opened: dns.asyncresolver.Resolver | None = None

    async def servers(self, domain: str, username: str) -> Pair:
        """The IMAP and the SMTP server of the SRV records (RFC 6186, RFC 8314); Nothing when there are none.

        A record that cannot be had, or used, does not keep the others from being used.
        """
        found: list[Endpoint | None] = []
        troubles: list[Nothing] = []
        for kinds in (_IMAP, _SMTP):
            records = [(one, tls) for name, tls in kinds for one in await self._services(f"{name}.{domain}", troubles)]
            found.append(_preferred(records, username, troubles))
        imap, smtp = found
        if imap is None and smtp is None:
            raise troubles[0] if troubles else Nothing(f"{domain} has no SRV records of IMAP and submission")
        return imap, smtp

    async def exchangers(self, domain: str) -> list[str]:
        """The domain's mail exchangers, the preferred one first; Nothing when there are none."""
        answers = await self._ask(domain, "MX")
        ordered = sorted(answers, key=lambda one: (one.preference, str(one.exchange)))
        hosts = [name for one in ordered if (name := str(one.exchange)) != "."]
        if not hosts:
            raise Nothing(f"{domain} has no mail exchangers")
        return [host_name(host) for host in hosts]

    async def _services(self, name: str, troubles: list[Nothing]) -> list[Any]:
        try:
            return await self._ask(name, "SRV")
        except Nothing as error:
            troubles.append(error)
            return []

    async def _ask(self, name: str, kind: str) -> list[Any]:
        """The records; none when there are none. Nothing when the name server does not answer the question."""
        resolver = await self._resolver()
        try:
            answer = await resolver.resolve(f"{name}.", kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Nothing(f"the name server does not answer for {name} ({type(error).__name__})") from error
        return list(cast("Any", answer.rrset) or ())

    async def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._opened is None:
            self._opened = await self._open()
            # Whoever asks has a deadline; this one is behind it, so that one and the same of both is met.
            self._opened.lifetime = self._settings.step_seconds + 1.0
        return self._opened

    async def _open(self) -> dns.asyncresolver.Resolver:
        if self._settings.name_server:
            host, port = host_port(self._settings.name_server)
            resolver = dns.asyncresolver.Resolver(configure=False)
            resolver.nameservers, resolver.port = [host], port
            return resolver
        try:
            return await asyncio.to_thread(dns.asyncresolver.Resolver)
        except (dns.exception.DNSException, OSError) as error:
            raise Nothing("this machine has no name server in /etc/resolv.conf") from error


def _preferred(records: list[tuple[Any, Tls]], username: str, troubles: list[Nothing]) -> Endpoint | None:
    """The record of lowest priority; of equals implicit TLS goes first (RFC 8314 §5.1), then the greatest weight.

    RFC 2782 draws by weight; settings are found once, and should be found alike twice. The target "." says that the
    service is not offered.
    """
    offered = [(one, tls) for one, tls in records if str(one.target) != "."]
    if not offered:
        return None
    one, tls = min(
        offered, key=lambda pair: (pair[0].priority, pair[1] is not Tls.IMPLICIT, -pair[0].weight, str(pair[0]))
    )
    try:
        host = host_name(str(one.target))
    except Nothing as error:
        troubles.append(error)
        return None
    return Endpoint(host, one.port, Tls.IMPLICIT if one.port in _IMPLICIT_PORTS else tls, username)
