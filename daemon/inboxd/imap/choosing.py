"""Which mailboxes of an account a connector's `folders` stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from inboxd.imap.folders import Folder, find_all_mail, find_sent, own_name

# The special uses there are (RFC 6154; \Important: RFC 8457), in lower case as `Folder.attributes` has them.
USES: Final = frozenset({"\\all", "\\archive", "\\drafts", "\\flagged", "\\important", "\\junk", "\\sent", "\\trash"})
_NOT_OF_ALL: Final = frozenset({"\\drafts", "\\flagged", "\\important", "\\junk", "\\trash"})
# What mail programs and providers call them where no server marks them; case and accents' spelling do not matter.
_USUAL: Final = {
    "\\trash": (
        "trash", "deleted items", "deleted messages", "deleted", "bin", "papierkorb", "gelöschte elemente",
        "gelöschte objekte", "corbeille", "éléments supprimés", "papelera", "elementos eliminados", "cestino",
        "posta eliminata", "prullenbak", "verwijderde items", "lixeira", "itens excluídos", "papperskorgen", "kosz",
        "корзина", "удаленные", "已删除", "已删除邮件", "ゴミ箱",
    ),
    "\\junk": (
        "junk", "junk e-mail", "junk email", "junk mail", "spam", "bulk mail", "bulk", "spamverdacht", "unerwünscht",
        "courrier indésirable", "indésirables", "pourriel", "correo no deseado", "posta indesiderata",
        "ongewenste e-mail", "lixo eletrônico", "skräppost", "спам", "垃圾邮件", "迷惑メール",
    ),
    "\\drafts": (
        "drafts", "draft", "entwürfe", "brouillons", "borradores", "bozze", "concepten", "rascunhos", "utkast",
        "kladder", "wersje robocze", "szkice", "черновики", "草稿", "草稿箱", "下書き",
    ),
}  # fmt: skip


def chosen(folders: Sequence[Folder], wanted: Iterable[str]) -> list[str]:
    """The names of the wanted mailboxes, INBOX first, then in the order of the list; each once.

    What can be wanted: a name; a pattern in which `*` stands for anything; a special use such as `\\Sent`; and each of
    these behind a `-`, which takes it away again, wherever it stands. Exclusions alone exclude from `*`. A pattern
    finds what can be opened, but for trash, junk and drafts, and for \\Flagged and \\Important, which show others'
    mail. `*` of an account with \\All, as Gmail's, is that one alone. A name is chosen even when it is not listed:
    whoever opens it hears why.
    """
    keys = [key for key in wanted if key]
    without = [key[1:] for key in keys if key.startswith("-")]
    within = [key for key in keys if not key.startswith("-")] or (["*"] if without else [])
    uses = _uses(folders)
    taken = {name for key in within for name in _matching(folders, uses, key)}
    taken -= {name for key in without for name in _excluded(folders, uses, key)}
    listed = [folder.name for folder in folders if folder.name in taken]
    rest = sorted(taken.difference(listed))
    return sorted([*listed, *rest], key=lambda name: name != "INBOX")


def problem_of(key: str) -> str | None:
    """Why `chosen` could make nothing of a wanted key; None when it can."""
    bare = key.removeprefix("-")
    if not bare:
        return "is empty"
    if bare.startswith("\\") and bare.lower() not in USES:
        return f"{bare} is no special use; there are {', '.join(sorted(use.title() for use in USES))}"
    return None


def first_of(names: Sequence[str], preferred: str) -> str | None:
    """The mailbox that is listened to: the preferred one if it is among them, else the first."""
    return preferred if preferred in names else next(iter(names), None)


def _matching(folders: Sequence[Folder], uses: dict[str, set[str]], key: str) -> set[str]:
    if key.startswith("\\"):
        return uses.get(key.lower(), set())
    if "*" not in key:
        return {_exact(key)}
    if key == "*" and (everything := find_all_mail(folders)) is not None:
        return {everything}
    aside = set[str]().union(*(uses.get(use, set()) for use in _NOT_OF_ALL))
    fits = _pattern(key)
    return {folder.name for folder in folders if folder.selectable and fits(folder.name)} - aside


def _excluded(folders: Sequence[Folder], uses: dict[str, set[str]], key: str) -> set[str]:
    if key.startswith("\\"):
        return uses.get(key.lower(), set())
    fits = _pattern(_exact(key))
    return {folder.name for folder in folders if fits(folder.name)} | {_exact(key)}


def _exact(name: str) -> str:
    return "INBOX" if name.upper() == "INBOX" else name


def _pattern(key: str) -> Callable[[str], object]:
    """Each `*` takes as little as it can, and no other sign means anything: no name takes long."""
    first, *others = key.split("*")
    if not others:
        return lambda name: name == first
    *middle, last = others

    def fits(name: str) -> bool:
        if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
            return False
        at, end = len(first), len(name) - len(last)
        for piece in middle:
            found = name.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return fits


def _uses(folders: Sequence[Folder]) -> dict[str, set[str]]:
    """The names by special use: those the server marks, and where it marks none for a use, those with a usual name."""
    open_ones = [folder for folder in folders if folder.selectable]
    marked = {use: {folder.name for folder in open_ones if use in folder.attributes} for use in USES}
    for use, usual in _USUAL.items():
        marked[use] = marked[use] or {folder.name for folder in open_ones if own_name(folder) in usual}
    if not marked["\\sent"] and (sent := find_sent(folders)) is not None:
        marked["\\sent"] = {sent}
    return marked
