"""SMTP: the only room that knows aiosmtplib. Its protocol class carries the connection; replies are read here."""
