"""Generated mail, the same for the same seed: ordinary, foreign, large, malformed and hostile.

Line ends are CRLF except where a mail is malformed by bare CR or LF; those, and NUL bytes, few servers keep as they
are, so the truth in a test is what the server holds (`Dovecot.fetch_all`), not what was made here.
"""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

CRLF = b"\r\n"
Shape = Callable[[random.Random, int, int], bytes]


@dataclass(frozen=True, slots=True)
class Profile:
    """How large mails are: log-normal around `median_bytes`, never above `most_bytes`."""

    median_bytes: int
    sigma: float
    most_bytes: int


FULL = Profile(median_bytes=10_000, sigma=2.27, most_bytes=5_000_000)
SMALL = Profile(median_bytes=4_000, sigma=1.3, most_bytes=300_000)
LEAST_BYTES = 200
# What headers, boundaries and transfer encodings take from the size asked for.
_HEADER_BYTES = 400


def messages(count: int, seed: int = 0, *, small: bool = False) -> Iterator[bytes]:
    """`count` mails, 10,000 of which are about 1 GB (`small`: 90 MB). The nth is the same whatever `count` is."""
    profile = SMALL if small else FULL
    for number in range(count):
        yield message(number, seed, profile)


def message(number: int, seed: int = 0, profile: Profile = SMALL) -> bytes:
    """One mail of the sequence."""
    rng = random.Random(f"{seed}/{number}")
    wanted = int(rng.lognormvariate(0, profile.sigma) * profile.median_bytes)
    size = max(LEAST_BYTES, min(profile.most_bytes, wanted)) - _HEADER_BYTES
    shapes = _SMALL_SHAPES if size < 3_000 else _LARGE_SHAPES if size > 200_000 else _SHAPES
    (shape,) = rng.choices(tuple(shapes), tuple(shapes.values()))
    return shape(rng, max(size, 0), number)


def malformed() -> dict[str, bytes]:
    """One of each kind of malformed mail, by name."""
    return {
        shape.__name__.lstrip("_"): shape(random.Random(number), 2_000, number)
        for number, shape in enumerate(_MALFORMED)
    }


_WORDS = (
    "mail", "server", "letter", "please", "tomorrow", "invoice", "meeting", "the", "a", "and", "of", "to", "was",
    "order", "number", "attached", "see", "below", "yesterday", "customer", "release", "build", "failed", "passed",
    "deploy", "report", "quarter", "budget", "thanks", "answer", "question", "when", "never",
)  # fmt: skip
_NAMES = ("Ada Lovelace", '"Hopper, Grace"', "Jürgen Groß", "山田 太郎", "Ольга Петрова", "O'Neill", "x")
_ODD_SUBJECTS = (
    ":(", "Star* Wars * 3", "", "* 5 EXISTS", "A1 OK FETCH completed", "{10}", ")", '"', "\\Seen", "Re: Re:", "%s %d",
    "FETCH (UID 1 BODY[] {3}", "=?utf-8?b?", "=?utf-8?q?=FF=FE?=", "=?x-none?q?a?=", "\t tabs \t", "a" * 900,
)  # fmt: skip
_TEXTS = {
    "utf-8": "Grüße aus Köln, 日本語, emoji \N{PARTY POPPER}",
    "iso-8859-1": "Grüße aus Köln, señor, garçon",
    "windows-1252": "“quotes” \N{EN DASH} dash € euro",
    "koi8-r": "Привет, как дела? До завтра.",
    "iso-2022-jp": "こんにちは。明日の会議について。",
    "gb2312": "你好。明天的会议改期了。",
    "utf-16": "sixteen bits a letter",
    "x-nobody-knows": "plain enough",
}


def _pool() -> tuple[bytes, ...]:
    rng = random.Random(1)
    return tuple(" ".join(rng.choices(_WORDS, k=rng.randint(3, 10))).encode() + CRLF for _ in range(1000))


_LINES = _pool()
_BLOCK = b"".join(_LINES)


def _text(rng: random.Random, size: int) -> bytes:
    start = rng.randrange(len(_LINES))
    lead = b"".join(_LINES[start : start + 3])
    body = lead + _BLOCK * (max(0, size - len(lead)) // len(_BLOCK) + 1)
    return body[: body.find(CRLF, max(size, 1)) + 2] if size < len(body) - 200 else body


def _binary(rng: random.Random, size: int) -> bytes:
    return base64.encodebytes(rng.randbytes(max(1, size * 54 // 74))).replace(b"\n", CRLF)


def _word(text: str, charset: str = "utf-8") -> bytes:
    if text.isascii():
        return text.encode()
    return b"=?" + charset.encode() + b"?b?" + base64.b64encode(text.encode(charset)) + b"?="


def _date(number: int) -> bytes:
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=37 * number)
    return moment.strftime("%a, %d %b %Y %H:%M:%S +0000").encode()


def _headers(rng: random.Random, number: int, *extra: bytes, drop: str = "", subject: bytes | None = None) -> bytes:
    if subject is None:
        odd = rng.random() < 0.1
        subject = (rng.choice(_ODD_SUBJECTS) if odd else f"{' '.join(rng.choices(_WORDS, k=4))} {number}").encode()
    lines = {
        "From": _word(rng.choice(_NAMES)) + b" <sender%d@example.org>" % (number % 97),
        "To": _word(rng.choice(_NAMES)) + b" <user@example.test>, other@example.test",
        "Subject": subject,
        "Date": _date(number),
        "Message-ID": b"<%d.%d@example.org>" % (number, rng.getrandbits(48)),
    }
    kept = [name.encode() + b": " + value + CRLF for name, value in lines.items() if name not in drop]
    return b"".join(kept) + b"".join(line + CRLF for line in extra)


def _multipart(kind: bytes, boundary: bytes, *parts: bytes) -> bytes:
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/%s; boundary=%s\r\n\r\n" % (kind, boundary)
    body = b"".join(b"--" + boundary + CRLF + part + CRLF for part in parts)
    return head + b"This is a message in several parts.\r\n" + body + b"--" + boundary + b"--\r\n"


def _text_part(rng: random.Random, size: int, kind: bytes = b"plain") -> bytes:
    return b"Content-Type: text/%s; charset=utf-8\r\n\r\n" % kind + _text(rng, size)


def _file_part(rng: random.Random, size: int, name: bytes, *extra: bytes) -> bytes:
    lines = (b"Content-Transfer-Encoding: base64", b"Content-Disposition: attachment; " + name, *extra, b"", b"")
    return b"Content-Type: application/octet-stream\r\n" + CRLF.join(lines) + _binary(rng, size)


def _plain(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + CRLF + _text(rng, size)


def _html(rng: random.Random, size: int, number: int) -> bytes:
    head = _headers(rng, number, b"MIME-Version: 1.0", b'Content-Type: text/html; charset="utf-8"')
    link = b'<a href="https://example.org/confirm?code=%06d&amp;u=1">confirm</a>' % (number % 10**6)
    return head + b"\r\n<!doctype html><html><body><p>" + link + CRLF + _text(rng, size) + b"</body></html>\r\n"


def _alternative(rng: random.Random, size: int, number: int) -> bytes:
    parts = _text_part(rng, size // 3), _text_part(rng, size * 2 // 3, b"html")
    return _headers(rng, number) + _multipart(b"alternative", b'"alt=_%d"' % number, *parts).replace(
        b'--"alt=_%d"' % number, b"--alt=_%d" % number
    )


def _mixed(rng: random.Random, size: int, number: int) -> bytes:
    count = rng.randint(1, 4)
    names = (b'filename="report %d.pdf"' % number, b"filename*=utf-8''%C3%9Cbersicht.xlsx", b"filename=a;", b"x=y")
    files = [_file_part(rng, size // count, names[index]) for index in range(count)]
    return _headers(rng, number) + _multipart(b"mixed", b"mix%d" % number, _text_part(rng, 300), *files)


def _related(rng: random.Random, size: int, number: int) -> bytes:
    html = b'Content-Type: text/html\r\n\r\n<img src="cid:logo%d@example.org">\r\n' % number + _text(rng, size // 3)
    image = (
        b"Content-Type: image/png\r\nContent-ID: <logo%d@example.org>\r\nContent-Disposition: inline\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" % number
    )
    return _headers(rng, number) + _multipart(b"related", b"rel%d" % number, html, image + _binary(rng, size // 2))


def _nested(rng: random.Random, size: int, number: int) -> bytes:
    inner = b"Content-Type: message/rfc822\r\n\r\n" + _mixed(rng, size // 2, number + 1)
    return _headers(rng, number) + _multipart(b"mixed", b"fwd%d" % number, _text_part(rng, size // 2), inner)


def _charset(rng: random.Random, size: int, number: int) -> bytes:
    charset = rng.choice(tuple(_TEXTS))
    codec = "ascii" if charset.startswith("x-") else charset
    body = (_TEXTS[charset] + "\r\n").encode(codec) * (size // 60 + 1)
    coding = b"base64" if charset == "utf-16" else b"8bit"
    if coding == b"base64":
        body = base64.encodebytes(body).replace(b"\n", CRLF)
    extra = b"Content-Type: text/plain; charset=" + charset.encode(), b"Content-Transfer-Encoding: " + coding
    return _headers(rng, number, *extra, subject=_word(_TEXTS[charset][:20], codec)) + CRLF + body


def _wrong_charset(rng: random.Random, size: int, number: int) -> bytes:
    extra = b"Content-Type: text/plain; charset=" + rng.choice((b"utf-8", b"us-ascii", b"iso-2022-jp", b'""', b"8bit"))
    return _headers(rng, number, extra) + CRLF + "Grüße, daß es dies gibt\r\n".encode("latin-1") * (size // 25 + 1)


def _quoted_printable(rng: random.Random, size: int, number: int) -> bytes:
    extra = b"Content-Type: text/plain; charset=utf-8", b"Content-Transfer-Encoding: quoted-printable"
    body = ("Ümläute = überall, und eine recht lange Zeile, die umbrochen werden muß: " * 2 + "\n").encode()
    return _headers(rng, number, *extra) + CRLF + quopri.encodestring(body).replace(b"\n", CRLF) * (size // 250 + 1)


def _encoded_names(rng: random.Random, size: int, number: int) -> bytes:
    name = b"filename*0*=iso-8859-1'de'Gr%FC%DFe%20;\r\n filename*1=\"und mehr\";\r\n filename*2*=%20%E4.txt"
    extra = b"Cc: =?iso-8859-1?q?J=FCrgen?= =?utf-8?b?R3Jvw58=?= <j@example.org>, undisclosed-recipients:;"
    part = _file_part(rng, size, name, b'X-Name: =?utf-8?q?a=C3=A4?="x"')
    return _headers(rng, number, extra) + _multipart(b"mixed", b"enc%d" % number, part)


def _no_headers(rng: random.Random, size: int, number: int) -> bytes:
    return CRLF + b"only a body %d\r\n" % number + _text(rng, size)


def _headers_without_end(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number, b"X-Filler: " + b"x" * (size % 900))


def _body_as_headers(rng: random.Random, size: int, number: int) -> bytes:
    return b"this is no header %d\r\n" % number + _text(rng, size)


def _missing_message_id(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number, drop="Message-ID Date") + CRLF + _text(rng, size)


def _shared_message_id(rng: random.Random, size: int, number: int) -> bytes:
    same = b"Message-ID: <same@example.org>"
    return _headers(rng, number, same, same, drop="Message-ID") + CRLF + _text(rng, size)


def _broken_boundary(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + _multipart(b"mixed", b"one", _text_part(rng, size)).replace(b"=one", b"=two")


def _no_boundary(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + _multipart(b"mixed", b"one", _text_part(rng, size)).replace(b"; boundary=one", b"")


def _unterminated(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + _multipart(b"mixed", b"cut%d" % number, _text_part(rng, size))[: -(size // 2 + 20)]


def _bad_base64(rng: random.Random, size: int, number: int) -> bytes:
    part = _file_part(rng, size, b"filename=bad.bin")
    return _headers(rng, number) + _multipart(b"mixed", b"b64", part[:-20] + b"!!!===\r\n*%\r\nab=c")


def _eight_bit_headers(rng: random.Random, size: int, number: int) -> bytes:
    extra = "X-Utf8: Grüße", "Cc: Jürgen Groß <j@example.org>"
    head = _headers(rng, number, *(line.encode() for line in extra), subject="Grüße \xff".encode("latin-1"))
    return head + CRLF + _text(rng, size)


def _nul_bytes(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number, subject=b"nul \0 here") + CRLF + b"before\0after\0\0\r\n" + _text(rng, size)


def _bare_cr(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + CRLF + b"one\rtwo\r\rthree\r\r\n" + _text(rng, size) + b"end\r"


def _bare_lf(rng: random.Random, size: int, number: int) -> bytes:
    return (_headers(rng, number) + CRLF + _text(rng, size)).replace(CRLF, b"\n")


def _long_line(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + CRLF + b"x" * (size + 100_000) + CRLF


def _huge_folded_headers(rng: random.Random, size: int, number: int) -> bytes:
    references = b"".join(b"\r\n <%d.%d@example.org>" % (number, index) for index in range(size // 40 + 500))
    return _headers(rng, number, b"References:" + references, b"X-Blank:\r\n \r\n\t\r\n end") + CRLF + b"body\r\n"


def _weird_date(rng: random.Random, size: int, number: int) -> bytes:
    dates = (
        b"yesterday",
        b"Thu, 31 Feb 2099 25:61:61 +9999",
        b"1 Jan 70 00:00 GMT",
        b"",
        b"Mon, 1 Jan 99999 00:00:00 Z",
    )
    return _headers(rng, number, b"Date: " + rng.choice(dates), drop="Date") + CRLF + _text(rng, size)


def _dot_lines(rng: random.Random, size: int, number: int) -> bytes:
    return _headers(rng, number) + b"\r\n.\r\n..\r\n.leading dot\r\n" + _text(rng, size) + b".\r\n"


def _from_lines(rng: random.Random, size: int, number: int) -> bytes:
    return (
        _headers(rng, number)
        + b"\r\nFrom here on\r\n>From quoted\r\nFrom x@y Thu Jan  1 00:00:00 1970\r\n"
        + _text(rng, size)
    )


def _looks_like_imap(rng: random.Random, size: int, number: int) -> bytes:
    lines = b")\r\n* 23 EXISTS\r\n* BYE\r\n+ idling\r\n* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\nA001 OK done\r\n{7}\r\n"
    return _headers(rng, number, subject=b"* 3 FETCH (BODY[] {9}") + CRLF + lines + _text(rng, size)


_MALFORMED: tuple[Shape, ...] = (
    _no_headers, _headers_without_end, _body_as_headers, _missing_message_id, _shared_message_id, _broken_boundary,
    _no_boundary, _unterminated, _bad_base64, _eight_bit_headers, _nul_bytes, _bare_cr, _bare_lf, _long_line,
    _huge_folded_headers, _weird_date, _dot_lines, _from_lines, _looks_like_imap,
)  # fmt: skip
_SHAPES: dict[Shape, float] = {
    _plain: 25, _html: 12, _alternative: 20, _mixed: 15, _related: 6, _nested: 4, _charset: 6, _wrong_charset: 2,
    _quoted_printable: 5, _encoded_names: 3, **dict.fromkeys(_MALFORMED, 1.0),
}  # fmt: skip
# A short mail has no room for parts, and nearly all of a very long one is attachments.
_SMALL_SHAPES: dict[Shape, float] = {
    _plain: 50, _html: 10, _charset: 12, _quoted_printable: 8,
    **{shape: 1.0 for shape in _MALFORMED if shape not in (_long_line, _huge_folded_headers)},
}  # fmt: skip
_LARGE_SHAPES: dict[Shape, float] = {_mixed: 70, _related: 10, _nested: 10, _encoded_names: 5, _html: 4, _plain: 1}


def _addressed(to: bytes, *extra: bytes) -> bytes:
    return b"".join(line + CRLF for line in (b"From: a@example.org", b"To: " + to, *extra)) + b"\r\nbody\r\n"


def _deep_multipart(levels: int) -> bytes:
    return b"From: a@example.org\r\n" + b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (level, level) for level in range(levels)
    )


def hostile() -> list[tuple[str, bytes]]:
    """Mails made to exhaust a parser's time, memory or stack, each with a name."""
    many = b"From: a@example.org\r\nContent-Type: multipart/mixed; boundary=p\r\n\r\n" + b"--p\r\n\r\nx\r\n" * 100_000
    return [
        ("encoded_words", _addressed(b"b@example.org", b"Subject: " + b" ".join([b"=?utf-8?q?a?="] * 20_000))),
        ("addresses", _addressed(b", ".join(b"user%06d@mail.example.org" % index for index in range(20_344)))),
        ("deep_multipart", _deep_multipart(1_150)),
        ("many_parts", many + b"--p--\r\n"),
        ("unclosed_domain", _addressed(b"a@[")),
        ("deep_forwards", b"Content-Type: message/rfc822\r\n\r\n" * 2_000 + b"Subject: end\r\n\r\nx\r\n"),
        ("deep_comments", _addressed(b"(" * 50_000 + b"a@example.org")),
        ("continuations", _addressed(b"b@example.org", b"Content-Type: text/plain" + b"".join(
            b";\r\n name*%d*=%%41" % index for index in range(10_000)
        ))),
        ("long_boundary", _addressed(b"b@example.org", b"Content-Type: multipart/mixed; boundary=" + b"b" * 60_000)),
        ("many_headers", b"X: y\r\n" * 100_000 + b"\r\nbody\r\n"),
        ("header_of_a_megabyte", _addressed(b"b@example.org", b"X-Long: " + b"x" * 1_000_000)),
        ("quotes", _addressed(b'"' * 20_001 + b" <a@example.org>")),
    ]  # fmt: skip
