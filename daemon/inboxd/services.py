"""What the faces work with: the open resources and workers of one running daemon, handed on in one piece."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from inboxd.budgets import Budgets
from inboxd.bus import Bus
from inboxd.declared import Declarations
from inboxd.flights import Flights
from inboxd.mail.beside import Parsers
from inboxd.roster import Roster
from inboxd.settings import Settings
from inboxd.store.engine import Store
from inboxd.tokens import Tokens
from inboxd.vault import Vault
from inboxd.visits import Visits


@dataclass(frozen=True, slots=True)
class Services:
    """Opened and closed by `serve`. `user_id` is the one user of this installation.

    `sends` is the outbox's bus: its topics are mails on their way, and `outbox.WORK` for whoever works on them.
    """

    settings: Settings
    store: Store
    vault: Vault
    bus: Bus
    roster: Roster
    user_id: UUID
    started_at: datetime
    parsers: Parsers | None = None
    declarations: Declarations | None = None
    tokens: Tokens | None = None
    visits: Visits = field(default_factory=Visits)
    flights: Flights = field(default_factory=Flights)
    sends: Bus = field(default_factory=Bus)

    @property
    def budgets(self) -> Budgets:
        """What is taken of each account, by whoever does it."""
        return self.roster.budgets
