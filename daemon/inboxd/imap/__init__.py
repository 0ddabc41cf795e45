"""IMAP: the only room that knows aioimaplib. Its state machine runs the session; the bytes below it are read here."""
