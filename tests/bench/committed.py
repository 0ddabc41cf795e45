"""Says when a mail can be read by another program: a line with the clock's time for each UID, one after the other."""

from __future__ import annotations

import sqlite3
import sys
import time

PAUSE_SECONDS = 0.0002


def main() -> None:
    """Look for the next UID of INBOX in the daemon's database, for ever."""
    path, connector_id, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=10)
    wanted = "SELECT 1 FROM messages WHERE connector_id = ? AND mailbox = 'INBOX' AND uidvalidity = 1 AND uid = ?"
    while True:
        if database.execute(wanted, (connector_id, uid)).fetchone():
            print(time.perf_counter(), flush=True)
            uid += 1
        else:
            time.sleep(PAUSE_SECONDS)


main()
