"""What a try to send means for a mail."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from inboxd import errors, verdicts
from inboxd.errors import ConnectionLost, MailServerError, SendDeferred, SendRefused, SendUnknown
from inboxd.model import ConnectorId, MessageId, SentId, SentState
from inboxd.outbox import RELAY, Chore, Delivery, Job, Refusal, RouteId, Try
from inboxd.verdicts import Choices
from servers.stores import MORNING

LATER = MORNING + timedelta(minutes=1)
TRIED = Try(MORNING, MORNING, "smtp.example.com", "data", "", "250 queued")
CHOICES = Choices(due_at=LATER)
GONE, BUSY = Refusal(550, "550 5.1.1 no such user"), Refusal(450, "450 4.2.0 greylisted")


def job(**changed: object) -> Job:
    connector = ConnectorId(uuid4())
    made: dict[str, object] = {
        "id": SentId(uuid4()), "connector_id": connector, "route": RouteId(connector), "sender": "a@example.com",
        "recipients": ("b@example.com", "c@example.com"), "raw": b"", "attempts": 0, "created_at": MORNING,
        "expires_at": MORNING + timedelta(days=5),
    }  # fmt: skip
    return Job(**(made | changed))  # type: ignore[arg-type]


def states(verdict: verdicts.Verdict) -> dict[str, Delivery]:
    return {address[0]: state for address, (state, _) in verdict.recipients.items()}


def test_a_mail_taken_for_all_is_sent_and_its_copy_filed() -> None:
    verdict = verdicts.taken(job(), TRIED, {}, CHOICES)
    assert (verdict.state, verdict.chores) == (SentState.SENT, (Chore.FILE,))
    assert states(verdict) == {"b": Delivery.ACCEPTED, "c": Delivery.ACCEPTED}


def test_the_mail_that_it_answers_is_marked_and_no_copy_filed_where_the_provider_does() -> None:
    verdict = verdicts.taken(job(answers=MessageId(uuid4())), TRIED, {}, Choices(LATER, copy=False))
    assert verdict.chores == (Chore.ANSWER,)


def test_a_recipient_refused_for_good_does_not_hold_up_the_others() -> None:
    verdict = verdicts.taken(job(), TRIED, {"c@example.com": GONE}, CHOICES)
    assert verdict.state is SentState.SENT
    assert verdict.recipients["c@example.com"] == (Delivery.REFUSED, GONE.words)


def test_a_recipient_put_off_is_tried_again_and_the_others_are_not() -> None:
    verdict = verdicts.taken(job(), TRIED, {"c@example.com": BUSY}, CHOICES)
    assert (verdict.state, verdict.due_at, verdict.chores) == (SentState.DEFERRED, LATER, ())
    assert states(verdict) == {"b": Delivery.ACCEPTED, "c": Delivery.DEFERRED}


def test_a_recipient_put_off_for_too_long_is_refused_and_the_mail_sent_to_the_others() -> None:
    verdict = verdicts.taken(job(expires_at=LATER), TRIED, {"c@example.com": BUSY}, CHOICES)
    assert verdict.state is SentState.SENT
    state, words = verdict.recipients["c@example.com"]
    assert state is Delivery.REFUSED
    assert "given up" in words
    assert BUSY.words in words


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SendRefused("mail", "no", reply="550 5.7.1 spam"), SentState.FAILED),
        (SendRefused("data", "no", reply="554 5.6.0 bad"), SentState.FAILED),
        (SendRefused("mail", "no", reply="550 5.4.5 Daily user sending limit exceeded"), SentState.DEFERRED),
        (SendRefused("mail", "no", reply="503 bad sequence of commands"), SentState.DEFERRED),
        (SendDeferred("rcpt", "later", reply="450 greylisted"), SentState.DEFERRED),
        (ConnectionLost("data", "gone"), SentState.DEFERRED),
        (errors.Stalled("mail", "silence"), SentState.DEFERRED),
        (errors.ProtocolError("mail", "nonsense"), SentState.DEFERRED),
        (errors.AuthRefused("auth", "no"), SentState.DEFERRED),
        (SendUnknown("data", "gone after the dot"), SentState.UNKNOWN),
    ],
)
def test_what_an_error_means(error: MailServerError, state: SentState) -> None:
    assert verdicts.failed(job(), error, TRIED, CHOICES).state is state


def test_an_unknown_mail_is_looked_for_and_those_refused_before_stay_refused() -> None:
    error = SendUnknown("data", "gone")
    error.refused = {"c@example.com": GONE}
    verdict = verdicts.failed(job(), error, TRIED, CHOICES)
    assert (verdict.chores, verdict.due_at) == ((Chore.RESOLVE,), None)
    assert states(verdict) == {"b": Delivery.UNKNOWN, "c": Delivery.REFUSED}


def test_all_refused_some_for_good_and_some_for_now_keeps_them_apart() -> None:
    error = SendDeferred("rcpt", "nobody taken", reply=BUSY.words)
    error.refused = {"b@example.com": GONE, "c@example.com": BUSY}
    verdict = verdicts.failed(job(), error, TRIED, CHOICES)
    assert verdict.state is SentState.DEFERRED
    assert states(verdict) == {"b": Delivery.REFUSED, "c": Delivery.DEFERRED}


def test_a_refused_mail_goes_through_the_relay_where_that_is_wanted_and_there_is_one() -> None:
    error = SendRefused("mail", "no", reply="550 not you")
    verdict = verdicts.failed(job(use_fallback=True), error, TRIED, Choices(LATER, relay=True))
    assert (verdict.state, verdict.route) == (SentState.QUEUED, RELAY)
    assert verdicts.failed(job(use_fallback=True), error, TRIED, CHOICES).state is SentState.FAILED
    assert verdicts.failed(job(), error, TRIED, Choices(LATER, relay=True)).state is SentState.FAILED
    through_relay = job(use_fallback=True, route=RELAY)
    assert verdicts.failed(through_relay, error, TRIED, Choices(LATER, relay=True)).state is SentState.FAILED


def test_an_unknown_mail_is_never_handed_to_the_relay() -> None:
    error = SendUnknown("data", "gone")
    verdict = verdicts.failed(job(use_fallback=True), error, TRIED, Choices(LATER, relay=True))
    assert (verdict.state, verdict.route) == (SentState.UNKNOWN, None)


def test_the_last_recipients_refusal_leaves_a_mail_that_others_have_as_sent() -> None:
    error = SendRefused("rcpt", "no", reply=GONE.words)
    verdict = verdicts.failed(job(partly=True, recipients=("c@example.com",)), error, TRIED, CHOICES)
    assert verdict.state is SentState.SENT
    assert states(verdict) == {"c": Delivery.REFUSED}
