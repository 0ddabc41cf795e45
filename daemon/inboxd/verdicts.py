"""What a try to send means for a mail: pure rules, from what the server said to the state the mail is in then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from inboxd.errors import MailServerError, SendRefused, SendUnknown
from inboxd.model import SentState
from inboxd.outbox import RELAY, Chore, Delivery, Job, Refusal, Try, Verdict

# Refusals for good that pass all the same: a daily limit (Gmail's 550 5.4.5), commands out of order (503).
_PASSES: Final = re.compile(r"503\b|\d{3}[ -]5\.4\.5\b|\d{3}[ -]4\.\d")
_GIVEN_UP: Final = "given up: it could not be delivered in time; last: "


@dataclass(frozen=True, slots=True)
class Choices:
    """What the rules leave to others: when the next try is, whether there is a relay, whether a copy is to be filed.

    `closed`: it was not the mail that failed but the way, before any mail was spoken of.
    """

    due_at: datetime
    relay: bool = False
    closed: bool = False
    copy: bool = True
    chores_due_at: datetime | None = None


def taken(job: Job, tried: Try, refused: Mapping[str, Refusal], choices: Choices) -> Verdict:
    """The server took the mail for every recipient it did not refuse."""
    told = _told(job, tried, refused, Delivery.ACCEPTED)
    if any(state is Delivery.DEFERRED for state, _ in told.values()):
        return _deferred(job, tried, told, choices)
    return _sent(job, tried, told, choices)


def failed(job: Job, error: MailServerError, tried: Try, choices: Choices) -> Verdict:
    """The try ended with an error; what it was decides."""
    refused = error.refused
    if isinstance(error, SendUnknown):
        return lost(job, tried, refused, choices)
    relays = job.use_fallback and choices.relay and job.route != RELAY
    if relays and (choices.closed or not passes(error)):
        return Verdict(job.id, SentState.QUEUED, tried, due_at=tried.ended_at, route=RELAY)
    if not passes(error):
        return _ended(job, tried, _told(job, tried, refused, Delivery.REFUSED), choices)
    return _deferred(job, tried, _told(job, tried, refused, Delivery.DEFERRED), choices)


def lost(job: Job, tried: Try, refused: Mapping[str, Refusal], choices: Choices) -> Verdict:
    """The whole mail was handed over and the answer to it never came: it is not sent again by itself."""
    told = _told(job, tried, refused, Delivery.UNKNOWN)
    due = choices.chores_due_at
    return Verdict(job.id, SentState.UNKNOWN, tried, told, chores=(Chore.RESOLVE,), chores_due_at=due)


def passes(error: MailServerError) -> bool:
    """Whether the same mail may be taken later: everything but a refusal for good, or by what only people can mend."""
    if isinstance(error, SendRefused):
        return bool(_PASSES.match(error.reply))
    return True


def untouched(job: Job, tried: Try, due_at: datetime) -> Verdict:
    """The mail was claimed and nothing was done about it: back into the queue, as if it had not been."""
    return Verdict(job.id, SentState.QUEUED, tried, due_at=due_at)


def _told(job: Job, tried: Try, refused: Mapping[str, Refusal], otherwise: Delivery) -> dict[str, tuple[Delivery, str]]:
    """What was learnt about each recipient that this try was for."""
    told: dict[str, tuple[Delivery, str]] = {}
    for address in job.recipients:
        refusal = refused.get(address)
        if refusal is None:
            told[address] = (otherwise, tried.reply)
        else:
            told[address] = (Delivery.DEFERRED if refusal.temporary else Delivery.REFUSED, refusal.words)
    return told


def _deferred(job: Job, tried: Try, told: dict[str, tuple[Delivery, str]], choices: Choices) -> Verdict:
    """Another try for those put off, unless the mail is too old by then: then they are refused."""
    if choices.due_at < job.expires_at:
        return Verdict(job.id, SentState.DEFERRED, tried, told, due_at=choices.due_at)
    ended = {
        address: (Delivery.REFUSED, _GIVEN_UP + words) if state is Delivery.DEFERRED else (state, words)
        for address, (state, words) in told.items()
    }
    return _ended(job, replace(tried, reply=_GIVEN_UP + tried.reply), ended, choices)


def _ended(job: Job, tried: Try, told: dict[str, tuple[Delivery, str]], choices: Choices) -> Verdict:
    """Nobody is left to be tried: the mail was sent if one recipient has it, now or since an earlier try."""
    if job.partly or any(state is Delivery.ACCEPTED for state, _ in told.values()):
        return _sent(job, tried, told, choices)
    return Verdict(job.id, SentState.FAILED, tried, told)


def _sent(job: Job, tried: Try, told: dict[str, tuple[Delivery, str]], choices: Choices) -> Verdict:
    chores = (*((Chore.FILE,) if choices.copy else ()), *((Chore.ANSWER,) if job.answers is not None else ()))
    return Verdict(job.id, SentState.SENT, tried, told, chores=chores, chores_due_at=choices.chores_due_at)
