"""Connections through a proxy: SOCKS5 (RFC 1928, 1929) and HTTP's CONNECT (RFC 9110 §9.3.6).

The proxy resolves the server's name: this machine need not know it, and no name server here hears of it.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import socket
from contextlib import suppress
from typing import Final, final

from inboxd.errors import ProxyFailed, ProxyRefused, Unreachable
from inboxd.model import Proxy, ProxyKind

DEFAULT_PORTS: Final = {ProxyKind.SOCKS5: 1080, ProxyKind.HTTP: 8080}
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_MOST_HEADER_BYTES: Final = 16 << 10
_LONGEST_LOGIN_BYTES: Final = 255
_NO_LOGIN, _PASSWORD = 0x00, 0x02
_SUCCEEDED = 0x00
_NOT_ALLOWED = 0x02
# RFC 1928 §6
_REPLIES: Final = {
    0x01: "general failure",
    0x02: "not allowed by its rules",
    0x03: "network unreachable",
    0x04: "host unreachable, or the name does not resolve",
    0x05: "connection refused",
    0x06: "time to live expired",
    0x07: "it does not do CONNECT",
    0x08: "it does not know this kind of address",
}
_ADDRESS_BYTES: Final = {0x01: 4, 0x04: 16}
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?\r?\n")


async def tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have the proxy at the other end of `sock` connect it to `host`; from then on it speaks with that server.

    Not a byte of the server's is read. The caller sets the deadline, and closes the socket on any error. Unreachable
    for a host that cannot be one; ProxyRefused, ProxyFailed.
    """
    name = _ascii(host)
    talk = _Talk(sock, f"the proxy {proxy.host} port {proxy.port}")
    speak = _socks5 if proxy.kind is ProxyKind.SOCKS5 else _http
    await speak(talk, proxy, name, port)


@final
class _Talk:
    """What is said to the proxy and heard from it, and never more."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self.name = name

    async def say(self, octets: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._sock, octets)
        except OSError as error:
            raise self.failed("closed the connection") from error

    async def exactly(self, count: int) -> bytes:
        heard = b""
        while len(heard) < count:
            try:
                piece = await self._loop.sock_recv(self._sock, count - len(heard))
            except OSError as error:
                raise self.failed("closed the connection") from error
            if not piece:
                raise self.failed("closed the connection")
            heard += piece
        return heard

    async def header(self) -> bytes:
        """An HTTP header to its empty line, an octet at a time: what follows is the server's."""
        heard = bytearray()
        while not heard.endswith((b"\r\n\r\n", b"\n\n")):
            if len(heard) >= _MOST_HEADER_BYTES:
                raise self.failed("does not speak HTTP")
            heard += await self.exactly(1)
        return bytes(heard)

    def failed(self, what: str) -> ProxyFailed:
        return ProxyFailed("proxy", f"{self.name} {what}")

    def refused(self, what: str) -> ProxyRefused:
        return ProxyRefused("proxy", f"{self.name} {what}")


# --- SOCKS5 -----------------------------------------------------------------------------------------------------------


async def _socks5(talk: _Talk, proxy: Proxy, host: str, port: int) -> None:
    methods = bytes([_NO_LOGIN, _PASSWORD] if proxy.username else [_NO_LOGIN])
    login = _login(proxy) if proxy.username else b""
    await talk.say(bytes([5, len(methods)]) + methods)
    version, method = await talk.exactly(2)
    if version != 5:
        raise talk.failed("does not speak SOCKS5")
    if method == _PASSWORD and login:
        await talk.say(login)
        if (await talk.exactly(2))[1] != 0:
            raise talk.refused("refused the user name or password")
    elif method != _NO_LOGIN:
        raise talk.refused("wants a login of another kind" if login else "wants a user name and password")
    await talk.say(b"\x05\x01\x00" + _address(host) + port.to_bytes(2, "big"))
    version, reply, _, kind = await talk.exactly(4)
    if version != 5:
        raise talk.failed("does not speak SOCKS5")
    if reply != _SUCCEEDED:
        reason = _REPLIES.get(reply, f"reply {reply}")
        told = talk.refused if reply == _NOT_ALLOWED else talk.failed
        raise told(f"does not connect to {host} port {port} ({reason})")
    length = _ADDRESS_BYTES.get(kind)
    await talk.exactly((length if length is not None else (await talk.exactly(1))[0]) + 2)


def _address(host: str) -> bytes:
    """The address as it is, or the name for the proxy to resolve (RFC 1928 §5)."""
    with suppress(ValueError):
        ip = ipaddress.ip_address(host)
        return bytes([0x01 if ip.version == 4 else 0x04]) + ip.packed
    return bytes([0x03, len(host)]) + host.encode()


def _login(proxy: Proxy) -> bytes:
    """RFC 1929: both between 1 and 255 octets."""
    name, password = proxy.username.encode(), proxy.password.reveal().encode()
    for field, value in (("proxyUsername", name), ("proxyPassword", password)):
        if not 0 < len(value) <= _LONGEST_LOGIN_BYTES:
            words = f"{field}: SOCKS5 has room for 1 to {_LONGEST_LOGIN_BYTES} bytes"
            raise ProxyRefused("proxy", words)
    return bytes([1, len(name)]) + name + bytes([len(password)]) + password


# --- HTTP -------------------------------------------------------------------------------------------------------------


async def _http(talk: _Talk, proxy: Proxy, host: str, port: int) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username:
        login = base64.b64encode(f"{proxy.username}:{proxy.password.reveal()}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {login}")
    await talk.say("\r\n".join((*lines, "", "")).encode())
    answered = _STATUS.match(await talk.header())
    if answered is None:
        raise talk.failed("does not speak HTTP")
    status, reason = int(answered[1]), _words(answered[2] or b"")
    if status // 100 == 2:
        return
    said = f"{status} {reason}".rstrip()
    if status == 407:
        raise talk.refused(
            f"refused the user name or password ({said})" if proxy.username else "wants a user name and password"
        )
    told = talk.refused if status in (403, 405, 501) else talk.failed
    raise told(f"does not connect to {host} port {port} ({said})")


def _words(reason: bytes) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in reason[:200].decode("latin-1"))


def _ascii(host: str) -> str:
    """The name as it goes into a request."""
    try:
        name = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise Unreachable("resolve", f"there is no host {host[:100]!a}")
    return name
