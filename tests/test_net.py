"""Sockets and TLS contexts: which addresses are near, how names fail, and that nothing is left open."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from inboxd import net
from inboxd.errors import Insecure, MailServerError, Stalled, TlsFailed, Unreachable
from inboxd.model import Account, Kind, Secret, Tls
from servers import LOOPBACK, free_port
from servers.certs import Certificates
from servers.sessions import BOTH_LOOPS

pytest_plugins = ("servers.sessions",)
LOOPS = BOTH_LOOPS

NEAR = [
    "127.0.0.1", "127.255.255.254", "10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "192.168.255.255", "169.254.0.1", "169.254.169.254", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fc00::1",
    "fdff::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:192.168.1.1",
]  # fmt: skip
FAR = [
    "8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0",
    "169.253.255.255", "169.255.0.0", "126.255.255.255", "128.0.0.0", "100.64.0.1", "100.100.100.200", "198.18.0.1",
    "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "0.0.0.0", "192.0.0.1",
    "2001:4860:4860::8888", "2606:4700::1111", "2001:db8::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:7f00:1::",
    "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "ff02::1", "fec0::1", "::", "::ffff:8.8.8.8", "::127.0.0.1",
    "fbff::1", "fe00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NEAR)
def test_loopback_link_local_and_private_addresses_are_near(address: str) -> None:
    assert net.is_near(address)


@pytest.mark.parametrize("address", FAR)
def test_every_other_address_is_far(address: str) -> None:
    assert not net.is_near(address)


# --- names -----------------------------------------------------------------------------------------------------------


async def test_a_literal_address_resolves_to_itself() -> None:
    assert [found[4][:2] for found in await net.resolve("127.0.0.1", 143)] == [("127.0.0.1", 143)]


@pytest.mark.parametrize(
    "host",
    [
        "no-such-host.invalid",
        "",
        "a..b",
        ".example.com",
        "x" * 64 + ".example.com",
        "x" * 300,
        "two words",
        "127.0.0.1\0.example.com",
        "localhost\0",
        "\ud800",
        "ex\nample",
        "127.0.0.1:143",
        "[::1]",
        "999.1.1.1",
    ],
)
async def test_a_name_that_is_none_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable) as told:
        await net.connect(host, 143, 5)
    assert told.value.stage == "resolve"
    assert str(told.value).isprintable()


@pytest.mark.parametrize("port", [0, -1, 65_536, 70_000, 2**64])
async def test_a_port_that_is_none_is_unreachable(port: int) -> None:
    with pytest.raises(Unreachable):
        await net.connect(LOOPBACK, port, 5)


# --- connections -----------------------------------------------------------------------------------------------------


def account(port: int, tls: Tls = Tls.NONE, host: str = LOOPBACK, trust: str | None = None) -> Account:
    return Account(None, Kind.IMAP, host, port, tls, "user", Secret("secret-canary"), ssl_trust=trust)


@asynccontextmanager
async def listening(host: str = LOOPBACK) -> AsyncGenerator[int]:
    """A port on which the kernel accepts, and nobody ever answers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_a_connection_notices_a_dead_peer_by_itself() -> None:
    async with listening() as port:
        with await net.connect(LOOPBACK, port, 5) as sock:
            assert not sock.getblocking()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_other_addresses_of_a_name_are_tried() -> None:
    """localhost is ::1 and 127.0.0.1 on most machines; the listener has one of them."""
    async with listening() as port:
        with await net.connect("localhost", port, 5) as sock:
            assert sock.getpeername() == (LOOPBACK, port)


async def test_a_closed_port_is_unreachable_and_says_so() -> None:
    with pytest.raises(Unreachable, match="Connection refused") as told:
        await net.connect(LOOPBACK, free_port(), 5)
    assert told.value.stage == "connect"


async def test_a_silent_network_stalls_at_the_deadline() -> None:
    """A listener whose queue is full drops what else comes, as a firewall does."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [await net.connect(LOOPBACK, port, 5)]
        with pytest.raises(Stalled, match="did not answer") as told:  # noqa: PT012  # the queue's length is the kernel's
            while len(waiting) < 10:
                waiting.append(await net.connect(LOOPBACK, port, 0.2))
        assert told.value.stage == "connect"
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
async def test_a_near_address_may_be_spoken_to_in_clear(host: str) -> None:
    async with listening(host) as port:
        (await net.connect_account(account(port, host=host), 5, allow_plaintext=False)).close()


async def test_a_server_that_hangs_up_at_once_is_unreachable_and_nothing_else() -> None:
    """The peer's address is gone by the time it is looked at."""
    stop = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(0.1)
        port = listener.getsockname()[1]

        def hang_up() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    peer, _ = listener.accept()
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            for _ in range(300):
                with suppress(MailServerError):
                    (await net.connect_account(account(port), 5, allow_plaintext=False)).close()
        finally:
            stop.set()
            thread.join()


async def test_cancelled_and_failed_connections_leave_no_descriptor_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def attempt(port: int) -> None:
        with suppress(MailServerError):
            (await net.connect("localhost", port, 5)).close()

    closed = free_port()
    async with listening() as port:
        await attempt(port)
        before = descriptors()
        for turns in range(60):
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(attempt(closed if turns % 2 else port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
        assert descriptors() <= before


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_verification_is_on_unless_the_account_trusts_the_host(trusted: Certificates) -> None:
    verifying = net.tls_context(account(993, Tls.IMPLICIT))
    assert verifying is not None
    assert verifying.verify_mode is ssl.CERT_REQUIRED
    assert verifying.check_hostname
    assert verifying.minimum_version is ssl.TLSVersion.TLSv1_2
    for trust in ("*", LOOPBACK, f"other.example, {LOOPBACK}"):
        context = net.tls_context(account(993, Tls.IMPLICIT, trust=trust))
        assert context is not None
        assert context.verify_mode is ssl.CERT_NONE
    assert net.tls_context(account(993, Tls.IMPLICIT, trust="other.example")) is verifying, "contexts are shared"


def test_host_names_are_compared_without_case() -> None:
    context = net.tls_context(account(993, Tls.STARTTLS, host="Mail.Example.COM", trust="mail.example.com"))
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


def test_a_plain_account_has_no_context() -> None:
    assert net.tls_context(account(143)) is None


def test_a_failed_handshake_is_told_in_words() -> None:
    for error in (ConnectionResetError(104, "reset"), ssl.SSLError(1, "odd"), TimeoutError(), OSError(113, "no route")):
        told = net.tls_failure("mail.example.com", error)
        assert type(told) is TlsFailed
        assert "mail.example.com" in str(told)


async def test_a_password_never_crosses_a_public_network_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No public address is at hand, so the loopback is made one: no network counts as near."""
    monkeypatch.setattr(net, "_NEAR", ())
    async with listening() as port:
        with pytest.raises(Insecure, match=r"not encrypted.*allow_plaintext"):
            await net.connect_account(account(port), 5, allow_plaintext=False)
        (await net.connect_account(account(port), 5, allow_plaintext=True)).close()
        for tls in (Tls.STARTTLS, Tls.IMPLICIT):
            (await net.connect_account(account(port, tls), 5, allow_plaintext=False)).close()


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A name server that never answers for names that begin with `hang`."""
    answered = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("hang") and not options.get("flags"):
            answered.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    answered.set()


@pytest.mark.usefixtures("silence")
async def test_a_silent_name_server_holds_one_thread_a_name_and_up_nobody_else() -> None:
    before = threading.active_count()
    async with asyncio.TaskGroup() as tasks:
        lost = [tasks.create_task(_stalls(f"hang{number % 3}.example")) for number in range(90)]
        await asyncio.sleep(0)
        assert await net.resolve("127.0.0.1", 143)
        assert await net.resolve("localhost", 143)
        assert threading.active_count() - before <= 4
    assert all(task.result() for task in lost)


async def _stalls(host: str) -> bool:
    with pytest.raises(Stalled):
        await net.connect(host, 143, 0.5)
    return True


async def test_a_silent_name_server_does_not_keep_the_program_from_ending() -> None:
    program = """
import asyncio, socket, threading
from inboxd import net
real = socket.getaddrinfo
def hang(host, *arguments, **options):
    if not options.get("flags"):
        threading.Event().wait()
    return real(host, *arguments, **options)
socket.getaddrinfo = hang
try:
    asyncio.run(net.connect("hang.example", 143, 0.1))
except net.Stalled:
    print("stalled")
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert (process.returncode, printed) == (0, b"stalled\n")
