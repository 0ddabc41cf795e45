"""What people write into the search box, and how pages put figures into words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from inboxd import consents
from inboxd.dashboard import guidance, render, search, signing
from inboxd.model import MessageFilter, utc_now
from inboxd.oauth import refusals

EVERY = MessageFilter()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", MessageFilter()),
        ("two words", MessageFilter(search="two words")),
        ('"an exact phrase" more', MessageFilter(search="an exact phrase more")),
        ("is:unread has:attachment", MessageFilter(unread_only=True, attached_only=True)),
        ("IS:Starred", MessageFilter(favourite_only=True)),
        ("from:ada invoice", MessageFilter(sender="ada", search="invoice")),
        ('subject:"spring plan" to:bob', MessageFilter(subject="spring plan", recipient="bob", search="spring plan")),
        ("see https://example.org at 12:30", MessageFilter(search="see https://example.org at 12:30")),
        ('"never closed', MessageFilter(search="never closed")),
        ("from:", MessageFilter(search="from:")),
    ],
)
def test_search_is_read(written: str, expected: MessageFilter) -> None:
    found = search.read(written, EVERY)
    assert found.chosen == expected
    assert found.mistakes == ()


def test_days_bound_the_span() -> None:
    found = search.read("after:2026-01-30 before:2026-02-02", EVERY)
    assert (found.since, found.before) == (datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    "written", ["is:purple", "has:wings", "after:yesterday", "before:2026-13-01", "after:0001-01-01"]
)
def test_what_is_not_understood_is_said_and_left_out(written: str) -> None:
    found = search.read(f"{written} plan", EVERY)
    (mistake,) = found.mistakes
    assert written in mistake
    assert found.chosen == MessageFilter(search="plan")


def test_inbox_that_was_chosen_stays_chosen() -> None:
    assert search.read("is:unread", MessageFilter(favourite_only=True)).chosen == MessageFilter(
        favourite_only=True, unread_only=True
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, render.NONE), (0.0123, "12 ms"), (1, "1 s"), (59, "59 s"), (60, "1 min"), (7_300, "2 h"), (200_000, "2 d")],
)
def test_durations_are_in_their_largest_unit(seconds: float | None, words: str) -> None:
    assert render.duration(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "400 ms"), (2.44, "2.4 s"), (12.3, "12 s"), (9.97, "10 s")])
def test_what_took_a_few_seconds_is_told_in_tenths(seconds: float, words: str) -> None:
    assert render.took(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (999, "999 B"), (4_200, "4.2 KB"), (17_300_000, "17 MB")])
def test_sizes_are_short(count: float, words: str) -> None:
    assert render.size(count) == words


def test_moments_are_told_from_now_and_named_exactly() -> None:
    moment = utc_now() - timedelta(minutes=3)
    assert f'datetime="{moment:%Y-%m-%dT%H:%M:%SZ}"' in render.ago(moment)
    assert ">3 min ago<" in render.ago(moment)
    assert ">for 3 min<" in render.span(moment)
    assert ">in 3 min<" in render.until(utc_now() + timedelta(minutes=3, seconds=1))
    assert render.ago(None) == "never"


def test_charts_draw_every_number_and_stay_small() -> None:
    assert render.bars([0.0, 3.0, 6.0]).count("M") == 3, "the ground, and a bar for each that is not 0"
    assert "M0 1L" in render.curve([0.5]), "one value is a level line"
    assert len(render.bars([float(number) for number in range(24)])) < 900
    assert len(render.curve([0.0123456] * 40)) < 900


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '" onmouseover="x', "'><img src=x>"])
def test_whatever_a_page_is_given_is_text(hostile: str) -> None:
    common = {"path": "/", "session": None, "notices": [("bad", hostile)], "csrf": "", "unread": 0}
    html = render.page("failure.html", common | {"status": 404, "phrase": hostile, "words": hostile})
    assert hostile not in html
    assert html.count("&lt;script") + html.count("&#34; onmouse") + html.count("&#39;&gt;&lt;img") == 4


def test_words_for_a_shell_are_quoted() -> None:
    assert render.sh("work") == "work"
    assert render.sh("it's; rm -rf /") == """'it'"'"'s; rm -rf /'"""


@pytest.mark.parametrize("provider", consents.PROVIDERS.values(), ids=lambda one: one.name)
def test_each_way_to_sign_in_is_explained_with_the_redirect_that_is_asked_for(provider: consents.Provider) -> None:
    for host in provider.hosts:
        advice = guidance.advice([host])
        assert advice.provider == provider.name
        assert tuple(one.flow for one in advice.ways) == provider.flows
        assert advice.redirect == f"http://{provider.loopback}"
    led = next(one for one in guidance.advice(provider.hosts).ways if one.flow is consents.Flow.CODE)
    assert any(f"`http://{provider.loopback}`" in step for step in led.steps)


def test_advice_says_whether_a_password_will_do() -> None:
    assert guidance.advice(["outlook.office365.com"]).only
    assert "apppasswords" in guidance.advice(["imap.gmail.com"]).password
    fastmail, posteo, own = (guidance.advice([host]) for host in ("imap.fastmail.com", "posteo.de", "mail.example.org"))
    assert [(one.is_known, one.only, one.provider) for one in (fastmail, posteo, own)] == [
        (True, False, consents.OTHER),
        (False, False, consents.OTHER),
        (False, False, consents.OTHER),
    ]


def test_a_providers_refusal_is_told_without_a_commands_options() -> None:
    for number in ("50011", "50034", "53003", "530036", "700016", "700025", "7000215", "7000218", "7000222", "90002"):
        answer = {"error": "invalid_grant", "error_description": f"AADSTS{number}: canary"}
        words = signing.worded(str(refusals.refusal(answer)))
        assert "--" not in words
        assert f"invalid_grant: AADSTS{number}: canary" in words
    for code in ("unsupported_grant_type", "redirect_uri_mismatch"):
        assert "--" not in signing.worded(str(refusals.refusal({"error": code})))
    assert signing.worded("tokenUrl: must begin with https://") == "Token endpoint must begin with https://"


def test_our_words_name_sites_as_links_and_what_is_typed_as_code() -> None:
    made = str(
        render.told("At a.example.com/b_c <open> `http://localhost/<x>`, not Outlook.com nor ada@mail.example.com.")
    )
    assert made == (
        'At <a href="https://a.example.com/b_c" rel="noreferrer" target="_blank">a.example.com/b_c</a> &lt;open&gt; '
        "<code>http://localhost/&lt;x&gt;</code>, not Outlook.com nor ada@mail.example.com."
    )
    assert render.without_command("it ended; mend it with: inboxctl oauth login x") == "it ended"
    assert render.without_command("inboxctl is away") == "inboxctl is away"
