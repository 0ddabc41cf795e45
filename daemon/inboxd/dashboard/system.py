"""The daemon itself: version, store, queues, keys, and where else to look."""

from __future__ import annotations

import os
import resource
import sys
from typing import Final, cast

from inboxd import __version__, metrics
from inboxd.api import control
from inboxd.api.gate import KEY_ID
from inboxd.api.wire import codec
from inboxd.api.wire.codec import MisfitError
from inboxd.api.wire.control import CreatedKey, NewKey
from inboxd.dashboard.page import Moved, Shown, Visit
from inboxd.errors import NotFound
from inboxd.model import KeyId, utc_now
from inboxd.settings import mask_url
from inboxd.store import deliveries, keys, outbox_list, tallies, webhooks

_MOST_FAILING: Final = 20


async def show(visit: Visit) -> Shown:
    """The system page."""
    return await _shown(visit)


async def create_key(visit: Visit) -> Shown:
    """Make an API key, which this answer shows, and no other."""
    try:
        body = cast("NewKey", codec.read(NewKey, {"name": visit.given("name")}))
    except MisfitError as error:
        return await _shown(visit, mistake=str(error))
    return await _shown(visit, made=await control.create_key(visit.services, body))


async def revoke_key(visit: Visit) -> Moved:
    """Make an API key useless."""
    given = visit.request.match_info["key"]
    if not KEY_ID.fullmatch(given):
        raise NotFound(f"there is no API key {given[:80]}")
    await control.delete_key(visit.services, KeyId(given))
    visit.session.tell("The key is revoked: nothing can be done with it any more.")
    return Moved("/ui/system#keys")


async def _shown(visit: Visit, *, made: CreatedKey | None = None, mistake: str = "") -> Shown:
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
            "now": utc_now(),
            "posts": await deliveries.count(services.store),
            "oldest_post": min((due for _, _, due in await deliveries.waiting(services.store)), default=None),
            "failing": await webhooks.failing(services.store, _MOST_FAILING),
            "keys": sorted(await keys.all_keys(services.store), key=lambda key: key.revoked_at is not None),
            "made": made,
            "mistake": mistake,
            "setting_key": settings.api.key is not None,
            "metrics_listen": settings.metrics.listen,
            "api_listen": settings.api.listen,
        },
        400 if mistake else 200,
    )
