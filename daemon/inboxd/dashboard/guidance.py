"""What a person has to do before a mailbox can be signed in by OAuth2, provider by provider and flow by flow.

In the texts `…` marks what is to be typed or looked for as it stands, and addresses of sites become links.
Sources, 2026-11: learn.microsoft.com: desktop app that calls web APIs (code configuration), authenticate an IMAP, POP
or SMTP connection using OAuth, New-ServicePrincipal; support.google.com/cloud/answer/15549945, /cloud/answer/15544987
and /a/answer/162106.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, final

from inboxd import consents, providers
from inboxd.consents import OTHER, Flow
from inboxd.providers import Wanted


@final
@dataclass(frozen=True, slots=True)
class Way:
    """A flow as a page offers it. `steps`: what is to be done at the provider before, once for all its mailboxes."""

    flow: Flow
    title: str
    hint: str
    steps: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Advice:
    """How mailboxes of one provider are signed in. `needs`: what OAuth2 asks of a person, in a sentence or two.

    `password`: how to get the password it wants instead; empty where none is taken or nothing is known. `secret` says
    what the client's secret is there. `redirect`: the address that an application is registered with.
    """

    provider: str
    title: str
    needs: str
    secret: str
    ways: tuple[Way, ...]
    redirect: str
    wanted: str = ""
    password: str = ""
    is_known: bool = True  # that it takes OAuth2

    @property
    def only(self) -> bool:
        """Whether no password opens its mailboxes."""
        return self.is_known and not self.password


_TYPED: Final = "A code, typed in on any device"
_LED: Final = "The provider's page, in this browser"
_ALONE: Final = "The application by itself"
TITLES: Final = {
    Flow.DEVICE: _TYPED,
    Flow.CODE: _LED,
    Flow.CLIENT_CREDENTIALS: _ALONE,
    Flow.SERVICE_ACCOUNT: "A service account",
}
_TYPED_HINT: Final = "You get a short code and open the provider's page, here or on a phone."
_LED_HINT: Final = "You sign in at the provider's page, and bring back the address it ends at."
_MICROSOFT_BEGIN: Final = (
    "At entra.microsoft.com open `App registrations`, `New registration`. Any name will do. For Outlook.com, Hotmail "
    "and Live choose accounts in any directory `and personal Microsoft accounts`."
)
_MICROSOFT_END: Final = (
    "From its overview copy the `Application (client) ID` into the form. It has no secret. If it is for one directory "
    "only, copy the `Directory (tenant) ID` as well."
)
_MICROSOFT: Final = (
    Way(
        Flow.DEVICE,
        _TYPED,
        _TYPED_HINT,
        (
            _MICROSOFT_BEGIN,
            "Under `Authentication` switch `Allow public client flows` on. No redirect URI is needed.",
            _MICROSOFT_END,
        ),
    ),
    Way(
        Flow.CODE,
        _LED,
        f"{_LED_HINT} For companies that block codes.",
        (
            _MICROSOFT_BEGIN,
            (
                "Under `Authentication` add the platform `Mobile and desktop applications` with the redirect URI "
                "`http://localhost`, and switch `Allow public client flows` on."
            ),
            _MICROSOFT_END,
        ),
    ),
    Way(
        Flow.CLIENT_CREDENTIALS,
        _ALONE,
        "An administrator allows it for Microsoft 365; nobody signs in. It needs a client secret and the directory.",
        (
            "At entra.microsoft.com open `App registrations`, `New registration`. No redirect URI is needed.",
            (
                "Under `API permissions` add, from `Office 365 Exchange Online`, the application permissions "
                "`IMAP.AccessAsApp` and `SMTP.SendAsApp`, and press `Grant admin consent`."
            ),
            "Under `Certificates & secrets` make a client secret, and copy its `Value`, not its id.",
            (
                "In Exchange Online PowerShell: `New-ServicePrincipal -AppId CLIENT-ID -ObjectId ID` with the object "
                "id that `Enterprise applications` shows, then for each mailbox "
                "`Add-MailboxPermission -Identity ADDRESS -User ID -AccessRights FullAccess`."
            ),
            "From its overview copy the `Application (client) ID` and the `Directory (tenant) ID`.",
        ),
    ),
)
_GOOGLE: Final = (
    Way(
        Flow.CODE,
        _LED,
        _LED_HINT,
        (
            "At console.cloud.google.com make a project, in it open `Google Auth Platform`, and press `Get started`.",
            (
                "Under `Audience` choose `Internal` if the mailboxes are your own Workspace's. Else choose `External` "
                "and press `Publish app`: while it is in testing, every consent ends after 7 days."
            ),
            (
                "Under `Clients` make a client of the type `Desktop app`. No redirect URI has to be registered: it "
                "leads back to `http://127.0.0.1`."
            ),
            "Copy its client ID and its client secret into the form.",
            (
                "At the sign-in Google may warn that it has not verified the app, which is yours: choose `Advanced` "
                "and go on."
            ),
        ),
    ),
    Way(
        Flow.SERVICE_ACCOUNT,
        "A service account of your Workspace",
        "Its administrator allows it for all mailboxes; nobody signs in. It needs the account's key file.",
        (
            (
                "At console.cloud.google.com open `IAM & Admin`, `Service Accounts`, make one, and for it a key of the "
                "type `JSON`: a file is downloaded."
            ),
            (
                "At admin.google.com open `Security`, `Access and data control`, `API controls`, `Manage Domain Wide "
                "Delegation`, and add the account's client ID with the scope `https://mail.google.com/`."
            ),
            "Choose the file in the form. No client id is needed.",
        ),
    ),
)
_REGISTER: Final = (
    "Register an application (a client) with the provider, and have it allowed the scopes for IMAP, for SMTP and for "
    "offline access."
)
_FILL_IN: Final = "Copy its client id, its secret if it has one, and under `More` the provider's endpoints and scopes."
_ELSEWHERE: Final = (
    Way(
        Flow.CODE,
        _LED,
        _LED_HINT,
        (_REGISTER, "Its redirect URI is `http://127.0.0.1`, as for desktop programs (RFC 8252).", _FILL_IN),
    ),
    Way(Flow.DEVICE, _TYPED, _TYPED_HINT, (_REGISTER, "No redirect URI is needed.", _FILL_IN)),
    Way(
        Flow.CLIENT_CREDENTIALS,
        _ALONE,
        "The provider's administrator allows it; nobody signs in. It needs a client secret.",
        (_REGISTER, "No redirect URI is needed.", _FILL_IN),
    ),
)
_ADVICE: Final = {
    "microsoft": Advice(
        "microsoft",
        "Microsoft",
        "It needs an application of your own, registered with Microsoft once for all your mailboxes: its client id, "
        "and no secret. Then a short code is typed in at Microsoft's page, on any device.",
        "only for the application by itself",
        _MICROSOFT,
        "http://localhost",
    ),
    "google": Advice(
        "google",
        "Google",
        "It needs an application of your own, registered with Google once for all your mailboxes: its client id and "
        "secret. Then you sign in at Google's page.",
        "Google gives every client one",
        _GOOGLE,
        "http://127.0.0.1",
    ),
    OTHER: Advice(
        OTHER,
        "another provider",
        "It needs an application registered with the provider, and the addresses of its OAuth2 endpoints.",
        "if the client has one",
        _ELSEWHERE,
        "http://127.0.0.1",
        is_known=False,
    ),
}


def advice(hosts: Iterable[str], name: str | None = None) -> Advice:
    """What to tell about mailboxes at these servers, or of the OAuth2 provider of that name."""
    given = [host for host in hosts if host]
    known = next((one for host in given if (one := consents.provider_at(host)) is not None), None)
    row = next((it for host in given if (it := providers.by_host(host)) is not None), None)
    found = _ADVICE.get(name or (known.name if known is not None else OTHER), _ADVICE[OTHER])
    if row is None:
        return found
    how = "" if row.wanted is Wanted.OAUTH2 else row.how.removesuffix(", or sign in with OAuth2")
    title = found.title if found.is_known else row.title
    return replace(found, title=title, wanted=row.wanted.value, password=how, is_known=found.is_known or row.oauth2)
