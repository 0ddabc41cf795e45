"""What inboxctl makes of foreign text, sizes and times before people see them."""

from __future__ import annotations

from datetime import UTC, datetime

from inboxd.ctl_html import readable
from inboxd.ctl_print import ago, duration, neutral, size

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202egnp.exe\nFrom: forged\x00"


def test_neutral_makes_controls_visible_and_leaves_other_scripts_alone() -> None:
    assert neutral(HOSTILE) == "␛]0;owned␇<U+009B>2J<U+202E>gnp.exe␊From: forged␀"
    assert neutral("a\tb\r\n") == "a b␍␊"
    assert neutral("a\tb\r\nc\rd\x1b", lines=True) == "a\tb\nc␍d␛"
    assert neutral("\ud83d \u2028\x7f") == "\ufffd <U+2028>␡"
    for fine in ("Grüße 👩\u200d🚀", "שלום\u200f", "مرحبا", "日本語"):
        assert neutral(fine) == fine


def test_readable_survives_hostile_markup_in_linear_time() -> None:
    assert readable("<ul><li>one<li>two</ul><div><div>a</div></div><div>b<br><br>c</div>") == (
        "- one\n- two\n\na\nb\n\nc"
    )
    assert readable("<head><title>t<style>x</style><body>seen<script>alert(1)</script>") == "seen"
    assert readable("<div>" * 200_000 + "<b> </b>" * 200_000 + "end") == "end"


def test_sizes_and_times_are_for_people() -> None:
    assert [size(count) for count in (None, 0, 999, 1_000, 12_345, 999_600, 5_000_000_000)] == [
        "-", "0 B", "999 B", "1.0 kB", "12 kB", "1.0 MB", "5.0 GB",
    ]  # fmt: skip
    now = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    moments = [
        "2026-11-22T11:59:59.900Z",
        "2026-11-22T11:58:00Z",
        "2026-11-20T12:00:00Z",
        "2026-11-22T12:00:12Z",
        "2026-11-22T12:00:00.300Z",
    ]
    assert [ago(each, now) for each in (None, *moments)] == [
        "never", "just now", "2 min ago", "2 d ago", "in 12 s", "in a moment",
    ]  # fmt: skip
    assert ago("2025-01-15T12:00:00Z", now) == "2025-01-15"
    assert [duration(seconds) for seconds in (0.2, 61, 3600, 93_784)] == ["0 s", "1 min 1 s", "1 h", "1 d 2 h"]
