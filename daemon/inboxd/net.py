"""Sockets and TLS contexts for mail servers: names resolved off the loop, dead peers noticed."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
import ssl
import threading
import weakref
from contextlib import ExitStack, suppress
from typing import cast

import aiohappyeyeballs

from inboxd import proxies
from inboxd.certificates import TlsFiles, pins_of
from inboxd.errors import Insecure, Invalid, ProxyFailed, Stalled, TlsFailed, Unreachable
from inboxd.model import Account, Proxy, Tls

_LOOKUPS_AT_ONCE = 64
_EYEBALLS_DELAY_SECONDS = 0.25  # RFC 8305 §5
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
# Written out: what `ipaddress` calls private grows with Python, and holds Teredo and documentation addresses too.
_NEAR = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
TLS_PROTOCOLS = tuple(_VERSIONS)
_NO_FILES = TlsFiles(None, None, None)
# What OpenSSL's reason for a failed handshake most often means.
_HINTS = {
    "wrong version": "; the port may not speak TLS",
    "record layer": "; the port may not speak TLS",
    "certificate required": "; the server wants a client certificate",
    "alert handshake failure": "; the server may want a client certificate, or other protocol versions",
    "alert protocol version": "; the server speaks none of the allowed protocol versions",
    "unsupported protocol": "; the server speaks none of the allowed protocol versions",
    "alert unknown ca": "; the server does not know the authority of the client certificate",
    "alert bad certificate": "; the server refuses the client certificate",
    "alert certificate": "; the server refuses the client certificate",
}


AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]


async def resolve(host: str, port: int) -> list[AddressInfo]:
    """The addresses of `host` in the system's order; Unreachable when the name does not resolve."""
    if "\0" in host or not 0 < port < 65536:  # getaddrinfo would stop at the NUL, and take the port modulo 65536
        raise Unreachable("resolve", f"there is no host {host!r} with a port {port}")
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # a name, then
    try:
        return await _look_up(host, port)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "is not a host name"
        raise Unreachable("resolve", f"the host name {host!r} does not resolve ({reason})") from error


def _addresses(host: str, port: int, flags: int = 0) -> list[AddressInfo]:
    return cast("list[AddressInfo]", socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))


class _Resolver:
    """Lookups of one event loop. A name server that hangs holds one thread for each name, whoever asks and however
    often, and no thread holds up the program's end.
    """

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        self.under_way: dict[tuple[str, int], asyncio.Future[list[AddressInfo]]] = {}


_RESOLVERS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Resolver] = weakref.WeakKeyDictionary()


async def _look_up(host: str, port: int) -> list[AddressInfo]:
    loop = asyncio.get_running_loop()
    resolver = _RESOLVERS.setdefault(loop, _Resolver())
    asked = resolver.under_way.get((host, port))
    if asked is None:
        await resolver.turns.acquire()
        asked = resolver.under_way.get((host, port))
        if asked is not None:
            resolver.turns.release()
    if asked is None:
        asked = resolver.under_way[host, port] = loop.create_future()
        asked.add_done_callback(functools.partial(_answered, resolver, (host, port)))
        work = functools.partial(_resolve_in_thread, loop, asked, host, port)
        threading.Thread(target=work, name="resolve", daemon=True).start()
    return await asyncio.shield(asked)


def _answered(resolver: _Resolver, key: tuple[str, int], asked: asyncio.Future[list[AddressInfo]]) -> None:
    del resolver.under_way[key]
    resolver.turns.release()
    asked.exception()  # retrieved, should nobody wait any more


def _resolve_in_thread(
    loop: asyncio.AbstractEventLoop, asked: asyncio.Future[list[AddressInfo]], host: str, port: int
) -> None:
    try:
        tell = functools.partial(asked.set_result, _addresses(host, port))
    except (OSError, UnicodeError) as error:
        tell = functools.partial(asked.set_exception, error)
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(tell)


async def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A connected, non-blocking socket with keepalive, within `seconds`; else Unreachable or Stalled."""
    try:
        async with asyncio.timeout(seconds):
            addresses = await resolve(host, port)
            sock = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType]
                addresses, happy_eyeballs_delay=_EYEBALLS_DELAY_SECONDS
            )
    except TimeoutError as error:
        raise Stalled("connect", f"{host} port {port} did not answer within {seconds:g} s") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Unreachable("connect", f"cannot connect to {host} port {port} ({reason})") from error
    for level, option, value in _KEEPALIVE:
        sock.setsockopt(level, option, value)
    return sock


async def connect_account(account: Account, seconds: float, *, allow_plaintext: bool) -> socket.socket:
    """`connect` to the account's server, through its proxy if it has one.

    Insecure when a password would cross a public network in clear; ProxyFailed or ProxyRefused for what the proxy does.
    """
    if account.proxy is not None:
        if account.tls is Tls.NONE and not allow_plaintext and not _is_near_address(account.host):
            raise _in_clear(f"{account.host} is reached through a proxy, which may be far from it,")
        return await _connect_through(account.proxy, account, seconds, allow_plaintext=allow_plaintext)
    sock = await connect(account.host, account.port, seconds)
    if account.tls is Tls.NONE and not allow_plaintext and not _has_near_peer(sock, account.host, account.port):
        sock.close()
        raise _in_clear(f"{account.host} is a public address")
    return sock


async def _connect_through(proxy: Proxy, account: Account, seconds: float, *, allow_plaintext: bool) -> socket.socket:
    where = f"{proxy.host} port {proxy.port}"
    try:
        async with asyncio.timeout(seconds):
            with ExitStack() as failed:
                sock = failed.enter_context(await _connect_to(proxy, seconds))
                if proxy.username and not allow_plaintext and not _has_near_peer(sock, proxy.host, proxy.port):
                    raise _in_clear(f"the proxy {proxy.host} wants a login and is a public address")
                await proxies.tunnel(sock, proxy, account.host, account.port)
                failed.pop_all()
                return sock
    except TimeoutError as error:
        words = f"the proxy {where} did not connect to {account.host} port {account.port} within {seconds:g} s"
        raise Stalled("proxy", words) from error


async def _connect_to(proxy: Proxy, seconds: float) -> socket.socket:
    try:
        return await connect(proxy.host, proxy.port, seconds)
    except (Unreachable, Stalled) as error:
        raise ProxyFailed("proxy", f"the proxy cannot be reached: {error}") from error


def _has_near_peer(sock: socket.socket, host: str, port: int) -> bool:
    """Whether the other end is near; Unreachable, and the socket closed, when it has left already."""
    try:
        return is_near(sock.getpeername()[0])
    except OSError as error:
        sock.close()
        raise Unreachable("connect", f"{host} port {port} closed the connection at once") from error


def _is_near_address(host: str) -> bool:
    """Whether it is a near address. Of a name nobody here knows: the proxy resolves it."""
    try:
        return is_near(host)
    except ValueError:
        return False


def _in_clear(subject: str) -> Insecure:
    return Insecure(
        "connect",
        f"{subject} and the connection is not encrypted: use TLS or STARTTLS"
        " (the operator may set network.allow_plaintext)",
    )


def is_near(address: str) -> bool:
    """Whether an IP address is loopback, link-local or private: nobody between here and there but the operator."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in _NEAR)


def tls_context(account: Account) -> ssl.SSLContext | None:
    """The context for the account, None when it uses no TLS. Contexts are shared, and made anew when a file changes.

    Certificates are verified unless the account's `ssl_trust` says otherwise; with a `ca_file` always, and against its
    authorities alone. Pins are not the context's business: see `certificates.check_pin`. TlsFailed for a file that
    cannot be used. It reads small local files, so seldom that no thread is worth it.
    """
    if account.tls is Tls.NONE:
        return None
    trusted = {name.strip().lower() for name in (account.ssl_trust or "").split(",")}
    verify = bool(account.ca_file) or not (trusted & {"*", account.host.lower()} or pins_of(account.ssl_trust))
    try:
        files = TlsFiles.of(account.ca_file, account.client_certificate, account.client_key)
        return _context(verify, account.ssl_protocols, os.environ.get("SSL_CERT_FILE", ""), files)
    except Invalid as error:
        raise TlsFailed("tls", str(error)) from error


def check_tls_files(ca_file: str | None, client_certificate: str | None, client_key: str | None) -> None:
    """Return when each can be read and is what it should be, and the key is the certificate's; else Invalid, which
    names caFile, clientCertificate or clientKey. It reads files.
    """
    files = TlsFiles.of(ca_file, client_certificate, client_key)
    files.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def web_context(*, verify: bool) -> ssl.SSLContext:
    """The context for an HTTPS server; shared. Without `verify` any certificate will do."""
    return _context(verify, (), os.environ.get("SSL_CERT_FILE", ""), _NO_FILES)


@functools.lru_cache(maxsize=64)
def _context(verify: bool, protocols: tuple[str, ...], _authorities: str, files: TlsFiles) -> ssl.SSLContext:
    own = files.authorities is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if own else ssl.create_default_context()
    files.load_into(context)
    versions = [_VERSIONS[name] for name in protocols] or list(_VERSIONS.values())
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_alert(host: str, error: BaseException | None) -> TlsFailed | None:
    """What the server said when it ended TLS; None when it was no alert that ended it.

    In TLS 1.3 a server that refuses the client's certificate says so after the client took the handshake for done.
    """
    if isinstance(error, ssl.SSLError) and "ALERT" in str(getattr(error, "reason", "")).upper():
        return tls_failure(host, error)
    return None


def tls_failure(host: str, error: Exception) -> TlsFailed:
    """A failed handshake in plain words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailed("tls", f"the certificate of {host} was refused ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        reason = str(getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()
        hint = next((hint for words, hint in _HINTS.items() if words in reason), "")
        return TlsFailed("tls", f"TLS with {host} failed ({reason}{hint})")
    return TlsFailed("tls", f"{host} closed the connection during the TLS handshake; the port may not speak TLS")
