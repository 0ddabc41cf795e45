"""`python -m inboxd` is `inboxd`."""

from inboxd.cli import main

main()
