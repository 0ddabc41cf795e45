"""Each flow against a provider that answers as the real ones do, and what is said when one refuses."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from inboxd.consents import GOOGLE, MICROSOFT, Application, DeviceCode, Endpoints, Flow, Issued, checked_url
from inboxd.errors import ConsentRefused, Invalid, TokenUnavailable
from inboxd.model import Secret
from inboxd.oauth import flows
from servers.oauth import AWAY, BLOCKED, CLIENT, CLIENT_SECRET, PENDING, REVOKED, SLOW_DOWN, OauthServer, Refusal

USER = "user@example.test"
NOTHING: dict[str, str] = {}


def application(server: OauthServer, flow: Flow = Flow.DEVICE, secret: str | None = None) -> Application:
    urls = server.endpoints
    endpoints = Endpoints(urls["tokenUrl"], urls["authorizeUrl"], urls["deviceUrl"])
    return Application("other", flow, CLIENT, Secret(secret) if secret else None, endpoints, ("mail",))


async def test_a_device_code_is_waited_for_as_slowly_as_the_provider_asks(provider: OauthServer) -> None:
    asking = application(provider)
    code = await flows.begin_device(asking)
    provider.answers += [PENDING, SLOW_DOWN]
    assert await flows.poll_device(asking, code) == code
    slower = await flows.poll_device(asking, code)
    assert isinstance(slower, DeviceCode)
    assert slower.interval_seconds == code.interval_seconds + 5
    provider.consent(code.user_code, USER)
    issued = await flows.poll_device(asking, slower)
    assert isinstance(issued, Issued)
    assert issued.names == (USER,)
    assert issued.refresh is not None
    assert CLIENT_SECRET not in repr(issued)
    again = await flows.refresh(asking, issued.refresh)
    assert again.access != issued.access
    assert again.refresh is None


async def test_a_code_is_good_for_the_visit_that_asked_for_it_alone(provider: OauthServer) -> None:
    asking = application(provider, Flow.CODE)
    first, second = (flows.visit(asking, "http://127.0.0.1:9", GOOGLE.extras, USER) for _ in range(2))
    assert "access_type=offline" in first.url
    back = provider.visit(first.url, USER)
    with pytest.raises(Invalid, match="belongs to another login"):
        await flows.redeem(asking, second, back)
    with pytest.raises(Invalid, match="is not the address"):
        await flows.redeem(asking, first, "http://127.0.0.1:9/")
    stolen = replace(second, state=first.state)  # who has the code and the state still lacks the verifier
    with pytest.raises(ConsentRefused, match="invalid_grant"):
        await flows.redeem(asking, stolen, back)
    assert (await flows.redeem(asking, first, provider.visit(first.url, USER))).names == (USER,)
    denied = f"http://127.0.0.1:9/?error=access_denied&state={first.state.reveal()}"
    with pytest.raises(ConsentRefused, match="an administrator has to allow the application first"):
        await flows.redeem(asking, first, denied)


async def test_a_service_account_signs_for_whom_it_acts(provider: OauthServer) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = json.dumps({"client_email": "robot@project.example", "private_key_id": "k1", "private_key": pem})
    asking = replace(
        application(provider, Flow.SERVICE_ACCOUNT, file), client_id=flows.key_file(Secret(file)).email, subject=USER
    )
    assert (await flows.act(asking)).refresh is None
    signed, _, signature = provider.asked[-1]["assertion"].rpartition(".")
    key.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    head, claims = (json.loads(_decoded(part)) for part in signed.split("."))
    assert head == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert claims["exp"] - claims["iat"] == 3600
    assert (claims["iss"], claims["sub"], claims["scope"], claims["aud"]) == (
        "robot@project.example", USER, "mail", asking.endpoints.token,
    )  # fmt: skip
    with pytest.raises(Invalid, match="keyFile: is not the JSON key"):
        flows.key_file(Secret(json.dumps({"client_email": "a", "private_key": "-----BEGIN nonsense"})))


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_an_application_of_its_own_right_shows_its_secret(provider: OauthServer) -> None:
    provider.secret = CLIENT_SECRET
    assert (await flows.act(application(provider, Flow.CLIENT_CREDENTIALS, CLIENT_SECRET))).life_seconds == 3600
    with pytest.raises(ConsentRefused, match="give its value, not its id") as refused:
        await flows.act(application(provider, Flow.CLIENT_CREDENTIALS, "wrong-canary"))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (REVOKED, ConsentRefused, "no longer valid: invalid_grant: Token has been expired or revoked.$"),
        (BLOCKED, ConsentRefused, "use --flow code, .*: access_denied: AADSTS53003: [^T]*The access policy[^:]*$"),
        ((200, {"error": "invalid_client"}), ConsentRefused, "its secret is wrong or has expired"),
        ((400, {"error": "x", "error_description": "AADSTS700082: expired \x1b[2J"}), ConsentRefused, "want of use"),
        ((400, {"error": "invalid_grant", "error_description": "bad refresh-canary"}), ConsentRefused, r"bad \*\*\*"),
        (AWAY, TokenUnavailable, "gives no tokens now"),
        ((400, {"error": "temporarily_unavailable"}), TokenUnavailable, "gives no tokens now"),
        ((429, NOTHING), TokenUnavailable, "gives no tokens now"),
        ((404, NOTHING), TokenUnavailable, "did not answer as an OAuth2 provider does"),
        ((302, NOTHING), TokenUnavailable, "did not answer as an OAuth2 provider does"),
        ((200, {"access_token": "two words"}), TokenUnavailable, "holds no access token"),
        ((200, {"access_token": "x" * 20_000}), TokenUnavailable, "holds no access token"),
        ((200, {"access_token": "y" * 70_000}), TokenUnavailable, "has no end"),
    ],
)
async def test_a_refusal_says_what_helps_and_trouble_passes(
    provider: OauthServer, answer: Refusal, kind: type[Exception], words: str
) -> None:
    provider.answers.append(answer)
    with pytest.raises(kind, match=words) as told:
        await flows.refresh(application(provider), Secret("refresh-canary"))
    assert "canary" not in str(told.value)
    assert str(told.value).isprintable()


async def test_a_provider_that_is_away_is_trouble_that_passes(provider: OauthServer) -> None:
    nowhere = replace(application(provider), endpoints=Endpoints("http://127.0.0.1:1/token"))
    with pytest.raises(TokenUnavailable, match=r"cannot be asked for a token \("):
        await flows.refresh(nowhere, Secret("refresh-canary"))


@pytest.mark.parametrize(
    "url", ["http://login.example/token", "ftp://x/", "https://", "https://a@b/", "https://a/#b", "https://a/\n", "x"]
)
def test_a_secret_goes_over_https_or_stays_on_this_machine(url: str) -> None:
    with pytest.raises(Invalid, match="tokenUrl"):
        checked_url("tokenUrl", url)


def test_the_providers_endpoints_are_https_and_have_a_source() -> None:
    for provider in (GOOGLE, MICROSOFT):
        urls = (provider.endpoints.token, provider.endpoints.authorize, provider.endpoints.device)
        assert all(checked_url("url", url.replace("{tenant}", "t")) for url in urls if url)
        assert provider.source
        assert set(provider.flows) == set(provider.scopes)
