"""What a connector takes of what it may, for those who look."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from inboxd.model import Connection, Connector, Kind, Share, State, Usage, utc_now
from inboxd.outbox import RouteId
from inboxd.providers import habits
from inboxd.services import Services
from inboxd.store import connectors, outbox_list

_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


async def usage_of(services: Services, connector: Connector) -> Usage:
    """As of now. What it fetches is missing without an IMAP connection, what it sends without one of SMTP."""
    imap = await connectors.connection(services.store, connector.id, Kind.IMAP)
    smtp = await connectors.connection(services.store, connector.id, Kind.SMTP)
    fetched = _fetched(services, connector, imap) if imap is not None else Usage()
    if smtp is None:
        return fetched
    in_day, in_minute = await _sent(services, connector, smtp)
    return replace(fetched, sent_in_day=in_day, sent_in_minute=in_minute)


def _fetched(services: Services, connector: Connector, imap: Connection) -> Usage:
    account, status = services.budgets.of(imap.host, imap.username or ""), services.roster.status(connector.id)
    traffic = account.traffic
    return Usage(
        connections=Share(account.open, account.connections),
        logins=account.logins,
        received=Share(traffic.used_bytes, traffic.limit_bytes) if traffic is not None else None,
        rests_until=status.budget.resumes_at if status.budget is not None else None,
        throttled_until=status.retry_at if status.state is State.THROTTLED else None,
    )


async def _sent(services: Services, connector: Connector, smtp: Connection) -> tuple[Share, Share]:
    """In a day and in a minute: the operator's limits where given, else the provider's."""
    now, limits, known = utc_now(), services.settings.outbox, habits(smtp.host, connector.email_address)
    in_day, in_minute = await outbox_list.handed_over(services.store, RouteId(connector.id), now - _DAY, now - _MINUTE)
    return (
        Share(in_day, limits.per_day or known.per_day),
        Share(in_minute, limits.per_minute or known.per_minute),
    )
