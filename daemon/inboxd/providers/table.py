"""The table: one row a provider. Servers as Thunderbird's database of providers (ISPDB) has them, its first choice.

Domains that belong to a provider but not here are found all the same, by the provider's own settings or by its mail
exchangers. A provider that publishes its settings well needs no row.
"""

from __future__ import annotations

from typing import Final

from inboxd.model import Tls
from inboxd.providers.record import Habits, LoginName, Provider, Quirks, Server, Wanted

_LOCAL: Final = LoginName.LOCAL_PART
_ADDRESS: Final = LoginName.ADDRESS
# No source for a provider's limit of logins a second was found; this is a careful guess, not a measurement.
_LARGE: Final = 5.0
# learn.microsoft.com: improvements in the SMTP authenticated submission client protocol, 2026-11
_MICROSOFT_SENDS: Final = Habits(files_copy=True, connections=3, per_minute=30, per_day=10_000)
# learn.microsoft.com: set connection time-out limits (1,800 s), 2026-11; asked again a little before that.
_MICROSOFT_READS: Final = Quirks(idle_seconds=1_700.0, logins_per_second=_LARGE)
_MADE_IN_SETTINGS: Final = "make an app password in the account's security settings; the password itself is refused"
_AS_IN_WEBMAIL: Final = "the mailbox's password"
_OAUTH2_ONLY: Final = "sign in with OAuth2; passwords and app passwords are refused"
_SWITCH_ON: Final = "the mailbox's password, after IMAP was switched on in the webmail's settings"
_CODE: Final = "switch IMAP on in the webmail's settings; the authorisation code shown there is the password"


def _imap(host: str, login: LoginName = _ADDRESS) -> Server:
    return Server(host, 993, Tls.IMPLICIT, login)


def _smtp(host: str, login: LoginName = _ADDRESS) -> Server:
    return Server(host, 465, Tls.IMPLICIT, login)


def _submission(host: str) -> Server:
    return Server(host, 587, Tls.STARTTLS)


_ISPDB: Final = "github.com/thunderbird/autoconfig ispdb at c6ad796, 2026-11"


def _ispdb(file: str) -> str:
    return f"github.com/thunderbird/autoconfig ispdb/{file}.xml, 2026-11"


def _countries(name: str, *endings: str) -> tuple[str, ...]:
    return tuple(f"{name}.{ending}" for ending in endings)


GOOGLE: Final = Provider(
    "GOOGLE", "Gmail and Google Workspace", ("gmail.com", "googlemail.com"), _imap("imap.gmail.com"),
    _smtp("smtp.gmail.com"), Wanted.APP,
    "make an app password at myaccount.google.com/apppasswords (needs 2-step verification), or sign in with OAuth2",
    # Connections: support.google.com/mail/answer/97150. Volume a day: support.google.com/a/answer/1071518.
    # Mails a day: support.google.com/a/answer/166852. IDLE: github.com/home-assistant/core/issues/86407.
    "developers.google.com/workspace/gmail/imap/imap-smtp, 2026-11",
    oauth2=True, mx=("google.com", "googlemail.com"), aliases=("imap.googlemail.com", "smtp.googlemail.com"),
    quirks=Quirks(15, idle_seconds=540.0, session_seconds=86_400.0, bytes_per_day=2_500_000_000,
                  logins_per_second=_LARGE),
    habits=Habits(files_copy=True, per_day=2_000),
)  # fmt: skip
MICROSOFT: Final = Provider(
    "MICROSOFT", "Outlook.com, Hotmail, Live, MSN",
    ("outlook.com", "hotmail.com", "live.com", "msn.com", "windowslive.com",
     *_countries("outlook", "at", "be", "cl", "cz", "de", "dk", "es", "fr", "hu", "ie", "in", "it", "jp", "kr", "lv",
                 "my", "ph", "pt", "sa", "sg", "sk", "co.id", "co.il", "co.th", "com.ar", "com.au", "com.br", "com.gr",
                 "com.tr", "com.vn"),
     *_countries("hotmail", "be", "ca", "cl", "cz", "de", "dk", "es", "fi", "fr", "gr", "hu", "it", "lt", "lv", "my",
                 "nl", "no", "ph", "rs", "se", "sg", "sk", "co.id", "co.il", "co.in", "co.jp", "co.kr", "co.th",
                 "co.uk", "co.za", "com.ar", "com.au", "com.br", "com.hk", "com.tr", "com.tw", "com.vn"),
     *_countries("live", "at", "be", "ca", "cl", "cn", "de", "dk", "fi", "fr", "hk", "ie", "in", "it", "jp", "nl", "no",
                 "ru", "se", "co.jp", "co.kr", "co.uk", "co.za", "com.ar", "com.au", "com.mx", "com.my", "com.ph",
                 "com.pt", "com.sg")),
    _imap("outlook.office365.com"), _submission("smtp-mail.outlook.com"), Wanted.OAUTH2, _OAUTH2_ONLY,
    "support.microsoft.com: POP, IMAP, and SMTP settings for Outlook.com, 2026-11",
    oauth2=True, mx=("olc.protection.outlook.com",), aliases=("imap-mail.outlook.com",),
    quirks=_MICROSOFT_READS, habits=_MICROSOFT_SENDS,
)  # fmt: skip
MICROSOFT365: Final = Provider(
    "MICROSOFT365", "Microsoft 365", (), _imap("outlook.office365.com"), _submission("smtp.office365.com"),
    Wanted.OAUTH2, _OAUTH2_ONLY, _ispdb("office365.com"),
    oauth2=True, mx=("protection.outlook.com", "mx.microsoft"), quirks=_MICROSOFT_READS, habits=_MICROSOFT_SENDS,
)  # fmt: skip


def _zoho(region: str, *domains: str) -> tuple[Provider, Provider]:
    """One of Zoho's regions, which do not know each other's accounts: personal addresses, and those of companies.

    It files what it sends (github.com/nylas/sync-engine/issues/365).
    """
    how = "switch IMAP access on in the webmail's settings; with two-factor sign-in make an application password"
    source, habits = "zoho.com/mail/help/imap-access.html and ISPDB zoho.com.xml, 2026-11", Habits(files_copy=True)
    title = f"Zoho Mail ({region})"
    name = f"ZOHO_{region.replace('.', '_').upper()}"
    return (
        Provider(name, title, domains, _imap(f"imap.{region}"), _smtp(f"smtp.{region}"), Wanted.ACCOUNT, how, source,
                 habits=habits),
        Provider(f"{name}_PRO", title, (), _imap(f"imappro.{region}"), _smtp(f"smtppro.{region}"), Wanted.ACCOUNT, how,
                 source, mx=(region,), habits=habits),
    )  # fmt: skip


PROVIDERS: Final[tuple[Provider, ...]] = (
    GOOGLE,
    MICROSOFT,
    MICROSOFT365,
    Provider(
        "ICLOUD", "iCloud Mail", ("icloud.com", "me.com", "mac.com"), _imap("imap.mail.me.com", _LOCAL),
        _submission("smtp.mail.me.com"), Wanted.APP,
        "make an app-specific password at account.apple.com (needs two-factor sign-in)",
        # Whether it files what it sends: QuickMail#150 says yes, floatpane/matcha#496 says no.
        _ispdb("me.com"), mx=("icloud.com",),
    ),
    Provider(
        "YAHOO", "Yahoo Mail",
        ("ymail.com", "myyahoo.com", "rocketmail.com", "cox.net",
         *_countries("yahoo", "com", "de", "it", "fr", "es", "se", "co.in", "co.uk", "co.nz", "com.au", "com.ar",
                     "com.br", "com.mx")),
        _imap("imap.mail.yahoo.com"), _smtp("smtp.mail.yahoo.com"), Wanted.APP, _MADE_IN_SETTINGS,
        _ispdb("yahoo.com"), mx=("yahoodns.net",), aliases=("export.imap.mail.yahoo.com",),
    ),
    Provider(
        "AOL", "AOL and Verizon Mail",
        ("aim.com", "netscape.net", "netscape.com", "compuserve.com", "cs.com", "wmconnect.com", "verizon.net",
         *_countries("aol", "com", "de", "it", "fr", "es", "se", "co.uk", "co.nz", "com.au", "com.ar", "com.br",
                     "com.mx")),
        _imap("imap.aol.com"), _smtp("smtp.aol.com"), Wanted.APP, _MADE_IN_SETTINGS,
        _ispdb("aol.com"), mx=("gm0.yahoodns.net",),
    ),
    Provider(
        "ATT", "AT&T Mail",
        ("att.net", "ameritech.net", "bellsouth.net", "currently.com", "flash.net", "nvbell.net", "pacbell.net",
         "prodigy.net", "sbcglobal.net", "snet.net", "swbell.net", "wans.net"),
        _imap("imap.mail.att.net"), _smtp("smtp.mail.att.net"), Wanted.APP,
        "make a secure mail key in the AT&T profile's sign-in settings", _ispdb("att.net"),
        aliases=("outbound.att.net",),
    ),
    Provider(
        "FASTMAIL", "Fastmail", ("fastmail.com", "fastmail.fm"), _imap("imap.fastmail.com"), _smtp("smtp.fastmail.com"),
        Wanted.APP, "make an app password in Settings, Privacy & Security (IMAP and SMTP)",
        _ispdb("messagingengine.com"), oauth2=True, mx=("messagingengine.com",),
    ),
    Provider(
        "POBOX", "Pobox", ("pobox.com",), _imap("mail.pobox.com"), _smtp("smtp.pobox.com"), Wanted.APP,
        _MADE_IN_SETTINGS, _ispdb("pobox.com"), mx=("pobox.com",),
    ),
    *_zoho("zoho.com", "zoho.com", "zohomail.com"),
    *_zoho("zoho.eu", "zoho.eu", "zohomail.eu"),
    *_zoho("zoho.in", "zoho.in", "zohomail.in"),
    *_zoho("zoho.com.au", "zoho.com.au", "zohomail.com.au"),
    *_zoho("zoho.jp", "zoho.jp", "zohomail.jp"),
    *_zoho("zohocloud.ca", "zohocloud.ca", "zohomailcloud.ca"),
    Provider(
        "GMX", "GMX",
        (*_countries("gmx", "net", "de", "at", "ch", "eu", "biz", "org", "info"), "mein.gmx", "mail.gmx", "email.gmx"),
        _imap("imap.gmx.net"), _smtp("mail.gmx.net"), Wanted.ACCOUNT, _SWITCH_ON, _ispdb("gmx.net"), mx=("gmx.net",),
    ),
    Provider(
        "GMX_COM", "GMX (outside Germany, Austria and Switzerland)",
        _countries("gmx", "com", "tm", "us", "co.uk", "es", "fr", "ca", "cn", "co.in", "com.br", "com.my", "hk", "ie",
                   "ph", "pt", "ru", "se", "sg", "tw", "com.tr", "it", "li"),
        _imap("imap.gmx.com"), _smtp("mail.gmx.com"), Wanted.ACCOUNT, _SWITCH_ON, _ispdb("gmx.com"),
    ),
    Provider(
        "WEB_DE", "WEB.DE", ("web.de",), _imap("imap.web.de", _LOCAL), _smtp("smtp.web.de", _LOCAL), Wanted.ACCOUNT,
        _SWITCH_ON, _ispdb("web.de"),
    ),
    Provider(
        "MAIL_COM", "mail.com",
        ("mail.com", "mail.org", "email.com", "post.com", "usa.com", "consultant.com", "dr.com", "engineer.com",
         "techie.com", "linuxmail.org", "europe.com", "london.com", "myself.com", "iname.com", "writeme.com"),
        _imap("imap.mail.com"), _smtp("smtp.mail.com"), Wanted.ACCOUNT, _SWITCH_ON, _ispdb("mail.com"),
    ),
    Provider(
        "IONOS", "IONOS (1&1)", ("online.de", "onlinehome.de", "sofortstart.de", "sofort-start.de", "go4more.de"),
        _imap("imap.1und1.de"), _smtp("smtp.1und1.de"), Wanted.ACCOUNT, _AS_IN_WEBMAIL, _ispdb("1und1.de"),
        mx=("kundenserver.de", "schlund.de"),
    ),
    Provider(
        "STRATO", "Strato", ("strato.de",), _imap("imap.strato.de"), _smtp("smtp.strato.de"), Wanted.ACCOUNT,
        _AS_IN_WEBMAIL, _ispdb("strato.de"), mx=("rzone.de",),
    ),
    Provider(
        "T_ONLINE", "T-Online", ("t-online.de", "magenta.de"), _imap("secureimap.t-online.de"),
        _smtp("securesmtp.t-online.de"), Wanted.MAIL,
        "set an e-mail password in the Telekom account; the password of the website does not work",
        _ispdb("t-online.de"),
    ),
    Provider(
        "POSTEO", "Posteo", _countries("posteo", "de", "at", "be", "ch", "com", "eu", "net", "org", "nl", "uk", "us"),
        _imap("posteo.de"), _smtp("posteo.de"), Wanted.ACCOUNT, _AS_IN_WEBMAIL, _ispdb("posteo.de"),
    ),
    Provider(
        "MAILBOX_ORG", "mailbox.org", ("mailbox.org",), _imap("imap.mailbox.org"), _smtp("smtp.mailbox.org"),
        Wanted.ACCOUNT, "the mailbox's password; with two-factor sign-in an application password",
        _ispdb("mailbox.org"), mx=("mailbox.org",),
    ),
    Provider(
        "OVH", "OVH", (), _imap("ssl0.ovh.net"), _smtp("ssl0.ovh.net"), Wanted.ACCOUNT, _AS_IN_WEBMAIL,
        _ISPDB, mx=("ovh.net",),
    ),
    Provider(
        "GANDI", "Gandi", (), _imap("mail.gandi.net"), _smtp("mail.gandi.net"), Wanted.ACCOUNT, _AS_IN_WEBMAIL,
        _ISPDB, mx=("gandi.net",),
    ),
    Provider(
        "HETZNER", "Hetzner", (), _imap("mail.your-server.de"), _smtp("mail.your-server.de"), Wanted.ACCOUNT,
        _AS_IN_WEBMAIL, _ispdb("hetzner.de"), mx=("your-server.de",),
    ),
    Provider(
        "ONE_COM", "one.com", ("one.com",), _imap("imap.one.com"), _smtp("send.one.com"), Wanted.ACCOUNT,
        _AS_IN_WEBMAIL, _ispdb("one.com"), mx=("one.com",),
    ),
    Provider(
        "RACKSPACE", "Rackspace Email", (), _imap("secure.emailsrvr.com"), _smtp("secure.emailsrvr.com"),
        Wanted.ACCOUNT, _AS_IN_WEBMAIL, _ispdb("emailsrvr.com"), mx=("emailsrvr.com",),
    ),
    Provider(
        "MIGADU", "Migadu", ("migadu.com",), _imap("imap.migadu.com"), _smtp("smtp.migadu.com"), Wanted.ACCOUNT,
        _AS_IN_WEBMAIL, _ispdb("migadu.com"), mx=("migadu.com",),
    ),
    Provider(
        "PURELYMAIL", "Purelymail", ("purelymail.com",), _imap("mailserver.purelymail.com"),
        _smtp("mailserver.purelymail.com"), Wanted.ACCOUNT, _AS_IN_WEBMAIL, _ispdb("purelymail.com"),
        mx=("purelymail.com",),
    ),
    Provider(
        "YANDEX", "Yandex Mail", ("ya.ru", "narod.ru", *_countries("yandex", "ru", "com", "net", "by", "kz", "ua")),
        _imap("imap.yandex.com"), _smtp("smtp.yandex.com"), Wanted.APP,
        "allow IMAP in the webmail's settings and make an app password for mail", _ispdb("yandex.ru"),
        mx=("yandex.net", "yandex.ru"), aliases=("imap.yandex.ru", "smtp.yandex.ru"),
    ),
    Provider(
        "MAIL_RU", "Mail.ru", ("mail.ru", "inbox.ru", "list.ru", "bk.ru"), _imap("imap.mail.ru"), _smtp("smtp.mail.ru"),
        Wanted.APP, _MADE_IN_SETTINGS, _ISPDB, mx=("mail.ru",),
    ),
    Provider(
        "SEZNAM", "Seznam", ("seznam.cz", "email.cz", "post.cz"), _imap("imap.seznam.cz"), _smtp("smtp.seznam.cz"),
        Wanted.APP, _MADE_IN_SETTINGS, _ISPDB,
    ),
    Provider(
        "WP", "WP Poczta", ("wp.pl",), _imap("imap.wp.pl", _LOCAL), _smtp("smtp.wp.pl", _LOCAL), Wanted.APP,
        _MADE_IN_SETTINGS, _ISPDB,
    ),
    Provider(
        "NAVER", "Naver Mail", ("naver.com",), _imap("imap.naver.com"), _smtp("smtp.naver.com"), Wanted.APP,
        "allow IMAP in the webmail's settings; with two-step sign-in make an application password", _ispdb("naver.com"),
    ),
    # The ID command: help.mail.163.com and github.com/pimalaya/himalaya/issues/651 (NetEase); QQ's need is not certain.
    Provider(
        "NETEASE_163", "NetEase 163", ("163.com",), _imap("imap.163.com"), _smtp("smtp.163.com"),
        Wanted.CODE, _CODE, _ISPDB, quirks=Quirks(wants_id=True),
    ),
    Provider(
        "NETEASE_126", "NetEase 126", ("126.com",), _imap("imap.126.com"), _smtp("smtp.126.com"),
        Wanted.CODE, _CODE, _ISPDB, quirks=Quirks(wants_id=True),
    ),
    Provider(
        "QQ", "QQ Mail", ("qq.com",), _imap("imap.qq.com"), _smtp("smtp.qq.com"), Wanted.CODE, _CODE,
        _ispdb("qq.com"), quirks=Quirks(wants_id=True),
    ),
    Provider(
        "ORANGE", "Orange", ("orange.fr", "wanadoo.fr"), _imap("imap.orange.fr"), _smtp("smtp.orange.fr"),
        Wanted.ACCOUNT, _AS_IN_WEBMAIL, _ispdb("orange.fr"),
    ),
    Provider(
        "FREE", "Free", ("free.fr",), _imap("imap.free.fr", _LOCAL), _smtp("smtp.free.fr", _LOCAL), Wanted.ACCOUNT,
        _AS_IN_WEBMAIL, _ispdb("free.fr"),
    ),
    Provider(
        "LA_POSTE", "La Poste", ("laposte.net",), _imap("imap.laposte.net", _LOCAL), _smtp("smtp.laposte.net", _LOCAL),
        Wanted.ACCOUNT, _SWITCH_ON, _ISPDB,
    ),
    Provider(
        "LIBERO", "Libero", ("libero.it",), _imap("imapmail.libero.it"), _smtp("smtp.libero.it"), Wanted.ACCOUNT,
        _AS_IN_WEBMAIL, _ISPDB,
    ),
    Provider(
        "PROTON", "Proton Mail Bridge", ("proton.me", "protonmail.com", "protonmail.ch", "pm.me"),
        Server("127.0.0.1", 1143, Tls.STARTTLS), Server("127.0.0.1", 1025, Tls.STARTTLS), Wanted.BRIDGE,
        "run Proton Mail Bridge beside inboxd and take the password it shows; its certificate is self-signed",
        "proton.me/support/imap-smtp-and-pop3-setup, 2026-11",
    ),
)  # fmt: skip
