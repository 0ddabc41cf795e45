"""A name server on loopback: real packets over UDP, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from servers import LOOPBACK

Zone = Mapping[tuple[str, str], Sequence[str] | None]
"""Name and type to the records' texts; None: such a question gets no answer at all."""


BROKEN = ("SERVFAIL",)


@contextmanager
def name_server(zone: Zone) -> Generator[int]:
    """A server of that zone until the block ends; its port. A name that is not in it does not exist."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        thread = threading.Thread(target=_serve, args=(sock, zone), name="dns", daemon=True)
        thread.start()
        try:
            yield int(sock.getsockname()[1])
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join(10)


def _serve(sock: socket.socket, zone: Zone) -> None:
    while True:
        packet, client = sock.recvfrom(65_535)
        if not packet:
            return
        reply = _answer(dns.message.from_wire(packet), zone)
        if reply is not None:
            sock.sendto(reply.to_wire(), client)


def _answer(query: dns.message.Message, zone: Zone) -> dns.message.Message | None:
    question = query.question[0]
    name, kind = str(question.name).lower().rstrip("."), dns.rdatatype.to_text(question.rdtype)
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.RA
    records = zone.get((name, kind), ())
    if records is None:
        return None
    if tuple(records) == BROKEN:
        reply.set_rcode(dns.rcode.SERVFAIL)
    elif records:
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
    elif not any(known == name for known, _ in zone):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply
