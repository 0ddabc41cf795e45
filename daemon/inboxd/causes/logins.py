"""Why a login is refused: what providers say, word for word, and what they mean by it.

Google: support.google.com/mail/answer/7126229, /78754, /185833. Microsoft: learn.microsoft.com, "Deprecation of basic
authentication in Exchange Online" and "SMTP AUTH" (aka.ms/smtp_auth_disabled). Yandex: github.com/Foundry376/Mailspring
#2111. Zoho: its help on IMAP access. NetEase: github.com/pimalaya/himalaya #651. GMX answers the same whether the
password is wrong or IMAP switched off: github.com/jens-maus/yam #638. Response codes: RFC 5530, RFC 3463. 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inboxd.causes.record import Diagnosis, Failure
from inboxd.errors import (
    AuthRefused,
    ConsentRefused,
    Insecure,
    Invalid,
    NeedsReauth,
    Throttled,
    TokenUnavailable,
)
from inboxd.model import Kind, Tls
from inboxd.providers import LoginName, Wanted

_LOGIN: Final = ("login",)
_REFUSED: Final = (AuthRefused,)
_SIGN_IN: Final = "sign in with OAuth2: inboxctl oauth login NAME"


def _wants(secret: Wanted) -> Callable[[Failure], bool]:
    """Whether the provider wants this kind of secret."""
    return lambda failure: failure.provider is not None and failure.provider.wanted is secret


def _must_be_switched_on(failure: Failure) -> bool:
    """Whether the provider serves mail programs only after its user said so."""
    return failure.provider is not None and "switch" in failure.provider.how


def _has_form(failure: Failure, login: LoginName) -> bool:
    """Whether the server wants such user names."""
    provider = failure.provider
    if provider is None or failure.is_bridge:
        return False
    server = provider.imap if failure.account.kind is Kind.IMAP else provider.smtp
    return server.login is login


def _is_too_long(failure: Failure) -> bool:
    return "@" in failure.account.username and _has_form(failure, LoginName.LOCAL_PART)


def _is_too_short(failure: Failure) -> bool:
    return "@" not in failure.account.username and _has_form(failure, LoginName.ADDRESS)


def _was_not_asked(failure: Failure) -> bool:
    """Whether no login was tried, since none would do."""
    return isinstance(failure.error, AuthRefused) and not failure.error.reply


def _takes_no_password(failure: Failure) -> bool:
    return _was_not_asked(failure) and not any(name in failure.words for name in ("plain", "cram-md5"))


_CONSENTS: Final = (
    Diagnosis(
        "consent_ended",
        "the OAuth2 consent has ended: taken back, the password changed, or unused for months",
        "let the mailbox's owner consent anew: inboxctl oauth login NAME",
        _LOGIN,
        (NeedsReauth,),
    ),
    Diagnosis(
        "consent_refused",
        "the OAuth2 provider refuses a token for this mailbox, in the words above",
        "correct the application or what it may do at the provider; then: inboxctl oauth login NAME",
        _LOGIN,
        (ConsentRefused,),
    ),
    Diagnosis(
        "token_unavailable",
        "the OAuth2 provider gives no token for now",
        "wait: it is asked again by itself; if it stays so, look at the provider's status page",
        _LOGIN,
        (TokenUnavailable,),
    ),
)
_GOOGLE: Final = (
    Diagnosis(
        "app_password_needed",
        "the account's own password is not taken here; {title} wants an app password",
        "{how}",
        _LOGIN,
        words=(
            "application-specific password", "app-specific password", "application password is required",
            "app password", "parol prilozheniya", "invalidsecondfactor",
        ),
    ),
    Diagnosis(
        "google_web_login",
        "Google wants the owner to confirm this new device, or to prove to be human, in a browser",
        "log in at the web mail from a browser and say that it was you; then make an app password:"
        " myaccount.google.com/apppasswords",
        words=("log in via your web browser", "web login required", "webalert", "weblogin"),
    ),
    Diagnosis(
        "imap_off_google",
        "IMAP is switched off for this account",
        "Gmail: Settings, Forwarding and POP/IMAP, Enable IMAP; in a company the administrator allows it first",
        words=("not enabled for imap", "imap access is disabled for your domain"),
        providers=("GOOGLE",),
    ),
    Diagnosis(
        "google_bandwidth",
        "the account read or wrote more than Google allows a day (2,500 MB down, 500 MB up)",
        "wait: it is open again within 24 hours; load an old mailbox over several days",
        words=("command or bandwidth limits", "bandwidth limit"),
    ),
    Diagnosis(
        "too_many_connections",
        "too many connections are open on this account at once",
        "close other mail programs on it, or lower the number of connections; it passes by itself",
        words=(
            "too many simultaneous connections", "number of connections", "too many connections",
            "concurrent connections limit", "mail_max_userip_connections", "[inuse]",
        ),
    ),
)  # fmt: skip
_MICROSOFT_SAYS: Final = (
    Diagnosis(
        "smtp_auth_off_tenant",
        "sending with a login is switched off for the whole organisation (SmtpClientAuthentication)",
        "the administrator allows it for this mailbox: Set-CASMailbox {user} -SmtpClientAuthenticationDisabled $false;"
        " see aka.ms/smtp_auth_disabled",
        words=("smtpclientauthentication is disabled for the tenant",),
    ),
    Diagnosis(
        "smtp_auth_off_mailbox",
        "sending with a login is switched off for this mailbox (SmtpClientAuthentication)",
        "the administrator allows it: Set-CASMailbox {user} -SmtpClientAuthenticationDisabled $false;"
        " see aka.ms/smtp_auth_disabled",
        words=("smtpclientauthentication is disabled",),
    ),
    Diagnosis(
        "security_defaults",
        "the organisation's security defaults or a conditional access policy forbid this way to log in",
        "sign in with OAuth2, or have the administrator make an exception",
        words=("security defaults policy", "conditional access", "did not meet the criteria"),
    ),
    Diagnosis(
        "not_logged_in_for_sending",
        "the server wants a login before it takes mail, and none was made",
        "set the SMTP user name and password; at Microsoft sign in with OAuth2",
        words=("5.7.57", "client was not authenticated", "client not authenticated"),
    ),
    Diagnosis(
        "microsoft_not_connected",
        "the login was taken, but the mailbox behind it cannot be opened: IMAP is off for it, it has no licence, or the"
        " user name is an alias or another's mailbox",
        "have the administrator switch IMAP on for the mailbox, and use its primary address as the user name",
        words=("authenticated but not connected",),
    ),
    Diagnosis(
        "basic_auth_off",
        "{title} takes no passwords any more, app passwords included (basic authentication is off)",
        _SIGN_IN,
        words=("basic authentication is disabled", "basicauthblocked", "logondenied-basicauth"),
    ),
    Diagnosis(
        "basic_auth_off",
        "{title} takes no passwords any more, app passwords included (basic authentication is off)",
        _SIGN_IN,
        _LOGIN,
        _REFUSED,
        when=_wants(Wanted.OAUTH2),
    ),
)
_OTHERS_SAY: Final = (
    Diagnosis(
        "imap_off_yandex",
        "IMAP is not allowed for this mailbox, or the password is not an app password for mail",
        "in the web mail's settings, Email clients: allow access from imap.yandex.com, then make an app password",
        words=("or imap is disabled",),
    ),
    Diagnosis(
        "imap_off",
        "IMAP is switched off for this mailbox",
        "{how}; in a company the administrator allows it first",
        words=(
            "yet to enable imap", "imap is disabled", "imap access is disabled", "imap disabled", "imap is not enabled",
            "not enabled for imap", "imap service is not open", "service is not open, enable",
        ),
    ),
    Diagnosis(
        "authorisation_code_needed",
        "{title} wants the authorisation code from its settings as the password, or IMAP is not switched on there",
        "{how}",
        _LOGIN,
        words=("authorized code", "authorization code", "account is abnormal", "login error or password error"),
    ),
    Diagnosis(
        "unsafe_login",
        "{title} opens mailboxes only for programs that introduce themselves, or took this login for somebody else's",
        "log in at the web mail once and confirm the device; the ID command is sent where the host is the provider's"
        " own, so use its host name",
        words=("unsafe login",),
    ),
    Diagnosis(
        "too_many_bad_logins",
        "too many wrong logins: the server refuses the right password too, for a while",
        "pause the connector, wait an hour, then log in once with the right password",
        words=("too many bad auth", "too many login", "too many failed", "auth005", "too many invalid"),
    ),
    Diagnosis(
        "account_locked",
        "the account is locked or switched off",
        "log in at the provider's web site and follow what it says, or ask the administrator",
        words=(
            "account is locked", "account locked", "account disabled", "account is disabled", "account has been",
            "account suspended", "account is blocked", "user disabled", "user is disabled", "account is suspended",
        ),
    ),
    Diagnosis(
        "password_expired",
        "the password was right once, and has expired",
        "set a new password at the provider, then here",
        words=("[expired]", "password expired", "password has expired"),
    ),
    Diagnosis(
        "no_permission",
        "the password is right, but this user may not come in this way",
        "ask the administrator to allow IMAP or SMTP for the account",
        words=("[authorizationfailed]", "[contactadmin]", "protocol disabled"),
    ),
)  # fmt: skip
_NO_WAY: Final = (
    Diagnosis(
        "oauth2_only",
        "the server takes OAuth2 alone, no passwords",
        _SIGN_IN,
        _LOGIN,
        words=("xoauth2", "oauthbearer"),
        when=_takes_no_password,
    ),
    Diagnosis(
        "oauth2_only",
        "the server takes OAuth2 alone, no passwords",
        _SIGN_IN,
        _LOGIN,
        (Insecure,),
        ("takes no password",),
        when=lambda failure: failure.account.tls is not Tls.NONE,
    ),
    Diagnosis(
        "tls_before_login",
        "the server takes no password on a connection without TLS",
        "use implicit TLS (port {implicit_port}) or STARTTLS (port {starttls_port})",
        _LOGIN,
        words=(
            "without tls",
            "use tls or starttls",
            "[privacyrequired]",
            "must issue a starttls",
            "encryption required",
        ),
    ),
    Diagnosis(
        "password_in_clear",
        "the password would cross the network in clear",
        "use implicit TLS or STARTTLS",
        _LOGIN,
        (Insecure,),
    ),
    Diagnosis(
        "no_login_offered",
        "the server offers no login on port {port}: it takes mail from other servers, or from known addresses",
        "use the submission port: 465 with implicit TLS, 587 with STARTTLS; a relay without logins needs no user name",
        _LOGIN,
        words=("offers no way",),
    ),
    Diagnosis(
        "no_common_mechanism",
        "the server offers none of the ways to log in that are allowed here",
        "allow another in the connection's mechanisms, or leave them out",
        _LOGIN,
        when=_was_not_asked,
    ),
    Diagnosis(
        "mechanism_unknown",
        "the connection's mechanisms or its user name cannot be used",
        "correct the field that is named",
        _LOGIN,
        (Invalid,),
    ),
    Diagnosis(
        "login_throttled",
        "the server is busy, or allows no more logins for this account or address now",
        "wait a while; close other mail programs on this account",
        _LOGIN,
        (Throttled,),
    ),
)
_REFUSALS: Final = (
    Diagnosis(
        "user_name_local_part",
        "{title} wants the user name without the @ and what follows; or the password is not what it wants",
        "set the user name to {local}; and: {how}",
        _LOGIN,
        _REFUSED,
        when=_is_too_long,
    ),
    Diagnosis(
        "user_name_whole_address",
        "{title} wants the whole mail address as the user name",
        "set the user name to the address; and: {how}",
        _LOGIN,
        _REFUSED,
        when=_is_too_short,
    ),
    Diagnosis(
        "app_password_wanted",
        "{title} refuses the account's own password: it wants an app password; or the app password is mistyped or"
        " was revoked",
        "{how}",
        _LOGIN,
        _REFUSED,
        when=_wants(Wanted.APP),
    ),
    Diagnosis(
        "mail_password_wanted",
        "{title} wants a password for mail programs of its own, not the one of its web site",
        "{how}",
        _LOGIN,
        _REFUSED,
        when=_wants(Wanted.MAIL),
    ),
    Diagnosis(
        "authorisation_code_needed",
        "{title} wants the authorisation code from its settings as the password, or IMAP is not switched on there",
        "{how}",
        _LOGIN,
        _REFUSED,
        when=_wants(Wanted.CODE),
    ),
    Diagnosis(
        "bridge_password_wanted",
        "Proton Mail Bridge makes a password of its own; the one of the Proton account does not work",
        "copy user name and password from Bridge's mailbox details",
        _LOGIN,
        _REFUSED,
        when=_wants(Wanted.BRIDGE),
    ),
    Diagnosis(
        "imap_maybe_off",
        "{title} says the same whether the password is wrong or mail programs are not allowed for the mailbox",
        "allow them first: {how}; then check user name and password",
        _LOGIN,
        _REFUSED,
        when=_must_be_switched_on,
    ),
    Diagnosis(
        "wrong_password",
        "wrong user name or password; some servers say so too when an app password is needed or IMAP is off",
        "correct them; try them in the provider's web mail, and look there for app passwords and IMAP access",
        _LOGIN,
        _REFUSED,
    ),
)
LOGINS: Final = (*_CONSENTS, *_GOOGLE, *_MICROSOFT_SAYS, *_OTHERS_SAY, *_NO_WAY, *_REFUSALS)
