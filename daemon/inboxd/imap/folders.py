"""The mailboxes of an account as LIST shows them (RFC 3501 §7.2.2, RFC 6154), and which of them keep sent mail."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from inboxd.imap.lines import Part, Skipped, decode_utf7, first_line, list_in, tokens_of

MOST_FOLDERS: Final = 20_000
_LIST = re.compile(rb"\* LIST +\(", re.IGNORECASE)
_UNSENDABLE = re.compile(r"[\x00\r\n]")
_SHUT: Final = frozenset({"\\noselect", "\\nonexistent"})
_PARENTS: Final = frozenset({"inbox", "[gmail]", "[google mail]"})
# What mail programs and providers call it, the likeliest first.
_SENT_NAMES: Final = (
    "Sent", "Sent Items", "Sent Messages", "Sent Mail", "Sent-Mail", "Sent Objects",
    "Gesendet", "Gesendete Elemente", "Gesendete Objekte", "Gesendete Nachrichten", "Gesendete Mails",
    "Envoyés", "Éléments envoyés", "Messages envoyés", "Courrier envoyé", "Objets envoyés",
    "Enviados", "Elementos enviados", "Mensajes enviados", "Correo enviado", "Itens enviados", "Mensagens enviadas",
    "E-mails enviados", "Enviats", "Elements enviats",
    "Inviata", "Inviati", "Posta inviata", "Elementi inviati", "Messaggi inviati",
    "Verzonden", "Verzonden items", "Verzonden berichten", "Verzonden objecten",
    "Skickat", "Skickade", "Skickade objekt", "Skickade meddelanden",
    "Sendt", "Sendte", "Sendte elementer", "Sendt post", "Sendt e-post", "Sende elementer",
    "Lähetetyt", "Lähetetyt viestit", "Saadetud", "Nosūtītie", "Išsiųsti", "Sendir hlutir",
    "Wysłane", "Elementy wysłane", "Odeslané", "Odeslaná pošta", "Odoslané", "Odoslaná pošta", "Elküldött",
    "Elküldött elemek", "Elküldött üzenetek", "Trimise", "Elemente trimise", "Poslano", "Poslane stavke",
    "Отправленные", "Надіслані", "Изпратени", "Послато", "Απεσταλμένα", "Gönderilmiş", "Gönderilmiş Öğeler",
    "Gönderilenler", "פריטים שנשלחו", "נשלח", "العناصر المرسلة", "المرسلة",
    "已发送", "已发送邮件", "已发送邮件夹", "已傳送", "寄件備份", "已寄出", "送信済み", "送信済みアイテム",
    "送信済みメール", "보낸 편지함", "보낸편지함", "보낸메일함", "จดหมายที่ส่งแล้ว", "Đã gửi", "Terkirim",
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Folder:
    """A mailbox in a LIST: its decoded name, its attributes in lower case, and what separates levels in names."""

    name: str
    attributes: frozenset[str]
    delimiter: str | None

    @property
    def selectable(self) -> bool:
        """Whether it can be opened: not \\Noselect or \\NonExistent, which mark levels of the hierarchy."""
        return not self.attributes & _SHUT


def folders_in(responses: Iterable[Sequence[Part]]) -> list[Folder]:
    """The mailboxes in the responses to LIST, each name once, at most 20,000; what cannot be read is left out."""
    found: dict[str, Folder] = {}
    for response in responses:
        folder = _folder(response)
        if folder is not None:
            found.setdefault(folder.name, folder)
        if len(found) == MOST_FOLDERS:
            break
    return list(found.values())


def _folder(response: Sequence[Part]) -> Folder | None:
    """None for other responses, and for names that no command could carry back."""
    if not _LIST.match(first_line(response)):
        return None
    tokens = tokens_of(response)
    attributes = list_in(tokens)
    delimiter, bare = next(tokens, (b"NIL", True))
    name, _ = next(tokens, (Skipped(0), True))
    if not isinstance(name, bytes) or not isinstance(delimiter, bytes):
        return None
    shown = decode_utf7(name.decode("utf-8", "replace"))
    if not shown or _UNSENDABLE.search(shown):
        return None
    return Folder(
        name="INBOX" if shown.upper() == "INBOX" else shown,
        attributes=frozenset(attribute.decode("ascii", "replace").lower() for attribute in attributes),
        delimiter=None if bare else delimiter.decode("utf-8", "replace") or None,
    )


def find_sent(folders: Sequence[Folder]) -> str | None:
    """The mailbox that keeps sent mail: the one marked \\Sent (RFC 6154), else one with a name that is usual for it.

    Such a name counts at the top, in INBOX and in [Gmail] alone: deeper down it may be anybody's.
    """
    open_ones = [folder for folder in folders if folder.selectable]
    for folder in open_ones:
        if "\\sent" in folder.attributes:
            return folder.name
    ranked = [(rank, folder.name) for folder in open_ones if (rank := _RANKS.get(own_name(folder))) is not None]
    return min(ranked)[1] if ranked else None


def find_all_mail(folders: Sequence[Folder]) -> str | None:
    """The mailbox that shows every mail of the account (\\All, RFC 6154), as Gmail has one."""
    return next((folder.name for folder in folders if folder.selectable and "\\all" in folder.attributes), None)


def own_name(folder: Folder) -> str:
    """The last level of a name, folded; empty where the levels above it are other than INBOX or [Gmail]."""
    levels = _folded(folder.name).split(folder.delimiter.casefold()) if folder.delimiter else [_folded(folder.name)]
    return levels[-1] if len(levels) == 1 or (len(levels) == 2 and levels[0] in _PARENTS) else ""


def _folded(name: str) -> str:
    """Spelt one way: Apple's programs write `é` as two characters."""
    return unicodedata.normalize("NFC", name).casefold()


_RANKS: Final = {_folded(name): rank for rank, name in reversed(list(enumerate(_SENT_NAMES)))}
