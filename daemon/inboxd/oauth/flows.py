"""The requests of each flow. Every one raises ConsentRefused or TokenUnavailable, and holds no secret in its words."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast, final
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from inboxd.consents import Application, DeviceCode, Flow, Issued, checked_url
from inboxd.errors import ConsentRefused, Invalid, TokenUnavailable
from inboxd.model import Secret
from inboxd.oauth import asking
from inboxd.oauth.asking import Answer
from inboxd.oauth.refusals import PENDING, SLOW_DOWN, refusal, said

_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_SECONDS: Final = 3600  # the longest that Google takes
_USUAL_LIFE_SECONDS: Final = 3600.0
_LONGEST_LIFE_SECONDS: Final = 365 * 86_400.0
_SLOWER_SECONDS: Final = 5.0  # RFC 8628 §3.5
_LONGEST_TOKEN: Final = 16_384
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@final
@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to a provider's page: what leads there, and what must come back from it."""

    url: str
    state: Secret
    verifier: Secret
    redirect_uri: str


def visit(application: Application, redirect_uri: str, extras: tuple[tuple[str, str], ...], hint: str | None) -> Visit:
    """A page to consent at, with PKCE (RFC 7636, S256) and a state of its own; `hint` names the mailbox."""
    url = application.endpoints.authorize
    if url is None:
        raise Invalid("authorizeUrl", "is needed for this flow: the provider's page to consent at")
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    query = {
        "response_type": "code",
        "client_id": application.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(application.scopes),
        "state": state,
        "code_challenge": _unpadded(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
        **dict(extras),
        **({"login_hint": hint} if hint else {}),
    }
    joint = "&" if urlsplit(url).query else "?"
    return Visit(
        f"{checked_url('authorizeUrl', url)}{joint}{urlencode(query)}", Secret(state), Secret(verifier), redirect_uri
    )


async def redeem(application: Application, begun: Visit, returned: str) -> Issued:
    """The tokens for the address that the provider's page led back to. Invalid when it belongs to another visit."""
    try:
        found = parse_qs(urlsplit(returned.strip()).query)
    except ValueError:
        found = {}
    code, state, refused = (found.get(name, [""])[0] for name in ("code", "state", "error"))
    if not state and not code and not refused:
        raise Invalid("answer", "is not the address that the provider's page led to: it holds code=… and state=…")
    if not secrets.compare_digest(state.encode(), begun.state.reveal().encode()):
        raise Invalid("answer", "belongs to another login: its state is not the one that this login began with")
    if refused:
        raise refusal({"error": refused, "error_description": found.get("error_description", [""])[0]})
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": begun.redirect_uri,
        "code_verifier": begun.verifier.reveal(),
    }
    return await _issue(application, form)


async def begin_device(application: Application) -> DeviceCode:
    """A code for a person to type in at the provider's page (RFC 8628 §3.1)."""
    url = application.endpoints.device
    if url is None:
        raise Invalid("deviceUrl", "is needed for this flow: the provider's device authorisation endpoint")
    answer = await asking.post(url, {"client_id": application.client_id, "scope": " ".join(application.scopes)})
    device_code, user_code = _text(answer, "device_code"), said(answer.get("user_code"))
    # Google and older drafts spell it with _url.
    page = said(answer.get("verification_uri")) or said(answer.get("verification_url"))
    if not device_code or not user_code or not page:
        raise TokenUnavailable("token", "the provider's answer holds no device code")
    return DeviceCode(
        device_code=Secret(device_code),
        user_code=user_code,
        verification_uri=checked_url("verification_uri", page),
        interval_seconds=min(_number(answer.get("interval"), 5.0), 60.0),
        life_seconds=min(_number(answer.get("expires_in"), 900.0), 3600.0),
    )


async def poll_device(application: Application, code: DeviceCode) -> Issued | DeviceCode:
    """The tokens once the person has consented; until then the code, with how long to wait before the next look."""
    try:
        return await _issue(application, {"grant_type": _DEVICE_GRANT, "device_code": code.device_code.reveal()})
    except ConsentRefused as error:
        if error.code == PENDING:
            return code
        if error.code == SLOW_DOWN:
            return replace(code, interval_seconds=code.interval_seconds + _SLOWER_SECONDS)
        raise


async def refresh(application: Application, token: Secret) -> Issued:
    """The next tokens for a refresh token; a new one of these replaces it (RFC 6749 §6)."""
    return await _issue(application, {"grant_type": "refresh_token", "refresh_token": token.reveal()})


async def act(application: Application) -> Issued:
    """A token for the application itself, or for whom it acts: it needs nobody's consent beside the administrator's."""
    scope = " ".join(application.scopes)
    if application.flow is Flow.CLIENT_CREDENTIALS:
        return await _issue(application, {"grant_type": "client_credentials", "scope": scope})
    form = {"grant_type": _JWT_GRANT, "assertion": _assertion(application)}
    return _issued(await asking.post(application.endpoints.token, form))


async def identity(url: str, access: Secret) -> tuple[str, ...]:
    """Whom the token is for, by the provider's userinfo: the addresses it gives, none when it does not say."""
    return _named(await asking.get(url, access.reveal()))


async def _issue(application: Application, form: Mapping[str, str]) -> Issued:
    secret = {"client_secret": application.secret.reveal()} if application.secret is not None else {}
    answer = await asking.post(application.endpoints.token, {"client_id": application.client_id, **secret, **form})
    return _issued(answer)


def _issued(answer: Answer) -> Issued:
    access, refreshing = _text(answer, "access_token"), _text(answer, "refresh_token")
    if not access:
        raise TokenUnavailable("token", "the provider's answer holds no access token")
    return Issued(
        access=Secret(access),
        life_seconds=min(_number(answer.get("expires_in"), _USUAL_LIFE_SECONDS), _LONGEST_LIFE_SECONDS),
        refresh=Secret(refreshing) if refreshing else None,
        scopes=tuple(_scopes(answer.get("scope"))),
        names=_names_in(answer.get("id_token")),
    )


def _text(answer: Answer, name: str) -> str:
    """A token: text that may stand in a protocol's line; nothing where there is none, or no such text."""
    value = answer.get(name)
    fits = isinstance(value, str) and len(value) <= _LONGEST_TOKEN and _TOKEN.fullmatch(value) is not None
    return value if isinstance(value, str) and fits else ""


def _scopes(value: object) -> list[str]:
    return value.split()[:100] if isinstance(value, str) else []


def _number(value: object, otherwise: float) -> float:
    """A number of seconds, which some write as text."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    return number if number > 0 else otherwise


def _names_in(token: object) -> tuple[str, ...]:
    """Whom an ID token names. It came straight from the provider over TLS, which stands for its signature.

    OpenID Connect Core §3.1.3.7, 6.
    """
    parts = token.split(".") if isinstance(token, str) and len(token) <= _LONGEST_TOKEN else []
    if len(parts) != 3:
        return ()
    try:
        claims: object = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return ()
    return _named(cast("Answer", claims)) if isinstance(claims, dict) else ()


def _named(claims: Answer) -> tuple[str, ...]:
    """The addresses among an identity's claims: the one to sign in with, and the one for mail unless it is unproven."""
    trusted = ("preferred_username", "upn", *(("email",) if claims.get("email_verified", True) is not False else ()))
    names = (said(claims.get(name)) for name in trusted)
    return tuple(dict.fromkeys(name for name in names if "@" in name))


def _assertion(application: Application) -> str:
    """What a service account says of itself, signed (RFC 7523 §3, RS256)."""
    key = key_file(application.secret)
    now = int(time.time())
    claims = {
        "iss": application.client_id,
        "sub": application.subject,
        "scope": " ".join(application.scopes),
        "aud": application.endpoints.token,
        "iat": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    head = {"alg": "RS256", "typ": "JWT", **({"kid": key.id} if key.id else {})}
    signed = f"{_unpadded(json.dumps(head).encode())}.{_unpadded(json.dumps(claims).encode())}"
    return f"{signed}.{_unpadded(key.private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@final
@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a service account's key file says."""

    email: str
    id: str
    private: rsa.RSAPrivateKey


def key_file(content: Secret | None) -> KeyFile:
    """A service account's JSON key, as Google hands it out; Invalid when it is none."""
    try:
        found = cast("dict[str, Any]", json.loads(content.reveal() if content is not None else ""))
        key = load_pem_private_key(str(found["private_key"]).encode(), None)
        email, key_id = str(found["client_email"]), str(found.get("private_key_id", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        key, email, key_id = None, "", ""
    if not isinstance(key, rsa.RSAPrivateKey) or not email:
        raise Invalid("keyFile", "is not the JSON key of a service account (with client_email and private_key)")
    return KeyFile(email, key_id, key)


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
