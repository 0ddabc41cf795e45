"""A session and its place in the account's budget: what it has received, and making room for another."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

from inboxd.budgets import Place
from inboxd.imap.session import Session


@contextmanager
def placed(session: Session, place: Place) -> Generator[None]:
    """The session holds this place: its bytes count, and it hears when another connection needs the place."""
    link, traffic = session.link, place.budget.traffic
    patience = link.protocol.patience

    def dismiss() -> None:
        link.dismissed = True
        link.protocol.news.set()

    link.place = place
    with nullcontext() if traffic is None else traffic.metered(lambda: patience.received_bytes):
        place.settle(dismiss)
        try:
            yield
        finally:
            place.dismiss, place.logged_in = None, False


def rest_seconds(session: Session) -> float:
    """For how long first loads by this session rest; 0: they may go on."""
    place = session.link.place
    return place.budget.traffic.rest_seconds() if place is not None and place.budget.traffic is not None else 0.0


async def gives_way(session: Session) -> bool:
    """To be asked when the session has listened: whether it was logged out, because another needs its place."""
    link = session.link
    if not link.dismissed:
        return False
    link.dismissed = False
    if link.place is None or not link.place.wanted:
        return False
    await session.log_out()
    return True
