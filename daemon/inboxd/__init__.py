"""inboxd links external IMAP/SMTP mailboxes to local inboxes. The floors are drawn in daemon/README.md."""

__version__ = "0.1.0"
