"""The daemon itself: version, store, queues, keys, and where else to look."""

from __future__ import annotations

import os
import resource
import sys

from inboxd import __version__, metrics
from inboxd.dashboard.page import Shown, Visit
from inboxd.model import utc_now
from inboxd.settings import mask_url
from inboxd.store import keys, outbox_list, tallies


async def show(visit: Visit) -> Shown:
    """The system page."""
    services, settings = visit.services, visit.services.settings
    census = await outbox_list.census(services.store)
    return Shown(
        "system.html",
        {
            "version": __version__,
            "uptime_seconds": (utc_now() - services.started_at).total_seconds(),
            "started_at": services.started_at,
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "store": mask_url(settings.store_url),
            "store_bytes": await tallies.store_bytes(services.store),
            "state_dir": str(settings.state_dir),
            "census": census,
            "lag": metrics.mean_loop_lag_seconds(),
            "keys": await keys.all_keys(services.store),
            "setting_key": settings.api.key is not None,
            "metrics_listen": settings.metrics.listen,
            "api_listen": settings.api.listen,
        },
    )
