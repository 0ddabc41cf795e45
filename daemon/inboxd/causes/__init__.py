"""Why a step of a connection test failed, and what mends it: tables of diagnoses, the first that fits is told."""

from __future__ import annotations

from typing import Final

from inboxd.causes.logins import LOGINS
from inboxd.causes.mailing import MAILING
from inboxd.causes.reaching import GREETING, REACHING
from inboxd.causes.record import Diagnosis, Failure
from inboxd.causes.securing import SECURING

__all__ = ["DIAGNOSES", "Diagnosis", "Failure", "diagnose"]

# Where the step's name alone must do.
_LAST: Final = (
    Diagnosis(
        "broken_off",
        "the server broke off, was silent for too long, or did not follow the protocol",
        "try again later; if it stays so, read the log and ask whoever runs the server",
    ),
)
DIAGNOSES: Final = (*REACHING, *SECURING, *GREETING, *LOGINS, *MAILING, *_LAST)


def diagnose(failure: Failure) -> tuple[str, str, str]:
    """The name of the diagnosis, the likely cause and the fix, in plain words."""
    found = next(diagnosis for diagnosis in DIAGNOSES if diagnosis.fits(failure))
    facts = failure.facts
    return found.name, found.cause.format_map(facts), found.fix.format_map(facts)
