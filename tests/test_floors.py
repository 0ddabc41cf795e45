"""Imports only go down, each foreign library has one room, and files and functions stay small.

A room is a module or a folder directly in the package. A new one gets its word in FLOORS, a new library its line in
LIBRARIES; nothing else here has to change.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE = "inboxd"
SOURCE = Path(__file__).parents[1] / "daemon" / PACKAGE

FLOORS = (
    (
        "__init__ errors kinds model mails outbox webhooks uids patterns flights backoff match providers causes"
        " allowance verdicts pace traffic ways consents bearing"
    ),
    "sections settings logs metrics net clock notify logins budgets outward spool certificates proxies sources",
    "imap smtp mail post oauth bus store vault handover discover",
    (
        "accounts dial roster connector sync backfill fetching direct accepting sender lane chores waiter matching"
        " probe evidence roundtrip flags indexer poster receiver sweeper services beat sweep following ahead declared"
        " survey tokens visits granting resealing metering quota usage renewal passes"
    ),
    "api scrape",
    "dashboard",
    "serve cli ctl* demo* connector_files rotation __main__",
)
# On this floor the rooms do not know each other; on the others they may, as long as no circle arises.
ADAPTERS = 2

LIBRARIES = {
    "_typeshed": "*",
    "aiohappyeyeballs": "net",
    "aiohttp": "api post oauth serve scrape outward discover dashboard",
    "aioimaplib": "imap",
    "aiosmtpd": "demo*",
    "aiosmtplib": "smtp",
    "aiosqlite": "store",
    "alembic": "store",
    "asyncpg": "store",
    "click": "cli ctl* demo*",
    "cryptography": "vault certificates oauth",
    "dns": "discover",
    "email": "mail",
    "fast_mail_parser": "mail",
    "idna": "discover",
    "jinja2": "api dashboard",
    "markupsafe": "dashboard",
    "multidict": "api dashboard",
    "prometheus_client": "metrics",
    "pydantic": "sections settings api/wire/*",
    "pydantic_core": "sections settings api/wire/*",
    "pydantic_settings": "settings",
    "pymap": "demo*",
    "regex": "patterns",
    "rich": "cli ctl*",
    "selectolax": "mail",
    "sqlalchemy": "store",
    "sqlite3": "store",
    "structlog": "logs",
    "uvloop": "serve cli demo",
    "yarl": "discover",
}

FILE_LINES = 400
FUNCTION_LINES = 60
FOLDERS_DEEP = 2
DEEP_BY_NATURE = "store/migrations/versions/*"


@dataclass(frozen=True, slots=True)
class Module:
    """A source file: its path in the package without the suffix, and its syntax tree."""

    path: str
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        """The first part of the path."""
        return self.path.split("/")[0]

    def imports(self) -> Iterator[str]:
        """Each imported module's full name, wherever the import stands; for `from a import b` both a and a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                yield origin
                yield from (f"{origin}.{alias.name}" for alias in node.names)

    def _origin(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        above = [PACKAGE, *self.path.split("/")][: -node.level]
        return ".".join([*above, *([node.module] if node.module else [])])


def read_package(root: Path) -> list[Module]:
    """Every module below `root`."""
    modules: list[Module] = []
    for file in sorted(root.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        path = file.relative_to(root).with_suffix("").as_posix()
        modules.append(Module(path, ast.parse(text, str(file)), len(text.splitlines())))
    return modules


def violations(root: Path) -> list[str]:
    """One line for each broken rule."""
    modules = read_package(root)
    rooms = {module.room for module in modules}
    return sorted(
        {line for rule in (_floors, _libraries, _budgets) for m in modules for line in rule(m, rooms)}
    ) + list(_circles(modules, rooms))


def floor_of(room: str) -> int | None:
    """The room's floor, or None when FLOORS does not name it."""
    for floor, names in enumerate(FLOORS):
        if any(fnmatchcase(room, name) for name in names.split()):
            return floor
    return None


def _rooms_imported(module: Module, rooms: set[str]) -> set[str]:
    found: set[str] = set()
    for name in module.imports():
        package, _, rest = name.partition(".")
        if package == PACKAGE:
            room = rest.partition(".")[0] or "__init__"
            found.add(room if room in rooms else "__init__")
    return found - {module.room}


def _floors(module: Module, rooms: set[str]) -> Iterator[str]:
    floor = floor_of(module.room)
    if floor is None:
        yield f"{module.path}: {module.room} is on no floor"
        return
    for room in sorted(_rooms_imported(module, rooms)):
        other = floor_of(room)
        if other is None:
            continue
        if other > floor:
            yield f"{module.path}: imports {room} from the floor above (F{floor} → F{other})"
        elif other == floor == ADAPTERS:
            yield f"{module.path}: imports {room} beside it (F{floor})"


def _libraries(module: Module, _rooms: set[str]) -> Iterator[str]:
    for library in sorted({name.partition(".")[0] for name in module.imports()}):
        places = LIBRARIES.get(library, "").split()
        if library == PACKAGE or (library in sys.stdlib_module_names and not places):
            continue
        if not any(fnmatchcase(module.path, place) or fnmatchcase(module.room, place) for place in places):
            yield f"{module.path}: imports {library}, which belongs to {' '.join(places) or 'no room'}"


def _budgets(module: Module, _rooms: set[str]) -> Iterator[str]:
    if module.lines > FILE_LINES:
        yield f"{module.path}: {module.lines} lines, more than {FILE_LINES}"
    if module.path.count("/") > FOLDERS_DEEP and not fnmatchcase(module.path, DEEP_BY_NATURE):
        yield f"{module.path}: more than {FOLDERS_DEEP} folders deep"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{module.path}: {node.name} has {length} lines, more than {FUNCTION_LINES}"


def _circles(modules: list[Module], rooms: set[str]) -> Iterator[str]:
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for module in modules:
        imported = _rooms_imported(module, rooms)
        beside[module.room] |= {room for room in imported if floor_of(room) == floor_of(module.room) != ADAPTERS}
    for room in sorted(beside):
        circle = [other for other in sorted(beside[room]) if room in _reachable(other, beside)]
        if circle:
            yield f"{room}: imports itself in a circle over {', '.join(circle)}"


def _reachable(start: str, beside: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(beside.get(start, ()))
    while ahead:
        room = ahead.pop()
        if room not in found:
            found.add(room)
            ahead += beside.get(room, ())
    return found


def test_the_package_keeps_its_floors() -> None:
    assert not violations(SOURCE), "\n" + "\n".join(violations(SOURCE))


CLEAN = {
    "__init__": "__version__ = '1'",
    "errors": "import asyncio",
    "model": "from inboxd.errors import X\nfrom inboxd import __version__",
    "metrics": "import prometheus_client\nfrom . import model",
    "store/__init__": "",
    "store/engine": "import sqlalchemy.ext\nfrom inboxd.model import A\nfrom .rows import B\nfrom . import rows",
    "store/rows": "",
    "store/migrations/versions/0001": "import alembic.op",
    "services": "from inboxd import roster, store",
    "roster": "from inboxd.store.engine import Store",
    "api/wire/shapes": "import pydantic",
    "api/app": "import aiohttp\nfrom inboxd.services import S\nfrom .wire import shapes",
    "ctl_print": "import rich.table\nfrom inboxd import ctl_client",
    "ctl_client": "",
}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("errors", "from inboxd.metrics import M", "errors: imports metrics from the floor above (F0 → F1)"),
        ("errors", "from inboxd import metrics", "errors: imports metrics from the floor above (F0 → F1)"),
        ("errors", "import inboxd.metrics", "errors: imports metrics from the floor above (F0 → F1)"),
        ("errors", "from . import metrics as m", "errors: imports metrics from the floor above (F0 → F1)"),
        (
            "store/rows",
            "if TYPE_CHECKING:\n    from inboxd.services import S",
            "store/rows: imports services from the floor above (F2 → F3)",
        ),
        (
            "store/migrations/versions/0001",
            "def up():\n    from ....api import app",
            "store/migrations/versions/0001: imports api from the floor above (F2 → F4)",
        ),
        ("vault", "from inboxd.store import engine", "vault: imports store beside it (F2)"),
        ("roster", "from inboxd import services", "roster: imports itself in a circle over services"),
        ("errors", "from inboxd import model", "errors: imports itself in a circle over model"),
        ("novelty", "", "novelty: novelty is on no floor"),
        ("services", "import sqlalchemy.orm", "services: imports sqlalchemy, which belongs to store"),
        ("services", "from email import policy", "services: imports email, which belongs to mail"),
        ("api/app", "import pydantic", "api/app: imports pydantic, which belongs to sections settings api/wire/*"),
        ("errors", "import requests", "errors: imports requests, which belongs to no room"),
        ("errors", "\n" * 401, "errors: 401 lines, more than 400"),
        ("errors", "async def f():\n" + "    pass\n" * 60, "errors: f has 61 lines, more than 60"),
        ("api/a/b/c", "", "api/a/b/c: more than 2 folders deep"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    assert violations(_written(tmp_path / "clean", CLEAN)) == []
    assert complaint in violations(_written(tmp_path / "broken", CLEAN | {path: source}))


def _written(root: Path, sources: dict[str, str]) -> Path:
    for path, source in sources.items():
        file = root / f"{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    return root
