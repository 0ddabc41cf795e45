"""The first page: is mail flowing, and where it is not, why, and what to press."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Final, final

from inboxd.dashboard.counts import HOURS, Counts
from inboxd.dashboard.page import Shown, Visit
from inboxd.model import Connector, ConnectorId, InboxId, SentState, State, Status
from inboxd.roster import Roster
from inboxd.services import Services
from inboxd.store import connectors, grants, outbox_list
from inboxd.store.tallies import Tally

_EMPTY: Final = Tally(0, 0, None)


@final
@dataclass(frozen=True, slots=True)
class Line:
    """A connector as lists show it. `mood`: good, busy, bad or off; `delays`: seconds from push to stored, newest last.

    `since` is when it began to do what it does.
    """

    connector: Connector
    status: Status
    since: datetime
    tally: Tally
    hourly: list[int]
    delays: tuple[float, ...]

    @property
    def name(self) -> str:
        """What a person calls it."""
        return called(self.connector)

    @property
    def today(self) -> int:
        """Mails of the last 24 hours."""
        return sum(self.hourly)

    @property
    def delay(self) -> float | None:
        """The middle one of the delays."""
        return median(self.delays) if self.delays else None

    @property
    def word(self) -> str:
        """What it is doing."""
        return said(self.status.state) if self.connector.enabled else "paused"

    @property
    def mood(self) -> str:
        """How it is doing, in a word that styles go by."""
        return "off" if not self.connector.enabled else MOODS[self.status.state]

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look at it."""
        return self.mood == "bad" or bool(self.status.reason)


MOODS: Final[dict[State, str]] = {
    State.OFF: "off",
    State.CONNECTING: "busy",
    State.SYNCING: "busy",
    State.IDLE: "good",
    State.POLLING: "good",
    State.WAITING: "bad",
    State.THROTTLED: "bad",
    State.PARKED: "bad",
    State.NEEDS_REAUTH: "bad",
}


def said(state: State) -> str:
    """A state in a word or two for people."""
    return "needs sign-in" if state is State.NEEDS_REAUTH else state.value


def called(connector: Connector) -> str:
    """What a person calls it."""
    return connector.name or connector.email_address or str(connector.id)


async def lines(services: Services, counts: Counts) -> list[Line]:
    """Every connector, those that need attention first."""
    held, hourly = await counts.by_inbox(), await counts.by_hour()
    made = [_line(services.roster, held, hourly, one) async for one in connectors.every(services.store)]
    return sorted(made, key=lambda line: (not line.needs_attention, line.name.casefold()))


async def line_of(services: Services, counts: Counts, connector: Connector) -> Line:
    """One connector likewise."""
    return _line(services.roster, await counts.by_inbox(), await counts.by_hour(), connector)


def _line(
    roster: Roster, held: Mapping[InboxId, Tally], hourly: Mapping[InboxId, list[int]], connector: Connector
) -> Line:
    tally, hours = held.get(connector.inbox_id, _EMPTY), hourly.get(connector.inbox_id, [0] * HOURS)
    status, history = roster.status(connector.id), roster.history(connector.id)
    # An IDLE that is asked for anew every few minutes is still the same listening.
    since = history[-1].since if history and history[-1].state is status.state else status.since
    return Line(connector, status, since, tally, hours, roster.delays(connector.id))


async def show(visit: Visit) -> Shown:
    """The overview."""
    found = await lines(visit.services, visit.counts)
    attention = [line for line in found if line.needs_attention]
    census = await outbox_list.census(visit.services.store)
    counts = census.counts
    return Shown(
        "overview.html",
        {
            "lines": found,
            "attention": attention,
            "unsigned": await grants.awaited(visit.services.store) if attention else frozenset[ConnectorId](),
            "flowing": sum(line.mood == "good" for line in found),
            "today": sum(line.today for line in found),
            "hourly": [sum(hour) for hour in zip(*(line.hourly for line in found), strict=True)] or [0] * HOURS,
            "messages": sum(line.tally.messages for line in found),
            "unread": sum(line.tally.unread for line in found),
            "unknown": counts.get(SentState.UNKNOWN, 0),
            "failed": counts.get(SentState.FAILED, 0),
            "waiting": sum(counts.get(state, 0) for state in (SentState.QUEUED, SentState.SENDING, SentState.DEFERRED)),
            "oldest_waiting": census.oldest_waiting,
        },
    )
