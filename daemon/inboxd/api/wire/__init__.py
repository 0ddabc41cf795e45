"""MailSlurp's models, one file per controller, and the mapping between them and the records of `inboxd.model`."""
