"""The daemon deletes inboxes whose time is over."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

from inboxd.model import utc_now
from inboxd.store import inboxes
from inboxd.store.engine import open_store
from servers.daemon import Daemon
from servers.stores import make_inbox


def test_the_daemon_deletes_expired_inboxes_and_says_so(daemon: Daemon) -> None:
    over = replace(make_inbox(), expires_at=utc_now() - timedelta(seconds=1))
    daemon.state_dir.mkdir()

    async def prepare() -> None:
        async with open_store(f"sqlite:///{daemon.state_dir / 'inboxd.db'}") as store:
            await inboxes.add(store, over)

    asyncio.run(prepare())
    daemon.start()
    daemon.until(lambda: "inbox_expired" in daemon.log, "the inbox to be deleted")
    (line,) = (line for line in daemon.log.splitlines() if "inbox_expired" in line)
    assert json.loads(line)["inbox"] == str(over.id)
