"""The limit of storing: SQLite writes the bytes of a Maildir as inboxd does (WAL, 32 KiB pages, FULL), nothing else.

Prints the seconds: reading the files beforehand does not count.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

_BATCH_BYTES = 16 << 20


def main() -> None:
    """MAILDIR DATABASE."""
    mails = [file.read_bytes() for folder in ("cur", "new") for file in sorted(Path(sys.argv[1], folder).iterdir())]
    began = time.perf_counter()
    database = sqlite3.connect(sys.argv[2], isolation_level=None)
    for pragma in ("page_size = 32768", "journal_mode = WAL", "synchronous = FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE message (uid INTEGER PRIMARY KEY, raw BLOB)")
    room = 0
    for uid, raw in enumerate(mails, 1):
        if room <= 0:
            database.execute("COMMIT" if uid > 1 else "SELECT 1")
            database.execute("BEGIN IMMEDIATE")
            room = _BATCH_BYTES
        database.execute("INSERT INTO message VALUES (?, ?)", (uid, raw))
        room -= len(raw)
    database.execute("COMMIT")
    print(time.perf_counter() - began)


main()
