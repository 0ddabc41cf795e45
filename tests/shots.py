"""`make shots`: every page of the dashboard in light, dark and phone width, as pictures in a folder to be looked at.

`python tests/shots.py [FOLDER [NAME…]]`: all pages, or those whose name begins so.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from servers import LOOPBACK, free_port
from servers.certs import Certificates, issue
from servers.daemon import KEY, Daemon
from servers.dovecot import Dovecot, User
from servers.oauth import CLIENT, OauthServer, oauth_server
from servers.smtp import SmtpServer, smtp_server

CHROMIUM: Final = ("/usr/bin/chromium", "/usr/bin/chromium-browser")
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}
HTML: Final = """<table width="100%" style="font-family:Georgia">
<tr><td style="background:#14342b;color:#fff;padding:24px">
<h1 style="margin:0">Field notes, autumn edition</h1></td></tr><tr><td style="padding:24px"><p>Dear Ada,</p>
<p>the seeds you asked for are on their way. <a href="https://seeds.example/track">Follow the parcel</a>.</p>
<img src="https://seeds.example/pixel.png" alt="A bed of winter rye" width="320" height="120">
<p>With kind regards,<br>The garden</p></td></tr></table>"""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to be looked at."""

    sender: str
    subject: str
    text: str
    html: str = ""
    files: tuple[tuple[str, int], ...] = ()


LETTERS: Final = (
    Letter("Field Notes <notes@seeds.example>", "Your autumn seeds are on their way", "See the HTML.", HTML),
    Letter("Grace Hopper <grace@navy.example>", "Re: Re: compiler minutes", "They are attached.\n\n> As promised?\n",
           files=(("minutes 12 March.pdf", 182_000), ("a file name that goes on and on and says nothing.docx", 9_000))),
    Letter("دعم العملاء <support@متجر.example>".replace("متجر", "store"), "تأكيد طلبك رقم ٤٧١١ وموعد التسليم",
           "مرحبا آدا،\n\nتم شحن طلبك اليوم.\n"),
    Letter("שירות לקוחות <help@shop.example>", "החשבונית שלך לחודש מרץ (PDF)", "שלום, החשבונית מצורפת."),
    Letter("build@ci.example", "[inboxd/main] #4711 failed: test_first_load_goes_on_where_it_was_when_the_server_"
           "renumbers_the_mailbox_in_the_middle_of_it on linux-aarch64 with Python 3.14.0rc2", "The log is long."),
    Letter("株式会社サンプル <info@sample.example>", "【重要】メンテナンスのお知らせ", "お世話になっております。"),
    Letter("a-very-long-local-part-without-any-break-in-it@a-very-long-domain-name.example", "", "No subject at all."),
    Letter("Barbara <barbara@mit.example>", "Lunch?", "Tuesday at noon, the usual place?"),
)  # fmt: skip


def raw_of(letter: Letter, to: str) -> bytes:
    """The letter's bytes."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = letter.sender, f"Ada Lovelace <{to}>", letter.subject
    made["Date"] = "Thu, 12 Mar 2026 09:30:00 +0100"
    made.set_content(letter.text)
    if letter.html:
        made.add_alternative(letter.html, subtype="html")
    for name, size in letter.files:
        made.add_attachment(b"%PDF" + bytes(size), maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes().replace(b"\n", b"\r\n")


@dataclass(frozen=True, slots=True)
class World:
    """A daemon with something to show, and what it is linked to."""

    daemon: Daemon
    dovecot: Dovecot
    smtp: SmtpServer

    def link(self, name: str, letters: Iterable[Letter] = (), **how: Any) -> tuple[User, dict[str, Any]]:
        """A connector by that name, whose mailbox holds the letters."""
        user = self.dovecot.user(re.sub(r"\W.*", "", name).lower())
        self.dovecot.bulk_load(user, [raw_of(letter, user.name) for letter in letters])
        made = self._connect(user, **how)
        status, answer = self.daemon.http("PUT", f"/connectors/{made['id']}", {"name": name})
        assert status == 200, answer
        return user, made

    def _connect(
        self, user: User, *, wrong: bool = False, away: bool = False, sends: bool = False, unsigned: bool = False
    ) -> dict[str, Any]:
        if unsigned:
            return self.daemon.connect(user, self.dovecot.no_tls, password="")
        server = replace(self.dovecot.starttls, port=free_port()) if away else self.dovecot.starttls
        password = "not this one" if wrong else None
        smtp = self.smtp if sends else None
        return self.daemon.connect(user, server, tls="starttls", password=password, smtp=smtp)

    def consents(self, oauth: OauthServer) -> None:
        """Mailboxes opened by OAuth2: one whose consent has ended, one that nobody has signed in yet."""
        asked = {"provider": "other", "flow": "device", "clientId": CLIENT, **oauth.endpoints, "scopes": ["mail"]}
        user, made = self.link("Shared office", unsigned=True)
        begun = self.daemon.client.call("POST", f"/control/connectors/{made['id']}/oauth", asked)
        oauth.consent(begun["userCode"], user.name)
        oauth.life_seconds = 1.0
        self.daemon.client.call("POST", f"/control/oauth/{begun['login']}", {})
        oauth.revoke()
        self.daemon.await_state(made, "needs_reauth")
        _, waits = self.link("Lecture notes", unsigned=True)
        self.daemon.await_state(waits, "parked")
        for name, host in (("Ada at Outlook", "outlook.office365.com"), ("Ada at Google", "imap.gmail.com")):
            self.daemon.ctl(
                "connector",
                "add",
                name,
                "--oauth",
                "--no-sync",
                "--email",
                f"{name}@example.test".replace(" ", "."),
                "--imap-host",
                host,
            )

    def fill(self) -> None:
        """Connectors that are well and others that are not, mails that came by push, and an outbox."""
        user, good = self.link("Ada at home", LETTERS * 9, sends=True)
        self.link("Accounting, invoices and everything else that the auditors ask for each March", LETTERS[:3])
        self.link("Grace", wrong=True)
        self.link("Lab server", away=True)
        _, paused = self.link("Old newsletter", LETTERS[3:6])
        self.daemon.await_state(good, "idle")
        self.daemon.ctl("connector", "disable", paused["id"])
        count = self.daemon.count(good)
        for letter in LETTERS:
            count += 1
            self.dovecot.append(user, raw_of(letter, user.name))
            self.daemon.await_count(good, count)
        self._send(good, "hilda@garden.example", "Seeds: thank you")
        self.smtp.answers["RCPT nobody@garden.example"] = "550 5.1.1 <nobody@garden.example>: unknown here"
        self._send(good, "nobody@garden.example", "A mail nobody gets", status=1)
        self.smtp.answers["MAIL"] = "451 4.7.1 Greylisting in action, please come back later (see postmaster@garden)"
        self._send(good, "later@garden.example", "שלום, a mail that waits", status=1)
        self.daemon.ctl("key", "create", "continuous integration")

    def _send(self, through: dict[str, Any], to: str, subject: str, status: int = 0) -> None:
        words = ("--to", to, "--subject", subject, "--text", "Thank you for the seeds.")
        self.daemon.ctl("send", through["id"], *words, status=status)


@contextmanager
def _worlds(certificates: Certificates, folder: Path) -> Generator[tuple[World, World]]:
    """A daemon that has much to show, and one with nothing yet."""
    dovecot = Dovecot(folder / "dovecot", certificates)
    dovecot.start()
    with ExitStack() as stack:
        stack.callback(dovecot.stop, kill=True)
        smtp = stack.enter_context(smtp_server())
        made: list[World] = []
        for name in ("full", "new"):
            (folder / name).mkdir()
            daemon = Daemon(folder / name, certificates.ca_file)
            daemon.start()
            stack.callback(daemon.stop)
            made.append(World(daemon, dovecot, smtp))
        made[0].fill()
        oauth = stack.enter_context(oauth_server(dovecot.oauth_port))
        made[0].consents(oauth)
        yield made[0], made[1]


# --- the pages --------------------------------------------------------------------------------------------------------


def _at(path: str) -> Callable[[Page], None]:
    return lambda page: _open(page, path)


def _open(page: Page, path: str) -> None:
    page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/")[2] + path)


def _connector(name: str, then: str = "") -> Callable[[Page], None]:
    def go(page: Page) -> None:
        _open(page, "/ui/connectors")
        page.click(f"th >> text={name}")
        if then:
            page.click(f"{then} >> nth=0")
            page.wait_for_load_state()

    return go


def _mail(subject: str, query: str = "", then: str = "") -> Callable[[Page], None]:
    def go(page: Page) -> None:
        _open(page, "/ui/mail")
        page.click(f".list a:has-text('{subject}') >> nth=0")
        page.wait_for_load_state()
        if query:
            _open(page, re.sub(r"^https?://[^/]+|\?.*", "", page.url) + query)
        if then:
            page.click(f"{then} >> nth=0")
            page.wait_for_load_state()

    return go


def _after(path: str, fields: dict[str, str], press: str) -> Callable[[Page], None]:
    def go(page: Page) -> None:
        _open(page, path)
        for name, value in fields.items():
            page.fill(f"[name={name}]", value)
        page.click(f"main button:has-text('{press}')")
        page.wait_for_load_state()

    return go


def _signing(name: str, first: str, then: str = "", way: str = "", client: str = "") -> Callable[[Page], None]:
    def go(page: Page) -> None:
        _connector(name, first)(page)
        if way:
            page.check(f"#{way}")
        if client:
            page.fill("#client_id", client)
        if then:
            page.click(f"main button:has-text('{then}')")
            page.wait_for_load_state()

    return go


def _microsoft(page: Page) -> None:
    _after("/ui/connectors/new", {"email": "ada@outlook.com"}, "Find the servers")(page)
    page.click("text=How to register it")


def _outbox(subject: str) -> Callable[[Page], None]:
    def go(page: Page) -> None:
        _open(page, "/ui/outbox")
        page.click(f"tr:has-text('{subject}') a")
        page.wait_for_load_state()

    return go


FULL: Final[dict[str, Callable[[Page], None]]] = {
    "overview": _at("/"),
    "connectors": _at("/ui/connectors"),
    "connector": _connector("Ada at home"),
    "connector-broken": _connector("Grace"),
    "connector-edit": _connector("Ada at home", "text=Edit"),
    "connector-test": _connector("Grace", "text=Test"),
    "event": _connector("Grace", ".rows td a"),
    "add": _at("/ui/connectors/new"),
    "add-mistake": _after("/ui/connectors/new", {"email": "ada@unknown.invalid"}, "Find the servers"),
    "add-google": _after("/ui/connectors/new", {"email": "ada@gmail.com"}, "Find the servers"),
    "add-microsoft": _after("/ui/connectors/new", {"email": "ada@outlook.com"}, "Find the servers"),
    "add-microsoft-steps": _microsoft,
    "consent": _connector("Shared office"),
    "sign-in-again": _signing("Shared office", "main button:has-text('Sign in again')"),
    "sign-in-page": _signing("Shared office", "main a:has-text('Sign in another way')", "Go on", way="flow-code"),
    "sign-in-microsoft": _signing("Ada at Outlook", "main a:has-text('Sign in')"),
    "sign-in-google": _signing("Ada at Google", "main a:has-text('Sign in')"),
    "sign-in-led-back": _signing("Ada at Google", "main a:has-text('Sign in')", "Go on", client=CLIENT),
    "sign-in-mistake": _signing("Lecture notes", "main a:has-text('Sign in')", "Go on"),
    "mail": _at("/ui/mail"),
    "mail-search": _at("/ui/mail?q=has:attachment+is:purple"),
    "mail-nothing": _at("/ui/mail?q=unobtainium"),
    "message-html": _mail("autumn seeds"),
    "message-text": _mail("minutes"),
    "message-rtl": _mail("٤٧١١"),
    "message-headers": _mail("#4711", "?view=headers"),
    "message-long": _mail("#4711"),
    "compose": _at("/ui/compose"),
    "reply": _mail("minutes", then="text=Reply"),
    "outbox": _at("/ui/outbox"),
    "sending-failed": _outbox("nobody gets"),
    "sending-deferred": _outbox("that waits"),
    "system": _at("/ui/system"),
    "system-key": _after("/ui/system", {"name": "a picture"}, "Make a key"),
    "failure": _at("/ui/nowhere"),
}
NEW: Final[dict[str, Callable[[Page], None]]] = {
    "new-overview": _at("/"),
    "new-connectors": _at("/ui/connectors"),
    "new-mail": _at("/ui/mail"),
    "new-compose": _at("/ui/compose"),
    "new-outbox": _at("/ui/outbox"),
    "new-system": _at("/ui/system"),
}


def _shoot(
    browser: Browser, world: World, pages: dict[str, Callable[[Page], None]], folder: Path, chosen: tuple[str, ...]
) -> None:
    for look, context in LOOKS.items():
        with browser.new_context(**context) as opened:
            page = opened.new_page()
            page.on("pageerror", lambda error: print(f"script: {error}", file=sys.stderr))
            page.goto(f"http://{LOOPBACK}:{world.daemon.api_port}/")
            if not chosen or "sign-in".startswith(chosen):
                page.screenshot(path=folder / f"sign-in-{look}.png")
            page.fill("#key", KEY)
            page.click("main button")
            for name, go in pages.items():
                if not chosen or name.startswith(chosen):
                    go(page)
                    page.screenshot(path=folder / f"{name}-{look}.png", full_page=True)


def main(folder: Path, chosen: tuple[str, ...]) -> None:
    """Take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    program = next((path for path in CHROMIUM if Path(path).exists()), None)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        Path(place).chmod(0o755)
        certificates = issue(Path(place))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with _worlds(certificates, Path(place)) as (full, new):
            _shoot(browser, full, FULL, folder, chosen)
            _shoot(browser, new, NEW, folder, chosen)
        browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "shots"), tuple(sys.argv[2:]))
